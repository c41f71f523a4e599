package crdt

import "math"

// noActor stands for an actor that the document does not know.
const noActor = math.MaxUint32

// checker checks one change's operations against an operation table. Its
// slices are kept from change to change.
type checker struct {
	t      *opTable
	c      *Change
	past   *past
	depth  int      // at most
	actors []uint32 // the change's actors as the table numbers them
	staged []span   // the change's own operations so far
	steps  int      // of finding out what stands before what
}

// run checks all operations of a change and returns what the table is to
// learn.
func (k *checker) run(t *opTable, c *Change, p *past, depth int) ([]span, *Refusal) {
	k.begin(t, c)
	defer k.end()
	k.past, k.depth = p, depth
	for i := range c.Ops {
		if r := k.operation(i); r != nil {
			r.Reason += orderOf(i)
			return nil, r
		}
	}
	return k.staged, nil
}

// record returns what the table is to learn of a change that was checked
// before.
func (k *checker) record(t *opTable, c *Change) []span {
	k.begin(t, c)
	defer k.end()
	for i := range c.Ops {
		op := &c.Ops[i]
		at := target{object: k.key(op.Object)}
		if s, known := k.find(op.Object); known {
			at.depth = s.depth
		}
		k.place(op, &at)
		k.stage(i, &at)
	}
	return k.staged
}

func (k *checker) begin(t *opTable, c *Change) {
	k.t, k.c, k.staged, k.steps = t, c, k.staged[:0], 0
	k.actors = k.actors[:0]
	for i, a := range c.Actors {
		n, known := t.actor(a)
		if !known && i > 0 {
			n = noActor
		}
		k.actors = append(k.actors, n)
	}
}

// end lets go of the change, which is larger than all that is kept of it.
func (k *checker) end() { k.t, k.c, k.past = nil, nil, nil }

// target is where an operation is.
type target struct {
	object opKey
	place  opKey // the element, or the hash of the key
	depth  uint16
}

func (k *checker) operation(i int) *Refusal {
	op := &k.c.Ops[i]
	at, r := k.object(op)
	if r != nil {
		return r
	}
	if r := k.element(op, &at); r != nil {
		return r
	}
	if r := k.preds(op, &at); r != nil {
		return r
	}
	if op.Action == Mark && !op.MarkBegin {
		if r := k.markOrder(i, at.place); r != nil {
			return r
		}
	}
	k.stage(i, &at)
	return nil
}

// key returns the table's name of an operation.
func (k *checker) key(r Ref) opKey {
	if r.IsZero() {
		return opKey{}
	}
	return opKey{counter: r.Counter, actor: k.actors[r.Actor]}
}

// find returns what is known of an operation.
func (k *checker) find(r Ref) (s span, known bool) {
	if r.IsZero() {
		return span{}, false
	}
	if r.Actor == 0 && uint64(r.Counter) >= k.c.StartOp {
		return findSpan(k.staged, r.Counter)
	}
	return k.t.find(k.key(r))
}

// inPast says whether an operation that is in the table was known to the
// change's author, as far as the change says. A replica that has the change's
// dependencies and no more must be able to apply it.
func (k *checker) inPast(r Ref) bool {
	return r.Actor == 0 || len(k.past.others) == 0 && k.past.top == int32(k.t.upTo) ||
		k.past.contains(k.t.nodeOf(k.key(r)))
}

// lookUp returns what is known of an operation of the change's past.
func (k *checker) lookUp(r Ref) (s span, known bool) {
	s, known = k.find(r)
	return s, known && k.inPast(r)
}

// object finds an operation's object and checks that its type fits the key.
func (k *checker) object(op *Op) (target, *Refusal) {
	at := target{object: k.key(op.Object)}
	if !op.Object.IsZero() {
		s, known := k.lookUp(op.Object)
		if !known || s.kind&(isMap|isSequence) == 0 {
			return at, newRefusal(CodeUnknownObject, "%s", k.c.ID(op.Object))
		}
		if op.Keyed != (s.kind&isMap != 0) {
			return at, newRefusal(CodeObjectType, "%s", k.c.ID(op.Object))
		}
		at.depth = s.depth
	}
	if op.Action.Makes() && int(at.depth) >= k.depth {
		return at, newRefusal(CodeDepth, "more than %d levels", k.depth)
	}
	return at, nil
}

// element checks that the element that an operation is at, or inserts after,
// is one of its object.
//
// The element to insert after need not be in the change's past: changeAt of
// automerge 3.5, which text editors use, takes any element that its author
// had. Replicas that have our changes in our order can apply that.
func (k *checker) element(op *Op, at *target) *Refusal {
	if !op.Elem.IsZero() {
		s, known := k.find(op.Elem)
		if !known || !op.Insert && !k.inPast(op.Elem) || s.kind&isInsert == 0 || s.object != at.object {
			return newRefusal(CodeUnknownElement, "%s", k.c.ID(op.Elem))
		}
	}
	k.place(op, at)
	return nil
}

// place says where in its object an operation is, or what it is inserted behind.
func (k *checker) place(op *Op, at *target) {
	if op.Keyed {
		at.place = k.t.keyPlace(op.Key)
		return
	}
	at.place = k.key(op.Elem)
}

// preds checks that an operation replaces only what stands at its own place,
// and increments only counters. Nothing replaces a mark.
func (k *checker) preds(op *Op, at *target) *Refusal {
	counters := 0
	for _, p := range op.Pred {
		s, known := k.lookUp(p)
		if !known || s.object != at.object || s.kind&isMark != 0 {
			return newRefusal(CodeUnknownPred, "%s", k.c.ID(p))
		}
		place := s.place
		if s.kind&isInsert != 0 {
			place = k.key(p)
		}
		if place != at.place {
			return newRefusal(CodeUnknownPred, "%s", k.c.ID(p))
		}
		if s.kind&isCounter != 0 {
			counters++
		}
	}
	if op.Action == Increment && counters == 0 {
		return newRefusal(CodeIncrement, "")
	}
	return nil
}

// stage notes operation i for those that follow and for the table.
func (k *checker) stage(i int, at *target) {
	op := &k.c.Ops[i]
	kind, recorded := kindOf(op)
	if !recorded {
		return
	}
	s := span{first: uint32(k.c.StartOp) + uint32(i), n: 1, object: at.object, place: at.place, kind: kind}
	if op.Action.Makes() {
		s.depth = at.depth + 1
	}
	k.staged = appendSpan(k.staged, s, k.actors[0])
}
