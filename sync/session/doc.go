// Package session holds the machines behind a sync server: [Conn], one
// client's connection, and [Document], one document and the peers that have it
// open. They speak automerge-repo's protocol version "1".
//
// Both are pure: bytes, values and time.Time in, values out. They do no IO,
// read no clock, start no goroutine and take no lock, so that a conversation
// can be replayed from a script. A shell drives them: it reads a frame, steps
// the machine, commits what the machine accepted, and sends what it may send.
//
// A Conn may be driven by one goroutine and a Document by another; neither
// holds a reference into the other. Only the server's shell and tests import
// this package.
package session

import (
	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/wire"
)

// ConnID numbers a connection. It is never reused while the process lives, so
// that a peer id that returns on a new socket is not taken for its old self.
type ConnID uint64

// Peer is who speaks on a connection, as its join frame said.
type Peer struct {
	Conn ConnID
	ID   wire.PeerID
	// Storage names the store behind the peer. It is empty for a peer that has
	// none or whose store is ephemeral.
	Storage wire.StorageID
	// Person is whose connection it is, as the server knows it.
	Person presence.Person
	// TransactionsOnly keeps plain documents from it.
	TransactionsOnly bool
}

// Limits bound what one client may cost. Zero fields take the defaults.
type Limits struct {
	// Frame is the longest frame after the join, in bytes (default 16 MiB).
	Frame int
	// JoinFrame is the longest first frame, in bytes (default 64 KiB).
	JoinFrame int
	// Documents is how many documents a connection may have open (default 1,024).
	Documents int
	// Change bounds one change and one document.
	Change crdt.Limits
	// MessageOps is how many operations the changes of one frame may hold
	// (default 1,000,000): an operation can cost less than a byte on the wire.
	MessageOps int
	// MessageBytes is how long the changes of one frame may be, inflated
	// (default 64 MiB, a whole document).
	MessageBytes int
	// Ephemeral is how long an ephemeral message's data may be (default 256 KiB).
	Ephemeral int
	// HeldChanges and HeldBytes bound the changes of one connection whose
	// dependencies have not arrived, in one document (defaults 16,384 and
	// 16 MiB: a client's whole offline history can hang on one change that its
	// Bloom filter hid).
	HeldChanges int
	HeldBytes   int
	// SendBytes is about how much change data one outgoing sync message holds
	// (default 1 MiB); what does not fit goes into the next. Each connection that does
	// not read holds one.
	SendBytes int
}

// WithDefaults returns l with every zero field set to its default.
func (l Limits) WithDefaults() Limits {
	setDefault(&l.Frame, 16<<20)
	setDefault(&l.JoinFrame, 64<<10)
	setDefault(&l.Documents, 1024)
	setDefault(&l.MessageOps, 1_000_000)
	setDefault(&l.MessageBytes, 64<<20)
	setDefault(&l.Ephemeral, 256<<10)
	setDefault(&l.HeldChanges, 16_384)
	setDefault(&l.HeldBytes, 16<<20)
	setDefault(&l.SendBytes, 1<<20)
	return l
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}
