package forge

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
)

func hexName(n uint64) string  { return fmt.Sprintf("%#x", n) }
func decimal(n int) string     { return fmt.Sprintf("%d", n) }
func raw(h Hash) []byte        { return h[:] }
func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

func (l *caseList) fields() {
	l.counts()
	l.numbers()
	l.actors()
	l.deps()

	const class = "message"
	l.change(BadField, class, "message is not UTF-8", func(_ *scene, c *Change) { c.Message = "caf\xe9" })
	l.change(BadField, class, "message is half a character", func(_ *scene, c *Change) { c.Message = "\xf0\x9f" })
	l.change(BadField, class, "message holds a surrogate", func(_ *scene, c *Change) { c.Message = "\xed\xa0\x80" })
}

// counts puts huge numbers in every count and length of the body.
func (l *caseList) counts() {
	const class = "huge count"
	for _, f := range []Field{DepCount, ActorLength, MessageLength, OtherCount} {
		for _, n := range huge {
			l.layout(BadField, class, f.String()+" "+hexName(n), func(l *Layout) { l.Fields[f] = Uleb(n) })
		}
		l.layout(BadField, class, f.String()+" one too many", func(l *Layout) { l.Fields[f] = Uleb(decodeUleb(l.Fields[f]) + 1) })
		l.layout(BadField, class, f.String()+" of 77 bits", func(l *Layout) { l.Fields[f] = tooLong })
	}
	for _, n := range huge {
		l.layout(BadField, class, "length of another actor "+hexName(n), func(l *Layout) { l.Fields[Others] = Uleb(n) })
		l.layout(BadColumn, class, "column count "+hexName(n), func(l *Layout) { l.ColumnCount = Uleb(n) })
		l.layout(BadColumn, class, "column length "+hexName(n), func(l *Layout) { l.Columns[3].LengthBytes = Uleb(n) })
		l.layout(BadColumn, class, "column specification "+hexName(n), func(l *Layout) { l.Columns[len(l.Columns)-1].SpecBytes = Uleb(n) })
	}
	l.layout(BadColumn, class, "two columns whose lengths add up to 2^64", func(l *Layout) {
		l.Columns[1].LengthBytes, l.Columns[2].LengthBytes = Uleb(1<<63), Uleb(1<<63)
	})
}

// numbers writes every number longer than need be, and out of its range.
func (l *caseList) numbers() {
	const class = "overlong number"
	for _, f := range []Field{DepCount, ActorLength, Seq, StartOp, Time, MessageLength, OtherCount} {
		l.layout(BadField, class, f.String()+" overlong", func(l *Layout) { l.Fields[f] = Overlong(l.Fields[f], 1) })
	}
	l.layout(BadField, class, "time of 77 bits", func(l *Layout) { l.Fields[Time] = tooLong })
	l.layout(BadColumn, class, "column count overlong", func(l *Layout) { l.ColumnCount = Overlong(Uleb(uint64(len(l.Columns))), 1) })
	l.layout(BadColumn, class, "column specification overlong", func(l *Layout) { l.Columns[0].SpecBytes = Overlong(Uleb(l.Columns[0].Spec), 1) })
	l.layout(BadColumn, class, "column length overlong", func(l *Layout) { l.Columns[0].LengthBytes = Overlong(Uleb(uint64(len(l.Columns[0].Data))), 1) })

	for _, n := range []int64{math.MinInt64, math.MaxInt64, 1 << 53, -1 << 53, 1 << 62, -1 << 62} {
		l.change(BadField, "time", fmt.Sprintf("time %d", n), func(_ *scene, c *Change) { c.Time = n })
	}

	const startOp = "startOp"
	for _, n := range []uint64{0, 1, 2, 14, math.MaxInt32, math.MaxUint32 - 2, math.MaxUint32, 1 << 32, 1 << 40, 1 << 63, math.MaxUint64} {
		l.change(BadHistory, startOp, "startOp "+decimalU(n), func(_ *scene, c *Change) { c.StartOp = n })
	}
	s := newScene()
	empty := s.only(func(*Edit) {})
	empty.StartOp = math.MaxUint64
	l.after(s, BadHistory, startOp, "empty change at the last counter", empty.Chunk())
}

