package crdt

import (
	"fmt"
	"slices"
)

// Graph is a document's changes and what each depends on. Changes stand in the
// order in which they were accepted, which is topological: whatever a change
// depends on has a lower index.
//
// A prefix of that order is durable. Peers may hear of nothing else, so Heads,
// Has, Missing and Since speak of the durable prefix only; the methods that
// look further say so ("accepted").
//
// The zero value is an empty graph. A Graph belongs to one goroutine: even its
// queries use scratch space of its own.
type Graph struct {
	nodes   []node
	links   []link
	deps    []int32 // of all nodes, one after the other: indices into nodes
	places  places
	actors  []actorState
	byActor map[ActorID]int32
	maxOp   uint64

	tips []int32 // without an accepted child

	durable   int
	headNodes []int32 // without a durable child
	heads     []Hash  // the hashes of headNodes, sorted; replaced, never modified

	epoch uint32 // marks of earlier walks are below it
}

// node is what a peer may ask of a change; link is what walks read, kept apart
// from it so that they read little memory.
type node struct {
	hash  Hash
	chunk []byte
	seq   uint64
	maxOp uint64
	actor int32
}

type link struct {
	depsEnd      int32  // its deps end here in Graph.deps and begin where the previous node's end
	mark         uint32 // colour in the walk of Graph.epoch
	child        bool   // some accepted change depends on it
	durableChild bool   // some durable change depends on it
}

type actorState struct {
	id  ActorID
	seq uint64
}

// Node is one change as the graph holds it.
type Node struct {
	Hash  Hash
	Deps  []Hash
	Actor ActorID
	Seq   uint64 // of the actor's changes, from 1
	MaxOp uint64 // counter of its last operation
	Chunk []byte // as received; not to be modified
}

// Append accepts a change. The caller has checked that it is new and that all
// it depends on was accepted before; Append panics otherwise. The graph keeps
// n.Chunk, but not n.Deps.
func (g *Graph) Append(n Node) {
	if g.Accepted(n.Hash) {
		panic(fmt.Sprintf("crdt: change %s appended twice", n.Hash))
	}
	i := int32(len(g.nodes))
	for _, dep := range n.Deps {
		d, ok := g.find(dep)
		if !ok {
			panic(fmt.Sprintf("crdt: change %s appended before %s, on which it depends", n.Hash, dep))
		}
		g.deps = append(g.deps, d)
	}
	g.nodes = append(g.nodes, node{
		hash: n.Hash, chunk: n.Chunk, seq: n.Seq, maxOp: n.MaxOp, actor: g.noteSeq(n.Actor, n.Seq),
	})
	g.places.add(g.nodes)
	g.links = append(g.links, link{depsEnd: int32(len(g.deps))})
	g.maxOp = max(g.maxOp, n.MaxOp)
	g.moveTips(i)
}

// noteSeq interns an actor and raises its highest sequence number.
func (g *Graph) noteSeq(a ActorID, seq uint64) int32 {
	i := g.intern(a)
	g.actors[i].seq = max(g.actors[i].seq, seq)
	return i
}

func (g *Graph) intern(a ActorID) int32 {
	i, ok := g.byActor[a]
	if !ok {
		if g.byActor == nil {
			g.byActor = make(map[ActorID]int32)
		}
		i = int32(len(g.actors))
		g.byActor[a] = i
		g.actors = append(g.actors, actorState{id: a})
	}
	return i
}

// moveTips makes node i a tip in the place of those that it depends on.
func (g *Graph) moveTips(i int32) {
	covered := false
	for _, d := range g.DepsOf(int(i)) {
		covered = covered || !g.links[d].child
		g.links[d].child = true
	}
	if covered {
		g.tips = slices.DeleteFunc(g.tips, func(t int32) bool { return g.links[t].child })
	}
	g.tips = append(g.tips, i)
}

// MarkDurable says that the first n accepted changes are on disk. n never
// falls.
func (g *Graph) MarkDurable(n int) {
	if n < g.durable || n > len(g.nodes) {
		panic(fmt.Sprintf("crdt: %d changes marked durable, of %d, after %d", n, len(g.nodes), g.durable))
	}
	if n == g.durable {
		return
	}
	for i := g.durable; i < n; i++ {
		for _, d := range g.DepsOf(i) {
			g.links[d].durableChild = true
		}
		g.headNodes = append(g.headNodes, int32(i))
	}
	g.durable = n
	g.headNodes = slices.DeleteFunc(g.headNodes, func(h int32) bool { return g.links[h].durableChild })
	g.heads = g.sortedHashes(g.headNodes)
}

func (g *Graph) sortedHashes(nodes []int32) []Hash {
	hs := make([]Hash, len(nodes))
	for i, n := range nodes {
		hs[i] = g.nodes[n].hash
	}
	slices.SortFunc(hs, Hash.Compare)
	return hs
}

