package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/x448/float16"
)

// A major is CBOR's major type: the first three bits of an item (RFC 8949,
// section 3.1).
type major byte

const (
	majorUint major = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple // floats too
)

const (
	simpleFalse     = 20
	simpleTrue      = 21
	simpleNull      = 22
	simpleUndefined = 23
)

// tagUint8Array marks a byte string as a JavaScript Uint8Array (RFC 8746).
const tagUint8Array = 64

// What any frame may hold, known or not. Messages of the protocol nest four
// deep and have at most seven fields; the rest is room for what we ignore.
const (
	maxNesting  = 16
	maxElements = 4096
)

// checker decides what is well-formed. Everything below walks checked bytes.
var checker = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels:  maxNesting,
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxElements,
		IndefLength:      cbor.IndefLengthForbidden,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// checkFrame refuses whatever is not exactly one well-formed item within the
// bounds above.
func checkFrame(frame []byte) *Error {
	err := checker.Wellformed(frame)
	if err == nil {
		return nil
	}
	var nested *cbor.MaxNestedLevelError
	var elements *cbor.MaxArrayElementsError
	var pairs *cbor.MaxMapPairsError
	if errors.As(err, &nested) || errors.As(err, &elements) || errors.As(err, &pairs) {
		return &Error{Kind: KindLimit, Reason: err.Error()}
	}
	return &Error{Kind: KindEncoding, Reason: err.Error()}
}

// item is one item of a checked frame.
type item struct {
	major major
	width byte   // the head's low five bits: tells floats from simple values
	arg   uint64 // the head's number: a value, a length, a count, or a float's bits
	body  []byte // a string's bytes; the items within an array, map or tag
}

// next splits b, which must be checked and not empty, after its first item.
func next(b []byte) (item, []byte) {
	it, rest := head(b)
	switch it.major {
	case majorBytes, majorText:
		it.body, rest = rest[:it.arg], rest[it.arg:]
	case majorArray, majorMap, majorTag:
		after := skip(it, rest)
		it.body, rest = rest[:len(rest)-len(after)], after
	}
	return it, rest
}

// skip returns what follows the items within it.
func skip(it item, rest []byte) []byte {
	n := it.arg
	switch it.major {
	case majorMap:
		n *= 2
	case majorTag:
		n = 1
	}
	for range n {
		_, rest = next(rest)
	}
	return rest
}

func head(b []byte) (item, []byte) {
	it := item{major: major(b[0] >> 5), width: b[0] & 0x1f}
	b = b[1:]
	switch it.width {
	case 24:
		it.arg, b = uint64(b[0]), b[1:]
	case 25:
		it.arg, b = uint64(binary.BigEndian.Uint16(b)), b[2:]
	case 26:
		it.arg, b = uint64(binary.BigEndian.Uint32(b)), b[4:]
	case 27:
		it.arg, b = binary.BigEndian.Uint64(b), b[8:]
	default:
		it.arg = uint64(it.width)
	}
	return it, b
}

// absent reports whether the item is JavaScript's undefined or null.
func (it item) absent() bool {
	return it.major == majorSimple && it.width < 24 && (it.arg == simpleNull || it.arg == simpleUndefined)
}

// text returns the bytes of a text string of valid UTF-8.
func (it item) text() ([]byte, bool) {
	return it.body, it.major == majorText && utf8.Valid(it.body)
}

// bytes returns a byte string, also one that is marked as a Uint8Array.
func (it item) bytes() ([]byte, bool) {
	if it.major == majorTag && it.arg == tagUint8Array {
		it, _ = next(it.body)
	}
	return it.body, it.major == majorBytes
}

func (it item) bool() (value, ok bool) {
	ok = it.major == majorSimple && it.width < 24 && (it.arg == simpleFalse || it.arg == simpleTrue)
	return it.arg == simpleTrue, ok
}

// number returns an integer or a float of any width; an integer may be rounded.
func (it item) number() (float64, bool) {
	switch {
	case it.major == majorUint:
		return float64(it.arg), true
	case it.major == majorNegative:
		return -1 - float64(it.arg), true
	case it.major == majorSimple && it.width == 25:
		return float64(float16.Frombits(uint16(it.arg)).Float32()), true
	case it.major == majorSimple && it.width == 26:
		return float64(math.Float32frombits(uint32(it.arg))), true
	case it.major == majorSimple && it.width == 27:
		return math.Float64frombits(it.arg), true
	}
	return 0, false
}
