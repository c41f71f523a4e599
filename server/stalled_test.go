package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/server"
	"parley/server/store/pgtest"
	"parley/sync/presence"
)

// TestTheDatabaseIsAwayAndNobodyPicks: a server that cannot prolong its lease says that
// it cannot save, though it was asked to save nothing.
func TestTheDatabaseIsAwayAndNobodyPicks(t *testing.T) {
	t.Cleanup(server.Leases(100*time.Millisecond, time.Second))
	ctx := deadline(t)
	pg := pgtest.Start(t, pgtest.Options{})
	n := startNodes(t, pg.Database(t), 1, server.Options{Identify: server.DevIdentity})
	alice := n[0].agreedSale(ctx, "", "alice")["alice"]
	says := func(want int, words string) {
		t.Helper()
		for {
			status, text := n[0].get("/readyz")
			if status == want && strings.Contains(text, words) {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("it says %d: %s", status, text)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	says(http.StatusOK, "ready")
	pg.Kill(t)
	must(alice.AwaitRoster(ctx, "that it cannot save", func(r *presence.Roster) bool { return r.Stalled }))
	says(http.StatusServiceUnavailable, "the database cannot be reached")
	check(t, pg.Restart())
	must(alice.AwaitRoster(ctx, "that it saves again", func(r *presence.Roster) bool { return !r.Stalled }))
	says(http.StatusOK, "ready")
	h := must(alice.Pick(ctx, "price", "120"))
	check(t, alice.Doc.Acknowledged(ctx, h))
}
