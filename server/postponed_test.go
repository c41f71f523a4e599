package server_test

import (
	"context"
	"testing"
	"time"

	"parley/server"
	"parley/server/servertest"
	"parley/server/store/pgtest"
	"parley/sync/presence"
)

// postponed are two servers of which each is asked for an agreement that is refused for
// a while: the database has forgotten who is present.
func postponed(t *testing.T, ctx context.Context) (n []*running, here map[string]*servertest.Party) {
	t.Helper()
	t.Cleanup(server.Leases(300*time.Millisecond, 3*time.Second))
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	n = startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here = sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	pg.Exec(t, url, "TRUNCATE node, publisher, presence")
	for rows(ctx, url, "presence") < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // for both to hear of both
	must(here["alice"].Ready(ctx))
	must(here["bob"].Ready(ctx))
	time.Sleep(200 * time.Millisecond) // for both to try
	return n, here
}

// A request does not wait for an agreement that is refused and tried again.
func TestAnswersBesideARefusedAgreement(t *testing.T) {
	ctx := deadline(t)
	n, here := postponed(t, ctx)
	for i, r := range n {
		began := time.Now()
		if status, _, _ := r.call("GET", salePath, ""); status != 200 || time.Since(began) > time.Second {
			t.Errorf("server %d answered %d after %v", i, status, time.Since(began))
		}
	}
	must(servertest.AwaitTold[*presence.Resolved](ctx, here["alice"]))
}

// A server that ends while an agreement is refused answers what it was asked, and tells
// the other whom to wait for.
func TestShutdownBesideARefusedAgreement(t *testing.T) {
	ctx := deadline(t)
	n, here := postponed(t, ctx)
	answered := make(chan int, 1)
	go func() {
		status, _, _ := n[0].call("GET", salePath, "")
		answered <- status
	}()
	time.Sleep(20 * time.Millisecond)
	ending, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	check(t, n[0].srv.Shutdown(ending))
	select {
	case <-answered:
	case <-ending.Done():
		t.Error("a request was never answered")
	}
	must(here["bob"].AwaitRoster(ctx, "alice to be missing", func(r *presence.Roster) bool {
		alice := servertest.In(r, "alice")
		return alice != nil && alice.State == presence.Reconnecting
	}))
	if took := time.Since(began); took > 2*time.Second { // the lease is longer
		t.Errorf("the other server knew after %v", took)
	}
}
