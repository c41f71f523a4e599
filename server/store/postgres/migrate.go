package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/semaphore"

	"parley/crdt"
	"parley/server/store"
)

// Migrated is what was copied.
type Migrated struct{ Documents, Changes, Revocations int }

// OtherContentError says that a database holds what the folder does not.
type OtherContentError struct{ What string }

func (e *OtherContentError) Error() string {
	return e.What + ": migrate into an empty database, or into one in which this folder's migration was begun"
}

// UnfinishedError says that a folder was being copied into a database, and that this
// did not come to its end.
type UnfinishedError struct{}

func (e *UnfinishedError) Error() string {
	return "a data folder is half copied into the database: run parley migrate again, with the same --data and --store"
}

// unfinishedMark is the name in meta that a database has while one is copied into it.
const unfinishedMark = "migrating"

// maxInFlight bounds what is on its way to the database, in bytes.
const maxInFlight = 32 << 20

// Migrate copies the store of a data folder, which no server may use meanwhile, into
// a database, and compares all that is there then with the folder. The database must
// hold nothing, or what an earlier call has copied. What it holds then is the same
// store, by its id. No server takes the database before it is done.
func Migrate(ctx context.Context, dir, url string, opt store.Options) (*Migrated, error) {
	if r, err := store.Read(dir); err != nil { // rather than make a folder
		return nil, err
	} else if err := r.Close(); err != nil {
		return nil, err
	}
	from, err := store.Open(dir, opt) // nobody else has it then, and its schema is the newest
	if err != nil {
		return nil, err
	}
	m := &migration{ctx: ctx, from: from, room: semaphore.NewWeighted(maxInFlight)}
	err = m.run(dir, url, opt)
	if err := errors.Join(err, from.Close()); err != nil {
		return nil, err
	}
	return &m.done, nil
}

// migration is one call of Migrate.
type migration struct {
	ctx  context.Context
	from *store.Store
	read *store.Reading // of the same folder
	b    *Backend
	to   *store.Store
	room *semaphore.Weighted // for what is on its way
	done Migrated

	mu     sync.Mutex
	failed error // the first
}

func (m *migration) run(dir, url string, opt store.Options) (err error) {
	if m.read, err = store.Read(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.read.Close()) }()
	if m.b, err = open(m.ctx, url, opt, m.adopt); err != nil {
		return err
	}
	m.to = store.Over(m.b, opt)
	defer func() { err = errors.Join(err, m.to.Close()) }()
	if err := m.nothingElse(); err != nil {
		return err
	}
	if err := m.copy(); err != nil {
		return err
	}
	if err := m.compare(); err != nil {
		return err
	}
	_, err = m.b.pool.Exec(m.ctx, "DELETE FROM meta WHERE name = $1", unfinishedMark) // the commit point: a server takes it from here on
	return err
}

// adopt makes a database that is new, or that was being copied into, the store of
// the folder.
func (m *migration) adopt(ctx context.Context, tx pgx.Tx) error {
	id := m.from.StorageID()
	var has string
	var empty bool
	err := tx.QueryRow(ctx, `SELECT value, NOT EXISTS (SELECT FROM document) AND NOT EXISTS (SELECT FROM revocation)
		AND NOT EXISTS (SELECT FROM meta WHERE name LIKE 'agreed:%') FROM meta WHERE name = 'storage-id'`).Scan(&has, &empty)
	switch {
	case err != nil:
		return err
	case has != id && !empty:
		return &OtherContentError{"the database holds another store"}
	case has == id:
		return nil // if a server has gone on from it, it is left as it is
	}
	_, err = tx.Exec(ctx, "UPDATE meta SET value = $1 WHERE name = 'storage-id'", id)
	if err == nil {
		_, err = tx.Exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2)", unfinishedMark, id)
	}
	return err
}

// nothingElse reports documents that the folder does not have.
func (m *migration) nothingElse() error {
	for after := (crdt.DocumentID{}); ; {
		const page = 1000
		list, err := m.to.Documents(m.ctx, after, page)
		if err != nil {
			return err
		}
		for _, d := range list {
			st, err := m.from.LoadSince(m.ctx, d.ID, 0)
			if err != nil {
				return err
			}
			if len(st.Hashes) < d.Changes {
				return &OtherContentError{fmt.Sprintf("document %s has %d changes in the database and %d in the folder", d.ID, d.Changes, len(st.Hashes))}
			}
			after = d.ID
		}
		if len(list) < page {
			return nil
		}
	}
}

func (m *migration) copy() error {
	revoked, err := m.from.Revocations(m.ctx, 0)
	if err != nil {
		return err
	}
	for i := range revoked {
		m.append(store.Batch{Revocation: &revoked[i]}, 0)
	}
	m.done.Revocations = len(revoked)
	err = m.read.Walk(m.ctx, func(raw *store.Raw) error {
		m.done.Documents++
		m.done.Changes += len(raw.Changes)
		return m.copyDocument(raw)
	})
	if all := m.room.Acquire(m.ctx, maxInFlight); all == nil { // everything has been answered
		m.room.Release(maxInFlight)
	} else {
		err = errors.Join(err, all)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.failed, err)
}

