package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"parley/crdt"
	"parley/sync/protocol"
	"parley/sync/wire"
)

const (
	joinWithin = 20 * time.Second // dial, upgrade and join
	maxFrame   = 32 << 20         // from the server, in bytes
)

// link is a connection that has joined. It has one reader and one writer.
type link struct {
	ws           *websocket.Conn
	peer, server wire.PeerID
	document     crdt.DocumentID
	cutByUs      atomic.Bool
}

// dialer keeps little memory for a connection: frames are short.
var dialer = &http.Client{Transport: &http.Transport{
	Proxy: http.ProxyFromEnvironment, ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10,
}}

// dial connects and joins.
func (t *Target) dial(ctx context.Context, who Who, document crdt.DocumentID) (l *link, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	pass, err := t.Admit(who)
	if err != nil {
		return nil, err
	}
	ws, resp, err := websocket.Dial(ctx, t.url("ws", "", who, pass), &websocket.DialOptions{
		HTTPClient: dialer, HTTPHeader: pass.header(),
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest && resp.StatusCode < http.StatusInternalServerError {
			return nil, &RefusedError{Message: "the server answers " + resp.Status, Final: resp.StatusCode != http.StatusTooManyRequests}
		}
		return nil, err
	}
	ws.SetReadLimit(maxFrame)
	l = &link{ws: ws, peer: wire.PeerID("bench-" + uuid.NewString()), document: document}
	if err := l.join(ctx); err != nil {
		l.cut()
		return nil, err
	}
	return l, nil
}

func (l *link) join(ctx context.Context) error {
	err := l.write(ctx, &wire.Join{
		SenderID: l.peer, Metadata: wire.Metadata{IsEphemeral: true}, Versions: []string{wire.ProtocolVersion},
	})
	if err != nil {
		return err
	}
	for l.server == "" {
		m, err := l.read(ctx)
		if err != nil {
			return err
		}
		if peer, ok := m.(*wire.Peer); ok {
			l.server = peer.SenderID
		}
	}
	return nil
}

// open begins to sync: with a request, if we have nothing.
func (l *link) open(ctx context.Context, m *protocol.Message) error {
	if len(m.Heads) == 0 {
		return l.write(ctx, &wire.Request{SenderID: l.peer, TargetID: l.server, DocumentID: l.document, Data: m.Append(nil)})
	}
	return l.sync(ctx, m)
}

func (l *link) sync(ctx context.Context, m *protocol.Message) error {
	return l.write(ctx, &wire.Sync{SenderID: l.peer, TargetID: l.server, DocumentID: l.document, Data: m.Append(nil)})
}

func (l *link) write(ctx context.Context, m wire.Message) error {
	return l.ws.Write(ctx, websocket.MessageBinary, wire.Append(nil, m))
}

// read returns the next message. Its error is a *RefusedError if the server said
// why it closed.
func (l *link) read(ctx context.Context) (wire.Message, error) {
	_, frame, err := l.ws.Read(ctx)
	if err != nil {
		var closed websocket.CloseError
		if errors.As(err, &closed) && closed.Reason != "" {
			// The ranges of close codes are those of sync/PROTOCOL.md.
			return nil, refusedBy(closed.Reason, closed.Code >= 4400 && closed.Code <= 4499)
		}
		return nil, err
	}
	m, err := wire.Decode(frame, wire.Limits{Frame: maxFrame})
	if err != nil {
		return nil, fmt.Errorf("the server sent what cannot be read: %w", err)
	}
	return m, nil
}

// cut ends the connection without a word.
func (l *link) cut() { _ = l.ws.CloseNow() }

// part says goodbye, and is cut.
func (l *link) part() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.write(ctx, &wire.Leave{SenderID: l.peer}) // gone already: all the better
	l.cut()
}

// backoff spreads tries.
type backoff struct{ failures int }

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 3 * time.Second
)

// pause waits before the next try. It fails when ctx ends.
func (b *backoff) pause(ctx context.Context) error {
	ceiling := min(firstRetry<<min(b.failures, 10), lastRetry)
	b.failures++
	return sleep(ctx, ceiling/2+rand.N(ceiling/2))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
