package protocol_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"parley/crdt"
	"parley/sync/protocol"
)

// own is a replica around this package's machine: a relay that holds changes
// which come too early, refuses some, and takes its time to write to disk.
type own struct {
	t      *testing.T
	id     string
	rnd    *rand.Rand
	graph  crdt.Graph
	states map[int]*protocol.State

	held    map[crdt.Hash]crdt.Node
	refused map[refusal][]crdt.Hash // and what they depend on
	refuse  func(crdt.Node) bool    // nil: nothing
	// Messages whose changes are not durable yet, in order.
	pending []pendingMessage

	maxBytes  int
	readOnly  func(conn int) bool // connections whose changes are not taken
	snapshots bool
	snapshot  *crdt.Snapshot
	lateDisk  bool
	edits     uint64 // in this life
	lives     int
	canRead   bool // its changes are real, so that its document can be read
}

// refusal is per connection: what one peer may not write, another may, and the
// latter may be the only one to have it since a loss of data.
type refusal struct {
	conn int
	hash crdt.Hash
}

type pendingMessage struct {
	conn int
	msg  *protocol.Message
}

func newOwn(t *testing.T, id string, rnd *rand.Rand) *own {
	return &own{t: t, id: id, rnd: rnd, states: map[int]*protocol.State{}, held: map[crdt.Hash]crdt.Node{},
		refused: map[refusal][]crdt.Hash{}, readOnly: func(int) bool { return false }}
}

func (o *own) name() string { return o.id }

// edit makes a change without operations: nothing else can be made without an
// engine, and the protocol reads no operations.
func (o *own) edit(*rand.Rand) {
	o.commit()
	o.edits++
	n := makeNode(crdt.ActorID(fmt.Sprintf("%s-%03d", o.id, o.lives)), o.edits, o.graph.MaxOp()+1, o.graph.Heads())
	o.graph.Append(n)
	o.graph.MarkDurable(o.graph.Len())
}

func (o *own) connect(conn int, saved []byte) {
	s := new(protocol.State)
	if saved != nil {
		var err error
		if s, err = protocol.Restore(saved); err != nil {
			o.t.Fatal(err)
		}
	}
	o.states[conn] = s
}

func (o *own) disconnect(conn int) []byte {
	s := o.states[conn]
	delete(o.states, conn)
	o.pending = slices.DeleteFunc(o.pending, func(p pendingMessage) bool { return p.conn == conn })
	return s.Encode()
}

func (o *own) receive(conn int, b []byte) error {
	m, err := protocol.Decode(b, protocol.Limits{})
	if err != nil {
		return err
	}
	for _, chunk := range m.Changes {
		n, err := parseNode(chunk)
		if err != nil {
			return err
		}
		o.add(conn, n)
	}
	// What the machine keeps must not be part of the frame.
	o.pending = append(o.pending, pendingMessage{conn, m})
	if !o.lateDisk || o.rnd.IntN(3) == 0 {
		o.commit()
		clear(b)
	}
	return nil
}

func (o *own) add(conn int, n crdt.Node) {
	refused := func(h crdt.Hash) bool { return o.isRefused(conn, h) }
	switch {
	case o.graph.Accepted(n.Hash) || refused(n.Hash):
	case o.readOnly(conn) || o.refuse != nil && o.refuse(n) ||
		slices.ContainsFunc(n.Deps, refused):
		o.refused[refusal{conn, n.Hash}] = append([]crdt.Hash{}, n.Deps...)
		delete(o.held, n.Hash)
	case slices.ContainsFunc(n.Deps, func(d crdt.Hash) bool { return !o.graph.Accepted(d) }):
		o.held[n.Hash] = n
		return
	default:
		o.graph.Append(n)
		delete(o.held, n.Hash)
	}
	for _, h := range o.held {
		if slices.Contains(h.Deps, n.Hash) {
			o.add(conn, h)
		}
	}
}

// commit is the disk's answer: what was accepted is durable.
func (o *own) commit() {
	o.graph.MarkDurable(o.graph.Len())
	for _, p := range o.pending {
		o.states[p.conn].Receive(&o.graph, p.msg)
	}
	o.pending = nil
	if o.snapshots && o.graph.Len() > 0 && o.rnd.IntN(8) == 0 {
		snap, err := crdt.Compact(nil, o.chunks(), o.graph.Heads())
		if err != nil {
			o.t.Fatal(err)
		}
		o.snapshot = &snap
	}
}

