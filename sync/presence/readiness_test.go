package presence_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// Why somebody may not be ready. Of several reasons the first of the table's
// order is given.
func TestReadyIsRefused(t *testing.T) {
	stale := func(s *scene) { s.doc.heads = at(2) }
	unsettled := func(s *scene) { s.doc.unsettled = true }
	contested := func(s *scene) { s.doc.contested = []string{"date", "price"} }
	missing := func(s *scene) { s.doc.missing = []string{"place"} }
	for name, c := range map[string]struct {
		user    string
		role    transaction.Role
		parties []string
		spoil   []func(*scene)
		want    string
	}{
		"party":                    {"zoe", transaction.Party, nil, nil, ""},
		"party not named":          {"zoe", transaction.Party, []string{"alice"}, nil, ""},
		"nobody":                   {"", transaction.Party, nil, nil, "not-a-party"},
		"viewer":                   {"zoe", transaction.Viewer, nil, nil, "not-a-party"},
		"viewer named":             {"zoe", transaction.Viewer, []string{"zoe"}, nil, "not-a-party"},
		"auditor":                  {"zoe", transaction.Auditor, nil, nil, "not-a-party"},
		"host":                     {"zoe", transaction.Host, []string{"alice"}, nil, "not-a-party"},
		"host where none is named": {"zoe", transaction.Host, nil, nil, "not-a-party"},
		"host named":               {"zoe", transaction.Host, []string{"alice", "zoe"}, nil, ""},
		"stale":                    {"zoe", transaction.Party, nil, []func(*scene){stale}, "stale"},
		"unsettled":                {"zoe", transaction.Party, nil, []func(*scene){unsettled}, "stale"},
		"contested":                {"zoe", transaction.Party, nil, []func(*scene){contested}, "contested date price"},
		"incomplete":               {"zoe", transaction.Party, nil, []func(*scene){missing}, "incomplete place"},
		"all but the first":        {"zoe", transaction.Party, nil, []func(*scene){missing, contested, stale}, "stale"},
		"the last two":             {"zoe", transaction.Party, nil, []func(*scene){missing, contested}, "contested date price"},
		"all":                      {"zoe", transaction.Viewer, nil, []func(*scene){missing, contested, stale}, "not-a-party"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, presence.Settings{Parties: c.parties})
			s.step(presence.Arrived{Conn: 3, Peer: "p", Person: presence.Person{User: c.user, Role: c.role}})
			heads := s.doc.heads
			for _, spoil := range c.spoil {
				spoil(s)
			}
			said := s.step(presence.Heard{Conn: 3, Message: presence.Ready{Heads: heads}})
			if c.want == "" {
				s.expect(said)
			} else {
				s.expect(said, "3: rejected ready "+c.want)
			}
			if s.room.AnyReady() != (c.want == "") {
				t.Errorf("somebody is ready: %t", s.room.AnyReady())
			}
		})
	}
}

// A refusal says what of, and in words what to do.
func TestRefusalOfReady(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice", transaction.Party)
	s.doc.missing = strings.Split("abcdefg", "")
	out := s.room.Step(s.now, presence.Heard{Conn: 1, Message: presence.Ready{Heads: at(1)}}, nil)
	m, err := presence.DecodeDown(out[0].(presence.Send).Data)
	r, ok := m.(*presence.Rejected)
	if err != nil || !ok {
		t.Fatal(m, err)
	}
	if !slices.Equal(r.Heads, at(1)) || len(r.Fields) != 7 || r.Changes == nil || len(r.Changes) > 0 {
		t.Errorf("%+v", r)
	}
	if want := `nothing is picked for "a", "b", "c", "d", "e" and 2 more: pick a value first`; r.Message != want {
		t.Errorf("it says %s", r.Message)
	}
}

func TestWrongMessages(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.expect(s.step(presence.Heard{Conn: 2, Message: presence.Wrong{Kind: "ready", Reason: "so"}}), "2: rejected ready bad-message")
	s.expect(s.step(presence.Heard{Conn: 9, Message: presence.Wrong{Kind: "ready", Reason: "so"}}))
}

