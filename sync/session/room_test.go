package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// hall is a transaction that people have open.
type hall struct {
	t   *testing.T
	now time.Time
	id  transaction.ID
	doc *session.Document
}

func newHall(t *testing.T, settings presence.Settings) *hall {
	t.Helper()
	doc := crdt.NewDocument(crdt.Limits{})
	if err := doc.Load(transaction.Genesis(hallID).Chunk()); err != nil {
		t.Fatal(err)
	}
	return hallOf(t, session.Stored{Document: doc, Users: []string{""}, Settings: settings})
}

// newPlace is where there is no transaction yet.
func newPlace(t *testing.T) *hall {
	return hallOf(t, session.Stored{Document: crdt.NewDocument(crdt.Limits{})})
}

const hallID transaction.ID = "tx1"

func hallOf(t *testing.T, stored session.Stored) *hall {
	return &hall{t: t, now: epoch, id: hallID, doc: session.NewDocument(hallID.Document(),
		&session.DocumentConfig{Self: "s", Limits: session.Limits{}.WithDefaults()}, stored, "life")}
}

// peer is a party's connection.
func peer(conn session.ConnID, id, user string) session.Peer {
	return session.Peer{Conn: conn, ID: wire.PeerID(id), Person: presence.Person{User: user, Role: transaction.Party}}
}

func (h *hall) tell(from session.Peer, m presence.Message) []session.Output {
	return h.doc.Step(h.now, &session.EphemeralInput{From: from, Message: wire.Ephemeral{
		SenderID: from.ID, DocumentID: h.id.Document(), Data: presence.Encode(m),
	}}, nil)
}

// wait lets time pass, ticking whenever the document wants it.
func (h *hall) wait(d time.Duration) (out []session.Output) {
	h.t.Helper()
	end := h.now.Add(d)
	for ticks := 0; ; ticks++ {
		wake := h.doc.Wake()
		if wake.IsZero() || wake.After(end) {
			break
		}
		if ticks > 10_000 {
			h.t.Fatalf("it wants to be ticked at %s for ever", wake)
		}
		if wake.After(h.now) {
			h.now = wake
		}
		out = h.doc.Step(h.now, &session.TickInput{}, out)
	}
	h.now = end
	return out
}

// frames counts what is sent to a connection.
func frames(outs []session.Output, to session.ConnID) (n int) {
	for _, out := range outs {
		if s, ok := out.(session.Send); ok && s.Conn == to {
			n++
		}
	}
	return n
}

// Connections that come and go leave nothing behind but that their users may be
// back, for so long.
func TestWhoComesAndGoesIsForgotten(t *testing.T) {
	h := newHall(t, presence.Settings{})
	before := heap()
	for i := range session.ConnID(20_000) {
		id := strings.Repeat("x", 200) + fmt.Sprint(i)
		h.tell(peer(i+1, id, "mallory"), presence.Ask{})
		h.doc.Step(h.now, &session.GoneInput{Conn: i + 1}, nil)
	}
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("20,000 connections leave %d KB", grown>>10)
	}
	if !h.doc.Occupied() {
		t.Error("nobody is expected back")
	}
	h.wait(presence.DefaultGrace)
	if h.doc.Occupied() || !h.doc.Wake().IsZero() {
		t.Error("somebody is expected back for ever")
	}
}

// One who never stops talking is heard; the others are told how it stands ten
// times a second.
func TestChatterIsNotPassedOn(t *testing.T) {
	h := newHall(t, presence.Settings{Quorum: 3})
	for i := range session.ConnID(20) {
		h.tell(peer(i+1, fmt.Sprint("p", i), fmt.Sprint("user", i)), presence.Focus{})
	}
	h.wait(time.Second)
	mallory := peer(1, "p0", "user0")
	said, others := 0, 0
	for i := range 1000 {
		var outs []session.Output
		for _, m := range []presence.Message{
			presence.Focus{Field: fmt.Sprint(i)}, presence.Ready{Heads: h.doc.Graph().Heads()}, presence.Unready{}, presence.Ask{}, presence.Leave{},
		} {
			outs = append(outs, h.tell(mallory, m)...)
		}
		outs = append(outs, h.wait(time.Millisecond)...)
		said, others = said+frames(outs, 1), others+frames(outs, 2)
	}
	if others > 11 || said > 22 {
		t.Errorf("5,000 messages in a second: %d frames to their author, %d to another", said, others)
	}
	if others < 9 {
		t.Errorf("another is told %d times how it stands", others)
	}
}

// Refusals that wait for a resolution to be on disk are bounded.
func TestRefusalsThatWaitAreBounded(t *testing.T) {
	h := newHall(t, presence.Settings{Quorum: 1, Policy: presence.Lock})
	alice, mallory := peer(1, "a", "alice"), peer(2, "m", "mallory")
	h.tell(alice, presence.Ready{Heads: h.doc.Graph().Heads()})
	if !h.doc.Sealing() {
		t.Fatal("nothing is on its way to the disk")
	}
	kept, ended := 0, false
	for i := 0; i < 10_000 && !ended; i++ {
		c := h.pick("mallory", fmt.Sprint(i))
		for _, out := range h.changes(mallory, c) {
			switch out := out.(type) {
			case session.Disconnect:
				ended = out.Conn == 2 && out.Code == session.CloseOverloaded
			case session.Refused:
				t.Fatalf("change %d: refused as %s", i, out.First.Code)
			case session.Send:
				if !out.Droppable {
					t.Fatalf("change %d: told in %d bytes", i, len(out.Frame))
				}
			}
		}
		kept++
	}
	if !ended {
		t.Errorf("%d refusals are kept", kept)
	}
	outs := h.doc.Step(h.now, &session.SealedInput{}, nil)
	if frames(outs, 1) == 0 || frames(outs, 2) == 0 {
		t.Error("not everybody is told that they have agreed")
	}
}

