package columnar

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// readUints reads n rows and ends the column.
func readUints(column string, n int) ([]Cell[uint64], error) {
	c := NewUints(column, n)
	rows := make([]Cell[uint64], n)
	for i := range rows {
		rows[i].Value, rows[i].Valid = c.Next()
	}
	return rows, c.Finish()
}

func readTexts(column string, n int) ([]Cell[string], error) {
	c := NewTexts(column, n)
	rows := make([]Cell[string], n)
	for i := range rows {
		rows[i].Value, rows[i].Valid = c.Next()
	}
	return rows, c.Finish()
}

func readDeltas(column string, n int) ([]Cell[uint64], error) {
	c := NewDeltas(column, n, deltaLimit)
	rows := make([]Cell[uint64], n)
	for i := range rows {
		rows[i].Value, rows[i].Valid = c.Next()
	}
	return rows, c.Finish()
}

const deltaLimit = 1<<32 - 1

func readBooleans(column string, n int) ([]bool, error) {
	c := NewBooleans(column, n)
	rows := make([]bool, n)
	for i := range rows {
		rows[i] = c.Next()
	}
	return rows, c.Finish()
}

func TestUints(t *testing.T) {
	for _, tt := range []struct {
		name   string
		column string
		rows   int
		err    error
	}{
		{"absent", "", 3, nil},
		{"a run", "\x03\x07", 3, nil},
		{"a literal", "\x7d\x01\x02\x01", 3, nil},
		{"nulls first", "\x00\x02\x7f\x05", 3, nil},
		{"nulls last", "\x7f\x05\x00\x02", 3, nil},
		{"equal around nulls", "\x7f\x05\x00\x01\x7f\x05", 3, nil},
		{"literal, run, literal", "\x7f\x01\x02\x02\x7f\x03", 4, nil},
		{"run of one", "\x01\x07", 1, ErrRun},
		{"equal runs", "\x02\x07\x02\x07", 4, ErrRun},
		{"equal values in a literal", "\x7e\x07\x07", 2, ErrRun},
		{"literal continues a run", "\x02\x07\x7f\x07", 3, ErrRun},
		{"run continues a literal", "\x7f\x07\x02\x07", 3, ErrRun},
		{"literal after literal", "\x7f\x07\x7f\x08", 2, ErrRun},
		{"nulls after nulls", "\x00\x01\x00\x01\x7f\x01", 3, ErrRun},
		{"no nulls", "\x00\x00\x7f\x01", 1, ErrRun},
		{"only nulls", "\x00\x03", 3, ErrEmpty},
		{"too many in a run", "\x04\x07", 3, ErrRows},
		{"too many in a literal", "\x7c\x01\x02\x03\x04", 3, ErrRows},
		{"too many nulls", "\x7f\x01\x00\x03", 3, ErrRows},
		{"a run more", "\x03\x07\x7f\x01", 3, ErrRows},
		{"a huge run", "\x80\x80\x80\x80\x80\x80\x80\x80\x40\x07", 3, ErrRows},
		{"the hugest literal", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f\x07", 3, ErrRows},
		{"huge nulls", "\x00\x80\x80\x80\x80\x80\x80\x80\x80\x40", 3, ErrRows},
		{"too few", "\x02\x07", 3, ErrShort},
		{"cut off in a literal", "\x7d\x01\x02", 3, ErrTruncated},
		{"cut off before a value", "\x03", 3, ErrTruncated},
		{"overlong length", "\x83\x00\x07", 3, ErrOverlong},
		{"overlong value", "\x03\x87\x00", 3, ErrOverlong},
	} {
		if _, err := readUints(tt.column, tt.rows); err != tt.err {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

func TestTexts(t *testing.T) {
	if rows, err := readTexts("\x7e\x00\x01a", 2); err != nil || rows[0] != (Cell[string]{Valid: true}) || rows[1].Value != "a" {
		t.Errorf("%v, %v", rows, err)
	}
	if _, err := readTexts("\x02\x01\xff", 2); err != ErrText {
		t.Errorf("not UTF-8: %v", err)
	}
}

func TestDeltas(t *testing.T) {
	for _, tt := range []struct {
		name   string
		column string
		rows   int
		err    error
	}{
		{"rising", "\x03\x01", 3, nil},
		{"falling", "\x7e\x05\x7e", 2, nil},
		{"below 0", "\x7e\x05\x7a", 2, ErrRange},
		{"first below 0", "\x7f\x7f", 1, ErrRange},
		{"the highest", "\x7f\xff\xff\xff\xff\x0f", 1, nil},
		{"too high", "\x7f\x80\x80\x80\x80\x10", 1, ErrRange},
		{"rising too high", "\x02\xff\xff\xff\xff\x0f", 2, ErrRange},
	} {
		if _, err := readDeltas(tt.column, tt.rows); err != tt.err {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

func TestBooleans(t *testing.T) {
	for _, tt := range []struct {
		name   string
		column string
		rows   int
		valued bool
		err    error
	}{
		{"absent", "", 2, false, nil},
		{"false", "\x02", 2, false, nil},
		{"true", "\x00\x02", 2, true, nil},
		{"both", "\x01\x01", 2, true, nil},
		{"a zero inside", "\x01\x00\x01", 2, false, ErrRun},
		{"a zero at the end", "\x02\x00", 2, false, ErrRows},
		{"nothing but a zero", "\x00", 2, false, ErrShort},
		{"too many", "\x03", 2, false, ErrRows},
		{"too few", "\x01", 2, false, ErrShort},
		{"huge", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 2, false, ErrRows},
		{"overlong", "\x82\x00", 2, false, ErrOverlong},
	} {
		c := NewBooleans(tt.column, tt.rows)
		for range tt.rows {
			c.Next()
		}
		if err := c.Finish(); err != tt.err || c.Valued() != tt.valued {
			t.Errorf("%s: %v, valued %t; want %v, %t", tt.name, err, c.Valued(), tt.err, tt.valued)
		}
	}
}

func TestCountRows(t *testing.T) {
	for _, tt := range []struct {
		column string
		limit  int
		want   int
		err    error
	}{
		{"", 10, 0, nil},
		{"\x03\x07", 10, 3, nil},
		{"\x7d\x01\x01\x01\x02\x05\x00\x04", 10, 9, nil},
		{"\x0b\x07", 10, 0, ErrRows},
		{"\x06\x07\x05\x08", 10, 0, ErrRows},
		{"\x7d\x01", 10, 0, ErrTruncated},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01", 10, 0, ErrRows},
	} {
		got, err := CountRows(tt.column, tt.limit)
		if err != tt.err || err == nil && got != tt.want {
			t.Errorf("%x: %d, %v; want %d, %v", tt.column, got, err, tt.want, tt.err)
		}
	}
}

// drawCells draws rows of few distinct values, so that runs are frequent.
func drawCells[T any](values *rapid.Generator[T]) *rapid.Generator[[]Cell[T]] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Cell[T] {
		if rapid.IntRange(0, 3).Draw(t, "null") == 0 {
			return Cell[T]{}
		}
		return Cell[T]{Value: values.Draw(t, "value"), Valid: true}
	}), 0, 40)
}

func TestColumnsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uints := drawCells(rapid.SampledFrom([]uint64{0, 1, 2, deltaLimit})).Draw(t, "uints")
		if got, err := readUints(string(AppendUints(nil, uints)), len(uints)); err != nil || !slices.Equal(got, uints) {
			t.Fatalf("uints: %v, %v", got, err)
		}
		if got, err := readDeltas(string(AppendDeltas(nil, uints)), len(uints)); err != nil || !slices.Equal(got, uints) {
			t.Fatalf("deltas: %v, %v", got, err)
		}
		if n, err := CountRows(string(AppendUints(nil, uints)), 40); err != nil || n != len(uints) && n != 0 {
			t.Fatalf("count: %d, %v", n, err)
		}
		texts := drawCells(rapid.SampledFrom([]string{"", "a", "日本"})).Draw(t, "texts")
		if got, err := readTexts(string(AppendTexts(nil, texts)), len(texts)); err != nil || !slices.Equal(got, texts) {
			t.Fatalf("texts: %v, %v", got, err)
		}
		booleans := rapid.SliceOfN(rapid.Bool(), 0, 40).Draw(t, "booleans")
		if got, err := readBooleans(string(AppendBooleans(nil, booleans)), len(booleans)); err != nil || !slices.Equal(got, booleans) {
			t.Fatalf("booleans: %v, %v", got, err)
		}
	})
}

// FuzzColumns checks that what is read without error is canonical: encoded
// again, it is the same bytes.
func FuzzColumns(f *testing.F) {
	f.Add("\x7f\x01\x02\x02\x00\x01\x7f\x03", uint8(5))
	f.Add("\x00\x02\x03", uint8(5))
	f.Add("\x7e\x05\x7e", uint8(2))
	f.Add("\x02\x01a\x7f\x00", uint8(3))
	f.Fuzz(func(t *testing.T, column string, n uint8) {
		if rows, err := readUints(column, int(n)); err == nil {
			check(t, "uints", column, AppendUints(nil, rows))
		}
		if rows, err := readTexts(column, int(n)); err == nil {
			check(t, "texts", column, AppendTexts(nil, rows))
		}
		if rows, err := readDeltas(column, int(n)); err == nil {
			check(t, "deltas", column, AppendDeltas(nil, rows))
		}
		if rows, err := readBooleans(column, int(n)); err == nil && column != "" {
			check(t, "booleans", column, AppendBooleans(nil, rows))
		}
	})
}

func check(t *testing.T, what, column string, again []byte) {
	t.Helper()
	if string(again) != column {
		t.Errorf("%s: %x, encoded again %x", what, column, again)
	}
}
