package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// testHash makes the n-th change hash of a test; their order is not that of n.
func testHash(n int) Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// naiveGraph answers what Graph answers, from sets of ancestors.
type naiveGraph struct {
	hashes    []Hash
	ancestors []map[int]bool // each with itself
	durable   int
}

func (m *naiveGraph) append(h Hash, deps []int) {
	self := len(m.hashes)
	all := map[int]bool{self: true}
	for _, d := range deps {
		for a := range m.ancestors[d] {
			all[a] = true
		}
	}
	m.hashes = append(m.hashes, h)
	m.ancestors = append(m.ancestors, all)
}

func (m *naiveGraph) headsOf(n int) []Hash {
	hs := []Hash{}
	for i := range n {
		covered := false
		for j := range n {
			covered = covered || j != i && m.ancestors[j][i]
		}
		if !covered {
			hs = append(hs, m.hashes[i])
		}
	}
	return SortHashes(hs)
}

func (m *naiveGraph) since(have []int) []int {
	var since []int
	for i := range m.durable {
		if !slices.ContainsFunc(have, func(h int) bool { return h < len(m.hashes) && m.ancestors[h][i] }) {
			since = append(since, i)
		}
	}
	return since
}

func TestGraphAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Graph
		var m naiveGraph
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var deps []int
				if n := g.Len(); n > 0 {
					deps = rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, min(3, n), rapid.ID[int]).Draw(t, "deps")
				}
				appendTestNode(&g, &m, deps)
			},
			"append at the tips": func(t *rapid.T) {
				var deps []int
				for _, h := range g.Tips() {
					i, _ := g.Index(h)
					deps = append(deps, i)
				}
				appendTestNode(&g, &m, deps)
			},
			"mark durable": func(t *rapid.T) {
				m.durable = rapid.IntRange(m.durable, g.Len()).Draw(t, "n")
				g.MarkDurable(m.durable)
			},
			"since": func(t *rapid.T) {
				// Some have hashes that nobody knows.
				have := rapid.SliceOfN(rapid.IntRange(0, g.Len()+2), 0, 4).Draw(t, "have")
				hashes := make([]Hash, len(have))
				for i, h := range have {
					hashes[i] = testHash(h)
				}
				if got, want := g.Since(hashes), m.since(have); !slices.Equal(got, want) {
					t.Fatalf("Since(%v) = %v, want %v", have, got, want)
				}
			},
			"": func(t *rapid.T) { compareToModel(t, &g, &m) },
		})
	})
}

func appendTestNode(g *Graph, m *naiveGraph, deps []int) {
	i := len(m.hashes)
	n := Node{Hash: testHash(i), Actor: ActorID(fmt.Sprint("actor", i%3)), Seq: uint64(i/3 + 1), MaxOp: uint64(10 * i), Chunk: []byte{byte(i)}}
	for _, d := range deps {
		n.Deps = append(n.Deps, testHash(d))
	}
	g.Append(n)
	m.append(n.Hash, deps)
}

func compareToModel(t *rapid.T, g *Graph, m *naiveGraph) {
	if g.Len() != len(m.hashes) || g.Durable() != m.durable {
		t.Fatalf("%d changes, %d durable; want %d, %d", g.Len(), g.Durable(), len(m.hashes), m.durable)
	}
	if got, want := g.Heads(), m.headsOf(m.durable); !slices.Equal(got, want) {
		t.Fatalf("Heads() = %v, want %v", got, want)
	}
	if got, want := g.Tips(), m.headsOf(len(m.hashes)); !slices.Equal(got, want) {
		t.Fatalf("Tips() = %v, want %v", got, want)
	}
	unknown := testHash(len(m.hashes))
	if got, want := g.Missing(append(slices.Clone(m.hashes), unknown)), append(slices.Clone(m.hashes[m.durable:]), unknown); !slices.Equal(got, want) {
		t.Fatalf("Missing(all) = %v, want %v", got, want)
	}
	for i, h := range m.hashes {
		if at, ok := g.Index(h); !ok || at != i || !g.Accepted(h) || g.Has(h) != (i < m.durable) {
			t.Fatalf("change %d: Index %d, %v; Accepted %v; Has %v", i, at, ok, g.Accepted(h), g.Has(h))
		}
	}
}