// changes sends a change.
func (h *hall) changes(from session.Peer, c *crdt.Change) []session.Output {
	h.t.Helper()
	conn := session.NewConn(from.Conn, from.Person, &session.ConnConfig{Self: "s", Limits: session.Limits{}.WithDefaults()})
	conn.Receive(wire.Append(nil, &wire.Join{SenderID: from.ID}))
	ev, ok := conn.Receive(syncFrame(from.ID, h.id.Document(), c)).(session.Deliver)
	if !ok {
		h.t.Fatal("not delivered")
	}
	return h.doc.Step(h.now, ev.Input, nil)
}

func syncFrame(from wire.PeerID, doc crdt.DocumentID, c *crdt.Change) []byte {
	m := protocol.Message{Version: protocol.V1, Heads: []crdt.Hash{c.Hash}, Have: []protocol.Have{{}}, Changes: [][]byte{c.Chunk()}}
	return wire.Append(nil, &wire.Sync{SenderID: from, DocumentID: doc, Data: m.Append(nil)})
}

// edit makes a change on top of the genesis alone.
func (h *hall) edit(user string, do func(*transaction.Edit) error) *crdt.Change {
	h.t.Helper()
	state := transaction.New(h.id)
	if err := state.Apply(transaction.Genesis(h.id)); err != nil {
		h.t.Fatal(err)
	}
	edit := state.Edit(crdt.ActorID(user), user, h.now)
	if err := do(edit); err != nil {
		h.t.Fatal(err)
	}
	c, err := edit.Change()
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *hall) pick(user, value string) *crdt.Change {
	h.t.Helper()
	return h.edit(user, func(e *transaction.Edit) error { return e.Pick("price", []byte(value), "") })
}

// rosters returns those that are sent to a connection.
func (h *hall) rosters(outs []session.Output, to session.ConnID) (list []*presence.Roster) {
	h.t.Helper()
	for _, out := range outs {
		s, ok := out.(session.Send)
		if !ok || s.Conn != to {
			continue
		}
		m, err := wire.Decode(s.Frame, wire.Limits{})
		if err != nil {
			h.t.Fatal(err)
		}
		if e, ok := m.(*wire.Ephemeral); ok {
			if r, err := presence.DecodeDown(e.Data); err == nil {
				if r, ok := r.(*presence.Roster); ok {
					list = append(list, r)
				}
			}
		}
	}
	return list
}

// A roster tells of what is on disk, not of what follows it.
func TestRostersAreOfTheDisk(t *testing.T) {
	h := newHall(t, presence.Settings{})
	alice, bob := peer(1, "a", "alice"), peer(2, "b", "bob")
	h.changes(alice, h.pick("alice", "1"))
	h.changes(bob, h.pick("bob", "2"))
	for i, want := range []struct {
		durable   int
		contested string
	}{{1, ""}, {2, ""}, {3, "price"}} {
		h.doc.Step(h.now, &session.DurableInput{N: want.durable}, nil)
		conn := session.ConnID(10 + i)
		outs := h.tell(peer(conn, fmt.Sprint(conn), "carol"), presence.Ask{})
		outs = append(outs, h.doc.Step(h.now, &session.TickInput{}, nil)...) // it is due at once, or was told
		got := h.rosters(outs, conn)
		if len(got) == 0 {
			t.Fatal("a newcomer is told nothing")
		}
		if r := got[0]; len(r.Heads) != max(1, want.durable-1) || strings.Join(r.Contested, " ") != want.contested {
			t.Errorf("of %d changes on disk: heads %v, contested %v", want.durable, r.Heads, r.Contested)
		}
	}
}

// Of several changes that become durable at once, the cause of a lapse is the
// first that did something to a field.
func TestCauseOfALapse(t *testing.T) {
	h := newHall(t, presence.Settings{})
	alice, bob := peer(1, "a", "alice"), peer(2, "b", "bob")
	h.tell(alice, presence.Ready{Heads: h.doc.Graph().Heads()})
	pick := h.pick("bob", "2")
	h.changes(alice, h.edit("alice", func(e *transaction.Edit) error {
		return errors.Join(e.Pick("price", []byte("1"), ""), e.Withdraw("price")) // in one change: nothing
	}))
	h.changes(bob, pick)
	outs := h.doc.Step(h.now, &session.DurableInput{N: 3}, nil)
	h.now = h.now.Add(time.Second)
	got := h.rosters(append(outs, h.doc.Step(h.now, &session.TickInput{}, nil)...), 1)
	if len(got) == 0 {
		t.Fatal("nothing is told")
	}
	p := got[len(got)-1].Participants[0]
	if p.Lapsed == nil || *p.Lapsed != (presence.Cause{Field: "price", User: "bob", Change: pick.Hash}) {
		t.Errorf("%s lapsed by %+v", p.User, p.Lapsed)
	}
}
