// Package engine is Automerge's own implementation, the Rust library that
// automerge-go brings, behind the few calls Parley makes: load changes, compare
// heads, save, read as JSON, and make changes.
//
// It is not safe against its input. The library aborts the process, hangs or
// takes gigabytes on crafted changes, so only changes that package crdt has
// checked may be loaded, and a server calls it in a child process alone
// (package server/compact). It is no replica either: no sync, merge or history.
//
// Memory lives on the C heap, of which Go's collector knows nothing. A [Doc]
// must be closed; nothing here relies on finalizers.
//
// automerge-go's exported API frees by finalizer alone and leaves out half of
// the C functions, therefore this package declares those it needs itself and
// imports automerge-go for the library it links. Only package crdt and its test
// support may import it.
package engine

// #include "capi.h"
import "C"

import (
	"bytes"
	"fmt"
	"slices"

	// Links the static library.
	_ "github.com/automerge/automerge-go"
)

// Hash is a change hash.
type Hash = [32]byte

// Doc is a document in the engine's memory. It is not safe for concurrent use.
type Doc struct {
	res  result // owns doc
	doc  *C.AMdoc
	size int // bytes that were loaded, a measure of what Close gives back
}

// New returns an empty document whose changes will be made by actor, 1 to 128
// bytes.
func New(actor []byte) (*Doc, error) {
	d, err := opened(C.AMcreate(nil))
	if err != nil {
		return nil, err
	}
	if err := d.SetActor(actor); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Load returns the document that a saved document, which may be nil, and the
// chunks of further changes make together. Changes may repeat what is already
// there, and may come in any order. It fails on a chunk that is damaged and on
// a change that lacks one it depends on: nothing is left out silently.
func Load(saved []byte, chunks [][]byte) (*Doc, error) {
	// One call with everything takes 60 % of the time of a call per chunk.
	joined := slices.Concat(append([][]byte{saved}, chunks...)...)
	if len(joined) == 0 {
		return opened(C.AMcreate(nil))
	}
	p, n := c(joined)
	d, err := opened(C.AMload((*C.uint8_t)(p), n))
	if err != nil {
		return nil, err
	}
	d.size = len(joined)
	if err := d.complete(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func opened(r *C.AMresult) (*Doc, error) {
	res, err := checked("load", r)
	if err != nil {
		return nil, err
	}
	d := &Doc{res: res}
	if !C.AMitemToDoc(res.item(), &d.doc) {
		res.free()
		return nil, unexpected("load")
	}
	return d, nil
}

// trimAbove is the size from which Close hands memory back to the system. The
// engine holds up to a thousand times the bytes it loaded, in small pieces, and
// glibc keeps freed pieces for itself: without the call a process that once held
// a large document stays as large as that. It costs some milliseconds, as much
// as reading a small document, so those do without.
const trimAbove = 4 << 10

// Close frees the document. It may be called more than once; no other method
// may be called after it.
func (d *Doc) Close() {
	if d.doc == nil {
		return
	}
	d.res.free()
	d.res, d.doc = result{}, nil
	if d.size >= trimAbove {
		C.trim()
	}
}

// Apply adds changes to the document, under the conditions of [Load]. After an
// error part of them may have been added, and the document should be closed.
func (d *Doc) Apply(chunks [][]byte) error {
	if err := d.settled(); err != nil {
		return err
	}
	for i, chunk := range chunks {
		if err := d.apply(chunk); err != nil {
			return fmt.Errorf("change %d of %d: %w", i+1, len(chunks), err)
		}
		d.size += len(chunk)
	}
	return d.complete()
}

func (d *Doc) apply(chunk []byte) error {
	p, n := c(chunk)
	res, err := checked("read change", C.AMchangeFromBytes((*C.uint8_t)(p), n))
	if err != nil {
		return err
	}
	defer res.free()
	var change *C.AMchange
	if !C.AMitemToChange(res.item(), &change) {
		return unexpected("read change")
	}
	// Unlike AMload, reading a change computes its hash and ignores the one
	// that the header claims: 4 bytes of it, after the magic.
	if !bytes.HasPrefix(view(C.AMchangeHash(change)), chunk[4:8]) {
		return &Error{Call: "read change", Message: "bad checksum"}
	}
	items := C.AMresultItems(res.c)
	return done("apply change", C.AMapplyChanges(d.doc, &items))
}

// complete checks that the engine took everything it was given: it silently
// sets aside changes whose dependencies it does not have.
func (d *Doc) complete() error {
	res, err := checked("missing changes", C.AMgetMissingDeps(d.doc, nil))
	if err != nil {
		return err
	}
	defer res.free()
	for it := range res.items() {
		h, err := hash("missing changes", it)
		if err != nil {
			return err
		}
		return fmt.Errorf("automerge: the changes depend on %x, which is not among them", h)
	}
	return nil
}

// settled refuses what the engine, asked about a document with edits that are
// not committed, would begin by committing on its own, without message or time.
func (d *Doc) settled() error {
	if C.AMpendingOps(d.doc) > 0 {
		return ErrUncommitted
	}
	return nil
}

// Heads returns the hashes of the changes that no other change depends on,
// sorted.
func (d *Doc) Heads() ([]Hash, error) {
	if err := d.settled(); err != nil {
		return nil, err
	}
	res, err := checked("heads", C.AMgetHeads(d.doc))
	if err != nil {
		return nil, err
	}
	defer res.free()
	heads := make([]Hash, 0, res.size())
	for it := range res.items() {
		h, err := hash("heads", it)
		if err != nil {
			return nil, err
		}
		heads = append(heads, h)
	}
	slices.SortFunc(heads, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	return heads, nil
}

// NumChanges counts the changes in the document. The engine copies all of them
// to do so.
func (d *Doc) NumChanges() (int, error) {
	if err := d.settled(); err != nil {
		return 0, err
	}
	res, err := checked("changes", C.AMgetChanges(d.doc, nil))
	if err != nil {
		return 0, err
	}
	defer res.free()
	return res.size(), nil
}

// Save returns the document as one document chunk, with all of its changes.
func (d *Doc) Save() ([]byte, error) {
	if err := d.settled(); err != nil {
		return nil, err
	}
	res, err := checked("save", C.AMsave(d.doc))
	if err != nil {
		return nil, err
	}
	defer res.free()
	return res.bytes("save")
}
