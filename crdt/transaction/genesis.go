package transaction

import (
	"fmt"

	"parley/crdt"
)

// Schema is the version of the document's shape, and the message of the first
// change.
const Schema = "parley/1"

// GenesisActor makes the first change of every transaction and no other. It is
// fixed so that replicas that never met make the same change and not
// concurrent ones, of which all but one would lose what was written into their
// maps. It has the 16 bytes of any actor, is readable in a dump, and no client
// chooses it by chance.
const GenesisActor crdt.ActorID = "parley/1 genesis"

// Genesis returns the first change of a transaction: byte for byte what
// JavaScript's Automerge makes of the same edits. Anybody can make it, at any
// time, without a server. It panics on an id that [ParseID] does not return.
func Genesis(id ID) *crdt.Change {
	if _, err := ParseID(string(id)); err != nil {
		panic(err)
	}
	b := crdt.NewBuilder(crdt.Header{Actor: GenesisActor, Seq: 1, StartOp: 1, Message: Schema})
	root := crdt.OpID{}
	b.Put(root, keySchema, crdt.Text(Schema))
	b.Put(root, keyTransaction, crdt.Text(string(id)))
	b.Make(root, keyFields, crdt.MakeMap)
	b.Make(root, keySelections, crdt.MakeMap)
	c, err := b.Change(crdt.Limits{})
	if err != nil {
		panic(fmt.Sprintf("transaction: the genesis of %s: %v", id, err))
	}
	return c
}

// OfGenesis returns the transaction whose first change c is, ok false if it is
// that of none.
func OfGenesis(c *crdt.Change) (id ID, ok bool) {
	if c.Actor != GenesisActor || len(c.Ops) < 2 {
		return "", false
	}
	id, err := ParseID(c.Ops[1].Value.Text())
	if err != nil || Genesis(id).Hash != c.Hash {
		return "", false
	}
	return id, true
}

// The keys of the document.
const (
	keySchema      = "schema"
	keyTransaction = "transaction"
	keyFields      = "fields"
	keySelections  = "selections"
	keyLabel       = "label"
	keyRequired    = "required"
	keyOptions     = "options"
	keyValue       = "value"
	keySource      = "source"
	keyBy          = "by"
	keyAt          = "at"
	keyOption      = "option"
)
