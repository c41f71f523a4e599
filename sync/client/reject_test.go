package client

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// picky is a server that refuses picks of some fields, as ours does: by name,
// and with what is built on them.
type picky struct {
	*fakeConn
	refuses []string // fields
	code    string   // why
	refused map[crdt.Hash]string
	count   uint64
}

// take takes the client's next sync message and says what it refuses of it.
func (p *picky) take() {
	p.t.Helper()
	s, ok := p.next().(*wire.Sync)
	if !ok {
		p.t.Fatal("not a sync message")
	}
	m, err := protocol.Decode(s.Data, protocol.Limits{})
	check(p.t, err)
	if p.refused == nil {
		p.refused = make(map[crdt.Hash]string)
	}
	for _, chunk := range m.Changes {
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		check(p.t, err)
		code := p.judge(c)
		if code == "" {
			p.graph.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.Chunk()})
			continue
		}
		p.refused[c.Hash] = code
		p.reject(code, c.Hash)
	}
	p.graph.MarkDurable(p.graph.Len())
	p.state.Receive(&p.graph, m)
	if m, ok := p.state.Generate(&p.graph, protocol.Options{Refused: func(h crdt.Hash) bool { return p.refused[h] != "" }}); ok {
		p.send(&wire.Sync{SenderID: "server", TargetID: p.peer, DocumentID: tx.Document(), Data: m.Append(nil)})
	}
}

func (p *picky) judge(c *crdt.Change) string {
	switch {
	case slices.ContainsFunc(c.Deps, func(h crdt.Hash) bool { return p.refused[h] != "" }):
		return codeDependsOnRefused
	case slices.ContainsFunc(c.Ops, func(o crdt.Op) bool { return slices.Contains(p.refuses, o.Key) }):
		return p.code
	}
	return ""
}

func (p *picky) reject(code string, changes ...crdt.Hash) {
	m := presence.Rejected{Code: crdt.Code(code), Message: "the change is not good", Changes: changes}
	data := m.Encode()
	p.count++
	p.send(&wire.Ephemeral{
		SenderID: "server", TargetID: p.peer, DocumentID: tx.Document(), Count: p.count, SessionID: "s", Data: data,
	})
}

// settle takes messages until the client is silent.
func (p *picky) settle() {
	for synctestSleep(); len(p.up) > 0; synctestSleep() {
		p.take()
	}
}

func fields(v View) []string {
	var names []string
	for _, s := range v.Selections {
		names = append(names, s.Field)
	}
	return names
}

// A refused pick in the middle of a history made offline: it goes, the rest
// stays, in the same order, with the same times.
func TestARefusedPickIsRolledBackAndTheRestKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Replica: dir, Dial: srv.dial})
		put(t, c, "a")
		bad := put(t, c, "bad")
		put(t, c, "b")
		if _, err := c.Withdraw(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		put(t, c, "worse")
		last := put(t, c, "c")
		at := c.Selections()[3].Winner().At
		closeNow(t, c)

		c = open(t, Options{Replica: dir, Server: "ws://x", Dial: srv.dial})
		p := &picky{fakeConn: srv.accept(), refuses: []string{"bad", "worse"}, code: "not-good"}
		p.settle()
		v := c.View()
		if got := fields(v); !slices.Equal(got, []string{"b", "c"}) || !saved(v) {
			t.Fatalf("left: %q, %+v", got, v.Synced)
		}
		if v.Selections[1].Winner().At != at {
			t.Error("the pick made again has another time")
		}
		if len(v.Rejections) != 2 {
			t.Fatalf("rejections: %+v", v.Rejections)
		}
		first, second := v.Rejections[0], v.Rejections[1]
		if first.Code != "not-good" || first.Changes[0] != bad || len(first.Lost) != 1 || first.Lost[0].Field != "bad" {
			t.Errorf("the first: %+v", first)
		}
		if len(second.Lost) != 1 || second.Lost[0].Field != "worse" || len(first.Remade) != 4 {
			t.Errorf("the second: %+v", second)
		}
		if now := second.Remade[first.Remade[last]]; !has(c, now) || p.graph.Len() != 5 {
			t.Errorf("the server has %d changes", p.graph.Len())
		}
		put(t, c, "d")
		p.settle()
		put(t, c, "bad")
		p.settle()
		put(t, c, "e")
		p.settle()
		if v = c.View(); !saved(v) || len(v.Rejections) != 3 {
			t.Fatalf("it does not go on: %+v", v.Synced)
		}
		if v.Selections[2].Winner().Actor == v.Selections[3].Winner().Actor {
			t.Error("goes on under the actor whose numbers are used up")
		}
		closeNow(t, c)
	})
	c := open(t, Options{Replica: dir})
	if v := c.View(); !slices.Equal(fields(v), []string{"b", "c", "d", "e"}) || !v.Synced.Saved {
		t.Errorf("opened again: %q, %+v", fields(v), v.Synced)
	}
}

