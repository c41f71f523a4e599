package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// TestPlaces compares the table with a map while it grows, and after it was made
// anew for fewer.
func TestPlaces(t *testing.T) {
	hash := func(i int) Hash { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }
	var p places
	var nodes []node
	const n = 5_000
	compare := func(there int) {
		t.Helper()
		for i := range n {
			if at, ok := p.find(nodes, hash(i)); ok != (i < there) || ok && int(at) != i {
				t.Fatalf("of %d, change %d is said to be at %d, %t", there, i, at, ok)
			}
		}
	}
	compare(0)
	for i := range n {
		nodes = append(nodes, node{hash: hash(i)})
		p.add(nodes)
		if i%997 == 0 {
			compare(i + 1)
		}
	}
	compare(n)
	nodes = nodes[:n/3]
	p.make(0, nodes)
	compare(n / 3)
	if len(p.slots) > 4*len(nodes) {
		t.Errorf("%d slots for %d changes", len(p.slots), len(nodes))
	}
}
