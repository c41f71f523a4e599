package audit

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
)

// fieldStory is all that was picked for one field, in the order of the log.
type fieldStory struct {
	name     string
	picks    []*pickStory
	contests []*contest
	open     *contest // the last contest, while it is not settled
}

// pickStory is one pick and what became of it.
type pickStory struct {
	transaction.Pick
	n        int      // its change's place in the log
	received int64    // by the server's clock
	source   string   // of the option that it names, as the field had it then
	offered  bool     // the field had that option then, with that very value
	live     bool     // nothing took its place
	wins     bool     // it is the field's selection
	contest  *contest // the last in which another stood beside it, nil: none
	ended    []*ending
}

// ending is what took the place of picks: a later pick or a withdrawal.
type ending struct {
	kind     transaction.EventKind
	by       string
	at       int64 // by the author's clock
	change   crdt.Hash
	n        int
	received int64
	pick     *pickStory // nil: a withdrawal
}

// contest is picks that stood beside each other because none of their authors
// knew of the others', and what settled it.
type contest struct {
	picks   []*pickStory
	settled *ending    // nil: it is open
	left    *pickStory // the one that a withdrawal of the others left, nil: none
}

// teller reads the changes in the heads' past once more, one by one, for what is
// only to be seen on the way.
type teller struct {
	*account
	picks map[crdt.OpID]*pickStory
}

// tell makes the state as of the heads and the stories of the fields.
func (a *account) tell() error {
	t := &teller{account: a, picks: make(map[crdt.OpID]*pickStory)}
	a.state, a.stories = transaction.New(a.src.Transaction), make(map[string]*fieldStory)
	for i := range a.entries {
		if !a.entries[i].inPast {
			continue
		}
		c, err := crdt.DecodeChange(a.src.Changes[i], limits)
		if err == nil {
			err = t.state.Apply(c)
		}
		if err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
		for _, e := range t.state.EventsOf(c.Hash) {
			if e.Kind == transaction.Picked || e.Kind == transaction.Withdrawn {
				t.event(i, &e)
			}
		}
	}
	for _, story := range a.stories {
		story.conclude(a.state)
	}
	return nil
}

// event adds one pick or withdrawal to its field's story.
func (t *teller) event(n int, e *transaction.Event) {
	story := t.stories[e.Field]
	if story == nil {
		story = &fieldStory{name: e.Field}
		t.stories[e.Field] = story
	}
	receipt := &t.src.Receipts[n]
	end := &ending{kind: e.Kind, by: receipt.User, at: e.At, change: e.Change, n: n, received: receipt.At}
	if e.Kind == transaction.Picked {
		end.pick = &pickStory{Pick: *e.Pick, n: n, received: receipt.At}
		end.pick.source, end.pick.offered = t.provenance(e.Pick)
		t.picks[e.Pick.Op] = end.pick
		story.picks = append(story.picks, end.pick)
	}
	for _, op := range e.Superseded {
		if p := t.picks[op]; p != nil {
			p.ended = append(p.ended, end)
		}
	}
	story.contend(t, end)
}

// provenance is the source of the option that a pick names, as the field was
// when the pick came to the log. Of a pick with another value than the option's
// it is no source.
func (t *teller) provenance(p *transaction.Pick) (source string, offered bool) {
	if p.Option == "" {
		return "", false
	}
	f, _ := t.state.Field(p.Field)
	option, ok := f.Options[p.Option]
	if !ok || !bytes.Equal(option.Value, p.Value) {
		return "", false
	}
	return option.Source, true
}

// contend notes who stands beside whom after an event.
func (story *fieldStory) contend(t *teller, end *ending) {
	sel, picked := t.state.Selection(story.name)
	if !sel.Contested() {
		if story.open != nil && picked && end.pick == nil {
			story.open.left = t.picks[sel.Winner().Op]
		}
		if story.open != nil {
			story.open.settled, story.open = end, nil
		}
		return
	}
	if story.open == nil {
		story.open = &contest{}
		story.contests = append(story.contests, story.open)
	}
	for _, live := range slices.Backward(sel.Picks) {
		p := t.picks[live.Op]
		if p == nil {
			continue
		}
		if p.contest != story.open {
			p.contest = story.open
			story.open.picks = append(story.open.picks, p)
		}
	}
}

func (s *fieldStory) conclude(state *transaction.State) {
	sel, ok := state.Selection(s.name)
	live := make(map[crdt.OpID]bool, len(sel.Picks))
	for i := range sel.Picks {
		live[sel.Picks[i].Op] = true
	}
	for _, p := range s.picks {
		p.live, p.wins = live[p.Op], ok && sel.Winner().Op == p.Op
	}
}

// selection returns the pick that counts for a field, nil if there is none.
func (a *account) selection(field string) *pickStory {
	story := a.stories[field]
	if story == nil {
		return nil
	}
	i := slices.IndexFunc(story.picks, func(p *pickStory) bool { return p.wins })
	if i < 0 {
		return nil
	}
	return story.picks[i]
}

// fieldNames returns the fields that are defined or were picked, sorted.
func (a *account) fieldNames() []string {
	names := slices.Collect(maps.Keys(a.state.Fields()))
	for name := range a.stories {
		if _, defined := a.state.Field(name); !defined {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// agreed returns the resolution over exactly what the record is about, nil if
// there is none.
func (a *account) agreed() *sealed {
	for i := range a.resolutions {
		if a.resolutions[i].Over(a.heads) {
			return &a.resolutions[i]
		}
	}
	return nil
}