func TestReady(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.expect(s.ready(1))
	s.expectWho("alice party ready, bob party")
	rev := s.room.Roster().Rev
	s.expect(s.ready(1)) // again, it is the same
	if got := s.room.Roster().Rev; got != rev {
		t.Errorf("the roster went from %d to %d although nothing changed", rev, got)
	}
	s.expect(s.step(presence.Heard{Conn: 1, Message: presence.Unready{}}))
	s.expectWho("alice party, bob party")
	s.expect(s.step(presence.Heard{Conn: 2, Message: presence.Unready{}})) // was not
	// Ready in one tab, unready in another.
	s.arrive(3, "alice/2", transaction.Party)
	s.ready(1)
	s.step(presence.Heard{Conn: 3, Message: presence.Unready{}})
	s.expectWho("alice party x2, bob party")
}

// Everybody is told once why somebody is not ready any more, and finds it in the
// roster until that user is ready again.
func TestLapse(t *testing.T) {
	s := newScene(t, presence.Settings{Parties: []string{"alice", "bob", "carol"}})
	s.parties("alice", "bob", "carol")
	s.ready(2)
	s.ready(1)
	s.expect(s.change(2, "carol", "price"), "all: lapsed alice by carol/price/2", "all: lapsed bob by carol/price/2")
	s.expectWho("alice party lapsed by carol/price/2, bob party lapsed by carol/price/2, carol party")
	s.expect(s.change(3, "bob", "")) // told already
	s.expectWho("alice party lapsed by carol/price/2, bob party lapsed by carol/price/2, carol party")
	s.ready(2)
	s.expectWho("alice party lapsed by carol/price/2, bob party ready, carol party")
	s.step(presence.Heard{Conn: 2, Message: presence.Unready{}})
	s.expectWho("alice party lapsed by carol/price/2, bob party, carol party")
	s.ready(2)
	s.expect(s.change(4, "bob", ""), "all: lapsed bob by bob//4") // by one's own change, too
	s.ready(1)
	s.step(presence.Parted{Conn: 1})
	s.expect(s.change(5, "bob", "date"), "all: lapsed alice by bob/date/5") // who is not here just now, too
	s.arrive(4, "alice", transaction.Party)
	s.expectWho("alice party lapsed by bob/date/5, bob party lapsed by bob//4, carol party")
}

func TestNoLapseWithoutNews(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.ready(1)
	s.expect(s.step(presence.Advanced{})) // the heads are what they were
	s.expectWho("alice party ready, bob party")
}

// Who must be ready, by what was settled at creation. Capital letters are hosts,
// those in brackets viewers; + is ready.
func TestNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		parties string
		quorum  int
		here    string
		want    string // "" for no resolution
	}{
		"named, all":                 {"a b", 0, "a+ b+", "a+b of 2"},
		"named, not all":             {"a b c", 0, "a+ b+", ""},
		"named, others too":          {"a b", 0, "a+ b+ c d+", "a+b of 2"},
		"named, others only":         {"a b", 0, "c+ d+", ""},
		"named, one":                 {"a", 0, "a+ b", "a of 1"},
		"named, a host":              {"B a", 0, "a+ B+", "B+a of 2"},
		"named, a host is not":       {"B a", 0, "a+ B", ""},
		"named and a quorum":         {"a b c", 2, "b+ c+", "b+c of 2"},
		"named and not the quorum":   {"a b c", 2, "b+ c d+", ""},
		"quorum":                     {"", 2, "a+ b c+ d", "a+c of 2"},
		"quorum, one":                {"", 1, "a+ b", "a of 1"},
		"quorum, not enough":         {"", 3, "a+ b+", ""},
		"nobody named":               {"", 0, "a+ b+", "a+b of 2"},
		"nobody named, three":        {"", 0, "a+ b+ c+", "a+b+c of 3"},
		"nobody named, one is not":   {"", 0, "a+ b+ c", ""},
		"nobody named, alone":        {"", 0, "a+", ""},
		"nobody named, a host looks": {"", 0, "a+ b+ C", "a+b of 2"},
		"nobody named, one watches":  {"", 0, "a+ b+ (c)", "a+b of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, presence.Settings{Parties: strings.Fields(c.parties), Quorum: c.quorum})
			if got := s.gather(c.here); c.want == "" && len(got) > 0 || c.want != "" && !slices.Equal(got, []string{"resolve 1 over 1 by " + c.want}) {
				t.Errorf("said %q, want %q", got, c.want)
			}
		})
	}
}

