package main

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"parley/server/servertest"
	"parley/sync/presence"
)

// TestFaultLinks gives each of some people a link that lags, is slow, is cut within a
// frame, or carries nothing any more without saying so, one after the other, while they
// pick. When the links are good again all have the same, nothing that was acknowledged
// is lost, and everybody is here once.
func TestFaultLinks(t *testing.T) {
	bad := longer(6*time.Second, soak()/4)
	ctx := within(t, bad+2*time.Minute)
	data := t.TempDir()
	p := serve(t, data, "--ping", "1s", "--grace", "2s")
	openDeal(t, p.url)
	var people []*party
	var links []*servertest.Proxy
	for _, user := range []string{"alice", "bob", "carol", "dave"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		link := servertest.NewProxy(l, strings.TrimPrefix(p.url, "ws://"))
		t.Cleanup(link.Close)
		links = append(links, link)
		people = append(people, goIn(t, link.URL(), "deal", user)...)
	}
	vanish(t, ctx, p.url)
	stop := busy(t, people)
	mustBeHere(t, ctx, p.url, "deal", people)
	faults := map[string]func(*servertest.Proxy){
		"lags":         func(l *servertest.Proxy) { l.Delay(rand.N(300 * time.Millisecond)) },
		"is slow":      func(l *servertest.Proxy) { l.Throttle(1000 + rand.IntN(4000)) },
		"is cut":       func(l *servertest.Proxy) { l.Cut() },
		"is short":     func(l *servertest.Proxy) { l.CutAfter(500 + rand.IntN(3000)) },
		"is half open": func(l *servertest.Proxy) { l.Silence() },
		"is good":      mend,
	}
	happened := make(map[string]int)
	for end := time.Now().Add(bad); time.Now().Before(end); time.Sleep(rand.N(200 * time.Millisecond)) {
		for name, fault := range faults { // in an order of chance
			happened[name]++
			fault(links[rand.IntN(len(links))])
			break
		}
	}
	for _, l := range links {
		mend(l)
	}
	for i, l := range links {
		if !people[i].Synced().Saved {
			l.Cut() // who waits on a dead link notices after 15 s
		}
	}
	stop()
	converge(t, ctx, p.url, people)
	mustBeHere(t, ctx, p.url, "deal", people)
	check(t, p.end(os.Interrupt))
	mustHaveReceipts(t, data, people)
	mustBeSoundOnDisk(t, data)
	t.Logf("how often a link: %v", happened)
}

// vanish has somebody open the deal and be gone without a word: the link is half open.
func vanish(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	link := servertest.NewProxy(l, strings.TrimPrefix(url, "ws://"))
	t.Cleanup(link.Close)
	ghost, err := servertest.Visitor{URL: link.URL(), User: "ghost"}.Enter(ctx, "deal")
	check(t, err)
	t.Cleanup(ghost.CloseNow)
	_, err = ghost.AwaitRoster(ctx, "the ghost to be here", func(r *presence.Roster) bool { return servertest.In(r, "ghost") != nil })
	check(t, err)
	link.Silence()
}

// mend makes a link a good one, for what connects from now on.
func mend(l *servertest.Proxy) {
	l.Delay(0)
	l.Throttle(0)
	l.CutAfter(0)
}
