package server_test

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"parley/crdt"
	"parley/server"
	"parley/server/servertest"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/postgres"
	"parley/sync/session"
	"parley/sync/wire"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); code == 0 && err != nil {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// running is a server on a free port over a store in a folder of its own.
type running struct {
	t     testing.TB
	dir   string
	pg    string // URL of a database, in place of dir
	url   string // ws://
	store *store.Store
	srv   *server.Server
	http  *http.Server

	via  *http.Client     // how requests get there
	pipe *servertest.Pipe // in place of a port; nil: there is one

	transactionsOnly bool      // for the next up
	log              io.Writer // hears what the server logs; nil: the test's output
	quiet            bool      // logs what is wrong only
}

func start(t testing.TB, opt server.Options) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir()}
	r.up(opt)
	t.Cleanup(r.down)
	return r
}

func (r *running) up(opt server.Options) {
	r.t.Helper()
	level := slog.LevelDebug
	if r.quiet {
		level = slog.LevelWarn
	}
	opt.Logger = slog.New(slog.NewTextHandler(cmp.Or(r.log, r.t.Output()), &slog.HandlerOptions{Level: level}))
	st, err := r.openStore(store.Options{Logger: opt.Logger})
	if err != nil {
		r.t.Fatal(err)
	}
	opt.PlainDocuments = !r.transactionsOnly
	srv, err := server.New(st, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.store, r.srv = st, srv
	l := r.listen()
	r.http = &http.Server{Handler: srv.Handler(), ConnContext: server.ConnContext, ReadHeaderTimeout: time.Second}
	go func() { _ = r.http.Serve(server.Listener(l)) }()
}

func (r *running) openStore(opt store.Options) (*store.Store, error) {
	if r.pg != "" {
		return postgres.Open(context.Background(), r.pg, opt)
	}
	return store.Open(r.dir, opt)
}

func (r *running) listen() net.Listener {
	if r.pipe != nil {
		r.pipe = servertest.NewPipe()
		r.via, r.url = r.pipe.Client(), "ws://pipe"
		return r.pipe
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.via, r.url = http.DefaultClient, "ws://"+l.Addr().String()
	return l
}

func (r *running) down() {
	if r.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.srv.Shutdown(ctx); err != nil {
		r.t.Error(err)
	}
	if err := r.http.Shutdown(ctx); err != nil {
		r.t.Error(err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	r.srv = nil
}

func (r *running) dial(ctx context.Context, peer wire.PeerID) *servertest.Client {
	r.t.Helper()
	c, err := servertest.Dial(ctx, r.url, peer)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.CloseNow)
	return c
}

func (r *running) open(ctx context.Context, c *servertest.Client, id crdt.DocumentID) *servertest.Document {
	r.t.Helper()
	d, err := c.Open(ctx, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	resp, err := r.via.Get("http" + strings.TrimPrefix(r.url, "ws") + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	r.via.CloseIdleConnections()
	return resp.StatusCode, string(body)
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTwoClientsAndARestart(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{})
	id := servertest.NewDocumentID()
	alice := r.open(ctx, r.dial(ctx, "alice"), id)
	check(t, alice.Unavailable(ctx, 1))
	bob := r.open(ctx, r.dial(ctx, "bob"), id)
	check(t, bob.Unavailable(ctx, 1))

	h := must(alice.Set(ctx, "price", int64(100)))
	check(t, alice.Acknowledged(ctx, h))
	check(t, bob.Has(ctx, h))
	h = must(bob.Set(ctx, "price", int64(120)))
	check(t, bob.Acknowledged(ctx, h))
	check(t, alice.Has(ctx, h))

	r.down()
	r.up(server.Options{})
	carol := r.open(ctx, r.dial(ctx, "carol"), id)
	check(t, carol.Has(ctx, h))
	if v := must(carol.Get("price")); v != int64(120) {
		t.Errorf("after the restart price is %v", v)
	}
}

func TestTheSamePeerIDReplacesItsOlderConnection(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{})
	older := r.dial(ctx, "alice")
	newer := r.dial(ctx, "alice")
	code, err := older.Ended(ctx)
	check(t, err)
	if code != websocket.StatusCode(session.CloseReplaced) {
		t.Errorf("the older connection ended with %d", code)
	}
	d := r.open(ctx, newer, servertest.NewDocumentID())
	check(t, d.Acknowledged(ctx, must(d.Set(ctx, "a", "b"))))
}

func TestShutdownTellsClientsToComeBack(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{})
	c := r.dial(ctx, "alice")
	r.down()
	code, err := c.Ended(ctx)
	check(t, err)
	if code != websocket.StatusCode(session.CloseRestarting) || !session.CloseCode(code).Retry() {
		t.Errorf("the connection ended with %d", code)
	}
}

func TestWhoDoesNotJoinIsClosed(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{JoinWithin: 50 * time.Millisecond})
	c := must(servertest.Connect(ctx, r.url))
	defer c.CloseNow()
	code, err := c.Ended(ctx)
	check(t, err)
	if code != websocket.StatusCode(session.CloseJoinTimeout) {
		t.Errorf("closed with %d", code)
	}
	if len(c.Errors()) != 1 {
		t.Errorf("error frames: %q", c.Errors())
	}
}

func TestFramesOverTheLimit(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Limits: session.Limits{Frame: 100_000, JoinFrame: 1000}})
	early := must(servertest.Connect(ctx, r.url))
	defer early.CloseNow()
	_ = early.Write(ctx, websocket.MessageBinary, make([]byte, 1001))
	if code := must(early.Ended(ctx)); code != websocket.StatusMessageTooBig {
		t.Errorf("before the join: closed with %d", code)
	}
	late := r.dial(ctx, "alice")
	_ = late.Write(ctx, websocket.MessageBinary, make([]byte, 100_001))
	if code := must(late.Ended(ctx)); code != websocket.StatusMessageTooBig {
		t.Errorf("after the join: closed with %d", code)
	}
	d := r.open(ctx, r.dial(ctx, "bob"), servertest.NewDocumentID())
	check(t, d.Acknowledged(ctx, must(d.Set(ctx, "a", "b"))))
}

