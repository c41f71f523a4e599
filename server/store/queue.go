package store

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/crdt"
)

const (
	// A transaction takes no more than this, so that one that fails or a slow
	// disk does not hold up everything for long. One batch is never divided.
	maxTransactionBytes   = 8 << 20
	maxTransactionBatches = 4096

	// What a batch and a change cost in memory beside their chunks, roughly.
	batchOverhead  = 160
	changeOverhead = 64

	// DocumentShare is how many changes of one document a transaction takes, if they
	// are in several batches: a long history that comes in must not hold up everybody
	// else's changes. It takes about ten milliseconds.
	DocumentShare = 256

	// asideTurn is how many transactions may go before a snapshot that waits.
	asideTurn = 32
)

// entry is a batch in the queue.
type entry struct {
	Batch
	cost int64
	err  error // set: it is not committed but told this
}

// aside is a snapshot or a pack in the queue: what stands beside a document's
// changes and gives way to them.
type aside struct {
	document crdt.DocumentID
	what     string                                // for errors
	changes  int                                   // how many it holds
	put      func(w *writer, document int64) error // in a transaction, of SQLite
	snapshot *crdt.Snapshot                        // or else for a backend
	pack     []byte                                // or this
	done     chan error                            // buffered: the committer never waits for the caller
}

// queue is what waits for the committer, and what others want to know of it.
type queue struct {
	limit int64
	wake  chan struct{} // capacity 1: something changed

	mu      sync.Mutex
	waiting []entry  // guarded by mu, as all below; in the order of Append
	refused []entry  // to be told so
	asides  []*aside // in the order in which they came
	turns   int      // transactions since the last aside
	pending int64    // cost of what waits or is being committed
	closed  bool     // nothing more comes in
	ended   bool     // nothing more is taken out
	rest    bool     // memory is to be given back when nothing waits
	stall   *StalledError
	onStall func() // of the beginning of a stall; nil: nobody hears
	counts  Stats
}

func newQueue(limit int64) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// append reports false if the queue is closed.
func (q *queue) append(b Batch) bool {
	e := entry{Batch: b, cost: batchOverhead + int64(len(b.Settings))}
	if r := b.Resolution; r != nil {
		e.cost += int64(len(r.Data) + len(r.Heads)*len(crdt.Hash{}))
	}
	for _, c := range b.Changes {
		e.cost += changeOverhead + int64(len(c.Chunk))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	switch {
	case b.Chain != nil && b.Chain.failed != nil:
		q.refuse(e, broken(b.Chain))
	case q.pending > 0 && q.pending+e.cost > q.limit:
		q.refuse(e, ErrOverloaded)
	default:
		q.pending += e.cost
		q.waiting = append(q.waiting, e)
	}
	q.signal()
	return true
}

func broken(c *Chain) error { return fmt.Errorf("%w: %w", ErrChainBroken, c.failed) }

// refuse keeps nothing of the batch but whom to tell. The caller holds mu.
func (q *queue) refuse(e entry, err error) {
	e.err, e.cost, e.Changes, e.Settings, e.Resolution = err, 0, nil, nil, nil
	q.breakChain(e)
	q.refused = append(q.refused, e)
}

func (q *queue) breakChain(e entry) {
	if e.Chain != nil && e.Chain.failed == nil {
		e.Chain.failed = e.err
	}
}

// work is what the committer does next.
type work struct {
	refused []entry
	entries []entry
	aside   *aside
	rest    bool
	ended   bool
}

// next returns work, which is empty if there is none just now. Buffers are used
// again: the work before this one must be done with.
func (q *queue) next(refused, entries []entry) work {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := work{refused: append(refused[:0], q.refused...)}
	q.refused = drop(q.refused, len(q.refused))
	if len(q.asides) > 0 && (len(q.waiting) == 0 || q.turns >= asideTurn) {
		w.aside = q.asides[0]
		q.asides = slices.Delete(q.asides, 0, 1)
		q.turns = 0
		return w
	}
	w.entries = q.take(entries[:0])
	if len(w.entries) > 0 {
		q.turns++
	}
	idle := len(w.refused) == 0 && len(w.entries) == 0
	q.ended = q.closed && idle
	w.ended = q.ended
	if idle {
		w.rest, q.rest = q.rest, false
	}
	return w
}

// restWhenIdle asks for what is work.rest.
func (q *queue) restWhenIdle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rest = true
	q.signal()
}