// append queues a batch, and waits for room first.
func (m *migration) append(b store.Batch, size int) {
	weight := min(int64(size)+1<<12, maxInFlight)
	if m.room.Acquire(m.ctx, weight) != nil {
		return // copy says so
	}
	b.Done = func(err error) {
		if errors.Is(err, store.ErrBehind) {
			err = &OtherContentError{fmt.Sprintf("document %s is another in the database", b.Document)}
		}
		m.mu.Lock()
		if m.failed == nil {
			m.failed = err
		}
		m.mu.Unlock()
		m.room.Release(weight)
	}
	m.to.Append(b)
}

// copyDocument copies a document with its numbers: each batch is appended to exactly
// what is before it, or is there already.
func (m *migration) copyDocument(raw *store.Raw) error {
	if err := sound(raw); err != nil {
		return err
	}
	at, chain := store.Version{}, &store.Chain{}
	for part := range slices.Chunk(raw.Changes, store.DocumentShare) {
		base, size := at, 0
		b := store.Batch{Document: raw.ID, Base: &base, Chain: chain}
		for _, c := range part {
			b.Changes = append(b.Changes, store.Change{Hash: c.Hash, Chunk: c.Chunk, User: c.User, Role: c.Role, At: c.At})
			size += len(c.Chunk)
		}
		m.append(b, size)
		at.Changes += len(part)
	}
	if raw.Settings != nil {
		base := at
		m.append(store.Batch{Document: raw.ID, Base: &base, Chain: chain, Settings: raw.Settings}, len(raw.Settings))
		at.Settings++
	}
	for i := range raw.Resolutions {
		base, r := at, &raw.Resolutions[i].Resolution
		m.append(store.Batch{Document: raw.ID, Base: &base, Chain: chain, Resolution: r}, len(r.Data))
		at.Resolutions++
	}
	return m.copyBeside(raw)
}

// copyBeside copies what a document can do without.
func (m *migration) copyBeside(raw *store.Raw) error {
	snap, pack := raw.Snapshot, raw.Pack
	if (snap == nil || !snap.Sound) && (pack == nil || pack.Pack == nil) {
		return nil
	}
	stored := make(chan error, 1)
	m.to.Append(store.Batch{Document: raw.ID, Done: func(err error) { stored <- err }}) // they do not wait for changes
	if err := <-stored; err != nil {
		return err
	}
	m.mu.Lock()
	failed := m.failed
	m.mu.Unlock()
	if failed != nil {
		return nil // copy says so
	}
	if snap != nil && snap.Sound {
		if err := m.to.PutSnapshot(m.ctx, raw.ID, snap.Snapshot); err != nil {
			return err
		}
	}
	if pack != nil && pack.Pack != nil {
		return m.to.PutPack(m.ctx, raw.ID, pack.Pack)
	}
	return nil
}

// sound returns an error for a document that is not as it was written.
func sound(raw *store.Raw) error {
	if len(raw.Unread) > 0 {
		return &store.UnreadableError{Doing: fmt.Sprintf("read document %s", raw.ID), Err: raw.Unread[0].Err}
	}
	for i, c := range raw.Changes {
		if c.N != i+1 {
			return &store.DamagedError{Document: raw.ID}
		}
		if !store.Intact(c.Hash, c.Chunk) {
			return &store.DamagedError{Document: raw.ID, N: c.N, Hash: c.Hash}
		}
	}
	for i, r := range raw.Resolutions {
		if r.N != i+1 {
			return &store.UnreadableError{Doing: fmt.Sprintf("read document %s", raw.ID), Err: errors.New("a resolution is missing")}
		}
	}
	return nil
}

// compare reads everything again, from both.
func (m *migration) compare() error {
	want, err := m.from.Revocations(m.ctx, 0)
	if err != nil {
		return err
	}
	got, err := m.to.Revocations(m.ctx, 0)
	if err != nil {
		return err
	}
	slices.SortStableFunc(want, compareRevocations)
	slices.SortStableFunc(got, compareRevocations)
	if !slices.Equal(slices.Compact(want), got) {
		return &OtherContentError{"the database holds other revocations"}
	}
	return m.read.Walk(m.ctx, m.compareDocument)
}

func compareRevocations(a, b store.Revocation) int {
	return bytes.Compare(fmt.Appendf(nil, "%#v", a), fmt.Appendf(nil, "%#v", b))
}

func (m *migration) compareDocument(raw *store.Raw) error {
	got, err := m.to.Load(m.ctx, raw.ID)
	if err != nil {
		return err
	}
	receipts, err := m.to.Receipts(m.ctx, raw.ID, len(raw.Changes)+1)
	if err != nil {
		return err
	}
	same := len(got.Hashes) == len(raw.Changes) && len(receipts) == len(raw.Changes) && bytes.Equal(got.Settings, raw.Settings) &&
		slices.EqualFunc(got.Resolutions, raw.Resolutions, func(a store.Resolution, b store.RawResolution) bool {
			return slices.Equal(a.Heads, b.Heads) && bytes.Equal(a.Data, b.Data)
		})
	for i := 0; same && i < len(raw.Changes); i++ {
		c := &raw.Changes[i]
		same = got.Hashes[i] == c.Hash && bytes.Equal(got.Chunks[i], c.Chunk) && got.Users[i] == c.User && receipts[i] == c.Receipt
	}
	if !same {
		return &OtherContentError{fmt.Sprintf("document %s is another in the database", raw.ID)}
	}
	return nil
}
