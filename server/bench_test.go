package server_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/server"
	"parley/server/servertest"
)

// history returns the chunks of so many changes of a plain document.
func history(b *testing.B, ctx context.Context, url string, n int) [][]byte {
	c, err := servertest.Dial(ctx, url, "historian")
	check(b, err)
	defer c.CloseNow()
	d, err := c.Open(ctx, servertest.NewDocumentID())
	check(b, err)
	var last crdt.Hash
	for i := range n {
		last, err = d.Set(ctx, "field"+string(rune('a'+i%50)), i)
		check(b, err)
	}
	check(b, d.Acknowledged(ctx, last))
	return d.Chunks()
}

// BenchmarkBesideALargeSync is how long a change waits for its acknowledgement while
// others bring histories of 10,000 changes, one after the other. An operation is such
// a history.
func BenchmarkBesideALargeSync(b *testing.B) {
	r := start(b, server.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	chunks := history(b, ctx, r.url, 10_000)
	c, err := servertest.Dial(ctx, r.url, "small")
	check(b, err)
	defer c.CloseNow()
	small, err := c.Open(ctx, servertest.NewDocumentID())
	check(b, err)
	large, err := servertest.Dial(ctx, r.url, "large")
	check(b, err)
	defer large.CloseNow()
	stop, stopped := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var waits []time.Duration
		defer func() { stopped <- waits }()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			began := time.Now()
			h, err := small.Set(ctx, "key", i)
			if err != nil || small.Acknowledged(ctx, h) != nil {
				return
			}
			waits = append(waits, time.Since(began))
		}
	}()
	for b.Loop() {
		d, err := large.Bring(ctx, servertest.NewDocumentID(), chunks)
		check(b, err)
		check(b, d.Acknowledged(ctx, d.Heads()[0]))
	}
	close(stop)
	waits := <-stopped
	slices.Sort(waits)
	for name, at := range map[string]int{"p50-ms": len(waits) / 2, "p99-ms": len(waits) * 99 / 100} {
		b.ReportMetric(float64(waits[at].Microseconds())/1000, name)
	}
}
