package presence_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/crdt/transaction"
	"parley/sync/presence"
)

// place is a node with a room of the transaction.
type place struct {
	*scene
	id   presence.Node
	seq  uint64
	want *presence.Publish // on its way to the database
	row  []byte            // what stands there; nil: nothing
	seal *presence.Resolve
	sent []presence.Send
}

// seqs numbers rows.
var seqs uint64

func newPlace(t testing.TB, id presence.Node, settings presence.Settings) *place {
	p := &place{scene: newScene(t, settings), id: id}
	if settings.Policy == "" {
		settings.Policy = presence.Reopen
	}
	p.nodes = true
	p.room = presence.New(presence.Config{Node: id}, p.doc, settings, nil)
	p.seen = func(out presence.Output) {
		switch out := out.(type) {
		case presence.Publish:
			if p.want != nil {
				t.Errorf("publish %d while %d is on its way", out.N, p.want.N)
			}
			p.want = &out
		case presence.Resolve:
			p.seal = &out
		case presence.Send:
			p.sent = append(p.sent, out)
		}
	}
	return p
}

// two are two nodes.
func two(t testing.TB, settings presence.Settings) (a, b *place) {
	return newPlace(t, nodeA, settings), newPlace(t, nodeB, settings)
}

// store stores what the node asked for.
func (p *place) store() []string {
	p.t.Helper()
	if p.want == nil {
		p.t.Fatalf("node %x has asked for nothing to be stored", p.id)
	}
	want := p.want
	p.want = nil
	seqs++
	p.seq, p.row = seqs, nil
	if want.Attendance != nil {
		p.row = want.Attendance.Encode()
	}
	return p.step(presence.Published{N: want.N})
}

// tells fails unless as many rosters were told, to all.
func (p *place) tells(n int, said []string) {
	p.t.Helper()
	if got := rosters(said); len(got) != n || n > 0 && !strings.HasPrefix(got[0], "all: ") {
		p.t.Errorf("said %q, want %d rosters", said, n)
	}
}

// elsewhere is what others hear of the node.
func (p *place) elsewhere() presence.Elsewhere {
	p.t.Helper()
	in := presence.Elsewhere{Node: p.id, Seq: p.seq}
	if p.row != nil {
		var err error
		if in.Attendance, err = presence.DecodeAttendance(p.row); err != nil {
			p.t.Fatal(err)
		}
	}
	return in
}

// tell brings what is stored of the node to others.
func (p *place) tell(others ...*place) {
	p.t.Helper()
	for _, other := range others {
		other.step(p.elsewhere())
	}
}

// settle brings everything to everybody.
func settle(places ...*place) {
	for range 10 {
		for _, p := range places {
			if p.want == nil {
				continue
			}
			p.store()
			for _, other := range places {
				if other != p {
					p.tell(other)
				}
			}
		}
	}
}

// pass lets time pass on all nodes, with ticks, and brings everything to everybody.
func pass(d time.Duration, places ...*place) {
	for _, p := range places {
		p.wait(d)
	}
	settle(places...)
}

// expectAll says who is here by all nodes.
func expectAll(want string, places ...*place) {
	for _, p := range places {
		p.t.Helper()
		p.expectWho(want)
	}
}

func TestNotShared(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice")
	before := s.room.Roster().Encode()
	said := s.step(
		presence.Elsewhere{Node: nodeA, Seq: 1, Attendance: full()}, presence.Silent{Node: nodeA},
		presence.Published{N: 1}, presence.Published{N: 1, Unstored: true}, presence.Forgotten{},
	)
	if len(said) > 0 || !bytes.Equal(s.room.Roster().Encode(), before) || s.room.Relies() != nil {
		t.Errorf("said %q, relies on %v", said, s.room.Relies())
	}
	s.parties("alice", "bob")
	s.ready(1)
	s.seen = func(out presence.Output) {
		if r, ok := out.(presence.Resolve); ok && r.Relies != nil {
			t.Errorf("relies on %v", r.Relies)
		}
	}
	s.expect(s.ready(2), "resolve 1 over 1 by alice+bob of 2")
}

// Nobody is told what others may not know: it is stored first.
func TestToldAfterStored(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.tells(0, a.arrive(1, "alice", transaction.Party))
	if r := a.room.Roster(); len(r.Participants) > 0 {
		t.Errorf("who asks sees %+v", r.Participants)
	}
	if wake := a.room.Wake(); !wake.IsZero() {
		t.Errorf("it wakes at %s, for nothing", wake)
	}
	a.tells(1, a.store()) // 1 was asked for
	a.expectWho("alice party")
	a.now = a.now.Add(time.Second)
	steps := []struct {
		in   presence.Input
		want string
	}{
		{presence.Heard{Conn: 1, Message: presence.Ready{Heads: at(1)}}, "alice party ready"},
		{presence.Heard{Conn: 1, Message: presence.Unready{}}, "alice party"},
		{presence.Parted{Conn: 1}, "alice party reconnecting"},
		{presence.Arrived{Conn: 2, Peer: "alice", Person: presence.Person{User: "alice", Role: transaction.Party}}, "alice party"},
		{presence.Arrived{Conn: 3, Peer: "alice", Person: presence.Person{User: "alice", Role: transaction.Viewer}}, "alice viewer"},
		{presence.Heard{Conn: 3, Message: presence.Leave{}}, ""},
	}
	for i, c := range steps {
		before := a.who()
		said := a.step(c.in)
		if len(rosters(said)) > 0 || len(said) != 1 || !strings.HasPrefix(said[0], "publish") {
			t.Errorf("step %d: said %q before it is stored", i, said)
		}
		a.expectWho(before)
		if said := a.store(); len(rosters(said)) != 1 {
			t.Errorf("step %d: said %q when it is stored", i, said)
		}
		a.expectWho(c.want)
		a.now = a.now.Add(time.Second)
	}
	// What is taken back is told on for the grace, to who has not heard of it.
	a.wait(grace)
	if a.want == nil || a.want.Attendance != nil {
		t.Errorf("asked for %+v", a.want)
	}
	a.store()
	if !a.room.Empty() {
		t.Error("there is something left")
	}
}

