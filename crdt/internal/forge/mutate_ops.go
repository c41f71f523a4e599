package forge

import (
	"bytes"
	"slices"
)

// meaning changes what a change means.
func (m *Mutator) meaning(c *Change, p *pool) {
	rng := m.rng
	if len(c.Ops) == 0 || rng.IntN(8) == 0 {
		m.header(c, p)
		return
	}
	i := rng.IntN(len(c.Ops))
	o := &c.Ops[i]
	switch rng.IntN(16) {
	case 0:
		o.Object = pick(rng, p.objects)
	case 1:
		o.Object = pick(rng, p.ids)
	case 2:
		o.Key = ptr(pick(rng, randomKeys))
		o.Elem = ID{}
	case 3:
		o.Key, o.Elem = nil, pick(rng, p.ids)
	case 4:
		o.Elem = ID{}
	case 5:
		o.Insert = !o.Insert
	case 6:
		o.Action = rng.Uint64N(9)
	case 7:
		o.Value = randomValue(rng)
	case 8:
		o.Value = Value{byte(rng.IntN(16)), o.Value.Raw}
	case 9:
		m.pred(o, p)
	case 10:
		o.Expand = !o.Expand
	case 11:
		o.Mark = nil
		if rng.IntN(2) == 0 {
			o.Mark = ptr("bold")
		}
	case 12:
		c.Ops = slices.Delete(c.Ops, i, i+1)
	case 13:
		c.Ops = slices.Insert(c.Ops, i, pick(rng, p.ops))
	case 14:
		j := rng.IntN(len(c.Ops))
		c.Ops[i], c.Ops[j] = c.Ops[j], c.Ops[i]
	default:
		c.Ops = append(c.Ops, m.plausible(p))
	}
}

// pred changes what an operation replaces.
func (m *Mutator) pred(o *Op, p *pool) {
	rng := m.rng
	switch n := len(o.Pred); rng.IntN(6) {
	case 0:
		o.Pred = nil
	case 1:
		o.Pred = append(o.Pred, pick(rng, p.ids))
	case 2:
		slices.Reverse(o.Pred)
	case 3:
		if n > 0 {
			o.Pred = append(o.Pred, o.Pred[rng.IntN(n)])
		}
	default:
		o.Pred = m.someOf(p.slots[o.slot(ID{})])
	}
}

// someOf is a sorted choice of ids.
func (m *Mutator) someOf(ids []ID) []ID {
	var out []ID
	for _, id := range ids {
		if m.rng.IntN(2) == 0 {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, ID.compare)
	return out
}

// plausible is an operation on a slot that was used before, with any of the
// operations ever made there as its preds.
func (m *Mutator) plausible(p *pool) Op {
	s := pick(m.rng, p.names)
	o := Op{Object: s.object, Elem: s.elem, Value: randomValue(m.rng), Action: ActionPut, Pred: m.someOf(p.slots[s])}
	if s.elem.IsZero() {
		o.Key = ptr(s.key)
	}
	switch m.rng.IntN(6) {
	case 0:
		o.Action, o.Value = ActionDelete, Value{}
	case 1:
		o.Action, o.Value = ActionIncrement, Int(m.rng.Int64N(100))
	case 2:
		o.Action, o.Value = pick(m.rng, []uint64{ActionMakeMap, ActionMakeList, ActionMakeText, ActionMakeTable}), Value{}
	case 3:
		if o.Key == nil {
			o.Insert, o.Pred = true, nil
		}
	}
	return o
}

// header changes a change's fields, each to something a change could have.
func (m *Mutator) header(c *Change, p *pool) {
	rng := m.rng
	switch rng.IntN(10) {
	case 0:
		c.Seq += rng.Uint64N(5) - 2
	case 1:
		c.StartOp += pick(rng, []uint64{rng.Uint64N(9) - 4, rng.Uint64N(1_000_000)})
	case 2:
		c.Time = pick(rng, []int64{rng.Int64() - rng.Int64(), rng.Int64N(1<<54) - 1<<53, -1<<53 + 1, 1<<53 - 1})
	case 3:
		c.Message = pick(rng, []string{"", "other", "\xff", "😀"})
	case 4:
		c.Extra = pick(rng, [][]byte{nil, {0}, {1, 2, 3, 4}, bytes.Repeat([]byte{7}, 300)})
	case 5:
		c.Deps = nil
	case 6:
		if len(p.hashes) > 0 {
			c.Deps = append(c.Deps, pick(rng, p.hashes))
		}
		slices.SortFunc(c.Deps, compareHashes)
	case 7:
		if n := len(c.Deps); n > 0 {
			c.Deps = slices.Delete(c.Deps, n-1, n)
		}
	case 8:
		slices.Reverse(c.Deps)
	default:
		c.Actor = pick(rng, p.actors)
	}
}
