package protocol_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"parley/crdt"
	"parley/sync/protocol"
)

// exchange lets a server and its peers talk until all are silent, as
// automerge-repo makes them: peers speak first, a server when it has heard
// something. It returns the number of messages and their bytes, up and down.
type exchange struct {
	t      *testing.T
	server *own
	peers  []replica // peer i is on the server's connection i
	heard  []bool

	up, down, upBytes, downBytes int
	last                         *protocol.Message // from the server
}

func newExchange(t *testing.T, peers ...replica) *exchange {
	e := &exchange{t: t, server: newOwn(t, "server", rand.New(rand.NewPCG(1, 1)))}
	for _, p := range peers {
		e.join(p)
	}
	return e
}

func (e *exchange) join(p replica) {
	i := len(e.peers)
	e.peers = append(e.peers, p)
	e.heard = append(e.heard, false)
	e.server.connect(i, nil)
	p.connect(i, nil)
}

func (e *exchange) run() {
	e.t.Helper()
	e.up, e.down, e.upBytes, e.downBytes = 0, 0, 0, 0
	for again := true; again; {
		again = false
		for i, p := range e.peers {
			if msg := p.generate(i); msg != nil {
				again = true
				e.heard[i] = true
				e.up++
				e.upBytes += len(msg)
				e.check(e.server.receive(i, msg))
			}
		}
		for i, p := range e.peers {
			if msg := e.fromServer(i); msg != nil {
				again = true
				e.down++
				e.downBytes += len(msg)
				e.check(p.receive(i, msg))
			}
		}
		if e.up+e.down > 20*len(e.peers) {
			e.t.Fatalf("still talking after %d messages up, %d down", e.up, e.down)
		}
	}
}

func (e *exchange) fromServer(i int) []byte {
	if !e.heard[i] {
		return nil
	}
	msg := e.server.generate(i)
	if msg != nil {
		var err error
		e.last, err = protocol.Decode(msg, anyMessage)
		e.check(err)
	}
	return msg
}

func (e *exchange) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *exchange) same() {
	e.t.Helper()
	for i, p := range e.peers {
		if got := p.heads(); !slices.Equal(got, e.server.heads()) {
			e.t.Fatalf("peer %d has heads %v, the server %v", i, short(got), short(e.server.heads()))
		}
	}
}

func (e *exchange) compact() {
	e.t.Helper()
	snap, err := crdt.Compact(nil, e.server.chunks(), e.server.heads())
	e.check(err)
	e.server.snapshot = &snap
}

// A change costs one message up, its acknowledgement, and a message and an
// acknowledgement for every other peer. Nothing else is said.
func TestOneChangeToJavaScriptPeers(t *testing.T) {
	js := startJS(t)
	author, a, b := js.newPeer(1), js.newPeer(2), js.newPeer(3)
	e := newExchange(t, author, a, b)
	author.edit(e.server.rnd)
	e.run()
	e.same()
	for range 5 {
		author.edit(e.server.rnd)
		e.run()
		e.same()
		if e.up != 3 || e.down != 3 {
			t.Errorf("%d messages up, %d down; want 3, 3", e.up, e.down)
		}
	}
}

// A new peer gets a long document as a snapshot and the changes since, in one
// message; one that returns gets nothing.
func TestColdJavaScriptPeer(t *testing.T) {
	js := startJS(t)
	author := js.newPeer(1)
	e := newExchange(t, author)
	js.must(jsCommand{Op: "edits", ID: author.id, Seed: 500})
	e.run()
	e.compact()
	author.edit(e.server.rnd)
	e.run()
	e.same()

	e.join(js.newPeer(2))
	e.run()
	e.same()
	if e.up != 2 || e.down != 1 || e.last.Version != protocol.V2 || e.downBytes > 6_000 {
		t.Errorf("%d messages up, %d down of version %x with %d bytes; want 2, 1 of version %x with some 3,000", e.up, e.down, e.last.Version, e.downBytes, protocol.V2)
	}

	saved := e.peers[1].disconnect(1)
	e.server.connect(1, nil)
	e.peers[1].connect(1, saved)
	e.run()
	if e.up != 1 || e.down != 1 || e.upBytes+e.downBytes > 200 {
		t.Errorf("a peer that returns: %d messages up, %d down, %d bytes; want 1, 1, some 150", e.up, e.down, e.upBytes+e.downBytes)
	}

	e.join(newOldPeer(t, 3))
	e.run()
	e.same()
	if e.last.Version != protocol.V1 {
		t.Error("an old peer was sent V2")
	}
}

// A JavaScript peer that takes no changes says so and is sent none; when it
// does take them, it gets all.
func TestJavaScriptPublisher(t *testing.T) {
	js := startJS(t)
	publisher, other := js.newPeer(1), js.newPeer(2)
	publisher.readOnly = true
	e := newExchange(t, publisher, other)
	for range 5 {
		publisher.edit(e.server.rnd)
		other.edit(e.server.rnd)
		e.run()
	}
	if !slices.Equal(other.heads(), e.server.heads()) || !other.has(publisher.heads()) {
		t.Errorf("published %v, the server has %v, the other %v", short(publisher.heads()), short(e.server.heads()), short(other.heads()))
	}
	if publisher.has(other.heads()) {
		t.Error("the publisher took changes")
	}
	publisher.readOnly = false
	saved := publisher.disconnect(0)
	e.server.connect(0, nil)
	publisher.connect(0, saved)
	e.run()
	e.same()
}

// The exchange that never ends with Automerge's own decisions: a peer whose
// changes are dropped while it is answered normally.
func TestDroppedChangesEndInSilence(t *testing.T) {
	js := startJS(t)
	for name, p := range map[string]replica{"JavaScript": js.newPeer(1), "old": newOldPeer(t, 1)} {
		t.Run(name, func(t *testing.T) {
			e := newExchange(t, p)
			other := newOldPeer(t, 2)
			e.join(other)
			e.run()
			e.server.refuse = func(n crdt.Node) bool { return n.Actor != crdt.ActorID(mustHex(other.doc.ActorID())) }
			for range 10 {
				p.edit(e.server.rnd)
				e.run()
				if e.up+e.down > 4 {
					t.Errorf("%d messages up, %d down for a change that is refused", e.up, e.down)
				}
				other.edit(e.server.rnd)
				e.run()
				if !p.has(e.server.heads()) {
					t.Error("a peer with refused changes does not get those of others")
				}
			}
		})
	}
}
