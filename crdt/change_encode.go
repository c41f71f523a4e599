package crdt

import (
	"crypto/sha256"
	"slices"

	"parley/crdt/internal/columnar"
)

// chunkOf puts a change's body into its frame: magic, checksum, type, length.
func chunkOf(body []byte) []byte {
	hashed := append(columnar.AppendUint([]byte{typeChange}, uint64(len(body))), body...)
	sum := sha256.Sum256(hashed)
	return slices.Concat([]byte(chunkMagic), sum[:checksumBytes], hashed)
}

// appendBody appends what a change's chunk holds behind its length. The actors
// other than the change's own are sorted and all used; deps are sorted.
func appendBody(b []byte, h Header, others []ActorID, cols [numColumns][]byte) []byte {
	b = columnar.AppendUint(b, uint64(len(h.Deps)))
	for _, dep := range h.Deps {
		b = append(b, dep[:]...)
	}
	b = columnar.AppendText(b, string(h.Actor))
	b = columnar.AppendUint(b, h.Seq)
	b = columnar.AppendUint(b, h.StartOp)
	b = columnar.AppendInt(b, h.Time)
	b = columnar.AppendText(b, h.Message)
	b = columnar.AppendUint(b, uint64(len(others)))
	for _, a := range others {
		b = columnar.AppendText(b, string(a))
	}
	return appendColumns(b, cols)
}

// appendColumns appends the list of the columns that hold anything, and then
// their data.
func appendColumns(b []byte, cols [numColumns][]byte) []byte {
	var n uint64
	var list, data []byte
	for i, col := range cols {
		if len(col) == 0 {
			continue
		}
		n++
		list = columnar.AppendUint(columnar.AppendUint(list, specifications[i]), uint64(len(col)))
		data = append(data, col...)
	}
	return append(append(columnar.AppendUint(b, n), list...), data...)
}

type (
	numbers = []columnar.Cell[uint64]
	texts   = []columnar.Cell[string]
)

// encodeOps writes operations as columns, as Automerge does: reading a change
// and writing it again gives the same bytes.
func encodeOps(ops []Op) (cols [numColumns][]byte) {
	var objectActor, objectCounter, keyActor, keyCounter, action, meta, count, predActor, predCounter numbers
	var key, mark texts
	var insert, expand []bool
	var values []byte
	for i := range ops {
		op := &ops[i]
		objectActor = append(objectActor, cell(op.Object.Actor, !op.Object.IsZero()))
		objectCounter = append(objectCounter, cell(op.Object.Counter, !op.Object.IsZero()))
		keyActor = append(keyActor, cell(op.Elem.Actor, !op.Elem.IsZero()))
		keyCounter = append(keyCounter, cell(op.Elem.Counter, !op.Keyed))
		key = append(key, columnar.Cell[string]{Value: op.Key, Valid: op.Keyed})
		insert = append(insert, op.Insert)
		action = append(action, cell(uint32(op.Action), true))
		meta = append(meta, cell(uint32(len(op.Value.raw))<<kindBits|uint32(op.Value.Kind), true))
		values = append(values, op.Value.raw...)
		count = append(count, cell(uint32(len(op.Pred)), true))
		for _, p := range op.Pred {
			predActor = append(predActor, cell(p.Actor, true))
			predCounter = append(predCounter, cell(p.Counter, true))
		}
		expand = append(expand, op.Expand)
		mark = append(mark, columnar.Cell[string]{Value: op.MarkName, Valid: op.MarkBegin})
	}
	cols[colObjectActor] = columnar.AppendUints(nil, objectActor)
	cols[colObjectCounter] = columnar.AppendUints(nil, objectCounter)
	cols[colKeyActor] = columnar.AppendUints(nil, keyActor)
	cols[colKeyCounter] = columnar.AppendDeltas(nil, keyCounter)
	cols[colKeyText] = columnar.AppendTexts(nil, key)
	cols[colInsert] = columnar.AppendBooleans(nil, insert)
	cols[colAction] = columnar.AppendUints(nil, action)
	cols[colValueMeta] = columnar.AppendUints(nil, meta)
	cols[colValueRaw] = values
	cols[colPredCount] = columnar.AppendUints(nil, count)
	cols[colPredActor] = columnar.AppendUints(nil, predActor)
	cols[colPredCounter] = columnar.AppendDeltas(nil, predCounter)
	if slices.Contains(expand, true) {
		cols[colExpand] = columnar.AppendBooleans(nil, expand)
	}
	cols[colMarkName] = columnar.AppendTexts(nil, mark)
	return cols
}

func cell(v uint32, valid bool) columnar.Cell[uint64] {
	if !valid {
		return columnar.Cell[uint64]{}
	}
	return columnar.Cell[uint64]{Value: uint64(v), Valid: true}
}
