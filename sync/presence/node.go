package presence

import "bytes"

// Node is one process of several that share a store: random bytes, new with each
// start. The zero Node is none.
type Node [8]byte

// Compare orders nodes.
func (n Node) Compare(other Node) int { return bytes.Compare(n[:], other[:]) }

// Elsewhere is all that another node tells of those who are here through it, and
// the number of the row in which it stands. Nil: nobody is. An older one than the
// last that was heard does nothing; with Seq 0 it counts whatever was heard. The room
// keeps the attendance.
type Elsewhere struct {
	Node       Node
	Seq        uint64
	Attendance *Attendance
	// Unreadable: there is a row of a version that is not known here. It is as if
	// nobody were there, but that nothing is agreed on beside it.
	Unreadable bool
}

// Silent says that a node was not heard of within its lease. Its connections are
// lost, with the grace from now, and nobody counts on a readiness that was given
// through it: it may have been withdrawn there.
type Silent struct{ Node Node }

// Published says that what [Publish] number N asked for is stored.
type Published struct {
	N uint64
	// Unstored: it is not, but this node's lease has run out for certain, so that
	// nobody counts on what it had stored before.
	Unstored bool
}

// Forgotten says that what was published is stored no more.
type Forgotten struct{}

func (Elsewhere) input() {}
func (Silent) input()    {}
func (Published) input() {}
func (Forgotten) input() {}

// Publish asks for what this node tells of those who are here through it to be
// stored, then for [Published]. Nil: nobody is. N rises; the newest makes up for
// those before it.
type Publish struct {
	N          uint64
	Attendance *Attendance
}

func (Publish) output() {}
