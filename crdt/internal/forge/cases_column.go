package forge

import (
	"fmt"
	"math"
	"slices"
)

// columns breaks which columns there are.
func (l *caseList) columns() {
	const class = "columns"
	for _, spec := range []uint64{0, 3, 0x10, 0x12, 0x14, 0x16, 0x35, 0x41, 0x43, 0x46, 0x54, 0x72, 0x75, 0x95, 0xa4, 0xa6, 0xb2, 0x1000, math.MaxUint32} {
		l.layout(BadColumn, class, "unknown column "+hexName(spec), func(l *Layout) {
			l.SetColumn(spec, JoinRuns(Repeat(6, Uleb(1))))
		})
	}
	for _, spec := range columnOrder {
		l.layout(BadColumn, class, "deflated column "+hexName(spec), func(l *Layout) {
			i := columnAt(l, spec)
			l.Columns[i].Spec |= 8
			l.Columns[i].Data = Deflate(l.Columns[i].Data)
		})
		l.layout(BadColumn, class, "empty column "+hexName(spec), func(l *Layout) { l.SetColumn(spec, []byte{}) })
		if spec != ColExpand { // without it, nothing expands
			l.layout(BadColumn, class, "missing column "+hexName(spec), func(l *Layout) { l.SetColumn(spec, nil) })
		}
		l.layout(BadColumn, class, "column twice "+hexName(spec), func(l *Layout) {
			i := columnAt(l, spec)
			l.Columns = slices.Insert(l.Columns, i, l.Columns[i])
		})
	}
	for i := range len(columnOrder) - 1 {
		l.layout(BadColumn, class, "out of order "+hexName(columnOrder[i]), func(l *Layout) {
			l.Columns[i], l.Columns[i+1] = l.Columns[i+1], l.Columns[i]
		})
	}
	l.layout(BadColumn, class, "no columns", func(l *Layout) { l.Columns, l.Fields[OtherCount], l.Fields[Others] = nil, Uleb(0), nil })
	l.last().Want, l.last().Reason = Accepted, "" // an empty change
	l.layout(BadColumn, class, "column count says none", func(l *Layout) { l.ColumnCount = Uleb(0) })
	l.layout(BadColumn, class, "column count one too few", func(l *Layout) { l.ColumnCount = Uleb(uint64(len(l.Columns) - 1)) })
	l.layout(BadColumn, class, "ten thousand columns", func(l *Layout) {
		for i := range uint64(10_000) {
			l.Columns = append(l.Columns, Column{Spec: 0x100 + i})
		}
	})

	const rows = "row count"
	for _, spec := range columnOrder {
		if kind := columnKind(spec & 7); kind == kindBool || kind == kindRaw {
			continue
		}
		l.layout(BadColumn, rows, "a row too many "+hexName(spec), func(l *Layout) {
			all := columnRows(l, spec)
			l.SetColumn(spec, JoinRuns(canonicalRuns(append(all, someValue(spec)))...))
		})
		l.layout(BadColumn, rows, "a row too few "+hexName(spec), func(l *Layout) {
			all := columnRows(l, spec)
			l.SetColumn(spec, JoinRuns(canonicalRuns(all[:len(all)-1])...))
		})
	}
	l.layout(BadColumn, rows, "a value too many", func(l *Layout) { l.SetColumn(ColValueRaw, append(l.Column(ColValueRaw), 0)) })
	l.layout(BadColumn, rows, "a value byte too few", func(l *Layout) {
		v := l.Column(ColValueRaw)
		l.SetColumn(ColValueRaw, v[:len(v)-1])
	})
	for _, spec := range []uint64{ColInsert, ColExpand} {
		for name, ns := range map[string][]uint64{"one row too few": {1, 1, 3}, "one row too many": {1, 1, 5}, "a million rows": {1, 1, 999_998}} {
			l.layout(BadColumn, rows, name+" "+hexName(spec), func(l *Layout) { l.SetColumn(spec, Lengths(ns...)) })
		}
	}
	sortTail(l, 6)
}

