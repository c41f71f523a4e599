package transaction

import "parley/crdt"

// record is what one change does to a transaction, apart from its bytes. It is
// never modified: states as of different heads share it.
type record struct {
	hash   crdt.Hash
	deps   []crdt.Hash
	actor  crdt.ActorID
	seq    uint64
	maxOp  uint64
	writes []write
	closed []closedObject
	events []Event
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

// closedObject is an object that no later change may write to.
type closedObject struct {
	op   crdt.OpID
	kind kind
}
