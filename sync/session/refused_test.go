package session

import (
	"slices"
	"testing"

	"parley/crdt"
)

// TestRefusedChangesLearnWhatTheyBuildOn: a viewer names a change first, and is
// refused, and sends it then.
func TestRefusedChangesLearnWhatTheyBuildOn(t *testing.T) {
	var r refusedChanges
	a, b, c := crdt.Hash{1}, crdt.Hash{2}, crdt.Hash{3}
	r.add(a, nil)
	if !r.has(a) || r.deps[a] != nil {
		t.Errorf("named only: %v", r.deps)
	}
	r.add(a, []crdt.Hash{})
	if r.deps[a] == nil {
		t.Error("it builds on nothing, and that is unknown")
	}
	r.add(b, nil)
	r.add(b, []crdt.Hash{a})
	r.add(b, []crdt.Hash{c})
	if !slices.Equal(r.deps[b], []crdt.Hash{a}) || len(r.ring) != 2 {
		t.Errorf("known: %v, in the order of %v", r.deps, r.ring)
	}
}
