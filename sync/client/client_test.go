package client

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server"
	"parley/server/store"
)

// running is a server on a port of its own, over a store in a folder.
type running struct {
	t       *testing.T
	dir     string
	address string // the same after a restart
	srv     *server.Server
	store   *store.Store
	http    *http.Server
}

func startServer(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir(), address: "127.0.0.1:0"}
	r.up()
	t.Cleanup(r.down)
	return r
}

func (r *running) url() string { return "ws://" + r.address }

func (r *running) up() {
	r.t.Helper()
	log := testLogger(r.t)
	st, err := store.Open(r.dir, store.Options{Logger: log})
	check(r.t, err)
	srv, err := server.New(st, server.Options{Identify: server.DevIdentity, Logger: log})
	check(r.t, err)
	l, err := net.Listen("tcp", r.address)
	check(r.t, err)
	r.address = l.Addr().String()
	r.srv, r.store = srv, st
	r.http = &http.Server{Handler: srv.Handler(), ConnContext: server.ConnContext, ReadHeaderTimeout: time.Second}
	go func() { _ = r.http.Serve(server.Listener(l)) }()
}

func (r *running) down() {
	if r.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(r.srv.Shutdown(ctx), r.http.Shutdown(ctx), r.store.Close()); err != nil {
		r.t.Error(err)
	}
	r.srv = nil
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const tx transaction.ID = "tx-1"

// open opens a client that the test closes without waiting for the server.
func open(t *testing.T, opt Options) *Client {
	t.Helper()
	if opt.Transaction == "" {
		opt.Transaction = tx
	}
	if opt.User == "" {
		opt.User = "alice"
	}
	opt.Logger = testLogger(t).With("user", opt.User)
	c, err := Open(t.Context(), opt)
	check(t, err)
	t.Cleanup(func() { closeNow(t, c) })
	return c
}

// closeNow closes without sending.
func closeNow(t *testing.T, c *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	check(t, c.Close(ctx))
}

// until waits for a view that holds.
func until(t *testing.T, c *Client, what string, holds func(View) bool) View {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var last View
	for last = range c.Watch(ctx) {
		if holds(last) {
			return last
		}
	}
	t.Fatalf("waited in vain for %s: heads %v, %+v, %+v", what, last.Heads, last.Synced, last.Status)
	return View{}
}

func saved(v View) bool { return v.Synced.Saved && v.Synced.Current }

// put picks something for a field.
func put(t *testing.T, c *Client, field string) crdt.Hash {
	t.Helper()
	h, err := c.Pick(context.Background(), field, json.RawMessage(`"value"`), "")
	check(t, err)
	return h
}

func TestTwoClientsConverge(t *testing.T) {
	srv := startServer(t)
	alice := open(t, Options{Server: srv.url(), User: "alice"})
	bob := open(t, Options{Server: srv.url(), User: "bob"})
	a, b := put(t, alice, "a"), put(t, bob, "b")
	for _, c := range []*Client{alice, bob} {
		until(t, c, "both changes", func(v View) bool {
			return len(v.Heads) == 2 && v.Heads[0] == crdt.SortHashes([]crdt.Hash{a, b})[0] && saved(v)
		})
	}
	c := put(t, alice, "c")
	until(t, bob, "the third", func(v View) bool { return len(v.Heads) == 1 && v.Heads[0] == c })
}

func TestAServerThatRestarts(t *testing.T) {
	srv := startServer(t)
	alice := open(t, Options{Server: srv.url()})
	put(t, alice, "a")
	until(t, alice, "saved", saved)
	srv.down()
	until(t, alice, "lost", func(v View) bool { return v.Status.State == Reconnecting })
	b := put(t, alice, "b")
	if s := alice.Synced(); s.Saved || s.Pending != 1 {
		t.Errorf("without a server: %+v", s)
	}
	srv.up()
	alice.Reconnect()
	until(t, alice, "saved again", saved)
	bob := open(t, Options{Server: srv.url(), User: "bob"})
	until(t, bob, "what was made meanwhile", func(v View) bool { return len(v.Heads) == 1 && v.Heads[0] == b })
}

// A server that was restored from an older copy, or from none, gets everything
// again, and is not taken to have it before.
func TestAServerThatLostEverything(t *testing.T) {
	srv := startServer(t)
	alice := open(t, Options{Server: srv.url(), Replica: t.TempDir()})
	put(t, alice, "a")
	put(t, alice, "b")
	until(t, alice, "saved", saved)
	srv.down()
	until(t, alice, "lost", func(v View) bool { return v.Status.State == Reconnecting })
	srv.dir = t.TempDir()
	srv.up()
	alice.Reconnect()
	until(t, alice, "saved again", saved)
	bob := open(t, Options{User: "bob", Server: srv.url()})
	until(t, bob, "what was lost", func(v View) bool { return slices.Equal(v.Heads, alice.Heads()) })
}

func TestFlush(t *testing.T) {
	srv := startServer(t)
	c := open(t, Options{Server: srv.url()})
	put(t, c, "a")
	check(t, c.Flush(t.Context()))
	if !saved(c.View()) {
		t.Errorf("flushed: %+v", c.View())
	}
	offline := open(t, Options{})
	if err := offline.Flush(t.Context()); !errors.Is(err, ErrUnsaved) {
		t.Errorf("flushed to nowhere: %v", err)
	}
	srv.down()
	nobody := open(t, Options{Server: srv.url()})
	put(t, nobody, "a")
	if err := nobody.Flush(t.Context()); !errors.Is(err, ErrUnsaved) { // does not wait for ever
		t.Errorf("flushed to nobody: %v", err)
	}
}

// Who does not look for a while sees the last state, and has kept nobody waiting.
func TestASlowWatcher(t *testing.T) {
	c := open(t, Options{})
	w := c.Watch(t.Context())
	var last crdt.Hash
	for range 100 {
		last = put(t, c, "a")
	}
	if v := <-w; len(v.Heads) != 1 || v.Heads[0] != last {
		t.Errorf("sees %v, not %v", v.Heads, last)
	}
	select {
	case v := <-w:
		t.Errorf("sees more: %v", v.Heads)
	default:
	}
}
