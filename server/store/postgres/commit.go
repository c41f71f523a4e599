package postgres

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/crdt"
	"parley/server/store"
)

const (
	sqlBegin   = "BEGIN"
	sqlCommit  = "COMMIT"
	sqlAddDocs = "INSERT INTO document (id) SELECT id FROM unnest($1::bytea[]) id ORDER BY id ON CONFLICT DO NOTHING"
	// The rows are locked in the order in which they come.
	sqlLockDocs = "SELECT id, key, changes, settings, resolutions FROM document WHERE id = ANY($1::bytea[]) ORDER BY id FOR NO KEY UPDATE"
	// Revocations are numbered by one at a time.
	sqlLockRevocations = "SELECT pg_advisory_xact_lock($1)"

	sqlFindChanges = `SELECT c.document, c.n, c.hash FROM change c
		JOIN unnest($1::bigint[], $2::bytea[]) AS w (document, hash) ON c.document = w.document AND c.hash = w.hash`
	sqlFindSettings    = "SELECT n, data FROM settings WHERE document = $1 AND n = $2"
	sqlFindResolutions = "SELECT n, heads, data FROM resolution WHERE document = $1 AND heads = $2"

	sqlAddChanges = `INSERT INTO change (document, n, hash, chunk, username, role, at)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::bigint[])`
	sqlAddSettings   = "INSERT INTO settings (document, n, data) VALUES ($1, $2, $3)"
	sqlAddResolution = "INSERT INTO resolution (document, n, heads, data) VALUES ($1, $2, $3, $4)"
	sqlRevoke        = `INSERT INTO revocation (n, username, token, at, until, by)
		VALUES ((SELECT coalesce(max(n), 0) + 1 FROM revocation), $1, $2, $3, $4, $5) ON CONFLICT (username, token, at, until, by) DO NOTHING`
	sqlMoveDocs = `UPDATE document d SET changes = w.changes, settings = w.settings, resolutions = w.resolutions
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (key, changes, settings, resolutions) WHERE d.key = w.key`

	sqlNotify = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) payload"

	sqlPutSnapshot = `INSERT INTO snapshot (document, changes, heads, sha256, data) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (document) DO UPDATE SET changes = excluded.changes, heads = excluded.heads, sha256 = excluded.sha256, data = excluded.data
		WHERE excluded.changes >= snapshot.changes`
	sqlPutPack = `INSERT INTO pack (document, changes, sha256, data) VALUES ($1, $2, $3, $4)
		ON CONFLICT (document) DO UPDATE SET changes = excluded.changes, sha256 = excluded.sha256, data = excluded.data
		WHERE excluded.changes >= pack.changes`
)

// maxKnown bounds what is remembered of which documents there are: about 4 MB.
const maxKnown = 1 << 16

// place is where a document is, while its row is locked.
type spot struct {
	key  int64
	was  store.Version
	is   store.Version // with what this commit appends
	news []store.Change
}

// plan is one commit.
type plan struct {
	batches []*store.Batch
	refused []error // by batch; nil while none is
	spots   map[crdt.DocumentID]*spot
	stored  found
	present map[crdt.DocumentID]map[store.Node]uint64 // in documents that are to be sealed, by other nodes
	lease   uint64                                    // this node's, if any is to be sealed; 0: it has none
	looked  time.Time                                 // a moment before that was read; zero: it was not
	slow    bool                                      // none is sealed this time, because that took too long

	changes     []row
	settings    []setting
	resolutions []resolution
	revocations []*store.Revocation
}

type row struct {
	document, n int64
	*store.Change
}

type setting struct {
	document, n int64
	data        []byte
}

type resolution struct {
	document, n int64
	*store.Resolution
}

// found is what of the batches is stored already.
type found struct {
	changes     map[changeKey]int // their numbers
	settings    map[int64]map[int][]byte
	resolutions map[int64][]resolution
}

type changeKey struct {
	document int64
	hash     crdt.Hash
}

// Commit implements [store.Backend].
func (b *Backend) Commit(batches []*store.Batch) (done store.Committed, err error) {
	p := &plan{batches: batches, spots: make(map[crdt.DocumentID]*spot)}
	for _, batch := range batches {
		if len(batch.Changes) > 0 || batch.Settings != nil || batch.Resolution != nil {
			p.spots[batch.Document] = &spot{}
		}
		if batch.Revocation != nil {
			p.revocations = append(p.revocations, batch.Revocation)
		}
	}
	if len(p.spots) == 0 && len(p.revocations) == 0 {
		return done, nil
	}
	err = b.transaction(func(ctx context.Context) error { return b.commit(ctx, p) })
	b.slow = !p.looked.IsZero() && isSlow(err)
	if err != nil {
		return done, err
	}
	b.remember(p.spots)
	return store.Committed{Changes: len(p.changes), Refused: p.refused}, nil
}

