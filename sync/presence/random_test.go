package presence_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// pair is a room and its model, to which the same happens.
type pair struct {
	*rapid.T
	model *model
	room  *presence.Room
	conns presence.Conn
	heads byte

	revs    map[uint64][]byte         // what the roster of each rev said
	heard   map[presence.Conn]*reader // by connection, while there is one
	toldAll time.Time
}

// reader is a client that keeps the last roster, and may miss some.
type reader struct{ last, shown []byte } // the last that was sent, the last that it got

// checks makes rapid run that often, unless it was told how often.
func checks(t *testing.T, n int) {
	f := flag.Lookup("rapid.checks")
	if before := f.Value.String(); before == f.DefValue {
		_ = f.Value.Set(fmt.Sprint(n))
		t.Cleanup(func() { _ = f.Value.Set(before) })
	}
}

func TestAsTheModel(t *testing.T) {
	checks(t, 2000)
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"":         func(*rapid.T) { p.compare() },
			"arrive":   p.arrive,
			"return":   p.comeAgain,
			"part":     p.part,
			"leave":    func(rt *rapid.T) { p.hear(presence.Leave{}, func(t *tab) { p.model.leave(t) }) },
			"unready":  func(rt *rapid.T) { p.hear(presence.Unready{}, func(t *tab) { p.model.unready(t) }) },
			"focus":    p.focus,
			"ask":      func(rt *rapid.T) { p.hear(presence.Ask{}, func(*tab) {}) },
			"measure":  p.measure,
			"ready":    func(rt *rapid.T) { p.ready(p.any(p.model.live())) },
			"allReady": p.allReady,
			"accept":   func(*rapid.T) { p.model.doc.unsettled = true },
			"advance":  p.advance,
			"settings": p.set,
			"stored":   p.stored,
			"pass":     func(rt *rapid.T) { p.model.now = p.model.now.Add(pauses.Draw(rt, "pause")) },
			"wait":     p.wait,
			"due":      p.due,
		})
		p.settle()
	})
}

var pauses = rapid.SampledFrom([]time.Duration{
	time.Millisecond, 40 * time.Millisecond, 99 * time.Millisecond, pause, time.Second, grace / 2, grace - 1, grace, time.Minute,
})

func newPair(rt *rapid.T) *pair {
	doc := &subject{heads: at(1)}
	settings := presence.Settings{Policy: presence.Reopen}
	return &pair{
		T: rt, room: presence.New(presence.Config{}, doc, settings, nil), heads: 1,
		model: &model{now: epoch, doc: doc, settings: settings, people: map[string]*person{}},
		revs:  map[uint64][]byte{}, heard: map[presence.Conn]*reader{},
	}
}

// step applies an input to the room, of which the model has said what comes out
// first.
func (p *pair) step(in presence.Input, want ...string) {
	if _, heard := in.(presence.Heard); !heard {
		p.model.moment++
	}
	want = append(want, p.model.resolve()...)
	var said []string
	for _, out := range p.room.Step(p.model.now, in, nil) {
		if word := p.word(out); word != "" {
			said = append(said, word)
		}
	}
	if !slices.Equal(said, want) {
		p.Fatalf("%#v: said %q, want %q", in, said, want)
	}
	if wake := p.room.Wake(); !wake.IsZero() && !wake.After(p.model.now) {
		if _, ticked := in.(presence.Ticked); ticked {
			p.Fatalf("ticked at %s, it wants to be ticked at %s", p.model.now, wake)
		}
	}
}

// word is an output but for a roster, which its readers get.
func (p *pair) word(out presence.Output) string {
	if send, ok := out.(presence.Send); ok {
		if m, err := presence.DecodeDown(send.Data); err == nil {
			switch m := m.(type) {
			case *presence.Roster:
				p.tell(send.To, m)
				return ""
			case *presence.Rejected:
				return fmt.Sprintf("%d: rejected %s", send.To, m.Code)
			}
		}
	}
	return words(p, out)
}

// tell checks that a roster is true, and has been due.
func (p *pair) tell(to presence.Conn, r *presence.Roster) {
	truth := p.truth(r.Rev)
	if got := r.Encode(); !bytes.Equal(got, truth) {
		p.Fatalf("told\n%+v, it is\n%+v", r, p.model.roster())
	}
	if to == 0 {
		if p.model.now.Sub(p.toldAll) < pause {
			p.Fatalf("all were told at %s and are at %s", p.toldAll, p.model.now)
		}
		p.toldAll = p.model.now
	}
	for _, conn := range slices.Sorted(maps.Keys(p.heard)) {
		if to == 0 || to == conn {
			reader := p.heard[conn]
			if reader.last = truth; rapid.Bool().Draw(p.T, "gets it") {
				reader.shown = truth
			}
		}
	}
}

