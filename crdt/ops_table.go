package crdt

import (
	"hash/maphash"
	"sort"
	"strings"
)

// opTable knows of every operation of a document where it stands and what it
// made, so that later operations can be checked against it. Deletes and
// increments are not in it: no operation may refer to one.
//
// Operations are kept as spans. Text that was typed in one go is a span however
// long it is; a span takes 28 bytes. Changes of several spans, as a form makes one
// after the other, share theirs with those that are alike (ops_shapes.go).
type opTable struct {
	seed   maphash.Seed // of the keys' hashes, and the shapes'
	index  map[ActorID]uint32
	actors []actorOps
	shapes shapes
	upTo   int // so many of the graph's changes are in the table
}

// actorOps is what one actor did, by rising counter.
type actorOps struct {
	id      ActorID
	changes []changeOps
	spans   []span // of all changes without a shape
}

// changeOps says which change of the graph the operations from a counter on
// belong to.
type changeOps struct {
	counter uint32
	node    int32
	shape   shapeID
}

// opKey is an operation id; actor counts in opTable.actors. Counter 0 is the
// root object.
type opKey struct{ counter, actor uint32 }

// span is one operation, or several with consecutive counters that insert alike
// into the same object, each behind the one before.
type span struct {
	first  uint32
	n      uint32
	object opKey
	place  opKey // the element it is at or, the first of inserts, behind; or the hash of the key
	depth  uint16
	kind   opKind
}

// opKind is what later operations may do with an operation.
type opKind uint8

const (
	isInsert   opKind = 1 << iota
	isMap             // it made a map
	isSequence        // it made a list or text
	isCounter
	isMark
)

// kindOf returns what an operation leaves behind, recorded false if nothing.
func kindOf(op *Op) (kind opKind, recorded bool) {
	switch op.Action {
	case Delete, Increment:
		return 0, false
	case MakeMap:
		kind = isMap
	case MakeList, MakeText:
		kind = isSequence
	case Mark:
		kind = isMark
	case Put:
		if op.Value.Kind == KindCounter {
			kind = isCounter
		}
	}
	if op.Insert {
		kind |= isInsert
	}
	return kind, true
}

// holds says whether the operation with that counter is in the span.
func (s *span) holds(counter uint32) bool {
	return counter >= s.first && counter-s.first < s.n
}

// appendSpan appends next to spans, all of one actor, or makes the last of them
// longer.
func appendSpan(spans []span, next span, actor uint32) []span {
	if len(spans) > 0 && next.kind&isInsert != 0 {
		last := &spans[len(spans)-1]
		if last.first+last.n == next.first && next.place == (opKey{counter: next.first - 1, actor: actor}) &&
			last.kind == next.kind && last.object == next.object && last.depth == next.depth {
			last.n += next.n
			return spans
		}
	}
	return append(spans, next)
}

// findSpan returns the span that holds an operation, ok false if there is none.
func findSpan(spans []span, counter uint32) (s span, ok bool) {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].first > counter }) - 1
	if i < 0 || !spans[i].holds(counter) {
		return span{}, false
	}
	return spans[i], true
}

// find returns the span that holds an operation, ok false if there is none.
func (t *opTable) find(id opKey) (s span, ok bool) {
	if int(id.actor) >= len(t.actors) {
		return span{}, false
	}
	ops := &t.actors[id.actor]
	if c, begun := ops.changeOf(id.counter); begun && c.shape != noShape {
		s, ok = findSpan(t.shapes.list[c.shape], id.counter-c.counter)
		return s.at(opKey{c.counter, id.actor}), ok
	}
	return findSpan(ops.spans, id.counter)
}

// nodeOf returns the graph's index of the change that an operation in the table
// belongs to.
func (t *opTable) nodeOf(id opKey) int32 {
	c, _ := t.actors[id.actor].changeOf(id.counter)
	return c.node
}

// changeOf returns the change that an operation would belong to, ok false if it is
// earlier than all: of those that begin at or below its counter the last, for
// changes without operations begin where the next one does.
func (a *actorOps) changeOf(counter uint32) (c changeOps, ok bool) {
	i := sort.Search(len(a.changes), func(i int) bool { return a.changes[i].counter > counter }) - 1
	if i < 0 {
		return changeOps{}, false
	}
	return a.changes[i], true
}

// actor returns an actor's number, that of the next new actor if it has none.
func (t *opTable) actor(a ActorID) (i uint32, known bool) {
	if i, known = t.index[a]; known {
		return i, true
	}
	return uint32(len(t.actors)), false
}

// add appends a change's spans. It is the graph's change of index upTo.
func (t *opTable) add(a ActorID, startOp uint32, spans []span) {
	i, known := t.actor(a)
	if !known {
		if t.index == nil {
			t.index = make(map[ActorID]uint32)
		}
		a = ActorID(strings.Clone(string(a)))
		t.index[a] = i
		t.actors = append(t.actors, actorOps{id: a})
	}
	ops := &t.actors[i]
	c := changeOps{counter: startOp, node: int32(t.upTo), shape: t.shapes.of(t.hashSeed(), spans, opKey{startOp, i})}
	if c.shape == noShape {
		for _, s := range spans {
			ops.spans = appendSpan(ops.spans, s, i)
		}
	}
	ops.changes = append(ops.changes, c)
	t.upTo++
}

// keyPlace returns the place that stands for a map's key. That two keys of a
// document share one is as good as impossible: the seed is not known outside.
func (t *opTable) keyPlace(key string) opKey {
	h := maphash.String(t.hashSeed(), key)
	return opKey{counter: uint32(h >> 32), actor: uint32(h) >> 1} // never ownActor
}

func (t *opTable) hashSeed() maphash.Seed {
	if t.seed == (maphash.Seed{}) {
		t.seed = maphash.MakeSeed()
	}
	return t.seed
}
