package forge

import (
	"bytes"
	"crypto/sha256"
)

// Zeros is a raw deflate stream of head, then n zeros, then tail: about n/1032
// bytes. The zeros make one block whose matches are coded in one bit each, so
// that the middle of the stream is nothing but zeros, too.
func Zeros(head []byte, n int, tail []byte) []byte {
	pre, mid, post := zeroStream(head, n, tail)
	return bytes.Join([][]byte{pre, make([]byte, mid), post}, nil)
}

// zeroStream is the stream of [Zeros] as what stands before and after mid zero
// bytes.
func zeroStream(head []byte, n int, tail []byte) (pre []byte, mid int, post []byte) {
	const match = 258 // the longest match, coded as symbol 285
	w := bitWriter{out: stored(head, false)}
	w.bits(0, 1)              // not the last block
	w.bits(2, 2)              // with its own codes
	w.bits(286-257, 5)        // 286 literal codes
	w.bits(0, 5)              // one distance code
	w.bits(18-4, 4)           // 18 code length codes, in deflate's order:
	for _, l := range []uint{ // 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1
		0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2,
	} {
		w.bits(l, 3)
	}
	// Lengths 18 has code 0, 1 code 10, 2 code 11; codes go most significant bit first.
	one, two := func() { w.bits(1, 2) }, func() { w.bits(3, 2) }
	nulls := func(n uint) { w.bits(0, 1); w.bits(n-11, 7) }
	two() // literal 0: code 10
	nulls(138)
	nulls(255 - 138)
	two() // end of block: code 11
	nulls(285 - 257)
	one() // length 258: code 0
	one() // distance 1: code 0
	literal := func() { w.bits(1, 2) }
	literal()
	for range (n - 1) % match {
		literal()
	}
	zeros := 2 * ((n - 1) / match) // a match is two zero bits
	for ; zeros > 0 && w.n > 0; zeros-- {
		w.bits(0, 1)
	}
	mid = zeros / 8
	pre, w.out = w.out, nil
	w.bits(0, uint(zeros%8))
	w.bits(3, 2) // end of block
	w.flush()
	return pre, mid, append(w.out, stored(tail, true)...)
}

// stored returns b in stored blocks, from a byte boundary.
func stored(b []byte, last bool) []byte {
	var out []byte
	for {
		n := min(len(b), 0xffff)
		final := byte(0)
		if last && n == len(b) {
			final = 1
		}
		out = append(out, final, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		out = append(out, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return out
		}
	}
}

// bitWriter packs bits, the least significant first.
type bitWriter struct {
	out  []byte
	last uint
	n    uint
}

func (w *bitWriter) bits(v, n uint) {
	w.last |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.last))
		w.last >>= 8
	}
}

// flush fills the last byte. What follows the zeros' block is a stored block,
// whose header of three zero bits (or one and two zeros, for the last) needs to
// start here: it is written as an empty stored block, which ends on a byte.
func (w *bitWriter) flush() {
	w.bits(0, 3)
	if w.n > 0 {
		w.bits(0, 8-w.n)
	}
	w.out = append(w.out, 0, 0, 0xff, 0xff)
}

// A Blob is bytes that need not be large until they are used: Head, then so many
// zero bytes, then Tail.
type Blob struct {
	Head  []byte
	Zeros int
	Tail  []byte
}

// Bytes are the bytes themselves.
func (b Blob) Bytes() []byte {
	return bytes.Join([][]byte{b.Head, make([]byte, b.Zeros), b.Tail}, nil)
}

// ValueBomb is an otherwise honest change that sets a key to n zero bytes, as a
// deflated chunk a thousandth of that size.
func ValueBomb(c *Change, n int) Blob {
	l := c.Layout()
	raw := len(l.Columns)
	for i := range l.Columns {
		switch col := &l.Columns[i]; col.Spec {
		case ColValueMeta:
			col.Data = JoinRuns(Literal(Uleb(uint64(n)<<4 | uint64(TypeBytes))))
		case ColValueRaw:
			raw = i
			col.Data, col.LengthBytes = nil, Uleb(uint64(n))
		}
	}
	// The body up to the value, and from there.
	rest := append([]Column(nil), l.Columns[raw:]...)
	var tail []byte
	for _, col := range rest {
		tail = append(tail, col.Data...)
	}
	body := l.Body()
	return bombOf(body[:len(body)-len(tail)], n, tail)
}

// ExtraBomb is an otherwise honest change with n zeros of extra bytes.
func ExtraBomb(c *Change, n int) Blob { return bombOf(c.Layout().Body(), n, nil) }

// bombOf is the chunk whose inflated body is head, n zeros and tail.
func bombOf(head []byte, n int, tail []byte) Blob {
	length := Uleb(uint64(len(head) + n + len(tail)))
	h := sha256.New()
	h.Write([]byte{TypeChange})
	h.Write(length)
	h.Write(head)
	zeros := make([]byte, 1<<16)
	for left := n; left > 0; left -= len(zeros) {
		h.Write(zeros[:min(left, len(zeros))])
	}
	h.Write(tail)
	pre, mid, post := zeroStream(head, n, tail)
	chunk := append(bytes.Clone(magic), h.Sum(nil)[:4]...)
	chunk = append(chunk, TypeDeflated)
	chunk = append(chunk, Uleb(uint64(len(pre)+mid+len(post)))...)
	return Blob{Head: append(chunk, pre...), Zeros: mid, Tail: post}
}
