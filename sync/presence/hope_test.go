package presence_test

import (
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// confirm says ready for the heads after change n.
func (s *scene) confirm(conn presence.Conn, n byte) []string {
	s.t.Helper()
	return s.step(presence.Heard{Conn: conn, Message: presence.Ready{Heads: at(n)}})
}

// Who picks and confirms in one go is heard before the pick is on disk.
func TestReadyForWhatIsComing(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.doc.coming = true
	s.expect(s.confirm(1, 2))
	s.expectWho("alice party, bob party")
	s.expect(s.change(2, "alice", "price"))
	s.expectWho("alice party ready, bob party")
	s.expect(s.confirm(2, 2), "resolve 1 over 2 by alice+bob of 2")

	// A change of somebody else's came instead, and theirs is past.
	s.step(presence.Stored{})
	s.expect(s.confirm(1, 3))
	s.doc.coming = false
	s.expect(s.change(4, "bob", "price"),
		"all: lapsed alice by bob/price/4", "all: lapsed bob by bob/price/4", "1: rejected ready stale")
}

// What does not come in time was not there.
func TestReadyForWhatDoesNotCome(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.wait(time.Second)
	s.doc.coming = true
	s.expect(s.confirm(1, 9))
	if wake := s.room.Wake(); !wake.Equal(s.now.Add(time.Second)) {
		t.Errorf("to be woken in %v", wake.Sub(s.now))
	}
	s.wait(500 * time.Millisecond)
	s.expect(s.confirm(1, 9)) // said again, it is not waited for any longer
	s.expect(s.wait(499 * time.Millisecond))
	s.expect(s.wait(time.Millisecond), "1: rejected ready stale")
	s.expect(s.wait(time.Hour))
	if wake := s.room.Wake(); !wake.IsZero() {
		t.Errorf("woken again at %v", wake)
	}
}

func TestReadyThatIsNotWaitedFor(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.arrive(3, "vera", transaction.Viewer)
	s.doc.coming = true
	s.expect(s.confirm(3, 2), "3: rejected ready not-a-party")
	many := make([]crdt.Hash, 65)
	for i := range many {
		many[i] = crdt.Hash{9, byte(i)}
	}
	s.expect(s.step(presence.Heard{Conn: 1, Message: presence.Ready{Heads: many}}), "1: rejected ready stale")

	// Taken back, or replaced by a later word, it is not answered.
	for _, last := range []presence.Message{presence.Unready{}, presence.Leave{}, presence.Ready{Heads: at(1)}} {
		s.confirm(1, 2)
		s.expect(s.step(presence.Heard{Conn: 1, Message: last}))
		s.expect(s.wait(2 * time.Second))
	}
	s.expectWho("alice party ready, bob party, vera viewer")
	s.confirm(2, 2)
	s.step(presence.Parted{Conn: 2})
	s.expect(s.wait(2 * time.Second))

	// What is refused when it comes says so then.
	s.doc.contested = []string{"price"}
	s.confirm(1, 2)
	s.expect(s.change(2, "bob", "price"), "all: lapsed alice by bob/price/2", "1: rejected ready contested price")
}

// A document whose state takes long to read is sent first, and the roster at the
// tick that is due at once.
func TestRosterOfWhatIsNotAtHand(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.doc.unknown = true
	if said := s.arrive(1, "alice", transaction.Party); len(said) > 0 {
		t.Errorf("said %q", said)
	}
	if wake := s.room.Wake(); wake.IsZero() || wake.After(s.now) {
		t.Errorf("to be woken at %v, and it is %v", wake, s.now)
	}
	if said := s.wait(0); len(said) != 1 || said[0] != "all: roster 1" {
		t.Errorf("said %q", said)
	}
}
