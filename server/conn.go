package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"parley/crdt"
	"parley/sync/session"
	"parley/sync/wire"
)

// writeWithin bounds the farewell of a connection: its error frame and the
// closing handshake.
const writeWithin = 5 * time.Second

// endWithin bounds all that a connection has still to be sent when its end has
// begun, the farewell included.
const endWithin = 9 * time.Second

// readBuffers are shared by all readers: a connection that is silent holds none.
var readBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBuffer keeps a rare huge frame from staying in the pool.
const maxPooledBuffer = 64 << 10

// conn is one WebSocket connection.
type conn struct {
	// static
	srv  *Server
	id   session.ConnID
	who  Identity
	ws   *websocket.Conn
	link *link // nil when the listener does not count progress
	flow *semaphore.Weighted

	// owned by the reader, whose goroutines follow one on the other
	machine *session.Conn
	done    func()        // called at the end
	late    *time.Timer   // ends a connection that does not join
	expiry  *time.Timer   // ends it with its token; nil: that has no end
	goodbye bool          // the client took leave; not changed after the end
	frames  *rate.Limiter // of its user's; nil: as many as they like
	slowed  time.Time     // since when its frames have had to wait; zero: they need not
	waited  time.Duration // how long it took the last frame to come
	arrived time.Duration // when the last frame had been read, since the server's start

	mu   sync.Mutex // guards what follows; written by the reader only
	open map[crdt.DocumentID]*document

	barred   atomic.Bool // nothing more is heard
	expelled atomic.Bool // and its user has left

	out  outbox
	cut  atomic.Pointer[time.Timer] // set when the end has begun
	held atomic.Int64               // bytes that are kept on behalf of this connection alone

	// liveness, owned by the server's heart
	pinged  bool
	ponged  atomic.Bool
	moved   int64        // what link.moved was at the last beat
	trip    atomic.Int64 // the round trip time that documents know of, in ns; 0: none
	waiting atomic.Int64 // since when the reader waits for the client, as Server.moment; 0 while it is busy
	silent  atomic.Bool  // dropped for that

	traffic traffic
}

func newConn(srv *Server, id session.ConnID, who Identity, ws *websocket.Conn, l *link) *conn {
	c := &conn{
		srv: srv, id: id, who: who, ws: ws, link: l,
		flow:    semaphore.NewWeighted(int64(srv.opt.Limits.Frame)),
		machine: session.NewConn(id, who.person(), &srv.connConfig),
		open:    make(map[crdt.DocumentID]*document),
	}
	c.out = newOutbox(c.write)
	if !who.Scope.All() {
		c.machine.Restrict(session.Access{Covers: who.Scope.Covers, Session: wire.SessionID(uuid.NewString())})
	}
	return c
}

// serve runs the connection until it ends, leaves nothing of it behind, and calls
// done.
func (c *conn) serve(done func()) {
	c.done = done
	late := c.machine.JoinTimeout()
	c.late = time.AfterFunc(c.srv.opt.JoinWithin, func() { c.end(late) })
	if !c.who.Expires.IsZero() {
		c.expiry = time.AfterFunc(c.who.Expires.Sub(c.srv.opt.Now()), c.expire)
	}
	c.read()
}

// renewAfter is how long a client must have been silent for its reader to go on in
// a new goroutine. A stack that was needed once does not shrink while its goroutine
// waits deep in the network's code; most connections wait most of the time.
const renewAfter = time.Second

// read steps the machine with every frame until the connection ends.
func (c *conn) read() {
	renewed := false
	defer func() {
		if fault := recover(); fault != nil {
			c.srv.log.Error("a fault of the server's ended a connection", "conn", c.id, "fault", fault, "stack", string(debug.Stack()))
		}
		if !renewed {
			c.leave()
			c.done()
		}
	}()
	for joined := c.machine.Joined(); c.readFrame(); joined = true {
		if !joined || c.waited > renewAfter {
			renewed = true
			go c.read()
			return
		}
	}
}

// leave ends the connection everywhere.
func (c *conn) leave() {
	c.late.Stop()
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.goodbye = c.goodbye || c.expelled.Load()
	itself := c.out.finish(session.Close{Code: session.CloseNormal})
	_ = c.ws.CloseNow() // the conversation is over: ends a write or ping that hangs
	<-c.out.done
	if cut := c.cut.Load(); cut != nil {
		cut.Stop()
	}
	c.srv.peers.remove(c, c.ended(itself))
	for _, d := range c.open {
		d.post(posted{gone: c})
	}
}