// Who may not write at all is not asked to try each of his picks.
func TestNothingIsMadeAgainThatCannotPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		p := &picky{fakeConn: srv.accept(), refuses: []string{"a"}, code: string(transaction.CodeReadOnly)}
		for _, field := range []string{"a", "b", "c"} {
			put(t, c, field)
		}
		p.settle()
		if v := c.View(); len(v.Selections) != 0 || len(v.Rejections) != 1 || len(v.Rejections[0].Lost) != 3 {
			t.Errorf("%d selections, rejections %+v", len(v.Selections), v.Rejections)
		}
		closeNow(t, c)
	})
}

// A server that refuses a change for what it builds on, and says of nothing
// that it is wrong itself, is not argued with for ever.
func TestAServerThatIsNeverContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		p := &picky{fakeConn: srv.accept()}
		p.settle()
		put(t, c, "a")
		for range 10 {
			synctestSleep()
			p.reject(codeDependsOnRefused, c.Heads()...)
			synctest.Wait()
		}
		if v := c.View(); len(v.Selections) != 0 || len(v.Rejections) != maxRemade+1 {
			t.Errorf("%d selections, %d rejections", len(v.Selections), len(v.Rejections))
		}
		closeNow(t, c)
	})
}

// What the server has said it has is not taken back, nor what others made.
func TestARejectionOfWhatTheServerHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		p := &picky{fakeConn: srv.accept()}
		a := put(t, c, "a")
		p.settle()
		p.reject("not-good", a, crdt.Hash{1})
		synctest.Wait()
		if v := c.View(); len(v.Selections) != 1 || len(v.Rejections) != 0 {
			t.Errorf("%+v", v)
		}
		if h, err := c.Pick(t.Context(), "b", json.RawMessage("{"), ""); err == nil {
			t.Errorf("picked what is no JSON: %v", h)
		}
		closeNow(t, c)
	})
}

// Against the server itself: what a party may not do is refused by name, and
// what it did meanwhile stays.
func TestThePartyThatWroteAField(t *testing.T) {
	srv := startServer(t)
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	put(t, c, "a")
	set, err := c.SetFields(t.Context(), map[string]transaction.Field{"price": {Label: "Price"}})
	check(t, err)
	put(t, c, "b")
	closeNow(t, c)

	c = open(t, Options{Replica: dir, Server: srv.url()})
	v := until(t, c, "the rejection and the rest", func(v View) bool { return len(v.Rejections) == 1 && saved(v) })
	r := v.Rejections[0]
	if r.Code != string(transaction.CodeNotHost) || r.Message == "" || !slices.Equal(r.Changes, []crdt.Hash{set}) || len(r.Lost) != 1 || r.Lost[0].Field != "price" {
		t.Errorf("rejection: %+v", r)
	}
	if !slices.Equal(fields(v), []string{"a", "b"}) || len(v.Fields) != 0 {
		t.Errorf("left: %q, fields %v", fields(v), v.Fields)
	}
	put(t, c, "c")
	bob := open(t, Options{User: "bob", Server: srv.url()})
	until(t, bob, "what was not refused", func(v View) bool { return slices.Equal(fields(v), []string{"a", "b", "c"}) })
}

