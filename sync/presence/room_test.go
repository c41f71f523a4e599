package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// subject is a document of which a test says how it stands.
type subject struct {
	heads              []crdt.Hash
	unsettled          bool
	contested, missing []string
	coming             bool // heads that it has not got may come
	unknown            bool // what is contested is not at hand
}

func (s *subject) Past([]crdt.Hash) bool { return !s.coming }
func (s *subject) Known() bool           { return !s.unknown }

func (s *subject) Heads() []crdt.Hash  { return s.heads }
func (s *subject) Settled() bool       { return !s.unsettled }
func (s *subject) Contested() []string { return s.contested }
func (s *subject) Missing() []string   { return s.missing }

// at is the heads of the document after its change n.
func at(n byte) []crdt.Hash { return []crdt.Hash{{n}} }

// scene is a room, its document and its clock.
type scene struct {
	t    testing.TB
	now  time.Time
	doc  *subject
	room *presence.Room

	seen  func(presence.Output) // if not nil, hears of what comes out
	nodes bool                  // it is one of several: each counts its own
}

func newScene(t testing.TB, settings presence.Settings) *scene {
	s := &scene{t: t, now: epoch, doc: &subject{heads: at(1)}}
	if settings.Policy == "" {
		settings.Policy = presence.Reopen
	}
	s.room = presence.New(presence.Config{}, s.doc, settings, nil)
	return s
}

// step applies inputs and returns what came out, in words: "all: roster 3".
func (s *scene) step(inputs ...presence.Input) (said []string) {
	s.t.Helper()
	for _, in := range inputs {
		before := s.room.Census().Lapses
		for _, out := range s.room.Step(s.now, in, nil) {
			if s.seen != nil {
				s.seen(out)
			}
			said = append(said, words(s.t, out))
			if strings.HasPrefix(said[len(said)-1], "all: lapsed") {
				before++
			}
		}
		if got := s.room.Census().Lapses; got != before {
			s.t.Errorf("the census has %d lapses, want %d", got, before)
		}
	}
	return said
}

// failer is a test: testing.TB, or what rapid gives.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// words says what an output is.
func words(t failer, out presence.Output) string {
	t.Helper()
	switch out := out.(type) {
	case presence.Resolve:
		return "resolve " + resolution(&out.Resolution)
	case presence.Publish:
		return fmt.Sprintf("publish %d", out.N)
	}
	send := out.(presence.Send)
	to := "all"
	if send.To != 0 {
		to = fmt.Sprint(send.To)
	}
	m, err := presence.DecodeDown(send.Data)
	if err != nil {
		t.Fatalf("what is sent cannot be read: %v", err)
	}
	switch m := m.(type) {
	case *presence.Roster:
		return fmt.Sprintf("%s: roster %d", to, m.Rev)
	case *presence.Lapsed:
		return fmt.Sprintf("%s: lapsed %s by %s", to, m.User, cause(&m.Because))
	case *presence.Rejected:
		return strings.TrimSpace(fmt.Sprintf("%s: rejected %s %s %s", to, m.Of, m.Code, strings.Join(m.Fields, " ")))
	case *presence.Resolved:
		return fmt.Sprintf("%s: resolved %s", to, resolution(&m.Resolution))
	case *presence.Pong:
		return fmt.Sprintf("%s: pong %d", to, m.N)
	}
	t.Fatalf("what is sent is %T", m)
	return ""
}

func cause(c *presence.Cause) string { return fmt.Sprintf("%s/%s/%d", c.User, c.Field, c.Change[0]) }

func resolution(r *presence.Resolution) string {
	return fmt.Sprintf("%d over %d by %s of %d", r.N, r.Heads[0][0], strings.Join(r.Parties, "+"), r.Quorum)
}

// rosters leaves out of what was said all but rosters, others leaves them out.
func rosters(said []string) []string {
	return slices.DeleteFunc(slices.Clone(said), func(s string) bool { return !strings.Contains(s, ": roster") })
}

func others(said []string) []string {
	return slices.DeleteFunc(slices.Clone(said), func(s string) bool { return strings.Contains(s, ": roster") })
}

// expect compares what was said, but for rosters.
func (s *scene) expect(said []string, want ...string) {
	s.t.Helper()
	if got := others(said); !slices.Equal(got, want) {
		s.t.Errorf("said %q, want %q", got, want)
	}
}

// arrive opens a connection of a user's, with a peer id like "alice/1".
func (s *scene) arrive(conn presence.Conn, peer string, role transaction.Role) []string {
	s.t.Helper()
	user, _, _ := strings.Cut(peer, "/")
	return s.step(presence.Arrived{Conn: conn, Peer: peer, Person: presence.Person{User: user, Name: strings.ToUpper(peer), Role: role}})
}

// parties has as many users arrive as parties, with connections from 1 on.
func (s *scene) parties(users ...string) {
	s.t.Helper()
	for i, user := range users {
		s.arrive(presence.Conn(i+1), user, transaction.Party)
	}
}

func (s *scene) ready(conn presence.Conn) []string {
	s.t.Helper()
	return s.step(presence.Heard{Conn: conn, Message: presence.Ready{Heads: s.doc.heads}})
}

// change makes the document's next change durable.
func (s *scene) change(n byte, by, field string) []string {
	s.t.Helper()
	s.doc.heads = at(n)
	return s.step(presence.Advanced{Because: presence.Cause{User: by, Field: field, Change: crdt.Hash{n}}})
}

