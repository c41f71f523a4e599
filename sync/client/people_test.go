package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// deal opens a transaction with one required field, and a client for each user.
func deal(t *testing.T, srv *running, users ...string) []*Client {
	t.Helper()
	host := open(t, Options{Server: srv.url(), User: "holly", Role: transaction.Host})
	_, err := host.SetFields(t.Context(), map[string]transaction.Field{"price": {Label: "Price", Required: true}})
	check(t, err)
	check(t, host.Flush(t.Context()))
	closeNow(t, host)
	var clients []*Client
	for _, user := range users {
		c := open(t, Options{Server: srv.url(), User: user})
		check(t, c.Flush(t.Context()))
		clients = append(clients, c)
	}
	return clients
}

// same waits until clients have the same heads and those are on the server.
func same(t *testing.T, clients ...*Client) []crdt.Hash {
	t.Helper()
	heads := until(t, clients[0], "saved", saved).Heads
	for _, c := range clients[1:] {
		until(t, c, "the same heads", func(v View) bool { return saved(v) && slices.Equal(v.Heads, heads) })
	}
	return heads
}

func here(v View, user string) (presence.Participant, bool) {
	if v.Roster == nil {
		return presence.Participant{}, false
	}
	i := slices.IndexFunc(v.Roster.Participants, func(p presence.Participant) bool { return p.User == user })
	if i < 0 {
		return presence.Participant{}, false
	}
	return v.Roster.Participants[i], true
}

// isReady waits for a user to be ready in somebody's eyes.
func isReady(t *testing.T, c *Client, user string) {
	t.Helper()
	until(t, c, user+" ready", func(v View) bool { p, _ := here(v, user); return p.Ready })
}

func ready(t *testing.T, c *Client, heads []crdt.Hash) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	check(t, c.Ready(ctx, heads))
}

// refusedWith checks that Ready fails with a code.
func refusedWith(t *testing.T, c *Client, heads []crdt.Hash, code crdt.Code) *NotReadyError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := c.Ready(ctx, heads)
	var refused *NotReadyError
	if !errors.As(err, &refused) || refused.Code != code {
		t.Fatalf("ready: %v, want code %s", err, code)
	}
	return refused
}

func TestTwoAgree(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	told := make(chan presence.Resolution, 8)
	bob.OnResolved(func(r presence.Resolution) { told <- r })
	put(t, alice, "price")
	ready(t, alice, alice.Heads()) // at once: what was picked goes first
	heads := same(t, alice, bob)
	isReady(t, bob, "alice")
	if v := alice.View(); !slices.Equal(v.Ready, heads) {
		t.Errorf("alice is ready for %v, not %v", v.Ready, heads)
	}
	ready(t, bob, heads)
	r := <-told
	if !slices.Equal(r.Heads, heads) || !slices.Equal(r.Parties, []string{"alice", "bob"}) || r.N != 1 {
		t.Errorf("resolved: %+v", r)
	}
	v := until(t, alice, "the resolution", func(v View) bool { return v.Roster.Resolution != nil })
	if len(v.Resolutions) != 1 || v.Resolutions[0].N != 1 {
		t.Errorf("alice was told of %+v", v.Resolutions)
	}
	ready(t, alice, heads) // is so already

	// Who comes later is told too, and a change opens it again.
	late := make(chan presence.Resolution, 8)
	carol := open(t, Options{Server: srv.url(), User: "carol", Role: transaction.Viewer})
	carol.OnResolved(func(r presence.Resolution) { late <- r })
	if got := <-late; got.N != 1 {
		t.Errorf("carol was told of %+v", got)
	}
	put(t, alice, "date")
	until(t, bob, "open again", func(v View) bool { return v.Roster.Resolution == nil && len(v.Lapses) == 2 })
	if len(told) > 0 || len(late) > 0 {
		t.Error("a resolution was told twice")
	}
}

