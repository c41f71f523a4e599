package client

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"parley/crdt"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// fakeServer is the other end of connections that are not sockets: a test reads
// what the client says and answers what it likes.
type fakeServer struct {
	t     *testing.T
	mu    sync.Mutex
	dials []time.Time
	fail  error // of the next dials
	deaf  bool  // its connections answer no pings
	conns chan *fakeConn
}

func newFakeServer(t *testing.T) *fakeServer {
	return &fakeServer{t: t, conns: make(chan *fakeConn, 100)}
}

func (s *fakeServer) dial(context.Context, string, http.Header) (Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials = append(s.dials, time.Now())
	if s.fail != nil {
		return nil, s.fail
	}
	c := &fakeConn{t: s.t, deaf: s.deaf, up: make(chan []byte, 1000), down: make(chan []byte, 1000), closed: make(chan struct{})}
	s.conns <- c
	return c, nil
}

func (s *fakeServer) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *fakeServer) dialled() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.dials...)
}

// accept waits for a connection and lets it join.
func (s *fakeServer) accept() *fakeConn {
	s.t.Helper()
	c := <-s.conns
	join, ok := c.next().(*wire.Join)
	if !ok {
		s.t.Fatal("the client does not join first")
	}
	c.peer = join.SenderID
	c.send(&wire.Peer{SenderID: "server", TargetID: c.peer, Version: wire.ProtocolVersion})
	return c
}

// fakeConn is one connection, and the server's copy of the document in it.
type fakeConn struct {
	t        *testing.T
	peer     wire.PeerID
	up, down chan []byte
	once     sync.Once
	closed   chan struct{}
	why      error // set before closed is
	deaf     bool

	graph crdt.Graph
	state protocol.State
}

func (c *fakeConn) Read(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.down:
		return b, nil
	case <-c.closed:
		return nil, c.why
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *fakeConn) Write(ctx context.Context, frame []byte) error {
	select {
	case c.up <- frame:
		return nil
	case <-c.closed:
		return c.why
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *fakeConn) Ping(ctx context.Context) error {
	if !c.deaf {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (c *fakeConn) CloseNow() { c.end(io.EOF) }

func (c *fakeConn) end(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.closed)
	})
}

// close ends the connection as a server does.
func (c *fakeConn) close(code websocket.StatusCode, reason string) {
	c.end(websocket.CloseError{Code: code, Reason: reason})
}

// next returns the client's next message.
func (c *fakeConn) next() wire.Message {
	c.t.Helper()
	select {
	case b := <-c.up:
		m, err := wire.Decode(b, wire.Limits{})
		check(c.t, err)
		return m
	case <-time.After(time.Minute): // of the bubble's time, or far too long
		c.t.Fatal("the client says nothing")
		return nil
	}
}

func (c *fakeConn) send(m wire.Message) { c.down <- wire.Append(nil, m) }

// nextSync takes the client's next sync message into the copy, and returns how
// many changes it brought.
func (c *fakeConn) nextSync() int {
	c.t.Helper()
	s, ok := c.next().(*wire.Sync)
	if !ok {
		c.t.Fatal("not a sync message")
	}
	m, err := protocol.Decode(s.Data, protocol.Limits{})
	check(c.t, err)
	for _, chunk := range m.Changes {
		change, err := crdt.DecodeChange(chunk, crdt.Limits{})
		check(c.t, err)
		if !c.graph.Accepted(change.Hash) {
			c.graph.Append(crdt.Node{
				Hash: change.Hash, Deps: change.Deps, Actor: change.Actor,
				Seq: change.Seq, MaxOp: change.MaxOp(), Chunk: change.Chunk(),
			})
		}
	}
	c.graph.MarkDurable(c.graph.Len())
	c.state.Receive(&c.graph, m)
	return len(m.Changes)
}

// answer sends what the protocol says, if it says something.
func (c *fakeConn) answer() {
	if m, ok := c.state.Generate(&c.graph, protocol.Options{}); ok {
		c.send(&wire.Sync{SenderID: "server", TargetID: c.peer, DocumentID: tx.Document(), Data: m.Append(nil)})
	}
}

// synctestSleep lets more time pass in a bubble than a frame is gathered for.
func synctestSleep() {
	time.Sleep(2 * gatherFor)
	synctest.Wait()
}
