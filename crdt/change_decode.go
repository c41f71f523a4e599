package crdt

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"io"
	"slices"

	"parley/crdt/internal/columnar"
)

// A chunk is: magic, the first bytes of the hash, type, length of the body,
// body. The hash is over the type, length and body of the chunk inflated.
const (
	chunkMagic     = "\x85\x6f\x4a\x83"
	checksumBytes  = 4
	chunkTypeAt    = len(chunkMagic) + checksumBytes
	chunkBodyAt    = chunkTypeAt + 1 // of the length
	typeChange     = 1
	typeDeflated   = 2
	maxLengthBytes = 10
	authorTag      = 1 // of a record behind the columns
)

// DecodeChange reads one change from a peer and checks all that can be checked
// without the document: nothing that it returns makes Automerge fail by its
// encoding alone, and encoding it again gives the same bytes. [Document.Add]
// checks the rest. The change keeps no part of chunk.
//
// The error is always a *[Refusal].
//
// Source: https://automerge.org/automerge-binary-format-spec/
func DecodeChange(chunk []byte, lim Limits) (*Change, error) {
	d := decoder{lim: lim.withDefaults()}
	c := &Change{}
	if r := d.decode(c, chunk); r != nil {
		r.Change = c.Hash
		return nil, r
	}
	return c, nil
}

// DecodeHeader reads a change that was checked before it was stored: hash,
// deps, actor, sequence number, counters and message, but not the operations.
// The change keeps chunk. It fails, with a *[Refusal], on a chunk that was
// damaged since.
func DecodeHeader(chunk []byte) (*Change, error) {
	d := decoder{lim: Limits{}.withDefaults()}
	d.lim.ChangeBytes = maxCounter
	d.lim.Ops = maxCounter
	c := &Change{chunk: chunk}
	body, r := d.open(c, chunk)
	if r == nil {
		_, r = d.header(c, body)
	}
	if r != nil {
		r.Change = c.Hash
		return nil, r
	}
	return c, nil
}

// decoder is one change on its way through the gate.
type decoder struct {
	lim  Limits
	used []bool // which of the change's actors its operations refer to
	few  [16]bool
}

func (d *decoder) decode(c *Change, chunk []byte) *Refusal {
	body, r := d.open(c, chunk)
	if r != nil {
		return r
	}
	cols, r := d.header(c, body)
	if r != nil {
		return r
	}
	if r := d.operations(c, &cols); r != nil {
		return r
	}
	c.chunk = bytes.Clone(chunk)
	return nil
}

// open takes the frame off a change and checks it: what is left is the body,
// inflated.
func (d *decoder) open(c *Change, chunk []byte) (string, *Refusal) {
	if len(chunk) <= chunkTypeAt || string(chunk[:len(chunkMagic)]) != chunkMagic {
		return "", newRefusal(CodeFraming, "no chunk begins here")
	}
	kind := chunk[chunkTypeAt]
	if kind != typeChange && kind != typeDeflated {
		return "", newRefusal(CodeFraming, "chunk of type %d", kind)
	}
	if len(chunk) > d.lim.ChangeBytes+chunkBodyAt+maxLengthBytes {
		return "", newRefusal(CodeChangeSize, "%d bytes of at most %d", len(chunk), d.lim.ChangeBytes)
	}
	text := string(chunk[chunkBodyAt:])
	length := columnar.NewReader(text)
	n := length.Uint()
	if length.Err() != nil || n != uint64(length.Len()) {
		return "", newRefusal(CodeFraming, "its length is not that of the bytes")
	}
	body, hashed := length.Rest(), chunk[chunkTypeAt:]
	if kind == typeDeflated {
		inflated, r := d.inflate(body)
		if r != nil {
			return "", r
		}
		body = string(inflated)
		hashed = append(columnar.AppendUint([]byte{typeChange}, uint64(len(inflated))), inflated...)
	}
	hash := Hash(sha256.Sum256(hashed))
	if !bytes.Equal(hash[:checksumBytes], chunk[len(chunkMagic):chunkTypeAt]) {
		return "", newRefusal(CodeChecksum, "")
	}
	c.Hash, c.size = hash, len(body)
	return body, nil
}

// inflate inflates a body up to the limit. Nothing may follow the stream.
func (d *decoder) inflate(body string) ([]byte, *Refusal) {
	in := bytes.NewReader([]byte(body))
	limit := d.lim.ChangeBytes
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(in), int64(limit)+1))
	switch {
	case err != nil:
		return nil, newRefusal(CodeDeflate, "")
	case len(out) > limit:
		return nil, newRefusal(CodeChangeSize, "it inflates to more than %d bytes", limit)
	case in.Len() > 0:
		return nil, newRefusal(CodeDeflate, "%d bytes follow the stream", in.Len())
	}
	return out, nil
}