// take moves a transaction's worth of batches into dst. What exceeds its document's
// share stays, and whatever must come after it.
func (q *queue) take(dst []entry) []entry {
	var cost int64
	n, changes := 0, 0
	for n < len(q.waiting) && n < maxTransactionBatches {
		cost += q.waiting[n].cost
		if n > 0 && cost > maxTransactionBytes {
			break
		}
		changes += len(q.waiting[n].Changes)
		if n > 0 && changes > DocumentShare {
			return q.takeShares(dst)
		}
		n++
	}
	dst = append(dst, q.waiting[:n]...)
	q.waiting = drop(q.waiting, n)
	return dst
}

func (q *queue) takeShares(dst []entry) []entry {
	s := shares{taken: make(map[crdt.DocumentID]int), late: make(map[crdt.DocumentID]bool)}
	stay := q.waiting[:0]
	for i, e := range q.waiting {
		if len(dst) == maxTransactionBatches || s.full {
			stay = append(stay, q.waiting[i:]...)
			break
		}
		if s.take(&e) {
			dst = append(dst, e)
		} else {
			stay = append(stay, e)
		}
	}
	clear(q.waiting[len(stay):])
	q.waiting = stay
	return dst
}

// shares is what a transaction has taken so far.
type shares struct {
	cost  int64
	taken map[crdt.DocumentID]int  // changes
	late  map[crdt.DocumentID]bool // a batch stays: so do its later ones
	full  bool
}

func (s *shares) take(e *entry) bool {
	s.full = s.cost > 0 && s.cost+e.cost > maxTransactionBytes || e.isBarrier() && len(s.late) > 0
	n := s.taken[e.Document]
	if s.full || s.late[e.Document] || n > 0 && n+len(e.Changes) > DocumentShare {
		s.late[e.Document] = true
		return false
	}
	s.taken[e.Document] += len(e.Changes)
	s.cost += e.cost
	return true
}

// isBarrier says whether a batch is there for what was appended before it.
func (b *Batch) isBarrier() bool {
	return len(b.Changes) == 0 && b.Settings == nil && b.Resolution == nil && b.Revocation == nil
}

// drop removes the first n entries. What a stall made grow is given back after it.
func drop(list []entry, n int) []entry {
	if n == len(list) && n > maxTransactionBatches {
		return nil
	}
	return slices.Delete(list, 0, n)
}

// check sets the error of entries whose chain broke while they waited, and
// reports whether any has one.
func (q *queue) check(entries []entry) (any bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		if e.err == nil && e.Chain != nil && e.Chain.failed != nil {
			e.err = broken(e.Chain)
		}
		any = any || e.err != nil
	}
	return any
}

// settle takes entries off the account, before their Done is called.
func (q *queue) settle(entries []entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		q.pending -= e.cost
		if e.err != nil {
			q.breakChain(e)
		}
	}
}

func (q *queue) committed(changes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Transactions++
	q.counts.Changes += uint64(changes)
}

// stallFor notes a failed try and reports whether it is the first.
func (q *queue) stallFor(reason error, now time.Time) (first bool) {
	q.mu.Lock()
	q.counts.Retries++
	first = q.stall == nil
	since := now
	if !first {
		since = q.stall.Since
	}
	q.stall = &StalledError{Reason: reason, Since: since}
	hear := q.onStall
	q.mu.Unlock()
	if first && hear != nil {
		hear()
	}
	return first
}

// recovered ends a stall and returns it; nil if there was none.
func (q *queue) recovered() *StalledError {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.stall
	q.stall = nil
	return was
}

func (q *queue) hearStalls(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.onStall = f
}

func (q *queue) stalled() *StalledError {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stall
}

func (q *queue) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := q.counts
	st.PendingBytes = q.pending
	return st
}

// putAside reports why it is not wanted now.
func (q *queue) putAside(a *aside) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.stall != nil:
		return q.stall
	}
	q.asides = append(q.asides, a)
	q.signal()
	return nil
}

// withdraw takes back what has not been begun.
func (q *queue) withdraw(a *aside) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.asides, a); i >= 0 {
		q.asides = slices.Delete(q.asides, i, i+1)
	}
}

// close lets nothing more in. Snapshots and packs that wait are dropped: they can be made
// again.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, a := range q.asides {
		a.done <- ErrClosed
	}
	q.asides = nil
	q.signal()
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

func (q *queue) takeRefused(dst []entry) []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	dst = append(dst, q.refused...)
	q.refused = drop(q.refused, len(q.refused))
	return dst
}
