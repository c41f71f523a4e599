package forge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// A Hash names a change.
type Hash [32]byte

// An ID names an operation, an object (by the operation that made it) or a list
// element (by the operation that inserted it). The zero ID is the root object,
// or the head of a list.
type ID struct {
	Counter uint64
	Actor   string // raw bytes
}

// IsZero says that id is the root, or the head.
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) compare(o ID) int {
	if id.Counter != o.Counter {
		if id.Counter < o.Counter {
			return -1
		}
		return 1
	}
	return bytes.Compare([]byte(id.Actor), []byte(o.Actor))
}

// The actions of operations.
const (
	ActionMakeMap uint64 = iota
	ActionPut
	ActionMakeList
	ActionDelete
	ActionMakeText
	ActionIncrement
	ActionMakeTable
	ActionMark
)

// The types of values, as they stand in a value's metadata.
const (
	TypeNull byte = iota
	TypeFalse
	TypeTrue
	TypeUint
	TypeInt
	TypeFloat
	TypeText
	TypeBytes
	TypeCounter
	TypeTimestamp
)

// A Value is a value's type and bytes. The zero Value is null.
type Value struct {
	Type byte
	Raw  []byte
}

// Int is a signed integer value.
func Int(v int64) Value { return Value{TypeInt, Sleb(v)} }

// Uint is an unsigned integer value.
func Uint(v uint64) Value { return Value{TypeUint, Uleb(v)} }

// Text is a string value.
func Text(s string) Value { return Value{TypeText, []byte(s)} }

// Bytes is a byte string value.
func Bytes(b []byte) Value { return Value{TypeBytes, b} }

// Counter is a counter's first value.
func Counter(v int64) Value { return Value{TypeCounter, Sleb(v)} }

// Float is a floating point value.
func Float(v float64) Value {
	return Value{TypeFloat, binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))}
}

// An Op is one operation as a change's columns hold it.
type Op struct {
	Object ID
	Key    *string // map key; nil when Elem is the key
	Elem   ID      // list element, the zero ID for the head
	Insert bool
	Action uint64
	Value  Value
	Pred   []ID // encoded in this order
	Expand bool
	Mark   *string // a mark's name
}

// A Change is what a change means. Its operations have the ids StartOp,
// StartOp+1, … of Actor.
type Change struct {
	Deps    []Hash // encoded in this order
	Actor   string // raw bytes
	Seq     uint64
	StartOp uint64
	Time    int64 // seconds since 1970, as JavaScript writes it
	Message string
	Ops     []Op
	Extra   []byte
}

// OpID is the id of the i-th operation.
func (c *Change) OpID(i int) ID { return ID{c.StartOp + uint64(i), c.Actor} }

// Chunk is the change as an uncompressed chunk, encoded as Automerge would.
func (c *Change) Chunk() []byte { return c.Layout().Chunk() }

// Hash is the change's name.
func (c *Change) Hash() Hash { return c.Layout().Hash() }

// Layout encodes the change and returns it cut into fields and columns.
func (c *Change) Layout() *Layout {
	l := &Layout{Type: TypeChange}
	var deps []byte
	for _, d := range c.Deps {
		deps = append(deps, d[:]...)
	}
	others := c.otherActors()
	var table []byte
	for _, a := range others {
		table = append(table, Sized([]byte(a))...)
	}
	l.Fields = [NumFields][]byte{
		DepCount: Uleb(uint64(len(c.Deps))), Deps: deps,
		ActorLength: Uleb(uint64(len(c.Actor))), Actor: []byte(c.Actor),
		Seq: Uleb(c.Seq), StartOp: Uleb(c.StartOp), Time: Sleb(c.Time),
		MessageLength: Uleb(uint64(len(c.Message))), Message: []byte(c.Message),
		OtherCount: Uleb(uint64(len(others))), Others: table,
		Extra: c.Extra,
	}
	l.Columns = encodeColumns(c.Ops, append([]string{c.Actor}, others...))
	return l
}