// A client that joins, and then neither answers pings nor sends anything.
func TestSilentConnectionsAreDropped(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Ping: 50 * time.Millisecond, JoinWithin: time.Hour})
	raw := must(net.Dial("tcp", strings.TrimPrefix(r.url, "ws://")))
	defer raw.Close()
	_, err := io.WriteString(raw, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	check(t, err)
	join := wire.Append(nil, &wire.Join{SenderID: "silent", Versions: []string{wire.ProtocolVersion}})
	_, err = raw.Write(append([]byte{0x82, 0x80 | byte(len(join)), 0, 0, 0, 0}, join...)) // masked with zeros
	check(t, err)
	check(t, raw.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := io.Copy(io.Discard, raw); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the silent connection was kept")
	}
	r.awaitMetrics(soon(t), series{`parley_connections_ended_total{reason="silent"}`: 1})
	alive := r.dial(ctx, "alice") // answers pings, since it reads
	d := r.open(ctx, alive, servertest.NewDocumentID())
	check(t, d.Unavailable(ctx, 1))
	check(t, d.Acknowledged(ctx, must(d.Set(ctx, "a", "b"))))
}

// slowLine is a connection on which little arrives at a time.
type slowLine struct{ net.Conn }

func (l slowLine) Read(p []byte) (int, error) {
	time.Sleep(8 * time.Millisecond)
	return l.Conn.Read(p[:min(len(p), 16<<10)])
}

// A frame that takes many ping intervals to arrive is progress, although no
// pong can come meanwhile.
func TestSlowLinesAreNotDropped(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Ping: time.Second})
	id := servertest.NewDocumentID()
	alice := r.open(ctx, r.dial(ctx, "alice"), id)
	check(t, alice.Acknowledged(ctx, must(alice.Set(ctx, "a", randomText(3_500_000)))))
	h := must(alice.Set(ctx, "b", randomText(3_500_000)))
	check(t, alice.Acknowledged(ctx, h))

	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return slowLine{c}, err
	}}
	slow := must(servertest.ConnectVia(ctx, r.url, &http.Client{Transport: transport}))
	defer slow.CloseNow()
	check(t, slow.Join(ctx, "slow"))
	check(t, r.open(ctx, slow, id).Has(ctx, h))
}

// randomText is text that no deflate makes shorter by much.
func randomText(n int) string {
	b := make([]byte, n/2)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return hex.EncodeToString(b)
}

func TestHealth(t *testing.T) {
	r := start(t, server.Options{})
	if code, body := r.get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := r.get("/readyz"); code != http.StatusOK || body != "ready\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
	if code, body := r.get("/"); code != http.StatusUpgradeRequired || !strings.Contains(body, "WebSocketClientAdapter") {
		t.Errorf("/: %d %q", code, body)
	}
	if code, _ := r.get("/nothing"); code != http.StatusNotFound {
		t.Errorf("/nothing: %d", code)
	}
}

func TestIdleDocumentsLeaveMemoryAndComeBack(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Ping: 20 * time.Millisecond, IdleAfter: time.Millisecond})
	id := servertest.NewDocumentID()
	c := r.dial(ctx, "alice")
	d := r.open(ctx, c, id)
	h := must(d.Set(ctx, "a", "b"))
	check(t, d.Acknowledged(ctx, h))
	c.CloseNow()
	for r.srv.OpenDocuments() > 0 {
		if ctx.Err() != nil {
			t.Fatal("the document stays in memory")
		}
		time.Sleep(time.Millisecond)
	}
	check(t, r.open(ctx, r.dial(ctx, "bob"), id).Has(ctx, h))
}

func sameHeads(a, b []crdt.Hash) bool { return slices.Equal(a, b) }