// transaction runs do, which begins a transaction and commits it, on a connection
// that is thrown away if it fails: that undoes what is not on disk.
func (b *Backend) transaction(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitWithin)
	defer cancel()
	if err := b.writer.ready(ctx, b.config); err != nil {
		return err
	}
	err := do(ctx)
	if err == nil {
		return nil
	}
	closed := b.writer.IsClosed()
	b.writer.discard()
	return judged(err, closed)
}

func (b *Backend) commit(ctx context.Context, p *plan) error {
	if err := b.lock(ctx, p); err != nil {
		return fmt.Errorf("lock documents: %w", err)
	}
	if err := b.find(ctx, p); err != nil {
		return fmt.Errorf("look for what is stored: %w", err)
	}
	if err := b.meet(ctx, p); err != nil {
		return fmt.Errorf("look who is present: %w", err)
	}
	for i, batch := range p.batches {
		if err := p.add(batch); err != nil {
			if p.refused == nil {
				p.refused = make([]error, len(p.batches))
			}
			p.refused[i] = err
		}
	}
	if err := b.write(ctx, p); err != nil {
		return fmt.Errorf("store changes: %w", err)
	}
	return nil
}

// lock begins a transaction, makes documents that are new, and holds the rows of
// all.
func (b *Backend) lock(ctx context.Context, p *plan) error {
	var ids, fresh [][]byte
	for id := range p.spots {
		ids = append(ids, bytes.Clone(id[:]))
		if _, known := b.known[id]; !known {
			fresh = append(fresh, ids[len(ids)-1])
		}
	}
	q := &pgx.Batch{}
	q.Queue(sqlBegin)
	if len(fresh) > 0 {
		q.Queue(sqlAddDocs, fresh)
	}
	if len(ids) > 0 {
		q.Queue(sqlLockDocs, ids).Query(p.take)
	}
	if len(p.revocations) > 0 { // after the documents, always
		q.Queue(sqlLockRevocations, revocationLock)
	}
	if err := b.writer.SendBatch(ctx, q).Close(); err != nil {
		return err
	}
	for id, s := range p.spots {
		if s.key == 0 {
			return fmt.Errorf("document %s is not there after it was made", id)
		}
	}
	return nil
}

func (p *plan) take(rows pgx.Rows) error {
	var id []byte
	var key int64
	var v store.Version
	_, err := pgx.ForEachRow(rows, []any{&id, &key, &v.Changes, &v.Settings, &v.Resolutions}, func() error {
		s := p.spots[crdt.DocumentID(id)]
		s.key, s.was, s.is = key, v, v
		return nil
	})
	return err
}

// find looks for what may be stored already: what says nothing of where it belongs,
// and what was built on less than there is, because its commit was answered by nobody.
func (b *Backend) find(ctx context.Context, p *plan) error {
	p.stored = found{
		changes: make(map[changeKey]int), settings: make(map[int64]map[int][]byte), resolutions: make(map[int64][]resolution),
	}
	var documents []int64
	var hashes [][]byte
	q := &pgx.Batch{}
	for _, batch := range p.batches {
		s := p.spots[batch.Document]
		if s == nil || s.was == (store.Version{}) || batch.Base != nil && !batch.Base.Lacks(s.was) {
			continue
		}
		for i := range batch.Changes {
			documents, hashes = append(documents, s.key), append(hashes, batch.Changes[i].Hash[:])
		}
		if batch.Settings != nil && batch.Base != nil {
			q.Queue(sqlFindSettings, s.key, batch.Base.Settings+1).Query(p.stored.takeSettings(s.key))
		}
		if r := batch.Resolution; r != nil {
			q.Queue(sqlFindResolutions, s.key, crdt.JoinHashes(r.Heads)).Query(p.stored.takeResolutions(s.key))
		}
	}
	if len(hashes) > 0 {
		q.Queue(sqlFindChanges, documents, hashes).Query(p.stored.takeChanges)
	}
	if q.Len() == 0 {
		return nil
	}
	return b.writer.SendBatch(ctx, q).Close()
}

func (f *found) takeChanges(rows pgx.Rows) error {
	var document int64
	var n int
	var hash []byte
	_, err := pgx.ForEachRow(rows, []any{&document, &n, &hash}, func() error {
		f.changes[changeKey{document, crdt.Hash(hash)}] = n
		return nil
	})
	return err
}

