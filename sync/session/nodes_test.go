package session_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// chamber is a hall on one of several nodes.
type chamber struct {
	*hall
	node presence.Node
	seq  uint64
	row  []byte
	seal *session.Seal
}

func newChamber(t *testing.T, node byte, stored session.Stored) *chamber {
	c := &chamber{hall: hallOf(t, stored), node: presence.Node{node}}
	c.doc = session.NewDocument(hallID.Document(), &session.DocumentConfig{
		Self: "s", Storage: "server", Limits: session.Limits{}.WithDefaults(), Presence: presence.Config{Node: c.node},
	}, stored, "life")
	return c
}

func begun(t *testing.T) session.Stored {
	doc := crdt.NewDocument(crdt.Limits{})
	if err := doc.Load(transaction.Genesis(hallID).Chunk()); err != nil {
		t.Fatal(err)
	}
	return session.Stored{Document: doc, Users: []string{""}, Settings: presence.Settings{Policy: presence.Reopen}}
}

// take stores what is to be published, and tells the others.
func (c *chamber) take(outs []session.Output, others ...*chamber) (more []session.Output) {
	for len(outs) > 0 {
		var next []session.Output
		for _, out := range outs {
			switch out := out.(type) {
			case session.Publish:
				c.seq++
				c.row = out.Data
				next = c.doc.Step(c.now, &session.PublishedInput{N: out.N}, next)
				for _, other := range others {
					other.take(other.doc.Step(other.now, c.elsewhere(), nil))
				}
			case session.Seal:
				c.seal = &out
			}
		}
		more = append(more, next...)
		outs = next
	}
	return more
}

func (c *chamber) elsewhere() *session.ElsewhereInput {
	return &session.ElsewhereInput{Node: c.node, Seq: c.seq, Data: c.row}
}

func names(r *presence.Roster) (users []string) {
	for _, p := range r.Participants {
		users = append(users, p.User)
	}
	return users
}

// The people of two servers agree with each other, and both servers tell all of them.
func TestNodesAgree(t *testing.T) {
	a, b := newChamber(t, 1, begun(t)), newChamber(t, 2, begun(t))
	alice, bob := peer(1, "alice", "alice"), peer(1, "bob", "bob")
	a.take(a.tell(alice, presence.Ask{}), b)
	b.take(b.tell(bob, presence.Ask{}), a)
	heads := a.doc.Graph().Heads()
	a.take(a.tell(alice, presence.Ready{Heads: heads}), b)
	b.take(b.tell(bob, presence.Ready{Heads: heads}), a)
	if b.seal == nil || !maps.Equal(b.seal.Relies, map[presence.Node]uint64{a.node: a.seq}) {
		t.Fatalf("asked for %+v", b.seal)
	}
	if !maps.Equal(b.doc.Elsewhere(), b.seal.Relies) {
		t.Errorf("goes by %v", b.doc.Elsewhere())
	}
	b.take(b.doc.Step(b.now, &session.SealedInput{}, nil), a)
	// That bob is ready was heard first, and that they have agreed when a resolution was
	// asked for here, too.
	outs, err := a.doc.Learn(a.now, &session.News{Resolutions: b.doc.Resolutions(), Overtaken: true}, nil)
	if a.take(outs, b); err != nil {
		t.Fatal(err)
	}
	for i, c := range []*chamber{a, b} {
		c.wait(time.Second)
		rosters := c.rosters(c.tell([]session.Peer{alice, bob}[i], presence.Ask{}), 1)
		if len(rosters) == 0 {
			t.Fatal("no roster")
		}
		last := rosters[len(rosters)-1]
		if !slices.Equal(names(last), []string{"alice", "bob"}) || last.Resolution == nil {
			t.Errorf("told %+v", last)
		}
	}
	// The other server is gone, and has lost what it published; then it says all again.
	b.take(b.doc.Step(b.now, &session.SilentInput{Node: a.node}, nil))
	b.take(b.wait(presence.DefaultGrace), a)
	if rosters := b.rosters(b.doc.Step(b.now, &session.TickInput{}, nil), 1); len(b.doc.Elsewhere()) != 0 {
		t.Errorf("goes by %v, tells %v", b.doc.Elsewhere(), rosters)
	}
	before := a.seq
	a.take(a.doc.Step(a.now, &session.ForgottenInput{}, nil), b)
	if a.seq == before || len(b.doc.Elsewhere()) != 1 {
		t.Error("it was not published again")
	}
	// The last one leaves: nothing of this server stands there any more.
	a.take(a.doc.Step(a.now, &session.GoneInput{Conn: 1, Goodbye: true}, nil), b)
	if !a.doc.Occupied() {
		t.Error("not every server may have heard of that yet")
	}
	a.take(a.wait(presence.DefaultGrace), b)
	if a.row != nil || a.doc.Occupied() {
		t.Error("something is left")
	}
}

