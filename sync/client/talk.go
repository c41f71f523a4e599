package client

import (
	"slices"

	"parley/crdt"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// maxHeld is how many changes may wait for others that the server has not sent.
const maxHeld = 10_000

// talk is one connection's conversation about the document: the sync state, and
// what came and cannot be used yet.
type talk struct {
	server  wire.PeerID
	state   *protocol.State
	last    *protocol.Message // what the server last said of itself; nil before it spoke
	held    []*crdt.Change
	refused map[crdt.Hash]struct{}
	broken  bool // it must end: what was received in it is lost
}

// newTalk begins a conversation with a server of which we know that it had the
// heads known.
func newTalk(server wire.PeerID, known []crdt.Hash) *talk {
	return &talk{
		server: server, refused: make(map[crdt.Hash]struct{}),
		state: &protocol.State{SharedHeads: slices.Clone(known)},
	}
}

// receive takes note of what the server says of itself.
func (t *talk) receive(g *crdt.Graph, m *protocol.Message) {
	t.state.Receive(g, m)
	t.last = m
}

// restart goes on with another graph, in which what the server refused is not:
// we know what the server has, and it is told what we have.
func (t *talk) restart(g *crdt.Graph, known []crdt.Hash) {
	t.state = &protocol.State{SharedHeads: slices.Clone(known)}
	if t.last == nil {
		return
	}
	t.state.Receive(g, &protocol.Message{
		Version: protocol.V1, Heads: t.last.Heads, Have: []protocol.Have{{LastSync: t.last.Heads}},
	})
}

// next returns the sync message that the server should have now, nil if there
// is nothing to say.
func (t *talk) next(g *crdt.Graph) []byte {
	m, ok := t.state.Generate(g, protocol.Options{
		Refused: func(h crdt.Hash) bool { _, ok := t.refused[h]; return ok },
		Held: func(h crdt.Hash) bool {
			return slices.ContainsFunc(t.held, func(c *crdt.Change) bool { return c.Hash == h })
		},
		Missing: t.missing(g),
	})
	if !ok {
		return nil
	}
	return m.Append(nil)
}

// missing returns what held changes wait for and nobody is holding.
func (t *talk) missing(g *crdt.Graph) []crdt.Hash {
	var hs []crdt.Hash
	for _, c := range t.held {
		for _, dep := range c.Deps {
			here := g.Accepted(dep) || slices.ContainsFunc(t.held, func(c *crdt.Change) bool { return c.Hash == dep })
			if !here {
				hs = append(hs, dep)
			}
		}
	}
	return crdt.SortHashes(hs)
}

// current says whether we have all that the server last said it has.
func (t *talk) current(g *crdt.Graph) bool {
	return t.last != nil && len(g.Missing(t.last.Heads)) == 0
}
