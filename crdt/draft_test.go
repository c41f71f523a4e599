package crdt

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"slices"
	"testing"

	"parley/crdt/internal/columnar"
)

// draft is a change in the making: tests bend it and then encode it. Its
// checksum is always right.
type draft struct {
	deps    []Hash
	actor   ActorID
	seq     uint64
	startOp uint64
	time    int64
	message string
	others  []ActorID
	cols    [numColumns][]byte
	extra   []byte
}

// newDraft encodes a change's parts as Automerge does.
func newDraft(c *Change) *draft {
	return &draft{
		deps: slices.Clone(c.Deps), actor: c.Actor, seq: c.Seq, startOp: c.StartOp, time: c.Time,
		message: c.Message, others: slices.Clone(c.Actors[1:]), cols: encodeOps(c.Ops), extra: c.Extra,
	}
}

func (d *draft) body() []byte {
	var b []byte
	b = columnar.AppendUint(b, uint64(len(d.deps)))
	for _, h := range d.deps {
		b = append(b, h[:]...)
	}
	b = columnar.AppendText(b, string(d.actor))
	b = columnar.AppendUint(b, d.seq)
	b = columnar.AppendUint(b, d.startOp)
	b = columnar.AppendInt(b, d.time)
	b = columnar.AppendText(b, d.message)
	b = columnar.AppendUint(b, uint64(len(d.others)))
	for _, a := range d.others {
		b = columnar.AppendText(b, string(a))
	}
	return append(d.appendColumns(b), d.extra...)
}

func (d *draft) appendColumns(b []byte) []byte {
	var n uint64
	var list, data []byte
	for i, col := range d.cols {
		if len(col) == 0 {
			continue
		}
		n++
		list = columnar.AppendUint(columnar.AppendUint(list, specifications[i]), uint64(len(col)))
		data = append(data, col...)
	}
	return append(append(columnar.AppendUint(b, n), list...), data...)
}

func (d *draft) chunk() []byte { return frame(typeChange, d.body()) }

// decode encodes and decodes a draft that must pass.
func (d *draft) decode(t testing.TB) *Change {
	t.Helper()
	c, err := DecodeChange(d.chunk(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// frame makes a chunk of a body.
func frame(kind byte, body []byte) []byte {
	hashed := append(columnar.AppendUint([]byte{typeChange}, uint64(len(body))), body...)
	sum := sha256.Sum256(hashed)
	head := append([]byte(chunkMagic), sum[:checksumBytes]...)
	if kind != typeDeflated {
		hashed[0] = kind
		return append(head, hashed...)
	}
	deflated := deflate(body)
	head = columnar.AppendUint(append(head, typeDeflated), uint64(len(deflated)))
	return append(head, deflated...)
}

func deflate(body []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(body); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

type (
	numbers = []columnar.Cell[uint64]
	texts   = []columnar.Cell[string]
)

// encodeOps encodes operations as Automerge does.
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

// checkRoundTrip checks that a change, encoded again, is the same bytes.
func checkRoundTrip(t testing.TB, c *Change) {
	t.Helper()
	d := decoder{lim: Limits{}.withDefaults()}
	body, r := d.open(&Change{}, c.Chunk())
	if r != nil {
		t.Fatal(r)
	}
	if again := newDraft(c).body(); string(again) != body {
		t.Fatalf("change %s, encoded again, differs:\n%x\n%x", c.Hash, body, again)
	}
}
