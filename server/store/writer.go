package store

import (
	"errors"
	"fmt"
	"net/url"

	"parley/crdt"
)

// writerParams: every commit waits for the disk (synchronous FULL syncs the log
// at each), and the log goes into the database when it has 4,000 pages, 16 MiB.
// Nobody else writes, but a person with a shell may: they are waited for a second.
var writerParams = url.Values{
	"_journal_mode": {"WAL"},
	"_synchronous":  {"FULL"},
	"_busy_timeout": {"1000"},
	"_cache_size":   {"-16000"}, // KiB
}

const autocheckpoint = "PRAGMA wal_autocheckpoint = 4000"

const (
	sqlBegin       = "BEGIN IMMEDIATE"
	sqlCommit      = "COMMIT"
	sqlFindHead    = "SELECT key, (SELECT coalesce(max(n), 0) FROM change WHERE document = key) FROM document WHERE id = ?"
	sqlAddDoc      = "INSERT INTO document (id) VALUES (?)"
	sqlAddChange   = "INSERT INTO change (document, n, hash, chunk, user, role, at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (document, hash) DO NOTHING"
	sqlPutShot     = "INSERT INTO snapshot (document, changes, heads, sha256, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT (document) DO UPDATE SET changes = excluded.changes, heads = excluded.heads, sha256 = excluded.sha256, data = excluded.data WHERE excluded.changes >= changes"
	sqlPutPack     = "INSERT INTO pack (document, changes, sha256, data) VALUES (?, ?, ?, ?) ON CONFLICT (document) DO UPDATE SET changes = excluded.changes, sha256 = excluded.sha256, data = excluded.data WHERE excluded.changes >= changes"
	sqlPutSettings = "INSERT INTO settings (document, data) VALUES (?, ?) ON CONFLICT (document) DO UPDATE SET data = excluded.data"
	sqlResolve     = "INSERT INTO resolution (document, n, heads, data) VALUES (?1, (SELECT coalesce(max(n), 0) + 1 FROM resolution WHERE document = ?1), ?2, ?3) ON CONFLICT (document, heads) DO NOTHING"
	sqlShrink      = "PRAGMA shrink_memory"
	sqlCheckpoint  = "PRAGMA wal_checkpoint(TRUNCATE)"
)

// maxHeads bounds what the writer remembers: about 4 MB.
const maxHeads = 1 << 16

// head is where a document's next change goes.
type head struct {
	key  int64 // document.key
	last int64 // commit position of its newest change, 0 if none
}

// writer is the connection that writes. Whatever fails on it, the connection is
// closed, which undoes the transaction if it is not on disk, and another is
// opened for the next: after a failed sync neither SQLite's cache nor its idea of
// the log is trusted, and the pages are written again.
type writer struct {
	connect connector
	dsn     string
	conn    *conn                    // nil: to be opened
	heads   map[crdt.DocumentID]head // as of this connection's last statement
}

func (w *writer) ready() error {
	if w.conn != nil {
		return nil
	}
	c, err := w.connect.open(w.dsn)
	if err != nil {
		return &connectError{err}
	}
	if _, err := c.one(autocheckpoint); err != nil {
		return &connectError{errors.Join(err, c.Close())}
	}
	w.conn, w.heads = c, make(map[crdt.DocumentID]head)
	return nil
}

// transaction runs do between begin and commit.
func (w *writer) transaction(do func() error) (err error) {
	if err := w.ready(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.discard()
		}
	}()
	if _, err := w.conn.exec(sqlBegin); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := do(); err != nil {
		return err
	}
	if _, err := w.conn.exec(sqlCommit); err != nil { // the commit point: after it, what was done is on disk
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// commit returns how many changes were new. On an error they may be on disk
// nevertheless.
func (w *writer) commit(entries []entry) (added int, err error) {
	err = w.transaction(func() error {
		for i := range entries {
			n, err := w.add(&entries[i].Batch)
			if err != nil {
				return fmt.Errorf("store changes of %s: %w", entries[i].Document, err)
			}
			added += n
		}
		return nil
	})
	return added, err
}

// add writes one batch and returns how many of its changes were new.
func (w *writer) add(b *Batch) (added int, err error) {
	if b.Revocation != nil {
		if err := w.revoke(b.Revocation); err != nil {
			return 0, err
		}
	}
	if len(b.Changes) == 0 && b.Settings == nil && b.Resolution == nil {
		return 0, nil
	}
	h, err := w.head(b.Document)
	if err != nil {
		return 0, err
	}
	if h.key == 0 {
		if h.key, err = w.addDocument(b.Document); err != nil {
			return 0, err
		}
	}
	if b.Settings != nil {
		if _, err := w.conn.exec(sqlPutSettings, h.key, b.Settings); err != nil {
			return 0, err
		}
	}
	if added, err = w.addChanges(&h, b.Changes); err != nil {
		return 0, err
	}
	if r := b.Resolution; r != nil {
		if _, err := w.conn.exec(sqlResolve, h.key, crdt.JoinHashes(r.Heads), r.Data); err != nil {
			return 0, err
		}
	}
	w.remember(b.Document, h)
	return added, nil
}

func (w *writer) addChanges(h *head, changes []Change) (added int, err error) {
	for i := range changes {
		c := &changes[i]
		res, err := w.conn.exec(sqlAddChange, h.key, h.last+1, c.Hash[:], c.Chunk, c.User, c.Role, c.At)
		if err != nil {
			return 0, err
		}
		if n, err := res.RowsAffected(); err != nil {
			return 0, err
		} else if n > 0 {
			h.last++
			added++
		}
	}
	return added, nil
}

// head returns the zero head for a document that is not stored.
func (w *writer) head(doc crdt.DocumentID) (head, error) {
	if h, ok := w.heads[doc]; ok {
		return h, nil
	}
	v, err := w.conn.one(sqlFindHead, doc[:])
	if err != nil || len(v) == 0 {
		return head{}, err
	}
	return head{key: v[0].(int64), last: v[1].(int64)}, nil
}

func (w *writer) remember(doc crdt.DocumentID, h head) {
	if len(w.heads) >= maxHeads {
		clear(w.heads)
	}
	w.heads[doc] = h
}

func (w *writer) addDocument(doc crdt.DocumentID) (key int64, err error) {
	res, err := w.conn.exec(sqlAddDoc, doc[:])
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// putAside stores what is beside a document's changes, which must be there.
func (w *writer) putAside(a *aside) error {
	return w.transaction(func() error {
		h, err := w.head(a.document)
		switch {
		case err != nil:
			return err
		case h.last == 0: // there may be settings, or a resolution
			return ErrUnknownDocument
		case int64(a.changes) > h.last:
			return fmt.Errorf("%s of %d changes, where %d are stored", a.what, a.changes, h.last)
		}
		return a.put(w, h.key)
	})
}

// rest gives the memory back that holds pages. They are read again when needed.
func (w *writer) rest() {
	if w.conn == nil {
		return
	}
	if _, err := w.conn.exec(sqlShrink); err != nil {
		w.discard()
	}
}

// discard closes a connection that failed. What closing it reports adds nothing.
func (w *writer) discard() {
	_ = w.conn.Close()
	w.conn, w.heads = nil, nil
}

func (w *writer) close() error {
	if w.conn == nil {
		return nil
	}
	defer func() { w.conn = nil }()
	return w.conn.Close()
}

// finish moves the log into the database and closes the connection. All that is
// in the log is on disk, so that failing here loses nothing.
func (w *writer) finish() error {
	if w.conn == nil {
		return nil
	}
	_, err := w.conn.one(sqlCheckpoint)
	return errors.Join(err, w.close())
}
