package main

import (
	"context"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"parley/server/servertest"
	"parley/server/store/pgtest"
)

// TestFailover kills the database's primary under two servers that are written to,
// and promotes its standby: connections stay, what was on its way is acknowledged
// there, and nothing that was acknowledged is missing.
func TestFailover(t *testing.T) {
	ctx := within(t, 90*time.Second)
	primary := pgtest.Start(t, pgtest.Options{})
	standby := primary.Standby(t, pgtest.Options{})
	url := pgtest.Both(primary, standby, "postgres")
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	servers := []*process{serve(t, dirs[0], "--store", url)}
	shareKey(t, dirs[0], dirs[1:]...)
	servers = append(servers, serve(t, dirs[1], "--store", url))

	id := servertest.NewDocumentID()
	writing, stop := context.WithCancel(ctx)
	defer stop()
	writers := make([]*steadyWriter, len(servers))
	var wg sync.WaitGroup
	for i, p := range servers {
		w := &steadyWriter{}
		writers[i] = w
		wg.Go(func() {
			if err := w.write(writing, p, id, math.MaxInt); writing.Err() == nil {
				t.Errorf("a connection did not outlast the failover: %v", err)
			}
		})
	}
	more := func(what string, n int64) {
		t.Helper()
		for _, w := range writers {
			until := w.count.Load() + n
			poll(t, ctx, what, func() bool { return w.count.Load() >= until })
		}
	}
	more("acknowledgements", 20)
	primary.Kill(t)
	poll(t, ctx, "readyz to say that the database is away", func() bool {
		code, _ := servers[0].ready(t)
		return code == http.StatusServiceUnavailable
	})
	away := time.Now()
	standby.Promote(t)
	more("acknowledgements after the failover", 20)
	took := time.Since(away)
	for _, p := range servers {
		if code, said := p.ready(t); code != http.StatusOK {
			t.Errorf("readyz says %d: %s", code, said)
		}
	}
	stop()
	wg.Wait()

	fresh := serve(t, dirs[2], "--store", url)
	c, err := servertest.Dial(ctx, fresh.url, "")
	check(t, err)
	defer c.CloseNow()
	d, err := c.Open(ctx, id)
	check(t, err)
	acked := 0
	for _, w := range writers {
		for _, h := range w.acked {
			check(t, d.Has(ctx, h))
		}
		acked += len(w.acked)
	}
	t.Logf("%d acknowledged, none lost; acknowledged again within %v of the promotion", acked, took.Round(time.Millisecond))
}