// readFrame takes one frame. It reports whether there will be more.
func (c *conn) readFrame() bool {
	c.ws.SetReadLimit(int64(c.machine.MaxFrame()))
	ev, err := c.readEvent()
	if err != nil {
		c.logEnd(err)
		return false
	}
	if c.barred.Load() {
		c.drainUntilClosed()
		return false
	}
	if _, joined := ev.(session.Joined); joined {
		c.late.Stop()
	}
	if !c.inPace(ev) || !c.handle(ev) {
		c.drainUntilClosed()
		return false
	}
	return true
}

// readEvent reads one frame and steps the machine with it.
func (c *conn) readEvent() (session.Event, error) {
	since := time.Now()
	c.waiting.Store(c.srv.moment())
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	buf := readBuffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxPooledBuffer {
			buf.Reset()
			readBuffers.Put(buf)
		}
	}()
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, err
	}
	c.waiting.Store(0)
	now := time.Now()
	c.waited, c.arrived = now.Sub(since), now.Sub(c.srv.started)
	if typ != websocket.MessageBinary {
		c.traffic.in.count(frameOther, buf.Len())
		return c.machine.ReceiveText(), nil
	}
	ev := c.machine.Receive(buf.Bytes())
	c.traffic.in.count(kindOf(ev), buf.Len())
	return ev, nil
}

// inPace waits until what a frame came to may be done. It reports whether reading
// goes on.
func (c *conn) inPace(ev session.Event) bool {
	cost := frameCost
	if ev == nil {
		cost = ignoredCost
	}
	if over := c.pace(cost); over != nil {
		c.bar(c.srv.farewellOf(over))
		return false
	}
	return !c.barred.Load() // it may have been a long wait
}

// handle does what one event asks for. It reports whether reading goes on.
func (c *conn) handle(ev session.Event) bool {
	switch ev := ev.(type) {
	case session.Joined:
		return c.join(ev)
	case session.Reply:
		c.send(ev.Frame, frameOther, nil)
		if ev.Next != nil {
			c.send(ev.Next, frameEphemeral, nil)
		}
	case session.Deliver:
		return c.deliver(ev)
	case session.Subscribe:
		return c.subscribe(ev)
	case session.Close:
		c.goodbye = ev.Goodbye
		c.end(ev)
		return false
	}
	return true
}

// join makes the connection that of a peer id, unless that is somebody else's.
func (c *conn) join(ev session.Joined) bool {
	if !c.srv.peers.join(c, ev.Peer.ID) {
		c.srv.counters.peerIDsRefused.Add(1)
		c.end(session.Refusal(c.srv.opt.PeerID, session.CloseReplaced,
			"this peer id is on a connection of somebody else: choose another"))
		return false
	}
	c.srv.counters.joins.Add(1)
	c.srv.log.Debug("joined", "conn", c.id)
	c.send(ev.Reply, frameOther, nil)
	return true
}

// deliver posts an input to its document. It waits while more than a frame's
// worth of bytes from this connection has not been stepped.
func (c *conn) deliver(ev session.Deliver) bool {
	d, ok := c.open[ev.Document]
	if !ok {
		d = c.srv.docs.open(ev.Document)
		c.mu.Lock()
		c.open[ev.Document] = d
		c.mu.Unlock()
	}
	weight := min(int64(ev.Size), int64(c.srv.opt.Limits.Frame))
	if err := c.flow.Acquire(context.Background(), weight); err != nil {
		return false
	}
	if ev.Subscriptions != nil {
		d.post(posted{from: c, input: ev.Subscriptions})
	}
	d.post(posted{from: c, input: ev.Input, weight: weight, at: c.arrived})
	if trip := c.trip.Load(); !ok && trip > 0 {
		c.srv.docs.postIfOpen(d, c.tripPosted(time.Duration(trip)))
	}
	return true
}

func (c *conn) tripPosted(trip time.Duration) posted {
	return posted{own: &session.MeasuredInput{Conn: c.id, RoundTrip: trip}}
}

