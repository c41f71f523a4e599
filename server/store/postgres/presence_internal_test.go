package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/pgtest"
)

// opened returns a backend, which closes with the test.
func opened(t *testing.T, url string) *Backend {
	t.Helper()
	b, err := open(t.Context(), url, store.Options{}, whole)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// mustSee fails the test unless a node sees so much of a document.
func mustSee(t *testing.T, b *Backend, doc crdt.DocumentID, want ...string) {
	t.Helper()
	list, _, err := b.Present(t.Context(), []crdt.DocumentID{doc}, false)
	if err != nil || len(list) != len(want) {
		t.Fatalf("present are %v, %v; want %q", list, err, want)
	}
	for i, p := range list {
		if string(p.Data) != want[i] {
			t.Errorf("present is %q, want %q", p.Data, want[i])
		}
	}
}

// TestLatePublication: what was sent on a connection that was given up, and is
// executed after all else, does nothing; nor does the beginning of a lease.
func TestLatePublication(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	b, late, other := opened(t, url), opened(t, url), opened(t, url)
	late.node = b.node
	doc := docID(1)
	for _, b := range []*Backend{b, other} {
		if _, err := b.Beat(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := b.Publish(t.Context(), []store.Presence{{Document: doc, Data: []byte("new")}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	late.begun.Store(1)
	for _, data := range [][]byte{[]byte("old"), nil} {
		if _, err := late.Publish(t.Context(), []store.Presence{{Document: doc, Data: data}}, nil); !errors.Is(err, store.ErrNoLease) {
			t.Errorf("published late: %v", err)
		}
		mustSee(t, other, doc, "new")
	}
	late.seq.Store(0)
	if err := late.beating.ready(t.Context(), late.config); err != nil {
		t.Fatal(err)
	}
	if _, err := late.begin(t.Context(), time.Minute); !errors.Is(err, errLate) {
		t.Errorf("a lease began late: %v", err)
	}
	mustSee(t, other, doc, "new")
}

// TestUnansweredBeginning: a lease that began without the node's knowledge begins anew.
func TestUnansweredBeginning(t *testing.T) {
	b := opened(t, pgtest.Shared(t).Schema(t))
	for _, fresh := range []bool{true, false, true, false} {
		was := b.Lease()
		beat, err := b.Beat(t.Context(), time.Minute)
		if err != nil || beat.Fresh != fresh || (b.Lease() != was) != fresh {
			t.Errorf("the lease %d followed on %d, fresh: %v, %v", b.Lease(), was, beat.Fresh, err)
		}
		if !fresh {
			b.lease.begun = false
		}
	}
}

// TestWrongClock: a database whose clock was set, or another one after a failover,
// prolongs no lease beyond its length. One that is shortened by it begins anew.
func TestWrongClock(t *testing.T) {
	b := opened(t, pgtest.Shared(t).Schema(t))
	beat := func() store.Beat {
		t.Helper()
		beat, err := b.Beat(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return beat
	}
	beat()
	b.lease.clock = b.lease.clock.Add(time.Hour)
	beat()
	var left time.Duration
	if err := b.pool.QueryRow(t.Context(), "SELECT expires - clock_timestamp() FROM node").Scan(&left); err != nil || left > time.Minute {
		t.Errorf("the lease lasts for %v, %v", left, err)
	}
	b.lease.clock = b.lease.clock.Add(-time.Hour)
	beat()
	if !beat().Fresh {
		t.Error("a lease that had ended went on")
	}
	if beat().Fresh {
		t.Error("the lease did not begin anew")
	}
}

// TestForgottenNodes: of nodes that ended long ago nothing stays.
func TestForgottenNodes(t *testing.T) {
	b := opened(t, pgtest.Shared(t).Schema(t))
	ctx := context.Background()
	if _, err := b.pool.Exec(ctx, `INSERT INTO node SELECT decode('000000000000000' || n, 'hex'), 0, clock_timestamp() - n * interval '40 seconds' FROM generate_series(1, 3) n`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"INSERT INTO publisher SELECT id, 1 FROM node", "INSERT INTO presence SELECT repeat('d', 16)::bytea, id, 1, '' FROM node"} {
		if _, err := b.pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Beat(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{"node": 2, "publisher": 2, "presence": 1} { // the one that ended 40 s ago, and ours
		n := 0
		if err := b.pool.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != want {
			t.Errorf("%d rows in %s, %v; want %d", n, table, err, want)
		}
	}
}
