package store

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// maxRest bounds for how long the committer rests after a transaction, which is as
// long as that took. A disk that is busy half of the time takes fewer, longer
// transactions, and most of what one costs is not for its changes: without the rest
// whatever a few clients had sent went alone, and the others' waited behind it. Who
// sends after a pause does not meet it.
const maxRest = 2 * time.Millisecond

// committer is the one goroutine that writes. It ends when the queue is closed
// and everything in it is settled.
type committer struct {
	queue    *queue
	writer   committing
	log      *slog.Logger
	finished chan struct{}
	commits  distributions

	// Owned by the goroutine until finished is closed.
	restUntil        time.Time
	refused, entries []entry // buffers
	lost             error   // what Close reports: changes that never reached the disk
}

func startCommitter(q *queue, w committing, log *slog.Logger) *committer {
	c := &committer{queue: q, writer: w, log: log, finished: make(chan struct{}), commits: newDistributions()}
	go c.run()
	return c
}

func (c *committer) run() {
	defer close(c.finished)
	for {
		if rest := time.Until(c.restUntil); rest > 0 {
			time.Sleep(rest)
		}
		w := c.queue.next(c.refused, c.entries)
		c.refused, c.entries = w.refused, w.entries
		c.tell(w.refused)
		switch {
		case w.aside != nil:
			w.aside.done <- c.writer.putAside(w.aside)
		case len(w.entries) > 0:
			began := time.Now()
			c.settle(w.entries)
			now := time.Now()
			c.restUntil = now.Add(min(now.Sub(began), maxRest))
		case w.ended:
			return
		case w.rest:
			c.writer.rest()
		case len(w.refused) == 0:
			<-c.queue.wake
		}
	}
}

// tell calls Done of entries that are settled.
func (c *committer) tell(entries []entry) {
	for i := range entries {
		if done := entries[i].Done; done != nil {
			done(entries[i].err)
		}
	}
	clear(entries) // the buffer must not keep chunks alive
}

// settle commits entries, or isolates those that cannot be committed, and tells
// all of them.
func (c *committer) settle(entries []entry) {
	if !c.queue.check(entries) {
		err := c.commit(entries)
		if err == nil || c.lost != nil || len(entries) == 1 && err != errOvertaken {
			c.finish(entries, err)
			return
		}
	}
	for i := range entries {
		one := entries[i : i+1]
		if c.queue.check(one) {
			c.finish(one, one[0].err)
			continue
		}
		err := c.commit(one)
		if err == errOvertaken {
			err = one[0].err
		}
		c.finish(one, err)
	}
}

func (c *committer) finish(entries []entry, err error) {
	for i := range entries {
		if err != nil {
			entries[i].err = err
		}
	}
	c.queue.settle(entries)
	c.tell(entries)
}

// errOvertaken: while a transaction waited for the disk the chain of one of its
// batches broke. Its document is loaded again, without what is not on disk, so that
// it must not get there any more.
var errOvertaken = errors.New("store: a chain broke while its batch was tried again")

// commit returns nil when entries are on disk. A failure that may pass is tried
// again until it has passed, the store closes, or errOvertaken; any other is returned.
func (c *committer) commit(entries []entry) error {
	for pause := firstPause; c.lost == nil; pause = min(2*pause, maxPause) {
		closed := c.queue.isClosed()
		began := time.Now()
		changes, err := c.writer.commit(entries)
		if err == nil {
			c.commits.committed(changes, began)
			c.recovered()
			c.queue.committed(changes)
			return nil
		}
		if !transient(err) {
			c.recovered()
			return err
		}
		if c.queue.stallFor(err, time.Now()) {
			c.log.Error("the store cannot commit: changes wait and are tried again", "err", err)
		}
		if closed {
			c.lost = fmt.Errorf("changes that waited were not stored: %w", err)
			break
		}
		c.pause(pause)
		if c.queue.check(entries) {
			c.queue.recovered() // the next to fail says so anew
			return errOvertaken
		}
	}
	return fmt.Errorf("%w: %w", ErrClosed, c.lost) // also for all that comes after: it may build on what is lost
}

func (c *committer) recovered() {
	if was := c.queue.recovered(); was != nil {
		c.log.Info("the store commits again", "after", since(was.Since))
	}
}

// pause waits, but tells those that are refused meanwhile, and ends early when
// the store closes.
func (c *committer) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !c.queue.isClosed() {
		select {
		case <-timer.C:
			return
		case <-c.queue.wake:
			c.refused = c.queue.takeRefused(c.refused[:0])
			c.tell(c.refused)
		}
	}
}
