package historytest

import (
	"reflect"
	"testing"
)

func TestRandom(t *testing.T) {
	h := Random(7, 3, 60)
	if len(h) != 60 {
		t.Fatalf("%d changes, want 60", len(h))
	}
	seen, forks := map[[32]byte]bool{}, 0
	for i, c := range h {
		for _, d := range c.Deps {
			if !seen[d] {
				t.Fatalf("change %d depends on %x, which is not before it", i, d)
			}
		}
		seen[c.Hash] = true
		if len(c.Deps) > 1 {
			forks++
		}
	}
	if forks == 0 {
		t.Error("no change merges others: the history is not concurrent")
	}
	if !reflect.DeepEqual(h, Random(7, 3, 60)) {
		t.Error("the same seed gave another history")
	}
	if reflect.DeepEqual(h, Random(8, 3, 60)) {
		t.Error("another seed gave the same history")
	}
}
