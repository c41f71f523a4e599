// Package columnar reads and writes the columns of Automerge's binary format:
// LEB128 numbers, and run-length, delta and boolean columns.
//
// Reading is strict. It takes exactly what Automerge's own encoders write, the
// one canonical form of a column, and refuses every other encoding of the same
// rows: a replica that decodes and encodes such a column again gets other
// bytes, so another hash, and a document that no longer loads. Reading never
// expands a run beyond the number of rows that the caller allows.
//
// Columns are read from a string, so that the texts they hold are substrings
// of it and cost no allocation.
//
// It is not a decoder of changes and knows nothing of operations. Package crdt
// and its tests import it, nobody else.
//
// Source: https://automerge.org/automerge-binary-format-spec/ and, where that
// is silent about what is canonical, the encoders of automerge's Rust library.
package columnar

import "errors"

// What can be wrong with a column or a number. Errors of this package are one
// of these, never wrapped.
var (
	ErrTruncated = errors.New("the bytes end too early")
	ErrOverlong  = errors.New("a number is longer than it needs to be")
	ErrRange     = errors.New("a number is out of range")
	ErrText      = errors.New("a text is not UTF-8")
	ErrRun       = errors.New("runs are not in canonical form")
	ErrRows      = errors.New("the column holds too many rows")
	ErrShort     = errors.New("the column holds too few rows")
	ErrEmpty     = errors.New("a column without values is present")
)
