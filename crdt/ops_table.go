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
// long it is; a span takes 28 bytes.
type opTable struct {
	seed   maphash.Seed // of the keys' hashes
	index  map[ActorID]uint32
	actors []actorOps
	upTo   int // so many of the graph's changes are in the table
}

// actorOps is what one actor did, by rising counter.
type actorOps struct {
	id      ActorID
	spans   []span
	changes []changeStart
}

// changeStart says which change of the graph the operations from a counter on
// belong to.
type changeStart struct {
	counter uint32
	node    int32
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

// findSpan returns the span that holds an operation, nil if there is none.
func findSpan(spans []span, counter uint32) *span {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].first > counter }) - 1
	if i < 0 || !spans[i].holds(counter) {
		return nil
	}
	return &spans[i]
}

// find returns the span that holds an operation, nil if there is none.
func (t *opTable) find(id opKey) *span {
	if int(id.actor) >= len(t.actors) {
		return nil
	}
	return findSpan(t.actors[id.actor].spans, id.counter)
}

// nodeOf returns the graph's index of the change that an operation in the
// table belongs to: of those that begin at or below its counter the last, for
// changes without operations begin where the next one does.
func (t *opTable) nodeOf(id opKey) int32 {
	changes := t.actors[id.actor].changes
	i := sort.Search(len(changes), func(i int) bool { return changes[i].counter > id.counter })
	return changes[i-1].node
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
	for _, s := range spans {
		ops.spans = appendSpan(ops.spans, s, i)
	}
	ops.changes = append(ops.changes, changeStart{counter: startOp, node: int32(t.upTo)})
	t.upTo++
}

// keyPlace returns the place that stands for a map's key. That two keys of a
// document share one is as good as impossible: the seed is not known outside.
func (t *opTable) keyPlace(key string) opKey {
	if t.seed == (maphash.Seed{}) {
		t.seed = maphash.MakeSeed()
	}
	h := maphash.String(t.seed, key)
	return opKey{counter: uint32(h >> 32), actor: uint32(h)}
}
