package forge

import "errors"

// maxParsedRows bounds what Parse unrolls: it reads what tests made.
const maxParsedRows = 100_000

var errRows = errors.New("columns do not make rows")

// decodeColumns reads operations from a layout's columns.
func decodeColumns(l *Layout, actors []string) ([]Op, error) {
	d := rowReader{l: l, actors: actors}
	oa, oc := d.rows(ColObjectActor), d.rows(ColObjectCounter)
	ka, ks := d.rows(ColKeyActor), d.rows(ColKeyText)
	kc, pc := d.deltas(ColKeyCounter), d.deltas(ColPredCounter)
	action, meta := d.rows(ColAction), d.rows(ColValueMeta)
	pn, pa := d.rows(ColPredCount), d.rows(ColPredActor)
	mark := d.rows(ColMarkName)
	insert, expand := d.bools(ColInsert), d.bools(ColExpand)
	raw := reader{b: l.Column(ColValueRaw)}
	ops := make([]Op, 0, len(action))
	next := 0 // of the preds
	for i := range action {
		o := Op{
			Object: d.id(at(oa, i), at(oc, i)), Elem: d.id(at(ka, i), at(kc, i)),
			Key: text(at(ks, i)), Mark: text(at(mark, i)),
			Insert: i < len(insert) && insert[i], Expand: i < len(expand) && expand[i],
			Action: decodeUleb(action[i]),
		}
		m := decodeUleb(at(meta, i))
		o.Value = Value{Type: byte(m & 15), Raw: raw.take(m >> 4)}
		n := decodeUleb(at(pn, i))
		if n > uint64(len(pc)-next) {
			return nil, errRows
		}
		for ; n > 0; n-- {
			o.Pred = append(o.Pred, d.id(at(pa, next), pc[next]))
			next++
		}
		ops = append(ops, o)
	}
	if d.bad || raw.bad || len(raw.b) > 0 || next != len(pc) {
		return nil, errRows
	}
	return ops, nil
}

// rowReader unrolls columns; bad is set by any that cannot be.
type rowReader struct {
	l      *Layout
	actors []string
	bad    bool
}

func (d *rowReader) rows(spec uint64) [][]byte {
	runs, err := splitRuns(d.l.Column(spec), columnKind(spec&7), maxParsedRows)
	d.bad = d.bad || err != nil
	return rowsOf(runs)
}

// deltas returns the absolute values of a delta column, each as a uleb.
func (d *rowReader) deltas(spec uint64) [][]byte {
	rows := d.rows(spec)
	sum := int64(0)
	for i, v := range rows {
		if v != nil {
			r := reader{b: v}
			sum += r.sleb()
			rows[i] = Uleb(uint64(sum))
		}
	}
	return rows
}

func (d *rowReader) bools(spec uint64) []bool {
	var out []bool
	value := false
	for r := (reader{b: d.l.Column(spec)}); len(r.b) > 0; value = !value {
		n := r.uleb()
		if n > maxParsedRows || r.bad {
			d.bad = true
			return nil
		}
		for range n {
			out = append(out, value)
		}
	}
	return out
}

func (d *rowReader) id(actor, counter []byte) ID {
	if actor == nil {
		return ID{}
	}
	i := decodeUleb(actor)
	if i >= uint64(len(d.actors)) {
		d.bad = true
		return ID{}
	}
	return ID{decodeUleb(counter), d.actors[i]}
}

func at(rows [][]byte, i int) []byte {
	if i < len(rows) {
		return rows[i]
	}
	return nil
}

// text is a sized text value's content, nil for null.
func text(v []byte) *string {
	if v == nil {
		return nil
	}
	r := reader{b: v}
	s := string(r.take(r.uleb()))
	return &s
}
