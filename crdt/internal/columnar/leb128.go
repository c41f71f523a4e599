package columnar

import "unicode/utf8"

const (
	maxBytes = 10   // of a 64-bit LEB128 number
	more     = 0x80 // set in every byte but the last
	payload  = 0x7f
	sign     = 0x40 // of the last byte of a signed number
)

// Reader reads numbers and texts one after the other. After the first error it
// returns zero values; the error stays in Err.
type Reader struct {
	rest string
	err  error
}

// NewReader reads s from its beginning.
func NewReader(s string) Reader { return Reader{rest: s} }

// Err returns the first error, nil if there was none.
func (r *Reader) Err() error { return r.err }

// Len returns the number of bytes not read yet, 0 after an error.
func (r *Reader) Len() int { return len(r.rest) }

// Rest returns the bytes not read yet.
func (r *Reader) Rest() string { return r.rest }

func (r *Reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = ""
}

// Uint reads an unsigned number.
func (r *Reader) Uint() uint64 {
	if len(r.rest) > 0 && r.rest[0] < more {
		v := uint64(r.rest[0])
		r.rest = r.rest[1:]
		return v
	}
	var v uint64
	for i := 0; i < len(r.rest) && i < maxBytes; i++ {
		b := r.rest[i]
		if i == maxBytes-1 && b > 1 {
			break
		}
		v |= uint64(b&payload) << (7 * i)
		if b >= more {
			continue
		}
		if b == 0 {
			r.fail(ErrOverlong)
			return 0
		}
		r.rest = r.rest[i+1:]
		return v
	}
	r.failNumber()
	return 0
}

// Int reads a signed number.
func (r *Reader) Int() int64 {
	var v int64
	for i := 0; i < len(r.rest) && i < maxBytes; i++ {
		b := r.rest[i]
		if i == maxBytes-1 && b != 0 && b != payload {
			break
		}
		v |= int64(b&payload) << (7 * i)
		if b >= more {
			continue
		}
		if i > 0 && redundant(b, r.rest[i-1]) {
			r.fail(ErrOverlong)
			return 0
		}
		if b&sign != 0 && i < maxBytes-1 {
			v |= -1 << (7 * (i + 1))
		}
		r.rest = r.rest[i+1:]
		return v
	}
	r.failNumber()
	return 0
}

// redundant says whether last, a signed number's last byte, only repeats the
// sign that the byte before it would have given.
func redundant(last, before byte) bool {
	return last == 0 && before&sign == 0 || last == payload && before&sign != 0
}

// failNumber tells a number that is cut off from one that is too large.
func (r *Reader) failNumber() {
	if r.err == nil && len(r.rest) >= maxBytes {
		r.fail(ErrRange)
		return
	}
	r.fail(ErrTruncated)
}

// Take reads the next n bytes.
func (r *Reader) Take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.fail(ErrTruncated)
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// Text reads a length and that many bytes of UTF-8.
func (r *Reader) Text() string {
	s := r.Take(r.Uint())
	if !utf8.ValidString(s) {
		r.fail(ErrText)
		return ""
	}
	return s
}

// AppendUint appends v as an unsigned number.
func AppendUint(dst []byte, v uint64) []byte {
	for v >= more {
		dst = append(dst, byte(v)|more)
		v >>= 7
	}
	return append(dst, byte(v))
}

// AppendInt appends v as a signed number.
func AppendInt(dst []byte, v int64) []byte {
	for {
		b := byte(v) & payload
		v >>= 7
		if v == 0 && b&sign == 0 || v == -1 && b&sign != 0 {
			return append(dst, b)
		}
		dst = append(dst, b|more)
	}
}

// AppendText appends the length of s and s.
func AppendText(dst []byte, s string) []byte {
	return append(AppendUint(dst, uint64(len(s))), s...)
}