// What is not the whole truth of the agreement is told at once, and published at
// leisure.
func TestPublishedAtLeisure(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	a.store()
	a.now = a.now.Add(time.Second)
	a.tells(1, a.focuses(1, "price"))
	a.wakes(200 * time.Millisecond)
	a.now = a.now.Add(199 * time.Millisecond)
	a.expect(a.focuses(1, "date"))
	a.expect(a.step(presence.Measured{Conn: 1, RoundTrip: time.Second}))
	a.now = a.now.Add(time.Millisecond)
	a.expect(a.step(presence.Ticked{}), "publish 2")
	c := a.want.Attendance.People[0].Conns[0]
	if c.Focus != "date" || c.RoundTrip != time.Second {
		t.Errorf("published %+v", c)
	}
	a.now = a.now.Add(time.Second)
	a.tells(1, a.focuses(1, "price")) // it does not wait
	a.store()
	a.expect(a.wait(time.Second), "publish 3")
	a.store()
	a.step(presence.Measured{Conn: 1, RoundTrip: time.Second + time.Millisecond}) // not worth it
	a.expect(a.wait(time.Minute))
}

// One thing is on its way at a time, and the next holds all that came meanwhile.
func TestOnePublishAtATime(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.expect(a.arrive(1, "alice", transaction.Party), "publish 1")
	a.expect(a.arrive(2, "bob", transaction.Party))
	a.expect(a.arrive(3, "carol", transaction.Party))
	said := a.store()
	a.expect(said, "publish 2")
	if n := len(a.want.Attendance.People); n != 3 {
		t.Errorf("%d people", n)
	}
	// What was stored can be told, although more is not.
	if len(rosters(said)) != 1 || len(a.sent) != 1 {
		t.Fatalf("said %q", said)
	}
	m, _ := presence.DecodeDown(a.sent[0].Data)
	if r := m.(*presence.Roster); len(r.Participants) != 1 || r.Participants[0].User != "alice" {
		t.Errorf("told %+v", r)
	}
	a.now = a.now.Add(pause)
	a.tells(1, a.store())
	a.expectWho("alice party, bob party, carol party")
	// Answers to what is older, or was never asked for, are none.
	a.arrive(4, "dave", transaction.Party)
	a.tells(0, a.step(presence.Published{N: 2}, presence.Published{}))
	a.now = a.now.Add(pause)
	a.tells(1, a.step(presence.Published{N: 99}))
}

// What was stored is not told if the document has moved on.
func TestNoRosterOfOldHeads(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	a.arrive(2, "bob", transaction.Party)
	a.change(2, "x", "f")
	a.tells(0, a.store())
	a.now = a.now.Add(pause)
	a.tells(1, a.store())
}

func TestOneStory(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice/1", transaction.Viewer)
	settle(a, b)
	a.now, b.now = a.now.Add(time.Second), b.now.Add(time.Second)
	b.arrive(1, "alice/2", transaction.Party)
	b.arrive(2, "bob", transaction.Party)
	b.focuses(1, "date")
	settle(a, b)
	pass(time.Second, a, b)
	expectAll("alice party x2 at date, bob party", a, b)
	for _, p := range []*place{a, b} {
		r := p.room.Roster()
		if alice := r.Participants[0]; alice.Since != epoch.UnixMilli() || alice.Name != "ALICE/2" || alice.Connections != 2 {
			t.Errorf("%+v", alice)
		}
		if !slices.Equal(r.Needed, []string{"alice", "bob"}) || r.Quorum != 2 {
			t.Errorf("needed are %v, %d", r.Needed, r.Quorum)
		}
	}
	a.focuses(1, "price")
	a.step(presence.Measured{Conn: 1, RoundTrip: 30 * time.Millisecond})
	b.step(presence.Measured{Conn: 1, RoundTrip: 20 * time.Millisecond})
	pass(time.Second, a, b)
	expectAll("alice party x2 at price, bob party", a, b)
	for _, p := range []*place{a, b} {
		if trip := p.room.Roster().Participants[0].RoundTrip; trip != 20*time.Millisecond {
			t.Errorf("round trip %s", trip)
		}
	}
	if c := a.room.Census(); c.Online != 1 || c.Reconnecting != 0 {
		t.Errorf("node a counts %+v", c)
	}
	// The party is gone: on either node she is a viewer, called as before.
	b.step(presence.Parted{Conn: 1, Goodbye: true})
	settle(a, b)
	expectAll("alice viewer at price, bob party", a, b)
	if name := b.room.Roster().Participants[0].Name; name != "ALICE/1" {
		t.Errorf("called %s", name)
	}
	// And who is lost there, and online here, counts as online where it is.
	a.step(presence.Parted{Conn: 1})
	b.arrive(3, "alice/3", transaction.Party)
	settle(a, b)
	if c := a.room.Census(); c.Online != 0 || c.Reconnecting != 0 {
		t.Errorf("node a counts %+v", c)
	}
}

