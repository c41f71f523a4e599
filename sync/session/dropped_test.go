package session_test

import (
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// A client whose frames were dropped is told again how it stands, and nobody else:
// the last frame may have been the last roster for a long time.
func TestWhoseFramesWereDroppedIsToldAgain(t *testing.T) {
	h := newHall(t, presence.Settings{})
	h.tell(peer(1, "a", "alice"), presence.Ask{})
	h.tell(peer(2, "b", "bob"), presence.Ask{})
	h.wait(time.Second)
	outs := append(h.doc.Step(h.now, &session.DroppedInput{Conn: 1}, nil), h.wait(time.Second)...)
	if n := len(h.rosters(outs, 1)); n != 1 || frames(outs, 2) > 0 {
		t.Errorf("%d rosters to whose frames were dropped, %d frames to another", n, frames(outs, 2))
	}
	if outs := h.doc.Step(h.now, &session.DroppedInput{Conn: 9}, nil); len(outs) > 0 {
		t.Errorf("%d outputs for one who is not there", len(outs))
	}
}

// remoteHeadsTo returns what heads of the server's store are told to a connection.
func remoteHeadsTo(t *testing.T, outs []session.Output, to session.ConnID) (list [][]crdt.Hash) {
	t.Helper()
	for _, out := range outs {
		s, ok := out.(session.Send)
		if !ok || s.Conn != to {
			continue
		}
		m, err := wire.Decode(s.Frame, wire.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := m.(*wire.RemoteHeadsChanged); ok {
			list = append(list, r.NewHeads[0].Heads)
		}
	}
	return list
}

// Who subscribes to the server's store hears at once what is on its disk, also of a
// document that was loaded and has not changed since; and again if that is dropped.
func TestHeadsOfTheServersStore(t *testing.T) {
	h := newHall(t, presence.Settings{})
	const store = "" // the hall's server has no name for its own
	outs := h.doc.Step(h.now, &session.SubscribeInput{From: peer(1, "a", "alice"), Add: []wire.StorageID{store}}, nil)
	for range 2 {
		told := remoteHeadsTo(t, outs, 1)
		if len(told) != 1 || !slices.Equal(told[0], h.doc.Graph().Heads()) {
			t.Errorf("told of %v, where %v is on disk", told, h.doc.Graph().Heads())
		}
		outs = h.doc.Step(h.now, &session.DroppedInput{Conn: 1}, nil)
	}
}
