package transaction_test

import (
	"errors"
	"reflect"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
)

// EventsOf is History, change by change.
func TestEventsOf(t *testing.T) {
	for seed := range uint64(runs(t, 20)) {
		s := newSim(t, seed)
		s.run(60)
		all := s.merged()
		want := map[crdt.Hash][]transaction.Event{}
		for _, e := range all.state.History() {
			want[e.Change] = append(want[e.Change], e)
		}
		for _, c := range all.all {
			got := map[crdt.OpID]transaction.Event{}
			for _, e := range all.state.EventsOf(c.Hash) {
				got[e.Op] = e
			}
			if len(got) != len(want[c.Hash]) || len(got) != len(all.state.EventsOf(c.Hash)) {
				t.Fatalf("seed %d: %d events of %s, want %d", seed, len(got), c.Hash, len(want[c.Hash]))
			}
			for _, e := range want[c.Hash] {
				if !reflect.DeepEqual(got[e.Op], e) {
					t.Fatalf("seed %d: %+v, want %+v", seed, got[e.Op], e)
				}
			}
		}
	}
}

func TestEventsOfNothing(t *testing.T) {
	r := begun(t)
	if got := r.state.EventsOf(transaction.Genesis(r.state.ID()).Hash); got != nil {
		t.Errorf("the genesis did %+v", got)
	}
	if got := r.state.EventsOf(crdt.Hash{9}); got != nil {
		t.Errorf("an unknown change did %+v", got)
	}
	r.edit(t, func(e *transaction.Edit) error {
		return errors.Join(e.Pick("price", []byte("1"), ""), e.Withdraw("price"))
	})
	if got := r.state.EventsOf(r.state.Heads()[0]); got != nil {
		t.Errorf("a pick that is taken back at once did %+v", got)
	}
}

// What EventsOf returns is the caller's.
func TestEventsAreCopies(t *testing.T) {
	r := begun(t)
	for _, value := range []string{"1", "2"} {
		r.edit(t, func(e *transaction.Edit) error { return e.Pick("price", []byte(value), "") })
	}
	head := r.state.Heads()[0]
	events := r.state.EventsOf(head)
	if len(events) != 1 || events[0].Kind != transaction.Picked || events[0].Field != "price" || len(events[0].Superseded) != 1 {
		t.Fatalf("%+v", events)
	}
	events[0].Superseded[0], events[0].Pick.By, events[0].Field = crdt.OpID{}, "mallory", "x"
	again := r.state.EventsOf(head)
	if again[0].Field != "price" || again[0].Pick.By == "mallory" || again[0].Superseded[0] == (crdt.OpID{}) {
		t.Errorf("altered from outside: %+v", again[0])
	}
}