func (f *found) takeSettings(document int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var n int
		var data []byte
		_, err := pgx.ForEachRow(rows, []any{&n, &data}, func() error {
			if f.settings[document] == nil {
				f.settings[document] = make(map[int][]byte)
			}
			f.settings[document][n] = bytes.Clone(data)
			return nil
		})
		return err
	}
}

func (f *found) takeResolutions(document int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var n int64
		var heads, data []byte
		_, err := pgx.ForEachRow(rows, []any{&n, &heads, &data}, func() error {
			f.resolutions[document] = append(f.resolutions[document], resolution{
				document, n, &store.Resolution{Heads: crdt.SplitHashes(heads), Data: bytes.Clone(data)},
			})
			return nil
		})
		return err
	}
}

// add puts a batch at the end of its document, or says why not.
func (p *plan) add(batch *store.Batch) error {
	s := p.spots[batch.Document]
	switch {
	case p.refusedChain(batch.Chain):
		return fmt.Errorf("%w: %w", store.ErrChainBroken, store.ErrBehind)
	case s == nil:
		return nil
	case batch.Base == nil:
		p.addNew(s, batch)
		return nil
	case *batch.Base == s.is:
		err := p.rely(batch)
		if err == nil {
			p.append(s, batch)
		}
		return err
	case p.isDone(s, batch):
		return nil
	}
	return store.ErrBehind
}

// refusedChain reports whether a batch of a chain was left out: what builds on that
// is nothing without it, even if it finds as many changes as it expects.
func (p *plan) refusedChain(c *store.Chain) bool {
	if c == nil {
		return false
	}
	for i, err := range p.refused {
		if err != nil && p.batches[i].Chain == c {
			return true
		}
	}
	return false
}

// isDone reports whether a batch stands where it would have been appended: it was
// committed, and the answer was lost.
func (p *plan) isDone(s *spot, batch *store.Batch) bool {
	for i := range batch.Changes {
		n, ok := p.stored.changes[changeKey{s.key, batch.Changes[i].Hash}]
		if !ok || n != batch.Base.Changes+i+1 {
			return false
		}
	}
	if batch.Settings != nil {
		data, ok := p.stored.settings[s.key][batch.Base.Settings+1]
		if !ok || !bytes.Equal(data, batch.Settings) {
			return false
		}
	}
	if batch.Resolution != nil {
		return slices.ContainsFunc(p.stored.resolutions[s.key], func(r resolution) bool {
			return int(r.n) == batch.Base.Resolutions+1 && slices.Equal(r.Heads, batch.Resolution.Heads) && bytes.Equal(r.Data, batch.Resolution.Data)
		})
	}
	return true
}

// append adds all of a batch.
func (p *plan) append(s *spot, batch *store.Batch) {
	for i := range batch.Changes {
		p.appendChange(s, &batch.Changes[i])
	}
	if batch.Settings != nil {
		s.is.Settings++
		p.settings = append(p.settings, setting{s.key, int64(s.is.Settings), batch.Settings})
	}
	if batch.Resolution != nil {
		s.is.Resolutions++
		p.resolutions = append(p.resolutions, resolution{s.key, int64(s.is.Resolutions), batch.Resolution})
	}
}

func (p *plan) appendChange(s *spot, c *store.Change) {
	s.is.Changes++
	p.changes = append(p.changes, row{s.key, int64(s.is.Changes), c})
	s.news = append(s.news, *c)
}

// addNew adds what of a batch is not stored.
func (p *plan) addNew(s *spot, batch *store.Batch) {
	rest := store.Batch{Settings: batch.Settings}
	for i := range batch.Changes {
		c := &batch.Changes[i]
		key := changeKey{s.key, c.Hash}
		if _, ok := p.stored.changes[key]; !ok {
			p.appendChange(s, c)
			p.stored.changes[key] = s.is.Changes
		}
	}
	if r := batch.Resolution; r != nil {
		known := func(k resolution) bool { return slices.Equal(k.Heads, r.Heads) }
		if !slices.ContainsFunc(p.stored.resolutions[s.key], known) {
			rest.Resolution = r
			p.stored.resolutions[s.key] = append(p.stored.resolutions[s.key], resolution{s.key, 0, r})
		}
	}
	p.append(s, &rest)
}