// truth is the model's roster as it is sent, by the number that the room gave it.
func (p *pair) truth(rev uint64) []byte {
	r := p.model.roster()
	r.Rev = rev
	return r.Encode()
}

// compare holds the room against the model. What somebody has not been told the
// room means to tell.
func (p *pair) compare() {
	r := p.room.Roster()
	checkCensus(p, p.room.Census(), r)
	truth := p.truth(r.Rev)
	if got := r.Encode(); !bytes.Equal(got, truth) {
		p.Fatalf("the roster is\n%+v, want\n%+v", r, p.model.roster())
	}
	if before, ok := p.revs[r.Rev]; ok && !bytes.Equal(before, truth) {
		p.Fatalf("two rosters %d", r.Rev)
	}
	p.revs[r.Rev] = truth
	if p.room.Empty() != (len(p.model.people) == 0) || p.room.Sealing() != (p.model.sealing != nil) {
		p.Fatalf("empty %t, sealing %t", p.room.Empty(), p.room.Sealing())
	}
	locked := r.Resolution != nil || p.model.sealing != nil && slices.Equal(p.model.sealing.Heads, p.model.doc.heads)
	if got := p.room.Sealed(p.model.doc.heads); got != (locked && p.model.settings.Policy == presence.Lock) {
		p.Fatalf("sealed %t", got)
	}
	if p.room.Wake().IsZero() {
		p.readersKnow()
	}
}

// readersKnow fails unless everybody was sent how it stands, but for round trip
// times.
func (p *pair) readersKnow() {
	truth := timeless(p.T, p.truth(0))
	for conn, reader := range p.heard {
		if reader.last == nil || !bytes.Equal(timeless(p.T, reader.last), truth) {
			p.Fatalf("%d was not told how it stands, and is not going to be", conn)
		}
	}
}

// timeless is a roster without its number and round trip times.
func timeless(t *rapid.T, data []byte) []byte {
	m, err := presence.DecodeDown(data)
	if err != nil {
		t.Fatal(err)
	}
	r := m.(*presence.Roster)
	r.Rev = 0
	for i := range r.Participants {
		r.Participants[i].RoundTrip = 0
	}
	return r.Encode()
}

// settle lets time pass until nothing waits. Then whoever missed what they were
// sent asks, and knows as much as all others.
func (p *pair) settle() {
	for rounds := 0; !p.room.Wake().IsZero(); rounds++ {
		if rounds > 50 {
			p.Fatalf("it does not come to rest: it wakes at %s", p.room.Wake())
		}
		p.due(p.T)
	}
	p.readersKnow()
	for _, conn := range slices.Sorted(maps.Keys(p.heard)) {
		p.model.now = p.model.now.Add(pause)
		for reader := p.heard[conn]; !bytes.Equal(reader.shown, reader.last); {
			p.step(presence.Heard{Conn: conn, Message: presence.Ask{}})
			p.model.now = p.model.now.Add(pause)
			p.model.tick()
			p.step(presence.Ticked{})
		}
	}
	p.compare()
}

func (p *pair) any(tabs []*tab) *tab {
	if len(tabs) == 0 {
		p.Skip("nobody is here")
	}
	return rapid.SampledFrom(tabs).Draw(p.T, "tab")
}

func (p *pair) come(user, peer string, role transaction.Role) {
	p.conns++
	t := &tab{conn: p.conns, user: user, peer: peer, role: role}
	p.heard[t.conn] = &reader{}
	p.model.moment++
	p.model.arrive(t)
	p.step(presence.Arrived{Conn: t.conn, Peer: t.peer, Person: presence.Person{User: t.user, Role: t.role}})
}

func (p *pair) arrive(rt *rapid.T) {
	user := rapid.SampledFrom([]string{"alice", "bob", "carol", "dave", ""}).Draw(rt, "user")
	role := transaction.Party
	switch {
	case user == "dave":
		role = transaction.Host
	case user == "":
		role = transaction.Viewer
	case rapid.IntRange(0, 9).Draw(rt, "role") == 0:
		role = transaction.Viewer
	}
	p.come(user, fmt.Sprintf("%s/%d", user, rapid.IntRange(1, 3).Draw(rt, "peer")), role)
}

