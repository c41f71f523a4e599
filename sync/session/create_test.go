package session_test

import (
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
)

// A transaction is created with its settings, which get to the disk behind its
// changes: in between nobody agrees by the settings that it would have without.
func TestNobodyAgreesBeforeTheSettingsAreThere(t *testing.T) {
	h := newPlace(t)
	step := func(in session.Input) []session.Output { return h.doc.Step(h.now, in, nil) }
	alice, bob := peer(1, "a", "alice"), peer(2, "b", "bob")
	for _, p := range []session.Peer{alice, bob} {
		h.tell(p, presence.Ask{})
	}

	holly := transaction.Author{User: "holly", Role: transaction.Host}
	if _, refusal := h.doc.Write(h.now, holly, []*crdt.Change{transaction.Genesis(h.id)}, nil); refusal != nil {
		t.Fatal(refusal)
	}
	step(&session.SettingsComingInput{})
	step(&session.DurableInput{N: 1})
	heads := h.doc.Graph().Heads()
	for _, p := range []session.Peer{alice, bob} {
		h.tell(p, presence.Ready{Heads: heads})
	}
	h.wait(100 * time.Millisecond)
	if h.doc.Sealing() {
		t.Error("two agree, and the settings that name a third are on their way to the disk")
	}
	step(&session.SettingsInput{Settings: presence.Settings{Parties: []string{"alice", "bob", "carol"}}})
	if h.doc.Sealing() {
		t.Error("two of three agree")
	}
	h.tell(peer(3, "c", "carol"), presence.Ready{Heads: heads})
	if !h.doc.Sealing() {
		t.Error("three of three do not agree")
	}
}
