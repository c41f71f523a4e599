package sim

import (
	"slices"
	"time"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/session"
)

// What a connection's outbox holds, as in server/outbox.go, only less.
const (
	outboxBytes  = 8 << 10
	outboxFrames = 8
	maxDroppable = 6
	maxReplies   = 512
)

// endWithin bounds the end of a connection, its farewell included.
const endWithin = 9 * time.Second

// conn is the server's side of a connection (server/conn.go).
type conn struct {
	srv     *server
	id      session.ConnID
	link    *link
	who     presence.Person
	machine *session.Conn
	open    map[crdt.DocumentID]*document
	opened  []*document // the same, in their order

	barred, expelled, goodbye bool
	gone                      bool // nothing of it runs any more
	deaf                      bool // reads on, and forgets what it reads
	held                      int  // bytes kept on its behalf alone
	cutAt                     time.Time

	pinged, ponged   bool
	moved, movedThen int
	trip             time.Duration

	out     outbox
	writing []outFrame         // taken out, not written yet
	waiting []*document        // to be told when these are
	ending  *session.Close     // what follows these
	refused map[crdt.Hash]bool // that its client was told of
}

// outbox is what a connection is going to send.
type outbox struct {
	frames           []outFrame
	bytes, droppable int
	waiting          []*document // have something for this connection once there is room
	robbed           []*document // of frames that were dropped
	ended            bool
	end              session.Close
}

type outFrame struct {
	packet packet
	from   *document // of a droppable frame
}

// receive is what the reader does with a frame.
func (c *conn) receive(frame []byte) {
	if c.barred || c.deaf {
		return
	}
	c.srv.w.steps++
	switch ev := c.machine.Receive(frame).(type) {
	case session.Joined:
		if !c.srv.join(c, ev) {
			c.end(session.Refusal(serverID, session.CloseReplaced, "this peer id is somebody else's"))
			c.deaf = true
		}
	case session.Reply:
		c.reply(ev.Frame)
	case session.Deliver:
		c.deliver(ev)
	case session.Subscribe:
		for _, d := range c.opened {
			d.post(posted{from: c, input: &ev.Input})
		}
	case session.Close:
		c.goodbye = ev.Goodbye
		c.end(ev)
		c.deaf = true
	}
}

func (c *conn) deliver(ev session.Deliver) {
	d, ok := c.open[ev.Document]
	if !ok {
		d = c.srv.open(ev.Document)
		c.open[ev.Document] = d
		c.opened = append(c.opened, d)
	}
	if ev.Subscriptions != nil {
		d.post(posted{from: c, input: ev.Subscriptions})
	}
	d.post(posted{from: c, input: ev.Input})
	if !ok && c.trip > 0 {
		c.srv.postIfOpen(d, posted{measured: &session.MeasuredInput{Conn: c.id, RoundTrip: c.trip}})
	}
}

func (c *conn) measured(trip time.Duration) {
	if c.gone {
		return
	}
	c.trip = trip
	for _, d := range c.opened {
		c.srv.postIfOpen(d, posted{measured: &session.MeasuredInput{Conn: c.id, RoundTrip: trip}})
	}
}

// reply queues what the connection's own machine says.
func (c *conn) reply(frame []byte) {
	c.send(packet{data: frame, message: c.srv.w.model.told(c, frame)}, nil)
}

// send queues a frame; a client that does not take its answers is cut off. A document from whose frames some are dropped is told so when there is room.
func (c *conn) send(p packet, from *document) {
	o := &c.out
	if o.ended {
		return
	}
	if len(o.frames) >= maxReplies {
		c.end(session.Close{Code: session.CloseOverloaded, Reason: "answers pile up unread"})
		return
	}
	o.frames = append(o.frames, outFrame{p, from})
	o.bytes += len(p.data)
	if from != nil {
		o.droppable++
	}
	for o.droppable > maxDroppable {
		o.dropOldest()
	}
}

func (o *outbox) dropOldest() {
	i := slices.IndexFunc(o.frames, func(f outFrame) bool { return f.from != nil })
	from := o.frames[i].from
	o.bytes -= len(o.frames[i].packet.data)
	o.frames = slices.Delete(o.frames, i, i+1)
	o.droppable--
	if !slices.Contains(o.robbed, from) {
		o.robbed = append(o.robbed, from)
	}
	o.wait(from)
}