// gather has users come, and then be ready.
func (s *scene) gather(here string) (said []string) {
	for i, word := range strings.Fields(here) {
		role := transaction.Party
		user := strings.Trim(word, "+()")
		switch {
		case strings.HasPrefix(word, "("):
			role = transaction.Viewer
		case strings.ToUpper(user) == user:
			role = transaction.Host
		}
		s.arrive(presence.Conn(i+1), user, role)
	}
	for i, word := range strings.Fields(here) {
		if strings.HasSuffix(word, "+") {
			said = append(said, others(s.ready(presence.Conn(i+1)))...)
		}
	}
	return said
}

// What completes an agreement without anybody's ready.
func TestResolutionByOthers(t *testing.T) {
	begin := func(t *testing.T, settings presence.Settings) *scene {
		s := newScene(t, settings)
		s.parties("alice", "bob", "carol")
		s.ready(1)
		s.ready(2)
		return s
	}
	want := "resolve 1 over 1 by alice+bob of 2"
	t.Run("the last leaves", func(t *testing.T) {
		s := begin(t, presence.Settings{})
		s.expect(s.step(presence.Heard{Conn: 3, Message: presence.Leave{}}), want)
	})
	t.Run("says goodbye", func(t *testing.T) {
		s := begin(t, presence.Settings{})
		s.expect(s.step(presence.Parted{Conn: 3, Goodbye: true}), want)
	})
	t.Run("does not come back", func(t *testing.T) {
		s := begin(t, presence.Settings{})
		s.expect(s.step(presence.Parted{Conn: 3})) // is waited for
		s.expect(s.wait(presence.DefaultGrace - 1))
		s.expect(s.wait(1), want)
	})
	t.Run("settings", func(t *testing.T) {
		s := begin(t, presence.Settings{})
		s.expect(s.step(presence.Set{Settings: presence.Settings{Parties: []string{"alice", "zoe"}}}))
		s.expect(s.step(presence.Set{Settings: presence.Settings{Quorum: 2}}), want)
	})
	t.Run("others are away", func(t *testing.T) {
		s := begin(t, presence.Settings{})
		s.step(presence.Parted{Conn: 1})
		s.expect(s.step(presence.Parted{Conn: 3, Goodbye: true}), want) // she is ready, and may be back
	})
	t.Run("only one stays", func(t *testing.T) {
		s := begin(t, presence.Settings{})
		s.step(presence.Heard{Conn: 2, Message: presence.Leave{}})
		s.expect(s.step(presence.Heard{Conn: 3, Message: presence.Leave{}}))
	})
}

// agreed is a room in which two have just agreed, and the disk is asked.
func agreed(t testing.TB, settings presence.Settings) *scene {
	s := newScene(t, settings)
	s.parties("alice", "bob")
	s.ready(1)
	s.now = s.now.Add(5 * time.Millisecond)
	s.expect(s.ready(2), "resolve 1 over 1 by alice+bob of 2")
	return s
}

