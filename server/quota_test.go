package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/session"
	"parley/sync/wire"
)

// tooMany fails unless a connection with a token is closed for taking too much.
func (o *office) tooMany(ctx context.Context, token, code string) {
	o.t.Helper()
	got, text := o.refused(ctx, token)
	if got != websocket.StatusCode(session.CloseTooMany) || !session.CloseTooMany.Retry() || !strings.HasPrefix(text, code+": ") {
		o.t.Errorf("closed with %d %q, want %s", got, text, code)
	}
}

func TestConnectionsPerUser(t *testing.T) {
	inOffice(t, server.Options{Quotas: server.Quotas{UserConns: 2}}, func(ctx context.Context, o *office) {
		token := o.token("alice", transaction.Party, "sale")
		first := o.connect(ctx, token)
		second := o.connect(ctx, token)
		o.tooMany(ctx, token, "too-many-connections")
		o.connect(ctx, o.token("bob", transaction.Party, "sale")).CloseNow() // others may
		first.CloseNow()
		synctest.Wait()
		o.connect(ctx, token).CloseNow()
		second.CloseNow()
		if n := o.srv.Counts(); n.UserConnsOver != 1 || n.TokensRefused != 0 {
			t.Errorf("counted: %+v", n)
		}
	})
}

func TestConnectionsPerAddress(t *testing.T) {
	quotas := server.Quotas{AddressConns: 2, NewConns: 1, NewConnBurst: 4}
	inOffice(t, server.Options{Quotas: quotas}, func(ctx context.Context, o *office) {
		token := o.token("alice", transaction.Party, "sale")
		first, second := o.connect(ctx, token), o.connect(ctx, token)
		o.tooMany(ctx, token, "too-many-from-address")
		first.CloseNow()
		second.CloseNow()
		synctest.Wait()
		o.connect(ctx, token).CloseNow()
		synctest.Wait()
		o.tooMany(ctx, token, "connecting-too-fast")
		time.Sleep(time.Second)
		o.connect(ctx, token).CloseNow()
		if n := o.srv.Counts().AddressesOver; n != 2 {
			t.Errorf("counted: %d", n)
		}
	})
}

// Who sends too fast is slowed, and loses nothing; who does not stop is closed.
func TestFramesPerUser(t *testing.T) {
	quotas := server.Quotas{Frames: 10, FrameBurst: 10}
	inOffice(t, server.Options{Quotas: quotas}, func(ctx context.Context, o *office) {
		o.sale("sale")
		alice := o.enter(ctx, o.token("alice", transaction.Party, "sale"), "alice", "sale")
		o.whole(ctx, alice)
		began := time.Now()
		for i := range 50 {
			h := must(alice.Pick(ctx, "price", fmt.Sprint(i)))
			check(t, alice.Doc.Acknowledged(ctx, h))
		}
		if took := time.Since(began); took < 4*time.Second || took > 10*time.Second {
			t.Errorf("50 picks at 10 a second took %v", took)
		}
		if n := o.srv.Counts(); n.FramesSlowed == 0 || n.ConnsOverFrames != 0 {
			t.Errorf("counted: %+v", n)
		}
		// Others are not slowed, nor is who pauses.
		bob := o.enter(ctx, o.token("bob", transaction.Party, "sale"), "bob", "sale")
		o.whole(ctx, bob)
		time.Sleep(10 * time.Second)
		began = time.Now()
		check(t, bob.Doc.Acknowledged(ctx, must(bob.Pick(ctx, "price", "1"))))
		check(t, alice.Doc.Has(ctx, bob.Doc.Heads()[0]))
		check(t, alice.Doc.Acknowledged(ctx, must(alice.Pick(ctx, "price", "2"))))
		if took := time.Since(began); took > time.Second {
			t.Errorf("after a pause it took %v", took)
		}

		began = time.Now()
		for err := error(nil); err == nil; {
			err = alice.Send(ctx, &wire.DocUnavailable{SenderID: alice.PeerID, TargetID: "x", DocumentID: servertest.NewDocumentID()})
		}
		ended(t, ctx, alice, session.CloseTooMany)
		if took := time.Since(began); took < time.Minute || took > 2*time.Minute {
			t.Errorf("closed after %v", took)
		}
		if text := alice.Errors(); len(text) != 1 || !strings.HasPrefix(text[0], "frames-too-fast: ") {
			t.Errorf("told: %q", text)
		}
		if n := o.srv.Counts().ConnsOverFrames; n != 1 {
			t.Errorf("counted: %d", n)
		}
	})
}

