package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"parley/crdt"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
)

// Whoever confirms what cannot be confirmed is told why, and nobody else is.
func TestRefusedConfirmations(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	r.sale("sale", "")
	alice := r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
	bob := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
	refused := func(p *servertest.Party, code crdt.Code) {
		t.Helper()
		heads := must(p.Ready(ctx))
		rejected := must(servertest.AwaitTold[*presence.Rejected](ctx, p))
		if rejected.Code != code || rejected.Of != "ready" || !sameHeads(rejected.Heads, heads) || rejected.Message == "" {
			t.Errorf("%s: %+v, want %s", p.User, rejected, code)
		}
	}
	refused(alice, presence.CodeIncomplete)

	// Two pick without having heard of each other's.
	link := r.badLink()
	carol := r.enter(ctx, "sale", servertest.Visitor{User: "carol", URL: link.URL()})
	link.Silence()
	a := must(alice.Pick(ctx, "price", "110"))
	check(t, bob.Doc.Has(ctx, a))
	b := must(carol.Pick(ctx, "price", "120"))
	check(t, carol.Return(ctx))
	check(t, carol.Doc.Acknowledged(ctx, b))
	for _, p := range []*servertest.Party{alice, bob} {
		check(t, p.Doc.Has(ctx, b))
		refused(p, presence.CodeContested)
	}
	must(alice.AwaitRoster(ctx, "what is contested", func(roster *presence.Roster) bool {
		return len(roster.Contested) == 1 && roster.Contested[0] == "price" && len(roster.Heads) == 2
	}))

	h := must(alice.Pick(ctx, "price", "115"))
	check(t, bob.Doc.Has(ctx, h))
	check(t, bob.Say(ctx, presence.Ready{Heads: []crdt.Hash{a}}))
	if rejected := must(servertest.AwaitTold[*presence.Rejected](ctx, bob)); rejected.Code != presence.CodeStale {
		t.Errorf("for what was before: %+v", rejected)
	}
	nobody := r.enter(ctx, "sale", servertest.Visitor{})
	check(t, nobody.Doc.Has(ctx, h))
	refused(nobody, presence.CodeNotAParty)
	refused(r.enter(ctx, "sale", servertest.Visitor{User: "hana", Role: "host"}), presence.CodeNotAParty)
	refused(r.enter(ctx, "sale", servertest.Visitor{User: "dora", Role: "viewer"}), presence.CodeNotAParty)
	r.readyFor(ctx, bob)
	roster := bob.Roster()
	if servertest.In(roster, "") != nil || servertest.In(roster, "dora") == nil || servertest.In(roster, "alice").Ready {
		t.Errorf("the roster is %+v", roster)
	}
}

func TestMessagesAboutNoTransaction(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	p, err := servertest.Visitor{URL: r.url, User: "alice"}.Enter(ctx, "nothing")
	check(t, err)
	defer p.CloseNow()
	check(t, p.Doc.Unavailable(ctx, 1))
	check(t, p.Say(ctx, presence.Ask{}))
	if rejected := must(servertest.AwaitTold[*presence.Rejected](ctx, p)); rejected.Code != "no-transaction" {
		t.Errorf("told %+v", rejected)
	}
	r.sale("nothing", "") // now it is there, and so is alice
	r.whole(ctx, p)
}

// What was agreed when the server was told to stop is kept, although the disk was
// slow, and although it became an agreement only meanwhile.
func TestAShutdownKeepsWhatWasAgreed(t *testing.T) {
	for _, c := range []struct{ name, settings string }{
		{"by the last ready", `"parties": ["alice", "bob"]`},
		{"by a lower quorum", `"parties": ["alice", "bob", "carol"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, server.Options{}, func(t *testing.T, ctx context.Context, r *running) {
				here := r.agreedSale(ctx, c.settings, "alice", "bob")
				heads := here["alice"].Doc.Heads()
				r.readyFor(ctx, here["alice"])
				release := r.stall()
				must(here["bob"].Ready(ctx))
				synctest.Wait()
				answer := r.callLater("POST", hostPath, `{"id": "sale", "quorum": 2}`)
				synctest.Wait()
				time.AfterFunc(time.Second, release)
				r.down()
				<-answer
				r.up(server.Options{Identify: server.DevIdentity})
				s := r.transaction("GET", salePath, "", 200)
				if len(s.Resolutions) != 1 || !s.Resolutions[0].Over(heads) || s.Quorum != 2 {
					t.Errorf("after the restart: %+v", s)
				}
			})
		})
	}
}
