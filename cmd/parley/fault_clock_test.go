package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/coder/websocket"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/server/store"
	"parley/sync/presence"
	"parley/sync/session"
)

// setClock is the machine's clock, set to another time: as there, what it says of the
// calendar moves, and the monotonic reading goes on. Nothing in package time makes
// such a time, so it is made of the parts that one has.
type setClock struct{ seconds atomic.Int64 }

func (c *setClock) now() time.Time {
	t := time.Now()
	wall := (*uint64)(unsafe.Pointer(&t)) // a bit, 33 bits of seconds since 1885, 30 bits of nanoseconds
	*wall += uint64(c.seconds.Load()) << 30
	return t
}

func (c *setClock) set(d time.Duration) { c.seconds.Store(int64(d / time.Second)) }

func TestSetClock(t *testing.T) {
	var c setClock
	for _, d := range []time.Duration{0, 24 * time.Hour, -time.Hour} {
		c.set(d)
		before := time.Now()
		now := c.now()
		if went := now.Sub(before); went < 0 || went > time.Minute {
			t.Errorf("set by %v: the monotonic reading went by %v", d, went)
		}
		if off := now.Round(0).Sub(before.Round(0)) - d; off.Abs() > time.Minute {
			t.Errorf("set by %v, it is off by %v", d, off)
		}
	}
}

// clocked is a server in this process, whose clock can be set.
func clocked(t *testing.T, data string, c *setClock, until time.Time) (url string, stop func()) {
	t.Helper()
	st, err := store.Open(data, store.Options{})
	check(t, err)
	key, err := signingKey(data, st.StorageID())
	check(t, err)
	srv, err := server.New(st, server.Options{
		Key: key, Now: c.now, Ping: 400 * time.Millisecond, Grace: 400 * time.Millisecond, Identify: func(r *http.Request) (server.Identity, error) {
			who, err := server.DevIdentity(r)
			if who.User == "guest" {
				who.Expires = until
			}
			return who, err
		},
	})
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	hs := &http.Server{Handler: srv.Handler(), ConnContext: server.ConnContext, ReadHeaderTimeout: time.Second}
	go func() { _ = hs.Serve(server.Listener(l)) }()
	return "ws://" + l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		check(t, srv.Shutdown(ctx))
		check(t, hs.Shutdown(ctx))
		check(t, st.Close())
	}
}

// TestFaultClock sets the clock of a server forth and back under people who pick.
// Nobody is cut off but whose token has run out, who is gone is gone as soon as ever,
// and when the times of receipts go backwards, their order is what it was: the record
// is proved.
func TestFaultClock(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	data := t.TempDir()
	var c setClock
	url, stop := clocked(t, data, &c, time.Now().Add(time.Hour).Round(0))
	openDeal(t, url)
	people := goIn(t, url, "deal", "alice", "bob")
	guest, err := servertest.Visitor{URL: url, User: "guest", Role: transaction.Viewer}.Enter(ctx, "calm")
	check(t, err)
	defer guest.CloseNow()
	rest := busy(t, people)
	mustBeHere(t, ctx, url, "deal", people)
	for _, d := range []time.Duration{30 * time.Minute, -48 * time.Hour} {
		vanish(t, ctx, url)
		c.set(d)
		mustBeHere(t, ctx, url, "deal", people)
	}
	if code, err := guest.Ended(expired()); err == nil {
		t.Errorf("the guest was cut off with %d before the token had run out", code)
	}
	c.set(2 * time.Hour)
	if code, err := guest.Ended(within(t, 20*time.Second)); err != nil || code != websocket.StatusCode(session.CloseExpired) {
		t.Errorf("the token has run out: %d, %v", code, err)
	}
	c.set(-time.Hour)
	rest()
	converge(t, ctx, url, people)
	for _, who := range people {
		if now := who.Status(); now.Tries > 0 {
			t.Errorf("%s was cut off: %+v", who.user, now)
		}
	}
	for _, field := range []string{"price", "field0", "field1", "field2", "field3", "field4"} { // some may be contested
		_, err = people[0].Pick(ctx, field, []byte("100"), "")
		check(t, err)
	}
	converge(t, ctx, url, people)
	agreed := make(chan presence.Resolution, 1)
	defer people[0].OnResolved(func(r presence.Resolution) { agreed <- r })()
	for _, who := range people {
		check(t, who.Ready(ctx, who.Heads()))
	}
	if r := <-agreed; time.UnixMilli(r.At).After(time.Now().Add(-30 * time.Minute)) {
		t.Errorf("agreed at %v, by a clock that is an hour late", time.UnixMilli(r.At))
	}
	stop()
	mustHaveReceipts(t, data, people)
	mustGoBackwards(t, data)
	mustBeProved(t, data)
}

// expired is for looking without waiting.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// mustGoBackwards checks that the fault has happened.
func mustGoBackwards(t *testing.T, data string) {
	t.Helper()
	st, err := store.Open(data, store.Options{})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	receipts, err := st.Receipts(t.Context(), transaction.ID("deal").Document(), 1<<20)
	check(t, err)
	back := 0
	for i, r := range receipts[1:] {
		if r.At < receipts[i].At {
			back++
		}
	}
	if back == 0 {
		t.Error("no receipt is earlier than the one before")
	}
	t.Logf("%d of %d receipts are earlier than the one before", back, len(receipts))
}

// mustBeProved has the binary, by a clock that is right, make the record and verify it.
func mustBeProved(t *testing.T, data string) {
	t.Helper()
	p := serve(t, data)
	record := filepath.Join(t.TempDir(), "deal.zip")
	if out, code := parley(t, p.url, "export", "deal", "--user", "vera", "--role", "auditor", "--out", record); code != exitOK {
		t.Fatalf("parley export: exit %d: %s", code, out)
	}
	check(t, p.end(os.Interrupt))
	out, code := parley(t, "", "verify", record, "--key", filepath.Join(data, publicFile))
	if code != exitOK || !strings.Contains(out, "agreed by alice and bob") {
		t.Errorf("parley verify: exit %d: %s", code, out)
	}
	mustBeSoundOnDisk(t, data)
}
