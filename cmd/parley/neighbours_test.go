package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/server/servertest"
	"parley/server/store/pgtest"
	"parley/sync/client"
	"parley/sync/presence"
)

// seen keeps what a client is told of who is here.
type seen struct {
	mu      sync.Mutex
	rosters []*presence.Roster
}

// watch notes a client's rosters until the test ends.
func watch(t *testing.T, p *party) *seen {
	s := &seen{}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		for v := range p.Watch(ctx) {
			s.mu.Lock()
			if v.Roster != nil && v.Status.State == client.Online {
				s.rosters = append(s.rosters, v.Roster)
			}
			s.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	return s
}

// last returns the newest, without anybody if there was none.
func (s *seen) last() *presence.Roster {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rosters) == 0 {
		return &presence.Roster{}
	}
	return s.rosters[len(s.rosters)-1]
}

// is waits until a user is so, "" for not there, and returns how long that took.
func (s *seen) is(t *testing.T, ctx context.Context, user string, want presence.State) time.Duration {
	t.Helper()
	began := time.Now()
	poll(t, ctx, user+" to be "+string(want), func() bool {
		p := servertest.In(s.last(), user)
		return p == nil && want == "" || p != nil && p.State == want
	})
	return time.Since(began)
}

// mustStay fails the test if somebody was missing after all of them had been there.
func (s *seen) mustStay(t *testing.T, user string, all ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	complete := slices.IndexFunc(s.rosters, func(r *presence.Roster) bool {
		return !slices.ContainsFunc(all, func(user string) bool { return servertest.In(r, user) == nil })
	})
	for _, r := range s.rosters[max(0, complete):] {
		if servertest.In(r, user) == nil {
			t.Errorf("%s appeared to leave", user)
			return
		}
	}
}

// leading returns a link to a server that can be made to lead to another.
func leading(t *testing.T, to *process) *servertest.Proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := servertest.NewProxy(l, strings.TrimPrefix(to.url, "ws://"))
	t.Cleanup(p.Close)
	return p
}

// TestPeopleOfServersThatEnd: of three servers over a database one is killed and one is
// told to end. Who goes on with another in time has never left, and is ready still if it
// was told to; who does not leaves when the lease and the grace are over.
func TestPeopleOfServersThatEnd(t *testing.T) {
	t.Parallel()
	ctx := within(t, 60*time.Second)
	url := pgtest.Shared(t).Schema(t)
	first := t.TempDir()
	var servers []*process
	for _, dir := range []string{first, t.TempDir(), t.TempDir()} {
		if dir != first {
			shareKey(t, first, dir)
		}
		servers = append(servers, serve(t, dir, "--store", url, "--grace", "2s"))
	}
	const grace, lease, beat = 2 * time.Second, 6 * time.Second, 2 * time.Second
	fields := filepath.Join(first, "fields.json")
	check(t, os.WriteFile(fields, []byte(`{"fields": {"note": {"label": "Note", "required": false, "options": {}}}}`), 0o600))
	asHost(t, servers[0], "open", "deal", "--fields", fields)
	toFirst, alsoFirst, toSecond := leading(t, servers[0]), leading(t, servers[0]), leading(t, servers[1])
	alice, carol, dave := goIn(t, toFirst.URL(), "deal", "alice")[0], goIn(t, toSecond.URL(), "deal", "carol")[0], goIn(t, servers[2].url, "deal", "dave")[0]
	goIn(t, alsoFirst.URL(), "deal", "bob")
	people := []string{"alice", "carol", "dave"} // who stay
	sees := watch(t, dave)
	for _, user := range append(people, "bob") {
		sees.is(t, ctx, user, presence.Online)
	}
	for _, p := range []*party{alice, carol} {
		confirm(t, ctx, p)
	}

	toFirst.Lead(strings.TrimPrefix(servers[2].url, "ws://"))
	_ = servers[0].kill()
	missing := sees.is(t, ctx, "bob", presence.Reconnecting)
	gone := missing + sees.is(t, ctx, "bob", "")
	if gone > lease+beat+grace+3*time.Second || gone < grace {
		t.Errorf("bob was missing after %v and left after %v", missing, gone)
	}
	t.Logf("killed: missing after %v, gone after %v", missing, gone)
	for _, user := range []string{"alice", "carol"} {
		sees.mustStay(t, user, people...)
	}

	toSecond.Lead(strings.TrimPrefix(servers[2].url, "ws://"))
	began := time.Now()
	check(t, servers[1].end(syscall.SIGTERM))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to end", took)
	}
	poll(t, ctx, "carol to be back", func() bool { return carol.Status().State == client.Online })
	time.Sleep(grace + 200*time.Millisecond)
	sees.is(t, ctx, "carol", presence.Online)
	sees.mustStay(t, "carol", people...)
	for _, user := range []string{"alice", "carol"} {
		if !servertest.In(sees.last(), user).Ready {
			t.Errorf("%s is not ready any more", user)
		}
	}
	confirm(t, ctx, dave)
	poll(t, ctx, "all to agree", func() bool { return sees.last().Resolution != nil })
	if agreed := sees.last().Resolution.Parties; !slices.Equal(agreed, []string{"alice", "carol", "dave"}) {
		t.Errorf("agreed have %v", agreed)
	}
}

// confirm has somebody confirm what there is.
func confirm(t *testing.T, ctx context.Context, p *party) {
	t.Helper()
	check(t, p.Ready(ctx, p.View().Heads))
}
