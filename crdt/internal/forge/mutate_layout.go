package forge

import (
	"bytes"
	"math"
	"slices"
)

// interesting are numbers at the edges of what decoders hold.
var interesting = []int64{
	0, 1, -1, 2, 3, 7, 8, 63, 64, -64, 127, 128, 255, 256, 20_000, 100_000,
	math.MaxInt32, math.MinInt32, math.MaxUint32, 1 << 32, 1 << 40, math.MaxInt64, math.MinInt64,
}

// layout changes how a change is written.
func (m *Mutator) layout(l *Layout) {
	switch level := m.rng.IntN(16); {
	case level < 8:
		for range 1 + m.rng.IntN(2) {
			l.Columns = m.columns(l.Columns, columnOrder)
		}
	case level < 11:
		m.field(l)
	case level < 13:
		m.tables(l)
	case level < 15:
		m.frame(l)
	default:
		l.body = m.bytes(l.Body())
	}
}

// columns changes which columns there are, or what one of them holds.
func (m *Mutator) columns(cols []Column, order []uint64) []Column {
	rng := m.rng
	if len(cols) == 0 {
		return append(cols, Column{Spec: pick(rng, order), Data: []byte{1, 1}})
	}
	i, j := rng.IntN(len(cols)), rng.IntN(len(cols))
	c := &cols[i]
	switch rng.IntN(16) {
	case 0:
		c.Spec = pick(rng, order)
	case 1:
		c.Data = m.bytes(c.Data)
	case 2:
		return slices.Delete(cols, i, i+1)
	case 3: // one more, where it belongs
		spec := pick(rng, order)
		at, _ := slices.BinarySearchFunc(cols, spec, bySpec)
		return slices.Insert(cols, at, Column{Spec: spec, Data: bytes.Clone(cols[j].Data)})
	case 4:
		return slices.Insert(cols, j, Column{Spec: c.Spec, Data: bytes.Clone(c.Data)})
	case 5:
		cols[i], cols[j] = cols[j], cols[i]
	case 6: // another id, or type, or the mark of a deflated column
		c.Spec ^= 1 << rng.IntN(9)
	case 7:
		c.SpecBytes, c.LengthBytes = m.number(Uleb(c.Spec)), m.number(Uleb(uint64(len(c.Data))))
	default:
		m.column(c)
	}
	return cols
}

func bySpec(c Column, spec uint64) int { return int(c.Spec) - int(spec) }

// number is a number written in another way, or another number.
func (m *Mutator) number(leb []byte) []byte {
	switch m.rng.IntN(4) {
	case 0:
		return Overlong(leb, 1+m.rng.IntN(3))
	case 1:
		v := pick(m.rng, interesting)
		return pick(m.rng, [][]byte{Uleb(uint64(v)), Sleb(v)})
	case 2:
		return tooLong
	}
	return leb
}

// column changes what one column holds, as its type has it.
func (m *Mutator) column(c *Column) {
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
	switch rng.IntN(6) {
	case 0:
		l.Fields[f] = Uleb(uint64(v))
	case 1:
		l.Fields[f] = Sleb(v)
	case 2:
		l.Fields[f] = nil
	case 3:
		l.Fields[f] = Overlong(Uleb(uint64(v)&0xff), 1)
	case 4:
		if len(l.Fields[f]) > 0 {
			l.Fields[f] = Overlong(l.Fields[f], 1+rng.IntN(2))
		}
	default:
		l.Fields[f] = m.bytes(bytes.Clone(l.Fields[f]))
	}
	if rng.IntN(4) == 0 {
		l.ColumnCount = Uleb(uint64(v))
	}
}

// tables changes the dependencies or the other actors, and what is counted with
// them.
func (m *Mutator) tables(l *Layout) {
	f := &l.Fields
	if m.rng.IntN(2) == 0 {
		var deps [][]byte
		for d := range slices.Chunk(f[Deps], len(Hash{})) {
			deps = append(deps, d)
		}
		deps = m.list(deps)
		f[DepCount], f[Deps] = m.count(len(deps)), join(deps...)
		return
	}
	var others [][]byte
	for r := (reader{b: f[Others]}); len(r.b) > 0; {
		others = append(others, Sized(r.take(r.uleb())))
	}
	if m.rng.IntN(4) == 0 {
		others = append(others, Sized(pick(m.rng, [][]byte{f[Actor], []byte(carol), nil, bytes.Repeat([]byte{0xee}, 300)})))
	}
	others = m.list(others)
	f[OtherCount], f[Others] = m.count(len(others)), join(others...)
}

// count is the number of a list's items, as a rule.
func (m *Mutator) count(n int) []byte {
	if m.rng.IntN(8) == 7 {
		return m.number(Uleb(uint64(n)))
	}
	return Uleb(uint64(n))
}

// list drops, repeats, moves or changes an item.
func (m *Mutator) list(items [][]byte) [][]byte {
	rng := m.rng
	if len(items) == 0 {
		return append(items, bytes.Repeat([]byte{byte(rng.IntN(256))}, len(Hash{})))
	}
	i, j := rng.IntN(len(items)), rng.IntN(len(items))
	switch rng.IntN(6) {
	case 0:
		return slices.Delete(items, i, i+1)
	case 1:
		return slices.Insert(items, j, items[i])
	case 2:
		items[i], items[j] = items[j], items[i]
	case 3:
		if n := len(items[i]); n > 0 {
			items[i] = bytes.Clone(items[i])
			items[i][rng.IntN(n)] ^= 1 << rng.IntN(8)
		}
	case 4:
		return slices.Insert(items, j, bytes.Repeat([]byte{byte(rng.IntN(256))}, len(Hash{})))
	default:
		items[i] = m.bytes(bytes.Clone(items[i]))
	}
	return items
}

// frame changes what is around a change: its length, its type, how it is
// deflated.
func (m *Mutator) frame(l *Layout) {
	rng := m.rng
	body := l.Body()
	switch rng.IntN(8) {
	case 0:
		l.Length = Overlong(Uleb(uint64(len(body))), 1+rng.IntN(2))
	case 1:
		l.Type = byte(rng.IntN(6))
	case 2:
		l.Trailing = pick(rng, [][]byte{{0}, magic, body})
	case 3:
		h := hashBody(TypeChange, body)
		l.Checksum = m.bytes(h[:4])
	default:
		l.Type, l.Stream = TypeDeflated, m.stream(body)
	}
}

// stream deflates a body in another way than Automerge does.
func (m *Mutator) stream(body []byte) []byte {
	rng := m.rng
	switch rng.IntN(6) {
	case 0: // not compressed
		return stored(body, true)
	case 1: // in two blocks, and an empty one
		i := rng.IntN(len(body) + 1)
		return join(stored(body[:i], false), stored(nil, false), stored(body[i:], true))
	case 2: // it does not end
		return stored(body, false)
	case 3:
		return append(Deflate(body), byte(rng.IntN(256)))
	case 4:
		return Deflate(append(bytes.Clone(body), 0))
	default:
		return m.bytes(Deflate(body))
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