func (o *own) chunks() [][]byte {
	chunks := make([][]byte, o.graph.Len())
	for i := range chunks {
		chunks[i] = o.graph.ChunkAt(i)
	}
	return chunks
}

func (o *own) generate(conn int) []byte {
	if len(o.pending) > 0 && o.rnd.IntN(2) == 0 {
		o.commit()
	}
	m, ok := o.states[conn].Generate(&o.graph, o.options(conn))
	if !ok && len(o.pending) > 0 {
		o.commit()
		m, ok = o.states[conn].Generate(&o.graph, o.options(conn))
	}
	if !ok {
		return nil
	}
	return m.Append(nil)
}

func (o *own) options(conn int) protocol.Options {
	return protocol.Options{
		Snapshot: o.snapshot,
		Refused:  func(h crdt.Hash) bool { return o.isRefused(conn, h) },
		Deps:     func(h crdt.Hash) []crdt.Hash { return o.depsOf(conn, h) },
		Held:     func(h crdt.Hash) bool { _, ok := o.held[h]; return ok },
		Missing:  o.missing(),
		ReadOnly: o.readOnly(conn),
		MaxBytes: o.maxBytes,
	}
}

func (o *own) isRefused(conn int, h crdt.Hash) bool {
	_, ok := o.refused[refusal{conn, h}]
	return ok
}

func (o *own) depsOf(conn int, h crdt.Hash) []crdt.Hash {
	if n, ok := o.held[h]; ok {
		return append([]crdt.Hash{}, n.Deps...)
	}
	return o.refused[refusal{conn, h}]
}

func (o *own) missing() []crdt.Hash {
	var missing []crdt.Hash
	for _, n := range o.held {
		missing = append(missing, n.Deps...)
	}
	return missing
}

func (o *own) lose(rnd *rand.Rand) {
	o.commit()
	old := o.graph
	o.graph = crdt.Graph{}
	for i := range rnd.IntN(old.Len() + 1) {
		o.graph.Append(old.At(i))
	}
	o.graph.MarkDurable(o.graph.Len())
	clear(o.held)
	clear(o.refused)
	o.snapshot = nil
	o.edits = 0
	o.lives++
}

func (o *own) heads() []crdt.Hash { return o.graph.Heads() }

func (o *own) has(hashes []crdt.Hash) bool { return len(o.graph.Missing(hashes)) == 0 }

func (o *own) json() string {
	if !o.canRead {
		return ""
	}
	b, err := crdt.Materialize(nil, o.chunks())
	if err != nil {
		o.t.Fatal(err)
	}
	return canonicalJSON(o.t, b)
}

var chunkMagic = []byte{0x85, 0x6f, 0x4a, 0x83}

// makeNode makes a change without operations.
func makeNode(actor crdt.ActorID, seq, startOp uint64, deps []crdt.Hash) crdt.Node {
	body := binary.AppendUvarint(nil, uint64(len(deps)))
	for _, d := range deps {
		body = append(body, d[:]...)
	}
	body = binary.AppendUvarint(body, uint64(len(actor)))
	body = append(body, actor...)
	body = binary.AppendUvarint(body, seq)
	body = binary.AppendUvarint(body, startOp)
	body = append(body, 0, 0, 0, 0) // time, message, other actors, columns
	hashed := append(binary.AppendUvarint([]byte{1}, uint64(len(body))), body...)
	hash := sha256.Sum256(hashed)
	chunk := slices.Concat(chunkMagic, hash[:4], hashed)
	return crdt.Node{Hash: hash, Deps: deps, Actor: actor, Seq: seq, MaxOp: startOp - 1, Chunk: chunk}
}

// parseNode checks a change as a server does.
func parseNode(chunk []byte) (crdt.Node, error) {
	c, err := crdt.DecodeChange(chunk, crdt.Limits{})
	if err != nil {
		return crdt.Node{}, err
	}
	return crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.Chunk()}, nil
}