// Echoes, which clients cannot help sending, cost a tenth.
func TestEchoesCostLittle(t *testing.T) {
	quotas := server.Quotas{Frames: 10, FrameBurst: 10}
	inOffice(t, server.Options{Quotas: quotas}, func(ctx context.Context, o *office) {
		c := o.connect(ctx, o.token("alice", transaction.Party, "sale"))
		defer c.CloseNow()
		began := time.Now()
		for i := range 500 {
			check(t, c.Send(ctx, &wire.Ephemeral{
				SenderID: "another", TargetID: "x", DocumentID: transaction.ID("sale").Document(),
				Count: uint64(i), SessionID: "s", Data: []byte{1},
			}))
		}
		if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("500 echoes took %v", took)
		}
	})
}

// TestRequests counts HTTP requests with the frames of their user, and by address.
func TestRequests(t *testing.T) {
	inOffice(t, server.Options{Quotas: server.Quotas{Frames: 10, FrameBurst: 20}}, func(ctx context.Context, o *office) {
		host := o.sale("sale")
		bob := o.token("bob", transaction.Party, "sale")
		o.connect(ctx, bob).CloseNow()
		time.Sleep(10 * time.Second)
		for i := range 4 {
			if status, code, _ := o.ask(bob, "GET", "/v1/transactions/sale", ""); status != 200 {
				t.Fatalf("request %d: %d %s", i, status, code)
			}
		}
		if status, code, _ := o.ask(bob, "GET", "/v1/transactions/sale/history", ""); status != 429 || code != "requests-too-fast" {
			t.Errorf("one more: %d %s", status, code)
		}
		if status, code, _ := o.ask(host, "GET", "/v1/transactions/sale", ""); status != 200 {
			t.Errorf("others: %d %s", status, code)
		}
		time.Sleep(time.Second)
		if status, code, _ := o.ask(bob, "GET", "/v1/transactions/sale", ""); status != 200 {
			t.Errorf("a second later: %d %s", status, code)
		}
		if n := o.srv.Counts().RequestsOver; n != 1 {
			t.Errorf("%d turned away", n)
		}
	})
	inOffice(t, server.Options{Quotas: server.Quotas{Frames: 1, FrameBurst: 5}}, func(ctx context.Context, o *office) {
		host := o.sale("sale") // which is one request, although it is looked at twice
		if status, code, _ := o.ask(host, "GET", "/v1/transactions/sale", ""); status != 429 {
			t.Errorf("a second request: %d %s", status, code)
		}
		o.connect(ctx, o.token("bob", transaction.Party, "sale")).CloseNow()
	})
	inOffice(t, server.Options{Quotas: server.Quotas{NewConns: 1, NewConnBurst: 4}}, func(ctx context.Context, o *office) {
		o.refused(ctx, "none") // counts with them
		for i := range 5 {     // without a token, too
			status, _, _ := o.ask("", "GET", "/v1/transactions/sale", "")
			if want := map[bool]int{true: 401, false: 429}[i < 3]; status != want {
				t.Errorf("request %d: %d, want %d", i, status, want)
			}
		}
	})
}

// Pings are no frames, and are answered 50 times a second at most.
func TestPingsAreAnsweredInTime(t *testing.T) {
	opt := server.Options{Ping: time.Hour} // a pipe takes one ping at a time
	inBubble(t, opt, func(t *testing.T, ctx context.Context, r *running) {
		ws, _, err := websocket.Dial(ctx, r.url, &websocket.DialOptions{HTTPClient: r.via})
		check(t, err)
		defer ws.CloseNow()
		ctx = ws.CloseRead(ctx)
		began := time.Now()
		check(t, ws.Ping(ctx))
		if took := time.Since(began); took > 0 {
			t.Errorf("the first ping took %v", took)
		}
		for range 100 {
			check(t, ws.Ping(ctx))
		}
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("100 pings took %v", took)
		}
	})
}
