package sim

import (
	"fmt"

	"parley/sync/presence"
	"parley/sync/wire"
)

// client is a person's client: a tab, or a program. It keeps its copies of all
// documents while it is offline, and loses them when it is reloaded.
type client struct {
	w     *world
	index int
	person
	peer    wire.PeerID
	session wire.SessionID
	count   uint64 // of ephemeral messages in the session

	link     *link // nil: offline
	asleep   bool  // and stays so
	welcomed bool  // the server has answered
	replicas []*replica
}

func newClient(w *world, index int, who person) *client {
	c := &client{w: w, index: index, person: who}
	c.begin()
	return c
}

func (c *client) String() string { return fmt.Sprintf("%s/%d", c.user, c.index) }

// begin makes it a new client, with nothing.
func (c *client) begin() {
	c.peer, c.session, c.count = wire.PeerID(c.w.name("peer")), wire.SessionID(c.w.name("session")), 0
	c.replicas = nil
	for i := range c.w.plan.topics {
		c.replicas = append(c.replicas, newReplica(c, &c.w.plan.topics[i]))
	}
}

// connect begins a connection as the peer that the client has been before.
func (c *client) connect() {
	if c.link != nil || c.asleep || c.w.plan.absent[c.index] {
		return
	}
	c.link = &link{w: c.w, client: c}
	c.w.links = append(c.w.links, c.link)
	c.w.server.accept(c.link, presence.Person{User: c.user, Name: c.user, Role: c.role})
	join := &wire.Join{SenderID: c.peer, Versions: []string{wire.ProtocolVersion}}
	if c.store {
		join.Metadata.StorageID = wire.StorageID("store-" + string(c.peer))
	}
	c.send(join)
}

// lose ends a connection as far as the client knows. The server may learn of it
// much later.
func (c *client) lose() {
	c.w.trace.say("%s is offline", c)
	c.link.up.dead, c.link.down.dead = true, true
	c.link, c.welcomed = nil, false
	for _, r := range c.replicas {
		r.disconnected()
	}
}

// goodbye leaves with a frame that says so.
func (c *client) goodbye() {
	if c.welcomed {
		c.send(&wire.Leave{SenderID: c.peer})
	}
}

// reload loses everything that was not sent.
func (c *client) reload() {
	if c.link != nil {
		c.lose()
	}
	c.w.trace.say("%s begins again", c)
	c.begin()
}

func (c *client) send(m wire.Message) {
	frame := wire.Append(nil, m)
	c.w.trace.frame(fmt.Sprint(c), "server", m, frame)
	c.link.up.push(packet{data: frame})
}

// broadcast sends an ephemeral message about a document.
func (c *client) broadcast(t *topic, data []byte) {
	c.count++
	c.send(&wire.Ephemeral{
		SenderID: c.peer, TargetID: serverID, DocumentID: t.id, Count: c.count, SessionID: c.session, Data: data,
	})
}

func (c *client) receive(m wire.Message) {
	c.w.steps++
	switch m := m.(type) {
	case *wire.Peer:
		c.welcomed = true
		if c.store {
			c.send(&wire.RemoteSubscriptionChange{SenderID: c.peer, TargetID: serverID, Add: []wire.StorageID{serverStore}})
		}
		for _, r := range c.replicas {
			r.open()
		}
	case *wire.Sync:
		if r := c.replica(m.DocumentID); r != nil {
			r.receive(m.Data)
		}
	case *wire.RemoteHeadsChanged:
		c.replica(m.DocumentID).safe = m.NewHeads[0].Heads // it asked for one store's
	case *wire.Ephemeral:
		c.hear(m)
	}
}

func (c *client) replica(id [16]byte) *replica {
	for _, r := range c.replicas {
		if r.topic.id == id {
			return r
		}
	}
	return nil
}

// hear takes what the server says, and echoes what others say as automerge-repo
// does.
func (c *client) hear(m *wire.Ephemeral) {
	r := c.replica(m.DocumentID)
	if m.SenderID != serverID {
		c.w.must(m.SenderID != c.peer, "echo", "%s hears itself", c)
		echo := *m
		echo.TargetID = serverID
		c.send(&echo)
		return
	}
	said, err := presence.DecodeDown(m.Data)
	c.w.must(err == nil, "message", "%s cannot read %x: %v", c, m.Data, err)
	switch said := said.(type) {
	case *presence.Roster:
		r.roster = said
	case *presence.Rejected:
		r.rejected(said)
	}
}