// header reads what stands before the columns' data, and cuts that into
// columns.
func (d *decoder) header(c *Change, body string) (columns, *Refusal) {
	r := columnar.NewReader(body)
	if refusal := d.deps(c, &r); refusal != nil {
		return columns{}, refusal
	}
	c.Actor = ActorID(r.Take(r.Uint()))
	c.Seq, c.StartOp, c.Time = r.Uint(), r.Uint(), r.Int()
	c.Message = r.Text()
	if r.Err() != nil {
		return columns{}, newRefusal(CodeHeader, "%v", r.Err())
	}
	if c.Time < -maxTime || c.Time > maxTime {
		return columns{}, newRefusal(CodeHeader, "a time of %d seconds", c.Time)
	}
	if len(c.Message) > d.lim.MessageBytes {
		return columns{}, newRefusal(CodeHeader, "a message of more than %d bytes", d.lim.MessageBytes)
	}
	if refusal := d.actors(c, &r); refusal != nil {
		return columns{}, refusal
	}
	cols, refusal := readColumns(&r)
	if refusal != nil {
		return columns{}, refusal
	}
	if refusal := d.extra(c, r.Rest()); refusal != nil {
		return columns{}, refusal
	}
	return cols, d.counters(c, &cols)
}

func (d *decoder) deps(c *Change, r *columnar.Reader) *Refusal {
	n := r.Uint()
	if n > uint64(d.lim.Deps) {
		return newRefusal(CodeDeps, "%d of at most %d", n, d.lim.Deps)
	}
	hashes := r.Take(n * uint64(len(Hash{})))
	if r.Err() != nil {
		return newRefusal(CodeHeader, "%v", r.Err())
	}
	c.Deps = make([]Hash, n)
	for i := range c.Deps {
		copy(c.Deps[i][:], hashes[i*len(Hash{}):])
		if i > 0 && c.Deps[i-1].Compare(c.Deps[i]) >= 0 {
			return newRefusal(CodeDeps, "%s stands after %s", c.Deps[i], c.Deps[i-1])
		}
	}
	return nil
}

// actors reads the actors other than the change's own.
func (d *decoder) actors(c *Change, r *columnar.Reader) *Refusal {
	n := r.Uint()
	if n > uint64(d.lim.Actors) || n > uint64(r.Len()) {
		return newRefusal(CodeActors, "%d of at most %d", n, d.lim.Actors)
	}
	c.Actors = make([]ActorID, 1, n+1)
	c.Actors[0] = c.Actor
	for range n {
		c.Actors = append(c.Actors, ActorID(r.Take(r.Uint())))
	}
	if r.Err() != nil {
		return newRefusal(CodeHeader, "%v", r.Err())
	}
	for i, a := range c.Actors {
		if len(a) == 0 || len(a) > maxActorBytes {
			return newRefusal(CodeActors, "one of %d bytes", len(a))
		}
		if i > 0 && a == c.Actor || i > 1 && a <= c.Actors[i-1] {
			return newRefusal(CodeActors, "%s out of place", a)
		}
	}
	return nil
}

// counters reads the number of operations and checks the numbers that the
// change counts with.
func (d *decoder) counters(c *Change, cols *columns) *Refusal {
	n, err := columnar.CountRows(cols[colAction], d.lim.Ops)
	if err == columnar.ErrRows {
		return newRefusal(CodeTooManyOps, "more than %d", d.lim.Ops)
	}
	if err != nil {
		return newRefusal(CodeColumns, "action: %v", err)
	}
	c.numOps = n
	if c.Seq == 0 || c.Seq > maxSeq {
		return newRefusal(CodeCounter, "sequence number %d", c.Seq)
	}
	if c.StartOp == 0 || c.StartOp > maxCounter || c.MaxOp() > maxCounter {
		return newRefusal(CodeCounter, "operations from %d", c.StartOp)
	}
	return nil
}

// extra checks what follows the columns. Automerge takes any bytes and keeps
// them; 3.5 reads records there, each a tag, a length and as many bytes. The
// author stands in an actor's first change; in a later one it ends the process of
// every client that applies it.
func (d *decoder) extra(c *Change, extra string) *Refusal {
	if extra == "" {
		return nil
	}
	if len(extra) > d.lim.ExtraBytes {
		return newRefusal(CodeExtra, "%d bytes of at most %d", len(extra), d.lim.ExtraBytes)
	}
	r := columnar.NewReader(extra)
	for r.Len() > 0 {
		tag := r.Uint()
		r.Take(r.Uint())
		if tag == authorTag && c.Seq != 1 {
			return newRefusal(CodeExtra, "an author in change %d of an actor", c.Seq)
		}
	}
	if r.Err() != nil {
		return newRefusal(CodeExtra, "%v", r.Err())
	}
	c.Extra = slices.Clip([]byte(extra))
	return nil
}
