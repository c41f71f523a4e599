package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

const (
	dialWithin = 10 * time.Second
	joinWithin = 10 * time.Second
	// pingEvery is how often the server must show that it lives: a server that
	// vanishes without a word is noticed in twice that time. While somebody is
	// ready, an agreement may be near, and it is asked more often.
	pingEvery      = 15 * time.Second
	pingEveryReady = 2500 * time.Millisecond
	// gatherFor is how long a frame waits for more to say, so that what is
	// picked in quick succession travels together.
	gatherFor = 5 * time.Millisecond
	// partWithin bounds the farewell.
	partWithin = time.Second
)

// attempt is how one try to connect went.
type attempt struct {
	joined bool
	lasted time.Duration // from then on
	err    error         // why it ended
}

// try dials, and converses until the connection ends.
func (c *Client) try(ctx context.Context) attempt {
	dialing, cancel := context.WithTimeout(ctx, dialWithin)
	token, err := c.freshToken(dialing)
	if err != nil {
		cancel()
		return attempt{err: err}
	}
	conn, err := c.opt.Dial(dialing, c.url, bearer(token))
	cancel()
	if err != nil {
		c.noteRefusal(token, err)
		return attempt{err: fmt.Errorf("connect: %w", err)}
	}
	defer conn.CloseNow()
	server, err := c.join(ctx, conn)
	if err != nil {
		err = c.closeError(err)
		c.noteRefusal(token, err)
		return attempt{err: fmt.Errorf("join: %w", err)}
	}
	joined := time.Now()
	err = c.closeError(c.converse(ctx, conn, server))
	c.noteRefusal(token, err)
	return attempt{joined: true, lasted: time.Since(joined), err: err}
}

// freshToken returns the token to connect with. It fails as the server did while
// the source has only a token that was refused.
func (c *Client) freshToken(ctx context.Context) (string, error) {
	token, err := c.opt.token(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	if c.refusal != nil && token == c.badToken {
		return "", c.refusal
	}
	return token, c.opt.checkSubject(token)
}

// noteRefusal remembers a token that was refused, if there may be another.
func (c *Client) noteRefusal(token string, err error) {
	c.refusal = nil
	var refused *RefusedError
	if c.opt.TokenSource != nil && errors.As(err, &refused) && refused.ofToken() {
		c.badToken, c.refusal = token, refused
	}
}

// closeError finds what the server said when it closed.
func (c *Client) closeError(err error) error {
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		return err
	}
	if closed.Code == closeReplaced {
		c.peer = newPeerID()
	}
	if !stops(closed.Code) {
		return err
	}
	return &RefusedError{Code: int(closed.Code), Reason: closed.Reason}
}

// stops says whether a close code says that trying again unchanged cannot work.
// The ranges are those of the server (sync/session, CloseCode): 4400 to 4499
// stop; all others, among them 4500 to 4599, 1001 and 1013, may pass. So does one
// that is about the peer id, for the next try has another.
func stops(code websocket.StatusCode) bool {
	return code >= 4400 && code <= 4499 && code != closeReplaced
}

// closeReplaced (sync/session, CloseReplaced) says that our peer id has joined on a newer
// connection. Nobody else has it: it was one that we gave up, of which the server heard late.
const closeReplaced websocket.StatusCode = 4409

func newPeerID() wire.PeerID { return wire.PeerID("parley-client-" + uuid.NewString()) }

// join introduces us and waits for the server's answer.
func (c *Client) join(ctx context.Context, conn Conn) (wire.PeerID, error) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	err := conn.Write(ctx, wire.Append(nil, &wire.Join{
		SenderID: c.peer, Metadata: wire.Metadata{IsEphemeral: true}, Versions: []string{wire.ProtocolVersion},
	}))
	if err != nil {
		return "", err
	}
	for {
		m, err := readFrame(ctx, conn)
		if err != nil {
			return "", err
		}
		switch m := m.(type) {
		case *wire.Peer:
			return m.SenderID, nil
		case *wire.ProtocolError:
			c.log.Info("the server refuses", "message", m.Message)
		}
	}
}

func readFrame(ctx context.Context, conn Conn) (wire.Message, error) {
	frame, err := conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	m, err := wire.Decode(frame, wire.Limits{Frame: maxFrame})
	if err != nil {
		return nil, fmt.Errorf("the server sent what cannot be read: %w", err)
	}
	return m, nil
}

// converse syncs over a joined connection until it ends, or ctx does and the
// farewell with it. Its three goroutines end each other: the first error
// cancels, and cancelling ends what a Conn waits for.
func (c *Client) converse(ctx context.Context, conn Conn, server wire.PeerID) error {
	if err := c.post(func(k *keeper) { k.begin(server) }); err != nil {
		return err
	}
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(partWithin, cut) })()
	group, inner := errgroup.WithContext(hard)
	group.Go(func() error { return c.read(inner, conn, server) })
	group.Go(func() error { return c.write(inner, ctx, conn, server) })
	group.Go(func() error { return c.ping(inner, conn) })
	err := group.Wait()
	_ = c.post(func(k *keeper) { k.end() })
	return err
}