// write stores what is new and ends the transaction, in one go.
func (b *Backend) write(ctx context.Context, p *plan) error {
	q := &pgx.Batch{}
	p.queueChanges(q)
	for _, s := range p.settings {
		q.Queue(sqlAddSettings, s.document, s.n, s.data)
	}
	for _, r := range p.resolutions {
		q.Queue(sqlAddResolution, r.document, r.n, crdt.JoinHashes(r.Heads), r.Data)
	}
	for _, r := range p.revocations {
		q.Queue(sqlRevoke, r.User, r.Token, r.At, r.Until, r.By)
	}
	p.queueMoves(q)
	if payloads := p.notices(b.node); len(payloads) > 0 { // they are heard with the commit, or not at all
		q.Queue(sqlNotify, b.channel(), payloads)
	}
	if !p.looked.IsZero() { // what comes so late as to be counted on by nobody is not stored
		if err := b.writer.SendBatch(ctx, q).Close(); err != nil {
			return err
		}
		if time.Since(p.looked) > sealTime {
			return store.Passing(errSlow)
		}
		q = &pgx.Batch{}
	}
	ended := ""
	q.Queue(sqlCommit) // the commit point: after it, what was added is on disk
	r := b.writer.SendBatch(ctx, q)
	for range q.Len() {
		tag, err := r.Exec()
		if err != nil {
			return errors.Join(err, r.Close())
		}
		ended = tag.String()
	}
	if err := r.Close(); err != nil {
		return err
	}
	if ended != sqlCommit {
		return fmt.Errorf("the transaction ended with %s", ended)
	}
	return nil
}

func (p *plan) queueChanges(q *pgx.Batch) {
	n := len(p.changes)
	if n == 0 {
		return
	}
	documents, ns, ats := make([]int64, n), make([]int64, n), make([]int64, n)
	hashes, chunks := make([][]byte, n), make([][]byte, n)
	users, roles := make([]string, n), make([]string, n)
	for i, r := range p.changes {
		documents[i], ns[i], ats[i] = r.document, r.n, r.At
		hashes[i], chunks[i] = r.Hash[:], r.Chunk
		users[i], roles[i] = r.User, r.Role
	}
	q.Queue(sqlAddChanges, documents, ns, hashes, chunks, users, roles, ats)
}

// queueMoves writes how far the documents have come.
func (p *plan) queueMoves(q *pgx.Batch) {
	var moved []*spot
	for _, s := range p.spots {
		if s.is != s.was {
			moved = append(moved, s)
		}
	}
	if len(moved) == 0 {
		return
	}
	slices.SortFunc(moved, func(a, b *spot) int { return cmp.Compare(a.key, b.key) })
	n := len(moved)
	keys, changes, settings, resolutions := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, s := range moved {
		keys[i], changes[i], settings[i], resolutions[i] = s.key, int64(s.is.Changes), int64(s.is.Settings), int64(s.is.Resolutions)
	}
	q.Queue(sqlMoveDocs, keys, changes, settings, resolutions)
}

// remember notes which documents are there: they stay.
func (b *Backend) remember(spots map[crdt.DocumentID]*spot) {
	if len(b.known)+len(spots) > maxKnown {
		clear(b.known)
	}
	for id := range spots {
		b.known[id] = struct{}{}
	}
}

// PutSnapshot implements [store.Backend].
func (b *Backend) PutSnapshot(doc crdt.DocumentID, snap *crdt.Snapshot) error {
	sum := sha256.Sum256(snap.Data)
	return b.putAside(doc, "a snapshot", snap.Changes, func(key int64) []any {
		return []any{sqlPutSnapshot, key, snap.Changes, crdt.JoinHashes(snap.Heads), sum[:], snap.Data}
	})
}

// PutPack implements [store.Backend].
func (b *Backend) PutPack(doc crdt.DocumentID, changes int, data []byte) error {
	sum := sha256.Sum256(data)
	return b.putAside(doc, "a pack", changes, func(key int64) []any { return []any{sqlPutPack, key, changes, sum[:], data} })
}

// putAside stores what is beside a document's changes, which must be there. No row
// of the document is held for it: changes only become more.
func (b *Backend) putAside(doc crdt.DocumentID, what string, changes int, put func(key int64) []any) error {
	return b.transaction(func(ctx context.Context) error {
		var key int64
		var have int
		err := b.writer.QueryRow(ctx, "SELECT key, changes FROM document WHERE id = $1", doc[:]).Scan(&key, &have)
		switch {
		case err != nil && !errors.Is(err, pgx.ErrNoRows):
			return err
		case have == 0: // there may be settings, or a resolution
			return store.ErrUnknownDocument
		case changes > have:
			return fmt.Errorf("%s of %d changes, where %d are stored", what, changes, have)
		}
		args := put(key)
		_, err = b.writer.Exec(ctx, args[0].(string), args[1:]...)
		return err
	})
}
