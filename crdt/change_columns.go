package crdt

import (
	"slices"

	"parley/crdt/internal/columnar"
)

// column is one of a change's columns, in the order in which they stand.
type column int

const (
	colObjectActor column = iota
	colObjectCounter
	colKeyActor
	colKeyCounter
	colKeyText
	colInsert
	colAction
	colValueMeta
	colValueRaw
	colPredCount
	colPredActor
	colPredCounter
	colExpand
	colMarkName
	numColumns
)

// specifications are the columns' numbers in the format: an id and a type.
var specifications = [numColumns]uint64{
	colObjectActor:   0x01,
	colObjectCounter: 0x02,
	colKeyActor:      0x11,
	colKeyCounter:    0x13,
	colKeyText:       0x15,
	colInsert:        0x34,
	colAction:        0x42,
	colValueMeta:     0x56,
	colValueRaw:      0x57,
	colPredCount:     0x70,
	colPredActor:     0x71,
	colPredCounter:   0x73,
	colExpand:        0x94,
	colMarkName:      0xa5,
}

var columnNames = [numColumns]string{
	"object actor", "object counter", "key actor", "key counter", "key", "insert", "action",
	"value type", "value", "pred count", "pred actor", "pred counter", "expand", "mark name",
}

func (c column) String() string { return columnNames[c] }

// columns are a change's columns, "" where one is absent.
type columns [numColumns]string

// readColumns reads the list of columns and then their data. Every column that
// is there has bytes: encoders leave out the others.
func readColumns(r *columnar.Reader) (columns, *Refusal) {
	n := r.Uint()
	if n > uint64(numColumns) {
		return columns{}, newRefusal(CodeColumns, "%d of them", n)
	}
	var lengths [numColumns]uint64
	next := 0
	for range n {
		spec, length := r.Uint(), r.Uint()
		i := slices.Index(specifications[next:], spec)
		switch {
		case r.Err() != nil:
			return columns{}, newRefusal(CodeColumns, "%v", r.Err())
		case i < 0:
			return columns{}, newRefusal(CodeColumns, "column %#x is unknown or out of place", spec)
		case length == 0:
			return columns{}, newRefusal(CodeColumns, "%s: %v", column(next+i), columnar.ErrEmpty)
		}
		lengths[next+i] = length
		next += i + 1
	}
	var cols columns
	for i := range cols {
		cols[i] = r.Take(lengths[i])
	}
	if r.Err() != nil {
		return columns{}, newRefusal(CodeColumns, "%v", r.Err())
	}
	return cols, nil
}

// rows reads all columns in step, one operation after the other.
type rows struct {
	objectActor   columnar.Uints
	objectCounter columnar.Uints
	keyActor      columnar.Uints
	keyCounter    columnar.Deltas
	keyText       columnar.Texts
	insert        columnar.Booleans
	action        columnar.Uints
	valueMeta     columnar.Uints
	values        columnar.Reader
	predCount     columnar.Uints
	predActor     columnar.Uints
	predCounter   columnar.Deltas
	expand        columnar.Booleans
	markName      columnar.Texts
}

// newRows begins to read columns of n operations with that many predecessors
// together.
func newRows(cols *columns, n, preds int) rows {
	return rows{
		objectActor:   columnar.NewUints(cols[colObjectActor], n),
		objectCounter: columnar.NewUints(cols[colObjectCounter], n),
		keyActor:      columnar.NewUints(cols[colKeyActor], n),
		keyCounter:    columnar.NewDeltas(cols[colKeyCounter], n, maxCounter),
		keyText:       columnar.NewTexts(cols[colKeyText], n),
		insert:        columnar.NewBooleans(cols[colInsert], n),
		action:        columnar.NewUints(cols[colAction], n),
		valueMeta:     columnar.NewUints(cols[colValueMeta], n),
		values:        columnar.NewReader(cols[colValueRaw]),
		predCount:     columnar.NewUints(cols[colPredCount], n),
		predActor:     columnar.NewUints(cols[colPredActor], preds),
		predCounter:   columnar.NewDeltas(cols[colPredCounter], preds, maxCounter),
		expand:        columnar.NewBooleans(cols[colExpand], n),
		markName:      columnar.NewTexts(cols[colMarkName], n),
	}
}

// broken says which column could not be read, nil if none so far.
func (s *rows) broken() *Refusal {
	for i, err := range [...]error{
		colObjectActor:   s.objectActor.Err(),
		colObjectCounter: s.objectCounter.Err(),
		colKeyActor:      s.keyActor.Err(),
		colKeyCounter:    s.keyCounter.Err(),
		colKeyText:       s.keyText.Err(),
		colInsert:        s.insert.Err(),
		colAction:        s.action.Err(),
		colValueMeta:     s.valueMeta.Err(),
		colValueRaw:      s.values.Err(),
		colPredCount:     s.predCount.Err(),
		colPredActor:     s.predActor.Err(),
		colPredCounter:   s.predCounter.Err(),
		colExpand:        s.expand.Err(),
		colMarkName:      s.markName.Err(),
	} {
		if err != nil {
			return newRefusal(CodeColumns, "%s: %v", column(i), err)
		}
	}
	return nil
}

// finish checks that every column ends with the last row.
func (s *rows) finish(cols *columns) *Refusal {
	for i, err := range [...]error{
		colObjectActor:   s.objectActor.Finish(),
		colObjectCounter: s.objectCounter.Finish(),
		colKeyActor:      s.keyActor.Finish(),
		colKeyCounter:    s.keyCounter.Finish(),
		colKeyText:       s.keyText.Finish(),
		colInsert:        s.insert.Finish(),
		colAction:        s.action.Finish(),
		colValueMeta:     s.valueMeta.Finish(),
		colValueRaw:      s.values.Err(),
		colPredCount:     s.predCount.Finish(),
		colPredActor:     s.predActor.Finish(),
		colPredCounter:   s.predCounter.Finish(),
		colExpand:        s.expand.Finish(),
		colMarkName:      s.markName.Finish(),
	} {
		if err != nil {
			return newRefusal(CodeColumns, "%s: %v", column(i), err)
		}
	}
	switch {
	case s.values.Len() > 0:
		return newRefusal(CodeColumns, "%s: %v", colValueRaw, columnar.ErrRows)
	case cols[colExpand] != "" && !s.expand.Valued():
		return newRefusal(CodeColumns, "%s: %v", colExpand, columnar.ErrEmpty)
	}
	return nil
}
