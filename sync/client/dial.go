package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/coder/websocket"
)

// Conn is a connection that carries frames. Read and Write are called from one
// goroutine each, Ping from a third. After an error the connection is at its
// end; one that the server closed is told by a [websocket.CloseError].
type Conn interface {
	Read(ctx context.Context) ([]byte, error)
	Write(ctx context.Context, frame []byte) error
	// Ping returns when the other side has answered; bytes that arrive
	// meanwhile are a sign of life too.
	Ping(ctx context.Context) error
	CloseNow()
}

// Dialer opens a connection to a ws:// or wss:// URL.
type Dialer func(ctx context.Context, url string, header http.Header) (Conn, error)

// RefusedError is why trying again unchanged cannot work: the server refused
// the connection for good, or ended it with a code that says so.
type RefusedError struct {
	Code   int    // a WebSocket close code, 4400 to 4499, or an HTTP status
	Reason string // the server's words
}

func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the server refused the connection (%d)", e.Code)
	}
	return fmt.Sprintf("the server refused the connection (%d): %s", e.Code, e.Reason)
}

// ofToken says whether it is the token that was refused: another may do.
func (e *RefusedError) ofToken() bool {
	const unauthorized = 4401 // session.CloseUnauthorized, which clients do not import
	return e.Code == unauthorized || e.Code == http.StatusUnauthorized
}

// maxFrame is what a frame from the server may have, in bytes; a server sends
// few MiB at a time, and a single change of at most 4 MiB.
const maxFrame = 32 << 20

// dialWebSocket is the Dialer of a client that is given none.
func dialWebSocket(ctx context.Context, url string, header http.Header) (Conn, error) {
	ws, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		return nil, dialError(resp, err)
	}
	ws.SetReadLimit(maxFrame)
	return &socket{ws: ws}, nil
}

// dialError tells an answer that will stay the same from one that may pass.
func dialError(resp *http.Response, err error) error {
	if resp == nil || resp.StatusCode < 400 || resp.StatusCode > 499 {
		return err
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return err
	}
	const enough = 200 // bytes of the body are the reason
	body, _ := io.ReadAll(io.LimitReader(resp.Body, enough))
	reason := strings.TrimSpace(string(body))
	if reason == "" {
		reason = http.StatusText(resp.StatusCode)
	}
	return &RefusedError{Code: resp.StatusCode, Reason: reason}
}

// socket is a WebSocket as a Conn.
type socket struct {
	ws   *websocket.Conn
	read atomic.Int64 // bytes
}

func (s *socket) Read(ctx context.Context) ([]byte, error) {
	typ, r, err := s.ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	if typ != websocket.MessageBinary {
		return nil, errors.New("the server sent a text frame, which the protocol does not have")
	}
	return io.ReadAll(countingReader{r, &s.read})
}

func (s *socket) Write(ctx context.Context, frame []byte) error {
	return s.ws.Write(ctx, websocket.MessageBinary, frame)
}

// Ping takes a long frame on a slow line for an answer: no pong overtakes it.
func (s *socket) Ping(ctx context.Context) error {
	before := s.read.Load()
	err := s.ws.Ping(ctx)
	if err != nil && s.read.Load() > before {
		return nil
	}
	return err
}

func (s *socket) CloseNow() { _ = s.ws.CloseNow() }

type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// serverURL returns where to dial: the server's URL, and who we say we are if
// no token says it (a server in development takes our word).
func (o *Options) serverURL() (string, error) {
	u, err := url.Parse(o.Server)
	if err != nil {
		return "", fmt.Errorf("option Server: %w", err)
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return "", fmt.Errorf("option Server: %q is no ws:// or wss:// URL", o.Server)
	}
	if u.Host == "" {
		return "", fmt.Errorf("option Server: %q names no host", o.Server)
	}
	if o.hasToken() {
		return u.String(), nil
	}
	q := u.Query()
	for name, value := range map[string]string{"user": o.User, "name": o.Name, "role": string(o.Role)} {
		if value != "" {
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// bearer is the header that carries a token.
func bearer(token string) http.Header {
	if token == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}
