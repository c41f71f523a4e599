package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"

	"parley/crdt"
	"parley/server/store"
)

const (
	sqlRead     = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	sqlVersion  = "SELECT changes, settings, resolutions FROM document WHERE id = $1"
	sqlSnapshot = "SELECT changes, heads, sha256, data FROM snapshot WHERE document = (SELECT key FROM document WHERE id = $1)"
	sqlSettings = "SELECT data FROM settings WHERE document = (SELECT key FROM document WHERE id = $1) AND n > $2 ORDER BY n DESC LIMIT 1"
	sqlResolved = "SELECT heads, data FROM resolution WHERE document = (SELECT key FROM document WHERE id = $1) AND n > $2 ORDER BY n"
	sqlPack     = `SELECT p.sha256, p.data, c.hash FROM pack p JOIN change c ON c.document = p.document AND c.n = p.changes
		WHERE p.document = (SELECT key FROM document WHERE id = $1)`
	sqlChanges       = "SELECT n, hash, chunk, username FROM change WHERE document = (SELECT key FROM document WHERE id = $1) AND n > $2 ORDER BY n"
	sqlChangesBehind = `SELECT n, hash, chunk, username FROM change WHERE document = (SELECT key FROM document WHERE id = $1)
		AND n > (SELECT coalesce(max(changes), 0) FROM pack WHERE document = (SELECT key FROM document WHERE id = $1)) ORDER BY n`
	sqlReceipts = "SELECT hash, username, role, at FROM change WHERE document = (SELECT key FROM document WHERE id = $1) AND n <= $2 ORDER BY n"

	sqlDocuments = `SELECT d.id, d.changes, coalesce(s.changes, 0), coalesce(length(s.data), 0)
		FROM document d LEFT JOIN snapshot s ON s.document = d.key WHERE d.id > $1 ORDER BY d.id LIMIT $2`
	sqlRevocations = "SELECT username, token, at, until, by FROM revocation WHERE n > $1 ORDER BY n"
)

// read sends queries that see one moment, and reads the answers.
func (b *Backend) read(ctx context.Context, queue func(*pgx.Batch)) error {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	c, err := b.pool.Acquire(ctx)
	if err != nil {
		return said(err)
	}
	defer c.Release() // which closes one that is within a transaction still
	q := &pgx.Batch{}
	q.Queue(sqlRead)
	queue(q)
	q.Queue(sqlCommit)
	return c.SendBatch(ctx, q).Close()
}

// loading is a document that is being read.
type loading struct {
	b  *Backend
	id crdt.DocumentID
	*store.Stored
	unsound bool // there is a pack, and it is none
}

// Load implements [store.Backend].
func (b *Backend) Load(ctx context.Context, doc crdt.DocumentID) (*store.Stored, error) {
	st := &store.Stored{}
	l := &loading{b, doc, st, false}
	err := b.read(ctx, func(q *pgx.Batch) {
		q.Queue(sqlVersion, doc[:]).Query(l.takeVersion)
		q.Queue(sqlSnapshot, doc[:]).Query(l.takeSnapshot)
		q.Queue(sqlSettings, doc[:], 0).Query(l.takeSettings)
		q.Queue(sqlResolved, doc[:], 0).Query(l.takeResolutions)
		q.Queue(sqlPack, doc[:]).Query(l.takePack)
		q.Queue(sqlChangesBehind, doc[:]).Query(func(rows pgx.Rows) error {
			if l.unsound {
				rows.Close()
				return rows.Err()
			}
			return l.takeChanges(rows)
		})
	})
	if err == nil && l.unsound {
		err = b.read(ctx, func(q *pgx.Batch) {
			q.Queue(sqlVersion, doc[:]).Query(l.takeVersion)
			q.Queue(sqlChanges, doc[:], 0).Query(l.takeChanges)
		})
	}
	if err == nil {
		err = l.complete()
	}
	if err != nil {
		return nil, err
	}
	return st, nil
}

// LoadSince implements [store.Backend].
func (b *Backend) LoadSince(ctx context.Context, doc crdt.DocumentID, known store.Version) (*store.Stored, error) {
	st := &store.Stored{First: known.Changes}
	l := &loading{b, doc, st, false}
	err := b.read(ctx, func(q *pgx.Batch) {
		q.Queue(sqlVersion, doc[:]).Query(l.takeVersion)
		q.Queue(sqlSettings, doc[:], known.Settings).Query(l.takeSettings)
		q.Queue(sqlResolved, doc[:], known.Resolutions).Query(l.takeResolutions)
		q.Queue(sqlChanges, doc[:], known.Changes).Query(l.takeChanges)
	})
	if err == nil && st.Version.Changes > known.Changes {
		err = l.complete()
	}
	if err != nil {
		return nil, err
	}
	return st, nil
}

// complete reports changes that are missing at the end.
func (l *loading) complete() error {
	if l.First+len(l.Hashes) != l.Version.Changes {
		return &store.DamagedError{Document: l.id}
	}
	return nil
}

