package session_test

import (
	"slices"
	"testing"

	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// A client sends a change without what it builds on, which its peer's filter hid, and
// loses the connection. On the next, the same filter hides the same. When the server
// notices that the first is dead, what it had from there is asked for on the second.
func TestHeldChangesOfADeadConnectionAreAskedForAgain(t *testing.T) {
	h := newHall(t, presence.Settings{})
	hidden := h.pick("alice", "1")
	state := transaction.New("tx1")
	for _, err := range []error{state.Apply(transaction.Genesis(h.id)), state.Apply(hidden)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	edit := state.Edit("alice", "alice", h.now)
	err := edit.Pick("price", []byte("2"), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := edit.Change()
	if err != nil {
		t.Fatal(err)
	}

	dead, alive := peer(1, "a", "alice"), peer(2, "a", "alice")
	for _, p := range []session.Peer{dead, alive} {
		h.changes(p, c)
		h.doc.Pull(p.Conn)
	}
	outs := h.doc.Step(h.now, &session.GoneInput{Conn: dead.Conn}, nil)
	if !slices.Contains(outs, session.Output(session.Pending{Conn: alive.Conn})) {
		t.Fatal("nothing is said to the second connection")
	}
	m, err := wire.Decode(h.doc.Pull(alive.Conn), wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	said, err := protocol.Decode(m.(*wire.Sync).Data, protocol.Limits{})
	if err != nil || !slices.Contains(said.Need, c.Hash) {
		t.Errorf("it is asked for %v (%v), and not for %s", said.Need, err, c.Hash)
	}
}
