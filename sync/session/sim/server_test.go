package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// idleAfter is how long a document that nobody needs stays in memory.
const idleAfter = time.Second

// server is the shell of package server around the machines, cut into steps so that
// they can come in any order: a connection's reader and writer, a document's
// goroutine, the committer.
type server struct {
	w          *world
	connConfig session.ConnConfig
	docConfig  session.DocumentConfig
	docs       map[crdt.DocumentID]*document // in memory, for those who come now
	dropped    []*document                   // not for those, but not yet done
	conns      map[session.ConnID]*conn
	byPeer     map[wire.PeerID]*conn
}

func newServer(w *world) *server {
	return &server{
		w:          w,
		connConfig: session.ConnConfig{Self: serverID, Storage: serverStore, Limits: limits},
		docConfig: session.DocumentConfig{
			Self: serverID, Storage: serverStore, PlainDocuments: true, Limits: limits,
			Presence: presence.Config{Grace: w.plan.grace},
		},
		docs:   make(map[crdt.DocumentID]*document),
		conns:  make(map[session.ConnID]*conn),
		byPeer: make(map[wire.PeerID]*conn),
	}
}

// documents returns all of which something may still be to be done, in an order
// that is always the same.
func (s *server) documents() []*document {
	s.dropped = slices.DeleteFunc(s.dropped, func(d *document) bool { return d.pins == 0 && len(d.inbox) == 0 })
	docs := make([]*document, 0, len(s.docs)+len(s.dropped))
	for i := range s.w.plan.topics {
		if d, ok := s.docs[s.w.plan.topics[i].id]; ok {
			docs = append(docs, d)
		}
	}
	return append(docs, s.dropped...)
}

// list returns the connections in the order in which they came.
func (s *server) list() []*conn {
	return slices.SortedFunc(maps.Values(s.conns), func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
}

// open returns a document, pinned once.
func (s *server) open(id crdt.DocumentID) *document {
	d, ok := s.docs[id]
	if !ok {
		d = newDocument(s, id)
		s.docs[id] = d
	}
	d.pins++
	return d
}

// postIfOpen posts to a document that is in memory still.
func (s *server) postIfOpen(d *document, p posted) {
	if s.docs[d.id] == d {
		d.pins++
		d.post(p)
	}
}

// forget makes later connections load a document afresh.
func (s *server) forget(d *document) {
	if s.docs[d.id] == d {
		delete(s.docs, d.id)
		s.dropped = append(s.dropped, d)
	}
}

// release gives pins back. With evict, the document leaves memory if nobody has
// pinned it meanwhile.
func (s *server) release(d *document, pins int, evict bool) {
	d.pins -= pins
	s.w.must(d.pins >= 0, "pins", "%s has %d", d.topic.name, d.pins)
	if d.pins > 0 {
		return
	}
	d.idleSince = s.w.now
	if evict && s.docs[d.id] == d {
		s.w.trace.say("%s leaves memory", d.topic.name)
		delete(s.docs, d.id)
	}
}

// sweep lets documents go that nobody needs.
func (s *server) sweep() {
	for _, d := range s.documents() {
		if d.pins == 0 && s.docs[d.id] == d && s.w.now.Sub(d.idleSince) >= idleAfter {
			d.pins++
			d.post(posted{idle: true})
		}
	}
}

// accept begins a connection.
func (s *server) accept(l *link, who presence.Person) {
	s.w.names++
	c := &conn{srv: s, id: session.ConnID(s.w.names), link: l, who: who, open: make(map[crdt.DocumentID]*document)}
	c.machine = session.NewConn(c.id, who, &s.connConfig)
	l.conn = c
	s.conns[c.id] = c
}

// join makes c the connection of its peer id.
func (s *server) join(c *conn, ev session.Joined) bool {
	older := s.byPeer[ev.Peer.ID]
	if older != nil && older.who.User != c.who.User {
		return false
	}
	s.byPeer[ev.Peer.ID] = c
	if older != nil {
		older.end(session.Close{Code: session.CloseReplaced, Reason: "joined on a newer connection"})
	}
	c.reply(ev.Reply)
	return true
}

// beat pings everybody, and drops those who have not answered the last ping and
// have not moved a byte since.
func (s *server) beat() {
	for _, c := range s.list() {
		switch {
		case c.pinged && !c.ponged && c.moved == c.movedThen:
			s.w.trace.say("conn %d of %s is silent", c.id, c.link.client)
			c.leave()
		case c.pinged && !c.ponged:
			c.movedThen = c.moved
		default:
			c.pinged, c.ponged, c.movedThen = true, false, c.moved
			c.link.down.push(packet{ping: true})
		}
	}
}

// put is what a host asks for by HTTP: a field, settings, or both.
func (s *server) put(t *topic) {
	d := s.open(t.id)
	settings, what := newSettings(s.w.dice), s.w.dice.IntN(3)
	d.post(posted{ask: func() {
		if !d.broken && what != 0 {
			d.put()
		}
		if !d.broken && what != 1 {
			d.set(settings)
		}
	}})
}

// holly is who does it.
var holly = transaction.Author{User: "holly", Role: transaction.Host}
