package store

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"parley/crdt"
)

// Raw is all that is stored of a document, as it is in the rows.
type Raw struct {
	ID          crdt.DocumentID
	Changes     []RawChange
	Settings    []byte // nil: none
	Resolutions []RawResolution
	Snapshot    *RawSnapshot // nil: none
	Pack        *RawPack     // nil: none
	// Unread are the tables that could not be read, or not to the end.
	Unread []Unread
}

// Unread says what of a document could not be read.
type Unread struct {
	What string // the table
	Err  error
}

// RawChange is a change's row.
type RawChange struct {
	N int
	Receipt
	Chunk []byte
}

// RawResolution is a resolution's row.
type RawResolution struct {
	N int
	Resolution
}

// RawSnapshot is a snapshot's row.
type RawSnapshot struct {
	crdt.Snapshot
	Sound bool // its data are those that were stored
}

// RawPack is a pack's row.
type RawPack struct {
	Changes int // how many there are in it, by its row
	*Pack       // nil if it is damaged
}

const (
	sqlWalkDocuments = "SELECT key, id FROM document WHERE key > ? ORDER BY key LIMIT 1000"
	sqlRawChanges    = "SELECT n, hash, chunk, user, role, at FROM change WHERE document = ? ORDER BY n"
	sqlRawSettings   = "SELECT data FROM settings WHERE document = ?"
	sqlRawResolved   = "SELECT n, heads, data FROM resolution WHERE document = ? ORDER BY n"
	sqlRawSnapshot   = "SELECT changes, heads, sha256, data FROM snapshot WHERE document = ?"
	sqlRawPack       = "SELECT changes, sha256, data FROM pack WHERE document = ?"
	sqlRawRevoked    = "SELECT n FROM revocation ORDER BY n"
)

// Walk calls visit with one document after the other, in the order in which they
// were made. Each is as of one moment. It ends early if visit returns an error, and
// returns that.
func (r *Reading) Walk(ctx context.Context, visit func(*Raw) error) error {
	type row struct {
		key int64
		id  crdt.DocumentID
	}
	for after := int64(0); ; {
		var page []row
		err := r.conn.query(ctx, func(v []driver.Value) error {
			key, _ := v[0].(int64)
			id, _ := v[1].([]byte)
			if len(id) != len(crdt.DocumentID{}) || key <= after {
				return sqlite3.Error{Code: sqlite3.ErrCorrupt}
			}
			page = append(page, row{key, crdt.DocumentID(id)})
			return nil
		}, sqlWalkDocuments, after)
		if err != nil {
			return r.failed(ctx, "list the documents", err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, d := range page {
			raw, err := r.document(ctx, d.key, d.id)
			if err != nil {
				return err
			}
			if err := visit(raw); err != nil {
				return err
			}
			after = d.key
		}
	}
}

// document reads all of one in one transaction.
func (r *Reading) document(ctx context.Context, key int64, id crdt.DocumentID) (_ *Raw, err error) {
	if _, err := r.conn.exec("BEGIN"); err != nil {
		return nil, fmt.Errorf("begin to read: %w", err)
	}
	defer func() {
		_, end := r.conn.exec("ROLLBACK")
		err = errors.Join(err, end)
	}()
	raw := &Raw{ID: id}
	for _, table := range []struct {
		name, query string
		row         func(rowReader) error
	}{
		{"change", sqlRawChanges, raw.addChange},
		{"settings", sqlRawSettings, raw.addSettings},
		{"resolution", sqlRawResolved, raw.addResolution},
		{"snapshot", sqlRawSnapshot, raw.addSnapshot},
		{"pack", sqlRawPack, raw.addPack},
	} {
		err := r.conn.query(ctx, func(v []driver.Value) error { return table.row(rowReader(v)) }, table.query, key)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && transient(err) {
			return nil, fmt.Errorf("read document %s: %w", id, err)
		}
		if err != nil {
			raw.Unread = append(raw.Unread, Unread{What: table.name, Err: err})
		}
	}
	return raw, nil
}

// rowReader is a row of a file that may be damaged: values may be of any type.
type rowReader []driver.Value

var errRow = errors.New("a row holds what it cannot hold")

func (v rowReader) number(i int) (int64, error) {
	n, ok := v[i].(int64)
	if !ok {
		return 0, errRow
	}
	return n, nil
}

func (v rowReader) bytes(i, multiple int) ([]byte, error) {
	b, ok := v[i].([]byte)
	if !ok || len(b)%multiple != 0 {
		return nil, errRow
	}
	return b, nil
}

func (v rowReader) hash(i int) (h crdt.Hash, err error) {
	b, err := v.bytes(i, 1)
	if err != nil || len(b) != len(h) {
		return h, errRow
	}
	return crdt.Hash(b), nil
}

func (raw *Raw) addChange(v rowReader) error {
	n, err1 := v.number(0)
	hash, err2 := v.hash(1)
	chunk, err3 := v.bytes(2, 1)
	user, ok1 := v[3].(string)
	role, ok2 := v[4].(string)
	at, err4 := v.number(5)
	if err := errors.Join(err1, err2, err3, err4); err != nil || !ok1 || !ok2 {
		return errRow
	}
	raw.Changes = append(raw.Changes, RawChange{N: int(n), Receipt: Receipt{Hash: hash, User: user, Role: role, At: at}, Chunk: chunk})
	return nil
}

func (raw *Raw) addSettings(v rowReader) (err error) {
	raw.Settings, err = v.bytes(0, 1)
	return err
}

func (raw *Raw) addResolution(v rowReader) error {
	n, err1 := v.number(0)
	heads, err2 := v.bytes(1, len(crdt.Hash{}))
	data, err3 := v.bytes(2, 1)
	if errors.Join(err1, err2, err3) != nil {
		return errRow
	}
	raw.Resolutions = append(raw.Resolutions, RawResolution{N: int(n), Resolution: Resolution{Heads: crdt.SplitHashes(heads), Data: data}})
	return nil
}

func (raw *Raw) addSnapshot(v rowReader) error {
	n, err1 := v.number(0)
	heads, err2 := v.bytes(1, len(crdt.Hash{}))
	sum, err3 := v.hash(2)
	data, err4 := v.bytes(3, 1)
	if errors.Join(err1, err2, err3, err4) != nil {
		return errRow
	}
	raw.Snapshot = &RawSnapshot{
		Snapshot: crdt.Snapshot{Changes: int(n), Heads: crdt.SplitHashes(heads), Data: data}, Sound: sha256.Sum256(data) == sum,
	}
	return nil
}

func (raw *Raw) addPack(v rowReader) error {
	n, err1 := v.number(0)
	sum, err2 := v.hash(1)
	data, err3 := v.bytes(2, 1)
	if errors.Join(err1, err2, err3) != nil {
		return errRow
	}
	raw.Pack = &RawPack{Changes: int(n)}
	raw.Pack.Pack, _ = openPack(sum, data) // one of another version is as good as none
	return nil
}

// RevocationNumbers returns the numbers under which revocations are stored, in
// order. They are counted from 1.
func (r *Reading) RevocationNumbers(ctx context.Context) (ns []int, err error) {
	err = r.conn.query(ctx, func(v []driver.Value) error {
		n, err := rowReader(v).number(0)
		ns = append(ns, int(n))
		return err
	}, sqlRawRevoked)
	if err != nil {
		return ns, r.failed(ctx, "read the revocations", err)
	}
	return ns, nil
}