// measured tells the documents of a round trip time, if it is news to them.
func (c *conn) measured(trip time.Duration) {
	known := time.Duration(c.trip.Load())
	if known > 0 && (trip-known).Abs() < known/4 {
		return
	}
	c.trip.Store(int64(trip))
	for _, d := range c.documents() {
		c.srv.docs.postIfOpen(d, c.tripPosted(trip))
	}
}

// documents returns those that are open now.
func (c *conn) documents() []*document {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.open))
}

// subscribeWeight is what a subscription counts for in each open document.
const subscribeWeight = 1024

func (c *conn) subscribe(ev session.Subscribe) bool {
	for _, d := range c.open {
		if err := c.flow.Acquire(context.Background(), subscribeWeight); err != nil {
			return false
		}
		d.post(posted{from: c, input: &ev.Input, weight: subscribeWeight})
	}
	return true
}

// drainUntilClosed reads on, so that the closing handshake can end, and
// forgets what it reads.
func (c *conn) drainUntilClosed() {
	c.waiting.Store(c.srv.moment())
	for {
		_, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return
		}
	}
}

// write sends what stands in the outbox.
func (c *conn) write() {
	var spare []outFrame
	for {
		frames, waiting, end, more := c.out.take(spare)
		if !more {
			return
		}
		for i, f := range frames {
			if err := c.ws.Write(context.Background(), websocket.MessageBinary, f.data); err != nil {
				_ = c.ws.CloseNow() // ends the reader too
				c.out.fail()
				close(c.out.done)
				return
			}
			c.traffic.out.count(f.kind, len(f.data))
			frames[i] = outFrame{}
		}
		spare = frames
		if end != nil {
			c.farewell(*end)
			close(c.out.done)
			return
		}
		for _, d := range waiting {
			d.post(posted{writable: c})
		}
	}
}

func (c *conn) farewell(end session.Close) {
	ctx, cancel := context.WithTimeout(context.Background(), writeWithin)
	defer cancel()
	if end.Frame != nil {
		if err := c.ws.Write(ctx, websocket.MessageBinary, end.Frame); err != nil {
			_ = c.ws.CloseNow()
			return
		}
		c.traffic.out.count(frameOther, len(end.Frame))
	}
	_ = c.ws.Close(websocket.StatusCode(end.Code), truncate(end.Reason, maxCloseReason))
}

// send queues a frame; a client that does not take its answers is cut off.
func (c *conn) send(frame []byte, kind frameKind, from *document) {
	if !c.out.put(frame, kind, from) {
		c.end(session.Close{Code: session.CloseOverloaded, Reason: "answers pile up unread"})
	}
}

// end makes the writer say farewell after what it has to send. Who does not take
// it in time is cut off.
func (c *conn) end(how session.Close) {
	if c.out.finish(how) {
		c.cut.Store(time.AfterFunc(endWithin, func() { _ = c.ws.CloseNow() }))
	}
}

// bar ends a connection from which nothing more may be heard, although its client
// may take its time to close. Its documents do not wait for that: to them it is
// gone, with all that it said and that has not come to anything yet.
func (c *conn) bar(how session.Close) {
	c.barred.Store(true)
	c.end(how)
	for _, d := range c.documents() {
		c.srv.docs.postIfOpen(d, posted{barred: c})
	}
}

// expel bars a connection whose user is not expected back.
func (c *conn) expel(how session.Close) {
	c.expelled.Store(true)
	c.bar(how)
}

// addHeld moves the count of held bytes and cuts off who is over the limit.
func (c *conn) addHeld(bytes int) {
	if c.held.Add(int64(bytes)) > int64(c.srv.opt.Limits.HeldBytes) {
		c.end(session.Close{Code: session.CloseTooLarge, Reason: "too much is kept for this connection: send dependencies before what builds on them"})
	}
}

func (c *conn) logEnd(err error) {
	var closed websocket.CloseError
	if errors.As(err, &closed) || errors.Is(err, io.EOF) {
		return
	}
	c.srv.log.Debug("connection ended", "conn", c.id, "err", err)
}

// maxCloseReason is what fits into a close frame.
const maxCloseReason = 123

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 { // not inside a UTF-8 sequence
		n--
	}
	return s[:n]
}
