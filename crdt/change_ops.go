package crdt

import (
	"parley/crdt/internal/columnar"
)

// operations reads and checks the operations of a change whose header was
// read.
func (d *decoder) operations(c *Change, cols *columns) *Refusal {
	preds, r := d.countPreds(cols[colPredCount], c.numOps)
	if r != nil {
		return r
	}
	if c.numOps > 0 && cols[colInsert] == "" {
		return newRefusal(CodeColumns, "%s: %v", colInsert, columnar.ErrShort)
	}
	rows := newRows(cols, c.numOps, preds)
	d.used = d.few[:0]
	if len(c.Actors) > len(d.few) {
		d.used = make([]bool, 0, len(c.Actors))
	}
	d.used = d.used[:len(c.Actors)]
	d.used[0] = true
	c.Ops = make([]Op, c.numOps)
	refs := make([]Ref, preds)
	for i := range c.Ops {
		r := d.operation(c, i, &rows, &refs)
		if r == nil {
			continue
		}
		// What a broken column yields makes no sense either: say the cause.
		if broken := rows.broken(); broken != nil {
			return broken
		}
		r.Reason += orderOf(i)
		return r
	}
	if r := rows.finish(cols); r != nil {
		return r
	}
	if r := d.allUsed(c); r != nil {
		return r
	}
	if r := checkMarks(c); r != nil {
		return r
	}
	return checkKeys(c)
}

// countPreds returns the number of predecessors of all operations together.
func (d *decoder) countPreds(column string, n int) (int, *Refusal) {
	counts := columnar.NewUints(column, n)
	total := 0
	for range n {
		count, ok := counts.Next()
		if !ok {
			err := counts.Err()
			if err == nil {
				err = columnar.ErrShort
			}
			return 0, newRefusal(CodeColumns, "%s: %v", colPredCount, err)
		}
		if count > uint64(d.lim.Preds-total) {
			return 0, newRefusal(CodePreds, "more than %d in one change", d.lim.Preds)
		}
		total += int(count)
	}
	return total, nil
}

// operation reads row i. Predecessors go to the beginning of refs, which is
// cut off.
func (d *decoder) operation(c *Change, i int, s *rows, refs *[]Ref) *Refusal {
	op, at := &c.Ops[i], c.StartOp+uint64(i)
	action, ok := s.action.Next()
	if !ok || action >= uint64(numActions) {
		return newRefusal(CodeAction, "%d", action)
	}
	op.Action, op.Insert = Action(action), s.insert.Next()
	if op.Action == MakeTable {
		return newRefusal(CodeAction, "a table, of which automerge 3.5 fails at the first key")
	}
	if op.Insert && (op.Action == Delete || op.Action == Increment) {
		return newRefusal(CodeAction, "an insert that makes nothing")
	}
	if r := d.object(op, at, s); r != nil {
		return r
	}
	if r := d.key(op, at, s); r != nil {
		return r
	}
	if r := readMark(op, s); r != nil {
		return r
	}
	if r := readValue(op, s); r != nil {
		return r
	}
	return d.preds(c, op, at, s, refs)
}

// ref makes a reference of what two columns hold. Operations refer only to
// what was there before them.
func (d *decoder) ref(actor, counter, before uint64) (Ref, *Refusal) {
	if actor >= uint64(len(d.used)) {
		return Ref{}, newRefusal(CodeReference, "actor %d of %d", actor, len(d.used))
	}
	if counter == 0 || counter >= before {
		return Ref{}, newRefusal(CodeReference, "counter %d at counter %d", counter, before)
	}
	d.used[actor] = true
	return Ref{Counter: uint32(counter), Actor: uint32(actor)}, nil
}

func (d *decoder) object(op *Op, at uint64, s *rows) (r *Refusal) {
	actor, hasActor := s.objectActor.Next()
	counter, hasCounter := s.objectCounter.Next()
	if hasActor != hasCounter {
		return newRefusal(CodeReference, "half an object id")
	}
	if hasActor {
		op.Object, r = d.ref(actor, counter, at)
	}
	return r
}

