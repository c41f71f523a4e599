package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
)

// flapper is a user who comes and goes as chance has it, in several tabs. It
// knows what should be known of it.
type flapper struct {
	user   string
	random *rand.Rand
	from   servertest.Visitor
	link   *servertest.Proxy // its own
	tabs   []*flapperTab
	err    error
}

type flapperTab struct {
	party *servertest.Party
	away  bool // took leave, and listens on
	dead  bool // its link is
}

const crowdID transaction.ID = "crowd"

// flap does something at random every now and then, until then.
func (f *flapper) flap(ctx context.Context, until time.Time, pause time.Duration) {
	for f.err == nil && time.Now().Before(until) {
		f.err = f.act(ctx)
		time.Sleep(time.Duration(f.random.Int64N(int64(pause))))
	}
	for f.err == nil && slices.ContainsFunc(f.tabs, func(t *flapperTab) bool { return t.dead }) {
		f.err = f.revive(ctx) // nobody is in doubt at the end
	}
}

// revive brings back a tab whose link is dead: as the same client, or it is
// closed and never heard of again.
func (f *flapper) revive(ctx context.Context) error {
	i := slices.IndexFunc(f.tabs, func(t *flapperTab) bool { return t.dead })
	if i < 0 {
		return nil
	}
	tab := f.tabs[i]
	if f.random.IntN(3) == 0 {
		tab.party.CloseNow()
		f.tabs = slices.Delete(f.tabs, i, i+1)
		return nil
	}
	tab.dead, tab.away = false, false
	return tab.party.Return(ctx)
}

func (f *flapper) act(ctx context.Context) error {
	if len(f.tabs) == 0 || len(f.tabs) < 3 && f.random.IntN(4) == 0 {
		party, err := f.from.Enter(ctx, crowdID)
		if err == nil {
			f.tabs = append(f.tabs, &flapperTab{party: party})
		}
		return err
	}
	i := f.random.IntN(len(f.tabs))
	tab := f.tabs[i]
	if tab.dead {
		return f.revive(ctx)
	}
	switch f.random.IntN(7) {
	case 0: // all of its connections are cut
		f.link.Cut()
		for _, t := range f.tabs {
			t.dead = true
		}
	case 1: // they are half-open
		f.link.Silence()
		for _, t := range f.tabs {
			t.dead = true
		}
	case 2: // back before anybody knows that it was away
		tab.away = false
		return tab.party.Return(ctx)
	case 3:
		tab.away = true
		return tab.party.Say(ctx, presence.Leave{})
	case 4: // whoever is at a field is here
		tab.away = false
		return tab.party.Say(ctx, presence.Focus{Field: fmt.Sprint("field", f.random.IntN(3))})
	case 5:
		f.tabs = slices.Delete(f.tabs, i, i+1)
		return tab.party.Goodbye(ctx)
	case 6:
		f.tabs = slices.Delete(f.tabs, i, i+1)
		tab.party.CloseNow()
	}
	return nil
}

// here returns how many of its tabs make it a participant.
func (f *flapper) here() (n int) {
	for _, tab := range f.tabs {
		if !tab.away {
			n++
		}
	}
	return n
}

// flapTogether lets a crowd come and go, and calls rest when it has come to rest
// and the grace is over.
func flapTogether(t *testing.T, ctx context.Context, r *running, visit func() (servertest.Visitor, *servertest.Proxy), users int, lasting, pause time.Duration, rest func(all []*flapper)) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r.sale(crowdID, "")
	all := make([]*flapper, users)
	until := time.Now().Add(lasting)
	var wg sync.WaitGroup
	for i := range all {
		f := &flapper{user: fmt.Sprintf("user-%02d", i), random: rand.New(rand.NewPCG(seed, uint64(i)))}
		f.from, f.link = visit()
		f.from.User, f.from.LastOnly = f.user, true
		all[i] = f
		wg.Go(func() { f.flap(ctx, until, pause) })
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, f := range all {
			for _, tab := range f.tabs {
				tab.party.CloseNow()
			}
		}
	})
	for _, f := range all {
		if f.err != nil {
			t.Fatalf("%s: %v", f.user, f.err)
		}
	}
	rest(all)
}

