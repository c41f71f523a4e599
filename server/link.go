package server

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

const (
	// writePiece is how much a link writes before it notes progress.
	writePiece = 16 << 10
	// kernelBuffer is what the kernel takes ahead of a slow client. By default
	// it takes megabytes, in which no progress can be seen, and which each slow
	// client costs.
	kernelBuffer = 128 << 10
)

// link is a TCP connection that counts the bytes which pass. A ping cannot
// overtake a long frame on a slow line: what tells a slow client from a dead
// one is whether bytes still move. A write that is shorter than a piece does
// not count: it ends in the kernel's buffer and says nothing of the client.
type link struct {
	net.Conn
	moved atomic.Int64
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.moved.Add(int64(n))
	return n, err
}

func (l *link) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = l.Conn.Write(p[:min(len(p), writePiece)])
		if n == writePiece {
			l.moved.Add(int64(n))
		}
		written += n
		p = p[n:]
	}
	return written, err
}

// linkListener hands out links.
type linkListener struct{ net.Listener }

// Listener wraps l so that the server can tell slow clients from dead ones.
// Use it together with [ConnContext].
func Listener(l net.Listener) net.Listener { return linkListener{l} }

func (l linkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := tcp.SetWriteBuffer(kernelBuffer); err != nil {
			_ = c.Close() // it has ended already
			return l.Accept()
		}
	}
	return &link{Conn: c}, nil
}

type linkKey struct{}

// ConnContext is the http.Server.ConnContext that goes with [Listener].
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if l, ok := c.(*link); ok {
		return context.WithValue(ctx, linkKey{}, l)
	}
	return ctx
}

func linkOf(r *http.Request) *link {
	l, _ := r.Context().Value(linkKey{}).(*link)
	return l
}