// truncate drops the changes that are not durable.
func (g *Graph) truncate() {
	clear(g.nodes[g.durable:]) // their chunks
	g.nodes, g.links = g.nodes[:g.durable], g.links[:g.durable]
	g.places.make(0, g.nodes)
	g.deps, g.tips, g.maxOp = g.deps[:g.depsBegin(g.durable)], nil, 0
	for i := range g.links {
		g.links[i].child = g.links[i].durableChild
	}
	g.tips = append(g.tips, g.headNodes...)
	used := int32(0)
	for i := range g.actors {
		g.actors[i].seq = 0
	}
	for i := range g.nodes {
		n := &g.nodes[i]
		g.maxOp = max(g.maxOp, n.maxOp)
		g.actors[n.actor].seq = max(g.actors[n.actor].seq, n.seq)
		used = max(used, n.actor+1)
	}
	for _, a := range g.actors[used:] { // in the order in which they came
		delete(g.byActor, a.id)
	}
	g.actors = g.actors[:used]
}

// Len returns the number of accepted changes.
func (g *Graph) Len() int { return len(g.nodes) }

// Durable returns the number of durable changes.
func (g *Graph) Durable() int { return g.durable }

// Heads returns the durable changes on which no durable change depends,
// sorted. The slice stays as it is when the graph grows; it is not to be
// modified.
func (g *Graph) Heads() []Hash { return g.heads }

// Tips returns the accepted changes on which no accepted change depends,
// sorted.
func (g *Graph) Tips() []Hash { return g.sortedHashes(g.tips) }

// Has says whether h is durable.
func (g *Graph) Has(h Hash) bool {
	i, ok := g.find(h)
	return ok && int(i) < g.durable
}

// Accepted says whether h was accepted: it is durable, or waits to be.
func (g *Graph) Accepted(h Hash) bool {
	_, ok := g.find(h)
	return ok
}

// find returns the index of an accepted change.
func (g *Graph) find(h Hash) (i int32, ok bool) { return g.places.find(g.nodes, h) }

// must returns the index of a change that was accepted.
func (g *Graph) must(h Hash) int32 {
	i, ok := g.find(h)
	if !ok {
		panic(fmt.Sprintf("crdt: change %s was not accepted", h))
	}
	return i
}

// Index returns where an accepted change stands in the order of acceptance.
func (g *Graph) Index(h Hash) (int, bool) {
	i, ok := g.find(h)
	return int(i), ok
}

// At returns accepted change i. It allocates for the Deps; the protocol reads
// HashAt, ChunkAt and DepsOf instead.
func (g *Graph) At(i int) Node {
	n := &g.nodes[i]
	deps := g.DepsOf(i)
	hs := make([]Hash, len(deps))
	for j, d := range deps {
		hs[j] = g.nodes[d].hash
	}
	return Node{Hash: n.hash, Deps: hs, Actor: g.actors[n.actor].id, Seq: n.seq, MaxOp: n.maxOp, Chunk: n.chunk}
}

// HashAt returns the hash of accepted change i.
func (g *Graph) HashAt(i int) Hash { return g.nodes[i].hash }

// ChunkAt returns the bytes of accepted change i, not to be modified.
func (g *Graph) ChunkAt(i int) []byte { return g.nodes[i].chunk }

// hasTip reports whether one of hs, which are all accepted, has no child yet.
func (g *Graph) hasTip(hs []Hash) bool {
	return slices.ContainsFunc(hs, func(h Hash) bool { return !g.links[g.must(h)].child })
}

// ActorAt returns who made accepted change i.
func (g *Graph) ActorAt(i int) ActorID { return g.actors[g.nodes[i].actor].id }

// DepsOf returns the indices of what accepted change i depends on, in the
// order of its chunk. The slice is not to be modified.
func (g *Graph) DepsOf(i int) []int32 {
	return g.deps[g.depsBegin(i):g.links[i].depsEnd]
}

// depsBegin is where those of change i begin in deps.
func (g *Graph) depsBegin(i int) int32 {
	if i == 0 {
		return 0
	}
	return g.links[i-1].depsEnd
}

// Seq returns the highest accepted sequence number of an actor, 0 if it has no
// change here.
func (g *Graph) Seq(a ActorID) uint64 {
	i, ok := g.byActor[a]
	if !ok {
		return 0
	}
	return g.actors[i].seq
}

// MaxOp returns the highest operation counter of all accepted changes, 0 if
// there are none.
func (g *Graph) MaxOp() uint64 { return g.maxOp }

// MaxOpOf returns the highest operation counter among the given changes, which
// is that of all their ancestors too, since counters rise along dependencies.
// Hashes that were not accepted are ignored.
func (g *Graph) MaxOpOf(hs []Hash) uint64 {
	var highest uint64
	for _, h := range hs {
		if i, ok := g.find(h); ok {
			highest = max(highest, g.nodes[i].maxOp)
		}
	}
	return highest
}

// Missing returns those of hs that are not durable, in their order; nil if
// there are none.
func (g *Graph) Missing(hs []Hash) []Hash {
	var missing []Hash
	for _, h := range hs {
		if !g.Has(h) {
			missing = append(missing, h)
		}
	}
	return missing
}
