package forge

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
)

// A Mutator makes wrong changes of honest ones, at random. It works on what a
// change means (rows), on the runs of its columns, on its fields, and on bytes,
// and repairs length, checksum and the deps of later changes; so what it makes
// gets past everything but the rule that it breaks, and often breaks none.
// The same seed makes the same mutants.
type Mutator struct{ rng *rand.Rand }

// NewMutator starts from a seed.
func NewMutator(seed uint64) *Mutator { return &Mutator{rand.New(rand.NewPCG(seed, 0xf0e9e))} }

// History makes an honest history and mutates up to three of its changes; the
// chunks are in the history's order. Changes that depended on a mutated change
// depend on the mutant.
func (m *Mutator) History() [][]byte {
	history, hashes := hashedHistory(m.rng, 2+m.rng.IntN(6), 2+m.rng.IntN(8))
	wrong := map[int]bool{}
	for range 1 + m.rng.IntN(3) {
		wrong[m.rng.IntN(len(history))] = true
	}
	renamed := map[Hash]Hash{}
	chunks := make([][]byte, len(history))
	for i, c := range history {
		follows := false
		for j, d := range c.Deps {
			if h, ok := renamed[d]; ok {
				c.Deps[j], follows = h, true
			}
		}
		slices.SortFunc(c.Deps, compareHashes)
		if wrong[i] {
			chunks[i] = m.Change(c, history[:i])
		} else {
			chunks[i] = c.Chunk()
		}
		if wrong[i] || follows {
			if l, err := Dissect(chunks[i]); err == nil {
				renamed[hashes[i]] = l.Hash()
			}
		}
	}
	return chunks
}

// Batch makes an honest history and n mutants of its last change: the setup is
// the history without it.
func (m *Mutator) Batch(n int) (setup, mutants [][]byte) {
	changes, ops := 2+m.rng.IntN(6), 2+m.rng.IntN(8)
	if m.rng.IntN(8) == 0 {
		changes, ops = changes*3, ops*4
	}
	return m.BatchOf(History(m.rng, changes, ops), n)
}

// BatchOf is [Mutator.Batch] with a given honest history.
func (m *Mutator) BatchOf(history []*Change, n int) (setup, mutants [][]byte) {
	last := len(history) - 1
	for _, c := range history[:last] {
		setup = append(setup, c.Chunk())
	}
	p := newPool(history[last], history[:last])
	for range n {
		mutants = append(mutants, m.mutate(history[last], p))
	}
	return setup, mutants
}

func compareHashes(a, b Hash) int { return bytes.Compare(a[:], b[:]) }

// Chunk mutates one encoded change that nothing is known about; bytes that are
// not an honest change are mutated as bytes.
func (m *Mutator) Chunk(chunk []byte) []byte {
	if c, err := Parse(chunk); err == nil {
		return m.Change(c, nil)
	}
	return m.bytes(bytes.Clone(chunk))
}

// Change mutates c, which comes after the changes of history, and encodes it.
func (m *Mutator) Change(c *Change, history []*Change) []byte {
	return m.mutate(c, newPool(c, history))
}

func (m *Mutator) mutate(c *Change, p *pool) []byte {
	wrong := *c
	wrong.Ops = cloneOps(c.Ops)
	wrong.Deps = slices.Clone(c.Deps)
	level := m.rng.IntN(20)
	if level < 14 {
		for range 1 + m.rng.IntN(3) {
			m.meaning(&wrong, p)
		}
	}
	l := wrong.Layout()
	switch {
	case level < 12: // encoded as it should be
	case level < 17:
		for range 1 + m.rng.IntN(2) {
			m.column(l)
		}
	case level < 19:
		m.field(l)
	default:
		body := m.bytes(l.Body())
		return Frame(TypeChange, body)
	}
	if m.rng.IntN(50) == 0 {
		l.Type = TypeDeflated
	}
	return l.Chunk()
}

func cloneOps(ops []Op) []Op {
	out := slices.Clone(ops)
	for i := range out {
		out[i].Pred = slices.Clone(out[i].Pred)
	}
	return out
}

// A pool is what a mutation can refer to.
type pool struct {
	ids     []ID          // of all operations
	objects []ID          // made by them
	slots   map[slot][]ID // operations by where they put their value
	names   []slot        // the keys of slots, in order of first use
	ops     []Op
	hashes  []Hash
	actors  []string
}

