package server_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
)

// inBubble runs a test with a server and its clients in a bubble, in which time
// passes when all of them wait for it, and at once.
func inBubble(t *testing.T, opt server.Options, test func(t *testing.T, ctx context.Context, r *running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		t.Cleanup(cancel)
		opt.Identify = server.DevIdentity
		r := &running{t: t, dir: t.TempDir(), pipe: servertest.NewPipe()}
		r.up(opt)
		t.Cleanup(r.down)
		test(t, ctx, r)
	})
}

const hostPath = "/v1/transactions?user=hana&role=host"

// sale makes a transaction with one required field, and other settings than the
// usual ones if there are any, such as `"quorum": 2`.
func (r *running) sale(id transaction.ID, settings string) {
	r.t.Helper()
	body := `{"id": "` + string(id) + `", ` + saleFields
	if settings != "" {
		body += ", " + settings
	}
	r.transaction("POST", hostPath, body+"}", 201)
}

// enter opens a transaction as a user. When it returns, the client has all that
// is in it and a roster with itself.
func (r *running) enter(ctx context.Context, id transaction.ID, v servertest.Visitor) *servertest.Party {
	r.t.Helper()
	if v.URL == "" {
		v.URL, v.Via = r.url, r.via
	}
	p, err := v.Enter(ctx, id)
	check(r.t, err)
	r.t.Cleanup(func() { p.CloseNow() })
	r.whole(ctx, p)
	return p
}

// back brings a client back on a new connection.
func (r *running) back(ctx context.Context, p *servertest.Party) {
	r.t.Helper()
	check(r.t, p.Return(ctx))
	r.whole(ctx, p)
}

// whole waits until a client knows how it stands.
func (r *running) whole(ctx context.Context, p *servertest.Party) {
	r.t.Helper()
	must(p.AwaitRoster(ctx, "a roster of what is here", func(roster *presence.Roster) bool {
		return sameHeads(roster.Heads, p.Doc.Heads()) && (p.User == "" || servertest.In(roster, p.User) != nil)
	}))
}

// agreedSale is a sale in which alice has picked and, if ready, confirmed.
func (r *running) agreedSale(ctx context.Context, settings string, users ...string) map[string]*servertest.Party {
	r.t.Helper()
	r.sale("sale", settings)
	here := make(map[string]*servertest.Party)
	for _, user := range users {
		here[user] = r.enter(ctx, "sale", servertest.Visitor{User: user})
	}
	first := here[users[0]]
	h := must(first.Pick(ctx, "price", "110"))
	check(r.t, first.Doc.Acknowledged(ctx, h))
	for _, p := range here {
		check(r.t, p.Doc.Has(ctx, h))
	}
	return here
}

// readyFor confirms, and waits until the roster of the same client shows it.
func (r *running) readyFor(ctx context.Context, p *servertest.Party) {
	r.t.Helper()
	must(p.Ready(ctx))
	must(p.AwaitRoster(ctx, "to be ready", func(roster *presence.Roster) bool {
		me := servertest.In(roster, p.User)
		return me != nil && me.Ready
	}))
}

func isReconnecting(user string) func(*presence.Roster) bool {
	return func(roster *presence.Roster) bool {
		p := servertest.In(roster, user)
		return p != nil && p.State == presence.Reconnecting
	}
}

func isGone(user string) func(*presence.Roster) bool {
	return func(roster *presence.Roster) bool { return servertest.In(roster, user) == nil }
}

func isOnline(user string) func(*presence.Roster) bool {
	return func(roster *presence.Roster) bool {
		p := servertest.In(roster, user)
		return p != nil && p.State == presence.Online
	}
}

func TestTheGraceIsKeptToTheMillisecond(t *testing.T) {
	const grace = 8 * time.Second
	for _, c := range []struct {
		name string
		away time.Duration
		left bool
	}{
		{"within it", grace - time.Millisecond, false},
		{"after it", grace + time.Millisecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, server.Options{Grace: grace}, func(t *testing.T, ctx context.Context, r *running) {
				here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice", "bob")
				alice, bob := here["alice"], here["bob"]
				r.readyFor(ctx, alice)
				before := servertest.In(bob.Roster(), "alice")
				time.Sleep(time.Minute) // the time of its coming back differs from that of its coming

				alice.CloseNow()
				synctest.Wait()
				if p := servertest.In(bob.Roster(), "alice"); p == nil || p.State != presence.Reconnecting || !p.Ready || p.Connections != 0 {
					t.Fatalf("when the connection was lost: %+v", p)
				}
				time.Sleep(c.away)
				synctest.Wait()
				if gone := servertest.In(bob.Roster(), "alice") == nil; gone != c.left {
					t.Errorf("after %v: left: %v", c.away, gone)
				}
				r.back(ctx, alice)
				synctest.Wait()
				time.Sleep(100 * time.Millisecond) // another roster was just told
				synctest.Wait()
				p := servertest.In(bob.Roster(), "alice")
				if p == nil || p.State != presence.Online || p.Ready == c.left || (p.Since != before.Since) != c.left {
					t.Errorf("back after %v: %+v, before: %+v", c.away, p, before)
				}
			})
		})
	}
}

