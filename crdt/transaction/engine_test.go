package transaction_test

import (
	"reflect"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
)

// The engine is another implementation of the same rules: what it makes of the
// changes is what our own reading makes of them, byte for byte.
func TestAsTheEngine(t *testing.T) {
	contested, picks := 0, 0
	for seed := range uint64(runs(t, 120)) {
		s := newSim(t, seed)
		s.run(20 + s.rnd.IntN(30))
		all := s.merged()
		checkEngine(t, seed, all.state, all.chunks())
		checkReplicas(t, seed, s, all)
		checkPast(t, seed, s, all)
		contested += len(all.state.Contested())
		picks += len(all.state.Selections())
	}
	t.Logf("%d of %d picked fields are contested", contested, picks)
	if contested == 0 || contested == picks {
		t.Errorf("%d of %d picked fields are contested: the histories show too little", contested, picks)
	}
}

func checkEngine(t *testing.T, seed uint64, s *transaction.State, chunks [][]byte) {
	t.Helper()
	theirs, err := crdt.Materialize(nil, chunks)
	if err != nil {
		t.Fatal(err)
	}
	if ours := s.JSON(); string(ours) != string(theirs) {
		t.Fatalf("seed %d: we read\n%s, the engine\n%s", seed, ours, theirs)
	}
}

// checkReplicas checks that the order in which changes came makes no
// difference, nor whether they came one by one or from a graph.
func checkReplicas(t *testing.T, seed uint64, s *sim, all *replica) {
	t.Helper()
	again := s.merged()
	loaded, err := transaction.Load(s.id, &all.gate.Graph)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*transaction.State{again.state, loaded} {
		if !reflect.DeepEqual(other.Selections(), all.state.Selections()) ||
			!reflect.DeepEqual(other.Fields(), all.state.Fields()) ||
			!reflect.DeepEqual(other.History(), all.state.History()) ||
			!reflect.DeepEqual(other.Heads(), all.state.Heads()) {
			t.Fatalf("seed %d: replicas with the same changes differ", seed)
		}
	}
}

// checkPast checks the state as of what one replica has, and of one change.
func checkPast(t *testing.T, seed uint64, s *sim, all *replica) {
	t.Helper()
	one := all.all[s.rnd.IntN(len(all.all))].Hash
	for _, r := range s.replicas[:2] {
		for _, heads := range [][]crdt.Hash{r.state.Heads(), {one}} {
			then, err := all.state.AsOf(heads)
			if err != nil {
				t.Fatal(err)
			}
			checkEngine(t, seed, then, all.ancestors(heads))
		}
		then, err := all.state.AsOf(r.state.Heads())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(then.History(), r.state.History()) || then.Len() != r.state.Len() {
			t.Fatalf("seed %d: the history as of a replica's heads is not that replica's", seed)
		}
	}
}

// A text object may hold what is no text.
func TestTextAsTheEngine(t *testing.T) {
	s := newScene(t)
	s.take(t, s.build(t, "alice's actor", func(b *crdt.Builder) {
		pick := b.Make(selectionsMap, "new", crdt.MakeMap)
		value := text(b, pick, "value", "ab")
		b.Insert(value, crdt.OpID{}, crdt.Int(1))
		b.InsertObject(value, crdt.OpID{}, crdt.MakeMap)
		text(b, pick, "by", "alice")
		b.Put(pick, "at", crdt.Timestamp(1<<50))
	}), alice)
	checkEngine(t, 0, s.state, s.chunks())
	if sel, _ := s.state.Selection("new"); string(sel.Winner().Value) != "\"\ufffc\ufffcab\"" || sel.Winner().At != 1<<50 {
		t.Errorf("picked %s at %d", sel.Winner().Value, sel.Winner().At)
	}
}
