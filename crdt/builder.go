package crdt

import (
	"cmp"
	"slices"
)

// Header is what a change says of itself besides its operations.
type Header struct {
	Deps    []Hash // sorted, distinct
	Actor   ActorID
	Seq     uint64 // of the actor's changes, from 1
	StartOp uint64 // above every counter in the past of the change
	Time    int64  // seconds since 1970
	Message string
}

// Builder makes a change of operations, without the engine. It knows nothing
// of the document: which operations are replaced is the caller's to say. The
// zero OpID is the root object, or the head of a list.
type Builder struct {
	header Header
	ops    []builtOp
}

// builtOp is an operation whose references are not yet numbers of the change's
// actors.
type builtOp struct {
	op           Op
	object, elem OpID
	pred         []OpID
}

// NewBuilder begins a change.
func NewBuilder(h Header) *Builder { return &Builder{header: h} }

// Len returns the number of operations so far.
func (b *Builder) Len() int { return len(b.ops) }

// Put writes a scalar at a map's key in the place of the operations pred.
func (b *Builder) Put(object OpID, key string, v Value, pred ...OpID) OpID {
	return b.add(builtOp{op: Op{Action: Put, Keyed: true, Key: key, Value: v}, object: object, pred: pred})
}

// Make puts a new object at a map's key in the place of the operations pred.
func (b *Builder) Make(object OpID, key string, kind Action, pred ...OpID) OpID {
	return b.add(builtOp{op: Op{Action: kind, Keyed: true, Key: key}, object: object, pred: pred})
}

// Delete takes what the operations pred, at least one, wrote at a map's key.
func (b *Builder) Delete(object OpID, key string, pred ...OpID) OpID {
	return b.add(builtOp{op: Op{Action: Delete, Keyed: true, Key: key}, object: object, pred: pred})
}

// Insert puts a scalar into a list or text, behind the element after.
func (b *Builder) Insert(list, after OpID, v Value) OpID {
	return b.add(builtOp{op: Op{Action: Put, Insert: true, Value: v}, object: list, elem: after})
}

// InsertObject puts a new object into a list, behind the element after.
func (b *Builder) InsertObject(list, after OpID, kind Action) OpID {
	return b.add(builtOp{op: Op{Action: kind, Insert: true}, object: list, elem: after})
}

func (b *Builder) add(o builtOp) OpID {
	b.ops = append(b.ops, o)
	return OpID{Counter: b.header.StartOp + uint64(len(b.ops)) - 1, Actor: b.header.Actor}
}

// Change encodes the change, uncompressed, and decodes it as if a peer had sent
// it. The error is a *[Refusal]: the operations cannot stand in one change.
func (b *Builder) Change(lim Limits) (*Change, error) {
	others := b.others()
	ops := make([]Op, len(b.ops))
	for i := range b.ops {
		ops[i] = b.ops[i].resolve(b.header.Actor, others)
	}
	return DecodeChange(chunkOf(appendBody(nil, b.header, others, encodeOps(ops))), lim)
}

// others returns the actors that operations refer to, but for the change's
// own, sorted.
func (b *Builder) others() []ActorID {
	seen := map[ActorID]bool{b.header.Actor: true}
	var others []ActorID
	note := func(id OpID) {
		if id.Counter != 0 && !seen[id.Actor] {
			seen[id.Actor] = true
			others = append(others, id.Actor)
		}
	}
	for i := range b.ops {
		note(b.ops[i].object)
		note(b.ops[i].elem)
		for _, p := range b.ops[i].pred {
			note(p)
		}
	}
	slices.Sort(others)
	return others
}

// resolve returns the operation with its references as the change writes them.
func (o *builtOp) resolve(own ActorID, others []ActorID) Op {
	ref := func(id OpID) Ref {
		if id.Counter == 0 || id.Actor == own {
			return Ref{Counter: uint32(id.Counter)}
		}
		i, _ := slices.BinarySearch(others, id.Actor)
		return Ref{Counter: uint32(id.Counter), Actor: uint32(i) + 1}
	}
	op := o.op
	op.Object, op.Elem = ref(o.object), ref(o.elem)
	pred := slices.SortedFunc(slices.Values(o.pred), OpID.Compare)
	for _, p := range pred {
		op.Pred = append(op.Pred, ref(p))
	}
	return op
}

// Compare orders operations as Automerge does: by counter, then by the actor's
// bytes. Of the values at one place that of the highest operation wins.
func (id OpID) Compare(o OpID) int {
	if c := cmp.Compare(id.Counter, o.Counter); c != 0 {
		return c
	}
	return cmp.Compare(id.Actor, o.Actor)
}
