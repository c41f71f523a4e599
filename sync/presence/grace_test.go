package presence_test

import (
	"testing"
	"time"

	"parley/crdt/transaction"
	"parley/sync/presence"
)

const grace = presence.DefaultGrace

func TestBackInTime(t *testing.T) {
	for name, peer := range map[string]string{"the same client": "alice", "another": "alice/2"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, presence.Settings{})
			s.parties("alice", "bob")
			s.ready(1)
			s.step(presence.Parted{Conn: 1})
			s.expectWho("alice party reconnecting ready, bob party")
			if p := s.room.Roster().Participants[0]; p.Connections != 0 {
				t.Errorf("%d connections", p.Connections)
			}
			s.wait(grace - 1)
			s.arrive(3, peer, transaction.Party)
			s.expectWho("alice party ready, bob party")
			if p := s.room.Roster().Participants[0]; p.Since != epoch.UnixMilli() {
				t.Errorf("here since %d", p.Since)
			}
			s.wait(grace)
			s.expectWho("alice party ready, bob party")
			if wake := s.room.Wake(); !wake.IsZero() {
				t.Errorf("something waits until %s", wake)
			}
		})
	}
}

// Too late is too late, whether the room was told of the time or not.
func TestBackTooLate(t *testing.T) {
	for name, tick := range map[string]bool{"ticked": true, "not ticked": false} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, presence.Settings{})
			s.parties("alice", "bob")
			s.ready(1)
			s.step(presence.Parted{Conn: 1})
			s.now = s.now.Add(grace)
			if tick {
				s.step(presence.Ticked{})
				s.expectWho("bob party")
			}
			s.arrive(3, "alice", transaction.Party)
			s.expectWho("alice party, bob party")
			if p := s.room.Roster().Participants[0]; p.Since != epoch.Add(grace).UnixMilli() {
				t.Errorf("here since %d", p.Since)
			}
		})
	}
}

// Two tabs are lost, one after the other: the later one counts.
func TestGraceOfSeveral(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice/1", transaction.Party)
	s.arrive(2, "alice/2", transaction.Party)
	s.step(presence.Parted{Conn: 1})
	s.expectWho("alice party")
	s.wait(grace / 2)
	s.step(presence.Parted{Conn: 2})
	s.expectWho("alice party reconnecting")
	s.wait(grace - 1)
	s.expectWho("alice party reconnecting")
	s.wait(1)
	s.expectWho("")
}

// The first tab comes back on a new connection, before its old one is known to be
// dead: it is one connection, and what becomes of the old one says nothing.
func TestHalfOpen(t *testing.T) {
	for name, end := range map[string]presence.Parted{"lost": {Conn: 1}, "goodbye": {Conn: 1, Goodbye: true}} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, presence.Settings{})
			s.parties("alice", "bob")
			s.ready(1)
			s.arrive(3, "alice", transaction.Party)
			s.expectWho("alice party ready, bob party")
			for _, m := range []presence.Message{presence.Focus{Field: "price"}, presence.Unready{}, presence.Leave{}} {
				s.step(presence.Heard{Conn: 1, Message: m}) // frames from before
			}
			s.expectWho("alice party ready, bob party")
			s.step(end)
			s.wait(2 * grace)
			s.expectWho("alice party ready, bob party")
			s.step(presence.Parted{Conn: 3})
			s.expectWho("alice party reconnecting ready, bob party")
		})
	}
}

// The same peer id of another user is another client.
func TestPeersOfTwoUsers(t *testing.T) {
	s := newScene(t, presence.Settings{})
	for i, user := range []string{"alice", "bob"} {
		s.step(presence.Arrived{Conn: presence.Conn(i + 1), Peer: "p", Person: presence.Person{User: user, Role: transaction.Party}})
	}
	s.expectWho("alice party, bob party")
	s.step(presence.Parted{Conn: 1}, presence.Arrived{Conn: 3, Peer: "p", Person: presence.Person{User: "bob", Role: transaction.Party}})
	s.expectWho("alice party reconnecting, bob party")
}

func TestGoodbye(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice/1", transaction.Party)
	s.arrive(2, "alice/2", transaction.Party)
	s.arrive(3, "alice/3", transaction.Party)
	s.step(presence.Parted{Conn: 1, Goodbye: true})
	s.expectWho("alice party x2")
	s.step(presence.Parted{Conn: 2})
	s.step(presence.Parted{Conn: 3, Goodbye: true}) // the second tab may still be back
	s.expectWho("alice party reconnecting")
	s.arrive(4, "alice/2", transaction.Party)
	s.step(presence.Parted{Conn: 4, Goodbye: true})
	s.expectWho("")
}

