package crdt

import (
	"reflect"
	"testing"

	"parley/crdt/historytest"

	"pgregory.net/rapid"
)

// loaded returns documents of the same changes: read one by one, and from the
// index of the first n.
func loaded(t interface{ Fatal(...any) }, chunks [][]byte, n int) (plain, indexed *Document) {
	first := NewDocument(Limits{})
	if err := first.Load(chunks[:n]...); err != nil {
		t.Fatal(err)
	}
	indexed = NewDocument(Limits{})
	if err := indexed.LoadIndexed(first.AppendIndex(nil), hashesOf(first), chunks[:n]); err != nil {
		t.Fatal(err)
	}
	plain = NewDocument(Limits{})
	for _, d := range []*Document{plain, indexed} {
		rest := chunks[d.Graph.Len():]
		if err := d.Load(rest...); err != nil {
			t.Fatal(err)
		}
	}
	return plain, indexed
}

func hashesOf(d *Document) []Hash {
	hs := make([]Hash, d.Graph.Len())
	for i := range hs {
		hs[i] = d.Graph.HashAt(i)
	}
	return hs
}

// An indexed document is in every part the one that was read.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := historytest.Random(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 4).Draw(t, "actors"), rapid.IntRange(1, 40).Draw(t, "changes"))
		chunks := h.Chunks()
		n := rapid.IntRange(0, len(chunks)).Draw(t, "indexed")
		plain, indexed := loaded(t, chunks, n)
		_, again := loaded(t, chunks, n)
		for _, g := range []*Graph{&plain.Graph, &indexed.Graph} {
			for i := range g.links {
				g.links[i].mark = 0 // scratch, as is the epoch
			}
			g.epoch = 0
			for i := range g.nodes {
				if at, ok := g.find(g.nodes[i].hash); !ok || int(at) != i {
					t.Fatalf("change %d is found at %d, %t", i, at, ok)
				}
			}
			g.places = places{} // of a seed of its own
		}
		if !reflect.DeepEqual(plain, indexed) {
			t.Fatalf("read:\n%+v\nindexed:\n%+v", plain, indexed)
		}
		if err := again.Load(chunks[0]); err == nil {
			t.Fatal("a change that the index holds was taken again")
		}
	})
}

// What is wrong with an index is noticed, and nothing is loaded.
func TestWrongIndex(t *testing.T) {
	h := historytest.Random(7, 3, 12)
	d := NewDocument(Limits{})
	if err := d.Load(h.Chunks()...); err != nil {
		t.Fatal(err)
	}
	index, hashes, chunks := d.AppendIndex(nil), hashesOf(d), h.Chunks()
	refuse := func(what string, index []byte, hashes []Hash, chunks [][]byte) {
		t.Helper()
		d := NewDocument(Limits{})
		if err := d.LoadIndexed(index, hashes, chunks); err == nil {
			t.Errorf("%s: taken", what)
		}
		if d.Graph.Len() > 0 || d.Bytes() > 0 {
			t.Errorf("%s: something was loaded", what)
		}
	}
	for n := range index {
		refuse("cut short", index[:n], hashes, chunks)
	}
	refuse("too long", append(index[:len(index):len(index)], 0), hashes, chunks)
	refuse("another version", append([]byte{indexVersion + 1}, index[1:]...), hashes, chunks)
	refuse("a chunk too few", index, hashes, chunks[1:])
	refuse("a hash too few", index, hashes[1:], chunks)
	refuse("of other changes", index, hashes[1:], chunks[1:])
	twice := append(hashes[:len(hashes)-1:len(hashes)-1], hashes[0])
	refuse("a change twice", index, twice, chunks)
}

// FuzzLoadIndexed: a damaged index does no harm, whatever the store has checked.
func FuzzLoadIndexed(f *testing.F) {
	h := historytest.Random(7, 3, 12)
	d := NewDocument(Limits{})
	if err := d.Load(h.Chunks()...); err != nil {
		f.Fatal(err)
	}
	f.Add(d.AppendIndex(nil))
	hashes := hashesOf(d)
	f.Fuzz(func(t *testing.T, index []byte) {
		d := NewDocument(Limits{})
		if err := d.LoadIndexed(index, hashes, h.Chunks()); err != nil {
			return
		}
		if d.Graph.Len() != len(hashes) || d.Graph.Durable() != len(hashes) || len(d.Graph.Since(nil)) != len(hashes) {
			t.Errorf("%d changes of %d", d.Graph.Len(), len(hashes))
		}
	})
}