func newPool(c *Change, history []*Change) *pool {
	p := &pool{slots: map[slot][]ID{}, actors: []string{carol}}
	for _, h := range append(slices.Clone(history), c) {
		if h != c {
			p.hashes = append(p.hashes, h.Hash())
		}
		p.actors = append(p.actors, h.Actor)
		for i, o := range h.Ops {
			id := h.OpID(i)
			s := o.slot(id)
			if p.slots[s] == nil {
				p.names = append(p.names, s)
			}
			p.slots[s] = append(p.slots[s], id)
			p.ids = append(p.ids, id)
			p.ops = append(p.ops, o)
			if o.Action == ActionMakeMap || o.Action == ActionMakeList || o.Action == ActionMakeText {
				p.objects = append(p.objects, id)
			}
		}
	}
	p.ids = append(p.ids, ID{}, ID{1, carol}, ID{c.StartOp + 1000, c.Actor})
	p.objects = append(p.objects, ID{})
	return p
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

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

// interesting are numbers at the edges of what decoders hold.
var interesting = []int64{
	0, 1, -1, 2, 3, 7, 8, 63, 64, -64, 127, 128, 255, 256, 20_000, 100_000,
	math.MaxInt32, math.MinInt32, math.MaxUint32, 1 << 32, 1 << 40, math.MaxInt64, math.MinInt64,
}

// column changes one column's runs.
func (m *Mutator) column(l *Layout) {
	if len(l.Columns) == 0 {
		l.SetColumn(pick(m.rng, columnOrder), []byte{1, 1})
		return
	}
	rng := m.rng
	i := rng.IntN(len(l.Columns))
	c := &l.Columns[i]
	switch rng.IntN(12) {
	case 0:
		c.Spec = pick(rng, columnOrder)
		return
	case 1:
		c.Data = m.bytes(c.Data)
		return
	case 2:
		l.Columns = slices.Delete(l.Columns, i, i+1)
		return
	case 3:
		l.SetColumn(pick(rng, columnOrder), bytes.Clone(pick(rng, l.Columns).Data))
		return
	}
	switch kind := columnKind(c.Spec & 7); kind {
	case kindRaw:
		c.Data = m.bytes(c.Data)
	case kindBool:
		c.Data = m.lengths(c.Data)
	default:
		runs, err := splitRuns(c.Data, kind, maxParsedRows)
		if err != nil || len(runs) == 0 {
			c.Data = m.bytes(c.Data)
			return
		}
		c.Data = JoinRuns(m.runs(runs)...)
	}
}

func (m *Mutator) lengths(col []byte) []byte {
	var ns []uint64
	for r := (reader{b: col}); len(r.b) > 0; {
		ns = append(ns, r.uleb())
	}
	i := m.rng.IntN(len(ns) + 1)
	switch m.rng.IntN(4) {
	case 0:
		ns = slices.Insert(ns, i, uint64(pick(m.rng, interesting)))
	case 1:
		ns = slices.Insert(ns, i, 0, 0)
	case 2:
		if i < len(ns) {
			ns[i]++
		}
	default:
		if i < len(ns) {
			ns = slices.Delete(ns, i, i+1)
		}
	}
	return Lengths(ns...)
}

// runs changes one run: its length, its value, or how it is written.
func (m *Mutator) runs(runs []Run) []Run {
	rng := m.rng
	i := rng.IntN(len(runs))
	r := runs[i]
	r.Values = slices.Clone(r.Values)
	switch rng.IntN(9) {
	case 0: // another count, with the values there are
		r.Count = pick(rng, interesting)
		if r.Count != 0 && len(r.Values) == 0 {
			r.Values = [][]byte{{1}}
		}
	case 1:
		r.Count++
	case 2:
		return slices.Delete(runs, i, i+1)
	case 3:
		return slices.Insert(runs, i, r)
	case 4:
		return slices.Insert(runs, i, Null(rng.Uint64N(3)))
	case 5:
		rows := rowsOf(runs)
		return []Run{Literal(slices.DeleteFunc(rows, func(v []byte) bool { return v == nil })...)}
	case 6: // nulls for values
		r = Null(uint64(max(1, len(r.Values))))
	default: // another value
		if len(r.Values) > 0 {
			v := pick(rng, interesting)
			r.Values[rng.IntN(len(r.Values))] = pick(rng, [][]byte{Sleb(v), Uleb(uint64(v)), Uleb(rng.Uint64N(20)), Sized([]byte("z")), Overlong(Uleb(rng.Uint64N(20)), 1)})
		}
	}
	runs[i] = r
	return runs
}

// field changes one field's bytes.
func (m *Mutator) field(l *Layout) {
	rng := m.rng
	f := Field(rng.IntN(int(NumFields)))
	v := pick(rng, interesting)
	l.Fields[f] = pick(rng, [][]byte{
		Uleb(uint64(v)), Sleb(v), nil, Overlong(Uleb(uint64(v)&0xff), 1), m.bytes(bytes.Clone(l.Fields[f])),
	})
	if rng.IntN(4) == 0 {
		l.ColumnCount = Uleb(uint64(v))
	}
}

// bytes changes a byte or a few, anywhere.
func (m *Mutator) bytes(b []byte) []byte {
	rng := m.rng
	for range 1 + rng.IntN(3) {
		i := rng.IntN(len(b) + 1)
		switch rng.IntN(4) {
		case 0:
			b = slices.Insert(b, i, byte(rng.IntN(256)))
		case 1:
			if i < len(b) {
				b = slices.Delete(b, i, i+1)
			}
		case 2:
			if i < len(b) {
				b[i] = byte(rng.IntN(256))
			}
		default:
			if i < len(b) {
				b[i] ^= 1 << rng.IntN(8)
			}
		}
	}
	return b
}
