package store

import (
	"context"
	"crypto/sha256"
	"fmt"

	"parley/crdt"
)

const (
	// While a document is edited a snapshot waits for at least this tail: about
	// 25 kB of picks.
	busyTail = 128
	// When a document leaves memory: about 3 kB.
	idleTail = 16
)

// SnapshotDue reports whether to make a snapshot of a document whose newest one
// covers the first covered changes (0: there is none) and leaves a tail of so many
// uncovered ones.
//
// A snapshot saves what each change costs by itself, about 100 bytes and the time
// to apply it, so changes are counted rather than bytes. Making one costs work
// for every change that it holds, covered before or not. While a document is
// edited it is due when the tail is as long as what is covered: changes double from one
// snapshot to the next, so that each change is worked on twice, whatever the
// document's length. When the document goes idle, and clients that come later will be
// cold, a quarter will do: at most five times.
func SnapshotDue(covered, tail int, idle bool) bool {
	if idle {
		return tail >= max(idleTail, covered/4)
	}
	return tail >= max(busyTail, covered)
}

// PutSnapshot stores a snapshot and removes the one before it, in a transaction of
// its own that gives way to changes. The snapshot must hold exactly the first
// snap.Changes changes of the document in commit order. One that holds fewer than
// the stored one does is passed over. It is not tried again when it fails, nor
// taken while the store is stalled: no change is lost for want of a snapshot.
// Fails with [ErrUnknownDocument] for a document without changes. When ctx ends
// first the snapshot may still be stored.
func (s *Store) PutSnapshot(ctx context.Context, doc crdt.DocumentID, snap crdt.Snapshot) error {
	sum := sha256.Sum256(snap.Data)
	put := func(w *writer, key int64) error {
		_, err := w.conn.exec(sqlPutShot, key, int64(snap.Changes), crdt.JoinHashes(snap.Heads), sum[:], snap.Data)
		return err
	}
	return s.aside(ctx, &aside{document: doc, what: "a snapshot", changes: snap.Changes, put: put, snapshot: &snap})
}

// aside stores something beside a document's changes, and waits for that.
func (s *Store) aside(ctx context.Context, a *aside) error {
	a.done = make(chan error, 1)
	err := s.queue.putAside(a)
	if err == nil {
		select {
		case err = <-a.done:
		case <-ctx.Done():
			s.queue.withdraw(a)
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("store %s of %s: %w", a.what, a.document, err)
	}
	return nil
}
