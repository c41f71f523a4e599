package crdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// indexVersion is the first byte of an index. What has another is not read: an
// index can always be made again from the changes.
const indexVersion = 1

// errIndex is of an index that is not one of the changes that it came with.
var errIndex = errors.New("crdt: the index is not of these changes")

// AppendIndex appends to dst what [Document.LoadIndexed] needs to know of the
// durable changes, besides their hashes and chunks, so that it need not read
// them: a byte for the version; the number of changes, their bytes and their
// operations; the actors; and of each change its dependencies as distances, its
// actor, sequence number and highest operation. All numbers are unsigned LEB128.
func (d *Document) AppendIndex(dst []byte) []byte {
	g := &d.Graph
	bytes, ops, actors := d.bytes, d.ops, int32(0)
	for i := g.durable; i < len(g.nodes); i++ {
		size, numOps := sizeOf(g.ChunkAt(i))
		bytes, ops = bytes-size, ops-numOps
	}
	for i := range g.durable {
		actors = max(actors, g.nodes[i].actor+1)
	}
	dst = append(dst, indexVersion)
	dst = binary.AppendUvarint(dst, uint64(g.durable))
	dst = binary.AppendUvarint(dst, uint64(bytes))
	dst = binary.AppendUvarint(dst, uint64(ops))
	dst = binary.AppendUvarint(dst, uint64(actors))
	for _, a := range g.actors[:actors] { // in the order in which they came
		dst = binary.AppendUvarint(dst, uint64(len(a.id)))
		dst = append(dst, a.id...)
	}
	for i := range g.durable {
		n, deps := &g.nodes[i], g.DepsOf(i)
		dst = binary.AppendUvarint(dst, uint64(len(deps)))
		for _, dep := range deps {
			dst = binary.AppendUvarint(dst, uint64(i-int(dep)))
		}
		dst = binary.AppendUvarint(dst, uint64(n.actor))
		dst = binary.AppendUvarint(dst, n.seq)
		dst = binary.AppendUvarint(dst, n.maxOp)
	}
	return dst
}

// LoadIndexed fills an empty document with changes and what [Document.AppendIndex]
// said of them, both from a store that vouches for them: what is checked is that
// they belong together, not what the changes say. All are durable. The document
// keeps the chunks. After an error it is as it was.
func (d *Document) LoadIndexed(index []byte, hashes []Hash, chunks [][]byte) error {
	r := indexReader{rest: index}
	g := Graph{byActor: make(map[ActorID]int32)}
	if r.byte() != indexVersion {
		return errIndex
	}
	count, bytes, ops := r.number(math.MaxInt32), r.number(math.MaxInt), r.number(math.MaxInt)
	if count != uint64(len(hashes)) || count != uint64(len(chunks)) {
		return errIndex
	}
	for range r.number(count) {
		g.intern(ActorID(r.bytes(maxIndexedActor)))
	}
	g.nodes, g.links = make([]node, 0, count), make([]link, 0, count)
	g.places.make(int(count), nil)
	for i := range hashes {
		for range r.number(uint64(i)) {
			distance := r.number(uint64(i))
			if distance == 0 {
				return errIndex
			}
			g.deps = append(g.deps, int32(i)-int32(distance))
		}
		actor, seq, maxOp := r.number(uint64(len(g.actors))), r.number(math.MaxUint64), r.number(math.MaxUint64)
		if r.broken || actor >= uint64(len(g.actors)) {
			return errIndex
		}
		if g.Accepted(hashes[i]) {
			return fmt.Errorf("%w: a change is in it twice", errIndex)
		}
		g.restore(node{hash: hashes[i], chunk: chunks[i], seq: seq, maxOp: maxOp, actor: int32(actor)})
	}
	if r.broken || len(r.rest) > 0 {
		return errIndex
	}
	g.settle()
	d.Graph, d.bytes, d.ops = g, int(bytes), int(ops)
	return nil
}

// maxIndexedActor is longer than any actor id that passes the gate.
const maxIndexedActor = 1 << 10

// restore appends a node whose dependencies stand at the end of deps already.
func (g *Graph) restore(n node) {
	i := int32(len(g.nodes))
	g.nodes = append(g.nodes, n)
	g.places.add(g.nodes)
	g.links = append(g.links, link{depsEnd: int32(len(g.deps))})
	for _, d := range g.DepsOf(int(i)) {
		g.links[d].child, g.links[d].durableChild = true, true
	}
	g.actors[n.actor].seq = max(g.actors[n.actor].seq, n.seq)
	g.maxOp = max(g.maxOp, n.maxOp)
}

// settle makes everything that was restored durable.
func (g *Graph) settle() {
	for i := range g.links {
		if !g.links[i].child {
			g.tips = append(g.tips, int32(i))
		}
	}
	g.durable = len(g.nodes)
	g.headNodes = append(g.headNodes, g.tips...)
	g.heads = g.sortedHashes(g.headNodes)
}

// indexReader reads numbers until something is wrong; then it reads zeros.
type indexReader struct {
	rest   []byte
	broken bool
}

func (r *indexReader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit {
		r.broken, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *indexReader) byte() byte {
	b := r.bytesOf(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (r *indexReader) bytes(limit uint64) []byte { return r.bytesOf(r.number(limit)) }

func (r *indexReader) bytesOf(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.broken, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
