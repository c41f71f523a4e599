package server_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/server"
	"parley/server/servertest"
	"parley/server/store"
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

// BenchmarkLoad is what it takes to have a document in memory, from its rows and
// from its pack.
func BenchmarkLoad(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	r := start(b, server.Options{})
	for _, n := range []int{500, 10_000} {
		doc := crdt.NewDocument(crdt.Limits{})
		check(b, doc.Load(history(b, ctx, r.url, n)...))
		batch, pack := store.Batch{Document: servertest.NewDocumentID()}, &store.Pack{Index: doc.AppendIndex(nil)}
		for i := range n {
			hash, chunk := doc.Graph.HashAt(i), doc.Graph.ChunkAt(i)
			batch.Changes = append(batch.Changes, store.Change{Hash: hash, Chunk: chunk})
			pack.Hashes, pack.Chunks, pack.Users = append(pack.Hashes, hash), append(pack.Chunks, chunk), append(pack.Users, "")
		}
		stored := make(chan error, 1)
		batch.Done = func(err error) { stored <- err }
		r.store.Append(batch)
		check(b, <-stored)
		load := func(b *testing.B) {
			for b.Loop() {
				st, err := r.store.Load(ctx, batch.Document)
				check(b, err)
				doc := crdt.NewDocument(crdt.Limits{})
				if st.Indexed > 0 {
					check(b, doc.LoadIndexed(st.Index, st.Hashes[:st.Indexed], st.Chunks[:st.Indexed]))
				}
				check(b, doc.Load(st.Chunks[st.Indexed:]...))
			}
		}
		b.Run(fmt.Sprintf("changes=%d/rows", n), load)
		check(b, r.store.PutPack(ctx, batch.Document, pack))
		b.Run(fmt.Sprintf("changes=%d/pack", n), load)
	}
}
