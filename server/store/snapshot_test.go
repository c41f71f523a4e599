package store_test

import (
	"testing"

	"parley/server/store"
)

func TestSnapshotDue(t *testing.T) {
	for _, c := range []struct {
		covered, tail int
		idle, want    bool
	}{
		{0, 0, false, false}, {0, 0, true, false}, {1000, 0, true, false},
		{0, 127, false, false}, {0, 128, false, true},
		{0, 15, true, false}, {0, 16, true, true},
		{1000, 999, false, false}, {1000, 1000, false, true},
		{1000, 249, true, false}, {1000, 250, true, true},
	} {
		if got := store.SnapshotDue(c.covered, c.tail, c.idle); got != c.want {
			t.Errorf("%d covered, %d after, idle %t: %t", c.covered, c.tail, c.idle, got)
		}
	}
}

// TestSnapshotWork adds changes one by one and counts what the engine works on
// for each: about two with the document always edited, five if it goes idle after
// each change.
func TestSnapshotWork(t *testing.T) {
	for idle, bound := range map[bool]int{false: 2, true: 5} {
		covered, work, longest := 0, 0, 0
		const total = 200_000
		for n := 1; n <= total; n++ {
			if store.SnapshotDue(covered, n-covered, idle) {
				covered, work = n, work+n
			}
			longest = max(longest, (n-covered)*4-n)
		}
		if work > bound*total+total/10 || work < total/2 {
			t.Errorf("idle %t: the engine worked on %d changes for %d", idle, work, total)
		}
		if idle && longest > 4*16 {
			t.Errorf("an idle document had a tail of more than a quarter")
		}
	}
}
