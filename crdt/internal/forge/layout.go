package forge

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
)

// The types of chunks.
const (
	TypeDocument byte = iota
	TypeChange
	TypeDeflated // a change whose body is deflated
	TypeBundle
)

var magic = []byte{0x85, 0x6f, 0x4a, 0x83}

// A Field is a part of a change body that stands before or after its columns,
// as Automerge's binary format orders them.
type Field int

// The fields. Column metadata and data stand between Others and Extra.
const (
	DepCount Field = iota
	Deps
	ActorLength
	Actor
	Seq
	StartOp
	Time
	MessageLength
	Message
	OtherCount
	Others
	Extra
	NumFields
)

var fieldNames = [NumFields]string{
	"dep count", "deps", "actor length", "actor", "seq", "startOp", "time",
	"message length", "message", "other count", "other actors", "extra",
}

func (f Field) String() string { return fieldNames[f] }

// The columns of a change's operations, by specification.
const (
	ColObjectActor   = 0x01
	ColObjectCounter = 0x02
	ColKeyActor      = 0x11
	ColKeyCounter    = 0x13
	ColKeyText       = 0x15
	ColInsert        = 0x34
	ColAction        = 0x42
	ColValueMeta     = 0x56
	ColValueRaw      = 0x57
	ColPredCount     = 0x70
	ColPredActor     = 0x71
	ColPredCounter   = 0x73
	ColExpand        = 0x94
	ColMarkName      = 0xa5
)

var columnOrder = []uint64{
	ColObjectActor, ColObjectCounter, ColKeyActor, ColKeyCounter, ColKeyText,
	ColInsert, ColAction, ColValueMeta, ColValueRaw, ColPredCount, ColPredActor,
	ColPredCounter, ColExpand, ColMarkName,
}

// A Column is one column. SpecBytes and LengthBytes, if not nil, stand on the
// wire in place of what they should be.
type Column struct {
	Spec        uint64
	Data        []byte
	SpecBytes   []byte
	LengthBytes []byte
}

// A Layout is a change chunk cut into its parts. What is nil or zero among the
// frame's parts is made right by [Layout.Chunk].
type Layout struct {
	Fields  [NumFields][]byte
	Columns []Column

	ColumnCount []byte // nil: the number of Columns
	Type        byte
	Magic       []byte // nil: Automerge's
	Checksum    []byte // nil: right
	Length      []byte // nil: right
	Trailing    []byte // after the chunk
	Stream      []byte // TypeDeflated: in place of the deflated body

	body []byte // nil: of Fields and Columns
}

// Body is the part of an uncompressed chunk after its length.
func (l *Layout) Body() []byte {
	if l.body != nil {
		return l.body
	}
	var b []byte
	for f := DepCount; f <= Others; f++ {
		b = append(b, l.Fields[f]...)
	}
	b = append(b, or(l.ColumnCount, Uleb(uint64(len(l.Columns))))...)
	list, data := encodeColumnList(l.Columns)
	return join(b, list, data, l.Fields[Extra])
}

// encodeColumnList returns what lists the columns, without their number, and
// their data.
func encodeColumnList(cols []Column) (list, data []byte) {
	for _, c := range cols {
		list = append(list, or(c.SpecBytes, Uleb(c.Spec))...)
		list = append(list, or(c.LengthBytes, Uleb(uint64(len(c.Data))))...)
		data = append(data, c.Data...)
	}
	return list, data
}

func or(b, otherwise []byte) []byte {
	if b == nil {
		return otherwise
	}
	return b
}

// Hash is the hash that the body has.
func (l *Layout) Hash() Hash { return hashBody(TypeChange, l.Body()) }

func hashBody(typ byte, body []byte) Hash {
	return sha256.Sum256(append(append([]byte{typ}, Uleb(uint64(len(body)))...), body...))
}

