package crdt

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Operations of carol's change, which is concurrent with bob's.
const (
	carolMap = firstOps + 1 + iota
	carolElem
	carolKey
)

func carolsChange(first *Change) *Change {
	return &Change{Actor: carol, Actors: []ActorID{carol, alice}, Seq: 1, StartOp: firstOps + 1, Deps: []Hash{first.Hash}, Ops: []Op{
		{Action: MakeMap, Keyed: true, Key: "hers"},
		{Action: Put, Insert: true, Object: his(opList)},
		{Action: Put, Keyed: true, Key: "key", Pred: []Ref{his(opScalar)}},
	}}
}

// Bob's operations, by counter.
const (
	bobPut = firstOps + 1 + iota
	bobIncrement
	bobDelete
	bobMark
)

// nextChange is bob's second, of one operation, after his first. It refers to
// its own actor as 0, to alice as 1 if op refers to her, to carol as the last.
func nextChange(second *Change, op Op, others ...ActorID) *Change {
	return &Change{
		Actor: bob, Actors: append([]ActorID{bob}, others...), Seq: 2, StartOp: 100,
		Deps: []Hash{second.Hash}, Ops: []Op{op},
	}
}

// hostileSequence is a change that must be refused after the fixtures.
type hostileSequence struct {
	name string
	code Code
	lim  Limits
	make func(first, second *Change) *Change
}

// nextOp makes a hostileSequence of one operation that may refer to the other
// actors.
func nextOp(op Op, others ...ActorID) func(_, second *Change) *Change {
	return func(_, second *Change) *Change { return nextChange(second, op, others...) }
}

// nextBent makes a hostileSequence of a change that is otherwise sound.
func nextBent(bend func(c, first *Change)) func(first, second *Change) *Change {
	return func(first, second *Change) *Change {
		c := nextChange(second, Op{Action: Put, Keyed: true, Key: "new"})
		bend(c, first)
		return c
	}
}