// compare holds the roster of everybody against what they know of themselves.
func compare(t *testing.T, all []*flapper) {
	t.Helper()
	var truth []string
	connections := make(map[string]int)
	for _, f := range all {
		if n := f.here(); n > 0 {
			truth = append(truth, f.user)
			connections[f.user] = n
		}
	}
	var same *presence.Roster
	clients := 0
	for _, f := range all {
		for _, tab := range f.tabs {
			roster := tab.party.Roster()
			if roster == nil {
				t.Fatalf("%s has no roster", f.user)
			}
			clients++
			if same == nil {
				same = roster
			}
			if !reflect.DeepEqual(roster, same) {
				t.Errorf("%s has\n%+v\nand others\n%+v", f.user, roster, same)
			}
		}
	}
	if same == nil {
		t.Skip("everybody has gone: there is nobody to ask")
	}
	var there []string
	for _, p := range same.Participants {
		there = append(there, p.User)
		if p.State != presence.Online || p.Connections != connections[p.User] {
			t.Errorf("%+v, has %d connections", p, connections[p.User])
		}
	}
	if !slices.Equal(there, truth) || !slices.Equal(same.Needed, truth) {
		t.Errorf("in the roster: %v\nhere:          %v", there, truth)
	}
	t.Logf("%d participants with %d clients, revision %d", len(there), clients, same.Rev)
}

// TestACrowdComesAndGoes has fifty people come and go for a minute of fake time: in the end
// everybody is told the same, and it is true.
func TestACrowdComesAndGoes(t *testing.T) {
	const grace = 8 * time.Second
	opt := server.Options{Grace: grace, Ping: 5 * time.Second}
	lasting := time.Minute
	if underRace {
		lasting /= 5
	}
	inBubble(t, opt, func(t *testing.T, ctx context.Context, r *running) {
		visit := func() (servertest.Visitor, *servertest.Proxy) {
			far := servertest.NewPipe()
			link := servertest.NewPipeProxy(far, r.pipe)
			t.Cleanup(link.Close)
			return servertest.Visitor{URL: r.url, Via: far.Client()}, link
		}
		flapTogether(t, ctx, r, visit, 50, lasting, 3*time.Second, func(all []*flapper) {
			time.Sleep(10*time.Second + grace + time.Second) // for the pings to notice, and everybody to be told
			synctest.Wait()
			compare(t, all)
		})
	})
}

// The same over real sockets and in real time, shorter.
func TestACrowdComesAndGoesOverSockets(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Grace: 100 * time.Millisecond, Ping: time.Second, Identify: server.DevIdentity})
	visit := func() (servertest.Visitor, *servertest.Proxy) {
		link := servertest.NewProxy(must(net.Listen("tcp", "127.0.0.1:0")), strings.TrimPrefix(r.url, "ws://"))
		t.Cleanup(link.Close)
		return servertest.Visitor{URL: link.URL()}, link
	}
	flapTogether(t, ctx, r, visit, 12, 2*time.Second, 200*time.Millisecond, func(all []*flapper) {
		// Nobody may be sure when the last has been told: the truth comes, and stays.
		for _, f := range all {
			for _, tab := range f.tabs {
				must(tab.party.AwaitRoster(ctx, "the truth", func(roster *presence.Roster) bool { return isTrue(roster, all) }))
			}
		}
	})
}

func isTrue(roster *presence.Roster, all []*flapper) bool {
	n := 0
	for _, f := range all {
		here := f.here()
		if here == 0 {
			continue
		}
		n++
		p := servertest.In(roster, f.user)
		if p == nil || p.State != presence.Online || p.Connections != here {
			return false
		}
	}
	return n == len(roster.Participants)
}
