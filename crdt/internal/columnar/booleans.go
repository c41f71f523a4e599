package columnar

// Booleans reads a column of booleans: how many are false, then how many are
// true, and so on. After an error it yields false.
type Booleans struct {
	r       Reader
	rows    int
	left    int
	value   bool
	begun   bool
	present bool
	valued  bool // some row was true
}

// NewBooleans is like [NewUints]; rows of an absent column are false.
func NewBooleans(column string, rows int) Booleans {
	return Booleans{r: NewReader(column), rows: rows, present: column != ""}
}

// Next returns the next row. It may be called as often as the column has rows,
// no more.
func (c *Booleans) Next() bool {
	if !c.present {
		return false
	}
	if c.left == 0 {
		c.nextRun()
	}
	if c.r.err != nil {
		return false
	}
	c.left--
	c.rows--
	return c.value
}

// nextRun reads the next run that has rows. Only the first, of false, may have
// none.
func (c *Booleans) nextRun() {
	if c.r.err == nil && c.r.Len() == 0 {
		c.r.fail(ErrShort)
	}
	n := c.r.Uint()
	first := !c.begun
	c.value, c.begun = c.begun && !c.value, true
	switch {
	case c.r.err != nil:
	case n > uint64(c.rows):
		c.r.fail(ErrRows)
	case n == 0 && !first:
		c.r.fail(ErrRun)
	case n == 0:
		c.nextRun()
	default:
		c.left = int(n)
		c.valued = c.valued || c.value
	}
}

// Err returns the first error so far.
func (c *Booleans) Err() error { return c.r.err }

// Finish is like [Uints.Finish], but for a column without a true row: whether
// an encoder writes that depends on the column. See Valued.
func (c *Booleans) Finish() error {
	switch {
	case c.r.err != nil || !c.present:
		return c.r.err
	case c.left > 0 || c.r.Len() > 0:
		return ErrRows
	case c.rows > 0:
		return ErrShort
	}
	return nil
}

// Valued says whether some row so far was true.
func (c *Booleans) Valued() bool { return c.valued }
