package forge

import "math/rand/v2"

// NewProgram returns a mutator whose decisions are read from a program, one
// from each byte, so that a fuzzer which changes a byte changes a decision and
// leaves those before it alone. A program that has ended decides for the first
// choice each time.
func NewProgram(program []byte) *Mutator { return &Mutator{rand.New(&tape{rest: program})} }

// tape is a program as a source of random numbers. Package rand takes choices
// of a few from the highest bits or from the lowest, so a byte stands in both.
type tape struct {
	rest []byte
	read uint64
}

// Uint64 never returns the same twice in a row: what rejects numbers until it
// is content would wait for ever.
func (t *tape) Uint64() uint64 {
	const both, middle = 0xff00_0000_0000_00ff, 0x0000_0101_0101_0100
	var b uint64
	if len(t.rest) > 0 {
		b, t.rest = uint64(t.rest[0]), t.rest[1:]
	}
	t.read++
	return (b|b<<56)&both | t.read*middle&^both
}
