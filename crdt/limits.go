package crdt

import "math"

// Limits bound what the gate takes. A field that is zero stands for its
// default.
type Limits struct {
	ChangeBytes   int // of one change, inflated: 4 MiB
	Ops           int // of one change: 20,000
	Preds         int // of all operations of one change: 80,000
	Deps          int // of one change: 10,000
	Actors        int // that one change refers to: 20,000
	MessageBytes  int // of one change: 64 KiB
	ExtraBytes    int // after the columns of one change: 4 KiB
	Depth         int // of objects within objects, the root being 0: 500
	DocumentBytes int // of all changes, inflated: 64 MiB
	DocumentOps   int // of all changes: 8 million
	Heads         int // that a document may come to have: 2,000
}

// Bounds that are Automerge's, not ours to set.
const (
	// Clients choose their actors freely, 16 bytes as a rule; changeAt makes
	// further ones, a few bytes longer.
	maxActorBytes = 256
	maxSeq        = math.MaxUint32
	// Automerge keeps counters in 32 bits and adds one to the highest to begin
	// the next change; the last counter is left for that sum.
	maxCounter = math.MaxUint32 - 1
	// Automerge saves the times of changes as their differences, in 64 bits; a
	// document whose differences do not fit is saved but never loads again.
	// JavaScript, which most changes come from, has no integers beyond 53 bits.
	maxTime = 1<<53 - 1
)

// NoLimits are for what was accepted once, by whatever limits.
var NoLimits = Limits{
	ChangeBytes: math.MaxInt32, Ops: math.MaxInt32, Preds: math.MaxInt32, Deps: math.MaxInt32, Actors: math.MaxInt32,
	MessageBytes: math.MaxInt32, ExtraBytes: math.MaxInt32, DocumentBytes: math.MaxInt, DocumentOps: math.MaxInt32, Heads: math.MaxInt32,
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.ChangeBytes, 4 << 20},
		{&l.Ops, 20_000},
		{&l.Preds, 80_000},
		{&l.Deps, 10_000},
		{&l.Actors, 20_000},
		{&l.MessageBytes, 64 << 10},
		{&l.ExtraBytes, 4 << 10},
		{&l.Depth, 500},
		{&l.DocumentBytes, 64 << 20},
		{&l.DocumentOps, 8_000_000},
		{&l.Heads, 2_000},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	l.Depth = min(l.Depth, math.MaxUint16)
	return l
}
