package server

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync/atomic"
	"time"

	"parley/crdt"
	"parley/server/store"
	"parley/sync/presence"
	"parley/sync/session"
)

// Tests change these.
var (
	// beatEvery is how often a server prolongs its lease, and looks for others.
	beatEvery = 2 * time.Second
	// leaseFor is how long a lease lasts: a server that does not prolong it in time is
	// taken for dead.
	leaseFor = 6 * time.Second
	// sealWithin is how long after its lease a server waits until it takes for certain
	// that nobody counts on it: who looked in the last moment is writing still, but not
	// for longer than that.
	sealWithin = store.SealWithin
)

// neighbours are the other servers of the same store that live, by their leases. It
// prolongs this one's.
type neighbours struct {
	srv  *Server
	wake chan struct{} // capacity 1: a beat is wanted now

	cut    atomic.Bool  // this one has no lease, and all others are silent to it
	unsure atomic.Int64 // until when the others may have to say again who is there, as Server.moment; 0: they need not
	// lease is this one's, as Store.Lease, once unsure and the documents are told of how it
	// began: who reads it first knows of that.
	lease atomic.Uint64

	// owned by who beats
	alive map[store.Node]struct{}
	good  time.Time // when the last beat began that was answered
	spare time.Time // until when nobody is silent, because the database has forgotten all
}

// begin takes the first lease.
func (n *neighbours) begin(ctx context.Context) error {
	n.good = time.Now()
	return n.beat(ctx)
}

// run beats until ctx ends.
func (n *neighbours) run(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-n.wake:
		}
		err := n.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !lost:
			n.srv.log.Warn("the lease is not prolonged: when it ends, other servers take this one for dead", "err", err)
		case err == nil && lost:
			n.srv.log.Info("the lease is prolonged again")
		}
		lost = err != nil
	}
}

// beat prolongs the lease and learns who else lives.
func (n *neighbours) beat(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, leaseFor/2)
	defer cancel()
	defer signal(n.srv.publisher.wake)
	b, err := n.srv.store.Beat(ctx, leaseFor)
	if err != nil {
		if began.Sub(n.good) > leaseFor {
			n.spare = time.Time{}
			n.look(nil, began)
			n.cut.Store(true)
		}
		return err
	}
	n.good = began
	n.cut.Store(false)
	if until := n.unsure.Load(); until != 0 && n.srv.moment() >= until {
		n.unsure.Store(0)
		signal(n.srv.nodes.compare) // what was spared
	}
	if b.Fresh && n.alive != nil || b.Forgotten {
		n.spare = began.Add(leaseFor) // the others' beats are to come
		n.unsure.Store(n.srv.moment() + int64(leaseFor))
		n.srv.docs.tellAll(&session.ForgottenInput{})
	}
	n.lease.Store(n.srv.store.Lease())
	n.look(b.Nodes, began)
	return nil
}

// look notes who lives, and tells the documents who does not any more.
func (n *neighbours) look(nodes []store.Node, now time.Time) {
	alive := make(map[store.Node]struct{}, len(nodes))
	for _, node := range nodes {
		alive[node] = struct{}{}
		if _, known := n.alive[node]; !known {
			signal(n.srv.nodes.compare) // also what was said while it was silent
		}
	}
	for node := range n.alive {
		switch _, lives := alive[node]; {
		case lives:
		case now.Before(n.spare):
			alive[node] = struct{}{}
		default:
			n.silence(node)
		}
	}
	n.alive = alive
	n.srv.others.Store(int64(len(alive)))
}

// areAll reports whether nobody lives but these, of whom the store was asked just now.
// Before this node knows that the database has forgotten, its own lease is not there.
func (n *neighbours) areAll(nodes []store.Living) bool {
	own := store.Living{Node: n.srv.store.Node(), Begun: n.lease.Load()}
	return slices.Contains(nodes, own) && n.srv.moment() >= n.unsure.Load()
}

func (n *neighbours) silence(node store.Node) {
	n.srv.log.Info("another server is not heard of any more", "node", hex.EncodeToString(node[:]))
	n.srv.docs.tellAll(&session.SilentInput{Node: presence.Node(node)})
}

// tell posts what other nodes say, or what is said of them, to a document that is in
// memory.
func (r *registry) tell(id crdt.DocumentID, in session.Input) {
	if d := r.pinIfOpen(id); d != nil {
		d.post(posted{own: in})
	}
}

func (r *registry) pinIfOpen(id crdt.DocumentID) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.docs[id]
	if d != nil {
		d.pins++
	}
	return d
}

// pinIfElsewhere returns a document that is in memory and goes by other rows than
// these, pinned, or nil.
func (r *registry) pinIfElsewhere(id crdt.DocumentID, rows uint64) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.docs[id]
	if d == nil || d.elsewhere.Load() == rows {
		return nil
	}
	d.pins++
	return d
}

// Presence implements [store.Follower].
func (n *nodes) Presence(p store.Presence, whole bool) {
	if whole {
		n.srv.docs.tell(p.Document, elsewhere(p))
	} else if d := n.srv.docs.pinIfOpen(p.Document); d != nil {
		d.post(posted{look: true})
	}
}