var hostileSequences = []hostileSequence{
	{"a gap", CodeSequence, Limits{}, nextBent(func(c, _ *Change) { c.Seq = 3 })},
	{"a number used before", CodeSequence, Limits{}, nextBent(func(c, _ *Change) { c.Seq = 1 })},
	{"a first change of number 3", CodeSequence, Limits{}, nextBent(func(c, _ *Change) {
		c.Actor, c.Actors, c.Seq = "new", []ActorID{"new"}, 3
	})},
	{"not after the actor's own", CodeSequence, Limits{}, nextBent(func(c, first *Change) { c.Deps = []Hash{first.Hash} })},
	{"counters used before", CodeStartOp, Limits{}, nextBent(func(c, _ *Change) { c.StartOp = firstOps + secondOps })},
	{"no operations after a gap", CodeStartOp, Limits{}, nextBent(func(c, _ *Change) { c.Ops = nil })},
	{"counters far ahead", CodeStartOp, Limits{}, nextBent(func(c, _ *Change) { c.StartOp = 1 << 31 })},

	{"an unknown object", CodeUnknownObject, Limits{}, nextOp(Op{Action: Put, Keyed: true, Object: his(99)}, alice)},
	{"an unknown actor's object", CodeUnknownObject, Limits{}, nextOp(Op{Action: Put, Keyed: true, Object: his(1)}, "who")},
	{"no object", CodeUnknownObject, Limits{}, nextOp(Op{Action: Put, Keyed: true, Object: his(opScalar)}, alice)},
	{"an object not in its past", CodeUnknownObject, Limits{}, nextOp(Op{Action: Put, Keyed: true, Object: his(carolMap)}, carol)},
	{"a key in a list", CodeObjectType, Limits{}, nextOp(Op{Action: Put, Keyed: true, Object: his(opList)}, alice)},
	{"a key in a text", CodeObjectType, Limits{}, nextOp(Op{Action: Put, Keyed: true, Object: his(opText)}, alice)},
	{"an element in a map", CodeObjectType, Limits{}, nextOp(Op{Action: Put, Insert: true, Object: his(opMap)}, alice)},
	{"an element in an inner map", CodeObjectType, Limits{}, nextOp(Op{Action: Put, Insert: true, Object: own(firstOps + 1 + atInner)})},

	{"an unknown element", CodeUnknownElement, Limits{}, nextOp(Op{Action: Put, Insert: true, Object: his(opList), Elem: his(98)}, alice)},
	{"another object's element", CodeUnknownElement, Limits{}, nextOp(Op{Action: Put, Insert: true, Object: his(opList), Elem: his(opChar1)}, alice)},
	{"a key as an element", CodeUnknownElement, Limits{}, nextOp(Op{Action: Put, Insert: true, Object: his(opList), Elem: his(opScalar)}, alice)},
	{"an update as an element", CodeUnknownElement, Limits{}, nextOp(Op{Action: Put, Insert: true, Object: his(opList), Elem: own(firstOps + 1 + atUpdate)}, alice)},
	{"an element not in its past", CodeUnknownElement, Limits{}, nextOp(Op{
		Action: Delete, Object: his(opList), Elem: Ref{Counter: carolElem, Actor: 2}, Pred: []Ref{{Counter: carolElem, Actor: 2}},
	}, alice, carol)},

	{"an unknown pred", CodeUnknownPred, Limits{}, nextOp(Op{Action: Put, Keyed: true, Key: "key", Pred: []Ref{his(97)}}, alice)},
	{"a pred of another key", CodeUnknownPred, Limits{}, nextOp(Op{Action: Put, Keyed: true, Key: "other", Pred: []Ref{own(bobPut)}})},
	{"a pred of another object", CodeUnknownPred, Limits{}, nextOp(Op{Action: Put, Keyed: true, Key: "o", Pred: []Ref{his(opOther)}}, alice)},
	{"a pred of another element", CodeUnknownPred, Limits{}, nextOp(Op{Action: Delete, Object: his(opText), Elem: his(opChar1), Pred: []Ref{his(opChar2)}}, alice)},
	{"a delete as a pred", CodeUnknownPred, Limits{}, nextOp(Op{Action: Delete, Object: his(opText), Elem: his(opChar1), Pred: []Ref{own(bobDelete)}}, alice)},
	{"an increment as a pred", CodeUnknownPred, Limits{}, nextOp(Op{Action: Put, Keyed: true, Key: "counter", Pred: []Ref{own(bobIncrement)}})},
	{"a mark as a pred", CodeUnknownPred, Limits{}, nextOp(Op{Action: Delete, Object: his(opText), Elem: own(bobMark), Pred: []Ref{own(bobMark)}}, alice)},
	{"a pred not in its past", CodeUnknownPred, Limits{}, nextOp(Op{Action: Put, Keyed: true, Key: "key", Pred: []Ref{his(carolKey)}}, carol)},
	{"an increment of no counter", CodeIncrement, Limits{}, nextOp(Op{Action: Increment, Keyed: true, Key: "key", Value: intValue(1), Pred: []Ref{own(bobPut)}})},

	{"an object too deep", CodeDepth, Limits{Depth: 2}, nextOp(Op{Action: MakeMap, Keyed: true, Object: own(firstOps + 1 + atInner)})},
	{"too many bytes", CodeDocumentSize, Limits{DocumentBytes: 600}, nextBent(func(c, _ *Change) { c.Message = strings.Repeat("m", 600) })},
	{"too many operations", CodeDocumentSize, Limits{DocumentOps: firstOps + secondOps + 3}, nextBent(func(*Change, *Change) {})},
	{"one head too many", CodeTooManyHeads, Limits{Heads: 2}, nextBent(func(c, first *Change) {
		c.Actor, c.Actors, c.Seq, c.Deps = "new", []ActorID{"new"}, 1, []Hash{first.Hash}
	})},
}

func TestAddRefuses(t *testing.T) {
	for _, h := range hostileSequences {
		d, first, second := fixtureDocument(t, h.lim)
		mustAdd(t, d, decoded(t, carolsChange(first)))
		tips, bytes, ops := d.Graph.Tips(), d.Bytes(), d.NumOps()
		for range 2 {
			c := decoded(t, h.make(first, second))
			o := d.Add(c)
			if o.Status != Refused || o.Refusal.Code != h.code || o.Refusal.Change != c.Hash {
				t.Errorf("%s: status %d, %v; want %s", h.name, o.Status, o.Refusal, h.code)
			}
			d.DropTables() // and again, with the tables built anew
		}
		if !slices.Equal(d.Graph.Tips(), tips) || d.Bytes() != bytes || d.NumOps() != ops {
			t.Errorf("%s: the refused change left something behind", h.name)
		}
	}
}

