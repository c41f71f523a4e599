package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"

	"parley/crdt"
)

// readerParams: readers see the last commit and wait for nobody.
var readerParams = url.Values{
	"_query_only":   {"true"},
	"_busy_timeout": {"1000"},
}

const (
	sqlSnapshot = "SELECT changes, heads, sha256, data FROM snapshot WHERE document = (SELECT key FROM document WHERE id = ?)"
	sqlPack     = `SELECT sha256, data, (SELECT hash FROM change WHERE document = pack.document AND n = pack.changes)
		FROM pack WHERE document = (SELECT key FROM document WHERE id = ?)`
	sqlChanges  = "SELECT n, hash, chunk, user FROM change WHERE document = (SELECT key FROM document WHERE id = ?) AND n > ? ORDER BY n"
	sqlReceipts = "SELECT hash, user, role, at FROM change WHERE document = (SELECT key FROM document WHERE id = ?) AND n <= ? ORDER BY n"
	sqlSettings = "SELECT data FROM settings WHERE document = (SELECT key FROM document WHERE id = ?)"
	sqlResolved = "SELECT heads, data FROM resolution WHERE document = (SELECT key FROM document WHERE id = ?) ORDER BY n"
	// By the order of commits, and by the index of hashes, which is another tree of pages.
	sqlCount = `SELECT (SELECT coalesce(max(n), 0) FROM change WHERE document = key),
		(SELECT count(*) FROM change INDEXED BY sqlite_autoindex_change_2 WHERE document = key)
		FROM document WHERE id = ?`
	// The same after the first few, which takes a look at each change.
	sqlCountSince = `SELECT (SELECT coalesce(max(n), 0) FROM change WHERE document = key) - ?1,
		(SELECT count(*) FROM change INDEXED BY sqlite_autoindex_change_2 WHERE document = key AND n > ?1)
		FROM document WHERE id = ?2`
	sqlDocuments = `SELECT id, (SELECT coalesce(max(n), 0) FROM change WHERE change.document = document.key),
		coalesce(snapshot.changes, 0), coalesce(length(snapshot.data), 0)
		FROM document LEFT JOIN snapshot ON snapshot.document = document.key
		WHERE id > ? ORDER BY id LIMIT ?`
)

// readers is a pool of connections. The one that was used last is lent first: it
// knows the pages. One that failed is closed. While the store is open at least one
// stays open, which keeps SQLite's account of the log over a reopening of the writer:
// what a failed sync left in the log is then written again instead of being taken
// for committed.
type readers struct {
	connect connector
	dsn     string
	slots   chan struct{} // one for each connection that is lent out
	anchor  *conn

	mu   sync.Mutex
	idle []*conn // guarded by mu; the one used last is last
}

func openReaders(connect connector, dsn string, n int) (*readers, error) {
	anchor, err := connect.open(dsn)
	if err != nil {
		return nil, err
	}
	if _, err := anchor.integer("SELECT count(*) FROM meta"); err != nil { // joins the log
		return nil, errors.Join(err, anchor.Close())
	}
	return &readers{connect: connect, dsn: dsn, slots: make(chan struct{}, n), anchor: anchor}, nil
}

// with lends a connection to do, waiting for one.
func (r *readers) with(ctx context.Context, do func(*conn) error) error {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.slots }()
	c, err := r.take()
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	if err := do(c); err != nil {
		_ = c.Close()
		return err
	}
	r.put(c)
	return nil
}

func (r *readers) take() (*conn, error) {
	r.mu.Lock()
	if n := len(r.idle); n > 0 {
		defer r.mu.Unlock()
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		return c, nil
	}
	r.mu.Unlock()
	return r.connect.open(r.dsn)
}

func (r *readers) put(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, c)
}

// rest closes those that nobody uses, but for one.
func (r *readers) rest() {
	r.mu.Lock()
	idle := r.idle
	r.idle = nil
	r.mu.Unlock()
	for _, c := range idle {
		_ = c.Close() // nothing was written
	}
}

// close waits for the connections that are lent out.
func (r *readers) close() error {
	for range cap(r.slots) {
		r.slots <- struct{}{}
	}
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, r.anchor.Close())...)
}