func TestAChangeUndoesReady(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	told := make(chan Lapse, 8)
	stop := alice.OnLapse(func(l Lapse) { told <- l })
	change := put(t, bob, "date")
	want := Lapse{N: 1, User: "alice", Because: presence.Cause{Field: "date", User: "bob", Change: change}}
	if got := <-told; got != want {
		t.Errorf("told %+v, want %+v", got, want)
	}
	until(t, alice, "not ready", func(v View) bool { return v.Ready == nil })
	p, _ := here(until(t, bob, "alice lapsed", func(v View) bool { p, _ := here(v, "alice"); return p.Lapsed != nil }), "alice")
	if p.Ready || *p.Lapsed != want.Because {
		t.Errorf("bob sees %+v", p)
	}
	refusedWith(t, alice, heads, presence.CodeStale) // that is not what there is
	stop()
	heads = same(t, alice, bob)
	ready(t, alice, heads)
	put(t, bob, "price")
	until(t, alice, "lapsed again", func(v View) bool { return len(v.Lapses) == 2 })
	if len(told) > 0 {
		t.Error("told after it was stopped")
	}
}

func TestReadyIsRefused(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	viewer := open(t, Options{Server: srv.url(), User: "vera", Role: transaction.Viewer})
	heads := same(t, alice, bob, viewer)
	if e := refusedWith(t, alice, heads, presence.CodeIncomplete); !slices.Equal(e.Fields, []string{"price"}) {
		t.Errorf("incomplete in %v", e.Fields)
	}
	refusedWith(t, viewer, heads, presence.CodeNotAParty)
	srv.down() // both pick without knowing of each other
	for _, c := range []*Client{alice, bob} {
		until(t, c, "away", func(v View) bool { return v.Status.State == Reconnecting })
		put(t, c, "price")
	}
	srv.up()
	for _, c := range []*Client{alice, bob} {
		c.Reconnect()
		until(t, c, "contested", func(v View) bool { return len(v.Contested) == 1 && saved(v) })
	}
	both := same(t, alice, bob)
	for _, c := range []*Client{alice, bob} {
		refusedWith(t, c, both, presence.CodeContested)
	}
	put(t, alice, "price")
	settled := same(t, alice, bob)
	ready(t, alice, settled)
	ready(t, bob, settled)

	if err := alice.Ready(t.Context(), nil); err == nil {
		t.Error("ready for nothing")
	}
	offline := open(t, Options{User: "olga"})
	if err := offline.Ready(t.Context(), offline.Heads()); err == nil {
		t.Error("ready without a server")
	}
}

// A restart of the server takes nobody's word back, if nothing has changed.
func TestReadyIsRestored(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	alice.Focus("price")
	srv.down()
	for _, c := range c {
		until(t, c, "away", func(v View) bool { return v.Status.State == Reconnecting })
	}
	if !slices.Equal(alice.View().Ready, heads) {
		t.Error("alice's word does not stand while she is away")
	}
	srv.up()
	bob.Reconnect()
	until(t, bob, "bob alone", func(v View) bool { _, ok := here(v, "alice"); return saved(v) && !ok })
	alice.Reconnect()
	isReady(t, bob, "alice")
	until(t, bob, "where alice is", func(v View) bool { p, _ := here(v, "alice"); return p.Focus == "price" })

	// With a change in between it lapses, and she is told which.
	srv.down()
	for _, c := range c {
		until(t, c, "away", func(v View) bool { return v.Status.State == Reconnecting })
	}
	change := put(t, bob, "date")
	srv.up()
	bob.Reconnect()
	until(t, bob, "saved", saved)
	alice.Reconnect()
	v := until(t, alice, "lapsed", func(v View) bool { return len(v.Lapses) > 0 })
	if want := (presence.Cause{Field: "date", User: "bob", Change: change}); v.Lapses[0].Because != want || v.Ready != nil {
		t.Errorf("lapsed: %+v, ready for %v", v.Lapses, v.Ready)
	}
	if p, _ := here(bob.View(), "alice"); p.Ready {
		t.Error("alice is ready for what she has not seen")
	}
}

