package crdt_test

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/crdt"
	"parley/crdt/historytest"
)

func heads(h historytest.History) []crdt.Hash {
	var list []crdt.Hash
	for _, head := range h.Heads() {
		list = append(list, head)
	}
	return list
}

func TestSnapshotOfNothing(t *testing.T) {
	empty, err := crdt.Compact(nil, nil, nil)
	if err != nil || empty.Changes != 0 || len(empty.Heads) != 0 {
		t.Fatalf("compacting nothing gave %+v, %v", empty, err)
	}
	json, err := crdt.Materialize(&empty, nil)
	if err != nil || string(json) != "{}" {
		t.Errorf("nothing materialises as %s, %v", json, err)
	}
}

// However a history is cut into a snapshot and later changes, the outcome is
// the one of all changes at once.
func TestCompactInParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := historytest.Random(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 4).Draw(t, "actors"), rapid.IntRange(1, 40).Draw(t, "changes"))
		cut := rapid.IntRange(0, len(h)).Draw(t, "cut")
		again := rapid.IntRange(0, cut).Draw(t, "again") // changes that come twice
		all, err := crdt.Compact(nil, h.Chunks(), heads(h))
		if err != nil {
			t.Fatal(err)
		}
		prefix, err := crdt.Compact(nil, h[:cut].Chunks(), heads(h[:cut]))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := crdt.Compact(&prefix, h[cut-again:].Chunks(), heads(h))
		if err != nil {
			t.Fatal(err)
		}
		if parts.Changes != len(h) || all.Changes != len(h) || prefix.Changes != cut {
			t.Fatalf("snapshots hold %d, %d, %d changes, want %d, %[4]d, %d", parts.Changes, all.Changes, prefix.Changes, len(h), cut)
		}
		if !reflect.DeepEqual(parts.Heads, all.Heads) || !slices.Equal(all.Heads, heads(h)) {
			t.Fatalf("the heads are %v in parts, %v at once, want %v", parts.Heads, all.Heads, heads(h))
		}
		sameJSON(t, h, all, prefix, parts, cut)
	})
}

func sameJSON(t *rapid.T, h historytest.History, all, prefix, parts crdt.Snapshot, cut int) {
	want, err := crdt.Materialize(nil, h.Chunks())
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]struct {
		prev   crdt.Snapshot
		chunks [][]byte
	}{
		"the snapshot":              {all, nil},
		"the snapshot of parts":     {parts, nil},
		"the prefix and the rest":   {prefix, h[cut:].Chunks()},
		"the snapshot and a change": {all, h[:1].Chunks()},
	} {
		got, err := crdt.Materialize(&from.prev, from.chunks)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(got) != string(want) {
			t.Fatalf("%s materialises as\n%s, want\n%s", name, got, want)
		}
	}
}

func TestCompactRefuses(t *testing.T) {
	h := historytest.Random(5, 3, 20)
	prefix, err := crdt.Compact(nil, h[:10].Chunks(), heads(h[:10]))
	if err != nil {
		t.Fatal(err)
	}
	broken := crdt.Snapshot{Heads: prefix.Heads, Changes: prefix.Changes, Data: slices.Clone(prefix.Data)}
	broken.Data[len(broken.Data)/2] ^= 1
	for name, test := range map[string]struct {
		prev   *crdt.Snapshot
		chunks [][]byte
		heads  []crdt.Hash
		want   string
	}{
		"garbage":                {nil, [][]byte{[]byte("garbage")}, nil, "magic"},
		"garbage after a prefix": {&prefix, [][]byte{[]byte("garbage")}, heads(h), "magic"},
		"a broken prefix":        {&broken, h[10:].Chunks(), heads(h), "checksum"},
		"a missing first change": {nil, h[1:].Chunks(), heads(h), "automerge: load: "},
		"a missing change":       {&prefix, h[11:].Chunks(), heads(h), "the changes depend on "},
		"heads of less":          {&prefix, h[10:].Chunks(), heads(h[:10]), "other heads"},
		"heads of more":          {&prefix, nil, heads(h), "other heads"},
		"no heads":               {&prefix, nil, nil, "other heads"},
	} {
		got, err := crdt.Compact(test.prev, test.chunks, test.heads)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %q in it", name, err, test.want)
		}
		if !reflect.DeepEqual(got, crdt.Snapshot{}) {
			t.Errorf("%s: there is a snapshot beside the error", name)
		}
	}
	if _, err := crdt.Materialize(&prefix, h[11:].Chunks()); err == nil {
		t.Error("materialised without a change that others depend on")
	}
}

// The order of the wanted heads is the caller's affair, and stays as it was.
func TestCompactSortsHeads(t *testing.T) {
	h := historytest.Random(1, 4, 40)
	for len(h.Heads()) < 3 {
		h = h[:len(h)-1]
	}
	want := heads(h)
	given := slices.Clone(want)
	slices.Reverse(given)
	got, err := crdt.Compact(nil, h.Chunks(), given)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Heads, want) || slices.Equal(given, want) {
		t.Errorf("the heads are %v, want %v; those given became %v", got.Heads, want, given)
	}
}

// picks is a history of n changes by one actor to a map of 50 fields.
func picks(tb testing.TB, n int) (h historytest.History) {
	tb.Helper()
	doc, err := historytest.NewDoc([]byte("0123456789abcdef"))
	if err != nil {
		tb.Fatal(err)
	}
	defer doc.Close()
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(doc.Put(historytest.Path{"selections"}, historytest.Map))
	for i := range n {
		field := historytest.Path{"selections", fmt.Sprintf("field %d", i%50)}
		must(doc.Put(field, historytest.Map))
		must(doc.Put(append(field, "value"), int64(i)))
		must(doc.Put(append(field, "by"), "alice"))
		must(doc.Put(append(field, "at"), int64(1_700_000_000_000+i)))
		chunk, err := doc.Commit("", int64(1_700_000_000+i))
		must(err)
		h = append(h, historytest.Change{Chunk: chunk, Hash: sha256.Sum256(chunk[8:])})
		if i > 0 {
			h[i].Deps = [][32]byte{h[i-1].Hash}
		}
	}
	return h
}

func BenchmarkCompact(b *testing.B) {
	for _, n := range []int{500, 10_000} {
		h := picks(b, n)
		chunks, want := h.Chunks(), heads(h)
		var snapshot crdt.Snapshot
		b.Run(fmt.Sprintf("changes=%d", n), func(b *testing.B) {
			for b.Loop() {
				var err error
				if snapshot, err = crdt.Compact(nil, chunks, want); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(snapshot.Data)), "B/snapshot")
		})
		b.Run(fmt.Sprintf("changes=%d/snapshot=%d", n, n-1), func(b *testing.B) {
			prev, err := crdt.Compact(nil, h[:n-1].Chunks(), heads(h[:n-1]))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := crdt.Compact(&prev, chunks[n-1:], want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMaterialize(b *testing.B) {
	h := picks(b, 500)
	snapshot, err := crdt.Compact(nil, h.Chunks(), heads(h))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := crdt.Materialize(&snapshot, nil); err != nil {
			b.Fatal(err)
		}
	}
}