func decimalU(n uint64) string { return fmt.Sprintf("%d", n) }

func firstChange(wrong func(c *Change)) []byte {
	c := NewWriter(carol).Change(func(e *Edit) { e.Put(Root, "k", Int(1)) })
	wrong(c)
	return c.Chunk()
}

func (l *caseList) actors() {
	const class = "actor"
	none := func(name string, wrong func(c *Change)) {
		l.cases = append(l.cases, Case{
			Class: class, Name: name, Want: Refused, Reason: BadField, Inputs: []Blob{{Head: firstChange(wrong)}},
		})
	}
	none("empty actor", func(c *Change) { c.Actor = "" })
	none("actor of 300 bytes", func(c *Change) { c.Actor = strings.Repeat("a", 300) })
	none("actor of 10 kB", func(c *Change) { c.Actor = strings.Repeat("a", 10_000) })

	table := func(name string, wrong func(own []byte, others []byte) []byte, count uint64) {
		l.layout(BadField, "actor table", name, func(l *Layout) {
			l.Fields[Others] = wrong(Sized(l.Fields[Actor]), bytes.Clone(l.Fields[Others]))
			l.Fields[OtherCount] = Uleb(count)
		})
	}
	table("own actor among the others", func(own, o []byte) []byte { return append(o, own...) }, 2)
	table("an actor twice", func(_, o []byte) []byte { return append(o, o...) }, 2)
	table("unsorted actors", func(_, o []byte) []byte { return append(o, Sized([]byte("\x01"))...) }, 2)
	table("an actor that no operation names", func(_, o []byte) []byte { return append(o, Sized([]byte(carol))...) }, 2)
	table("an empty actor", func(_, o []byte) []byte { return append([]byte{0}, o...) }, 2)
	table("an actor of 300 bytes", func(_, o []byte) []byte { return append(o, Sized(bytes.Repeat([]byte{0xff}, 300))...) }, 2)
	table("ten thousand actors of one byte", func(_, _ []byte) []byte { return bytes.Repeat([]byte{1, 0xbb}, 10_000) }, 10_000)
	table("table too short", func(_, o []byte) []byte { return o[:3] }, 1)

	for _, col := range []uint64{ColObjectActor, ColKeyActor, ColPredActor} {
		for _, n := range append([]uint64{2, 3, 127, 128}, huge...) {
			l.layout(BadOperation, "actor index", fmt.Sprintf("column %#x actor %d", col, n), func(l *Layout) {
				editRows(l, col, func(rows [][]byte) { rows[firstValue(rows)] = Uleb(n) })
			})
		}
	}
}

// editRows unrolls a run-length column, lets edit change the rows in place, and
// encodes them canonically again.
func editRows(l *Layout, spec uint64, edit func(rows [][]byte)) {
	rows := columnRows(l, spec)
	edit(rows)
	l.SetColumn(spec, JoinRuns(canonicalRuns(rows)...))
}

func columnRows(l *Layout, spec uint64) [][]byte {
	return rowsOf(columnRuns(l, spec))
}

func columnRuns(l *Layout, spec uint64) []Run {
	runs, err := splitRuns(l.Column(spec), columnKind(spec&7), maxParsedRows)
	if err != nil {
		panic(err)
	}
	return runs
}

func firstValue(rows [][]byte) int {
	return slices.IndexFunc(rows, func(v []byte) bool { return v != nil })
}

