package crdt

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"parley/crdt/internal/columnar"
)

// ValueKind is the type of a scalar value, numbered as in Automerge's value
// columns. Numbers above KindTimestamp are not in use; the gate refuses them.
type ValueKind uint8

// The kinds of values.
const (
	KindNull ValueKind = iota
	KindFalse
	KindTrue
	KindUint
	KindInt
	KindFloat
	KindText
	KindBytes
	KindCounter
	KindTimestamp
	numKinds
)

const (
	kindBits   = 4 // of a value's metadata; its length has the rest
	kindMask   = 1<<kindBits - 1
	floatBytes = 8
)

// Value is a scalar value. The zero Value is null.
type Value struct {
	Kind ValueKind
	raw  string // as in the value column
}

// Null returns the null value.
func Null() Value { return Value{} }

// Bool returns a boolean.
func Bool(b bool) Value {
	if b {
		return Value{Kind: KindTrue}
	}
	return Value{Kind: KindFalse}
}

// Int returns a signed integer.
func Int(v int64) Value { return Value{Kind: KindInt, raw: string(columnar.AppendInt(nil, v))} }

// Uint returns an unsigned integer.
func Uint(v uint64) Value { return Value{Kind: KindUint, raw: string(columnar.AppendUint(nil, v))} }

// Float returns a floating-point number.
func Float(v float64) Value {
	return Value{Kind: KindFloat, raw: string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))}
}

// Text returns a text as one scalar, which JavaScript reads as an
// ImmutableString. It must be UTF-8.
func Text(s string) Value { return Value{Kind: KindText, raw: s} }

// Bytes returns a byte string.
func Bytes(b []byte) Value { return Value{Kind: KindBytes, raw: string(b)} }

// Timestamp returns a time in milliseconds since 1970.
func Timestamp(ms int64) Value {
	return Value{Kind: KindTimestamp, raw: string(columnar.AppendInt(nil, ms))}
}

// Raw returns the value's bytes as the value column holds them.
func (v Value) Raw() string { return v.raw }

// Text returns a KindText's text. It is a part of the change's bytes and keeps
// all of them in memory.
func (v Value) Text() string { return v.raw }

// Int returns what a KindInt, KindCounter or KindTimestamp (in milliseconds
// since 1970) holds.
func (v Value) Int() int64 {
	r := columnar.NewReader(v.raw)
	return r.Int()
}

// Uint returns what a KindUint holds.
func (v Value) Uint() uint64 {
	r := columnar.NewReader(v.raw)
	return r.Uint()
}

// Float returns what a KindFloat holds.
func (v Value) Float() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64([]byte(v.raw)))
}

// valid says whether v's bytes are what Automerge writes for a value of its
// kind.
func (v Value) valid() bool {
	r := columnar.NewReader(v.raw)
	switch v.Kind {
	case KindNull, KindFalse, KindTrue:
	case KindUint:
		r.Uint()
	case KindInt, KindCounter, KindTimestamp:
		r.Int()
	case KindFloat:
		r.Take(floatBytes)
	case KindText:
		return utf8.ValidString(v.raw)
	case KindBytes:
		return true
	default:
		return false
	}
	return r.Err() == nil && r.Len() == 0
}
