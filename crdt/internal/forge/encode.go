package forge

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Uleb returns v in unsigned LEB128, as short as it can be.
func Uleb(v uint64) []byte { return binary.AppendUvarint(nil, v) }

// Sleb returns v in signed LEB128, as short as it can be.
func Sleb(v int64) []byte { return appendSleb(nil, v) }

func appendSleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Overlong returns the LEB128 number leb with needless further bytes: it reads
// as the same value where the reader does not insist on the shortest form.
func Overlong(leb []byte, more int) []byte {
	out := bytes.Clone(leb)
	fill := byte(0)
	if len(leb) > 1 && isNegative(leb) {
		fill = 0x7f
	}
	for range more {
		out[len(out)-1] |= 0x80
		out = append(out, fill)
	}
	return out
}

// isNegative guesses, from the last byte, that a multi-byte number is a
// negative signed one; single bytes are taken as unsigned.
func isNegative(leb []byte) bool { return leb[len(leb)-1] == 0x7f }

// Sized returns b behind its length.
func Sized(b []byte) []byte { return append(Uleb(uint64(len(b))), b...) }

// A Run is one run of a run-length column. Count as it stands on the wire: above
// zero that many times Values[0], below zero that many literal Values, zero a
// run of Nulls nulls.
type Run struct {
	Count  int64
	Values [][]byte // encoded values
	Nulls  uint64
}

// Repeat is a run of n times v.
func Repeat(n int64, v []byte) Run { return Run{Count: n, Values: [][]byte{v}} }

// Literal is a run of values that stand each for themselves.
func Literal(vs ...[]byte) Run { return Run{Count: -int64(len(vs)), Values: vs} }

// Null is a run of n nulls.
func Null(n uint64) Run { return Run{Nulls: n} }

// JoinRuns returns the column that holds the runs as they are, sensible or not.
func JoinRuns(runs ...Run) []byte {
	var b []byte
	for _, r := range runs {
		b = appendSleb(b, r.Count)
		if r.Count == 0 {
			b = binary.AppendUvarint(b, r.Nulls)
			continue
		}
		for _, v := range r.Values {
			b = append(b, v...)
		}
	}
	return b
}

// canonicalRuns cuts rows (nil is null) into the runs that Automerge's own
// encoder makes. No runs when every row is null: the column is left out.
func canonicalRuns(rows [][]byte) []Run {
	var runs []Run
	allNull := true
	for i := 0; i < len(rows); {
		j := i + 1
		for j < len(rows) && sameRow(rows[j], rows[i]) {
			j++
		}
		switch {
		case rows[i] == nil:
			runs = append(runs, Null(uint64(j-i)))
		case j-i > 1:
			runs = append(runs, Repeat(int64(j-i), rows[i]))
		case len(runs) > 0 && runs[len(runs)-1].Count < 0:
			last := &runs[len(runs)-1]
			last.Count--
			last.Values = append(last.Values, rows[i])
		default:
			runs = append(runs, Literal(rows[i]))
		}
		allNull = allNull && rows[i] == nil
		i = j
	}
	if allNull {
		return nil
	}
	return runs
}

func sameRow(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// splitRuns reads a run-length column whose values are of the given kind. It
// fails on anything that is not runs of such values, and on more than limit
// rows.
func splitRuns(col []byte, kind columnKind, limit int) ([]Run, error) {
	r := reader{b: col}
	var runs []Run
	for rows := 0; len(r.b) > 0; {
		run := Run{Count: r.sleb()}
		n := run.Count
		switch {
		case n == 0:
			run.Nulls = r.uleb()
			n = int64(min(run.Nulls, 1<<40))
		case n > 0:
			run.Values = [][]byte{r.value(kind)}
		default:
			for ; n < 0 && !r.bad; n++ {
				run.Values = append(run.Values, r.value(kind))
			}
			n = int64(len(run.Values))
		}
		if r.bad || n > int64(limit-rows) {
			return nil, fmt.Errorf("column % x: not runs of at most %d rows", col, limit)
		}
		rows += int(n)
		runs = append(runs, run)
	}
	return runs, nil
}

// rowsOf unrolls runs; a null is nil.
func rowsOf(runs []Run) [][]byte {
	var rows [][]byte
	for _, r := range runs {
		switch {
		case r.Count == 0:
			rows = append(rows, make([][]byte, r.Nulls)...)
		case r.Count > 0:
			for range r.Count {
				rows = append(rows, r.Values[0])
			}
		default:
			rows = append(rows, r.Values...)
		}
	}
	return rows
}

// boolRuns returns the boolean column of rows: the lengths of alternating runs,
// false first.
func boolRuns(rows []bool) []byte {
	var b []byte
	value, n := false, uint64(0)
	for _, v := range rows {
		if v != value {
			b = binary.AppendUvarint(b, n)
			value, n = v, 0
		}
		n++
	}
	if n > 0 {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// Lengths returns the boolean column with exactly these run lengths.
func Lengths(ns ...uint64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// A columnKind tells how a column's values are encoded; it is the low three
// bits of its specification.
type columnKind byte

const (
	kindGroup columnKind = iota // uleb: how many values the row has in the group's columns
	kindActor                   // uleb: index in the actor table
	kindUint                    // uleb
	kindDelta                   // sleb: difference from the last value
	kindBool                    // alternating lengths, no run-length coding
	kindText                    // sized text
	kindMeta                    // uleb: length<<4 | type
	kindRaw                     // the values' bytes
)

// reader reads numbers and blocks; bad is set by whatever does not fit.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uleb() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) sleb() int64 {
	v, shift := int64(0), uint(0)
	for i, c := range r.b {
		if shift > 63 {
			break
		}
		v |= int64(c&0x7f) << shift
		if shift += 7; c&0x80 == 0 {
			if shift < 64 && c&0x40 != 0 {
				v |= -1 << shift
			}
			r.b = r.b[i+1:]
			return v
		}
	}
	r.bad, r.b = true, nil
	return 0
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// value takes the bytes of one encoded value of the kind.
func (r *reader) value(kind columnKind) []byte {
	before := r.b
	switch kind {
	case kindDelta:
		r.sleb()
	case kindText:
		r.take(r.uleb())
	default:
		r.uleb()
	}
	n := len(before) - len(r.b)
	if r.bad {
		return nil
	}
	return before[:n:n]
}
