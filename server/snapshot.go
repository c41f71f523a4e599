package server

import (
	"context"
	"time"

	"parley/crdt"
	"parley/server/compact"
	"parley/server/store"
	"parley/sync/session"
)

// compactWithin bounds one snapshot: the engine's call, which has a bound of its
// own, and its storing.
const compactWithin = compact.DefaultTimeout + time.Minute

// How many documents may wait for a snapshot: in all, and for one to wait that would
// leave memory otherwise. More are not refused, only later: their next change asks
// again.
const (
	maxWaitForSnapshot = 1024
	maxKeptForSnapshot = 64
)

// snapshotBacklog is how many changes there may be without a snapshot while there is
// never a moment without more to store.
const snapshotBacklog = 4096

// compactJob is everything that making a snapshot needs: nothing in it changes. It
// is made when it is its turn, for it is as large as the document.
type compactJob struct {
	prev   *crdt.Snapshot
	chunks [][]byte // what prev does not hold
	heads  []crdt.Hash
	pack   *store.Pack // of all changes
}

// considerSnapshot queues a snapshot if it pays. It reports whether one is
// being made. The document's goroutine calls it.
func (d *document) considerSnapshot(idle bool) bool {
	if d.compacting || d.machine == nil || d.srv.compactor == nil {
		return d.compacting
	}
	if d.compactErr && (idle || d.machine.Graph().Durable() < 2*d.compactLen) {
		return false // tried and failed: not again until there is much more, nor kept in memory for it
	}
	if idle && len(d.srv.unsnapped) >= maxKeptForSnapshot {
		return false
	}
	g, prev := d.machine.Graph(), d.machine.Snapshot()
	var covered int
	if prev != nil {
		covered = prev.Changes
	}
	tail := g.Durable() - covered
	if !store.SnapshotDue(covered, tail, idle) {
		return false
	}
	if !d.machine.Settled() && tail < max(snapshotBacklog, 4*covered) {
		return false // the rest of a history is on its way: better all of it
	}
	select {
	case d.srv.unsnapped <- d:
		d.srv.docs.pin(d)
		d.compacting = true
	default: // enough wait already
	}
	return d.compacting
}

// compactJob returns what the snapshot of all that is on disk needs, nil if the
// document has been dropped.
func (d *document) compactJob() *compactJob {
	if d.machine == nil {
		return nil
	}
	g := d.machine.Graph()
	d.compactLen = g.Durable()
	job := &compactJob{prev: d.machine.Snapshot(), heads: g.Heads(), pack: d.pack()}
	var have []crdt.Hash
	if job.prev != nil {
		have = job.prev.Heads
	}
	for _, i := range g.Since(have) {
		job.chunks = append(job.chunks, g.ChunkAt(i))
	}
	return job
}

// pack returns all changes that are on disk, from which the document is loaded faster
// than from its rows.
func (d *document) pack() *store.Pack {
	g := d.machine.Graph()
	n := g.Durable()
	p := &store.Pack{Index: d.machine.Index(), Hashes: make([]crdt.Hash, n), Chunks: make([][]byte, n), Users: make([]string, n)}
	for i := range n {
		p.Hashes[i], p.Chunks[i], p.Users[i] = g.HashAt(i), g.ChunkAt(i), d.machine.User(i)
	}
	return p
}

// compactAll makes snapshots, one at a time, until ctx ends. Changes stay the
// truth: a snapshot that fails costs bytes and time, nothing else.
func (s *Server) compactAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.unsnapped:
			d.post(posted{compacted: &compacted{s.compact(ctx, d)}})
		}
	}
}

// compact makes a document's snapshot and stores it. It returns nil if that failed.
func (s *Server) compact(ctx context.Context, d *document) *crdt.Snapshot {
	jobs := make(chan *compactJob, 1)
	d.post(posted{turn: jobs})
	var job *compactJob
	select {
	case job = <-jobs:
	case <-ctx.Done():
	}
	if job == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compactWithin)
	defer cancel()
	if err := s.store.PutPack(ctx, d.id, job.pack); err != nil {
		s.log.Warn("no pack was made; the changes are all there", "document", d.id, "err", err)
	}
	job.pack = nil // it has its weight
	snap, err := s.compactor.Compact(ctx, job.prev, job.chunks, job.heads)
	if err == nil {
		err = s.store.PutSnapshot(ctx, d.id, snap)
	}
	if err != nil {
		s.counters.snapshotsFailed.Add(1)
		s.log.Warn("no snapshot was made; the changes are all there", "document", d.id, "err", err)
		return nil
	}
	s.counters.snapshotsMade.Add(1)
	return &snap
}

// compacted is how a snapshot ended: nil if none was made.
type compacted struct{ snapshot *crdt.Snapshot }

func (d *document) takeSnapshot(c *compacted) {
	d.compacting, d.compactErr = false, c.snapshot == nil
	if c.snapshot != nil {
		d.stepWith(&session.SnapshotInput{Snapshot: c.snapshot})
		d.considerSnapshot(false) // of what has come meanwhile
	}
}