// key reads a map's key or a sequence's element. The head of a sequence is
// counter 0 without an actor.
func (d *decoder) key(op *Op, at uint64, s *rows) (r *Refusal) {
	actor, hasActor := s.keyActor.Next()
	counter, hasCounter := s.keyCounter.Next()
	key, keyed := s.keyText.Next()
	op.Key, op.Keyed = key, keyed
	switch {
	case keyed && (hasActor || hasCounter):
		return newRefusal(CodeKey, "it has both")
	case keyed && (op.Insert || op.Action == Mark):
		return newRefusal(CodeKey, "an insert at a key")
	case keyed:
		return nil
	case op.Object.IsZero():
		return newRefusal(CodeKey, "an element of the root")
	case !hasCounter:
		return newRefusal(CodeKey, "it has none")
	case hasActor:
		op.Elem, r = d.ref(actor, counter, at)
		return r
	case counter != 0:
		return newRefusal(CodeKey, "half an element id")
	case !op.Insert:
		return newRefusal(CodeKey, "the head of a sequence holds nothing")
	}
	return nil
}

// readMark reads the columns that only marks have. A mark's beginning has a
// name, its end has none.
func readMark(op *Op, s *rows) *Refusal {
	op.MarkName, op.MarkBegin = s.markName.Next()
	op.Expand = s.expand.Next()
	switch {
	case op.Action == Mark && !op.Insert:
		return newRefusal(CodeMark, "it is not inserted")
	case op.Action != Mark && (op.MarkBegin || op.Expand):
		return newRefusal(CodeMark, "parts of one on another operation")
	}
	return nil
}

// readValue reads a value. Automerge forgets what is not part of an action, so
// nothing else may be there.
func readValue(op *Op, s *rows) *Refusal {
	meta, ok := s.valueMeta.Next()
	if !ok {
		return newRefusal(CodeValue, "it has none")
	}
	kind := ValueKind(meta & kindMask)
	op.Value = Value{Kind: kind, raw: s.values.Take(meta >> kindBits)}
	if s.values.Err() != nil {
		return nil // said by rows.broken
	}
	if kind >= numKinds || !op.Value.valid() {
		return newRefusal(CodeValue, "kind %d with %d bytes", kind, meta>>kindBits)
	}
	switch {
	case op.Action == Put || op.MarkBegin:
	case op.Action == Increment && kind == KindInt:
	case op.Action != Increment && kind == KindNull:
	default:
		return newRefusal(CodeValue, "kind %d for action %d", kind, op.Action)
	}
	return nil
}

// preds reads an operation's predecessors, which stand in Automerge's order of
// operation ids: by counter, then by the actor's bytes.
func (d *decoder) preds(c *Change, op *Op, at uint64, s *rows, refs *[]Ref) *Refusal {
	n, _ := s.predCount.Next()
	op.Pred, *refs = (*refs)[:n:n], (*refs)[n:]
	for j := range op.Pred {
		actor, hasActor := s.predActor.Next()
		counter, hasCounter := s.predCounter.Next()
		if !hasActor || !hasCounter {
			return newRefusal(CodePreds, "half an operation id")
		}
		pred, r := d.ref(actor, counter, at)
		if r != nil {
			return r
		}
		if j > 0 && !inOrder(c, op.Pred[j-1], pred) {
			return newRefusal(CodePreds, "not sorted")
		}
		op.Pred[j] = pred
	}
	switch {
	case op.Insert && n > 0:
		return newRefusal(CodePreds, "an insert replaces nothing")
	case n > 0 || op.Insert:
		return nil
	case op.Action == Delete || op.Action == Increment || !op.Keyed:
		return newRefusal(CodePreds, "it must have some")
	}
	return nil
}

// inOrder says whether a stands before b.
func inOrder(c *Change, a, b Ref) bool {
	if a.Counter != b.Counter {
		return a.Counter < b.Counter
	}
	return c.Actors[a.Actor] < c.Actors[b.Actor]
}

// allUsed checks that the operations refer to every actor that the change
// lists: Automerge would not write the others again.
func (d *decoder) allUsed(c *Change) *Refusal {
	for i, used := range d.used {
		if !used {
			return newRefusal(CodeActors, "%s is not used", c.Actors[i])
		}
	}
	return nil
}

// checkMarks checks that every mark's end follows right after its beginning,
// on the same object. Automerge makes them so, and finds a mark's end by its
// counter.
func checkMarks(c *Change) *Refusal {
	open := false
	for i := range c.Ops {
		op := &c.Ops[i]
		isEnd := op.Action == Mark && !op.MarkBegin
		if isEnd != open || isEnd && op.Object != c.Ops[i-1].Object {
			return newRefusal(CodeMark, "%s", orderOf(i))
		}
		open = op.MarkBegin
	}
	if open {
		return newRefusal(CodeMark, "the last operation begins one")
	}
	return nil
}