// A lost connection that comes back within the grace changes nothing.
func TestAFlap(t *testing.T) {
	srv := startServer(t)
	bob := deal(t, srv, "bob")[0]
	way := &line{}
	alice := open(t, Options{Server: srv.url(), User: "alice", Dial: way.dial})
	put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	isReady(t, bob, "alice")
	before, _ := here(bob.View(), "alice")
	way.set(true)
	until(t, bob, "alice gone for now", func(v View) bool {
		p, _ := here(v, "alice")
		return p.State == presence.Reconnecting && p.Ready && p.Connections == 0
	})
	way.set(false)
	alice.Reconnect()
	until(t, bob, "alice back", func(v View) bool {
		p, _ := here(v, "alice")
		return p.State == presence.Online && p.Ready && p.Connections == 1 && p.Since == before.Since
	})
	if l := alice.View().Lapses; len(l) > 0 {
		t.Errorf("lapsed: %+v", l)
	}
	check(t, alice.Close(t.Context())) // says goodbye
	until(t, bob, "alice gone", func(v View) bool { _, ok := here(v, "alice"); return !ok })
}

func TestUnready(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	phone := open(t, Options{Server: srv.url(), User: "alice"})
	isReady(t, phone, "alice")
	check(t, phone.Unready(t.Context()))
	until(t, bob, "not ready", func(v View) bool { p, ok := here(v, "alice"); return ok && !p.Ready && p.Connections == 2 })
	until(t, alice, "told so", func(v View) bool { return v.Ready == nil })
	ready(t, alice, heads)
	check(t, alice.Unready(t.Context()))
	if alice.View().Ready != nil {
		t.Error("still ready")
	}
	until(t, bob, "not ready again", func(v View) bool { p, _ := here(v, "alice"); return !p.Ready })
}

// Who gives up waiting is not ready later.
func TestReadyThatIsGivenUp(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	put(t, alice, "price")
	heads := same(t, alice, bob)
	srv.down()
	until(t, alice, "away", func(v View) bool { return v.Status.State == Reconnecting })
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() { failed <- alice.Ready(ctx, heads) }()
	until(t, alice, "nothing yet", func(v View) bool { return v.Ready == nil })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	srv.up()
	alice.Reconnect()
	bob.Reconnect()
	same(t, alice, bob)
	ready(t, bob, heads)
	if p, _ := here(until(t, bob, "alice", func(v View) bool { _, ok := here(v, "alice"); return ok }), "alice"); p.Ready {
		t.Error("alice is ready after all")
	}
}

func TestParticipants(t *testing.T) {
	srv := startServer(t)
	if c := open(t, Options{}); c.Participants() != nil {
		t.Error("somebody is here without a server")
	}
	alice := open(t, Options{Server: srv.url(), Name: "Alice A."})
	until(t, alice, "herself", func(v View) bool { _, ok := here(v, "alice"); return ok })
	all := alice.Participants()
	if len(all) != 1 || all[0].Name != "Alice A." || all[0].Role != transaction.Party {
		t.Errorf("here: %+v", all)
	}
	all[0].User = "changed"
	if _, ok := here(alice.View(), "alice"); !ok {
		t.Error("what was returned is the client's own")
	}
	alice.Focus("price")
	until(t, alice, "at the price", func(v View) bool { p, _ := here(v, "alice"); return p.Focus == "price" })
	alice.Focus("")
	until(t, alice, "at nothing", func(v View) bool { p, _ := here(v, "alice"); return p.Focus == "" })
}

func TestCallbacksEnd(t *testing.T) {
	c := open(t, Options{})
	stop := c.OnLapse(func(Lapse) {})
	c.OnResolved(func(presence.Resolution) {})
	stop()
	stop()
	_, err := c.Pick(t.Context(), "price", json.RawMessage("1"), "")
	check(t, err)
	closeNow(t, c)
	c.OnLapse(func(Lapse) { t.Error("called after the end") })()
	if err := c.Ready(t.Context(), c.Heads()); !errors.Is(err, ErrClosed) {
		t.Errorf("ready after the end: %v", err)
	}
}

