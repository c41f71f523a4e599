package crdt

import (
	"encoding/binary"
	"math"
	"testing"

	"parley/crdt/internal/columnar"
)

const (
	alice ActorID = "\x0a\x0a"
	bob   ActorID = "\x0b\x0b"
	carol ActorID = "\x0c\x0c"
)

// Operations of the first fixture, made by alice.
const (
	opMap = 1 + iota
	opList
	opText
	opScalar
	opCounter
	opElem
	opChar1
	opChar2
	opOther  // "o" in the map
	firstOps = opOther
)

// own refers to an operation of the change's own actor, his to one of the
// first other actor.
func own(counter uint32) Ref { return Ref{Counter: counter} }
func his(counter uint32) Ref { return Ref{Counter: counter, Actor: 1} }

func intValue(v int64) Value   { return Value{Kind: KindInt, raw: string(columnar.AppendInt(nil, v))} }
func textValue(s string) Value { return Value{Kind: KindText, raw: s} }

func floatValue(v float64) Value {
	return Value{Kind: KindFloat, raw: string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))}
}

// firstChange makes an object of each type, and something in each.
func firstChange() *Change {
	return &Change{Actor: alice, Actors: []ActorID{alice}, Seq: 1, StartOp: 1, Time: -1, Message: "begin", Ops: []Op{
		{Action: MakeMap, Keyed: true, Key: "map"},
		{Action: MakeList, Keyed: true, Key: "list"},
		{Action: MakeText, Keyed: true, Key: "text"},
		{Action: Put, Keyed: true, Key: "key", Value: intValue(-300)},
		{Action: Put, Keyed: true, Key: "counter", Value: Value{Kind: KindCounter, raw: "\x05"}},
		{Action: Put, Insert: true, Object: own(opList), Value: floatValue(1.5)},
		{Action: Put, Insert: true, Object: own(opText), Value: textValue("x")},
		{Action: Put, Insert: true, Object: own(opText), Elem: own(opChar1), Value: textValue("y")},
		{Action: Put, Keyed: true, Object: own(opMap), Key: "o", Value: Value{Kind: KindTrue}},
	}}
}

// Operations of the second fixture, by position.
const (
	atPut = iota
	atIncrement
	atDelete
	atMarkBegin
	atMarkEnd
	atInner
	atUpdate
	secondOps
)

// secondChange is bob's, on all that the first one made.
func secondChange(first *Change) *Change {
	return &Change{Actor: bob, Actors: []ActorID{bob, alice}, Seq: 1, StartOp: firstOps + 1, Deps: []Hash{first.Hash}, Ops: []Op{
		atPut:       {Action: Put, Keyed: true, Key: "key", Value: textValue("日本"), Pred: []Ref{his(opScalar)}},
		atIncrement: {Action: Increment, Keyed: true, Key: "counter", Value: intValue(7), Pred: []Ref{his(opCounter)}},
		atDelete:    {Action: Delete, Object: his(opText), Elem: his(opChar1), Pred: []Ref{his(opChar1)}},
		atMarkBegin: {Action: Mark, Insert: true, MarkBegin: true, MarkName: "bold", Expand: true, Object: his(opText), Value: Value{Kind: KindTrue}},
		atMarkEnd:   {Action: Mark, Insert: true, Object: his(opText), Elem: his(opChar2)},
		atInner:     {Action: MakeMap, Keyed: true, Object: his(opMap), Key: "inner"},
		atUpdate:    {Action: Put, Object: his(opList), Elem: his(opElem), Value: Value{Kind: KindBytes, raw: "\xff"}, Pred: []Ref{his(opElem)}},
	}}
}

// decoded encodes a change and decodes it again: it must pass.
func decoded(t testing.TB, c *Change) *Change {
	t.Helper()
	return newDraft(c).decode(t)
}

// fixtures returns both changes, decoded.
func fixtures(t testing.TB) (first, second *Change) {
	t.Helper()
	first = decoded(t, firstChange())
	return first, decoded(t, secondChange(first))
}

// fixtureDocument returns a document that has both, and them.
func fixtureDocument(t testing.TB, lim Limits) (d *Document, first, second *Change) {
	t.Helper()
	first, second = fixtures(t)
	d = NewDocument(lim)
	mustAdd(t, d, first)
	mustAdd(t, d, second)
	return d, first, second
}

func mustAdd(t testing.TB, d *Document, c *Change) {
	t.Helper()
	if o := d.Add(c); o.Status != Accepted {
		t.Fatalf("status %d: %v, missing %v", o.Status, o.Refusal, o.Missing)
	}
}
