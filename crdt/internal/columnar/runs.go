package columnar

// codec reads one value of a run-length column. It returns the reader instead
// of taking a pointer, through which columns would escape to the heap.
type codec[T any] interface{ read(Reader) (T, Reader) }

type (
	uintCodec struct{}
	intCodec  struct{}
	textCodec struct{}
)

func (uintCodec) read(r Reader) (v uint64, rest Reader) { v = r.Uint(); return v, r }
func (intCodec) read(r Reader) (v int64, rest Reader)   { v = r.Int(); return v, r }
func (textCodec) read(r Reader) (v string, rest Reader) { v = r.Text(); return v, r }

// The kinds of runs. A run is its length as a signed number, and then:
//
//	length > 1   one value, that many times
//	length < 0   -length values, each unlike the one before it
//	length = 0   an unsigned number of rows without a value
type runKind uint8

const (
	noRun runKind = iota
	equalRun
	literalRun
	nullRun
)

// runs reads a run-length column row by row. After an error it yields rows
// without values.
type runs[T comparable, C codec[T]] struct {
	r       Reader
	rows    int // that the column must still yield
	left    int // of them in the run that is being read
	kind    runKind
	present bool // the column is there at all
	valued  bool // some row had a value
	follows bool // the row before had a value: last
	last    T
}

func newRuns[T comparable, C codec[T]](column string, rows int) runs[T, C] {
	return runs[T, C]{r: NewReader(column), rows: rows, present: column != ""}
}

// Next returns the next row's value, ok false if it has none. It may be called
// as often as the column has rows, no more. An absent column has no values.
func (c *runs[T, C]) Next() (v T, ok bool) {
	if c.left == 0 {
		if !c.present {
			return v, false
		}
		c.nextRun()
	}
	if c.r.err != nil {
		return v, false
	}
	c.left--
	c.rows--
	switch c.kind {
	case nullRun:
		return v, false
	case literalRun:
		c.value()
	}
	return c.last, c.r.err == nil
}

// nextRun reads the head of a run, and the value of one of equal values. An
// encoder never begins a run that it could have joined to the one before.
func (c *runs[T, C]) nextRun() {
	if c.r.err == nil && c.r.Len() == 0 {
		c.r.fail(ErrShort)
	}
	before := c.kind
	switch n := c.r.Int(); {
	case c.r.err != nil:
	case n > 0:
		c.begin(equalRun, uint64(n))
		c.value()
		if n == 1 {
			c.r.fail(ErrRun)
		}
	case n < 0:
		c.begin(literalRun, uint64(-n))
		if before == literalRun {
			c.r.fail(ErrRun)
		}
	default:
		c.begin(nullRun, c.r.Uint())
		c.follows = false
		if before == nullRun || c.left == 0 {
			c.r.fail(ErrRun)
		}
	}
}

func (c *runs[T, C]) begin(kind runKind, n uint64) {
	if n > uint64(c.rows) {
		c.r.fail(ErrRows)
		return
	}
	c.kind, c.left = kind, int(n)
}

// value reads a value that cannot be that of the row before.
func (c *runs[T, C]) value() {
	var codec C
	var v T
	v, c.r = codec.read(c.r)
	if c.follows && v == c.last {
		c.r.fail(ErrRun)
	}
	c.last, c.follows, c.valued = v, true, true
}

// Err returns the first error so far.
func (c *runs[T, C]) Err() error { return c.r.err }

// Finish returns the first error of the whole column, read to its end: also
// when it holds more or fewer rows than it should, or no value.
func (c *runs[T, C]) Finish() error {
	switch {
	case c.r.err != nil || !c.present:
		return c.r.err
	case c.left > 0 || c.r.Len() > 0:
		return ErrRows
	case c.rows > 0:
		return ErrShort
	case !c.valued:
		return ErrEmpty
	}
	return nil
}

// Uints reads a column of unsigned numbers.
type Uints struct{ runs[uint64, uintCodec] }

// NewUints reads a column that must have the given number of rows, or be
// absent, which is to say empty.
func NewUints(column string, rows int) Uints {
	return Uints{newRuns[uint64, uintCodec](column, rows)}
}

// Texts reads a column of texts.
type Texts struct{ runs[string, textCodec] }

// NewTexts is like [NewUints]. The texts are substrings of column.
func NewTexts(column string, rows int) Texts {
	return Texts{newRuns[string, textCodec](column, rows)}
}

// Deltas reads a column of numbers of which each is given by its difference
// from the one before. Numbers must be within 0 and the limit.
type Deltas struct {
	differences runs[int64, intCodec]
	sum, limit  int64
}

// NewDeltas is like [NewUints].
func NewDeltas(column string, rows int, limit int64) Deltas {
	return Deltas{differences: newRuns[int64, intCodec](column, rows), limit: limit}
}

// Next is like [Uints.Next].
func (c *Deltas) Next() (v uint64, ok bool) {
	d, ok := c.differences.Next()
	if !ok {
		return 0, false
	}
	if d < -c.sum || d > c.limit-c.sum {
		c.differences.r.fail(ErrRange)
		return 0, false
	}
	c.sum += d
	return uint64(c.sum), true
}

// Err is like [Uints.Err].
func (c *Deltas) Err() error { return c.differences.Err() }

// Finish is like [Uints.Finish].
func (c *Deltas) Finish() error { return c.differences.Finish() }

// CountRows returns the number of rows of a column of unsigned numbers, at
// most limit, without expanding it or asking whether it is canonical.
func CountRows(column string, limit int) (int, error) {
	c := newRuns[uint64, uintCodec](column, limit)
	for c.r.Len() > 0 {
		c.follows = false
		c.nextRun()
		c.rows -= c.left
		if c.kind == literalRun {
			for range c.left {
				c.r.Uint()
			}
		}
	}
	return limit - c.rows, c.r.err
}