// Who takes it back while the connection is lost is not ready after it, although
// the server has kept the user's place.
func TestUnreadyWhileAway(t *testing.T) {
	srv := startServer(t)
	bob := deal(t, srv, "bob")[0]
	way := &line{}
	alice := open(t, Options{Server: srv.url(), User: "alice", Dial: way.dial})
	put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	way.set(true)
	until(t, alice, "away", func(v View) bool { return v.Status.State == Reconnecting })
	check(t, alice.Unready(t.Context()))
	way.set(false)
	alice.Reconnect()
	until(t, bob, "alice back, and not ready", func(v View) bool {
		p, _ := here(v, "alice")
		return p.State == presence.Online && !p.Ready
	})
	ready(t, alice, heads) // and may be again
	isReady(t, bob, "alice")
}

// Whose confirmation of something else is refused is not ready for what was
// confirmed before, either.
func TestReadyForSomethingElse(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	earlier := same(t, alice, bob)
	put(t, alice, "price")
	ready(t, alice, same(t, alice, bob))
	isReady(t, bob, "alice")
	refusedWith(t, alice, earlier, presence.CodeStale)
	until(t, bob, "alice not ready", func(v View) bool { p, ok := here(v, "alice"); return ok && !p.Ready })
}

// A lapse that is told late is not of what was confirmed since.
func TestALateLapse(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	change := put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	check(t, alice.post(func(k *keeper) {
		k.heed(&presence.Lapsed{User: "alice", Because: presence.Cause{Field: "price", User: "alice", Change: change}})
		k.dirty = true
	}))
	if v := alice.View(); !slices.Equal(v.Ready, heads) {
		t.Errorf("ready for %v, want %v", v.Ready, heads)
	}
}

// The roster makes up for a lapse that was lost.
func TestALostLapse(t *testing.T) {
	srv := startServer(t)
	c := deal(t, srv, "alice", "bob")
	alice, bob := c[0], c[1]
	put(t, alice, "price")
	heads := same(t, alice, bob)
	ready(t, alice, heads)
	because := presence.Cause{Field: "price", User: "bob", Change: crdt.Hash{1}}
	check(t, alice.post(func(k *keeper) {
		k.heed(&presence.Roster{
			Heads:        []crdt.Hash{because.Change},
			Participants: []presence.Participant{{User: "alice", Role: transaction.Party, State: presence.Online, Lapsed: &because}},
		})
		k.dirty = true
	}))
	v := alice.View()
	if v.Ready != nil || len(v.Lapses) != 1 || v.Lapses[0].User != "alice" || v.Lapses[0].Because != because {
		t.Errorf("ready for %v, lapses %+v", v.Ready, v.Lapses)
	}
}

// Who took it back sees that the server shows them ready still.
func TestTakenBackAndNotTold(t *testing.T) {
	srv := startServer(t)
	alice := deal(t, srv, "alice")[0]
	put(t, alice, "price")
	ready(t, alice, same(t, alice))
	isReady(t, alice, "alice")
	check(t, alice.post(func(k *keeper) { // as Unready, to a server that cannot tell it
		k.people.ready.end(errTakenBack)
		k.people.taken, k.dirty = true, true
	}))
	if v := alice.View(); !v.TakenBack || v.Ready != nil {
		t.Errorf("taken back: %t, ready for %v", v.TakenBack, v.Ready)
	}
	check(t, alice.Unready(t.Context()))
	until(t, alice, "that the server knows", func(v View) bool { p, _ := here(v, "alice"); return !v.TakenBack && !p.Ready })
}

// A server that cannot save keeps changes that it shows nobody: what is stale for
// them is told as that.
func TestStaleWhileStalled(t *testing.T) {
	srv := startServer(t)
	alice := deal(t, srv, "alice")[0]
	for stalled, want := range map[bool]string{false: "look at it", true: stalledMessage} {
		done := make(chan error, 1)
		check(t, alice.post(func(k *keeper) {
			k.people.roster, k.dirty = &presence.Roster{Stalled: stalled}, true
			k.people.ready = readiness{heads: []crdt.Hash{{1}}, waiters: []chan error{done}}
			k.refusedMessage(&presence.Rejected{Of: "ready", Heads: []crdt.Hash{{1}}, Code: presence.CodeStale, Message: "look at it"})
		}))
		if err := <-done; err.Error() != want || alice.View().Stalled() != stalled {
			t.Errorf("stalled %t: %v", stalled, err)
		}
	}
}
