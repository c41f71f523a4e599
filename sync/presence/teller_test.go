package presence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/crdt/transaction"
	"parley/sync/presence"
)

const pause = 100 * time.Millisecond

// told fails the test unless exactly these rosters were sent.
func (s *scene) told(said []string, want ...string) {
	s.t.Helper()
	if got := rosters(said); !slices.Equal(got, want) {
		s.t.Errorf("told %q, want %q", got, want)
	}
}

// wakes fails the test unless the room wants to be told so much later, or, for a
// negative duration, never.
func (s *scene) wakes(in time.Duration) {
	s.t.Helper()
	wake := s.room.Wake()
	if in < 0 != wake.IsZero() || in >= 0 && !wake.Equal(s.now.Add(in)) {
		s.t.Errorf("wakes %s, want %s from %s", wake, in, s.now)
	}
}

func (s *scene) focuses(conn presence.Conn, field string) []string {
	s.t.Helper()
	return s.step(presence.Heard{Conn: conn, Message: presence.Focus{Field: field}})
}

// Who comes is told at once, the others in their time.
func TestNewcomers(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.wakes(-1)
	s.told(s.arrive(1, "alice", transaction.Party), "all: roster 1")
	s.wakes(-1)
	s.now = s.now.Add(10 * time.Millisecond)
	s.told(s.arrive(2, "bob", transaction.Party), "2: roster 2")
	s.wakes(pause - 10*time.Millisecond)
	s.told(s.arrive(3, "carol", transaction.Viewer), "3: roster 3")
	s.told(s.wait(pause - 10*time.Millisecond - 1))
	s.told(s.wait(1), "all: roster 3")
	s.wakes(-1)
	s.told(s.wait(time.Hour))
	s.told(s.step(presence.Arrived{Conn: 4, Peer: "guest"}), "4: roster 3") // who has no name is no news
	s.wakes(-1)
}

// Everybody is told ten times a second at most, what is the latest then.
func TestRostersCoalesce(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.wait(time.Second)
	began, count := s.now, 0
	for i := range 1000 {
		count += len(rosters(s.focuses(1, fmt.Sprint(i))))
		count += len(rosters(s.wait(time.Millisecond)))
	}
	if count != 10 || s.now.Sub(began) != time.Second {
		t.Errorf("%d rosters in a second", count)
	}
	s.told(s.focuses(1, "same"))
	s.told(s.wait(pause), "all: roster 13")
	s.told(s.focuses(1, "same")) // no news
	s.wakes(-1)
}

func TestFirstNewsIsToldAtOnce(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.told(s.wait(pause), "all: roster 2")
	s.wait(pause)
	s.told(s.ready(1), "all: roster 3")
	s.told(s.ready(1))
	s.wakes(-1)
}

// Who asks is told, ten times a second at most, and that is told to nobody else.
func TestAsk(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.wait(time.Second)
	s.wait(time.Second)
	ask := func(conn presence.Conn) []string { return s.step(presence.Heard{Conn: conn, Message: presence.Ask{}}) }
	s.told(ask(2), "2: roster 2")
	s.told(ask(2))
	s.wakes(pause)
	s.told(ask(1), "1: roster 2")
	s.told(s.wait(pause - 1))
	s.told(ask(2))
	s.told(s.wait(1), "2: roster 2")
	s.wakes(-1)
	s.told(ask(9))
	// A roster for all is one for those who asked.
	s.wait(pause)
	ask(2)
	ask(2)
	s.told(s.focuses(1, "price"), "all: roster 3")
	s.wakes(-1)
	s.told(ask(2))
	s.wakes(pause)
}

func TestSyncedIsToldAtOnce(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.told(s.arrive(1, "alice", transaction.Party), "all: roster 1")
	s.told(s.step(presence.Synced{Conn: 1}), "1: roster 1")
	s.told(s.step(presence.Synced{Conn: 2}))
	s.wakes(-1)
}

// While changes are on their way to the disk everybody waits for them, but not
// for long.
func TestRostersWaitForTheDisk(t *testing.T) {
	begin := func() *scene {
		s := newScene(t, presence.Settings{})
		s.parties("alice", "bob")
		s.wait(time.Second)
		s.wait(time.Second)
		s.doc.unsettled = true
		s.told(s.focuses(1, "price"))
		s.wakes(time.Second)
		return s
	}
	s := begin()
	s.told(s.wait(time.Second - 1))
	s.told(s.wait(1), "all: roster 3")
	s.told(s.focuses(1, "date"))
	s.wakes(time.Second)
	s.told(s.arrive(3, "carol", transaction.Party), "3: roster 4") // who comes does not wait
	s.told(s.wait(500 * time.Millisecond))
	s.told(s.focuses(1, "place")) // does not begin anew
	s.wakes(500 * time.Millisecond)

	s = begin()
	s.wait(50 * time.Millisecond)
	s.doc.unsettled = false
	s.told(s.change(2, "bob", "price"), "all: roster 3")
	s.wakes(-1)
}

