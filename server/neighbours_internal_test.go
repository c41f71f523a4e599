package server

import (
	"testing"
	"time"

	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/postgres"
)

// TestALeaseIsKnownLast: whoever reads the number of a lease that began because the
// database had forgotten knows that too, and the documents are told.
func TestALeaseIsKnownLast(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	st, err := postgres.Open(t.Context(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	s, err := New(st, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Shutdown(t.Context()) }()
	n := s.neighbours
	was := n.lease.Load()
	if was == 0 || was != st.Lease() || n.unsure.Load() != 0 {
		t.Errorf("at first the lease is %d, the store's is %d, unsure until %d", was, st.Lease(), n.unsure.Load())
	}
	for {
		pg.Exec(t, url, "TRUNCATE node, publisher, presence")
		s.docs.mu.Lock() // so that no document is told
		if st.Lease() == was {
			break
		}
		s.docs.mu.Unlock() // a beat came in between
		for n.lease.Load() != st.Lease() {
			time.Sleep(time.Millisecond)
		}
		was = st.Lease()
	}
	signal(n.wake)
	for st.Lease() == was {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	if n.lease.Load() != was {
		t.Error("the lease is known, and documents are not told what was forgotten")
	}
	list, nodes, err := st.Present(t.Context(), nil, true)
	if err != nil || len(list) != 0 || n.areAll(nodes) {
		t.Errorf("it goes by %v: %v", nodes, err)
	}
	s.docs.mu.Unlock()
	for n.lease.Load() == was {
		time.Sleep(time.Millisecond)
	}
	if n.lease.Load() != st.Lease() || n.unsure.Load() <= s.moment() {
		t.Errorf("the lease is %d, unsure until %d", n.lease.Load(), n.unsure.Load())
	}
}