// sortTail orders the last n cases by name: they were added from a map.
func sortTail(l *caseList, n int) {
	slices.SortFunc(l.cases[len(l.cases)-n:], func(a, b Case) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

func columnAt(l *Layout, spec uint64) int {
	return slices.IndexFunc(l.Columns, func(c Column) bool { return c.Spec == spec })
}

// someValue is a value that the column can hold.
func someValue(spec uint64) []byte {
	if columnKind(spec&7) == kindText {
		return Sized([]byte("x"))
	}
	return []byte{1}
}

// encodings writes the right rows in other ways than the one that Automerge
// uses: read by it and written again, the change would have another hash.
func (l *caseList) encodings() {
	const class = "non-canonical column"
	for _, spec := range columnOrder {
		kind := columnKind(spec & 7)
		if kind == kindBool || kind == kindRaw {
			continue
		}
		for _, v := range runVariants(spec) {
			l.layout(BadColumn, class, fmt.Sprintf("%s %#x", v.name, spec), func(l *Layout) {
				l.SetColumn(spec, v.make(columnRows(l, spec)))
			})
		}
	}
	for _, spec := range []uint64{ColInsert, ColExpand} {
		honest := []uint64{1, 1, 1, 2, 1}
		if spec == ColExpand {
			honest = []uint64{3, 2, 1}
		}
		for _, v := range []struct {
			name string
			col  []byte
		}{
			{"a run of none at the end", append(Lengths(honest...), 0)},
			{"two runs of none in the middle", append(Lengths(honest[0], 0, 0), Lengths(honest[1:]...)...)},
			{"a run cut by a run of none", append(Lengths(0, 0), Lengths(honest...)...)},
			{"an overlong length", append(Overlong(Uleb(honest[0]), 1), Lengths(honest[1:]...)...)},
			{"a length of 77 bits", append(tooLong, Lengths(honest...)...)},
			{"an unfinished length", append(Lengths(honest...), 0x80)},
		} {
			l.layout(BadColumn, class, fmt.Sprintf("%s %#x", v.name, spec), func(l *Layout) { l.SetColumn(spec, v.col) })
		}
	}
	l.layout(BadColumn, class, "expand column where nothing expands", func(l *Layout) { l.SetColumn(ColExpand, Lengths(6)) })
}

type variant struct {
	name string
	make func(rows [][]byte) []byte
}

// runVariants are wrong ways to write the rows of a run-length column.
func runVariants(spec uint64) []variant {
	return []variant{
		{"each row a literal run", func(rows [][]byte) []byte {
			return perRow(rows, func(v []byte) Run { return Literal(v) })
		}},
		{"each row a run of one", func(rows [][]byte) []byte {
			return perRow(rows, func(v []byte) Run { return Repeat(1, v) })
		}},
		{"a literal run of none first", func(rows [][]byte) []byte {
			return append(JoinRuns(Null(0)), JoinRuns(canonicalRuns(rows)...)...)
		}},
		{"a null run of none last", func(rows [][]byte) []byte {
			return append(JoinRuns(canonicalRuns(rows)...), JoinRuns(Null(0))...)
		}},
		{"an overlong count", func(rows [][]byte) []byte {
			col := JoinRuns(canonicalRuns(rows)...)
			first := Sleb(canonicalRuns(rows)[0].Count)
			return append(overlongSleb(first), col[len(first):]...)
		}},
		{"an overlong value", func(rows [][]byte) []byte {
			rows = slices.Clone(rows)
			i := firstValue(rows)
			v := rows[i]
			if columnKind(spec&7) == kindDelta {
				rows[i] = overlongSleb(v)
			} else if columnKind(spec&7) == kindText {
				rows[i] = append(Overlong(v[:1], 1), v[1:]...)
			} else {
				rows[i] = Overlong(v, 1)
			}
			return JoinRuns(canonicalRuns(rows)...)
		}},
		{"a count of 77 bits", func(rows [][]byte) []byte { return append(tooLong, JoinRuns(canonicalRuns(rows)...)...) }},
		{"the least count there is", func(rows [][]byte) []byte {
			return append(Sleb(math.MinInt64), JoinRuns(canonicalRuns(rows)...)...)
		}},
		{"an unfinished count", func(rows [][]byte) []byte { return append(JoinRuns(canonicalRuns(rows)...), 0x80) }},
		{"a count without its value", func(rows [][]byte) []byte { return append(JoinRuns(canonicalRuns(rows)...), 5) }},
		{"all rows null", func(rows [][]byte) []byte { return JoinRuns(Null(uint64(len(rows)))) }},
	}
}

func perRow(rows [][]byte, run func([]byte) Run) []byte {
	var runs []Run
	for _, v := range rows {
		if v == nil {
			runs = append(runs, Null(1))
			continue
		}
		runs = append(runs, run(v))
	}
	return JoinRuns(runs...)
}

// overlongSleb lengthens a signed number by a byte.
func overlongSleb(b []byte) []byte {
	out := slices.Clone(b)
	fill := byte(0)
	if out[len(out)-1]&0x40 != 0 {
		fill = 0x7f
	}
	out[len(out)-1] |= 0x80
	return append(out, fill)
}

// bombs are a few bytes that claim a great many rows.
func (l *caseList) bombs() {
	const class = "run-length bomb"
	sizes := []uint64{5_000, 10_000, 100_000, 1e7, 1e9, 1 << 40, math.MaxInt64}
	for _, n := range sizes {
		for _, spec := range columnOrder {
			if spec == ColValueRaw {
				continue
			}
			col := JoinRuns(Repeat(int64(n), someValue(spec)))
			if columnKind(spec&7) == kindBool {
				col = Lengths(n)
			}
			l.layout(BadColumn, class, fmt.Sprintf("%d rows in column %#x", n, spec), func(l *Layout) { l.SetColumn(spec, col) })
			if columnKind(spec&7) != kindBool {
				l.layout(BadColumn, class, fmt.Sprintf("%d nulls in column %#x", n, spec), func(l *Layout) {
					l.SetColumn(spec, append(l.Column(spec), JoinRuns(Null(n))...))
				})
			}
		}
		l.sameKey(class, n)
	}
	l.chain("run-length bomb", 5_000)
}

// chain is an honest-looking change of n operations on one key, each of which
// replaces the one before: for each the engine walks over all before it.
func (l *caseList) chain(class string, n int) {
	for name, op := range map[string]func(s *scene, e *Edit){
		"puts on one key":          func(_ *scene, e *Edit) { e.Put(Root, "k", Int(1)) },
		"objects on one key":       func(_ *scene, e *Edit) { e.Make(Root, "k", ActionMakeMap) },
		"increments of a counter":  func(_ *scene, e *Edit) { e.Increment(Root, "counter", 1) },
		"sets of a list's element": func(s *scene, e *Edit) { e.Set(s.list, s.items[0], Int(1)) },
	} {
		s := newScene()
		c := s.only(func(e *Edit) {
			for range n {
				op(s, e)
			}
		})
		l.after(s, OverLimit, class, decimal(n)+" "+name, c.Chunk())
	}
	sortTail(l, 4)
}

// sameKey is a well-formed change of n operations that all put the same key,
// none of which knows of another: 50 bytes, and n² work for the engine.
func (l *caseList) sameKey(class string, n uint64) {
	lay := (&Change{Actor: carol, Seq: 1, StartOp: 1}).Layout()
	lay.SetColumn(ColKeyText, JoinRuns(Repeat(int64(n), Sized([]byte("k")))))
	lay.SetColumn(ColInsert, Lengths(n))
	lay.SetColumn(ColAction, JoinRuns(Repeat(int64(n), Uleb(ActionPut))))
	lay.SetColumn(ColValueMeta, JoinRuns(Repeat(int64(n), Uleb(0))))
	lay.SetColumn(ColPredCount, JoinRuns(Repeat(int64(n), Uleb(0))))
	reason := BadOperation
	if n > 20_000 {
		reason = OverLimit
	}
	l.cases = append(l.cases, Case{
		Class: class, Name: decimalU(n) + " operations on one key", Want: Refused, Reason: reason,
		Inputs: []Blob{{Head: lay.Chunk()}},
	})
}
