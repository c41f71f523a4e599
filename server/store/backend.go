package store

import (
	"context"
	"errors"

	"parley/crdt"
)

// Backend is where a store keeps its rows, if not in a data folder: what [Over]
// makes a store of. Commit and the two Puts are called by one goroutine, the
// committer, Close by the last; the others by any.
type Backend interface {
	// Commit puts batches on disk in one transaction, in their order. After an error
	// they may be there nevertheless, and are committed again: what is there already
	// is done. One that trying again may mend is marked by [Passing].
	Commit(batches []*Batch) (Committed, error)
	// PutSnapshot and PutPack store what stands beside a document's changes, in a
	// transaction of its own. A pack comes as it is to be stored, of so many changes.
	PutSnapshot(doc crdt.DocumentID, snap *crdt.Snapshot) error
	PutPack(doc crdt.DocumentID, changes int, data []byte) error

	// Load returns what [Store.Load] does, as of one moment.
	Load(ctx context.Context, doc crdt.DocumentID) (*Stored, error)
	// LoadSince returns what is newer than a version: changes, resolutions, and
	// settings if there are others.
	LoadSince(ctx context.Context, doc crdt.DocumentID, known Version) (*Stored, error)
	Receipts(ctx context.Context, doc crdt.DocumentID, n int) ([]Receipt, error)
	Documents(ctx context.Context, after crdt.DocumentID, limit int) ([]DocumentInfo, error)
	Revocations(ctx context.Context, after int) ([]Revocation, error)
	// Agree keeps the first value that was ever given for a name, and returns it; ""
	// if none was, and value is "".
	Agree(ctx context.Context, name, value string) (string, error)
	StorageID() string
	Close() error
}

// Committed is what came of batches that were committed together.
type Committed struct {
	Changes int // that were new
	// Refused says for each batch why it was left out, nil if it was not. It is nil if
	// none was.
	Refused []error
}

// Version is how far a document has come: how many changes, settings and
// resolutions were ever appended to it.
type Version struct{ Changes, Settings, Resolutions int }

// Lacks reports whether there is anything in another version that is not in this one.
func (v Version) Lacks(other Version) bool {
	return v.Changes < other.Changes || v.Settings < other.Settings || v.Resolutions < other.Resolutions
}

// ErrBehind refuses a batch because its document is not at [Batch.Base] any more:
// another process has appended to it. Load what is new, and build on that.
var ErrBehind = errors.New("the document has changed since this was made")

// passingError marks a failure after which trying again may help.
type passingError struct{ err error }

func (e *passingError) Error() string { return e.err.Error() }
func (e *passingError) Unwrap() error { return e.err }

// Passing marks an error of a [Backend] as one that has to do with the database or
// the way there rather than with what is written: it stalls the store.
func Passing(err error) error { return &passingError{err} }

// Over makes a store of a backend, which belongs to it from then on.
func Over(b Backend, opt Options) *Store {
	opt = opt.withDefaults()
	s := &Store{opt: opt, backend: b, storageID: b.StorageID(), queue: newQueue(opt.MaxPending)}
	s.committer = startCommitter(s.queue, &backendWriter{backend: b}, opt.Logger)
	return s
}

// committing is the part of a store that writes. The committer alone uses it.
type committing interface {
	// commit returns how many changes were new. It sets the err of entries that it
	// leaves out. On an error they may be on disk nevertheless.
	commit(entries []entry) (added int, err error)
	putAside(*aside) error
	rest()
	finish() error
}

// backendWriter is the committing part of a store over a backend.
type backendWriter struct {
	backend Backend
	batches []*Batch // buffer
}

func (w *backendWriter) commit(entries []entry) (added int, err error) {
	w.batches = w.batches[:0]
	for i := range entries {
		entries[i].err = nil // of the try before
		w.batches = append(w.batches, &entries[i].Batch)
	}
	done, err := w.backend.Commit(w.batches)
	clear(w.batches)
	if err != nil {
		return 0, err
	}
	for i, refused := range done.Refused {
		entries[i].err = refused
	}
	return done.Changes, nil
}

func (w *backendWriter) putAside(a *aside) error {
	if a.snapshot != nil {
		return w.backend.PutSnapshot(a.document, a.snapshot)
	}
	return w.backend.PutPack(a.document, a.changes, a.pack)
}

func (w *backendWriter) rest() {}

func (w *backendWriter) finish() error { return w.backend.Close() }

// DecodePack reads a pack of which the SHA-256 is known, as a [Backend] was given
// it; nil if it is damaged or of another version. last is the hash of the last of
// the changes that it is of, as it is stored beside it.
func DecodePack(sum [32]byte, data []byte, last crdt.Hash) *Pack {
	p, err := openPack(sum, data)
	if err != nil || !p.endsWith(last) {
		return nil
	}
	return p
}

// Intact reports whether a chunk is what was stored under the hash, as far as that
// can be told cheaply.
func Intact(hash crdt.Hash, chunk []byte) bool { return intact(hash, chunk) }

// Newer returns what other processes have appended to a document since it was at a
// version: changes, resolutions, and the newest settings if there are others. A
// store that no other process writes to has nothing newer.
func (s *Store) Newer(ctx context.Context, doc crdt.DocumentID, known Version) (*Stored, error) {
	if s.backend == nil {
		return &Stored{First: known.Changes, Version: known}, nil
	}
	st, err := s.backend.LoadSince(ctx, doc, known)
	return st, loadError(ctx, doc, err)
}

// Shared reports whether other processes may append to the store's documents: then
// batches say what they were built on.
func (s *Store) Shared() bool { return s.backend != nil }

// Agree returns the first value, not empty, that any process using the store has
// given for a name; "" if none has. In a data folder there is nobody to agree with.
func (s *Store) Agree(ctx context.Context, name, value string) (string, error) {
	if s.backend == nil {
		return value, nil
	}
	return s.backend.Agree(ctx, name, value)
}

func (s *Store) loadSince(ctx context.Context, doc crdt.DocumentID, known int) (*Stored, error) {
	st, err := s.backend.LoadSince(ctx, doc, Version{Changes: known})
	if err != nil {
		return nil, loadError(ctx, doc, err)
	}
	st.Settings, st.Resolutions = nil, nil
	return st, nil
}
