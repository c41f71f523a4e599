package session_test

import (
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/protocol"
	"parley/sync/session"
)

// A viewer's client names a change of its own before there is the transaction that it
// is for. When that is there the client hears that it may only read, and sends
// nothing: the change is refused by its name.
func TestWhatAViewerMadeBeforeTheTransactionIsRefused(t *testing.T) {
	h := newPlace(t)
	victor := peer(1, "v", "victor")
	victor.Person.Role = transaction.Viewer
	made := h.pick("victor", "1")
	h.doc.Step(h.now, &session.SyncInput{From: victor, Message: &protocol.Message{
		Version: protocol.V1, Heads: []crdt.Hash{made.Hash}, Have: []protocol.Have{{}},
	}}, nil)

	h.changes(peer(2, "a", "alice"), transaction.Genesis(h.id))
	for _, out := range h.doc.Step(h.now, &session.DurableInput{N: 1}, nil) {
		if r, ok := out.(session.Refused); ok && r.Conn == victor.Conn && r.First.Change == made.Hash && r.First.Code == transaction.CodeReadOnly {
			return
		}
	}
	t.Error("nobody tells the viewer")
}
