package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"parley/crdt"
)

// batchOf is a batch of a document with so many changes, which cost size bytes each.
func batchOf(doc byte, changes, size int) Batch {
	b := Batch{Document: crdt.DocumentID{doc}}
	for range changes {
		b.Changes = append(b.Changes, Change{Chunk: make([]byte, size)})
	}
	return b
}

// taken describes transaction by transaction what a queue gives.
func taken(q *queue) (transactions []string) {
	for {
		w := q.next(nil, nil)
		if len(w.entries) == 0 {
			return transactions
		}
		var text string
		for _, e := range w.entries {
			text += fmt.Sprintf("%c%d ", e.Document[0], len(e.Changes))
		}
		transactions = append(transactions, text[:len(text)-1])
	}
}

// A history that comes in leaves room for everybody else.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		what    string
		batches []Batch
		want    []string
	}{
		{"few", []Batch{batchOf('a', 3, 1), batchOf('b', 2, 1), batchOf('a', 1, 1)}, []string{"a3 b2 a1"}},
		{"much of one", []Batch{batchOf('a', 256, 1), batchOf('a', 256, 1), batchOf('a', 10, 1), batchOf('b', 1, 1)},
			[]string{"a256 b1", "a256", "a10"}},
		{"a little more is not before what was late", []Batch{batchOf('a', 200, 1), batchOf('a', 200, 1), batchOf('a', 1, 1), batchOf('b', 1, 1)},
			[]string{"a200 b1", "a200 a1"}},
		{"one batch is never divided", []Batch{batchOf('b', 1, 1), batchOf('a', 2000, 1), batchOf('a', 1, 1), batchOf('b', 2, 1)},
			[]string{"b1 a2000 b2", "a1"}},
		{"a barrier waits for all before it", []Batch{batchOf('a', 256, 1), batchOf('a', 256, 1), batchOf('x', 0, 0), batchOf('b', 1, 1)},
			[]string{"a256", "a256 x0 b1"}},
		{"many bytes", []Batch{batchOf('a', 256, 1), batchOf('b', 1, 5<<20), batchOf('c', 1, 5<<20), batchOf('a', 1, 1)},
			[]string{"a256 b1", "c1 a1"}},
	} {
		q := newQueue(1 << 30)
		for _, b := range c.batches {
			q.append(b)
		}
		if got := taken(q); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestSharesKeepOrder: of one document everything comes in its order, a barrier
// after all that was before it, and nothing is lost.
func TestSharesKeepOrder(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1))
		q := newQueue(1 << 30)
		const n = 60
		for i := range n {
			b := batchOf('a'+byte(random.IntN(4)), random.IntN(300), 1)
			b.Settings = []byte{byte(i)} // which one it is
			if random.IntN(10) == 0 {
				b = Batch{Changes: nil, Document: crdt.DocumentID{'x'}}
				b.Done = func(error) {}
			}
			q.append(b)
		}
		var got []entry
		for w := q.next(nil, nil); len(w.entries) > 0; w = q.next(nil, nil) {
			per := map[crdt.DocumentID]int{}
			for i, e := range w.entries {
				if per[e.Document] += len(e.Changes); per[e.Document] > DocumentShare && i > 0 && per[e.Document] > len(e.Changes) {
					t.Fatalf("seed %d: %d changes of one document in a transaction", seed, per[e.Document])
				}
			}
			got = append(got, w.entries...)
		}
		last, before := map[crdt.DocumentID]int{}, 0
		for i, e := range got {
			if e.isBarrier() {
				before = i
				continue
			}
			if at := int(e.Settings[0]); at < last[e.Document] || at < before {
				t.Fatalf("seed %d: batch %d came after %d of its document, and a barrier after %d", seed, at, last[e.Document], before)
			} else {
				last[e.Document] = at
			}
		}
		if len(got) != n {
			t.Fatalf("seed %d: %d of %d batches", seed, len(got), n)
		}
	}
}
