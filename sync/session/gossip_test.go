package session_test

import (
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// twoNodes are two nodes' machines for one transaction, and what they relay.
type twoNodes [2]*chamber

func newTwoNodes(t *testing.T) twoNodes {
	return twoNodes{newChamber(t, 1, begun(t)), newChamber(t, 2, begun(t))}
}

// step steps one node, and passes on what is relayed until nothing is. It returns
// what is sent, by node, and how much was relayed.
func (n twoNodes) step(at int, in session.Input) (sent [2][]session.Output, relayed int) {
	type pending struct {
		at int
		in session.Input
	}
	for queue := []pending{{at, in}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0].at
		outs := n[at].doc.Step(n[at].now, queue[0].in, nil)
		sent[at] = append(sent[at], outs...)
		for _, out := range outs {
			if r, ok := out.(session.Relay); ok {
				relayed++
				queue = append(queue, pending{1 - at, &session.RelayedInput{Data: r.Data}})
			}
		}
	}
	return sent, relayed
}

func stored(conn session.ConnID, user string) session.Peer {
	p := peer(conn, user, user)
	p.Storage = wire.StorageID("store of " + user)
	return p
}

func has(from session.Peer, heads ...crdt.Hash) session.Input {
	return &session.SyncInput{From: from, Message: &protocol.Message{Version: protocol.V1, Heads: heads, Have: []protocol.Have{{}}}}
}

// Who subscribes to a client's store hears of it from another node: whoever came
// first, and nothing is relayed that nobody wants.
func TestHeadsOfStoresOnAnotherNode(t *testing.T) {
	alice, bob := stored(1, "alice"), stored(2, "bob")
	subscribe := &session.SubscribeInput{From: alice, Add: []wire.StorageID{bob.Storage, "server"}}
	genesis := transaction.Genesis(hallID).Hash
	told := func(sent [2][]session.Output, want ...crdt.Hash) {
		t.Helper()
		if list := remoteHeadsTo(t, sent[0], 1); len(list) == 0 || !slices.Equal(list[len(list)-1], want) {
			t.Errorf("alice was told of %v, want %v", list, want)
		}
	}
	t.Run("the subscriber first", func(t *testing.T) {
		n := newTwoNodes(t)
		n.step(0, has(alice))
		n.step(0, subscribe)
		sent, _ := n.step(1, has(bob, genesis))
		told(sent, genesis)
		n[0].now, n[1].now = n[0].now.Add(time.Second), n[1].now.Add(time.Second)
		sent, _ = n.step(1, &session.RemoteHeadsInput{From: stored(3, "carol"), Heads: []wire.RemoteHeads{
			{StorageID: bob.Storage, Heads: []crdt.Hash{{7}}, Timestamp: float64(n[1].now.UnixMilli())},
		}})
		told(sent, crdt.Hash{7})
	})
	t.Run("the subscriber first, and the document is opened later", func(t *testing.T) {
		n := newTwoNodes(t)
		n[0].doc.Step(n[0].now, has(alice), nil) // where nobody hears
		n[0].doc.Step(n[0].now, subscribe, nil)
		sent, _ := n.step(1, has(bob, genesis))
		told(sent, genesis)
	})
	t.Run("the store first", func(t *testing.T) {
		n := newTwoNodes(t)
		n.step(1, has(bob, genesis))
		n.step(0, has(alice))
		sent, _ := n.step(0, subscribe)
		told(sent, genesis)
	})
	t.Run("nobody wants it", func(t *testing.T) {
		n := newTwoNodes(t)
		if _, relayed := n.step(1, has(bob, genesis)); relayed != 1 { // it asks, once
			t.Errorf("%d messages", relayed)
		}
		if _, relayed := n.step(1, has(bob)); relayed != 0 {
			t.Errorf("%d messages", relayed)
		}
	})
	t.Run("an older word", func(t *testing.T) {
		n := newTwoNodes(t)
		n.step(0, has(alice))
		n.step(0, subscribe)
		n.step(1, has(bob, genesis))
		sent, _ := n.step(1, &session.RemoteHeadsInput{From: stored(3, "carol"), Heads: []wire.RemoteHeads{
			{StorageID: bob.Storage, Heads: []crdt.Hash{{7}}, Timestamp: 1},
		}})
		if list := remoteHeadsTo(t, sent[0], 1); len(list) != 0 {
			t.Errorf("alice was told of %v", list)
		}
	})
}

// What another node relays is bounded, and what cannot be read is passed over.
func TestRelayedNonsense(t *testing.T) {
	n := newTwoNodes(t)
	n.step(0, has(stored(1, "alice")))
	many := &wire.RemoteSubscriptionChange{SenderID: "s"}
	for i := range 1000 {
		many.Add = append(many.Add, wire.StorageID("store"+string(rune('a'+i))))
	}
	for _, data := range [][]byte{nil, {1, 2, 3}, wire.Append(nil, many), wire.Append(nil, &wire.Join{SenderID: "x"})} {
		if sent, relayed := n.step(0, &session.RelayedInput{Data: data}); len(sent[0]) > 0 || relayed > 0 {
			t.Errorf("%d bytes led to %v", len(data), sent)
		}
	}
}