// TestAddTakes holds what looks like the hostile sequences and is sound.
func TestAddTakes(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(first, second *Change) *Change
	}{
		{"a new key", nextBent(func(*Change, *Change) {})},
		{"counters that leap", nextBent(func(c, _ *Change) { c.StartOp = 1_000_000 })},
		{"no operations", nextBent(func(c, _ *Change) { c.Ops, c.StartOp = nil, firstOps+secondOps+1 })},
		{"a new actor", nextBent(func(c, _ *Change) { c.Actor, c.Actors, c.Seq, c.Deps = "new", []ActorID{"new"}, 1, nil })},
		{"a key of an inner map", nextOp(Op{Action: Put, Keyed: true, Object: own(firstOps + 1 + atInner)})},
		{"after a mark", nextOp(Op{Action: Put, Insert: true, Object: his(opText), Elem: own(bobMark)}, alice)},
		{"after a deleted element", nextOp(Op{Action: Put, Insert: true, Object: his(opText), Elem: his(opChar1)}, alice)},
		{"after an element that changeAt saw", nextOp(Op{
			Action: Put, Insert: true, Object: his(opList), Elem: Ref{Counter: carolElem, Actor: 2},
		}, alice, carol)},
		{"an increment of a counter", nextOp(Op{Action: Increment, Keyed: true, Key: "counter", Value: intValue(1), Pred: []Ref{his(opCounter)}}, alice)},
		{"an update of an update", nextOp(Op{
			Action: Delete, Object: his(opList), Elem: his(opElem), Pred: []Ref{own(firstOps + 1 + atUpdate)},
		}, alice)},
	} {
		d, first, second := fixtureDocument(t, Limits{})
		mustAdd(t, d, decoded(t, carolsChange(first)))
		c := decoded(t, tt.make(first, second))
		if o := d.Add(c); o.Status != Accepted {
			t.Errorf("%s: status %d, %v", tt.name, o.Status, o.Refusal)
		}
		if o := d.Add(c); o.Status != Known {
			t.Errorf("%s again: status %d", tt.name, o.Status)
		}
		checkEngine(t, d)
	}
}

func TestAddHolds(t *testing.T) {
	first, second := fixtures(t)
	d := NewDocument(Limits{})
	o := d.Add(second)
	if o.Status != Held || !slices.Equal(o.Missing, []Hash{first.Hash}) {
		t.Fatalf("without its dependency: %+v", o)
	}
	mustAdd(t, d, first)
	mustAdd(t, d, second)
	if d.Graph.Durable() != 0 {
		t.Error("an added change is durable at once")
	}
}