// Only what changes is told, and round trips when they are worth it.
func TestNothingNew(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	b.arrive(1, "bob", transaction.Party)
	settle(a, b)
	pass(time.Second, a, b)
	b.wait(time.Second)
	seq := a.seq
	for _, c := range []struct {
		change func(*presence.Present)
		tells  int
	}{
		{func(*presence.Present) {}, 0},
		{func(p *presence.Present) { p.Conns[0].RoundTrip = time.Millisecond }, 1},
		{func(p *presence.Present) { p.Conns[0].RoundTrip = 2 * time.Millisecond }, 0},
		{func(p *presence.Present) { p.Conns[0].Focus, p.Conns[0].Focused = "price", stampOf(nodeA, 1<<50) }, 1},
		{func(p *presence.Present) { p.Name, p.Named = "Alice", stampOf(nodeA, 1<<50) }, 1},
		{func(p *presence.Present) { p.Since-- }, 1},
		{func(p *presence.Present) { p.Word = &presence.Word{Said: stampOf(nodeA, 1<<50), Heads: at(1)} }, 1},
		{func(p *presence.Present) { p.Word = &presence.Word{Said: stampOf(nodeA, 1<<51), Heads: at(2)} }, 1},
		{func(p *presence.Present) { p.Word = &presence.Word{Said: stampOf(nodeA, 1<<51), Heads: at(1)} }, 1},
		{func(p *presence.Present) { p.Word = nil }, 1},
		{func(p *presence.Present) { p.Ended = []presence.Ended{{Peer: "alice", At: stampOf(nodeA, 1<<50)}} }, 1},
		{func(p *presence.Present) { p.Ended = nil }, 1},
	} {
		in := a.elsewhere()
		c.change(&in.Attendance.People[0])
		a.row = in.Attendance.Encode()
		seq++
		in.Seq = seq
		b.now = b.now.Add(time.Second)
		b.tells(c.tells, b.step(in))
	}
	b.tells(0, b.step(presence.Elsewhere{Node: nodeA, Seq: seq, Attendance: full()})) // the same number
}

// The order of rows is that of their numbers, however they come.
func TestOrderOfRows(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	a.store()
	first := a.elsewhere()
	a.arrive(2, "carol", transaction.Party)
	a.store()
	a.tell(b)
	b.expectWho("alice party, carol party")
	b.step(first)
	b.expectWho("alice party, carol party")
	if relies := b.room.Relies(); !maps.Equal(relies, map[presence.Node]uint64{nodeA: a.seq}) {
		t.Errorf("relies on %v", relies)
	}
	b.step(presence.Elsewhere{Node: nodeA, Seq: a.seq + 1000}) // a row that was deleted
	b.expectWho("")
	if relies := b.room.Relies(); len(relies) != 0 {
		t.Errorf("relies on %v", relies)
	}
	a.tell(b)
	b.expectWho("")
	again := a.elsewhere()
	again.Seq += 2000
	b.step(again)
	b.expectWho("alice party, carol party")
	b.step(presence.Elsewhere{Node: nodeA}) // there is none, it was seen
	b.expectWho("")
	b.step(again) // and there is
	b.expectWho("alice party, carol party")
	b.step(presence.Elsewhere{Node: nodeB, Seq: 1 << 40, Attendance: full()}) // its own
	b.expectWho("alice party, carol party")
}

// The client is back through another node: its older connection is the dead half of a
// link, whichever is local.
func TestMovedHalfOpen(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	settle(a, b)
	a.now, b.now = a.now.Add(time.Second), b.now.Add(time.Second)
	b.arrive(1, "alice", transaction.Party)
	b.store()
	b.expectWho("alice party")
	b.tell(a)
	a.store()
	a.expectWho("alice party")
	a.tell(b)
	expectAll("alice party", a, b)
	for _, m := range []presence.Message{presence.Focus{Field: "price"}, presence.Unready{}, presence.Leave{}} {
		a.step(presence.Heard{Conn: 1, Message: m}) // frames from before
	}
	a.step(presence.Parted{Conn: 1})
	settle(a, b)
	expectAll("alice party", a, b)
	pass(grace, a, b)
	expectAll("alice party", a, b)
	if !a.room.Empty() || a.row != nil {
		t.Error("something of her is left")
	}
	b.step(presence.Parted{Conn: 1, Goodbye: true})
	settle(a, b)
	expectAll("", a, b)
}

