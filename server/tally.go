package server

import (
	"context"
	"sync"
)

// tally counts what runs, and lets somebody wait until nothing does, while more
// may still begin. The zero value is ready.
type tally struct {
	mu     sync.Mutex
	n      int
	closed bool
	none   chan struct{} // closed when n is 0 again; nil if nobody waits
}

// begin counts one more. It reports false, and does not, after close.
func (t *tally) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.n++
	return true
}

func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

// close lets nothing more begin.
func (t *tally) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

// wait waits until nothing runs, or ctx ends.
func (t *tally) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