func TestASilentClientReconnectsAndThenLeaves(t *testing.T) {
	const grace = 8 * time.Second
	inBubble(t, server.Options{Grace: grace, Ping: 5 * time.Second}, func(t *testing.T, ctx context.Context, r *running) {
		r.sale("sale", "")
		far := servertest.NewPipe()
		link := servertest.NewPipeProxy(far, r.pipe)
		t.Cleanup(link.Close)
		bob := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
		r.enter(ctx, "sale", servertest.Visitor{User: "alice", URL: r.url, Via: far.Client()})
		must(bob.AwaitRoster(ctx, "alice", isOnline("alice")))
		time.Sleep(time.Minute) // pings pass
		synctest.Wait()
		if !isOnline("alice")(bob.Roster()) {
			t.Fatal("a client that answers pings is not online")
		}

		link.Silence()
		start := time.Now()
		must(bob.AwaitRoster(ctx, "that alice reconnects", isReconnecting("alice")))
		noticed := time.Since(start)
		must(bob.AwaitRoster(ctx, "that alice has left", isGone("alice")))
		left := time.Since(start)
		t.Logf("reconnecting after %v, left after %v", noticed, left)
		if noticed > 10*time.Second || noticed < 5*time.Second || left-noticed < grace || left-noticed > grace+100*time.Millisecond {
			t.Errorf("reconnecting after %v, left after %v", noticed, left)
		}
	})
}

// A farewell to a dead link takes its time. The pings of others do not wait for
// it.
func TestDeadLinksDoNotHoldUpTheHeart(t *testing.T) {
	inBubble(t, server.Options{Ping: 5 * time.Second}, func(t *testing.T, ctx context.Context, r *running) {
		r.sale("sale", "")
		far := servertest.NewPipe()
		link := servertest.NewPipeProxy(far, r.pipe)
		t.Cleanup(link.Close)
		bob := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
		r.enter(ctx, "sale", servertest.Visitor{User: "alice", URL: r.url, Via: far.Client()})
		var others []*servertest.Party
		for i := range 10 {
			others = append(others, r.enter(ctx, "sale", servertest.Visitor{User: fmt.Sprint("other", i), URL: r.url, Via: far.Client()}))
		}
		time.Sleep(7 * time.Second)
		start := time.Now()
		link.Silence()
		time.Sleep(4900 * time.Millisecond)
		for _, p := range others { // their older connections are dead, and are told that they end
			r.back(ctx, p)
		}
		must(bob.AwaitRoster(ctx, "that alice reconnects", isReconnecting("alice")))
		if noticed := time.Since(start); noticed > 10*time.Second+100*time.Millisecond {
			t.Errorf("that alice is silent was noticed after %v", noticed)
		}
	})
}

func TestRostersComeAtMostTenTimesASecond(t *testing.T) {
	inBubble(t, server.Options{}, func(t *testing.T, ctx context.Context, r *running) {
		r.sale("sale", "")
		alice := r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
		bob := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
		time.Sleep(time.Second)
		start := time.Now()
		for i := range 500 { // one every 10 ms, and somebody who asks each time
			check(t, alice.Say(ctx, presence.Focus{Field: []string{"price", "date"}[i%2]}))
			check(t, bob.Say(ctx, presence.Ask{}))
			time.Sleep(10 * time.Millisecond)
		}
		check(t, alice.Say(ctx, presence.Focus{}))
		time.Sleep(time.Second)
		synctest.Wait()
		for _, p := range []*servertest.Party{alice, bob} {
			asks := p == bob // is answered besides, as often at most
			var last time.Time
			n := 0
			for _, told := range must(p.Told()) {
				if told.At.Before(start) {
					continue
				}
				if gap := told.At.Sub(last); gap < 100*time.Millisecond && !asks {
					t.Errorf("%s: two rosters within %v", p.User, gap)
				}
				last = told.At
				n++
			}
			if most := map[bool]int{false: 52, true: 104}[asks]; n < 45 || n > most {
				t.Errorf("%s: %d rosters in 5 s", p.User, n)
			}
			if me := servertest.In(p.Roster(), "alice"); me.Focus != "" {
				t.Errorf("%s: the last change was not told: %+v", p.User, me)
			}
		}
	})
}

