package protocol_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"parley/crdt"
)

// replica is one copy of the document and its side of all its connections.
type replica interface {
	name() string
	// edit makes one change.
	edit(rnd *rand.Rand)
	// connect begins a connection; saved, if not nil, is what an earlier one to
	// the same peer left.
	connect(conn int, saved []byte)
	// disconnect ends it and returns what is worth keeping.
	disconnect(conn int) []byte
	receive(conn int, msg []byte) error
	// generate returns nil if nothing is to be sent.
	generate(conn int) []byte
	// lose forgets all but the first changes, as if its disk were restored to
	// an earlier day. It is not connected.
	lose(rnd *rand.Rand)
	heads() []crdt.Hash
	has(hashes []crdt.Hash) bool
	// json returns the content, "" if this replica cannot read its document.
	json() string
}

// network is a set of replicas, the connections between them, and the messages
// on their way. Messages on a connection are neither lost nor reordered; a
// connection that ends takes its messages along.
type network struct {
	t        *testing.T
	rnd      *rand.Rand
	replicas []replica
	links    []*simLink
	losses   bool // now and then a replica loses its newest changes
	messages int
	trace    []string

	onSend, onDeliver func(conn int, msg []byte) // conn is the sender's, the receiver's
}

type simLink struct {
	ends   [2]int
	conn   [2]int // names of the connection at either end, never used again
	up     bool
	queues [2][][]byte // to ends[0], to ends[1]
	saved  [2][]byte
	mangle float64 // share of messages whose Bloom filters are made useless
}

func newNetwork(t *testing.T, seed uint64) *network {
	nothing := func(int, []byte) {}
	return &network{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), onSend: nothing, onDeliver: nothing}
}

func (n *network) add(r replica) int {
	n.replicas = append(n.replicas, r)
	return len(n.replicas) - 1
}

func (n *network) link(a, b int) *simLink {
	l := &simLink{ends: [2]int{a, b}, conn: [2]int{2 * len(n.links), 2*len(n.links) + 1}}
	n.links = append(n.links, l)
	return l
}

func (n *network) note(format string, args ...any) {
	n.trace = append(n.trace, fmt.Sprintf(format, args...))
}

func (n *network) fatal(format string, args ...any) {
	n.t.Helper()
	from := max(0, len(n.trace)-60)
	for _, line := range n.trace[from:] {
		n.t.Log(line)
	}
	n.t.Fatalf(format, args...)
}

func (n *network) open(l *simLink) {
	for side, r := range l.ends {
		saved := l.saved[side]
		if n.rnd.IntN(2) == 0 { // this side kept nothing
			saved = nil
		}
		l.conn[side] += 2 * len(n.links)
		n.replicas[r].connect(l.conn[side], saved)
	}
	l.up = true
	n.note("connect %s - %s", n.replicas[l.ends[0]].name(), n.replicas[l.ends[1]].name())
}

func (n *network) close(l *simLink) {
	for side, r := range l.ends {
		l.saved[side] = n.replicas[r].disconnect(l.conn[side])
		l.queues[side] = nil
	}
	l.up = false
	n.note("lost    %s - %s", n.replicas[l.ends[0]].name(), n.replicas[l.ends[1]].name())
}

// send lets one side of a link speak, if it has something to say.
func (n *network) send(l *simLink, side int) bool {
	msg := n.replicas[l.ends[side]].generate(l.conn[side])
	if msg == nil {
		return false
	}
	n.messages++
	n.note("%4d    %s -> %s: %s", n.messages, n.replicas[l.ends[side]].name(), n.replicas[l.ends[1-side]].name(), describe(msg))
	n.onSend(l.conn[side], msg)
	if n.rnd.Float64() < l.mangle {
		msg = saturateBlooms(msg)
	}
	l.queues[1-side] = append(l.queues[1-side], msg)
	return true
}

// deliver hands over the oldest message to one side of a link, if there is one.
func (n *network) deliver(l *simLink, side int) bool {
	if len(l.queues[side]) == 0 {
		return false
	}
	msg := l.queues[side][0]
	l.queues[side] = l.queues[side][1:]
	n.onDeliver(l.conn[side], msg)
	if err := n.replicas[l.ends[side]].receive(l.conn[side], msg); err != nil {
		n.fatal("%s receives %s: %v", n.replicas[l.ends[side]].name(), describe(msg), err)
	}
	return true
}

// live runs random events.
func (n *network) live(events int) {
	for range events {
		l := n.links[n.rnd.IntN(len(n.links))]
		side := n.rnd.IntN(2)
		switch what := n.rnd.IntN(100); {
		case what < 15:
			r := n.replicas[n.rnd.IntN(len(n.replicas))]
			n.note("edit    %s", r.name())
			r.edit(n.rnd)
		case what == 15 && n.losses:
			n.lose(n.rnd.IntN(len(n.replicas)))
		case what < 18 && l.up:
			n.close(l)
		case !l.up:
			if what < 40 {
				n.open(l)
			}
		case what < 55:
			n.send(l, side)
		default:
			n.deliver(l, side)
		}
	}
}

func (n *network) lose(i int) {
	for _, l := range n.links {
		if l.up && slices.Contains(l.ends[:], i) {
			n.close(l)
		}
	}
	n.note("data lost at %s", n.replicas[i].name())
	n.replicas[i].lose(n.rnd)
}

// settle connects everybody and lets all speak until nobody has anything to
// say. It fails if that takes more than so many messages per link.
func (n *network) settle(perLink int) {
	before := n.messages
	for _, l := range n.links {
		if !l.up {
			n.open(l)
		}
	}
	for again := true; again; {
		again = false
		for _, i := range n.rnd.Perm(2 * len(n.links)) {
			l, side := n.links[i/2], i%2
			again = n.deliver(l, side) || again
			again = n.send(l, side) || again
		}
		if n.messages-before > perLink*len(n.links) {
			n.fatal("still talking after %d messages on %d links", n.messages-before, len(n.links))
		}
	}
}

// converged checks that all replicas have the same document.
func (n *network) converged() {
	n.t.Helper()
	want := n.replicas[0].heads()
	json := ""
	for _, r := range n.replicas {
		if got := r.heads(); !slices.Equal(got, want) {
			n.fatal("%s has heads %v, %s has %v", r.name(), short(got), n.replicas[0].name(), short(want))
		}
		got := r.json()
		if json == "" {
			json = got
		}
		if got != "" && got != json {
			n.fatal("%s reads %s, others %s", r.name(), got, json)
		}
	}
}

func short(hs []crdt.Hash) []string {
	var s []string
	for _, h := range hs {
		s = append(s, h.String()[:6])
	}
	return s
}
