package load

import (
	"errors"
	"testing"
)

// A server that carries so much: the search finds it, within its precision.
func TestSearchFindsWhatHolds(t *testing.T) {
	for _, c := range []struct{ start, carries float64 }{
		{1, 1000}, {1, 1}, {7, 7.3}, {100, 30}, {1, 3}, {64, 65},
	} {
		tries := 0
		best, err := Search(c.start, func(load float64) (bool, error) {
			tries++
			return load <= c.carries, nil
		})
		if err != nil || best > c.carries || best*precision < c.carries {
			t.Errorf("from %v on, a server that carries %v: found %v (%v)", c.start, c.carries, best, err)
		}
		if tries > 16 {
			t.Errorf("from %v on, a server that carries %v: %d tries", c.start, c.carries, tries)
		}
	}
}

func TestSearchIsBounded(t *testing.T) {
	tries := 0
	best, err := Search(1, func(float64) (bool, error) { tries++; return false, nil })
	if best != 0 || err != nil || tries != maxHalvings+1 {
		t.Errorf("nothing holds: %v, %v after %d tries", best, err, tries)
	}
	tries = 0
	if _, err = Search(1, func(float64) (bool, error) { tries++; return true, nil }); err != nil || tries > maxDoublings+maxHalvings {
		t.Errorf("all holds: %v after %d tries", err, tries)
	}
}

// What was found until then stands.
func TestSearchEndsEarly(t *testing.T) {
	stopped := errors.New("stopped")
	best, err := Search(1, func(load float64) (bool, error) {
		if load > 4 {
			return false, stopped
		}
		return true, nil
	})
	if best != 4 || !errors.Is(err, stopped) {
		t.Errorf("found %v, %v", best, err)
	}
}
