package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"parley/crdt"
	"parley/sync/session"
	"parley/sync/wire"
)

// registry holds the documents that are in memory.
type registry struct {
	srv *Server

	mu   sync.Mutex
	docs map[crdt.DocumentID]*document

	opened, evicted, failed uint64 // documents, since the start
}

// open returns the document, pinned for one connection.
func (r *registry) open(id crdt.DocumentID) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.docs[id]
	if !ok {
		d = &document{srv: r.srv, id: id, conns: make(map[session.ConnID]*conn)}
		r.docs[id] = d
		r.opened++
	}
	d.pins++
	return d
}

// pin keeps a document that the caller knows to be in memory.
func (r *registry) pin(d *document) {
	r.mu.Lock()
	d.pins++
	r.mu.Unlock()
}

// release gives pins back. With evict, the document leaves memory if nobody has
// pinned it meanwhile.
func (r *registry) release(d *document, pins int, evict bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.pins -= pins
	if d.pins > 0 {
		return
	}
	d.idleSince = d.now
	if evict && r.docs[d.id] == d {
		delete(r.docs, d.id)
		r.evicted++
	}
}

// forget makes later connections load the document afresh.
func (r *registry) forget(d *document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.docs[d.id] == d {
		delete(r.docs, d.id)
		r.failed++
	}
}

// sweep evicts documents that nobody has needed since idle, and lets those rest in
// which nothing has happened since quiet. It returns how many there were. A document
// whose snapshot is due stays until it was made, and one whose people may come
// back until they have left.
func (r *registry) sweep(idle time.Time, quiet int64) int {
	r.mu.Lock()
	var evict, rest []*document
	for _, d := range r.docs {
		stepped := d.stepped.Load()
		switch {
		case d.pins == 0 && d.idleSince.Before(idle):
			evict = append(evict, d)
		case stepped != 0 && stepped < quiet:
			d.stepped.Store(0)
			rest = append(rest, d)
		default:
			continue
		}
		d.pins++ // while its goroutine decides
	}
	r.mu.Unlock()
	for _, d := range evict {
		d.post(posted{idle: true})
	}
	for _, d := range rest {
		d.post(posted{rest: true})
	}
	return len(evict) + len(rest)
}

// tellAll posts to all documents what no client says.
func (r *registry) tellAll(in session.Input) {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.docs))
	for _, d := range all {
		d.pins++
	}
	r.mu.Unlock()
	for _, d := range all {
		d.post(posted{own: in})
	}
}

// postIfOpen posts to a document that is in memory still. The caller need not
// hold a pin; handling p gives one back.
func (r *registry) postIfOpen(d *document, p posted) {
	r.mu.Lock()
	open := r.docs[d.id] == d
	if open {
		d.pins++
	}
	r.mu.Unlock()
	if open {
		d.post(p)
	}
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.docs)
}

// counts returns how many documents are in memory, and how many have come and gone.
func (r *registry) counts() (open int, opened, evicted, failed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.docs), r.opened, r.evicted, r.failed
}

// peers holds the connections, and which of them speaks for a peer id.
type peers struct {
	mu    sync.Mutex
	conns map[session.ConnID]*conn
	byID  map[wire.PeerID]*conn
	past  past
}

func (p *peers) add(c *conn) {
	p.mu.Lock()
	p.conns[c.id] = c
	p.past.accepted++
	p.mu.Unlock()
}

// join makes c the connection of a peer id. An older one of the same user is most
// likely the dead half of a link that its client gave up long ago. It reports
// false if the peer id is on a connection of another user: who knows a peer id
// must not be able to end its connection.
func (p *peers) join(c *conn, id wire.PeerID) bool {
	p.mu.Lock()
	older := p.byID[id]
	if older != nil && older.who.User != c.who.User {
		p.mu.Unlock()
		return false
	}
	p.byID[id] = c
	p.mu.Unlock()
	if older != nil {
		older.end(session.Close{Code: session.CloseReplaced, Reason: "this peer id has joined on a newer connection"})
	}
	return true
}

// remove takes out a connection of which nothing runs any more.
func (p *peers) remove(c *conn, why endReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c.id)
	p.past.ended[why]++
	p.past.take(c)
	if id := c.machine.Peer().ID; p.byID[id] == c {
		delete(p.byID, id)
	}
}

func (p *peers) all() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list()
}

// look returns who is here, and what has been of all others.
func (p *peers) look() ([]*conn, *past) {
	p.mu.Lock()
	defer p.mu.Unlock()
	past := &past{accepted: p.past.accepted, ended: p.past.ended, dropped: p.past.dropped}
	past.traffic.in.add(&p.past.traffic.in)
	past.traffic.out.add(&p.past.traffic.out)
	return p.list(), past
}

func (p *peers) list() []*conn {
	cs := make([]*conn, 0, len(p.conns))
	for _, c := range p.conns {
		cs = append(cs, c)
	}
	return cs
}
