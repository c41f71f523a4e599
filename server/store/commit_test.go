package store_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"testing"
	"testing/synctest"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/storetest"
)

// TestJoin appends while the committer is busy: what gathers becomes one
// transaction, unless it is more than a transaction may hold.
func TestJoin(t *testing.T) {
	for _, c := range []struct{ batches, size, transactions int }{
		{500, 200, 1}, {5000, 60, 2}, {3, 5 << 20, 3}, {4, 3 << 20, 2}, {1, 20 << 20, 1},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.batches, c.size), func(t *testing.T) {
			s := open(t, t.TempDir(), store.Options{})
			release := holdCommitter(s)
			before := s.Stats().Transactions
			var want []store.Change
			for i := range c.batches {
				want = append(want, storetest.Change(i, c.size))
				s.Append(store.Batch{Document: storetest.Document(i % 40), Changes: want[i:]})
			}
			release()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if n := s.Stats().Transactions - before; n != uint64(c.transactions) {
				t.Errorf("%d transactions, want %d", n, c.transactions)
			}
		})
	}
}

// TestSnapshotTurn never lets the queue run empty; a snapshot gets its turn all
// the same.
func TestSnapshotTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), store.Options{})
		doc := storetest.Document(1)
		storetest.MustPut(t, s, doc, storetest.Change(-1, 100))
		release := holdCommitter(s)
		stored, commits := make(chan error, 1), 0
		go func() { stored <- s.PutSnapshot(t.Context(), doc, crdt.Snapshot{Changes: 1, Data: []byte("x")}) }()
		synctest.Wait()
		var next func(error)
		next = func(error) { // on the committer's goroutine
			if commits++; len(stored) == 0 && commits < 10_000 {
				s.Append(store.Batch{Document: doc, Changes: storetest.Changes(commits, 1), Done: next})
			}
		}
		s.Append(store.Batch{Document: doc, Done: next})
		release()
		synctest.Wait()
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
		if commits == 10_000 {
			t.Error("the snapshot waited until nothing else did")
		}
	})
}

// TestSettings reads back what a commit's durability rests on: SQLite would
// ignore a misspelt one, and the driver's own default syncs too seldom.
func TestSettings(t *testing.T) {
	f := &faults{}
	open(t, t.TempDir(), store.Options{}.WithConnect(f.connect))
	for pragma, want := range map[string]driver.Value{
		"journal_mode": "wal", "synchronous": int64(2), "wal_autocheckpoint": int64(4000),
		"busy_timeout": int64(1000), "cache_size": int64(-16000),
	} {
		rows, err := f.writer.(driver.QueryerContext).QueryContext(context.Background(), "PRAGMA "+pragma, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]driver.Value, 1)
		if err := rows.Next(got); err != nil || got[0] != want {
			t.Errorf("%s is %v, want %v (%v)", pragma, got[0], want, err)
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}
