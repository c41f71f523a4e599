package sim

import (
	"slices"
	"testing"
	"time"
)

// shrink takes away from a failing run what its failure can do without: clients,
// kinds of actions, then actions, until nothing more can go or until is past.
func shrink(p *plan, actions []action, fails func(*plan, []action) bool, until time.Time) (*plan, []action) {
	s := &shrinker{plan: p, actions: actions, fails: fails, until: until}
	for before := -1; before != s.size() && !s.late(); {
		before = s.size()
		s.dropClients()
		s.dropKinds()
		s.dropActions()
	}
	return s.plan, s.actions
}

type shrinker struct {
	plan    *plan
	actions []action
	fails   func(*plan, []action) bool
	until   time.Time
}

// failsBy reports whether a run breaks the same rule.
func failsBy(rule string) func(*plan, []action) bool {
	return func(p *plan, actions []action) bool {
		out := replay(p, actions, newTrace(false))
		return out.broken != nil && out.broken.rule == rule
	}
}

func (s *shrinker) late() bool { return !time.Now().Before(s.until) }

func (s *shrinker) size() int {
	n := len(s.actions)
	for _, absent := range s.plan.absent {
		if !absent {
			n++
		}
	}
	return n
}

// try keeps a smaller run if it fails too.
func (s *shrinker) try(p *plan, actions []action) bool {
	if s.late() || !s.fails(p, actions) {
		return false
	}
	s.plan, s.actions = p, actions
	return true
}

func (s *shrinker) dropClients() {
	for i := range s.plan.absent {
		if s.plan.absent[i] {
			continue
		}
		without := *s.plan
		without.absent = slices.Clone(s.plan.absent)
		without.absent[i] = true
		s.try(&without, s.actions)
	}
}

func (s *shrinker) dropKinds() {
	for k := range numKinds {
		without := slices.DeleteFunc(slices.Clone(s.actions), func(a action) bool { return a.kind == k })
		if len(without) < len(s.actions) {
			s.try(s.plan, without)
		}
	}
}

// dropActions takes out runs of actions, long ones first.
func (s *shrinker) dropActions() {
	for length := len(s.actions) / 2; length > 0; length /= 2 {
		for from := 0; from < len(s.actions); {
			to := min(from+length, len(s.actions))
			if !s.try(s.plan, slices.Concat(s.actions[:from], s.actions[to:])) {
				from = to
			}
		}
	}
}

// TestShrink: of a run that fails whenever one client picks and the server crashes
// later, nothing else is left.
func TestShrink(t *testing.T) {
	const seed, someone = 3, 1
	p, _ := newPlan(seed)
	fails := func(p *plan, actions []action) bool {
		picked := slices.IndexFunc(actions, func(a action) bool { return a.kind == pick && a.who == someone })
		return picked >= 0 && !p.absent[someone] && slices.ContainsFunc(actions[picked:], func(a action) bool { return a.kind == crash })
	}
	var actions []action
	for i := range uint8(200) {
		actions = append(actions, action{kind: kind(i) % numKinds, who: i / uint8(numKinds)})
	}
	p, left := shrink(p, actions, fails, time.Now().Add(time.Minute))
	if len(left) != 2 || left[0].kind != pick || left[1].kind != crash {
		t.Errorf("%d actions are left: %v", len(left), left)
	}
	for i, absent := range p.absent {
		if absent == (i == someone) {
			t.Errorf("client %d: absent %t", i, absent)
		}
	}
}
