package client

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// tokens is a source of tokens, and a note of those that were sent.
type tokens struct {
	mu   sync.Mutex
	now  string
	err  error
	sent []string
}

func (s *tokens) source(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.err
}

func (s *tokens) set(token string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.err = token, err
}

func (s *tokens) dialer(srv *fakeServer) Dialer {
	return func(ctx context.Context, url string, header http.Header) (Conn, error) {
		s.mu.Lock()
		s.sent = append(s.sent, header.Get("Authorization"))
		s.mu.Unlock()
		return srv.dial(ctx, url, header)
	}
}

func (s *tokens) last() (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[len(s.sent)-1], len(s.sent)
}

// tokenOf is a token about a user, as far as a client reads it.
func tokenOf(user, more string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+user+`"}`)) + "." + more
}

// The server ends the connection when the token expires. The source has a fresh
// one only later: until then the old one is not tried again.
func TestAFreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, source := newFakeServer(t), &tokens{now: tokenOf("alice", "1")}
		c := open(t, Options{Server: "ws://x", TokenSource: source.source, Dial: source.dialer(srv)})
		conn := srv.accept()
		conn.nextSync()
		conn.close(4501, "token-expired: come back with a fresh token")
		conn = <-srv.conns // with the same token still
		conn.next()
		conn.close(4401, "token-expired: the token has expired: get a fresh one")
		time.Sleep(time.Minute)
		synctest.Wait()
		var refused *RefusedError
		if s := c.Status(); s.State != Reconnecting || !errors.As(s.Err, &refused) {
			t.Errorf("while it waits for a token: %+v", s)
		}
		if _, n := source.last(); n != 2 {
			t.Errorf("%d connections with a token that was refused", n)
		}
		source.set("", errors.New("no network"))
		time.Sleep(time.Minute)
		source.set(tokenOf("alice", "2"), nil)
		srv.accept()
		synctest.Wait()
		if token, n := source.last(); token != "Bearer "+tokenOf("alice", "2") || n != 3 {
			t.Errorf("connection %d with %s", n, token)
		}
		if s := c.Status(); s.State != Online {
			t.Errorf("with a fresh token: %+v", s)
		}
		closeNow(t, c)
	})
}

// A token that stays the same is not tried again, nor is a source asked after
// what is not the token's fault.
func TestRefusalsThatStay(t *testing.T) {
	for code, source := range map[websocket.StatusCode]func(context.Context) (string, error){
		4401: nil, 4403: (&tokens{now: tokenOf("alice", "1")}).source,
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newFakeServer(t)
			c := open(t, Options{Server: "ws://x", Token: tokenOf("alice", "1"), TokenSource: source, Dial: srv.dial})
			conn := srv.accept()
			conn.nextSync()
			conn.close(code, "no")
			synctest.Wait()
			if s := c.Status(); s.State != Offline {
				t.Errorf("%d: %+v", code, s)
			}
			closeNow(t, c)
		})
	}
}

func TestATokenOfSomebodyElse(t *testing.T) {
	ctx := t.Context()
	_, err := Open(ctx, Options{Transaction: tx, User: "bob", Token: tokenOf("alice", "1")})
	if err == nil {
		t.Error("Bob works with Alice's token")
	}
	if _, err := Open(ctx, Options{Transaction: tx, TokenSource: (&tokens{err: errors.New("none")}).source}); err == nil {
		t.Error("nobody knows who works here")
	}
	synctest.Test(t, func(t *testing.T) {
		srv, source := newFakeServer(t), &tokens{now: tokenOf("alice", "1")}
		c := open(t, Options{Server: "ws://x", TokenSource: source.source, Dial: source.dialer(srv)})
		srv.accept().close(4501, "expired")
		source.set(tokenOf("mallory", "1"), nil)
		time.Sleep(time.Minute)
		if _, n := source.last(); n != 1 {
			t.Error("the client went on as somebody else")
		}
		closeNow(t, c)
	})
}
