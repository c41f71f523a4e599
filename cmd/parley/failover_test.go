package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/crdt"
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
	key, err := os.ReadFile(filepath.Join(dirs[0], keyFile))
	check(t, err)
	for _, dir := range dirs[1:] {
		check(t, os.WriteFile(filepath.Join(dir, keyFile), key, 0o600))
	}
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
			if err := w.write(writing, p, id); writing.Err() == nil {
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

// steadyWriter writes one change after the other over one connection.
type steadyWriter struct {
	count atomic.Int64 // of acked
	acked []crdt.Hash  // once write has returned
}

func (w *steadyWriter) write(ctx context.Context, p *process, id crdt.DocumentID) error {
	c, err := servertest.Dial(ctx, p.url, "")
	if err != nil {
		return err
	}
	defer c.CloseNow()
	d, err := c.Open(ctx, id)
	for i := int64(0); err == nil; i++ {
		var h crdt.Hash
		if h, err = d.Set(ctx, "key", i); err != nil {
			break
		}
		if err = d.Acknowledged(ctx, h); err == nil {
			w.acked = append(w.acked, h)
			w.count.Add(1)
		}
	}
	return err
}
