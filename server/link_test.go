package server_test

import (
	"context"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
)

// badLink is a way to the server that can be made a bad one.
func (r *running) badLink() *servertest.Proxy {
	r.t.Helper()
	link := servertest.NewProxy(must(net.Listen("tcp", "127.0.0.1:0")), strings.TrimPrefix(r.url, "ws://"))
	r.t.Cleanup(link.Close)
	return link
}

// overBadLink is a sale, settled and not agreed on, in which alice is behind a
// bad link and bob is not.
func overBadLink(t *testing.T, ctx context.Context, opt server.Options, settings string) (r *running, link *servertest.Proxy, alice, bob *servertest.Party) {
	t.Helper()
	opt.Identify = server.DevIdentity
	r = start(t, opt)
	link = r.badLink()
	r.sale("sale", settings)
	alice = r.enter(ctx, "sale", servertest.Visitor{User: "alice", URL: link.URL()})
	bob = r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
	h := must(bob.Pick(ctx, "price", "110"))
	check(t, bob.Doc.Acknowledged(ctx, h))
	check(t, alice.Doc.Has(ctx, h))
	return r, link, alice, bob
}

func TestALinkThatFlapsWithinTheGrace(t *testing.T) {
	ctx := deadline(t)
	r, link, alice, bob := overBadLink(t, ctx, server.Options{Grace: time.Hour}, `"parties": ["alice", "bob"]`)
	r.readyFor(ctx, alice)
	before := must(bob.AwaitRoster(ctx, "that alice is ready", func(roster *presence.Roster) bool {
		p := servertest.In(roster, "alice")
		return p != nil && p.Ready
	}))
	for range 10 {
		link.Cut()
		must(bob.AwaitRoster(ctx, "that alice reconnects", isReconnecting("alice")))
		check(t, alice.Return(ctx))
		now := must(bob.AwaitRoster(ctx, "that alice is back", isOnline("alice")))
		a, b := servertest.In(before, "alice"), servertest.In(now, "alice")
		if !b.Ready || b.Since != a.Since || b.Connections != 1 || len(now.Participants) != 2 {
			t.Fatalf("back within the grace: %+v", now)
		}
	}
}

func TestALinkThatIsAwayForLonger(t *testing.T) {
	ctx := deadline(t)
	r, link, alice, bob := overBadLink(t, ctx, server.Options{Grace: 50 * time.Millisecond}, `"parties": ["alice", "bob"]`)
	r.readyFor(ctx, alice)
	before := must(bob.AwaitRoster(ctx, "that alice is ready", func(roster *presence.Roster) bool {
		p := servertest.In(roster, "alice")
		return p != nil && p.Ready
	}))
	link.Cut()
	must(bob.AwaitRoster(ctx, "that alice has left", isGone("alice")))
	r.back(ctx, alice)
	now := must(bob.AwaitRoster(ctx, "that alice is back", isOnline("alice")))
	if p := servertest.In(now, "alice"); p.Ready || p.Since == servertest.In(before, "alice").Since {
		t.Errorf("back after the grace: %+v", p)
	}
}

// The server finds out by its pings; or the client does, and comes back before.
func TestAHalfOpenLink(t *testing.T) {
	ctx := deadline(t)
	_, link, alice, bob := overBadLink(t, ctx, server.Options{Ping: 500 * time.Millisecond, Grace: time.Hour}, "")
	link.Silence()
	must(bob.AwaitRoster(ctx, "that alice reconnects", isReconnecting("alice")))
	check(t, alice.Return(ctx))
	must(bob.AwaitRoster(ctx, "that alice is back", isOnline("alice")))
}

func TestAReturnBeforeTheServerFindsOut(t *testing.T) {
	ctx := deadline(t)
	r, link, alice, bob := overBadLink(t, ctx, server.Options{Ping: time.Hour}, `"parties": ["alice", "bob"]`)
	r.readyFor(ctx, alice)
	for range 5 {
		link.Silence()
		r.back(ctx, alice)
		roster := alice.Roster()
		p := servertest.In(roster, "alice")
		if len(roster.Participants) != 2 || p.Connections != 1 || !p.Ready || p.State != presence.Online {
			t.Fatalf("on a new connection: %+v", roster)
		}
	}
	check(t, alice.Say(ctx, presence.Unready{}))
	must(bob.AwaitRoster(ctx, "that the new connection is heard", func(roster *presence.Roster) bool {
		p := servertest.In(roster, "alice")
		return p != nil && !p.Ready
	}))
}

// Of all that happens while a client is away it has missed the messages, and is
// told in the end what somebody knows who was there all the time.
func TestWhoMissedMessagesIsWholeAgain(t *testing.T) {
	ctx := deadline(t)
	r, link, alice, bob := overBadLink(t, ctx, server.Options{Grace: time.Hour, Ping: time.Hour}, `"parties": ["bob", "carol"]`)
	carol := r.enter(ctx, "sale", servertest.Visitor{User: "carol"})
	for round := range 5 {
		if round%2 == 0 {
			link.Cut()
		} else {
			link.Silence()
		}
		r.readyFor(ctx, carol)
		h := must(bob.Pick(ctx, "price", []string{"1", "2", "3", "4", "5"}[round]))
		check(t, bob.Doc.Acknowledged(ctx, h))
		must(servertest.AwaitTold[*presence.Lapsed](ctx, carol))
		check(t, carol.Doc.Has(ctx, h))
		r.readyFor(ctx, carol)
		must(bob.Ready(ctx))
		agreed := must(servertest.AwaitTold[*presence.Resolved](ctx, bob))
		if agreed.Resolution.N != round+1 || !agreed.Resolution.Over(bob.Doc.Heads()) {
			t.Fatalf("resolved: %+v", agreed)
		}
		check(t, carol.Say(ctx, presence.Focus{Field: "price"}))

		r.back(ctx, alice)
		check(t, alice.Doc.Has(ctx, h))
		there := must(carol.AwaitRoster(ctx, "a quiet room", func(roster *presence.Roster) bool {
			return isOnline("alice")(roster) && servertest.In(roster, "carol").Focus == "price" && roster.Resolution.Over(carol.Doc.Heads())
		}))
		here := alice.Roster()
		if here.Rev < there.Rev {
			here = must(alice.AwaitRoster(ctx, "the last roster", func(roster *presence.Roster) bool { return roster.Rev >= there.Rev }))
		}
		if !reflect.DeepEqual(here, there) || here.Resolution.N != round+1 {
			t.Fatalf("who was away has\n%+v\nand who was not\n%+v", here, there)
		}
		check(t, carol.Say(ctx, presence.Focus{}))
	}
}

func TestTheRosterTellsHowLongALinkIs(t *testing.T) {
	ctx := deadline(t)
	_, link, _, bob := overBadLink(t, ctx, server.Options{Ping: 300 * time.Millisecond}, "")
	link.Delay(50 * time.Millisecond)
	roster := must(bob.AwaitRoster(ctx, "a round trip time", func(roster *presence.Roster) bool {
		p := servertest.In(roster, "alice")
		return p != nil && p.RoundTrip >= 90*time.Millisecond
	}))
	if trip := servertest.In(roster, "alice").RoundTrip; trip > 5*time.Second {
		t.Errorf("the round trip took %v", trip)
	}
	if trip := servertest.In(roster, "bob").RoundTrip; trip > 5*time.Second {
		t.Errorf("without delay it took %v", trip)
	}
}
