package historytest

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Raw is a first change written byte by byte, for what the engine's own API
// cannot express: unknown values, and changes that harm the engine and that
// therefore no gate may let through.
type Raw struct {
	Key    string // at the root; at least one character
	Action byte   // 1 is set
	Type   byte   // of the value, 0 to 15
	Value  []byte
	Repeat int // so many operations, all the same; 0 means 1
}

type column struct {
	spec byte // id, type and deflate bit, as the change's header lists it
	data []byte
}

// Chunk returns the change as a chunk whose checksum is right.
func (r Raw) Chunk() []byte {
	n := max(r.Repeat, 1)
	key := append(binary.AppendUvarint(nil, uint64(len(r.Key))), r.Key...)
	meta := binary.AppendUvarint(nil, uint64(len(r.Value))<<4|uint64(r.Type))
	columns := []column{
		{0x15, run(n, key)},                                     // the key
		{0x34, binary.AppendUvarint(nil, uint64(n))},            // inserted? n times not
		{0x42, run(n, []byte{r.Action})},                        // the action
		{0x56, run(n, meta)}, {0x57, slices.Repeat(r.Value, n)}, // the value
		{0x70, run(n, []byte{0})}, // the number of predecessors
	}
	// No deps; an actor of one byte; seq 1; start op 1; time 0; no message; no
	// other actors; then the columns.
	body := []byte{0, 1, 'r', 1, 1, 0, 0, 0}
	columns = slices.DeleteFunc(columns, func(c column) bool { return len(c.data) == 0 })
	body = append(body, byte(len(columns)))
	for _, c := range columns {
		body = binary.AppendUvarint(append(body, c.spec), uint64(len(c.data)))
	}
	for _, c := range columns {
		body = append(body, c.data...)
	}
	hashed := append(binary.AppendUvarint([]byte{1}, uint64(len(body))), body...)
	sum := sha256.Sum256(hashed)
	return slices.Concat([]byte{0x85, 0x6f, 0x4a, 0x83}, sum[:4], hashed)
}

// run is a run-length encoded column of n times the same value: a literal for
// one, a run for more.
func run(n int, value []byte) []byte {
	if n == 1 {
		return append([]byte{0x7f}, value...)
	}
	return append(signed(int64(n)), value...)
}

// signed writes signed LEB128.
func signed(v int64) []byte {
	var out []byte
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}