func TestLoad(t *testing.T) {
	d, first, second := fixtureDocument(t, Limits{})
	loaded := NewDocument(Limits{})
	if err := loaded.Load(first.Chunk(), second.Chunk()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(loaded.Graph.Heads(), d.Graph.Tips()) || loaded.Bytes() != d.Bytes() || loaded.NumOps() != d.NumOps() {
		t.Error("the loaded document is not the one stored")
	}
	mustAdd(t, loaded, decoded(t, nextChange(second, Op{Action: Put, Keyed: true, Object: own(firstOps + 1 + atInner)})))
	for _, chunks := range [][][]byte{
		{second.Chunk()},
		{first.Chunk(), first.Chunk()},
		{first.Chunk()[:30]},
	} {
		if err := NewDocument(Limits{}).Load(chunks...); err == nil {
			t.Errorf("%d damaged chunks were loaded", len(chunks))
		}
	}
}

// TestTablesBehind checks that changes which refer to nothing build no tables,
// and that a later one finds what they made.
func TestTablesBehind(t *testing.T) {
	first, second := fixtures(t)
	d := NewDocument(Limits{})
	if err := d.Load(first.Chunk()); err != nil {
		t.Fatal(err)
	}
	free := decoded(t, &Change{Actor: carol, Actors: []ActorID{carol}, Seq: 1, StartOp: 50, Deps: []Hash{first.Hash}, Ops: []Op{
		{Action: MakeList, Keyed: true, Key: "free"},
		{Action: Put, Insert: true, Object: own(50)},
	}})
	mustAdd(t, d, free)
	if d.table.upTo != 0 {
		t.Errorf("a change without references built tables of %d changes", d.table.upTo)
	}
	mustAdd(t, d, second)
	mustAdd(t, d, decoded(t, &Change{Actor: carol, Actors: []ActorID{carol}, Seq: 2, StartOp: 60, Deps: []Hash{free.Hash}, Ops: []Op{
		{Action: Put, Insert: true, Object: own(50), Elem: own(51)},
	}}))
	if d.table.upTo != d.Graph.Len() {
		t.Errorf("tables of %d changes, of %d", d.table.upTo, d.Graph.Len())
	}
}

// TestPastOfEmptyChange checks that an operation is not taken for one of the
// change without operations before it, which begins at the same counter.
func TestPastOfEmptyChange(t *testing.T) {
	const next = firstOps + 1
	d, first, _ := fixtureDocument(t, Limits{})
	empty := decoded(t, &Change{Actor: carol, Actors: []ActorID{carol}, Seq: 1, StartOp: next, Deps: []Hash{first.Hash}})
	mustAdd(t, d, empty)
	mustAdd(t, d, decoded(t, &Change{
		Actor: carol, Actors: []ActorID{carol}, Seq: 2, StartOp: next, Deps: []Hash{empty.Hash},
		Ops: []Op{{Action: MakeMap, Keyed: true, Key: "hers"}},
	}))
	c := decoded(t, &Change{
		Actor: "new", Actors: []ActorID{"new", carol}, Seq: 1, StartOp: 60, Deps: []Hash{empty.Hash},
		Ops: []Op{{Action: Put, Keyed: true, Object: his(next)}},
	})
	if o := d.Add(c); o.Status != Refused || o.Refusal.Code != CodeUnknownObject {
		t.Errorf("on an object made after its past: status %d, %v", o.Status, o.Refusal)
	}
}

// TestTypedTextIsOneSpan holds the memory that typing costs.
func TestTypedTextIsOneSpan(t *testing.T) {
	d := NewDocument(Limits{})
	c := decoded(t, &Change{Actor: alice, Actors: []ActorID{alice}, Seq: 1, StartOp: 1, Ops: []Op{{Action: MakeText, Keyed: true}}})
	mustAdd(t, d, c)
	for i := range uint32(100) {
		op := Op{Action: Put, Insert: true, Object: own(1), Value: textValue("x")}
		if i > 0 {
			op.Elem = own(1 + i)
		}
		c = decoded(t, &Change{
			Actor: alice, Actors: []ActorID{alice}, Seq: uint64(i) + 2, StartOp: uint64(i) + 2, Deps: []Hash{c.Hash}, Ops: []Op{op},
		})
		mustAdd(t, d, c)
	}
	if n := len(d.table.actors[0].spans); n != 2 {
		t.Errorf("%d spans, want that of the text and one of its characters", n)
	}
}

// TestPast compares pasts with what a plain search finds, in random graphs.
func TestPast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Graph
		var s pasts
		var ancestors []map[int32]bool
		for i := range rapid.IntRange(1, 40).Draw(t, "changes") {
			deps := drawDeps(t, i)
			set := map[int32]bool{}
			var hashes []Hash
			for _, dep := range deps {
				hashes = append(hashes, Hash{byte(dep)})
				set[dep] = true
				for a := range ancestors[dep] {
					set[a] = true
				}
			}
			p := s.of(&g, SortHashes(hashes))
			for j := range int32(i) {
				if p.contains(j) != set[j] {
					t.Fatalf("change %d on %v: contains(%d) is %t", i, deps, j, p.contains(j))
				}
			}
			if p.contains(int32(i)) {
				t.Fatalf("change %d is in its own past", i)
			}
			g.Append(Node{Hash: Hash{byte(i)}, Deps: hashes, Actor: ActorID(fmt.Sprint(i)), Seq: 1})
			s.accepted(&g, p)
			ancestors = append(ancestors, set)
		}
	})
}

// drawDeps draws the dependencies of change i, often the one before.
func drawDeps(t *rapid.T, i int) []int32 {
	if i == 0 {
		return nil
	}
	if rapid.Bool().Draw(t, "last") {
		return []int32{int32(i - 1)}
	}
	return rapid.SliceOfNDistinct(rapid.Int32Range(0, int32(i-1)), 0, min(i, 3), rapid.ID).Draw(t, "deps")
}
