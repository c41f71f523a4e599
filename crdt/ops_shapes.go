package crdt

import (
	"hash/maphash"
	"math"
	"slices"
)

// shapes are the spans of changes that are alike but for where they begin: every
// pick for a field makes the same map with the same keys. A change that has one is
// kept as a number.
type shapes struct {
	list   [][]span // relative
	byHash map[uint64]shapeID
}

// shapeID counts in shapes.list.
type shapeID int32

const (
	noShape shapeID = -1
	// minShape is how many spans are worth sharing.
	minShape = 3
	// maxShapes bounds what is spent on changes that are all different.
	maxShapes = 1 << 14
)

// ownActor stands in a relative span for the change's actor, with counters that
// count from the change's first operation.
const ownActor = math.MaxUint32 - 1

// of returns the shape of a change that begins at start, noShape if its spans are to
// be kept as they are.
func (s *shapes) of(seed maphash.Seed, spans []span, start opKey) shapeID {
	if len(spans) < minShape {
		return noShape
	}
	var h maphash.Hash
	h.SetSeed(seed)
	for i := range spans {
		maphash.WriteComparable(&h, spans[i].relative(start))
	}
	sum := h.Sum64()
	if id, known := s.byHash[sum]; known {
		if slices.EqualFunc(s.list[id], spans, func(a, b span) bool { return a == b.relative(start) }) {
			return id
		}
		return noShape
	}
	if len(s.list) == maxShapes {
		return noShape
	}
	if s.byHash == nil {
		s.byHash = make(map[uint64]shapeID)
	}
	shape := make([]span, len(spans))
	for i := range spans {
		shape[i] = spans[i].relative(start)
	}
	id := shapeID(len(s.list))
	s.list, s.byHash[sum] = append(s.list, shape), id
	return id
}

// relative returns the span as one of a change that begins at start.
func (s span) relative(start opKey) span {
	s.first -= start.counter
	s.object = s.object.relative(start)
	s.place = s.place.relative(start)
	return s
}

// at is what relative was made of.
func (s span) at(start opKey) span {
	s.first += start.counter
	s.object = s.object.at(start)
	s.place = s.place.at(start)
	return s
}

// relative is exact for what is no operation too, the hash of a key: at makes the
// same of it again.
func (k opKey) relative(start opKey) opKey {
	if k.actor == start.actor && k.counter >= start.counter {
		return opKey{k.counter - start.counter, ownActor}
	}
	return k
}

func (k opKey) at(start opKey) opKey {
	if k.actor == ownActor {
		return opKey{k.counter + start.counter, start.actor}
	}
	return k
}
