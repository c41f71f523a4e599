package columnar

// Cell is a row of a run-length or delta column.
type Cell[T any] struct {
	Value T
	Valid bool // false: the row has no value
}

// AppendUints appends the column that [Uints] reads.
func AppendUints(dst []byte, rows []Cell[uint64]) []byte {
	return appendRuns(dst, rows, AppendUint)
}

// AppendTexts appends the column that [Texts] reads.
func AppendTexts(dst []byte, rows []Cell[string]) []byte {
	return appendRuns(dst, rows, AppendText)
}

// AppendDeltas appends the column that [Deltas] reads.
func AppendDeltas(dst []byte, rows []Cell[uint64]) []byte {
	differences := make([]Cell[int64], len(rows))
	var before uint64
	for i, row := range rows {
		if row.Valid {
			differences[i] = Cell[int64]{Value: int64(row.Value - before), Valid: true}
			before = row.Value
		}
	}
	return appendRuns(dst, differences, AppendInt)
}

// appendRuns appends a run-length column: nothing if no row has a value, and
// otherwise the longest runs that can be.
func appendRuns[T comparable](dst []byte, rows []Cell[T], appendValue func([]byte, T) []byte) []byte {
	begin, valued := len(dst), false
	for len(rows) > 0 {
		n := equalRows(rows)
		switch {
		case !rows[0].Valid:
			dst = AppendUint(AppendInt(dst, 0), uint64(n))
		case n > 1:
			dst = appendValue(AppendInt(dst, int64(n)), rows[0].Value)
		default:
			n = unlikeRows(rows)
			dst = AppendInt(dst, -int64(n))
			for _, row := range rows[:n] {
				dst = appendValue(dst, row.Value)
			}
		}
		valued = valued || rows[0].Valid
		rows = rows[n:]
	}
	if !valued {
		return dst[:begin]
	}
	return dst
}

// equalRows returns how many rows are like the first.
func equalRows[T comparable](rows []Cell[T]) int {
	n := 1
	for n < len(rows) && rows[n] == rows[0] {
		n++
	}
	return n
}

// unlikeRows returns how many rows have a value unlike that of the next.
func unlikeRows[T comparable](rows []Cell[T]) int {
	n := 0
	for n < len(rows) && rows[n].Valid && (n+1 == len(rows) || rows[n+1] != rows[n]) {
		n++
	}
	return n
}

// AppendBooleans appends the column that [Booleans] reads: nothing if there is
// no row.
func AppendBooleans(dst []byte, rows []bool) []byte {
	value := false
	for len(rows) > 0 {
		n := 0
		for n < len(rows) && rows[n] == value {
			n++
		}
		dst = AppendUint(dst, uint64(n))
		rows, value = rows[n:], !value
	}
	return dst
}
