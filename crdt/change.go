package crdt

// Change is one change that has passed [DecodeChange], or of which
// [DecodeHeader] has read the header. Its texts are parts of the change's
// bytes: who keeps one for long clones it.
type Change struct {
	Hash    Hash
	Deps    []Hash // sorted, distinct
	Actor   ActorID
	Seq     uint64    // of the actor's changes, from 1
	StartOp uint64    // counter of the first operation; further ones count up
	Time    int64     // seconds since 1970, as the sender claims
	Message string    // "" if there is none
	Actors  []ActorID // what [Ref.Actor] counts in: Actor, then the others, sorted
	Ops     []Op      // nil after DecodeHeader
	Extra   []byte    // what follows the columns: nil, or the author that automerge 3.5 writes

	numOps int
	size   int // of the body, inflated
	chunk  []byte
}

// NumOps returns the number of operations.
func (c *Change) NumOps() int { return c.numOps }

// Size returns the length in bytes of what the chunk holds, inflated.
func (c *Change) Size() int { return c.size }

// MaxOp returns the counter of the last operation, and StartOp-1 if there is
// none.
func (c *Change) MaxOp() uint64 { return c.StartOp + uint64(c.numOps) - 1 }

// Chunk returns the bytes as received, not to be modified.
func (c *Change) Chunk() []byte { return c.chunk }

// ID returns the operation id that r stands for in this change.
func (c *Change) ID(r Ref) OpID {
	return OpID{Counter: uint64(r.Counter), Actor: c.Actors[r.Actor]}
}

// OpRef returns operation i as operations of this same change refer to it.
func (c *Change) OpRef(i int) Ref { return Ref{Counter: uint32(c.StartOp) + uint32(i)} }

// Ref names an operation within a change. The zero Ref is no operation: the
// root object, or the head of a sequence.
type Ref struct {
	Counter uint32
	Actor   uint32 // index into the change's Actors
}

// IsZero says whether r names no operation.
func (r Ref) IsZero() bool { return r.Counter == 0 }

// Action is what an operation does, numbered as in Automerge's action column.
type Action uint8

// The actions.
const (
	MakeMap Action = iota
	Put
	MakeList
	Delete
	MakeText
	Increment
	MakeTable // of older clients; the gate refuses it
	Mark      // the beginning or the end of a mark
	numActions
)

// Makes says whether the operation makes an object.
func (a Action) Makes() bool {
	return a == MakeMap || a == MakeList || a == MakeText
}

// Op is one operation. It is either at a key of a map (Keyed) or at an element
// of a list or text; an Insert puts a new element, whose id is the operation's
// own, after Elem.
type Op struct {
	Action    Action
	Keyed     bool
	Insert    bool
	MarkBegin bool // of a Mark: this is its beginning
	Expand    bool // of a Mark: it grows at this end
	Object    Ref  // zero: the root map
	Elem      Ref  // zero: before the first element
	Key       string
	MarkName  string // of a MarkBegin
	Value     Value  // null unless a Put, Increment or MarkBegin
	Pred      []Ref  // the operations that this one replaces, in Automerge's order
}
