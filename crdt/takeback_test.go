package crdt

import (
	"bytes"
	"reflect"
	"testing"

	"parley/crdt/historytest"

	"pgregory.net/rapid"
)

// mustTake gives a document changes that pass the gate.
func mustTake(t *rapid.T, d *Document, chunks [][]byte) {
	for _, chunk := range chunks {
		c, err := DecodeChange(chunk, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if o := d.Add(c); o.Status != Accepted {
			t.Fatalf("change %s: %v %v", c.Hash, o.Status, o.Refusal)
		}
	}
}

// topological draws another order of a history in which each change is after those
// that it depends on, of all that are not in done.
func topological(t *rapid.T, h historytest.History, done int) (order [][]byte) {
	have := make(map[[32]byte]bool)
	for _, c := range h[:done] {
		have[c.Hash] = true
	}
	rest := append(historytest.History{}, h[done:]...)
	for len(rest) > 0 {
		var ready []int
		for i, c := range rest {
			ok := true
			for _, dep := range c.Deps {
				ok = ok && have[dep]
			}
			if ok {
				ready = append(ready, i)
			}
		}
		i := ready[rapid.IntRange(0, len(ready)-1).Draw(t, "next")]
		have[rest[i].Hash] = true
		order = append(order, rest[i].Chunk)
		rest = append(rest[:i:i], rest[i+1:]...)
	}
	return order
}

// TestTakeBack: a document from which accepted changes were taken back is in every
// part the one that never had them, also for what is added to it in another order.
func TestTakeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := historytest.Random(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 4).Draw(t, "actors"), rapid.IntRange(1, 40).Draw(t, "changes"))
		durable := rapid.IntRange(0, len(h)).Draw(t, "durable")
		d, want := NewDocument(Limits{}), NewDocument(Limits{})
		mustTake(t, d, h.Chunks()[:durable])
		d.Graph.MarkDurable(durable)
		mustTake(t, want, h.Chunks()[:durable])
		want.Graph.MarkDurable(durable)
		for range rapid.IntRange(1, 2).Draw(t, "times") {
			accepted := rapid.IntRange(durable, len(h)).Draw(t, "accepted")
			mustTake(t, d, h.Chunks()[durable:accepted])
			if !bytes.Equal(d.AppendIndex(nil), want.AppendIndex(nil)) {
				t.Fatal("the index says something of changes that are not durable")
			}
			back := d.TakeBack()
			if len(back) != accepted-durable || len(back) > 0 && !bytes.Equal(back[0], h[durable].Chunk) {
				t.Fatalf("%d taken back, of %d", len(back), accepted-durable)
			}
			sameDocument(t, d, want)
		}
		order := topological(t, h, durable)
		stored := rapid.IntRange(0, len(order)).Draw(t, "stored")
		for _, chunk := range order[:stored] {
			c, err := DecodeChange(chunk, Limits{})
			if err == nil {
				err = d.AddStored(c)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		mustTake(t, want, order[:stored])
		for _, doc := range []*Document{d, want} {
			doc.Graph.MarkDurable(durable + stored)
			mustTake(t, doc, order[stored:])
			doc.Graph.MarkDurable(len(h))
		}
		sameDocument(t, d, want)
	})
}

func sameDocument(t *rapid.T, d, want *Document) {
	t.Helper()
	if !reflect.DeepEqual(d.Graph.Heads(), want.Graph.Heads()) || !reflect.DeepEqual(d.Graph.Tips(), want.Graph.Tips()) {
		t.Fatalf("heads %v, tips %v; want %v, %v", d.Graph.Heads(), d.Graph.Tips(), want.Graph.Heads(), want.Graph.Tips())
	}
	if d.Bytes() != want.Bytes() || d.NumOps() != want.NumOps() || d.Graph.MaxOp() != want.Graph.MaxOp() {
		t.Fatalf("%d bytes, %d operations to %d; want %d, %d, %d", d.Bytes(), d.NumOps(), d.Graph.MaxOp(), want.Bytes(), want.NumOps(), want.Graph.MaxOp())
	}
	if !bytes.Equal(d.AppendIndex(nil), want.AppendIndex(nil)) {
		t.Fatal("the indices differ")
	}
}

// TestAddStoredRefuses: what does not follow is not added.
func TestAddStoredRefuses(t *testing.T) {
	first, second := fixtures(t)
	d := NewDocument(Limits{})
	if err := d.AddStored(second); err == nil {
		t.Error("a change was added before the one that it depends on")
	}
	if err := d.AddStored(first); err != nil {
		t.Error(err)
	}
	if err := d.AddStored(first); err == nil {
		t.Error("a change was added twice")
	}
}
