package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Receipt is the server's word on one change that it accepted: who delivered it
// first, and when. A document's receipts stand in the order in which its changes
// were committed.
type Receipt struct {
	N      int              // position, from 0
	Change crdt.Hash        // of the change
	Actor  crdt.ActorID     // that made it
	User   string           // whose connection it came from, "" if nobody has a name
	Role   transaction.Role // that the user had then
	At     int64            // when, in milliseconds since 1970 by the server's clock
}

type receiptForm struct {
	N      int              `json:"n"`
	Change string           `json:"change"`
	Actor  string           `json:"actor"`
	User   string           `json:"user"`
	Role   transaction.Role `json:"role"`
	At     int64            `json:"at"`
}

// Leaf returns the receipt as the leaf of the log: a JSON object in one line,
// without a line feed, with exactly these keys in this order.
func (r Receipt) Leaf() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(receiptForm{N: r.N, Change: r.Change.String(), Actor: r.Actor.String(), User: r.User, Role: r.Role, At: r.At})
	if err != nil {
		panic("audit: encode a receipt: " + err.Error()) // of texts and numbers
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ParseReceipt reads a leaf. It fails on anything that Leaf would not have
// written.
func ParseReceipt(leaf []byte) (Receipt, error) {
	var f receiptForm
	dec := json.NewDecoder(bytes.NewReader(leaf))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Receipt{}, fmt.Errorf("read a receipt: %w", err)
	}
	change, err := crdt.ParseHash(f.Change)
	if err != nil {
		return Receipt{}, fmt.Errorf("read a receipt: %w", err)
	}
	actor, err := crdt.ParseActorID(f.Actor)
	if err != nil {
		return Receipt{}, fmt.Errorf("read a receipt: %w", err)
	}
	r := Receipt{N: f.N, Change: change, Actor: actor, User: f.User, Role: f.Role, At: f.At}
	if !bytes.Equal(r.Leaf(), leaf) {
		return Receipt{}, errors.New("read a receipt: it is not written as receipts are")
	}
	return r, nil
}
