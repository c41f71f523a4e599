// Package transaction is a document in which parties settle disputed fields:
// its schema parley/1 and what its changes say.
//
//	schema, transaction   scalar strings, of the first change
//	fields                field -> {label, required, options: option -> {value, source}}
//	selections            field -> {value, by, at, option?}
//
// The first change, [Genesis], is the same bytes on every replica. Hosts write
// fields. Parties pick: a pick puts a whole new map at a field's selection, so
// Automerge chooses one winner for all, and concurrent picks stay to be seen
// until somebody picks again. [State] reads all that from changes, says whether
// a change keeps to the schema ([State.Check]), and makes changes
// ([State.Edit]). No engine is involved.
//
// It is not the gate: changes come decoded, and accepted by crdt.Document. It
// is pure: no IO, clock, goroutine or lock; times are arguments. Clients and
// servers import it.
package transaction