// A viewer is told so before anything is picked; what was picked before the
// role was known is refused at once, all of it.
func TestTheViewerWhoPicked(t *testing.T) {
	srv := startServer(t)
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	for range 100 {
		put(t, c, "a")
	}
	closeNow(t, c)
	c = open(t, Options{Replica: dir, Server: srv.url(), Role: transaction.Viewer})
	v := until(t, c, "the rejection", func(v View) bool { return len(v.Rejections) > 0 && v.Synced.Saved })
	if len(v.Rejections) != 1 || len(v.Rejections[0].Lost) != 100 || len(v.Selections) != 0 {
		t.Errorf("%d rejections, %d selections left", len(v.Rejections), len(v.Selections))
	}
	var refusal *crdt.Refusal
	if _, err := c.Pick(t.Context(), "a", json.RawMessage("1"), ""); !errors.As(err, &refusal) || refusal.Code != transaction.CodeReadOnly {
		t.Errorf("picked: %v", err)
	}
}

// A server that was restored from an older copy takes everybody's changes back from
// their authors, in whatever order they come. What others did is never done again in
// the name of one who brings it.
func TestAServerThatLostWhatOthersBuiltOn(t *testing.T) {
	for _, order := range [][]string{{"bob", "alice", "hana"}, {"hana", "alice", "bob"}, {"alice", "bob", "hana"}} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			srv := startServer(t)
			clients := make(map[string]*Client)
			dirs := map[string]string{"hana": t.TempDir(), "alice": t.TempDir(), "bob": t.TempDir()}
			connect := func(user string) *Client {
				role := transaction.Party
				if user == "hana" {
					role = transaction.Host
				}
				clients[user] = open(t, Options{User: user, Role: role, Server: srv.url(), Replica: dirs[user]})
				return clients[user]
			}
			step := func(user string, do func(*Client) (crdt.Hash, error)) {
				t.Helper()
				h, err := do(clients[user])
				check(t, err)
				for name, c := range clients {
					until(t, c, name+" has what "+user+" did", func(v View) bool { return saved(v) && slices.Equal(v.Heads, []crdt.Hash{h}) })
				}
			}
			pick := func(field, value string) func(*Client) (crdt.Hash, error) {
				return func(c *Client) (crdt.Hash, error) { return c.Pick(t.Context(), field, json.RawMessage(value), "") }
			}
			for user := range dirs {
				connect(user)
			}
			step("hana", func(c *Client) (crdt.Hash, error) {
				return c.SetFields(t.Context(), map[string]transaction.Field{"price": {Label: "Price"}, "date": {Label: "Date"}})
			})
			step("bob", pick("price", "6"))
			step("alice", pick("price", "1"))
			step("bob", pick("price", "2"))
			step("alice", pick("date", "3"))
			step("bob", pick("place", "4"))
			step("alice", pick("time", "5"))
			step("bob", func(c *Client) (crdt.Hash, error) { return c.Withdraw(t.Context(), "time") })
			for _, c := range clients {
				closeNow(t, c)
			}
			srv.down()
			srv.dir = t.TempDir()
			srv.up()

			for _, user := range order {
				c := connect(user)
				until(t, c, user+" saved", saved)
				history, err := c.History()
				check(t, err)
				for _, e := range history {
					if e.Kind == transaction.Picked && !strings.Contains(map[string]string{"alice": "135", "bob": "246"}[e.User], string(e.Pick.Value)) {
						t.Errorf("%s has picked %s for %s", e.User, e.Pick.Value, e.Field)
					}
				}
			}
			v := until(t, clients["hana"], "what all did", func(v View) bool {
				return saved(v) && len(v.Fields) == 2 && slices.Equal(v.Heads, clients["bob"].Heads()) && slices.Equal(v.Heads, clients["alice"].Heads())
			})
			held := make(map[string][]string)
			for _, s := range v.Selections {
				for _, p := range s.Picks {
					held[s.Field] = append(held[s.Field], p.By+string(p.Value))
				}
				slices.Sort(held[s.Field])
			}
			want := map[string][]string{"price": {"bob2"}, "date": {"alice3"}, "place": {"bob4"}}
			if !maps.EqualFunc(held, want, slices.Equal) {
				t.Errorf("held: %v, want %v, as before", held, want)
			}
		})
	}
}