// wait tells d when there is room.
func (o *outbox) wait(d *document) {
	if !slices.Contains(o.waiting, d) {
		o.waiting = append(o.waiting, d)
	}
}

// wasRobbed reports, once, whether frames of d's were dropped.
func (o *outbox) wasRobbed(d *document) bool {
	before := len(o.robbed)
	o.robbed = slices.DeleteFunc(o.robbed, func(r *document) bool { return r == d })
	return len(o.robbed) < before
}

// reserve reports whether there is room for a sync frame. If there is not, d is
// told when there is.
func (o *outbox) reserve(d *document) bool {
	if o.bytes < outboxBytes && len(o.frames) < outboxFrames {
		return true
	}
	o.wait(d)
	return false
}

// write is what the writer does until the link is full. It reports whether there
// was anything to do.
func (c *conn) write() (wrote bool) {
	if c.gone {
		return false
	}
	for {
		if len(c.writing) == 0 && c.ending == nil && !c.take() {
			return wrote
		}
		for len(c.writing) > 0 {
			if down := &c.link.down; down.bytes > 0 && down.bytes+c.writing[0].packet.size() > c.srv.w.plan.room {
				return wrote
			}
			c.link.down.push(c.writing[0].packet)
			c.writing = c.writing[1:]
			wrote = true
		}
		if c.ending != nil {
			return c.farewell() || wrote
		}
		for _, d := range c.waiting {
			d.post(posted{writable: c})
			wrote = true
		}
		c.waiting = nil
	}
}

// take moves everything out of the outbox.
func (c *conn) take() bool {
	o := &c.out
	if len(o.frames) == 0 && len(o.waiting) == 0 && !o.ended {
		return false
	}
	c.writing, c.waiting = o.frames, o.waiting
	o.frames, o.waiting, o.bytes, o.droppable = nil, nil, 0, 0
	if o.ended {
		end := o.end
		c.ending = &end
	}
	return true
}

// farewell says goodbye, once.
func (c *conn) farewell() bool {
	if c.ending.Code == 0 {
		return false
	}
	if frame := c.ending.Frame; frame != nil {
		c.link.down.push(packet{data: frame, message: c.srv.w.model.told(c, frame)})
	}
	end := *c.ending
	c.link.down.push(packet{close: &end})
	c.ending = &session.Close{}
	return true
}

// end makes the writer say farewell after what it has to send.
func (c *conn) end(how session.Close) {
	if c.out.ended {
		return
	}
	c.srv.w.trace.say("conn %d of %s ends: %d %s", c.id, c.link.client, how.Code, how.Reason)
	c.out.ended, c.out.end = true, how
	c.cutAt = c.srv.w.now.Add(endWithin)
}

// bar ends a connection from which nothing more may be heard. Its documents do not
// wait for the client.
func (c *conn) bar(how session.Close, expelled bool) {
	if c.gone {
		return
	}
	c.barred, c.expelled = true, c.expelled || expelled
	c.end(how)
	for _, d := range c.opened {
		c.srv.postIfOpen(d, posted{barred: c})
	}
}

// leave ends the connection everywhere.
func (c *conn) leave() {
	if c.gone {
		return
	}
	c.gone = true
	c.goodbye = c.goodbye || c.expelled
	c.link.up.dead, c.link.down.dead = true, true
	delete(c.srv.conns, c.id)
	if id := c.machine.Peer().ID; c.srv.byPeer[id] == c {
		delete(c.srv.byPeer, id)
	}
	for _, d := range c.opened {
		d.post(posted{gone: c})
	}
}

// addHeld moves the count of held bytes and cuts off who is over the limit.
func (c *conn) addHeld(bytes int) {
	c.held += bytes
	c.srv.w.must(c.held >= 0, "held bytes", "conn %d holds %d", c.id, c.held)
	if c.held > limits.HeldBytes {
		c.end(session.Close{Code: session.CloseTooLarge, Reason: "too much is kept for this connection"})
	}
}