// wait lets time pass and tells the room, whether it is due or not.
func (s *scene) wait(d time.Duration) []string {
	s.t.Helper()
	s.now = s.now.Add(d)
	return s.step(presence.Ticked{})
}

// who is the participants in words: "alice party ready, bob party reconnecting".
func (s *scene) who() string {
	s.t.Helper()
	list := make([]string, 0, 4)
	roster := s.room.Roster()
	if !s.nodes {
		checkCensus(s.t, s.room.Census(), roster)
	}
	for _, p := range roster.Participants {
		words := []string{p.User, string(p.Role)}
		if p.State != presence.Online {
			words = append(words, string(p.State))
		}
		if p.Connections > 1 {
			words = append(words, fmt.Sprintf("x%d", p.Connections))
		}
		if p.Ready {
			words = append(words, "ready")
		}
		if p.Focus != "" {
			words = append(words, "at "+p.Focus)
		}
		if p.Lapsed != nil {
			words = append(words, "lapsed by "+cause(p.Lapsed))
		}
		list = append(list, strings.Join(words, " "))
	}
	return strings.Join(list, ", ")
}

// checkCensus compares it with the roster, but for the lapses, of which that knows
// the last.
func checkCensus(t failer, got presence.Census, r *presence.Roster) {
	t.Helper()
	want := presence.Census{Lapses: got.Lapses}
	for _, p := range r.Participants {
		if p.State == presence.Online {
			want.Online++
		} else {
			want.Reconnecting++
		}
		if p.Ready {
			want.Ready++
		}
	}
	if got != want {
		t.Fatalf("the census is %+v, want %+v", got, want)
	}
}

func (s *scene) expectWho(want string) {
	s.t.Helper()
	if got := s.who(); got != want {
		s.t.Errorf("here are %q, want %q", got, want)
	}
}

func TestOneParticipantAUser(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice/laptop", transaction.Party)
	s.arrive(2, "bob", transaction.Viewer)
	s.arrive(3, "alice/phone", transaction.Viewer)
	s.step(presence.Arrived{Conn: 4, Peer: "guest", Person: presence.Person{Role: transaction.Viewer}})
	s.expectWho("alice party x2, bob viewer")
	if p := s.room.Roster().Participants[0]; p.Name != "ALICE/PHONE" || p.Since != epoch.UnixMilli() {
		t.Errorf("she is called %q and here since %d", p.Name, p.Since)
	}
	s.step(presence.Parted{Conn: 3, Goodbye: true}, presence.Parted{Conn: 4})
	s.expectWho("alice party, bob viewer")
	if p := s.room.Roster().Participants[0]; p.Name != "ALICE/LAPTOP" {
		t.Errorf("when the phone has gone she is called %q", p.Name)
	}
}

// A user is the one of the roles on whom most depends.
func TestRoles(t *testing.T) {
	order := []transaction.Role{transaction.Party, transaction.Host, transaction.Auditor, transaction.Viewer}
	for i, strong := range order {
		for _, weak := range order[i:] {
			for _, first := range []transaction.Role{strong, weak} {
				s := newScene(t, presence.Settings{})
				second := strong
				if first == strong {
					second = weak
				}
				s.arrive(1, "alice/1", first)
				s.arrive(2, "alice/2", second)
				if got := s.room.Roster().Participants[0].Role; got != strong {
					t.Errorf("as %s and %s she is a %s", first, second, got)
				}
			}
		}
	}
}

func TestFocus(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.arrive(1, "alice/1", transaction.Party)
	s.arrive(2, "alice/2", transaction.Party)
	goes := func(conn presence.Conn, field string) {
		s.step(presence.Heard{Conn: conn, Message: presence.Focus{Field: field}})
	}
	goes(1, "price")
	s.expectWho("alice party x2 at price")
	goes(2, "date")
	s.expectWho("alice party x2 at date")
	goes(1, "price") // she is there again
	s.expectWho("alice party x2 at price")
	goes(2, "")
	s.expectWho("alice party x2")
	goes(2, "date")
	s.step(presence.Parted{Conn: 2}) // where the other tab is
	s.expectWho("alice party at price")
	s.step(presence.Parted{Conn: 1})
	s.expectWho("alice party reconnecting")
	goes(1, "price") // said by nobody any more
	s.expectWho("alice party reconnecting")
}

func TestPing(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.parties("alice", "bob")
	s.expect(s.step(presence.Heard{Conn: 2, Message: presence.Ping{N: 7}}), "2: pong 7")
	s.expect(s.step(presence.Heard{Conn: 9, Message: presence.Ping{N: 7}})) // not here
}

func TestEmpty(t *testing.T) {
	s := newScene(t, presence.Settings{})
	s.step(presence.Arrived{Conn: 1, Peer: "guest"})
	if !s.room.Empty() || s.room.AnyReady() {
		t.Error("one without a name fills the room")
	}
	s.arrive(2, "alice", transaction.Party)
	s.step(presence.Parted{Conn: 2})
	if s.room.Empty() {
		t.Error("nobody is expected back")
	}
	s.wait(presence.DefaultGrace)
	if !s.room.Empty() {
		t.Error("somebody stays for ever")
	}
}
