package crdt

import (
	"testing"

	"pgregory.net/rapid"
)

// TestShapes adds random changes, many of them alike, and finds every operation as
// it was added.
func TestShapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table opTable
		want := map[opKey]span{}
		next := uint32(1)
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			actor := uint32(rapid.IntRange(0, 2).Draw(t, "actor"))
			if known := uint32(len(table.actors)); actor > known {
				actor = known
			}
			start := opKey{next, actor}
			var spans []span
			for range rapid.IntRange(0, 6).Draw(t, "spans") {
				s := span{
					first: next, n: 1, kind: opKind(rapid.SampledFrom([]opKind{0, isMap, isSequence, isCounter}).Draw(t, "kind")),
					object: drawKey(t, start, next), place: drawKey(t, start, next), depth: uint16(rapid.IntRange(0, 2).Draw(t, "depth")),
				}
				if rapid.Bool().Draw(t, "key") {
					s.place = table.keyPlace(rapid.SampledFrom([]string{"by", "at", "value"}).Draw(t, "name"))
				}
				spans = append(spans, s)
				want[opKey{next, actor}] = s
				next += uint32(rapid.IntRange(1, 2).Draw(t, "step")) // a delete is not in the table
			}
			table.add(ActorID(rune('a'+actor)), start.counter, spans)
			next += uint32(rapid.IntRange(0, 1).Draw(t, "gap"))
		}
		for counter := range next + 2 {
			for actor := range uint32(len(table.actors) + 1) {
				id := opKey{counter, actor}
				s, found := table.find(id)
				if w, there := want[id]; found != there || s != w && there {
					t.Fatalf("operation %v is %+v, %t; it was added as %+v, %t", id, s, found, w, there)
				}
			}
		}
	})
}

// drawKey draws an operation of the change so far, or of an earlier one.
func drawKey(t *rapid.T, start opKey, next uint32) opKey {
	if next > start.counter && rapid.Bool().Draw(t, "own") {
		return opKey{uint32(rapid.IntRange(int(start.counter), int(next-1)).Draw(t, "counter")), start.actor}
	}
	return rapid.SampledFrom([]opKey{{}, {1, 0}, {1, 1}, {2, start.actor}}).Draw(t, "earlier")
}

// Changes that are alike are kept once, and those that are not only up to a number.
func TestShapesAreShared(t *testing.T) {
	alike := func(start, actor, key uint32) []span {
		object := opKey{start, actor}
		return []span{{first: start, n: 1, place: opKey{key, 1 << 20}}, {first: start + 1, n: 1, object: object}, {first: start + 2, n: 1, object: object}}
	}
	var table opTable
	for i := range uint32(100) {
		table.add("a", 10*i+1, alike(10*i+1, 0, 7))
	}
	if shared, own := len(table.shapes.list), len(table.actors[0].spans); shared != 1 || own != 0 {
		t.Errorf("100 changes that are alike have %d shapes and %d spans of their own", shared, own)
	}
	for i := range uint32(maxShapes + 10) {
		table.add("b", 3*i+1, alike(3*i+1, 1, 1000+i))
	}
	if shared, own := len(table.shapes.list), len(table.actors[1].spans); shared != maxShapes || own != 3*11 {
		t.Errorf("changes that are all different have %d shapes, and %d spans of their own", shared, own)
	}
}
