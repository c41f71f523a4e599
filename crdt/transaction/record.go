package transaction

import "parley/crdt"

// record is what one change does to a transaction. It is made to be run once.
type record struct {
	hash   crdt.Hash
	actor  crdt.ActorID // the state's copy
	writes []write
	closed []crdt.OpID // objects of fields that no later change may write to
}

// write is one write to a map of the document that holds more than one
// change's writes. One of leaf, makes, pick and deletes says what it writes.
type write struct {
	object, op crdt.OpID
	key        string
	pred       []crdt.OpID // that it replaces
	field      string      // that it belongs to, "" for the document's root

	deletes bool
	makes   kind
	pick    *Pick
	leaf    leaf

	at int // operation of the change
}