// read hands the keeper what the server says. It waits for the keeper, so that
// a server that is faster than our disk is slowed down.
func (c *Client) read(ctx context.Context, conn Conn, server wire.PeerID) error {
	for {
		m, err := readFrame(ctx, conn)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *wire.Sync:
			if m.DocumentID == c.document {
				err = c.receive(m.Data)
			}
		case *wire.DocUnavailable:
			if m.DocumentID == c.document {
				err = c.post(func(k *keeper) { k.unavailable() })
			}
		case *wire.Ephemeral:
			if m.DocumentID == c.document && m.SenderID == server {
				err = c.hear(m.Data)
			}
		case *wire.ProtocolError:
			c.log.Info("the server complains", "message", m.Message)
		}
		if err != nil {
			return err
		}
	}
}

// receive decodes and checks a sync message, beside the keeper, and posts it.
func (c *Client) receive(data []byte) error {
	m, err := protocol.Decode(data, protocol.Limits{})
	if err != nil {
		return err
	}
	in := incoming{message: m}
	for _, chunk := range m.Changes {
		change, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err == nil {
			in.changes = append(in.changes, change)
			continue
		}
		var r *crdt.Refusal
		if !errors.As(err, &r) || r.Change == (crdt.Hash{}) {
			return fmt.Errorf("the server sent a change that is none: %w", err)
		}
		in.refused = append(in.refused, r)
	}
	m.Changes = nil // in.changes stand for them
	return c.post(func(k *keeper) { k.receive(in) })
}

// write sends what the keeper has to say whenever there is something. When
// parting ends, it says the last of that and goodbye, and the server closes.
func (c *Client) write(ctx, parting context.Context, conn Conn, server wire.PeerID) error {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-parting.Done():
			if err := c.say(ctx, conn, server); err != nil {
				return err
			}
			return c.part(ctx, conn, parting.Err())
		}
		if err := gather(ctx); err != nil {
			return err
		}
		if err := c.say(ctx, conn, server); err != nil {
			return err
		}
	}
}

// say sends all that there is to say.
func (c *Client) say(ctx context.Context, conn Conn, server wire.PeerID) error {
	for {
		m, err := c.pull(server)
		if err != nil || m == nil {
			return err
		}
		if err := conn.Write(ctx, wire.Append(nil, m)); err != nil {
			return err
		}
	}
}

// pull returns the next frame for the server, nil if there is nothing to say.
func (c *Client) pull(server wire.PeerID) (m wire.Message, err error) {
	var sync, ephemeral []byte
	if posted := c.post(func(k *keeper) { sync, ephemeral, err = k.pull() }); posted != nil {
		return nil, posted
	}
	switch {
	case err != nil:
		return nil, err
	case sync != nil:
		return &wire.Sync{SenderID: c.peer, TargetID: server, DocumentID: c.document, Data: sync}, nil
	case ephemeral != nil:
		c.said++
		return &wire.Ephemeral{SenderID: c.peer, TargetID: server, DocumentID: c.document, Count: c.said, SessionID: c.session, Data: ephemeral}, nil
	}
	return nil, nil
}

// gather waits a moment for more to say.
func gather(ctx context.Context) error {
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part takes leave, and gives the server a moment to close. The reader ends
// when it does, and ctx when it does not.
func (c *Client) part(ctx context.Context, conn Conn, why error) error {
	if err := conn.Write(ctx, wire.Append(nil, &wire.Leave{SenderID: c.peer})); err != nil {
		return err
	}
	<-ctx.Done()
	return why
}

// ping asks the server for signs of life.
func (c *Client) ping(ctx context.Context, conn Conn) error {
	ticker := time.NewTicker(pingEveryReady)
	defer ticker.Stop()
	for asked := time.Now(); ; asked = time.Now() {
		every := pingEveryReady
		for pause := true; pause; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case now := <-ticker.C:
				every = c.pingEvery()
				pause = now.Sub(asked) < every-pingEveryReady/2
			}
		}
		within, cancel := context.WithTimeout(ctx, every)
		err := conn.Ping(within)
		cancel()
		if err != nil {
			return fmt.Errorf("the server gives no sign of life: %w", err)
		}
	}
}

// pingEvery is the time between two pings, and within which each is answered.
func (c *Client) pingEvery() time.Duration {
	if r := c.View().Roster; r != nil && slices.ContainsFunc(r.Participants, func(p presence.Participant) bool { return p.Ready }) {
		return pingEveryReady
	}
	return pingEvery
}