// otherActors returns the actors that operations mention, but for the change's
// own, sorted.
func (c *Change) otherActors() []string {
	seen := map[string]bool{}
	add := func(id ID) {
		if !id.IsZero() && id.Actor != c.Actor {
			seen[id.Actor] = true
		}
	}
	for _, o := range c.Ops {
		add(o.Object)
		add(o.Elem)
		for _, p := range o.Pred {
			add(p)
		}
	}
	var out []string
	for a := range seen {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

// encodeColumns returns the canonical columns of ops.
func encodeColumns(ops []Op, actors []string) []Column {
	rows := map[uint64][][]byte{}
	put := func(spec uint64, v []byte) { rows[spec] = append(rows[spec], v) }
	actor := func(id ID) []byte { return Uleb(uint64(slices.Index(actors, id.Actor))) }
	var raw []byte
	var insert, expand []bool
	var elem, pred delta
	for _, o := range ops {
		var oa, oc, ka, kc, ks, mark []byte
		if !o.Object.IsZero() {
			oa, oc = actor(o.Object), Uleb(o.Object.Counter)
		}
		switch {
		case o.Key != nil:
			ks = Sized([]byte(*o.Key))
		case o.Elem.IsZero():
			kc = elem.next(0)
		default:
			ka, kc = actor(o.Elem), elem.next(o.Elem.Counter)
		}
		if o.Mark != nil {
			mark = Sized([]byte(*o.Mark))
		}
		put(ColObjectActor, oa)
		put(ColObjectCounter, oc)
		put(ColKeyActor, ka)
		put(ColKeyCounter, kc)
		put(ColKeyText, ks)
		put(ColAction, Uleb(o.Action))
		put(ColValueMeta, Uleb(uint64(len(o.Value.Raw))<<4|uint64(o.Value.Type)))
		raw = append(raw, o.Value.Raw...)
		put(ColPredCount, Uleb(uint64(len(o.Pred))))
		for _, p := range o.Pred {
			put(ColPredActor, actor(p))
			put(ColPredCounter, pred.next(p.Counter))
		}
		put(ColMarkName, mark)
		insert, expand = append(insert, o.Insert), append(expand, o.Expand)
	}
	cols := make([]Column, 0, len(columnOrder))
	for _, spec := range columnOrder {
		var data []byte
		switch spec {
		case ColInsert:
			data = boolRuns(insert)
		case ColExpand:
			if slices.Contains(expand, true) {
				data = boolRuns(expand)
			}
		case ColValueRaw:
			data = raw
		default:
			data = JoinRuns(canonicalRuns(rows[spec])...)
		}
		if len(data) > 0 {
			cols = append(cols, Column{Spec: spec, Data: data})
		}
	}
	return cols
}

// delta turns absolute values into the differences that a delta column holds.
type delta struct{ last int64 }

func (d *delta) next(v uint64) []byte {
	diff := int64(v) - d.last
	d.last = int64(v)
	return Sleb(diff)
}

// Parse reads an honest uncompressed chunk back into what it means.
func Parse(chunk []byte) (*Change, error) {
	l, err := Dissect(chunk)
	if err != nil {
		return nil, err
	}
	return l.Change()
}

// Change reads what the layout means. It fails where the layout is not one
// that [Change.Layout] could have made from rows.
func (l *Layout) Change() (*Change, error) {
	f := &l.Fields
	c := &Change{
		Actor: string(f[Actor]), Message: string(f[Message]), Extra: f[Extra],
		Seq: decodeUleb(f[Seq]), StartOp: decodeUleb(f[StartOp]),
	}
	r := reader{b: f[Time]}
	c.Time = r.sleb()
	for d := range slices.Chunk(f[Deps], len(Hash{})) {
		c.Deps = append(c.Deps, Hash(d))
	}
	actors := []string{c.Actor}
	for o := (reader{b: f[Others]}); len(o.b) > 0; {
		actors = append(actors, string(o.take(o.uleb())))
	}
	ops, err := decodeColumns(l, actors)
	if err != nil {
		return nil, fmt.Errorf("read change: %w", err)
	}
	c.Ops = ops
	return c, nil
}

func decodeUleb(b []byte) uint64 {
	v, _ := binary.Uvarint(b)
	return v
}
