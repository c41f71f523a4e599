package transaction_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/crdt"
	"parley/crdt/transaction"
)

// act is what one change does, as the model knows it: no operations, only who
// knew of what.
type act struct {
	kind   transaction.EventKind
	change *crdt.Change
	author transaction.Author
	field  string
	value  string
	needed bool          // of FieldSet: the field is required
	knew   map[*act]bool // when it was made
}

// naive is what one replica knows.
type naive struct {
	*replica
	knows map[*act]bool
}

// live returns the acts on a field that nothing later took the place of: the
// winner, which has the highest operation id, first.
func (n *naive) live(field string, picks bool) []*act {
	about := func(a *act) bool {
		return a.field == field && picks == (a.kind == transaction.Picked || a.kind == transaction.Withdrawn)
	}
	var live []*act
	for a := range n.knows {
		if !about(a) || a.kind == transaction.Withdrawn || a.kind == transaction.FieldRemoved {
			continue
		}
		superseded := false
		for later := range n.knows {
			superseded = superseded || about(later) && later.knew[a]
		}
		if !superseded {
			live = append(live, a)
		}
	}
	slices.SortFunc(live, func(a, b *act) int { return b.id().Compare(a.id()) })
	return live
}

// id is that of the change's first operation, which makes the map.
func (a *act) id() crdt.OpID {
	return crdt.OpID{Counter: a.change.StartOp, Actor: a.change.Actor}
}

func (n *naive) check(t *rapid.T, fields []string) {
	var contested, missing []string
	for _, field := range fields {
		picks, definitions := n.live(field, true), n.live(field, false)
		sel, ok := n.state.Selection(field)
		if ok != (len(picks) > 0) || ok && len(sel.Picks) != len(picks) {
			t.Fatalf("%s: %d live picks, want %d", field, len(sel.Picks), len(picks))
		}
		for i, p := range picks {
			if got := sel.Picks[i]; string(got.Value) != p.value || got.By != p.author.User || got.Change != p.change.Hash || got.Op != p.id() {
				t.Fatalf("%s: pick %d is %+v, want %s by %s", field, i, got, p.value, p.author.User)
			}
		}
		if len(picks) > 1 {
			contested = append(contested, field)
		}
		f, ok := n.state.Field(field)
		if ok != (len(definitions) > 0) || ok && f.Label != definitions[0].value {
			t.Fatalf("%s: defined %t as %q", field, ok, f.Label)
		}
		if ok && definitions[0].needed && len(picks) == 0 {
			missing = append(missing, field)
		}
	}
	if got := n.state.Contested(); !slices.Equal(got, contested) {
		t.Fatalf("contested: %q, want %q", got, contested)
	}
	if got := n.state.Missing(); !slices.Equal(got, missing) {
		t.Fatalf("missing: %q, want %q", got, missing)
	}
	n.checkHistory(t)
}

// checkHistory checks that each act is one event, after all that its author
// knew, with what it took the place of.
func (n *naive) checkHistory(t *rapid.T) {
	events := n.state.History()
	if len(events) != len(n.knows) {
		t.Fatalf("%d events, want %d", len(events), len(n.knows))
	}
	at := map[crdt.Hash]int{}
	for i, e := range events {
		at[e.Change] = i
	}
	for a := range n.knows {
		e := events[at[a.change.Hash]]
		if e.Kind != a.kind || e.Field != a.field || e.Actor != a.change.Actor || e.User != "" && e.User != a.author.User {
			t.Fatalf("event %+v, want %s of %s by %s", e, a.kind, a.field, a.author.User)
		}
		var superseded []crdt.OpID
		if a.kind == transaction.Picked || a.kind == transaction.Withdrawn {
			before := naive{knows: a.knew}
			for _, p := range before.live(a.field, true) {
				superseded = append(superseded, p.id())
			}
		}
		slices.SortFunc(e.Superseded, crdt.OpID.Compare)
		slices.SortFunc(superseded, crdt.OpID.Compare)
		if !slices.Equal(e.Superseded, superseded) {
			t.Fatalf("%s of %s took the place of %v, want %v", a.kind, a.field, e.Superseded, superseded)
		}
		for earlier := range a.knew {
			if at[earlier.change.Hash] >= at[a.change.Hash] {
				t.Fatalf("event %d stands before one that its author knew", at[a.change.Hash])
			}
		}
	}
}

// The state of every replica is what a model says that knows nothing of
// operations: a pick is live until somebody who knew of it picks or withdraws.
func TestAsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fields := []string{"a", "b", "ü"}
		var replicas []*naive
		for i := range rapid.IntRange(2, 5).Draw(rt, "replicas") {
			r := newReplica("model", i, crdt.ActorID(fmt.Sprint(9-i, " actor")))
			r.take(t, transaction.Genesis("model"), host)
			replicas = append(replicas, &naive{replica: r, knows: map[*act]bool{}})
		}
		one := rapid.SampledFrom(replicas)
		made := 0
		rt.Repeat(map[string]func(*rapid.T){
			"pick": func(rt *rapid.T) {
				made++
				one.Draw(rt, "who").act(rt, &act{kind: transaction.Picked, field: rapid.SampledFrom(fields).Draw(rt, "field"), value: fmt.Sprint(made)})
			},
			"withdraw": func(rt *rapid.T) {
				one.Draw(rt, "who").act(rt, &act{kind: transaction.Withdrawn, field: rapid.SampledFrom(fields).Draw(rt, "field")})
			},
			"define": func(rt *rapid.T) {
				made++
				replicas[made%2].act(rt, &act{
					kind: transaction.FieldSet, field: rapid.SampledFrom(fields).Draw(rt, "field"),
					value: fmt.Sprint(made), needed: rapid.Bool().Draw(rt, "required"),
				})
			},
			"remove": func(rt *rapid.T) {
				replicas[0].act(rt, &act{kind: transaction.FieldRemoved, field: rapid.SampledFrom(fields).Draw(rt, "field")})
			},
			"sync": func(rt *rapid.T) { one.Draw(rt, "to").learn(rt, one.Draw(rt, "from")) },
			"": func(rt *rapid.T) {
				for _, r := range replicas {
					r.check(rt, fields)
				}
			},
		})
	})
}

// act makes the change, unless there is nothing to withdraw or remove.
func (n *naive) act(t *rapid.T, a *act) {
	e := n.state.Edit(n.actor, n.user, time.UnixMilli(1_700_000_000_000))
	var err error
	switch a.kind {
	case transaction.Picked:
		err = e.Pick(a.field, []byte(a.value), "")
	case transaction.Withdrawn:
		if len(n.live(a.field, true)) == 0 {
			return
		}
		err = e.Withdraw(a.field)
	case transaction.FieldSet:
		err = e.SetFields(map[string]transaction.Field{a.field: {Label: a.value, Required: a.needed}})
	case transaction.FieldRemoved:
		if !e.RemoveField(a.field) {
			return
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if a.change, err = e.Change(); err != nil {
		t.Fatal(err)
	}
	a.author, a.knew = transaction.Author{User: n.user, Role: n.role}, maps.Clone(n.knows)
	n.take(t, a.change, a.author)
	n.knows[a] = true
}

// learn takes all that another replica has.
func (n *naive) learn(t *rapid.T, from *naive) {
	authors := map[crdt.Hash]transaction.Author{}
	for a := range from.knows {
		authors[a.change.Hash] = a.author
		n.knows[a] = true
	}
	for _, c := range from.all {
		n.take(t, c, authors[c.Hash])
	}
}
