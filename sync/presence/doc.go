// Package presence says who is here, who is ready for exactly what is here, and
// when all who must agree do: the participants of one transaction, derived from
// its connections, and never written into its document.
//
// [Room] is a machine: inputs and a time.Time in, outputs out. It does no IO,
// reads no clock, starts no goroutine and takes no lock. It holds nothing that
// must survive it but the resolutions, which its owner makes durable before
// anybody hears of them. The messages in which clients and servers speak of all
// this are here too ([Decode], [DecodeDown]); PROTOCOL.md in the folder above
// has them field by field.
//
// Where several servers share a store, each has a room of the transaction. They tell
// each other, by rows in the store, who is here through them ([Attendance]), so that
// all rooms tell the same, and none agrees on what was taken back at another.
//
// The server's machines (sync/session) and clients import it.
package presence

import "parley/crdt/transaction"

// Conn numbers a connection. It is never used for another while the room lives.
type Conn uint64

// Person is who speaks on a connection, as the server knows it. Without a user
// it is somebody who may look and is no participant.
type Person struct {
	User string // the id that picks bear
	Name string // for people to read; not unique
	Role transaction.Role
}

// Author is the person as the author of changes.
func (p Person) Author() transaction.Author {
	return transaction.Author{User: p.User, Role: p.Role}
}

// State is how a participant is here. Who has left is no participant any more.
type State string

// The states of a participant.
const (
	Online       State = "online"       // has a connection
	Reconnecting State = "reconnecting" // lost its last one, less than the grace ago
)