// Stored is what a store holds of a document. A document that was never
// appended to has no changes.
type Stored struct {
	// Snapshot holds what the first Snapshot.Changes changes say, in commit
	// order; nil if there is none. LoadSince leaves it out.
	Snapshot *crdt.Snapshot
	// Index is that of the newest pack, and Indexed how many changes it is of; nil
	// and 0 if there is none, and from LoadSince.
	Index   []byte
	Indexed int
	// First is the commit position, counted from 0, of Hashes[0] and Chunks[0].
	First  int
	Hashes []crdt.Hash
	Chunks [][]byte // in commit order; each as it was appended
	Users  []string // who delivered each first; empty where nobody was named
	// Settings are the newest that were appended, nil if none were. LoadSince
	// leaves them out.
	Settings []byte
	// Resolutions are in the order in which they were appended. LoadSince leaves
	// them out.
	Resolutions []Resolution
	// Version is what the document is at with all this; unknown from LoadSince.
	Version Version
}

// Load returns all changes of a document and its newest snapshot. See the package
// comment for what is checked.
func (s *Store) Load(ctx context.Context, doc crdt.DocumentID) (*Stored, error) {
	if s.backend != nil {
		st, err := s.backend.Load(ctx, doc)
		return st, loadError(ctx, doc, err)
	}
	st := &Stored{}
	err := s.readers.with(ctx, func(c *conn) (err error) {
		// Reads without a transaction: the later ones can only see more.
		if st.Snapshot, err = s.readSnapshot(ctx, c, doc); err != nil {
			return err
		}
		if st.Settings, err = readSettings(ctx, c, doc); err != nil {
			return err
		}
		if st.Resolutions, err = readResolutions(ctx, c, doc); err != nil {
			return err
		}
		pack, err := s.readPack(ctx, c, doc)
		if err != nil {
			return err
		}
		if pack != nil {
			st.Index, st.Indexed = pack.Index, len(pack.Hashes)
			st.Hashes, st.Chunks, st.Users = pack.Hashes, pack.Chunks, pack.Users
		}
		return readChanges(ctx, c, doc, st)
	})
	if err != nil {
		return nil, loadError(ctx, doc, err)
	}
	st.Version = Version{Changes: len(st.Hashes), Resolutions: len(st.Resolutions)}
	return st, nil
}

// LoadSince returns the changes after the first known ones in commit order.
func (s *Store) LoadSince(ctx context.Context, doc crdt.DocumentID, known int) (*Stored, error) {
	if s.backend != nil {
		return s.loadSince(ctx, doc, known)
	}
	st := &Stored{First: known}
	err := s.readers.with(ctx, func(c *conn) error { return readChanges(ctx, c, doc, st) })
	if err != nil {
		return nil, loadError(ctx, doc, err)
	}
	return st, nil
}

// Receipt is what a change's row says of how it came.
type Receipt struct {
	Hash       crdt.Hash
	User, Role string
	At         int64 // milliseconds since 1970; 0: from before there were receipts
}

// Receipts returns the receipts of the first n changes in commit order, or of all
// if there are fewer.
func (s *Store) Receipts(ctx context.Context, doc crdt.DocumentID, n int) (list []Receipt, err error) {
	if s.backend != nil {
		list, err = s.backend.Receipts(ctx, doc, n)
		return list, loadError(ctx, doc, err)
	}
	err = s.readers.with(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			list = append(list, Receipt{
				Hash: crdt.Hash(v[0].([]byte)), User: v[1].(string), Role: v[2].(string), At: v[3].(int64),
			})
			return nil
		}, sqlReceipts, doc[:], int64(n))
	})
	if err != nil {
		return nil, loadError(ctx, doc, err)
	}
	return list, nil
}

func loadError(ctx context.Context, doc crdt.DocumentID, err error) error {
	if err == nil {
		return nil
	}
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return err
	}
	if ctx.Err() != nil {
		err = ctx.Err() // rather than SQLite's "interrupted"
	}
	return fmt.Errorf("load document %s: %w", doc, err)
}

func readSettings(ctx context.Context, c *conn, doc crdt.DocumentID) (settings []byte, err error) {
	err = c.query(ctx, func(v []driver.Value) error {
		settings = v[0].([]byte)
		return nil
	}, sqlSettings, doc[:])
	return settings, err
}

func readResolutions(ctx context.Context, c *conn, doc crdt.DocumentID) (list []Resolution, err error) {
	err = c.query(ctx, func(v []driver.Value) error {
		list = append(list, Resolution{Heads: crdt.SplitHashes(v[0].([]byte)), Data: v[1].([]byte)})
		return nil
	}, sqlResolved, doc[:])
	return list, err
}

