package crdt

// maxOrderSteps bounds what the marks of one change may cost to put in order:
// some tens of milliseconds. Each takes a step for every stretch of text that was
// written in one go and that it stands behind.
const maxOrderSteps = 1_000_000

// markOrder checks that a mark's end, operation i, which is inserted behind an
// element, stands behind its beginning, the operation before it. Automerge 3.5
// saves a document in which one does not, and cannot load what it saved.
//
// A sequence is a tree: an element hangs on the one that it was inserted behind,
// and stands before all that hung there earlier, each with what hangs on it. So
// the order of two elements is that of the branches on which they hang where
// their ways to the head meet.
func (k *checker) markOrder(i int, behind opKey) *Refusal {
	begin := opKey{counter: uint32(k.c.StartOp) + uint32(i) - 1, actor: k.actors[0]}
	a, b := begin, behind
	branchA, branchB := opKey{}, opKey{counter: begin.counter + 1, actor: begin.actor}
	for a != b {
		if k.steps++; k.steps > maxOrderSteps {
			return newRefusal(CodeMark, "too many to put in order")
		}
		spanA, foundA := k.spanAt(a)
		spanB, foundB := k.spanAt(b)
		same := foundA && a.actor == b.actor && spanA.holds(b.counter)
		switch {
		case !foundA && a.counter > 0 || !foundB && b.counter > 0:
			return newRefusal(CodeUnknownElement, "a mark's")
		case same && a.counter > b.counter:
			branchA, a = opKey{b.counter + 1, a.actor}, b
		case same:
			branchB, b = opKey{a.counter + 1, b.actor}, a
		case !foundB || foundA && spanA.first > spanB.first:
			branchA, a = opKey{spanA.first, a.actor}, spanA.place
		default:
			branchB, b = opKey{spanB.first, b.actor}, spanB.place
		}
	}
	if a != begin && k.before(branchA, branchB) {
		return newRefusal(CodeMark, "its end stands before its beginning")
	}
	return nil
}

// spanAt returns the span that holds an operation of the document or, so far, of
// the change.
func (k *checker) spanAt(id opKey) (s span, found bool) {
	if id.actor == k.actors[0] && uint64(id.counter) >= k.c.StartOp {
		return findSpan(k.staged, id.counter)
	}
	return k.t.find(id)
}

// before says whether a is the earlier of two operations.
func (k *checker) before(a, b opKey) bool {
	if a.counter != b.counter {
		return a.counter < b.counter
	}
	return k.actorAt(a.actor) < k.actorAt(b.actor)
}

func (k *checker) actorAt(i uint32) ActorID {
	if i == k.actors[0] {
		return k.c.Actor
	}
	return k.t.actors[i].id
}