func (l *caseList) deps() {
	const class = "deps"
	s := newScene()
	w := NewWriter(carol)
	w.Apply(s.first)
	c := w.Change(func(e *Edit) { e.Put(Root, "carol", Int(1)) })
	s.setup = append(s.setup, c.Chunk())
	s.alice.Apply(c)
	honest := s.next()
	twist := func(name string, wrong func(l *Layout)) {
		lay := honest.Layout()
		wrong(lay)
		l.after(s, BadField, class, name, lay.Chunk())
	}
	a, b := raw(honest.Deps[0]), raw(honest.Deps[1])
	twist("unsorted deps", func(l *Layout) { l.Fields[Deps] = join(b, a) })
	twist("a dep twice", func(l *Layout) { l.Fields[Deps], l.Fields[DepCount] = join(a, a), Uleb(2) })
	twist("a dep twice among others", func(l *Layout) { l.Fields[Deps], l.Fields[DepCount] = join(a, b, b), Uleb(3) })
	twist("half a dep", func(l *Layout) { l.Fields[Deps] = join(a, b[:16]) })
	l.after(s, BadField, class, "ten thousand times the same dep")
	l.last().Inputs = []Blob{manyZeroDeps(honest, 10_000)}

	unknown := *honest
	unknown.Deps = []Hash{{1, 2, 3}}
	l.after(s, "", class, "an unknown dep", unknown.Chunk())
	l.last().Want = Held
	unknown.Deps = append([]Hash{{1, 2, 3}}, honest.Deps...)
	slices.SortFunc(unknown.Deps, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	l.after(s, "", class, "an unknown dep among known ones", unknown.Chunk())
	l.last().Want = Held
	unknown.Deps = nil
	for i := range 3000 {
		unknown.Deps = append(unknown.Deps, Hash{byte(i >> 8), byte(i)})
	}
	l.after(s, "", class, "three thousand unknown deps", unknown.Chunk())
	l.last().Want = Held
}

// manyZeroDeps is c with n deps, all zero, made from a recipe.
func manyZeroDeps(c *Change, n int) Blob {
	l := c.Layout()
	l.Fields[DepCount], l.Fields[Deps] = Uleb(uint64(n)), make([]byte, 32*n)
	chunk := l.Chunk()
	at := bytes.Index(chunk, make([]byte, 32*n))
	return Blob{Head: chunk[:at], Zeros: 32 * n, Tail: chunk[at+32*n:]}
}

func (l *caseList) history() {
	const class = "seq"
	for _, n := range []uint64{0, 1, 3, 100, math.MaxUint32, 1 << 32, 1 << 63, math.MaxUint64} {
		l.change(BadHistory, class, "seq "+decimalU(n)+" for 2", func(_ *scene, c *Change) { c.Seq = n })
	}
	for _, n := range []uint64{0, 2, 3, math.MaxUint64} {
		l.cases = append(l.cases, Case{
			Class: class, Name: "first change with seq " + decimalU(n), Want: Refused, Reason: BadHistory,
			Inputs: []Blob{{Head: firstChange(func(c *Change) { c.Seq = n })}},
		})
	}
	l.change(BadHistory, class, "seq 1 again with other content", func(s *scene, c *Change) {
		again := *s.first
		again.Message = "another"
		*c = again
	})
	l.change(BadHistory, class, "first change of an actor with seq 3", func(_ *scene, c *Change) {
		*c = Change{Deps: c.Deps, Actor: carol, Seq: 3, StartOp: c.StartOp, Ops: c.Ops[5:]}
	})

	const own = "own change not among the ancestors"
	for name, ops := range map[string]int{"operation ids repeat": 1, "operation ids are new": 5} {
		s := &scene{alice: NewWriter(alice)}
		s.first = s.alice.Change(func(e *Edit) { e.Put(Root, "a", Int(1)); e.Put(Root, "b", Int(2)); e.Put(Root, "c", Int(3)) })
		other := NewWriter(carol).Change(func(e *Edit) {
			for i := range ops {
				e.Put(Root, "carol"+decimal(i), Int(1))
			}
		})
		s.setup = [][]byte{s.first.Chunk(), other.Chunk()}
		c := &Change{Deps: []Hash{other.Hash()}, Actor: alice, Seq: 2, StartOp: uint64(ops) + 1}
		key := "d"
		c.Ops = []Op{{Key: &key, Action: ActionPut, Value: Int(4)}}
		l.after(s, BadHistory, own, name, c.Chunk())
	}
	slices.SortFunc(l.cases[len(l.cases)-2:], func(a, b Case) int { return strings.Compare(a.Name, b.Name) })
}
