package presence

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Stamp is when something happened, by a clock that all rooms of a transaction
// share: it is later than all that its room had heard of. The zero Stamp is before
// everything.
type Stamp struct {
	Count uint64
	Node  Node // whose it is: no two are the same
}

// Compare orders stamps.
func (s Stamp) Compare(other Stamp) int {
	return cmp.Or(cmp.Compare(s.Count, other.Count), bytes.Compare(s.Node[:], other.Node[:]))
}

// Before reports whether s is earlier than other.
func (s Stamp) Before(other Stamp) bool { return s.Compare(other) < 0 }

// Attendance is what one node tells the others of those who are here through it.
type Attendance struct{ People []Present } // by user

// Present is one user as one node knows it, by its own connections.
type Present struct {
	User  string
	Name  string // as the newest connection has it
	Named Stamp  // when that arrived
	Since int64  // milliseconds since 1970
	Conns []Connected
	Lost  []Awaited
	Ended []Ended
	Word  *Word // the newest of those that this node keeps; nil: none
}

// Connected is a connection.
type Connected struct {
	Peer      string
	Role      transaction.Role
	Arrived   Stamp
	Focus     string
	Focused   Stamp         // when it last said where the user is
	RoundTrip time.Duration // 0: not known
}

// Awaited is a client that may come back.
type Awaited struct {
	Peer    string
	Role    transaction.Role // that it had
	Arrived Stamp
	Left    time.Duration // how long it is waited for, from when this was made
}

// Ended is a client of which all connections that arrived before At are no more,
// and are not waited for, whatever other nodes say of them.
type Ended struct {
	Peer string
	At   Stamp
}

// Word is what a user said of being ready.
type Word struct {
	Said  Stamp
	Heads []crdt.Hash // what for; nil: for nothing, whatever was said before
	// Over is the last word without heads that was known where this was said. It
	// counts for nothing beside a later one: who is ready somewhere, and takes it
	// back elsewhere, is not ready, in whatever order that is heard.
	Over Stamp
}

// withdraws reports whether a word takes back what was said before.
func (w *Word) withdraws() bool { return w.Heads == nil }

// attendanceVersion is raised by what older nodes would misread. They ignore fields
// that they do not know.
const attendanceVersion = 1

// maxCount keeps stamps from running over.
const maxCount = 1 << 60

// ErrVersion says that an attendance is of a version that is not known here.
var ErrVersion = errors.New("an attendance of another version")

// The forms in which attendances travel. What is the same for many stands once.
type (
	attendanceForm struct {
		Version uint64        `cbor:"0,keyasint"`
		Nodes   []Node        `cbor:"1,keyasint,omitempty"` // of stamps
		Heads   [][][]byte    `cbor:"2,keyasint,omitempty"` // of words
		People  []presentForm `cbor:"3,keyasint,omitempty"`
	}
	presentForm struct {
		User  string          `cbor:"0,keyasint"`
		Name  string          `cbor:"1,keyasint,omitempty"`
		Named stampForm       `cbor:"2,keyasint,omitempty"`
		Since int64           `cbor:"3,keyasint,omitempty"`
		Conns []connectedForm `cbor:"4,keyasint,omitempty"`
		Lost  []awaitedForm   `cbor:"5,keyasint,omitempty"`
		Ended []endedForm     `cbor:"6,keyasint,omitempty"`
		Word  *wordForm       `cbor:"7,keyasint,omitempty"`
	}
	connectedForm struct {
		Peer      string           `cbor:"0,keyasint"`
		Role      transaction.Role `cbor:"1,keyasint,omitempty"`
		Arrived   stampForm        `cbor:"2,keyasint"`
		Focus     string           `cbor:"3,keyasint,omitempty"`
		Focused   stampForm        `cbor:"4,keyasint,omitempty"`
		RoundTrip uint64           `cbor:"5,keyasint,omitempty"` // microseconds
	}
	awaitedForm struct {
		Peer    string           `cbor:"0,keyasint"`
		Role    transaction.Role `cbor:"1,keyasint,omitempty"`
		Arrived stampForm        `cbor:"2,keyasint"`
		Left    uint64           `cbor:"3,keyasint,omitempty"` // milliseconds
	}
	endedForm struct {
		Peer string    `cbor:"0,keyasint"`
		At   stampForm `cbor:"1,keyasint"`
	}
	wordForm struct {
		Said  stampForm `cbor:"0,keyasint"`
		Heads int       `cbor:"1,keyasint,omitempty"` // from 1 on; 0: none
		Over  stampForm `cbor:"2,keyasint,omitempty"`
	}
	// stampForm is a count and the place of the node in the list; empty: zero.
	stampForm []uint64
)

// Encode writes the attendance, which is sorted by users.
func (a *Attendance) Encode() []byte {
	w := attendanceWriter{form: attendanceForm{Version: attendanceVersion}, nodes: map[Node]uint64{}}
	for i := range a.People {
		w.form.People = append(w.form.People, w.present(&a.People[i]))
	}
	data, err := cbor.Marshal(w.form)
	if err != nil {
		panic("presence: encode an attendance: " + err.Error()) // made of what can be encoded
	}
	return data
}

// attendanceWriter writes each node, and each list of heads, once.
type attendanceWriter struct {
	form  attendanceForm
	nodes map[Node]uint64
	heads [][]crdt.Hash
}

