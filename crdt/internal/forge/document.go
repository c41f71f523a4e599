package forge

import (
	"bytes"
	"compress/flate"
	"io"
)

// deflated marks the specification of a document's column that is deflated.
const deflated = 1 << 3

// The columns that a document has of its changes, and of its operations beside
// those of a change: predecessors are told from the other end.
var (
	documentChangeColumns = []uint64{0x01, 0x03, 0x13, 0x23, 0x35, 0x40, 0x43, 0x56, 0x57}
	documentOpColumns     = []uint64{
		ColObjectActor, ColObjectCounter, ColKeyActor, ColKeyCounter, ColKeyText, 0x21, 0x23,
		ColInsert, ColAction, ColValueMeta, ColValueRaw, 0x80, 0x81, 0x83, ColExpand, ColMarkName,
	}
)

// A Document is a document chunk, such as a snapshot, cut into its parts. The
// data of its columns is inflated; those whose specification says so are
// deflated again by [Document.Chunk].
type Document struct {
	Actors  [][]byte
	Heads   [][]byte // of 32 bytes each
	Changes []Column
	Ops     []Column
	Rest    []byte // the heads' places among the changes

	ActorCount, HeadCount []byte // nil: right
}

// DissectDocument cuts a well-formed document chunk into its parts.
func DissectDocument(chunk []byte) (*Document, error) {
	r := reader{b: chunk}
	head := r.take(9)
	body := reader{b: r.take(r.uleb())}
	if r.bad || len(r.b) > 0 || !bytes.Equal(head[:4], magic) || head[8] != TypeDocument {
		return nil, errChunk
	}
	d := &Document{}
	for n := body.uleb(); n > 0 && !body.bad; n-- {
		d.Actors = append(d.Actors, body.take(body.uleb()))
	}
	for n := body.uleb(); n > 0 && !body.bad; n-- {
		d.Heads = append(d.Heads, body.take(uint64(len(Hash{}))))
	}
	list := func(cols *[]Column) (lengths []uint64) {
		for n := body.uleb(); n > 0 && !body.bad; n-- {
			*cols = append(*cols, Column{Spec: body.uleb()})
			lengths = append(lengths, body.uleb())
		}
		return lengths
	}
	changes := list(&d.Changes)
	ops := list(&d.Ops)
	for i, n := range changes {
		d.Changes[i].Data = body.take(n)
	}
	for i, n := range ops {
		d.Ops[i].Data = body.take(n)
	}
	d.Rest = body.b
	if body.bad || !inflateColumns(d.Changes) || !inflateColumns(d.Ops) {
		return nil, errChunk
	}
	return d, nil
}

func inflateColumns(cols []Column) bool {
	for i := range cols {
		if cols[i].Spec&deflated == 0 {
			continue
		}
		data, err := io.ReadAll(flate.NewReader(bytes.NewReader(cols[i].Data)))
		if err != nil {
			return false
		}
		cols[i].Data = data
	}
	return true
}

func deflateColumns(cols []Column) []Column {
	var out []Column
	for _, c := range cols {
		if c.Spec&deflated != 0 {
			c.Data = Deflate(c.Data)
		}
		out = append(out, c)
	}
	return out
}

// Chunk puts the parts together.
func (d *Document) Chunk() []byte { return Frame(TypeDocument, d.body()) }

func (d *Document) body() []byte {
	b := bytes.Clone(or(d.ActorCount, Uleb(uint64(len(d.Actors)))))
	for _, a := range d.Actors {
		b = append(b, Sized(a)...)
	}
	b = append(b, or(d.HeadCount, Uleb(uint64(len(d.Heads))))...)
	b = append(b, join(d.Heads...)...)
	changeList, changes := encodeColumnList(deflateColumns(d.Changes))
	opList, ops := encodeColumnList(deflateColumns(d.Ops))
	return join(b, Uleb(uint64(len(d.Changes))), changeList, Uleb(uint64(len(d.Ops))), opList, changes, ops, d.Rest)
}

// Document mutates a document chunk; what is none is mutated as bytes.
func (m *Mutator) Document(chunk []byte) []byte {
	d, err := DissectDocument(bytes.Clone(chunk))
	if err != nil {
		return m.bytes(bytes.Clone(chunk))
	}
	return m.document(d)
}

func (m *Mutator) document(d *Document) []byte {
	rng := m.rng
	for range 1 + rng.IntN(2) {
		switch rng.IntN(12) {
		case 0:
			d.Actors = m.list(d.Actors)
			d.ActorCount = m.count(len(d.Actors))
		case 1:
			d.Heads = m.list(d.Heads)
			d.HeadCount = m.count(len(d.Heads))
		case 2:
			d.Rest = m.bytes(bytes.Clone(d.Rest))
		case 3, 4, 5, 6:
			d.Changes = m.columns(d.Changes, documentChangeColumns)
		case 7: // a column that is deflated is not, or the other way round
			cols := pick(rng, [][]Column{d.Changes, d.Ops})
			if len(cols) > 0 {
				cols[rng.IntN(len(cols))].Spec ^= deflated
			}
		case 8: // under another type, with a checksum to match
			return Frame(byte(rng.IntN(5)), d.body())
		default:
			d.Ops = m.columns(d.Ops, documentOpColumns)
		}
	}
	if rng.IntN(12) == 11 {
		return Frame(TypeDocument, m.bytes(d.body()))
	}
	return d.Chunk()
}
