package presence

import (
	"time"

	"parley/crdt"
)

// Input is what can happen to a room. The set is closed.
type Input interface{ input() }

// Arrived says that a connection has opened the transaction. Peer is what tells
// the return of a client from another client of the same user.
type Arrived struct {
	Conn   Conn
	Peer   string
	Person Person
}

// Synced says that a connection's client has for the first time all that is in
// the document: who has only now begun to listen is told again who is here.
type Synced struct{ Conn Conn }

// Parted says that a connection has ended. Goodbye: its client said that it
// would, and does not come back for it.
type Parted struct {
	Conn    Conn
	Goodbye bool
}

// Heard is a message from a connection's client.
type Heard struct {
	Conn    Conn
	Message Message
}

// Measured is a connection's round trip time, measured just now.
type Measured struct {
	Conn      Conn
	RoundTrip time.Duration
}

// Advanced says that further changes of the document are on disk.
type Advanced struct{ Because Cause }

// Setting says that other settings are on their way to the disk. By the old ones
// nobody agrees any more.
type Setting struct{}

// Set says what the transaction's settings are now, on disk.
type Set struct{ Settings Settings }

// Stored says that the resolution which [Resolve] asked for is on disk, with the
// checkpoint that was signed for it.
type Stored struct{ Checkpoint string }

// Agreed says that another process has stored a resolution.
type Agreed struct{ Resolution Resolution }

// Overtaken says that what was on its way to the disk, a resolution or settings, did
// not get there: something else did before.
type Overtaken struct{}

// Learning says that what another process has stored is told now, until [Learned]: no
// resolution is asked for meanwhile, since there may be one.
type Learning struct{}

// Learned ends what [Learning] began.
type Learned struct{}

// Stalled says whether nothing gets to the disk at the moment.
type Stalled struct{ Stalled bool }

// Draining says that the server ends: the room asks for no resolution any more.
type Draining struct{}

// Ticked lets time pass: it is due at [Room.Wake]. Who was to be back by now has
// left with it, and with nothing else, so that a server which shuts down can
// keep people from leaving by not ticking.
type Ticked struct{}

func (Arrived) input()   {}
func (Synced) input()    {}
func (Parted) input()    {}
func (Heard) input()     {}
func (Measured) input()  {}
func (Advanced) input()  {}
func (Setting) input()   {}
func (Set) input()       {}
func (Stored) input()    {}
func (Agreed) input()    {}
func (Overtaken) input() {}
func (Learning) input()  {}
func (Learned) input()   {}
func (Stalled) input()   {}
func (Draining) input()  {}
func (Ticked) input()    {}

// Cause is the change for which a readiness lapsed.
type Cause struct {
	Field  string    // that it changed; "" if it changed none
	User   string    // who made it
	Change crdt.Hash // its hash
}

// Output is what a room's owner has to do. The set is closed.
type Output interface{ output() }

// Send is a message for a connection, or for all that have arrived and not
// parted. All of them may be lost: a later roster holds what they said, but for
// what was rejected.
type Send struct {
	To   Conn // 0: all
	Data []byte
}

// Resolve asks for a resolution to be made durable, and then for [Stored].
// Nobody may hear of it before that.
type Resolve struct {
	Resolution Resolution
	// Relies are the rows of other nodes by which it was made, each with its number.
	// If others stand there when it is to be stored, it must not be, and [Overtaken]
	// says so. Nil where no store is shared.
	Relies map[Node]uint64
}

func (Send) output()    {}
func (Resolve) output() {}