func (l *loading) takeVersion(rows pgx.Rows) error {
	v := &l.Version
	_, err := pgx.ForEachRow(rows, []any{&v.Changes, &v.Settings, &v.Resolutions}, func() error { return nil })
	return err
}

func (l *loading) takeSettings(rows pgx.Rows) error {
	var data []byte
	_, err := pgx.ForEachRow(rows, []any{&data}, func() error {
		l.Settings = append([]byte{}, data...)
		return nil
	})
	return err
}

func (l *loading) takeResolutions(rows pgx.Rows) error {
	for rows.Next() {
		var heads, data []byte
		if err := rows.Scan(&heads, &data); err != nil {
			return err
		}
		l.Resolutions = append(l.Resolutions, store.Resolution{Heads: crdt.SplitHashes(heads), Data: data})
	}
	return rows.Err()
}

func (l *loading) takeSnapshot(rows pgx.Rows) error {
	for rows.Next() {
		var changes int
		var heads, sum, data []byte
		if err := rows.Scan(&changes, &heads, &sum, &data); err != nil {
			return err
		}
		if sha256.Sum256(data) != [sha256.Size]byte(sum) {
			l.b.complain("a snapshot is damaged on disk and left out", l.id)
			continue
		}
		l.Snapshot = &crdt.Snapshot{Changes: changes, Data: data, Heads: crdt.SplitHashes(heads)}
	}
	return rows.Err()
}

func (l *loading) takePack(rows pgx.Rows) error {
	for rows.Next() {
		var sum, data, last []byte
		if err := rows.Scan(&sum, &data, &last); err != nil {
			return err
		}
		p := store.DecodePack([32]byte(sum), data, crdt.Hash(last))
		if p == nil {
			l.unsound = true
			l.b.complain("a pack of changes is damaged on disk and left out", l.id)
			continue
		}
		l.Index, l.Indexed = p.Index, len(p.Hashes)
		l.Hashes, l.Chunks, l.Users = p.Hashes, p.Chunks, p.Users
	}
	return rows.Err()
}

// takeChanges adds the changes that follow those that are there.
func (l *loading) takeChanges(rows pgx.Rows) error {
	next := l.First + len(l.Hashes)
	for rows.Next() {
		var n int
		var hash, chunk []byte
		var user string
		if err := rows.Scan(&n, &hash, &chunk, &user); err != nil {
			return err
		}
		next++
		if n != next {
			return &store.DamagedError{Document: l.id}
		}
		h := crdt.Hash(hash)
		if !store.Intact(h, chunk) {
			return &store.DamagedError{Document: l.id, N: n, Hash: h}
		}
		l.Hashes, l.Chunks, l.Users = append(l.Hashes, h), append(l.Chunks, chunk), append(l.Users, user)
	}
	return rows.Err()
}

// into appends what read makes of each row.
func into[T any](list *[]T, read pgx.RowToFunc[T]) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*list, err = pgx.AppendRows(*list, rows, read)
		return err
	}
}

func (b *Backend) complain(what string, doc crdt.DocumentID) {
	if b.opt.Logger != nil {
		b.opt.Logger.Warn(what, "document", doc)
	}
}

// Receipts implements [store.Backend].
func (b *Backend) Receipts(ctx context.Context, doc crdt.DocumentID, n int) (list []store.Receipt, err error) {
	err = b.read(ctx, func(q *pgx.Batch) {
		q.Queue(sqlReceipts, doc[:], n).Query(into(&list, func(row pgx.CollectableRow) (r store.Receipt, err error) {
			var hash []byte
			if err = row.Scan(&hash, &r.User, &r.Role, &r.At); err == nil {
				r.Hash = crdt.Hash(hash)
			}
			return r, err
		}))
	})
	return list, err
}

// Documents implements [store.Backend].
func (b *Backend) Documents(ctx context.Context, after crdt.DocumentID, limit int) (list []store.DocumentInfo, err error) {
	from := after[:]
	if after == (crdt.DocumentID{}) {
		from = []byte{} // sorts before every id
	}
	err = b.read(ctx, func(q *pgx.Batch) {
		q.Queue(sqlDocuments, from, limit).Query(into(&list, func(row pgx.CollectableRow) (d store.DocumentInfo, err error) {
			var id []byte
			if err = row.Scan(&id, &d.Changes, &d.Covered, &d.SnapshotBytes); err == nil {
				d.ID = crdt.DocumentID(id)
			}
			return d, err
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	return list, nil
}

// Revocations implements [store.Backend].
func (b *Backend) Revocations(ctx context.Context, after int) (list []store.Revocation, err error) {
	err = b.read(ctx, func(q *pgx.Batch) {
		q.Queue(sqlRevocations, after).Query(into(&list, func(row pgx.CollectableRow) (r store.Revocation, err error) {
			err = row.Scan(&r.User, &r.Token, &r.At, &r.Until, &r.By)
			return r, err
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("read the revocations: %w", err)
	}
	return list, nil
}
