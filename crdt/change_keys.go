package crdt

import (
	"fmt"
	"slices"
)

func orderOf(i int) string { return fmt.Sprintf(" (operation %d of the change)", i) }

// slot is a place that holds a value: a key of a map, or an element of a list
// or text.
type slot struct {
	object, elem Ref
	key          string
}

// fewOps is the number of operations up to which comparing each with those
// before it costs less than a map.
const fewOps = 32

// maxSlotOps is how many operations of one change may be on one place. For each
// the engine walks over all that were there before: 20,000 fit into 80 bytes and
// take it seconds, 1,000 take it milliseconds. A transaction of an honest
// client holds few, whatever its size.
const maxSlotOps = 1000

// checkKeys checks that no two operations of a change set one place without
// the later one replacing the earlier. Automerge makes no such change: what it
// has just written it sees. Without this rule a change of 50 bytes can hold
// thousands of values for one key, which keep the engine busy for minutes.
func checkKeys(c *Change) *Refusal {
	live := liveOps{c: c}
	if len(c.Ops) > fewOps {
		live.last = make(map[slot]int)
		live.count = make(map[slot]int)
	}
	for i := range c.Ops {
		op := &c.Ops[i]
		if op.Insert {
			continue
		}
		at := slot{object: op.Object, elem: op.Elem, key: op.Key}
		if j := live.find(at, i); j >= 0 && !slices.Contains(op.Pred, c.OpRef(j)) {
			return newRefusal(CodeDuplicateKey, "operations %d and %d of the change", j, i)
		}
		if live.count != nil {
			if live.count[at]++; live.count[at] > maxSlotOps {
				return newRefusal(CodeTooManyOps, "more than %d on one key or element", maxSlotOps)
			}
		}
		if live.last != nil && op.Action != Increment {
			live.last[at] = i
		}
	}
	return nil
}

// liveOps finds what the operations of a change have written to a place.
type liveOps struct {
	c     *Change
	last  map[slot]int // nil for few operations: then they are compared
	count map[slot]int // operations at each place; nil for few
}

// find returns the operation before i whose value is at a place, -1 if it was
// not written, or was deleted, in this change.
func (l *liveOps) find(at slot, i int) int {
	j := l.lastWrite(at, i)
	if j < 0 && at.elem.Actor == 0 && uint64(at.elem.Counter) >= l.c.StartOp {
		return int(uint64(at.elem.Counter) - l.c.StartOp) // as it was inserted
	}
	if j >= 0 && l.c.Ops[j].Action == Delete {
		return -1
	}
	return j
}

func (l *liveOps) lastWrite(at slot, i int) int {
	if l.last != nil {
		if j, ok := l.last[at]; ok {
			return j
		}
		return -1
	}
	for j := i - 1; j >= 0; j-- {
		op := &l.c.Ops[j]
		if !op.Insert && op.Action != Increment && op.Elem == at.elem && op.Object == at.object && op.Key == at.key {
			return j
		}
	}
	return -1
}