func TestADocumentStaysWhileSomebodyMayComeBack(t *testing.T) {
	const grace = 8 * time.Second
	opt := server.Options{Grace: grace, IdleAfter: time.Second, Ping: time.Second}
	inBubble(t, opt, func(t *testing.T, ctx context.Context, r *running) {
		here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice")
		alice := here["alice"]
		r.readyFor(ctx, alice)
		before := servertest.In(alice.Roster(), "alice")
		for range 3 { // away, all alone, and back in time
			alice.CloseNow()
			time.Sleep(grace - time.Millisecond)
			synctest.Wait()
			if n := r.srv.OpenDocuments(); n != 1 {
				t.Fatalf("%d documents in memory during the grace", n)
			}
			r.back(ctx, alice)
			if p := servertest.In(alice.Roster(), "alice"); !p.Ready || p.Since != before.Since {
				t.Fatalf("back in time: %+v, before: %+v", p, before)
			}
		}
		alice.CloseNow()
		time.Sleep(grace + 3*time.Second)
		synctest.Wait()
		if n := r.srv.OpenDocuments(); n != 0 {
			t.Errorf("%d documents in memory when all have left", n)
		}
		r.back(ctx, alice)
		if p := servertest.In(alice.Roster(), "alice"); p.Ready || p.Since == before.Since {
			t.Errorf("a ghost: %+v", p)
		}
	})
}

// A document in which somebody says goodbye, and nobody else is, goes at once.
func TestAGoodbyeHasNoGrace(t *testing.T) {
	inBubble(t, server.Options{IdleAfter: time.Second, Ping: time.Second}, func(t *testing.T, ctx context.Context, r *running) {
		r.sale("sale", "")
		alice := r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
		tab := r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
		bob := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
		time.Sleep(time.Second)
		check(t, tab.Say(ctx, presence.Leave{}))
		synctest.Wait()
		if p := servertest.In(bob.Roster(), "alice"); p == nil || p.Connections != 1 || p.State != presence.Online {
			t.Errorf("one of two tabs was closed: %+v", p)
		}
		time.Sleep(time.Second)
		check(t, alice.Goodbye(ctx))
		synctest.Wait()
		if p := servertest.In(bob.Roster(), "alice"); p != nil {
			t.Errorf("after the goodbye: %+v", p)
		}
		check(t, bob.Say(ctx, presence.Leave{}))
		bob.CloseNow()
		tab.CloseNow()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := r.srv.OpenDocuments(); n != 0 {
			t.Errorf("%d documents in memory", n)
		}
	})
}

// People whose connections a shutdown ends have not left, however long it takes:
// who stays behind must not agree without them.
func TestAShutdownMakesNobodyLeave(t *testing.T) {
	const grace = time.Second
	inBubble(t, server.Options{Grace: grace}, func(t *testing.T, ctx context.Context, r *running) {
		r.sale("sale", "")
		far := servertest.NewPipe()
		link := servertest.NewPipeProxy(far, r.pipe)
		t.Cleanup(link.Close)
		carol := r.enter(ctx, "sale", servertest.Visitor{User: "carol"})
		h := must(carol.Pick(ctx, "price", "110"))
		check(t, carol.Doc.Acknowledged(ctx, h))
		for _, user := range []string{"alice", "bob"} {
			p := r.enter(ctx, "sale", servertest.Visitor{User: user, URL: r.url, Via: far.Client()})
			r.readyFor(ctx, p)
		}
		time.Sleep(time.Second)

		link.Silence() // they are slow to take their farewell
		start := time.Now()
		r.down()
		took := time.Since(start)
		if took <= 2*grace {
			t.Errorf("the shutdown took %v: nobody had the time to leave", took)
		}
		r.up(server.Options{Identify: server.DevIdentity})
		if s := r.transaction("GET", "/v1/transactions/sale", "", 200); len(s.Resolutions) > 0 {
			t.Errorf("agreed without carol: %+v", s.Resolutions)
		}
	})
}
