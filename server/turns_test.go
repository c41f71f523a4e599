package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// TestTurns: what holds whole histories in memory is answered two at a time, and
// who waits too long is told to come back.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{turns: semaphore.NewWeighted(maxTurns)}
		finish := make(chan struct{})
		var running atomic.Int32
		h := s.inTurn(func(w http.ResponseWriter, _ *http.Request) {
			running.Add(1)
			<-finish
			w.WriteHeader(http.StatusOK)
		})
		answers := make(chan *httptest.ResponseRecorder, 4)
		for range 4 {
			go func() {
				w := httptest.NewRecorder()
				h(w, httptest.NewRequest("GET", "/", nil))
				answers <- w
			}()
		}
		synctest.Wait()
		if running.Load() != maxTurns {
			t.Errorf("%d at once", running.Load())
		}
		finish <- struct{}{}
		synctest.Wait()
		if w := <-answers; w.Code != http.StatusOK || running.Load() != 3 {
			t.Errorf("the first: %d, and then %d have begun", w.Code, running.Load())
		}
		time.Sleep(turnWithin)
		synctest.Wait()
		w := <-answers
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "try again") {
			t.Errorf("the last: %d %s", w.Code, w.Body)
		}
		close(finish)
		<-answers
		<-answers
	})
}