// Nobody hears of a resolution before it is on disk, whatever is asked.
func TestResolutionIsOnDiskFirst(t *testing.T) {
	s := agreed(t, presence.Settings{})
	if !s.room.Sealing() {
		t.Error("nothing is on its way to the disk")
	}
	s.now = s.now.Add(time.Second)
	for _, in := range []presence.Input{
		presence.Ticked{}, presence.Heard{Conn: 1, Message: presence.Ask{}}, presence.Synced{Conn: 2}, presence.Measured{Conn: 1, RoundTrip: time.Second},
		presence.Arrived{Conn: 3, Peer: "carol", Person: presence.Person{User: "carol"}},
	} {
		for _, out := range s.room.Step(s.now, in, nil) {
			m, err := presence.DecodeDown(out.(presence.Send).Data)
			if r, ok := m.(*presence.Roster); err != nil || !ok || r.Resolution != nil {
				t.Errorf("after %T: %+v, %v", in, m, err)
			}
		}
	}
	s.expect(s.step(presence.Stored{}), "all: resolved 1 over 1 by alice+bob of 2")
	r := s.room.Roster().Resolution
	if r == nil || r.At != epoch.UnixMilli()+5 || s.room.Sealing() {
		t.Errorf("the roster has %+v", r)
	}
	s.expect(s.step(presence.Stored{})) // of nothing
}

// There is one resolution for any heads.
func TestOneResolution(t *testing.T) {
	s := agreed(t, presence.Settings{})
	again := func() {
		t.Helper()
		s.step(presence.Heard{Conn: 1, Message: presence.Unready{}})
		s.expect(s.ready(1))
		s.step(presence.Parted{Conn: 2, Goodbye: true})
		s.arrive(2, "bob", transaction.Party)
		s.expect(s.ready(2))
		s.expect(s.step(presence.Set{Settings: presence.Settings{Quorum: 1, Policy: presence.Reopen}}))
		s.expect(s.step(presence.Set{Settings: presence.Settings{Policy: presence.Reopen}}))
	}
	again() // while the first is on its way
	s.step(presence.Stored{})
	again()
	s.expect(s.change(2, "bob", "price"), "all: lapsed alice by bob/price/2", "all: lapsed bob by bob/price/2")
	if r := s.room.Roster(); r.Resolution != nil {
		t.Errorf("the roster of later heads has %+v", r.Resolution)
	}
	s.ready(2)
	s.expect(s.ready(1), "resolve 2 over 2 by alice+bob of 2")
	s.expect(s.step(presence.Stored{}), "all: resolved 2 over 2 by alice+bob of 2")
}

// A change that overtakes a resolution on its way to the disk: it is told, and is
// no agreement over what there is now.
func TestResolutionOfThePast(t *testing.T) {
	s := agreed(t, presence.Settings{})
	s.change(2, "bob", "price")
	s.expect(s.step(presence.Stored{}), "all: resolved 1 over 1 by alice+bob of 2")
	if r := s.room.Roster().Resolution; r != nil {
		t.Errorf("the roster has %+v", r)
	}
	s.ready(1)
	s.expect(s.ready(2), "resolve 2 over 2 by alice+bob of 2")
}

// What is accepted and not on disk keeps an agreement from being made.
func TestNoResolutionWhileUnsettled(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob", "carol")
	s.ready(1)
	s.ready(2)
	s.doc.unsettled = true
	s.expect(s.step(presence.Heard{Conn: 3, Message: presence.Leave{}}))
	s.doc.unsettled = false
	s.expect(s.change(2, "carol", "price"), "all: lapsed alice by carol/price/2", "all: lapsed bob by carol/price/2")
}

