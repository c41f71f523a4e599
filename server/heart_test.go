package server

import (
	"testing"
	"time"
)

// TestSleeper: for an interval after a beat that came late, nobody is dropped for
// an answer that we may have slept through.
func TestSleeper(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := sleeper{last: start}
	for _, beat := range []struct {
		at     time.Duration
		drowsy bool
	}{
		{500 * time.Millisecond, false}, {1000 * time.Millisecond, false}, {3500 * time.Millisecond, false},
		{6001 * time.Millisecond, true}, {6501 * time.Millisecond, true}, {8900 * time.Millisecond, true}, {11000 * time.Millisecond, true},
		{11001 * time.Millisecond, false}, {13500 * time.Millisecond, false}, {time.Minute, true}, {65 * time.Second, true},
	} {
		if got := s.drowsy(start.Add(beat.at), 5*time.Second); got != beat.drowsy {
			t.Errorf("at %v: %t", beat.at, got)
		}
	}
}