// comeAgain is the return of a client that was here before, often while its old
// connection is still up.
func (p *pair) comeAgain(*rapid.T) {
	t := p.any(p.model.tabs)
	p.come(t.user, t.peer, t.role)
}

func (p *pair) part(rt *rapid.T) {
	t, goodbye := p.any(p.model.live()), rapid.IntRange(0, 3).Draw(rt, "goodbye") == 0
	p.model.part(t, goodbye)
	delete(p.heard, t.conn)
	p.step(presence.Parted{Conn: t.conn, Goodbye: goodbye})
}

func (p *pair) hear(m presence.Message, model func(*tab)) {
	t := p.any(p.model.live())
	p.model.moment++
	model(t)
	p.step(presence.Heard{Conn: t.conn, Message: m})
}

func (p *pair) focus(rt *rapid.T) {
	field := rapid.SampledFrom([]string{"", "price", "date"}).Draw(rt, "field")
	p.hear(presence.Focus{Field: field}, func(t *tab) { p.model.focus(t, field) })
}

func (p *pair) measure(rt *rapid.T) {
	t, trip := p.any(p.model.live()), time.Duration(rapid.IntRange(1, 400).Draw(rt, "trip"))*time.Millisecond
	t.trip = trip
	p.step(presence.Measured{Conn: t.conn, RoundTrip: trip})
}

func (p *pair) ready(t *tab) {
	heads := p.model.doc.heads
	if rapid.IntRange(0, 5).Draw(p.T, "stale") == 0 {
		heads = at(200)
	}
	p.model.moment++
	var want []string
	if code := p.model.ready(t, heads); code != "" {
		want = append(want, fmt.Sprintf("%d: rejected %s", t.conn, code))
	}
	p.step(presence.Heard{Conn: t.conn, Message: presence.Ready{Heads: heads}}, want...)
}

func (p *pair) allReady(*rapid.T) {
	for _, t := range p.model.live() {
		p.ready(t)
	}
}

func (p *pair) advance(rt *rapid.T) {
	if p.heads == 199 {
		rt.Skip("long enough")
	}
	p.heads++
	doc := p.model.doc
	doc.heads, doc.contested, doc.missing = at(p.heads), nil, nil
	doc.unsettled = doc.unsettled && rapid.Bool().Draw(rt, "more to come")
	switch rapid.IntRange(0, 5).Draw(rt, "state") {
	case 0:
		doc.contested = []string{"date"}
	case 1:
		doc.missing = []string{"price"}
	}
	because := presence.Cause{User: "bob", Change: crdt.Hash{p.heads}, Field: rapid.SampledFrom([]string{"", "price"}).Draw(rt, "field")}
	p.step(presence.Advanced{Because: because}, p.model.advance(because)...)
}

func (p *pair) set(rt *rapid.T) {
	settings := presence.Settings{
		Policy:  rapid.SampledFrom([]presence.Policy{presence.Reopen, presence.Lock}).Draw(rt, "policy"),
		Parties: strings.Fields(rapid.SampledFrom([]string{"", "", "alice bob", "bob", "alice dave", "alice bob carol"}).Draw(rt, "parties")),
		Quorum:  max(0, rapid.IntRange(-2, 3).Draw(rt, "quorum")),
	}
	p.model.settings = settings
	p.model.forget()
	p.step(presence.Set{Settings: settings})
}

func (p *pair) stored(rt *rapid.T) {
	if p.model.sealing == nil {
		rt.Skip("nothing is on its way to the disk")
	}
	p.step(presence.Stored{}, p.model.stored()...)
}

// wait lets time pass, perhaps more than until the room is due.
func (p *pair) wait(rt *rapid.T) {
	p.model.now = p.model.now.Add(pauses.Draw(rt, "pause"))
	p.model.tick()
	p.step(presence.Ticked{})
}

// due ticks when the room wants it.
func (p *pair) due(rt *rapid.T) {
	wake := p.room.Wake()
	if wake.IsZero() {
		rt.Skip("nothing waits")
	}
	if wake.After(p.model.now) {
		p.model.now = wake
	}
	p.model.tick()
	p.step(presence.Ticked{})
}