// Chunk puts the parts together.
func (l *Layout) Chunk() []byte {
	body := l.Body()
	typ := l.Type
	if typ == TypeDeflated {
		typ = TypeChange
	}
	hash := hashBody(typ, body)
	if l.Type == TypeDeflated {
		body = or(l.Stream, Deflate(body))
	}
	out := append(bytes.Clone(or(l.Magic, magic)), or(l.Checksum, hash[:4])...)
	out = append(out, l.Type)
	out = append(out, or(l.Length, Uleb(uint64(len(body))))...)
	return append(append(out, body...), l.Trailing...)
}

// Frame is a chunk of any type and body, with the right length and checksum.
func Frame(typ byte, body []byte) []byte {
	h := hashBody(typ, body)
	out := append(append(bytes.Clone(magic), h[:4]...), typ)
	return append(append(out, Uleb(uint64(len(body)))...), body...)
}

// Clone copies l, so that changing the copy leaves l alone.
func (l *Layout) Clone() *Layout {
	out := *l
	for i, f := range l.Fields {
		out.Fields[i] = bytes.Clone(f)
	}
	out.Columns = slices.Clone(l.Columns)
	for i := range out.Columns {
		out.Columns[i].Data = bytes.Clone(out.Columns[i].Data)
	}
	return &out
}

// Column returns the data of the column, nil when the layout has none.
func (l *Layout) Column(spec uint64) []byte {
	for _, c := range l.Columns {
		if c.Spec == spec {
			return c.Data
		}
	}
	return nil
}

// SetColumn replaces the data of the column, or puts the column where its
// specification belongs; nil data takes it away.
func (l *Layout) SetColumn(spec uint64, data []byte) {
	i, found := slices.BinarySearchFunc(l.Columns, spec, func(c Column, s uint64) int { return int(c.Spec) - int(s) })
	switch {
	case found && data == nil:
		l.Columns = slices.Delete(l.Columns, i, i+1)
	case found:
		l.Columns[i].Data = data
	case data != nil:
		l.Columns = slices.Insert(l.Columns, i, Column{Spec: spec, Data: data})
	}
}

// deflaters are used again: a new one costs more than most of what is deflated.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err)
	}
	return w
}}

// Deflate compresses b as Automerge does: a raw deflate stream.
func Deflate(b []byte) []byte {
	var out bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

var errChunk = errors.New("not one change chunk that holds together")

// Dissect cuts a well-formed change chunk (deflated or not) into its parts.
func Dissect(chunk []byte) (*Layout, error) {
	r := reader{b: chunk}
	head := r.take(9)
	body := r.take(r.uleb())
	if r.bad || len(r.b) > 0 || !bytes.Equal(head[:4], magic) {
		return nil, errChunk
	}
	if head[8] == TypeDeflated {
		z, err := io.ReadAll(flate.NewReader(bytes.NewReader(body)))
		if err != nil {
			return nil, errChunk
		}
		body = z
	}
	l := &Layout{Type: TypeChange}
	if !l.cut(body) {
		return nil, errChunk
	}
	return l, nil
}

func (l *Layout) cut(body []byte) bool {
	r := reader{b: body}
	// number takes one number and returns its bytes too.
	number := func() (uint64, []byte) {
		before := r.b
		v := r.uleb()
		return v, before[:len(before)-len(r.b)]
	}
	f := &l.Fields
	n, b := number()
	if n > uint64(len(body)) {
		return false
	}
	f[DepCount], f[Deps] = b, r.take(n*uint64(len(Hash{})))
	n, f[ActorLength] = number()
	f[Actor] = r.take(n)
	_, f[Seq] = number()
	_, f[StartOp] = number()
	f[Time] = r.value(kindDelta)
	n, f[MessageLength] = number()
	f[Message] = r.take(n)
	n, f[OtherCount] = number()
	before := r.b
	for ; n > 0 && !r.bad; n-- {
		r.take(r.uleb())
	}
	f[Others] = before[:len(before)-len(r.b)]
	n, _ = number()
	var lengths []uint64
	for ; n > 0 && !r.bad; n-- {
		l.Columns = append(l.Columns, Column{Spec: r.uleb()})
		lengths = append(lengths, r.uleb())
	}
	for i := range l.Columns {
		l.Columns[i].Data = r.take(lengths[i])
	}
	f[Extra] = r.b
	return !r.bad
}