func elsewhere(p store.Presence) *session.ElsewhereInput {
	return &session.ElsewhereInput{Node: presence.Node(p.Node), Seq: p.Seq, Data: p.Data}
}

// maxRelayedWaiting is how much a document may have to do before messages from other
// servers are dropped.
const maxRelayedWaiting = 1024

// Relayed implements [store.Follower].
func (n *nodes) Relayed(m store.Relayed) {
	if len(m.Data) == 1 {
		if d := n.srv.docs.pinIfOpen(m.Document); d != nil {
			d.post(posted{yield: int(m.Data[0])})
		}
		return
	}
	d, busy := n.srv.docs.pinUnlessBusy(m.Document)
	switch {
	case busy:
		n.srv.counters.relayedDropped.Add(1)
	case d != nil:
		n.srv.counters.relayedReceived.Add(1)
		d.post(posted{own: &session.RelayedInput{Data: m.Data}})
	}
}

// pinUnlessBusy returns a document that is in memory, pinned, or nil; also if it is
// because it has too much to do.
func (r *registry) pinUnlessBusy(id crdt.DocumentID) (d *document, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d = r.docs[id]; d == nil {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.inbox) > maxRelayedWaiting {
		return nil, true
	}
	d.pins++
	return d, false
}

// comparePresence has open documents look again who is present on other nodes, if they
// go by anything but what is so.
func (n *nodes) comparePresence(ctx context.Context, ids []crdt.DocumentID) error {
	list, _, err := n.srv.store.Present(ctx, ids, true)
	if err != nil {
		return err
	}
	rows := make(map[crdt.DocumentID]uint64, len(ids))
	for _, p := range list {
		rows[p.Document] += rowSum(p.Node, p.Seq)
	}
	for _, id := range ids {
		if d := n.srv.docs.pinIfElsewhere(id, rows[id]); d != nil {
			d.post(posted{look: true})
		}
	}
	return nil
}

// rowSum makes a row a number, such that the sums of several are different if they
// are.
func rowSum(node store.Node, seq uint64) uint64 {
	x := binary.BigEndian.Uint64(node[:]) + seq*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // splitmix64
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// look reads who is present on other nodes, as of now.
func (d *document) look() {
	d.toLook = false
	if d.broken || !d.srv.store.Shared() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), newerWithin)
	defer cancel()
	list, nodes, err := d.srv.store.Present(ctx, []crdt.DocumentID{d.id}, false)
	if err != nil { // it is compared again
		d.srv.log.Debug("who is present on other servers is not known", "document", d.id, "err", err)
		return
	}
	gone, all := d.machine.Elsewhere(), d.srv.neighbours.areAll(nodes)
	for _, p := range list {
		delete(gone, presence.Node(p.Node))
		d.stepWith(elsewhere(p))
	}
	for node, seq := range gone {
		saysNothing := func(n store.Living) bool { return n.Node == store.Node(node) && n.Begun <= seq }
		if slices.ContainsFunc(nodes, saysNothing) {
			d.stepWith(&session.ElsewhereInput{Node: node}) // any more
		} else if all {
			d.stepWith(&session.SilentInput{Node: node}) // or it has not said all again yet
		}
	}
	d.noteElsewhere()
}

// hearOf takes what another node says, or what is said of it, or of this one.
func (d *document) hearOf(in session.Input) {
	switch in.(type) {
	case *session.ForgottenInput, *session.PublishedInput:
		if d.told {
			d.stepWith(in)
		}
	case *session.ElsewhereInput, *session.SilentInput:
		d.stepWith(in)
		d.noteElsewhere()
	default:
		d.stepWith(in)
	}
}

// stored is what a document has said that is stored, and how far it had come then.
type stored struct {
	n  uint64
	at store.Version
}

// takeStored tells the machine what is stored of what it published. Who sealed without
// knowing of it had done so by then: that is heard first.
func (d *document) takeStored(s *stored) {
	d.perform() // what it asks of the store counts
	if d.broken {
		return
	}
	d.stored = s
	d.tellStored()
	switch {
	case d.stored == nil:
	case d.inflight > 0:
		d.stale = true
	default:
		d.catchUp()
	}
}

// tellStored tells the machine what is stored, if the document has come as far here.
func (d *document) tellStored() {
	if s := d.stored; s != nil && !d.version().Lacks(s.at) {
		d.stored = nil
		d.stepWith(&session.PublishedInput{N: s.n})
	}
}

// noteElsewhere notes by which rows the document goes now.
func (d *document) noteElsewhere() {
	if d.broken {
		return
	}
	var sum uint64
	for node, seq := range d.machine.Elsewhere() {
		sum += rowSum(store.Node(node), seq)
	}
	d.elsewhere.Store(sum)
}

// relies is what a resolution relies on, for the store.
func relies(rows map[presence.Node]uint64) map[store.Node]uint64 {
	if rows == nil {
		return nil
	}
	of := make(map[store.Node]uint64, len(rows))
	for node, seq := range rows {
		of[store.Node(node)] = seq
	}
	return of
}
