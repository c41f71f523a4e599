package crdt_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"parley/crdt"
)

// naive is the document that changes make, worked out from their operations in
// the plainest way there is, by the rules of Automerge's documentation alone.
type naive struct {
	ops     []*naiveOp // by rising id
	byID    map[crdt.OpID]*naiveOp
	members map[crdt.OpID][]*naiveOp // operations on each object
}

type naiveOp struct {
	*crdt.Op
	id, object, elem crdt.OpID
	replaced         bool  // by a later operation
	added            int64 // to a counter
}

func newNaive(changes []*crdt.Change) *naive {
	n := &naive{byID: make(map[crdt.OpID]*naiveOp), members: make(map[crdt.OpID][]*naiveOp)}
	id := func(c *crdt.Change, r crdt.Ref) crdt.OpID {
		if r.IsZero() {
			return crdt.OpID{}
		}
		return c.ID(r)
	}
	for _, c := range changes {
		for i := range c.Ops {
			op := &c.Ops[i]
			o := &naiveOp{Op: op, id: c.ID(c.OpRef(i)), object: id(c, op.Object), elem: id(c, op.Elem)}
			n.ops, n.byID[o.id] = append(n.ops, o), o
			n.members[o.object] = append(n.members[o.object], o)
		}
	}
	for _, c := range changes {
		for i := range c.Ops {
			n.apply(c, &c.Ops[i])
		}
	}
	for _, ops := range n.members {
		slices.SortFunc(ops, func(a, b *naiveOp) int { return a.id.Compare(b.id) })
	}
	return n
}

// apply lets an operation act on its predecessors.
func (n *naive) apply(c *crdt.Change, op *crdt.Op) {
	for _, p := range op.Pred {
		pred := n.byID[c.ID(p)]
		if op.Action != crdt.Increment {
			pred.replaced = true
		} else if pred.Value.Kind == crdt.KindCounter {
			pred.added += op.Value.Int()
		}
	}
}

// json returns the document as crdt.Materialize writes it.
func (n *naive) json() string {
	out, err := json.Marshal(n.mapOf(crdt.OpID{}))
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// isValue says whether an operation is a value that is there now.
func (o *naiveOp) isValue() bool {
	return !o.replaced && o.Action != crdt.Delete && o.Action != crdt.Increment && o.Action != crdt.Mark
}

// mapOf is a map's content: of the values of a key that of the highest operation.
func (n *naive) mapOf(object crdt.OpID) map[string]any {
	m := make(map[string]any)
	for _, o := range n.members[object] {
		if o.isValue() {
			m[o.Key] = n.value(o)
		}
	}
	return m
}

// order returns the elements of a sequence, in order, by the operations that
// inserted them. What is inserted behind the same element stands there latest
// first, each with all that is behind it.
func (n *naive) order(object crdt.OpID) (elements []crdt.OpID) {
	behind := make(map[crdt.OpID][]crdt.OpID)
	for _, o := range n.members[object] {
		if o.Insert {
			behind[o.elem] = append(behind[o.elem], o.id)
		}
	}
	var walk func(after crdt.OpID)
	walk = func(after crdt.OpID) {
		for _, id := range slices.Backward(behind[after]) {
			elements = append(elements, id)
			walk(id)
		}
	}
	walk(crdt.OpID{})
	return elements
}

// elements returns the winners of a sequence's elements, in order.
func (n *naive) elements(object crdt.OpID) (winners []*naiveOp) {
	at := make(map[crdt.OpID]*naiveOp)
	for _, o := range n.members[object] {
		switch {
		case !o.isValue():
		case o.Insert:
			at[o.id] = o
		default:
			at[o.elem] = o
		}
	}
	for _, id := range n.order(object) {
		if w := at[id]; w != nil {
			winners = append(winners, w)
		}
	}
	return winners
}

func (n *naive) value(o *naiveOp) any {
	switch o.Action {
	case crdt.MakeMap:
		return n.mapOf(o.id)
	case crdt.MakeList:
		list := []any{}
		for _, w := range n.elements(o.id) {
			list = append(list, n.value(w))
		}
		return list
	case crdt.MakeText:
		var text strings.Builder
		for _, w := range n.elements(o.id) {
			if w.Action == crdt.Put && w.Value.Kind == crdt.KindText {
				text.WriteString(w.Value.Text())
			} else {
				text.WriteRune('\ufffc')
			}
		}
		return text.String()
	}
	return scalar(o.Value, o.added)
}

func scalar(v crdt.Value, added int64) any {
	switch v.Kind {
	case crdt.KindTrue, crdt.KindFalse:
		return v.Kind == crdt.KindTrue
	case crdt.KindUint:
		return v.Uint()
	case crdt.KindInt:
		return v.Int()
	case crdt.KindFloat:
		switch f := v.Float(); {
		case math.IsNaN(f):
			return "NaN"
		case math.IsInf(f, 1):
			return "Infinity"
		case math.IsInf(f, -1):
			return "-Infinity"
		default:
			return f
		}
	case crdt.KindText:
		return v.Text()
	case crdt.KindBytes:
		return []byte(v.Raw())
	case crdt.KindCounter:
		return v.Int() + added
	case crdt.KindTimestamp:
		t := time.UnixMilli(v.Int()).UTC()
		if y := t.Year(); y < 0 || y > 9999 {
			return v.Int()
		}
		return t.Format("2006-01-02T15:04:05.000Z")
	}
	return nil
}