// What a row says is kept for when there is a room.
func TestElsewhereBeforeTheRoom(t *testing.T) {
	a := newChamber(t, 1, begun(t))
	a.take(a.tell(peer(1, "alice", "alice"), presence.Ask{}))
	first := a.elsewhere()
	a.take(a.tell(peer(2, "carol", "carol"), presence.Ask{}))
	b := newChamber(t, 2, session.Stored{Document: crdt.NewDocument(crdt.Limits{})})
	gone := presence.Node{3}
	for _, in := range []session.Input{
		a.elsewhere(), first, &session.ElsewhereInput{Node: gone, Seq: 5, Data: a.row}, &session.SilentInput{Node: gone},
		&session.ElsewhereInput{Node: presence.Node{4}, Seq: 6, Data: a.row}, &session.ElsewhereInput{Node: presence.Node{4}},
	} {
		b.take(b.doc.Step(b.now, in, nil))
	}
	if !maps.Equal(b.doc.Elsewhere(), map[presence.Node]uint64{a.node: a.seq}) {
		t.Errorf("goes by %v", b.doc.Elsewhere())
	}
	b.take(b.tell(peer(1, "bob", "bob"), presence.Ask{}))
	genesis, err := crdt.DecodeChange(transaction.Genesis(hallID).Chunk(), crdt.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	outs, err := b.doc.Learn(b.now, &session.News{Changes: []session.StoredChange{{Change: genesis}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.take(outs)
	rosters := b.rosters(b.wait(time.Millisecond), 1)
	if len(rosters) != 1 || !slices.Equal(names(rosters[0]), []string{"alice", "bob", "carol"}) {
		t.Errorf("told %v", rosters)
	}
}

// Another server has stored an agreement over heads of which its people were heard to
// be ready before: none is asked for when the changes are learned.
func TestLearnOfWhatIsAgreed(t *testing.T) {
	a, b := newChamber(t, 1, begun(t)), newChamber(t, 2, begun(t))
	alice, bob := peer(1, "alice", "alice"), peer(2, "bob", "bob")
	a.take(a.tell(alice, presence.Ask{}), b)
	a.take(a.tell(bob, presence.Ask{}), b)
	change := a.pick("alice", "1")
	a.take(a.changes(alice, change), b)
	a.take(a.doc.Step(a.now, &session.DurableInput{N: 2}, nil), b)
	heads := a.doc.Graph().Heads()
	a.take(a.tell(alice, presence.Ready{Heads: heads}), b)
	a.take(a.tell(bob, presence.Ready{Heads: heads}), b)
	if a.seal == nil {
		t.Fatal("they have not agreed")
	}
	a.take(a.doc.Step(a.now, &session.SealedInput{}, nil), b)
	news := &session.News{Changes: []session.StoredChange{{Change: change, User: "alice"}}, Resolutions: a.doc.Resolutions()}
	outs, err := b.doc.Learn(b.now, news, nil)
	if b.take(outs, a); err != nil || b.seal != nil {
		t.Errorf("asked for %+v, %v", b.seal, err)
	}
}

// A row that cannot be read may say that somebody is not ready any more.
func TestUnreadableRow(t *testing.T) {
	b := newChamber(t, 2, begun(t))
	b.take(b.doc.Step(b.now, &session.ElsewhereInput{Node: presence.Node{1}, Seq: 7, Data: []byte{0xa1, 0, 2}}, nil))
	for _, p := range []session.Peer{peer(1, "alice", "alice"), peer(2, "bob", "bob")} {
		b.take(b.tell(p, presence.Ask{}))
	}
	for _, p := range []session.Peer{peer(1, "alice", "alice"), peer(2, "bob", "bob")} {
		b.take(b.tell(p, presence.Ready{Heads: b.doc.Graph().Heads()}))
	}
	if b.seal != nil {
		t.Errorf("asked for %+v", b.seal)
	}
	b.take(b.doc.Step(b.now, &session.SilentInput{Node: presence.Node{1}}, nil))
	if b.seal == nil {
		t.Error("they have not agreed")
	}
}

// Messages of applications go to the clients of other nodes, as they are.
func TestRelayed(t *testing.T) {
	a, b := newChamber(t, 1, begun(t)), newChamber(t, 2, begun(t))
	alice, bob := peer(1, "alice", "alice"), peer(1, "bob", "bob")
	a.take(a.tell(alice, presence.Ask{}))
	b.take(b.tell(bob, presence.Ask{}))
	b.take(b.tell(peer(2, "alice", "alice"), presence.Ask{})) // from where she went to the other node
	said := wire.Ephemeral{SenderID: "alice", TargetID: "s", DocumentID: hallID.Document(), Count: 7, SessionID: "hers", Data: []byte{1}}
	var relay []byte
	for _, out := range a.doc.Step(a.now, &session.EphemeralInput{From: alice, Message: said}, nil) {
		if r, ok := out.(session.Relay); ok {
			relay = r.Data
		}
	}
	outs := b.doc.Step(b.now, &session.RelayedInput{Data: relay}, nil)
	if len(outs) != 1 {
		t.Fatalf("%d outputs", len(outs))
	}
	send := outs[0].(session.Send)
	m, err := wire.Decode(send.Frame, wire.Limits{})
	if err != nil || send.Conn != 1 || !send.Droppable {
		t.Fatalf("%+v, %v", send, err)
	}
	got := m.(*wire.Ephemeral)
	if got.SenderID != "alice" || got.TargetID != "bob" || got.Count != 7 || got.SessionID != "hers" || !slices.Equal(got.Data, []byte{1}) {
		t.Errorf("passed on %+v", got)
	}
	// Our own are not, nor what is of another document, or cannot be read.
	if relays := relaysOf(a.tell(alice, presence.Ping{})); relays > 0 {
		t.Error("a ping was relayed")
	}
	said.DocumentID[0]++
	for _, data := range [][]byte{nil, {1, 2, 3}, wire.Append(nil, &said), wire.Append(nil, &wire.Leave{SenderID: "alice"})} {
		if outs := b.doc.Step(b.now, &session.RelayedInput{Data: data}, nil); len(outs) > 0 {
			t.Errorf("%x: %v", data, outs)
		}
	}
	// What is no transaction is nobody's here.
	c := newChamber(t, 3, session.Stored{Document: crdt.NewDocument(crdt.Limits{})})
	c.tell(bob, presence.Ask{})
	if outs := c.doc.Step(c.now, &session.RelayedInput{Data: relay}, nil); len(outs) > 0 {
		t.Errorf("%v", outs)
	}
}

func relaysOf(outs []session.Output) (n int) {
	for _, out := range outs {
		if _, ok := out.(session.Relay); ok {
			n++
		}
	}
	return n
}

// Who has the store alone hears of no nodes, and says nothing to any.
func TestStoreOfItsOwn(t *testing.T) {
	a, h := newChamber(t, 1, begun(t)), newHall(t, presence.Settings{Policy: presence.Reopen})
	a.take(a.tell(peer(1, "alice", "alice"), presence.Ask{}))
	bob := peer(1, "bob", "bob")
	outs := h.tell(bob, presence.Ask{})
	said := wire.Ephemeral{SenderID: "bob", DocumentID: hallID.Document(), Count: 7, SessionID: "his", Data: []byte{1}}
	for _, in := range []session.Input{
		a.elsewhere(), &session.SilentInput{Node: a.node}, &session.PublishedInput{N: 1}, &session.ForgottenInput{},
		&session.RelayedInput{Data: wire.Append(nil, &said)}, &session.EphemeralInput{From: bob, Message: said},
	} {
		outs = h.doc.Step(h.now, in, outs)
	}
	for _, out := range outs {
		if send, ok := out.(session.Send); !ok || send.Conn != 1 {
			t.Errorf("%+v", out)
		}
	}
	if rosters := h.rosters(h.wait(time.Millisecond), 1); len(rosters) != 1 || !slices.Equal(names(rosters[0]), []string{"bob"}) {
		t.Errorf("told %v", rosters)
	}
	if len(h.doc.Elsewhere()) > 0 {
		t.Errorf("goes by %v", h.doc.Elsewhere())
	}
}
