package client

import (
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
)

// maxRejections is how many rejections a view holds.
const maxRejections = 100

// Rejection tells of changes that the server refused. They are gone from the
// replica; what was built on them was made again where that was possible.
type Rejection struct {
	N       int         // counts from 1 since the client was opened
	Code    string      // from the server's closed set
	Message string      // a sentence for people
	Changes []crdt.Hash // what was refused
}

// parleyMessage is the data of an ephemeral message of the server's own.
type parleyMessage struct {
	Parley struct {
		Type    string   `cbor:"t"`
		Changes []string `cbor:"changes"`
		Code    string   `cbor:"code"`
		Message string   `cbor:"message"`
	} `cbor:"parley"`
}

// hear takes a message of the server's own. Those of kinds that we do not know
// are for others, or of later versions.
func (c *Client) hear(data []byte) error {
	var m parleyMessage
	if err := cbor.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("the server sent a message that cannot be read: %w", err)
	}
	if m.Parley.Type != "rejected" {
		return nil
	}
	r := Rejection{Code: m.Parley.Code, Message: m.Parley.Message}
	for _, text := range m.Parley.Changes {
		h, err := crdt.ParseHash(text)
		if err != nil {
			return fmt.Errorf("the server rejected a change: %w", err)
		}
		r.Changes = append(r.Changes, h)
	}
	return c.post(func(k *keeper) {
		k.after = append(k.after, func() { k.reject(r) })
	})
}

// reject rolls back what the server refused, if it is ours and the server does
// not have it: a rejection may be about a change that was rolled back before,
// with what it was built on.
func (k *keeper) reject(r Rejection) {
	g := k.replica.graph()
	refused := make(map[crdt.Hash]bool)
	for _, i := range k.replica.unsaved() {
		h := g.HashAt(i)
		if slices.Contains(r.Changes, h) && h != k.genesis {
			refused[h] = true
		}
	}
	if len(refused) == 0 {
		k.log.Info("the server refused what is not here", "code", r.Code, "message", r.Message)
		return
	}
	gone := withDependents(g, refused)
	if err := k.rollBack(gone); err != nil {
		// Not rolled back: sent again on the next connection, and refused again.
		k.log.Error("cannot roll back a change that the server refused", "err", err)
		k.breakOff()
		return
	}
	k.noteRejection(r)
}

// withDependents returns the changes and all that depend on them.
func withDependents(g *crdt.Graph, changes map[crdt.Hash]bool) map[crdt.Hash]bool {
	gone := make(map[crdt.Hash]bool)
	for i := range g.Len() {
		h := g.HashAt(i)
		gone[h] = changes[h] || slices.ContainsFunc(g.DepsOf(i), func(d int32) bool { return gone[g.HashAt(int(d))] })
	}
	return gone
}

// rollBack replaces the replica by one without the changes gone.
func (k *keeper) rollBack(gone map[crdt.Hash]bool) error {
	doc := rebuilt(k.replica.graph(), k.replica.graph().Len(), gone)
	if err := k.replica.replace(doc); err != nil {
		return err
	}
	if k.talk != nil {
		k.talk.restart(k.replica.graph(), k.replica.known)
	}
	k.dirty = true
	k.wakeWriter()
	return nil
}

func (k *keeper) noteRejection(r Rejection) {
	k.log.Info("the server refused a change", "code", r.Code, "message", r.Message)
	k.rejected++
	r.N = k.rejected
	k.rejections = append(k.rejections, r)
	if len(k.rejections) > maxRejections {
		k.rejections = slices.Delete(k.rejections, 0, 1)
	}
	k.dirty = true
}