// While an agreement is on its way to the disk, too: who is shown not ready any
// more has heard of it.
func TestRostersWaitForAnAgreement(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.ready(1)
	s.wait(time.Second)
	s.told(s.ready(2))
	s.told(s.step(presence.Heard{Conn: 1, Message: presence.Unready{}}))
	s.wakes(time.Second)
	s.told(s.step(presence.Stored{}))
	s.told(s.wait(pause), "all: roster 4")
	s.wakes(-1)
}

// A roster is as long as there are people, and goes to as many.
func TestCrowds(t *testing.T) {
	for _, c := range []struct {
		people int
		pause  time.Duration
	}{{1, pause}, {99, pause}, {100, 2 * pause}, {500, 10 * pause}} {
		s := newScene(t, presence.Settings{})
		for i := range c.people {
			s.arrive(presence.Conn(i+1), fmt.Sprintf("user%d", i), transaction.Party)
		}
		s.wait(time.Hour)
		s.told(s.wait(time.Hour))
		s.now = s.now.Add(time.Millisecond)
		if said := rosters(s.focuses(1, "price")); len(said) != 1 {
			t.Fatalf("told %q", said)
		}
		s.focuses(1, "date")
		s.wakes(c.pause)
		if said := rosters(s.wait(c.pause - 1)); len(said) != 0 {
			t.Errorf("%d people are told too early", c.people)
		}
		if said := rosters(s.wait(1)); len(said) != 1 {
			t.Errorf("%d people are told too late", c.people)
		}
	}
}

// Round trip times are told with what else there is; alone only if they are
// new, or other than they were by a half and 20 ms.
func TestRoundTrips(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice/1", transaction.Party)
	s.arrive(2, "alice/2", transaction.Party)
	s.wait(time.Second)
	for i, c := range []struct {
		conn  presence.Conn
		ms    time.Duration
		news  bool
		shown time.Duration // when asked
	}{
		{1, 30, true, 30}, {1, 45, false, 45}, {1, 49, false, 49}, {1, 50, true, 50}, {1, 76, true, 76}, {1, 113, false, 113},
		{2, 500, false, 113}, {2, 200, false, 113}, {2, 38, true, 38}, {1, 50, false, 38}, {2, 1000, false, 50}, {1, 19, false, 19}, {1, 18, true, 18},
	} {
		s.wait(time.Second)
		said := s.step(presence.Measured{Conn: c.conn, RoundTrip: c.ms * time.Millisecond})
		if got := len(rosters(said)) > 0; got != c.news {
			t.Errorf("measure %d: told %t, want %t", i, got, c.news)
		}
		if got := s.room.Roster().Participants[0].RoundTrip; got != c.shown*time.Millisecond {
			t.Errorf("measure %d: shown as %s, want %d ms", i, got, c.shown)
		}
	}
	s.told(s.step(presence.Measured{Conn: 9, RoundTrip: time.Hour}))
}

// Two rosters with the same rev say the same.
func TestRevsDiffer(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice", transaction.Party)
	s.step(presence.Measured{Conn: 1, RoundTrip: 30 * time.Millisecond})
	before := s.room.Roster()
	s.step(presence.Measured{Conn: 1, RoundTrip: 31 * time.Millisecond})
	if after := s.room.Roster(); after.Rev == before.Rev {
		t.Errorf("rosters %d differ", after.Rev)
	}
	again := s.room.Roster()
	s.step(presence.Measured{Conn: 1, RoundTrip: 31 * time.Millisecond})
	if s.room.Roster().Rev != again.Rev {
		t.Error("a roster has another rev and is the same")
	}
}

func TestWakesForGrace(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.wait(time.Second)
	s.wait(time.Second)
	s.told(s.step(presence.Parted{Conn: 1}), "all: roster 3")
	s.wakes(grace)
	s.wait(time.Second)
	s.step(presence.Parted{Conn: 2})
	s.wakes(grace - time.Second)
	s.wait(grace - time.Second)
	s.wakes(time.Second)
	s.wait(time.Second)
	s.wakes(-1)
}

// That nothing gets to the disk is told, and when it does again.
func TestStalled(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice")
	s.wait(time.Second)
	var last *presence.Roster
	s.seen = func(out presence.Output) {
		if send, ok := out.(presence.Send); ok {
			if m, err := presence.DecodeDown(send.Data); err == nil {
				last, _ = m.(*presence.Roster)
			}
		}
	}
	for _, stalled := range []bool{true, false} {
		if said := s.step(presence.Stalled{Stalled: stalled}); len(rosters(said)) != 1 || last.Stalled != stalled {
			t.Errorf("stalled %t: told %q, %+v", stalled, said, last)
		}
		s.wait(time.Second)
		s.told(s.step(presence.Stalled{Stalled: stalled}))
	}
}