func TestGraphNodes(t *testing.T) {
	var g Graph
	if g.Seq("ada") != 0 || g.MaxOp() != 0 || len(g.Heads()) != 0 || len(g.Tips()) != 0 {
		t.Fatal("an empty graph knows something")
	}
	nodes := []Node{
		{Hash: testHash(0), Deps: []Hash{}, Actor: "ada", Seq: 1, MaxOp: 3, Chunk: []byte("a")},
		{Hash: testHash(1), Deps: []Hash{testHash(0)}, Actor: "bob", Seq: 1, MaxOp: 9, Chunk: []byte("b")},
		{Hash: testHash(2), Deps: []Hash{testHash(0)}, Actor: "ada", Seq: 2, MaxOp: 4, Chunk: []byte("c")},
		{Hash: testHash(3), Deps: []Hash{testHash(2), testHash(1)}, Actor: "ada", Seq: 3, MaxOp: 10, Chunk: []byte("d")},
	}
	for i, n := range nodes {
		g.Append(n)
		got := g.At(i)
		if got.Hash != n.Hash || got.Actor != n.Actor || got.Seq != n.Seq || got.MaxOp != n.MaxOp ||
			!slices.Equal(got.Deps, n.Deps) || string(got.Chunk) != string(n.Chunk) || string(g.ChunkAt(i)) != string(n.Chunk) || g.HashAt(i) != n.Hash {
			t.Errorf("At(%d) = %+v, want %+v", i, got, n)
		}
	}
	if g.Seq("ada") != 3 || g.Seq("bob") != 1 || g.Seq("eve") != 0 {
		t.Errorf("Seq: ada %d, bob %d, eve %d; want 3, 1, 0", g.Seq("ada"), g.Seq("bob"), g.Seq("eve"))
	}
	if got := g.MaxOpOf([]Hash{testHash(0), testHash(2), testHash(77)}); got != 4 {
		t.Errorf("MaxOpOf = %d, want 4", got)
	}
	if g.MaxOp() != 10 {
		t.Errorf("MaxOp = %d, want 10", g.MaxOp())
	}
}

// A slice of heads that somebody keeps must not change under him.
func TestGraphHeadsAreKept(t *testing.T) {
	var g Graph
	g.Append(Node{Hash: testHash(0)})
	g.MarkDurable(1)
	before := g.Heads()
	g.Append(Node{Hash: testHash(1), Deps: []Hash{testHash(0)}})
	g.MarkDurable(2)
	if before[0] != testHash(0) || g.Heads()[0] != testHash(1) {
		t.Fatal("heads were modified in place")
	}
}

func TestGraphPanics(t *testing.T) {
	tests := map[string]func(g *Graph){
		"the same change twice":         func(g *Graph) { g.Append(Node{Hash: testHash(0)}) },
		"a dependency that is not here": func(g *Graph) { g.Append(Node{Hash: testHash(1), Deps: []Hash{testHash(9)}}) },
		"more durable than accepted":    func(g *Graph) { g.MarkDurable(2) },
		"less durable than before":      func(g *Graph) { g.MarkDurable(0) },
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			var g Graph
			g.Append(Node{Hash: testHash(0)})
			g.MarkDurable(1)
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			f(&g)
		})
	}
}

// The marks of a walk are numbers that run out after two billion walks.
func TestGraphEpochWraps(t *testing.T) {
	var g Graph
	g.Append(Node{Hash: testHash(0)})
	g.Append(Node{Hash: testHash(1), Deps: []Hash{testHash(0)}})
	g.MarkDurable(2)
	g.epoch = ^uint32(0) - 6
	for range 8 {
		if got := g.Since([]Hash{testHash(0)}); !slices.Equal(got, []int{1}) {
			t.Fatalf("at epoch %d: Since = %v, want [1]", g.epoch, got)
		}
	}
	if g.epoch > 100 {
		t.Fatalf("the epoch did not wrap: %d", g.epoch)
	}
}

// What is new costs the same in a long document as in a short one.
func BenchmarkGraphSince(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		var g Graph
		for i := range n {
			node := Node{Hash: testHash(i)}
			if i > 0 {
				node.Deps = []Hash{testHash(i - 1)}
			}
			g.Append(node)
		}
		g.MarkDurable(n)
		have := []Hash{testHash(n - 6)}
		b.Run(fmt.Sprintf("5 of %d", n), func(b *testing.B) {
			b.ReportAllocs()
			var since []int
			for b.Loop() {
				since = g.AppendSince(since[:0], have)
			}
			if len(since) != 5 {
				b.Fatal(since)
			}
		})
	}
}