// Who leaves does so at once, unless there is another tab.
func TestLeave(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice/1", transaction.Party)
	s.arrive(2, "alice/2", transaction.Party)
	s.arrive(3, "alice/3", transaction.Party)
	s.ready(1)
	s.step(presence.Heard{Conn: 1, Message: presence.Leave{}})
	s.expectWho("alice party x2 ready")
	s.step(presence.Parted{Conn: 2})
	s.step(presence.Heard{Conn: 3, Message: presence.Leave{}}) // the lost one is not waited for
	s.expectWho("")
	s.step(presence.Parted{Conn: 3}) // nor is she when the socket closes
	s.expectWho("")
	s.arrive(4, "alice/2", transaction.Party)
	s.expectWho("alice party") // as somebody new
}

// A connection that took leave listens on, and comes back when it says that its
// user does something.
func TestAfterLeave(t *testing.T) {
	for name, c := range map[string]struct {
		message presence.Message
		back    string
	}{
		"ready":         {presence.Ready{Heads: at(1)}, "alice party ready"},
		"stale ready":   {presence.Ready{Heads: at(9)}, "alice party"},
		"focus":         {presence.Focus{Field: "price"}, "alice party at price"},
		"focus nowhere": {presence.Focus{}, ""},
		"unready":       {presence.Unready{}, ""},
		"ping":          {presence.Ping{}, ""},
		"ask":           {presence.Ask{}, ""},
		"leave":         {presence.Leave{}, ""},
		"wrong":         {presence.Wrong{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, presence.Settings{})
			s.arrive(1, "alice", transaction.Party)
			s.step(presence.Heard{Conn: 1, Message: presence.Focus{Field: "date"}})
			s.step(presence.Heard{Conn: 1, Message: presence.Leave{}})
			s.wait(time.Second)
			s.wait(time.Second)
			if said := s.step(presence.Heard{Conn: 1, Message: presence.Ask{}}); len(rosters(said)) != 1 {
				t.Errorf("who only listens is told %q", said)
			}
			s.wait(time.Second)
			s.step(presence.Heard{Conn: 1, Message: c.message})
			s.expectWho(c.back)
			s.step(presence.Parted{Conn: 1})
			if s.room.Empty() != (c.back == "") {
				t.Error("the grace is for who is here, and for nobody else")
			}
		})
	}
}

// Two tabs took leave, one came back; then the client of the other is back on a
// new connection, before its old one has said its last.
func TestReplacedAfterLeave(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice", transaction.Party)
	s.step(presence.Heard{Conn: 1, Message: presence.Leave{}})
	s.arrive(2, "alice", transaction.Party)
	s.step(presence.Heard{Conn: 1, Message: presence.Focus{Field: "price"}}) // sent long before
	s.step(presence.Heard{Conn: 2, Message: presence.Focus{Field: "date"}})
	s.expectWho("alice party at date")
	s.step(presence.Parted{Conn: 1})
	s.wait(grace)
	s.expectWho("alice party at date")
}

func TestGraceIsConfigured(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.room = presence.New(presence.Config{Grace: time.Second}, s.doc, presence.Settings{}, nil)
	s.arrive(1, "alice", transaction.Party)
	s.step(presence.Parted{Conn: 1})
	s.wait(time.Second - 1)
	s.expectWho("alice party reconnecting")
	s.wait(1)
	s.expectWho("")
}

// Without ticks nobody leaves: the server is about to stop, and they are to find
// themselves as they were.
func TestNobodyLeavesWithoutTicks(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.ready(1)
	s.step(presence.Parted{Conn: 1})
	s.now = s.now.Add(time.Hour)
	s.expect(s.ready(2), "resolve 1 over 1 by alice+bob of 2")
	s.expectWho("alice party reconnecting ready, bob party ready")
}

// One who is a party in a tab that is only lost is one still: nobody agrees
// without them meanwhile.
func TestRoleInTheGrace(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.arrive(3, "carol/1", transaction.Party)
	s.arrive(4, "carol/2", transaction.Viewer)
	s.ready(1)
	s.ready(2)
	s.expect(s.step(presence.Parted{Conn: 3}))
	s.expectWho("alice party ready, bob party ready, carol party")
	s.now = s.now.Add(grace - pause)
	s.told(s.step(presence.Ticked{}), "all: roster 5")
	s.expect(s.wait(pause), "resolve 1 over 1 by alice+bob of 2")
	s.expectWho("alice party ready, bob party ready, carol viewer")
}

// Who was ready as a party and is one no more is not ready.
func TestReadyOfNoParty(t *testing.T) {
	begin := func() *scene {
		s := newScene(t, presence.Settings{Parties: []string{"alice", "host"}})
		s.arrive(1, "alice", transaction.Party)
		s.arrive(2, "host", transaction.Host)
		return s
	}
	s := begin()
	s.ready(1)
	s.arrive(3, "alice", transaction.Viewer) // with another token
	s.expectWho("alice viewer, host host")
	s.expect(s.ready(2))
	s = begin()
	s.ready(2)
	s.step(presence.Set{Settings: presence.Settings{Parties: []string{"alice"}}})
	s.expectWho("alice party, host host")
}