// Who moves within the grace never left, by no room, in whatever order they hear of
// the two nodes; readiness goes along, and stays when the old node is silent.
func TestMovedInTheGrace(t *testing.T) {
	for _, order := range []string{"ab", "ba"} {
		a, b := two(t, presence.Settings{Parties: []string{"alice", "bob"}})
		c := newPlace(t, nodeC, presence.Settings{Parties: []string{"alice", "bob"}})
		all := []*place{a, b, c}
		a.arrive(1, "alice", transaction.Party)
		a.ready(1)
		settle(all...)
		expectAll("alice party ready", all...)
		a.step(presence.Parted{Conn: 1})
		settle(all...)
		expectAll("alice party reconnecting ready", all...)
		pass(grace-time.Second, all...)
		b.arrive(1, "alice", transaction.Party)
		b.store()
		b.expectWho("alice party ready")
		b.tell(a)
		if a.want != nil {
			a.store()
		}
		for _, node := range order {
			if node == 'a' {
				a.tell(c)
			} else {
				b.tell(c)
			}
			if who := c.who(); who != "alice party ready" && who != "alice party reconnecting ready" {
				t.Errorf("%s: %q", order, who)
			}
		}
		expectAll("alice party ready", all...)
		for range 4 {
			pass(grace/2, all...)
			expectAll("alice party ready", all...)
		}
		if a.row != nil || b.row == nil {
			t.Error("what is known of her is not where she is")
		}
		if since := c.room.Roster().Participants[0].Since; since != epoch.UnixMilli() {
			t.Errorf("here since %d", since)
		}
		b.step(presence.Silent{Node: nodeA})
		c.step(presence.Silent{Node: nodeA})
		expectAll("alice party ready", b, c)
	}
}

func TestGoneElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		in   presence.Input
		want string
	}{
		"goodbye": {presence.Parted{Conn: 1, Goodbye: true}, "alice party reconnecting"}, // the other client may be back
		"leave":   {presence.Heard{Conn: 1, Message: presence.Leave{}}, ""},              // nobody is waited for
	} {
		t.Run(name, func(t *testing.T) {
			a, b := two(t, presence.Settings{})
			a.arrive(1, "alice/1", transaction.Party)
			a.arrive(2, "alice/2", transaction.Party)
			settle(a, b)
			a.step(presence.Parted{Conn: 1}, presence.Parted{Conn: 2})
			settle(a, b)
			b.now = b.now.Add(time.Second)
			b.arrive(1, "alice/1", transaction.Party)
			settle(a, b)
			expectAll("alice party", a, b)
			b.step(c.in)
			settle(a, b)
			expectAll(c.want, a, b)
			// Who comes back through yet another node is there, whatever has ended.
			a.now = a.now.Add(2 * time.Second)
			a.arrive(3, "alice/1", transaction.Party)
			settle(a, b)
			expectAll("alice party", a, b)
			pass(2*grace, a, b)
			expectAll("alice party", a, b)
		})
	}
}

// The client moved, and said goodbye, before its first node has heard that it moved.
func TestGoodbyeUnheard(t *testing.T) {
	a, b := two(t, presence.Settings{Parties: []string{"alice", "bob"}})
	a.arrive(1, "alice", transaction.Party)
	a.ready(1)
	a.store()
	b.now = b.now.Add(time.Second)
	b.arrive(1, "alice", transaction.Party)
	b.step(presence.Parted{Conn: 1, Goodbye: true})
	b.store()
	b.store()
	b.tell(a)
	settle(a, b)
	expectAll("", a, b)
	a.step(presence.Parted{Conn: 1})
	pass(2*grace, a, b)
	if a.row != nil || b.row != nil || !a.room.Empty() || !b.room.Empty() {
		t.Error("something is left")
	}
}

func TestSilent(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	a.arrive(2, "carol", transaction.Party)
	b.arrive(1, "bob", transaction.Party)
	a.ready(1)
	settle(a, b)
	a.step(presence.Parted{Conn: 2})
	settle(a, b)
	b.now = b.now.Add(time.Second)
	expectAll("alice party ready, bob party, carol party reconnecting", a, b)
	b.step(presence.Silent{Node: nodeC}) // of which nothing is known
	b.now = b.now.Add(pause)
	b.tells(1, b.step(presence.Silent{Node: nodeA}))
	b.expectWho("alice party reconnecting, bob party, carol party reconnecting")
	if len(b.room.Relies()) != 0 {
		t.Error("it relies on who is silent")
	}
	b.now = b.now.Add(time.Second - pause)
	b.tells(0, b.step(presence.Silent{Node: nodeA})) // said again
	b.wait(grace - 2*time.Second)
	b.expectWho("alice party reconnecting, bob party") // carol was lost before
	b.wait(time.Second + pause - 1)
	b.expectWho("alice party reconnecting, bob party")
	b.wait(1)
	b.expectWho("bob party")
	a.tell(b) // the same row: the node is back
	b.expectWho("alice party ready, bob party, carol party reconnecting")
	if !maps.Equal(b.room.Relies(), map[presence.Node]uint64{nodeA: a.seq}) {
		t.Errorf("relies on %v", b.room.Relies())
	}
}

// Too late is too late, also on another node.
func TestBackTooLateElsewhere(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	settle(a, b)
	b.step(presence.Silent{Node: nodeA})
	b.now = b.now.Add(grace)
	b.arrive(1, "alice", transaction.Party)
	b.store()
	if since := b.room.Roster().Participants[0].Since; since != b.now.UnixMilli() {
		t.Errorf("here since %d", since)
	}
}