func (w *attendanceWriter) present(p *Present) presentForm {
	f := presentForm{User: p.User, Name: p.Name, Named: w.stamp(p.Named), Since: p.Since}
	for _, c := range p.Conns {
		f.Conns = append(f.Conns, connectedForm{
			Peer: c.Peer, Role: c.Role, Arrived: w.stamp(c.Arrived), Focus: c.Focus, Focused: w.stamp(c.Focused),
			RoundTrip: uint64(max(0, c.RoundTrip.Microseconds())),
		})
	}
	for _, a := range p.Lost {
		f.Lost = append(f.Lost, awaitedForm{
			Peer: a.Peer, Role: a.Role, Arrived: w.stamp(a.Arrived), Left: uint64(max(0, a.Left.Milliseconds())),
		})
	}
	for _, e := range p.Ended {
		f.Ended = append(f.Ended, endedForm{Peer: e.Peer, At: w.stamp(e.At)})
	}
	if p.Word != nil {
		f.Word = &wordForm{Said: w.stamp(p.Word.Said), Heads: w.list(p.Word.Heads), Over: w.stamp(p.Word.Over)}
	}
	return f
}

func (w *attendanceWriter) stamp(s Stamp) stampForm {
	if s == (Stamp{}) {
		return nil
	}
	at, ok := w.nodes[s.Node]
	if !ok {
		at = uint64(len(w.form.Nodes))
		w.nodes[s.Node] = at
		w.form.Nodes = append(w.form.Nodes, s.Node)
	}
	return stampForm{s.Count, at}
}

func (w *attendanceWriter) list(heads []crdt.Hash) int {
	if heads == nil {
		return 0
	}
	i := slices.IndexFunc(w.heads, func(h []crdt.Hash) bool { return slices.Equal(h, heads) })
	if i < 0 {
		i = len(w.heads)
		w.heads = append(w.heads, heads)
		list := make([][]byte, 0, len(heads))
		for _, h := range heads {
			list = append(list, h[:])
		}
		w.form.Heads = append(w.form.Heads, list)
	}
	return i + 1
}

// DecodeAttendance reads what Encode wrote, and keeps no reference into it. It fails
// with [ErrVersion] on what a later version wrote.
func DecodeAttendance(data []byte) (*Attendance, error) {
	var head struct {
		Version uint64 `cbor:"0,keyasint"`
	}
	if err := decoder.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("read an attendance: %w", err)
	}
	if head.Version != attendanceVersion {
		return nil, ErrVersion
	}
	var r attendanceReader
	if err := decoder.Unmarshal(data, &r.form); err != nil {
		return nil, fmt.Errorf("read an attendance: %w", err)
	}
	a, err := r.read()
	if err != nil {
		return nil, fmt.Errorf("read an attendance: %w", err)
	}
	return a, nil
}

type attendanceReader struct {
	form  attendanceForm
	heads [][]crdt.Hash
}

func (r *attendanceReader) read() (*Attendance, error) {
	for _, list := range r.form.Heads {
		heads, err := readHeads(list)
		if err != nil {
			return nil, err
		}
		r.heads = append(r.heads, heads)
	}
	a := &Attendance{People: make([]Present, 0, len(r.form.People))}
	for i := range r.form.People {
		p, err := r.present(&r.form.People[i])
		if err != nil {
			return nil, err
		}
		if i > 0 && a.People[i-1].User >= p.User {
			return nil, errors.New("its people are not sorted")
		}
		a.People = append(a.People, p)
	}
	return a, nil
}

func readHeads(list [][]byte) ([]crdt.Hash, error) {
	if len(list) == 0 || len(list) > MaxHeads {
		return nil, fmt.Errorf("%d heads", len(list))
	}
	heads := make([]crdt.Hash, 0, len(list))
	for _, h := range list {
		if len(h) != len(crdt.Hash{}) {
			return nil, fmt.Errorf("a hash of %d bytes", len(h))
		}
		heads = append(heads, crdt.Hash(h))
	}
	return heads, nil
}

func (r *attendanceReader) present(f *presentForm) (p Present, err error) {
	if f.User == "" {
		return p, errors.New("somebody without a user")
	}
	p = Present{User: f.User, Name: f.Name, Since: f.Since}
	stamp := func(f stampForm) (s Stamp) {
		if err == nil {
			s, err = r.stamp(f)
		}
		return s
	}
	p.Named = stamp(f.Named)
	for _, c := range f.Conns {
		p.Conns = append(p.Conns, Connected{
			Peer: c.Peer, Role: c.Role, Arrived: stamp(c.Arrived), Focus: c.Focus, Focused: stamp(c.Focused),
			RoundTrip: time.Duration(min(c.RoundTrip, uint64(time.Hour.Microseconds()))) * time.Microsecond,
		})
	}
	for _, l := range f.Lost {
		p.Lost = append(p.Lost, Awaited{
			Peer: l.Peer, Role: l.Role, Arrived: stamp(l.Arrived),
			Left: time.Duration(min(l.Left, uint64(time.Hour.Milliseconds()))) * time.Millisecond,
		})
	}
	for _, e := range f.Ended {
		p.Ended = append(p.Ended, Ended{Peer: e.Peer, At: stamp(e.At)})
	}
	if f.Word != nil {
		p.Word = &Word{Said: stamp(f.Word.Said), Over: stamp(f.Word.Over)}
		switch n := f.Word.Heads; {
		case n < 0 || n > len(r.heads):
			return p, fmt.Errorf("list %d of heads", n)
		case n > 0:
			p.Word.Heads = r.heads[n-1]
		}
	}
	return p, err
}

func (r *attendanceReader) stamp(f stampForm) (Stamp, error) {
	switch {
	case len(f) == 0:
		return Stamp{}, nil
	case len(f) != 2 || f[0] > maxCount || f[1] >= uint64(len(r.form.Nodes)):
		return Stamp{}, errors.New("a stamp that is none")
	}
	return Stamp{Count: f[0], Node: r.form.Nodes[f[1]]}, nil
}