func TestSealed(t *testing.T) {
	for _, policy := range []presence.Policy{presence.Lock, presence.Reopen} {
		s := agreed(t, presence.Settings{Policy: policy})
		lock := policy == presence.Lock
		if s.room.Sealed(at(1)) != lock || s.room.Sealed(at(2)) {
			t.Errorf("%s: sealed on the way to the disk: %t, and later heads %t", policy, s.room.Sealed(at(1)), s.room.Sealed(at(2)))
		}
		s.step(presence.Stored{})
		if s.room.Sealed(at(1)) != lock || s.room.Sealed(at(2)) {
			t.Errorf("%s: sealed on disk: %t, and later heads %t", policy, s.room.Sealed(at(1)), s.room.Sealed(at(2)))
		}
		s.step(presence.Set{Settings: presence.Settings{Policy: presence.Reopen}})
		if s.room.Sealed(at(1)) {
			t.Errorf("%s: sealed when it is to be opened again", policy)
		}
	}
	if s := newScene(t, presence.Settings{Policy: presence.Lock}); s.room.Sealed(at(1)) {
		t.Error("sealed without an agreement")
	}
}

// A room that is opened again knows what was agreed.
func TestResolutionsAreKnown(t *testing.T) {
	doc := &subject{heads: at(2)}
	resolutions := []presence.Resolution{{N: 1, Heads: at(1)}, {N: 2, Heads: at(2), Parties: []string{"alice", "bob"}, Quorum: 2}}
	room := presence.New(presence.Config{}, doc, presence.Settings{Policy: presence.Lock}, resolutions)
	s := &scene{t: t, now: epoch, doc: doc, room: room}
	s.parties("alice", "bob")
	s.ready(1)
	s.expect(s.ready(2))
	if r := room.Roster().Resolution; r == nil || r.N != 2 || !room.Sealed(at(2)) || room.Sealed([]crdt.Hash{{1}}) {
		t.Errorf("the roster has %+v", r)
	}
	s.change(3, "alice", "")
	s.ready(1)
	s.expect(s.ready(2), "resolve 3 over 3 by alice+bob of 2")
}

// While other settings are on their way to the disk nobody agrees by the old ones.
func TestNoAgreementByOldSettings(t *testing.T) {
	s := newScene(t, presence.Settings{Parties: []string{"alice", "bob"}})
	s.parties("alice", "bob", "carol")
	s.ready(1)
	s.expect(s.step(presence.Setting{}))
	s.expect(s.step(presence.Setting{}))
	s.expect(s.ready(2))
	s.expect(s.step(presence.Set{Settings: presence.Settings{Parties: []string{"alice", "bob"}}}))
	s.expect(s.step(presence.Set{Settings: presence.Settings{Parties: []string{"alice", "bob", "carol"}}}))
	s.expect(s.ready(3), "resolve 1 over 1 by alice+bob+carol of 3")
}

// What another process has stored over the same heads is the resolution, once, and
// the room's own is none.
func TestResolutionOfAnotherProcess(t *testing.T) {
	s := agreed(t, presence.Settings{Policy: presence.Lock}) // ours is on its way
	theirs := presence.Resolution{N: 1, Heads: at(1), Parties: []string{"alice", "bob"}, Quorum: 2, At: 7}
	s.expect(s.step(presence.Agreed{Resolution: theirs}, presence.Overtaken{}), "all: resolved 1 over 1 by alice+bob of 2")
	if r := s.room.Roster().Resolution; r == nil || r.At != 7 || s.room.Sealing() || !s.room.Sealed(at(1)) {
		t.Errorf("the roster has %+v", r)
	}
	s.expect(s.step(presence.Stored{})) // of nothing
}

// What was overtaken by a change is no resolution, and does not lock; the next is
// counted as if it had not been asked for.
func TestOvertakenResolution(t *testing.T) {
	s := agreed(t, presence.Settings{Policy: presence.Lock})
	s.step(presence.Setting{})
	s.expect(s.change(2, "carol", "price"), "all: lapsed alice by carol/price/2", "all: lapsed bob by carol/price/2")
	s.expect(s.step(presence.Overtaken{}))
	if s.room.Sealing() || s.room.Sealed(at(1)) || s.room.Roster().Resolution != nil {
		t.Error("it is sealed nevertheless")
	}
	s.ready(1)
	s.expect(s.ready(2), "resolve 1 over 2 by alice+bob of 2") // the settings are not waited for either
}