func TestAgreementOfNodes(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	b.arrive(1, "bob", transaction.Party)
	settle(a, b)
	b.ready(1)
	settle(a, b)
	expectAll("alice party, bob party ready", a, b)
	a.expect(a.ready(1), "resolve 1 over 1 by alice+bob of 2")
	if !maps.Equal(a.seal.Relies, map[presence.Node]uint64{nodeB: b.seq}) {
		t.Errorf("relies on %v", a.seal.Relies)
	}
	// What would be published now could take back what is on its way to the disk.
	a.expect(a.step(presence.Heard{Conn: 1, Message: presence.Unready{}}))
	a.expect(a.wait(time.Minute))
	if said := a.step(presence.Stored{}); len(others(said)) != 2 || others(said)[0] != "all: resolved 1 over 1 by alice+bob of 2" {
		t.Errorf("said %q", said)
	}
	b.expect(b.step(presence.Agreed{Resolution: a.seal.Resolution}), "all: resolved 1 over 1 by alice+bob of 2")
	settle(a, b)
	expectAll("alice party, bob party ready", a, b)
	for _, p := range []*place{a, b} {
		if p.room.Roster().Resolution == nil {
			t.Error("no resolution")
		}
	}
}

// It was made by rows that are others now. What is new is heard first.
func TestOvertakenByPresence(t *testing.T) {
	a, b := two(t, presence.Settings{Quorum: 2})
	a.arrive(1, "alice", transaction.Party)
	b.arrive(1, "bob", transaction.Party)
	settle(a, b)
	b.ready(1)
	settle(a, b)
	a.expect(a.ready(1), "resolve 1 over 1 by alice+bob of 2")
	b.step(presence.Heard{Conn: 1, Message: presence.Unready{}})
	b.store()
	a.step(b.elsewhere())
	a.expect(a.step(presence.Overtaken{}), "publish 2")
	settle(a, b)
	expectAll("alice party ready, bob party", a, b)
	b.expect(b.ready(1), "resolve 1 over 1 by alice+bob of 2")
	if !maps.Equal(b.seal.Relies, map[presence.Node]uint64{nodeA: a.seq}) {
		t.Errorf("relies on %v", b.seal.Relies)
	}
}

// A readiness that is heard of before its heads are here counts when they are; one
// for what is past does not.
func TestReadyElsewhereForOtherHeads(t *testing.T) {
	a, b := two(t, presence.Settings{Parties: []string{"alice", "bob"}})
	b.arrive(1, "bob", transaction.Party)
	a.arrive(1, "alice", transaction.Party)
	settle(a, b)
	a.change(2, "x", "f")
	a.ready(1)
	settle(a, b)
	a.expectWho("alice party ready, bob party")
	b.expectWho("alice party, bob party")
	b.now = b.now.Add(time.Second)
	b.expect(b.change(2, "x", "f"))
	b.expectWho("alice party ready, bob party")
	b.expect(b.change(3, "x", "f"), "all: lapsed alice by x/f/3")
	b.expectWho("alice party lapsed by x/f/3, bob party")
	if lapsed := b.room.Roster().Participants[0].Lapsed; lapsed == nil || lapsed.Field != "f" {
		t.Errorf("lapsed by %v", lapsed)
	}
	// The other node is not that far, and says so again.
	a.focuses(1, "price")
	pass(time.Second, a, b)
	b.expectWho("alice party at price lapsed by x/f/3, bob party")
	a.expect(a.change(3, "x", "f"), "all: lapsed alice by x/f/3")
	a.ready(1)
	settle(a, b)
	expectAll("alice party ready at price, bob party", a, b)
	if b.room.Roster().Participants[0].Lapsed != nil {
		t.Error("she is ready, and lapsed")
	}
}

// Who is ready through one node, and takes it back through another, is not ready: not
// even if neither had heard of the other, and whatever is heard first.
func TestTakenBackElsewhere(t *testing.T) {
	for name, hear := range map[string]func(a, b, c *place){
		"one after the other": func(a, b, c *place) { settle(a, b, c) },
		"the ready first":     func(a, b, c *place) { a.store(); a.tell(c); b.store(); b.tell(c, a); a.tell(b) },
		"the unready first":   func(a, b, c *place) { b.store(); b.tell(c); a.store(); a.tell(c, b); b.tell(a) },
	} {
		for _, later := range []time.Duration{-time.Second, 0, time.Second} { // by its clock
			a, b := two(t, presence.Settings{})
			c := newPlace(t, nodeC, presence.Settings{})
			a.arrive(1, "alice/1", transaction.Party)
			b.arrive(1, "alice/2", transaction.Party)
			settle(a, b, c)
			a.now = a.now.Add(time.Second)
			b.now = a.now.Add(later)
			a.ready(1)
			b.step(presence.Heard{Conn: 1, Message: presence.Unready{}})
			hear(a, b, c)
			settle(a, b, c)
			for _, p := range []*place{a, b, c} {
				if p.who() != "alice party x2" {
					t.Errorf("%s, %s later: node %x tells %q", name, later, p.id[:1], p.who())
				}
			}
			// Who knows, and is ready again, is.
			a.ready(1)
			settle(a, b, c)
			pass(time.Second, a, b, c)
			expectAll("alice party x2 ready", a, b, c)
		}
	}
}

// A node that alone remembers what was taken back, since the other one is silent,
// says so when somebody does not know it.
func TestTakenBackAndSilent(t *testing.T) {
	a, b := two(t, presence.Settings{})
	c := newPlace(t, nodeC, presence.Settings{})
	a.arrive(1, "alice/1", transaction.Party)
	b.arrive(1, "alice/2", transaction.Party)
	settle(a, b, c)
	a.ready(1)
	a.store() // and nobody has heard of it yet
	b.step(presence.Heard{Conn: 1, Message: presence.Unready{}})
	b.store()
	b.tell(c)
	c.step(presence.Silent{Node: nodeB})
	a.step(presence.Silent{Node: nodeB})
	settle(a, c)
	a.tell(c)
	settle(a, c)
	pass(time.Second, a, c)
	expectAll("alice party", a, c)
}

