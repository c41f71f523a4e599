package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/crdt/transaction"
	"parley/server/servertest"
)

// mustServeReaders reads the deal as somebody who was never there: all that was
// acknowledged by now, over a WebSocket and over HTTP.
func mustServeReaders(t *testing.T, ctx context.Context, p *process, people []*party, acked []int) {
	t.Helper()
	reader, err := servertest.Visitor{URL: p.url, User: "reader", Role: transaction.Viewer}.Enter(ctx, "deal")
	check(t, err)
	defer reader.CloseNow()
	for i, who := range people {
		for _, h := range who.made[:acked[i]] {
			check(t, reader.Doc.Has(ctx, h))
		}
	}
	shown, err := p.request(http.MethodGet, "/v1/transactions/deal/history?user=reader&role=viewer", "")
	check(t, err)
	for i, who := range people {
		if n := acked[i]; n > 0 && !strings.Contains(string(shown), who.made[n-1].String()) {
			t.Errorf("the last pick of %s's that was acknowledged is not in the history", who.user)
		}
	}
}

// ackedOf returns how many picks of each were acknowledged.
func ackedOf(people []*party) (acked []int) {
	for _, who := range people {
		acked = append(acked, who.acked)
	}
	return acked
}

func notReady(t *testing.T, ctx context.Context, p *process) {
	t.Helper()
	poll(t, ctx, "readyz to say what is wrong", func() bool {
		code, body := p.ready(t)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "nothing is acknowledged")
	})
}

func wellAgain(t *testing.T, ctx context.Context, p *process) {
	t.Helper()
	poll(t, ctx, "readyz to be well again", func() bool { code, _ := p.ready(t); return code == http.StatusOK })
}

// TestFaultFullDisk fills the disk under people who pick, frees it, and fills it
// again for a server that is then killed. While it is full readers are served, nothing
// is acknowledged that is not on disk, and people go on when there is room.
func TestFaultFullDisk(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	data := t.TempDir()
	p := serve(t, data)
	openDeal(t, p.url)
	people := goIn(t, p.url, "deal", "alice", "bob", "carol")
	for n := range longer(2, 10) {
		stop := busy(t, people)
		time.Sleep(300 * time.Millisecond) // for people to pick
		check(t, p.limitFiles(longestFile(t, data)))
		notReady(t, ctx, p)
		check(t, p.limitFiles(0)) // not what is there may be written again either
		time.Sleep(300 * time.Millisecond)
		stop()
		before := ackedOf(people)
		if before[0] == 0 {
			t.Fatal("nobody picked before")
		}
		mustServeReaders(t, ctx, p, people, before)
		if n%2 == 1 {
			address := strings.TrimPrefix(p.url, "ws://")
			_ = p.kill()
			mustHaveReceipts(t, data, people)
			p = serve(t, data, "--listen", address)
		} else {
			check(t, p.limitFiles(^uint64(0)))
		}
		wellAgain(t, ctx, p)
		converge(t, ctx, p.url, people)
	}
	mustBeHere(t, ctx, p.url, "deal", people)
	check(t, p.end(os.Interrupt))
	mustHaveReceipts(t, data, people)
	mustBeSoundOnDisk(t, data)
}

func longestFile(t *testing.T, dir string) uint64 {
	t.Helper()
	var longest int64
	check(t, filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			longest = max(longest, info.Size())
		}
		return err
	}))
	return uint64(longest)
}
