package server

import "testing"

func TestTidier(t *testing.T) {
	const mb = 1 << 20
	tidied := 0
	tidier := newTidier(func() {})
	tidier.tidy = func() { tidied++ }
	var allocs uint64
	beats := func(n int, each uint64, live uint64) int {
		tidied = 0
		for range n {
			allocs += each
			tidier.weigh(allocs, live)
		}
		return tidied
	}
	for _, step := range []struct {
		what       string
		beats      int
		each, live uint64
		want       int
	}{
		{"busy", 100, 10 * mb, 20 * mb, 0},
		{"calm, for too short a time", 3, 0, 20 * mb, 0},
		{"calm", 1, 0, 20 * mb, 1},
		{"calm on", 100, 0, 20 * mb, 0},
		{"busy for a moment, which was little", 1, 12 * mb, 20 * mb, 0},
		{"calm after it", 20, 0, 20 * mb, 0},
		{"a trickle", 40, mb / 2, 20 * mb, 2},
		{"a trickle into much", 40, mb / 2, 400 * mb, 0},
	} {
		if got := beats(step.beats, step.each, step.live); got != step.want {
			t.Errorf("%s: tidied %d times, want %d", step.what, got, step.want)
		}
	}
	tidier.freed(200 * mb)
	if got := beats(calmBeats-1, 0, 400*mb); got != 0 {
		t.Errorf("much is being freed: tidied %d times", got)
	}
	if got := beats(2, 0, 400*mb); got != 1 {
		t.Errorf("much was freed: tidied %d times", got)
	}
	newTidier(func() {}).beat() // reads what there is
}