func TestReadyOfNoPartyElsewhere(t *testing.T) {
	a, b := two(t, presence.Settings{Parties: []string{"alice", "host", "zoe"}})
	a.arrive(1, "alice/1", transaction.Party)
	b.arrive(1, "alice/2", transaction.Viewer)
	b.arrive(2, "host", transaction.Host)
	settle(a, b)
	a.ready(1)
	b.ready(2)
	settle(a, b)
	a.step(presence.Parted{Conn: 1, Goodbye: true})
	settle(a, b)
	expectAll("alice viewer, host host ready", a, b)
	a.arrive(2, "alice/3", transaction.Party) // she was no party meanwhile
	settle(a, b)
	expectAll("alice party x2, host host ready", a, b)
	for _, p := range []*place{a, b} {
		p.step(presence.Set{Settings: presence.Settings{Parties: []string{"alice"}, Policy: presence.Reopen}})
	}
	settle(a, b)
	pass(time.Second, a, b)
	expectAll("alice party x2, host host", a, b)
	for _, p := range []*place{a, b} {
		p.step(presence.Set{Settings: presence.Settings{Parties: []string{"alice", "host", "zoe"}, Policy: presence.Reopen}})
	}
	settle(a, b)
	pass(time.Second, a, b)
	expectAll("alice party x2, host host", a, b)
}

// There is a row that cannot be read: it may take something back.
func TestInTheDark(t *testing.T) {
	b := newPlace(t, nodeB, presence.Settings{})
	b.parties("alice", "bob")
	b.step(presence.Elsewhere{Node: nodeA, Seq: 7, Unreadable: true})
	b.ready(1)
	b.expect(b.ready(2))
	if !maps.Equal(b.room.Relies(), map[presence.Node]uint64{nodeA: 7}) {
		t.Errorf("relies on %v", b.room.Relies())
	}
	b.expect(b.step(presence.Silent{Node: nodeA}), "resolve 1 over 1 by alice+bob of 2")
	if b.seal.Relies == nil || len(b.seal.Relies) != 0 {
		t.Errorf("relies on %#v", b.seal.Relies)
	}
}

// What others have stored is told first, all of it.
func TestLearning(t *testing.T) {
	a, b := two(t, presence.Settings{Parties: []string{"alice", "bob"}})
	a.arrive(1, "alice", transaction.Party)
	a.arrive(2, "bob", transaction.Party)
	a.change(2, "x", "f")
	a.ready(1)
	a.expect(a.ready(2), "resolve 1 over 2 by alice+bob of 2")
	a.step(presence.Stored{})
	settle(a, b)
	b.step(presence.Learning{})
	b.expect(b.change(2, "x", "f"))
	b.expect(b.step(presence.Agreed{Resolution: a.seal.Resolution}), "all: resolved 1 over 2 by alice+bob of 2")
	b.expect(b.step(presence.Learned{}))
	// And with none, it is asked for then.
	b.step(presence.Learning{})
	a.change(3, "x", "f")
	a.arrive(3, "carol", transaction.Party)
	a.ready(1)
	a.expect(a.ready(2), "resolve 2 over 3 by alice+bob of 2")
	a.step(presence.Overtaken{}, presence.Overtaken{}) // it tries again
	a.step(presence.Published{Unstored: true})
	settle(a, b)
	b.expect(b.change(3, "x", "f"), "all: lapsed alice by x/f/3", "all: lapsed bob by x/f/3")
}

func TestForgotten(t *testing.T) {
	a, b := two(t, presence.Settings{Parties: []string{"alice", "bob", "carol"}})
	a.parties("alice", "bob", "carol")
	a.ready(1)
	settle(a, b)
	a.step(presence.Heard{Conn: 2, Message: presence.Unready{}})
	settle(a, b)
	a.now = a.now.Add(time.Second)
	a.ready(3) // is on its way
	a.want = nil
	a.now = a.now.Add(time.Second)
	said := a.step(presence.Forgotten{})
	if a.want == nil || a.want.N != 5 {
		t.Fatalf("said %q", said)
	}
	a.store()
	a.tell(b)
	expectAll("alice party, bob party, carol party ready", a, b)
	w := a.elsewhere().Attendance.People[1].Word
	if w == nil || w.Heads != nil {
		t.Errorf("of what was taken back it tells %+v", w)
	}
}

// Without a lease nobody counts on what was stored, and nothing waits for it. But what
// was taken back is not told: others may count on what they keep of it.
func TestCutOff(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice/1", transaction.Party)
	b.arrive(1, "alice/2", transaction.Party)
	b.ready(1)
	settle(a, b)
	a.now = a.now.Add(time.Second)
	a.step(presence.Heard{Conn: 1, Message: presence.Unready{}})
	n := a.want.N
	a.want = nil
	a.tells(0, a.step(presence.Silent{Node: nodeB}))
	a.tells(1, a.step(presence.Published{N: n, Unstored: true}))
	a.expectWho("alice party ready")
	a.step(presence.Heard{Conn: 1, Message: presence.Unready{}}) // once more
	a.want = nil
	a.step(presence.Published{N: n + 1, Unstored: true})
	a.expectWho("alice party ready")
	a.want = nil
	a.arrive(2, "carol", transaction.Party)
	a.step(presence.Published{N: n + 2, Unstored: true})
	a.expectWho("alice party ready, carol party")
	a.store() // and now it is
	a.expectWho("alice party, carol party")
}