// readChanges adds the changes that are not in st.
func readChanges(ctx context.Context, c *conn, doc crdt.DocumentID, st *Stored) error {
	known := st.First + len(st.Hashes)
	more, err := countChanges(c, doc, known)
	if err != nil {
		return err
	}
	st.Hashes = slices.Grow(st.Hashes, more)
	st.Chunks = slices.Grow(st.Chunks, more)
	st.Users = slices.Grow(st.Users, more)
	next := known
	return c.query(ctx, func(v []driver.Value) error {
		next++
		if v[0].(int64) != int64(next) {
			return &DamagedError{Document: doc}
		}
		hash, chunk := crdt.Hash(v[1].([]byte)), v[2].([]byte)
		if !intact(hash, chunk) {
			return &DamagedError{Document: doc, N: next, Hash: hash}
		}
		st.Hashes = append(st.Hashes, hash)
		st.Chunks = append(st.Chunks, chunk)
		st.Users = append(st.Users, v[3].(string))
		return nil
	}, sqlChanges, doc[:], int64(known))
}

// countChanges returns how many changes a document has after the first known. It
// fails if they and their index are not as many.
func countChanges(c *conn, doc crdt.DocumentID, known int) (int, error) {
	v, err := c.one(sqlCount, doc[:])
	if err != nil {
		return 0, err
	}
	if len(v) == 0 {
		return 0, nil // it is not stored
	}
	n, ok := integers(v, 2)
	if ok && n[0] == n[1] {
		return max(0, int(n[0])-known), nil
	}
	if v, err = c.one(sqlCountSince, int64(known), doc[:]); err != nil {
		return 0, err
	}
	if n, ok = integers(v, 2); !ok || max(0, n[0]) != n[1] {
		return 0, &DamagedError{Document: doc}
	}
	return int(n[1]), nil
}

// Where things are in a chunk: Automerge's binary format, "Chunk Container".
const (
	checksumAt   = 4 // after the magic bytes; the first 4 bytes of the hash
	typeAt       = 8 // what is hashed begins here
	typeDeflated = 2 // the hash is of the inflated chunk
)

// intact reports whether a chunk is what was stored under the hash, as far as
// that can be told cheaply.
func intact(hash crdt.Hash, chunk []byte) bool {
	if len(chunk) <= typeAt || !bytes.Equal(chunk[checksumAt:typeAt], hash[:typeAt-checksumAt]) {
		return false
	}
	return chunk[typeAt] == typeDeflated || sha256.Sum256(chunk[typeAt:]) == hash
}

// readSnapshot returns nil for a snapshot that is missing or damaged.
func (s *Store) readSnapshot(ctx context.Context, c *conn, doc crdt.DocumentID) (snap *crdt.Snapshot, err error) {
	err = c.query(ctx, func(v []driver.Value) error {
		heads, sum, data := v[1].([]byte), v[2].([]byte), v[3].([]byte)
		if sha256.Sum256(data) != [sha256.Size]byte(sum) {
			s.opt.Logger.Warn("a snapshot is damaged on disk and left out", "document", doc)
			return nil
		}
		snap = &crdt.Snapshot{Changes: int(v[0].(int64)), Data: data, Heads: crdt.SplitHashes(heads)}
		return nil
	}, sqlSnapshot, doc[:])
	return snap, err
}

// DocumentInfo says what is stored of a document.
type DocumentInfo struct {
	ID            crdt.DocumentID
	Changes       int
	Covered       int // how many of them the snapshot holds; 0 without one
	SnapshotBytes int
}

// Documents lists documents in the order of their ids, at most limit of them,
// beginning after the given one (from the first if it is zero).
func (s *Store) Documents(ctx context.Context, after crdt.DocumentID, limit int) ([]DocumentInfo, error) {
	if s.backend != nil {
		return s.backend.Documents(ctx, after, limit)
	}
	from := after[:]
	if after == (crdt.DocumentID{}) {
		from = []byte{0} // sorts before every id
	}
	var list []DocumentInfo
	err := s.readers.with(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			list = append(list, DocumentInfo{
				ID:            crdt.DocumentID(v[0].([]byte)),
				Changes:       int(v[1].(int64)),
				Covered:       int(v[2].(int64)),
				SnapshotBytes: int(v[3].(int64)),
			})
			return nil
		}, sqlDocuments, from, int64(limit))
	})
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	return list, nil
}
