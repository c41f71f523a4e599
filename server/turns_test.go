package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/semaphore"
)

// TestTurns: what holds whole histories in memory is made two at a time, and who
// waits too long is told to come back.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{turns: semaphore.NewWeighted(maxTurns)}
		got := make(chan error, maxTurns+2)
		for range maxTurns + 2 {
			go func() { got <- s.wait(context.Background(), s.turns, 1) }()
		}
		synctest.Wait()
		if len(got) != maxTurns {
			t.Errorf("%d at once", len(got))
		}
		s.turns.Release(1)
		synctest.Wait()
		if len(got) != maxTurns+1 {
			t.Errorf("then %d have had theirs", len(got))
		}
		var last error
		for range maxTurns + 2 {
			last = errors.Join(last, <-got)
		}
		w := httptest.NewRecorder()
		s.answer(w, 0, nil, last)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "try again") {
			t.Errorf("the last: %d %s", w.Code, w.Body)
		}
	})
}