// With a resolution on its way what is published waits, but not without a lease: then
// it cannot get there.
func TestCutOffWhileSealing(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.parties("alice", "bob")
	a.store()
	a.store()
	a.ready(1)
	a.store()
	a.expect(a.ready(2), "resolve 1 over 1 by alice+bob of 2")
	a.now = a.now.Add(time.Minute)
	a.tells(0, a.arrive(3, "carol", transaction.Party))
	a.expect(a.step(presence.Published{Unstored: true}), "publish 4")
	a.now = a.now.Add(time.Second)
	a.tells(1, a.step(presence.Published{N: 4, Unstored: true}))
}

// A clock made a connection look dead: when the other node has lost the client, or
// knows nothing of it any more, this one has it.
func TestLookedDead(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.now = a.now.Add(time.Minute) // its clock is wrong
	a.arrive(1, "alice", transaction.Party)
	a.store()
	b.arrive(1, "alice", transaction.Party) // later
	b.store()
	a.tell(b)
	settle(a, b)
	expectAll("alice party", a, b)
	a.step(presence.Parted{Conn: 1})
	settle(a, b)
	expectAll("alice party", a, b)
	pass(2*grace, a, b)
	expectAll("alice party", a, b)
	if a.row != nil || b.row == nil {
		t.Error("she is not where she is")
	}
}

// Who took leave while the connection looked dead does not come back with it.
func TestLeftWhileDead(t *testing.T) {
	a, b := two(t, presence.Settings{})
	b.arrive(1, "alice", transaction.Party)
	b.store()
	a.now = a.now.Add(time.Second)
	a.arrive(1, "alice", transaction.Party)
	settle(a, b)
	a.tell(b)
	b.step(presence.Heard{Conn: 1, Message: presence.Leave{}})
	a.step(presence.Parted{Conn: 1})
	settle(a, b)
	expectAll("alice party reconnecting", a, b)
}

// A node starts again as another, whose clock is behind: it reads what is stored
// first, and is later.
func TestRestart(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.now = a.now.Add(time.Hour)
	a.arrive(1, "alice", transaction.Party)
	a.store()
	b := newPlace(t, nodeB, presence.Settings{})
	a.tell(b)
	b.expectWho("alice party")
	b.arrive(1, "alice", transaction.Party)
	b.store()
	b.expectWho("alice party")
	if conns := b.elsewhere().Attendance.People[0].Conns; len(conns) != 1 {
		t.Errorf("it has %v", conns)
	}
	b.step(presence.Silent{Node: nodeA})
	b.wait(grace)
	b.expectWho("alice party")
	if c := b.room.Roster().Participants[0]; c.Connections != 1 {
		t.Errorf("%d connections", c.Connections)
	}
}

// What is told of clients that ended is bounded.
func TestManyEnded(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	for i := range 100 {
		a.arrive(presence.Conn(i+1), fmt.Sprintf("alice/%03d", i), transaction.Party)
		a.step(presence.Parted{Conn: presence.Conn(i + 1), Goodbye: true})
	}
	for a.want != nil {
		a.store()
	}
	ended := a.elsewhere().Attendance.People[0].Ended
	if len(ended) != 16 || ended[15].Peer != "alice/099" {
		t.Errorf("%d: %v", len(ended), ended)
	}
}

// The dead half of a link is told on as lost: who hears of that before hearing where the
// client is must not take the user for gone.
func TestMovedHalfOpenHeardInAnyOrder(t *testing.T) {
	a, b := two(t, presence.Settings{})
	c := newPlace(t, nodeC, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	settle(a, b, c)
	b.now = b.now.Add(time.Second)
	b.arrive(1, "alice", transaction.Party)
	b.store()
	b.tell(a)
	a.store()
	a.tell(c)
	c.expectWho("alice party reconnecting")
	b.tell(c)
	c.expectWho("alice party")
}

// What is taken back, and who leaves, counts against what no node here had heard of, also
// if nobody hears of it before the user has left this node.
func TestTakenBackUnheard(t *testing.T) {
	for name, do := range map[string]func(a *place){
		"unready": func(a *place) {
			a.step(presence.Heard{Conn: 1, Message: presence.Unready{}}, presence.Parted{Conn: 1, Goodbye: true})
		},
		"goodbye": func(a *place) { a.step(presence.Parted{Conn: 1, Goodbye: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := two(t, presence.Settings{})
			a.arrive(1, "alice/1", transaction.Party)
			a.store()
			b.arrive(1, "alice/2", transaction.Party)
			b.ready(1)
			b.store()
			b.store()
			do(a)
			a.store()
			b.expectWho("alice party ready")
			a.tell(b)
			settle(a, b)
			pass(time.Second, a, b)
			expectAll("alice party", a, b)
		})
	}
}

// It is told on for as long as another node does not know it, whatever that takes.
func TestToldUntilItIsKnown(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.now = a.now.Add(time.Second)
	b.arrive(1, "alice", transaction.Party)
	b.ready(1)
	b.store()
	b.store()
	b.tell(a)
	a.arrive(1, "alice", transaction.Party)
	a.step(presence.Parted{Conn: 1, Goodbye: true})
	for a.want != nil {
		a.store()
	}
	pass(10*grace, a)
	p := a.elsewhere().Attendance.People[0]
	if p.Word == nil || p.Word.Heads != nil || len(p.Ended) != 1 {
		t.Errorf("it tells %+v", p)
	}
	a.tell(b)
	settle(a, b)
	b.step(presence.Parted{Conn: 1})
	pass(10*grace, a, b)
	expectAll("", a, b)
	if a.row != nil || b.row != nil {
		t.Error("something is left")
	}
}

// What was said through a node to which the user is connected is that node's to tell:
// it may have been taken back there, unheard.
func TestSilentWhoKeepsTheWord(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice/1", transaction.Party)
	a.ready(1)
	settle(a, b)
	b.arrive(1, "alice/2", transaction.Party)
	settle(a, b)
	expectAll("alice party x2 ready", a, b)
	b.step(presence.Silent{Node: nodeA})
	settle(b)
	b.expectWho("alice party")
	pass(2*grace, b)
	b.expectWho("alice party")
}

// Who confirms again on another node is ready there too, when the first is gone: a
// client says again what it had said whenever it comes back.
func TestConfirmedAgainElsewhere(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice/1", transaction.Party)
	a.ready(1)
	settle(a, b)
	b.arrive(1, "alice/1", transaction.Party)
	settle(b)
	b.tells(0, b.ready(1)) // there is nothing new
	settle(b)              // but to the database
	row := b.seq
	b.ready(1)
	settle(b)
	if b.seq != row {
		t.Error("it was published again")
	}
	b.step(presence.Silent{Node: nodeA})
	settle(b)
	b.expectWho("alice party ready")
	pass(2*grace, b)
	b.expectWho("alice party ready")
}

// Who does not come back takes nothing along that another node keeps.
func TestExpiredHere(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	a.ready(1)
	settle(a, b)
	in := a.elsewhere()
	in.Attendance.People[0].Conns = nil // that it keeps her word, and has no connection
	in.Seq += 1000
	b.step(in)
	b.arrive(1, "alice", transaction.Party)
	b.step(presence.Parted{Conn: 1})
	for b.want != nil {
		b.store()
	}
	in.Seq++
	in.Attendance.People[0].Word = &presence.Word{Said: stampOf(nodeA, 1<<50), Heads: at(1)} // said again
	b.step(in)
	b.wait(grace)
	for b.want != nil {
		b.store()
	}
	if w := b.elsewhere().Attendance.People[0].Word; w == nil || w.Heads != nil || w.Said.Before(stampOf(nodeA, 1<<50)) {
		t.Errorf("it tells %+v", w)
	}
}

// Who leaves is not waited for, but for a client that has come again since, unheard.
func TestLeaveAndCameAgain(t *testing.T) {
	a, b := two(t, presence.Settings{})
	c := newPlace(t, nodeC, presence.Settings{})
	a.arrive(1, "alice/1", transaction.Party)
	b.arrive(1, "alice/2", transaction.Party)
	settle(a, b, c)
	b.step(presence.Parted{Conn: 1})
	settle(a, b, c)
	a.now, b.now, c.now = a.now.Add(time.Second), b.now.Add(time.Second), c.now.Add(time.Second)
	c.arrive(1, "alice/2", transaction.Party)
	a.now = a.now.Add(time.Second)
	a.step(presence.Heard{Conn: 1, Message: presence.Leave{}})
	settle(a, b, c)
	expectAll("alice party", a, b, c)
	pass(grace, a, b, c)
	pass(grace, a, b, c)
	expectAll("alice party", a, b, c)
	if conns := c.elsewhere().Attendance.People[0].Conns; len(conns) != 1 {
		t.Errorf("it has %v", conns)
	}
}

// Who was away for a while knows more than what others remember of before.
func TestReadyAfterWhatOthersRemember(t *testing.T) {
	a := newPlace(t, nodeA, presence.Settings{})
	a.arrive(1, "alice", transaction.Party)
	a.step(presence.Heard{Conn: 1, Message: presence.Unready{}})
	a.store()
	a.store()
	back := a.elsewhere().Attendance.People[0].Word
	a.step(presence.Parted{Conn: 1, Goodbye: true})
	a.store()
	pass(2*grace, a)
	a.arrive(2, "alice", transaction.Party)
	a.ready(2)
	settle(a)
	for i, people := range [][]presence.Present{{{User: "alice", Word: &presence.Word{Said: back.Said}}}, {}} {
		a.step(presence.Elsewhere{Node: nodeC, Seq: uint64(i + 1), Attendance: &presence.Attendance{People: people}})
		pass(time.Second, a)
		a.expectWho("alice party ready")
	}
}

// What a node said to have ended, by a clock that is wrong, is no more once it is silent.
func TestLookedEnded(t *testing.T) {
	a, b := two(t, presence.Settings{})
	a.now = a.now.Add(time.Minute) // its clock is wrong
	a.arrive(1, "alice", transaction.Party)
	a.step(presence.Parted{Conn: 1, Goodbye: true})
	a.store()
	a.store()
	b.arrive(1, "alice", transaction.Party) // later
	b.store()
	a.tell(b)
	settle(b)
	b.expectWho("")
	b.step(presence.Silent{Node: nodeA})
	settle(b)
	b.expectWho("alice party")
}
