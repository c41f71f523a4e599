package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/crdt"
	"parley/server/store"
)

const (
	// Who publishes waits for no document that is being sealed, so that it does not keep
	// others waiting, whose locks it has. Who seals takes locks in the order of their
	// numbers, after the documents' rows.
	sqlLockToPublish = "SELECT k FROM unnest($1::bigint[]) k WHERE pg_try_advisory_xact_lock_shared(k)"
	sqlLockToSeal    = "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) k"

	// What was sent on a connection that was given up may be executed late. It does
	// nothing then: a later number is there.
	sqlAdvance     = "UPDATE publisher SET seq = $2 WHERE node = $1 AND seq < $3"
	sqlIfAdvanced  = " WHERE EXISTS (SELECT FROM publisher p WHERE p.node = $1 AND p.seq = $2)"
	sqlPutPresence = `INSERT INTO presence (document, node, seq, data)
		SELECT w.document, $1, w.seq, w.data FROM unnest($3::bytea[], $4::bigint[], $5::bytea[]) AS w (document, seq, data)` + sqlIfAdvanced +
		" ON CONFLICT (document, node) DO UPDATE SET seq = excluded.seq, data = excluded.data"
	sqlDropPresence = "DELETE FROM presence" + sqlIfAdvanced + " AND node = $1 AND document = ANY($3::bytea[])"
	sqlTellPresence = "SELECT pg_notify($3, payload) FROM unnest($4::text[]) payload" + sqlIfAdvanced

	// No statement of who seals takes longer, nor does it wait longer for the next.
	sqlSealInTime = "SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true)"

	// The nodes that live, each with what it says, or once if it says nothing; and this one.
	sqlPresent = `SELECT n.id, n.begun, p.document, coalesce(p.seq, 0), CASE WHEN $3 THEN '' ELSE p.data END
		FROM node n LEFT JOIN presence p ON p.node = n.id AND p.node <> $2 AND p.document = ANY($1::bytea[])
		WHERE n.expires > clock_timestamp()`

	sqlLease = "SELECT coalesce(max(begun), 0) FROM node WHERE id = $1 AND expires > clock_timestamp()"

	// A lease ends at a time that the node has worked out, so that one which is executed
	// late does not prolong it; nor does a clock that was wrong.
	sqlProlong = "UPDATE node SET expires = least($2::timestamptz, clock_timestamp() + $3::interval) WHERE id = $1 AND expires > clock_timestamp()"
	sqlClock   = "SELECT clock_timestamp()"
	sqlNodes   = "SELECT id FROM node WHERE id <> $1 AND expires > clock_timestamp()"
	sqlForget  = `WITH old AS (SELECT n.id FROM node n JOIN publisher p ON p.node = n.id
			WHERE n.expires < clock_timestamp() - interval '60 seconds' FOR UPDATE SKIP LOCKED),
		publishers AS (DELETE FROM publisher WHERE node IN (SELECT id FROM old)),
		presences AS (DELETE FROM presence WHERE node IN (SELECT id FROM old))
		DELETE FROM node WHERE id IN (SELECT id FROM old)`

	// A lease that has ended begins anew with nothing of what was published before.
	sqlFirst  = "INSERT INTO publisher AS p (node, seq) VALUES ($1, $2) ON CONFLICT (node) DO UPDATE SET seq = excluded.seq WHERE p.seq < excluded.seq"
	sqlForgo  = "DELETE FROM presence" + sqlIfAdvanced + " AND node = $1"
	sqlLeased = "INSERT INTO node (id, begun, expires) SELECT $1, $2, least($3::timestamptz, clock_timestamp() + $4::interval)" + sqlIfAdvanced +
		" ON CONFLICT (id) DO UPDATE SET begun = excluded.begun, expires = excluded.expires"
	sqlRemember = "INSERT INTO memory (id, since) VALUES (1, clock_timestamp()) ON CONFLICT DO NOTHING"
	sqlForgot   = "SELECT since > clock_timestamp() - $1::interval FROM memory"
)

// lease is what a node knows of its own. Who beats owns it.
type lease struct {
	clock time.Time // the database's, at some moment before read
	read  time.Time // zero: it is not known yet
	begun bool      // the last beginning was answered
}

// at returns what the database's clock says at least, nil if that is not known.
func (l *lease) at(now time.Time) *time.Time {
	if l.read.IsZero() {
		return nil
	}
	t := l.clock.Add(now.Sub(l.read))
	return &t
}

// Node implements [store.Presenting].
func (b *Backend) Node() store.Node { return b.node }

// Beat implements [store.Presenting].
func (b *Backend) Beat(ctx context.Context, length time.Duration) (beat store.Beat, err error) {
	if err := b.beating.ready(ctx, b.config); err != nil {
		return beat, err
	}
	ended, err := b.prolong(ctx, length, &beat.Nodes)
	if beat.Fresh = ended || !b.lease.begun; err == nil && beat.Fresh {
		beat.Forgotten, err = b.begin(ctx, length)
	}
	if err != nil {
		b.beating.discard()
		return store.Beat{}, fmt.Errorf("prolong the lease: %w", said(err))
	}
	return beat, nil
}

// Lease implements [store.Presenting].
func (b *Backend) Lease() uint64 { return b.begun.Load() }

// Counted implements [store.Presenting].
func (b *Backend) Counted() time.Time {
	if t := b.counted.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// ends works out when a lease ends that is asked for now, nil if the database's clock
// is not known. Others may count on the node until then, whatever comes of it.
func (b *Backend) ends(length time.Duration) *time.Time {
	now := time.Now()
	t := b.lease.at(now)
	if t != nil {
		*t = t.Add(length)
		until := now.Add(length)
		b.counted.Store(&until)
	}
	return t
}

// prolong prolongs a lease that has not ended, and reports whether it had.
func (b *Backend) prolong(ctx context.Context, length time.Duration, nodes *[]store.Node) (ended bool, err error) {
	q := &pgx.Batch{}
	q.Queue(sqlProlong, b.node[:], b.ends(length), length).Exec(func(tag pgconn.CommandTag) error {
		ended = tag.RowsAffected() == 0
		return nil
	})
	var clock time.Time
	q.Queue(sqlClock).QueryRow(func(row pgx.Row) error { return row.Scan(&clock) })
	q.Queue(sqlNodes, b.node[:]).Query(func(rows pgx.Rows) error {
		var id []byte
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			*nodes = append(*nodes, store.Node(id))
			return nil
		})
		return err
	})
	q.Queue(sqlForget)
	if err := b.beating.SendBatch(ctx, q).Close(); err != nil {
		return false, err
	}
	b.lease.clock, b.lease.read = clock, time.Now()
	return ended, nil
}

// errLate says that something was published between a number for the lease and its
// beginning.
var errLate = errors.New("something was published meanwhile")

// begin begins a lease, and reports whether the database has forgotten everything not
// longer than that ago.
func (b *Backend) begin(ctx context.Context, length time.Duration) (forgot bool, err error) {
	b.lease.begun = false
	seq := b.seq.Add(1)
	ends := b.ends(length)
	q := &pgx.Batch{}
	q.Queue(sqlBegin)
	began := false
	q.Queue(sqlFirst, b.node[:], seq).Exec(func(tag pgconn.CommandTag) error {
		began = tag.RowsAffected() == 1
		return nil
	})
	q.Queue(sqlForgo, b.node[:], seq)
	q.Queue(sqlLeased, b.node[:], seq, ends, length)
	q.Queue(sqlRemember)
	q.Queue(sqlForgot, length).QueryRow(func(row pgx.Row) error { return row.Scan(&forgot) })
	q.Queue(sqlNotify, b.channel(), []string{begunNotice(b.node)})
	q.Queue(sqlCommit)
	if err := b.beating.SendBatch(ctx, q).Close(); err != nil {
		return false, err
	}
	if !began {
		return false, errLate
	}
	b.lease.begun = true
	b.begun.Store(seq)
	return forgot, nil
}

// Publish implements [store.Presenting].
func (b *Backend) Publish(ctx context.Context, presences []store.Presence, relayed []store.Relayed) (map[crdt.DocumentID]store.Version, error) {
	if len(presences) > 0 && b.begun.Load() == 0 {
		return nil, store.ErrNoLease
	}
	if err := b.publishing.ready(ctx, b.config); err != nil {
		return nil, err
	}
	come := make(map[crdt.DocumentID]store.Version, len(presences))
	published, err := b.publish(ctx, presences, relayed, come)
	switch {
	case err != nil:
		b.publishing.discard()
		return nil, fmt.Errorf("tell others who is present: %w", said(err))
	case !published:
		return nil, store.ErrNoLease
	}
	return come, nil
}

// publish publishes of those documents that nobody seals just now: come gets them, and
// no others. It reports false if the node has no lease.
func (b *Backend) publish(ctx context.Context, presences []store.Presence, relayed []store.Relayed, come map[crdt.DocumentID]store.Version) (published bool, err error) {
	free, err := b.lockToPublish(ctx, presences)
	if err != nil {
		return false, err
	}
	q := &pgx.Batch{}
	published = len(free) == 0
	if !published {
		b.queuePresences(q, free, &published)
		q.Queue(sqlVersions, idsOf(free)).Query(func(rows pgx.Rows) error { return takeVersions(rows, come) })
	}
	if payloads := relayNotices(b.node, relayed); len(payloads) > 0 {
		q.Queue(sqlNotify, b.channel(), payloads)
	}
	q.Queue(sqlCommit) // from here on, who seals knows of it
	for _, p := range free {
		come[p.Document] = store.Version{} // where nothing is stored
	}
	err = b.publishing.SendBatch(ctx, q).Close()
	return published, err
}

// lockToPublish begins a transaction, and returns of which documents it may publish.
func (b *Backend) lockToPublish(ctx context.Context, presences []store.Presence) (free []*store.Presence, err error) {
	q := &pgx.Batch{}
	q.Queue(sqlBegin)
	var keys, locked []int64
	for i := range presences {
		keys = append(keys, presenceLock(presences[i].Document))
	}
	if len(keys) > 0 {
		slices.Sort(keys)
		q.Queue(sqlLockToPublish, slices.Compact(keys)).Query(into(&locked, pgx.RowTo[int64]))
	}
	if err := b.publishing.SendBatch(ctx, q).Close(); err != nil {
		return nil, err
	}
	for i := range presences {
		if slices.Contains(locked, presenceLock(presences[i].Document)) {
			free = append(free, &presences[i])
		}
	}
	return free, nil
}

func (b *Backend) queuePresences(q *pgx.Batch, presences []*store.Presence, published *bool) {
	var documents, gone, datas [][]byte
	var seqs []int64
	first := b.seq.Add(uint64(len(presences))) - uint64(len(presences)) + 1
	for i, p := range presences {
		p.Node, p.Seq = b.node, first+uint64(i)
		if p.Data == nil {
			gone = append(gone, p.Document[:])
			continue
		}
		documents, seqs, datas = append(documents, p.Document[:]), append(seqs, int64(p.Seq)), append(datas, p.Data)
	}
	last := presences[len(presences)-1].Seq
	q.Queue(sqlAdvance, b.node[:], last, first).Exec(func(tag pgconn.CommandTag) error {
		*published = tag.RowsAffected() == 1
		return nil
	})
	if len(documents) > 0 {
		q.Queue(sqlPutPresence, b.node[:], last, documents, seqs, datas)
	}
	if len(gone) > 0 {
		q.Queue(sqlDropPresence, b.node[:], last, gone)
	}
	q.Queue(sqlTellPresence, b.node[:], last, b.channel(), presenceNotices(b.node, presences))
}

func idsOf(presences []*store.Presence) (ids [][]byte) {
	for _, p := range presences {
		ids = append(ids, p.Document[:])
	}
	return ids
}

// presenceLock is the number of the lock that is taken by who publishes of a document,
// with others, and who seals it, alone. That two documents have the same does no harm.
func presenceLock(id crdt.DocumentID) int64 { return int64(binary.BigEndian.Uint64(id[:8])) }

// Present implements [store.Presenting].
func (b *Backend) Present(ctx context.Context, docs []crdt.DocumentID, brief bool) (list []store.Presence, nodes []store.Living, err error) {
	ids := make([][]byte, len(docs))
	for i := range docs {
		ids[i] = docs[i][:]
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	rows, err := b.pool.Query(ctx, sqlPresent, ids, b.node[:], brief)
	if err == nil {
		err = takePresences(rows, func(of store.Living, p store.Presence, somebody bool) {
			if !slices.Contains(nodes, of) {
				nodes = append(nodes, of)
			}
			if somebody {
				list = append(list, p)
			}
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read who is present: %w", said(err))
	}
	return list, nodes, nil
}

// takePresences reads what sqlPresent finds. Nobody is there where a node says nothing.
func takePresences(rows pgx.Rows, take func(of store.Living, p store.Presence, somebody bool)) error {
	var node, document, data []byte
	var begun, seq int64
	_, err := pgx.ForEachRow(rows, []any{&node, &begun, &document, &seq, &data}, func() error {
		p := store.Presence{Node: store.Node(node), Seq: uint64(seq), Data: bytes.Clone(data)}
		copy(p.Document[:], document)
		take(store.Living{Node: p.Node, Begun: uint64(begun)}, p, document != nil)
		return nil
	})
	return err
}

const (
	// sealTime is how long it may take from looking who is present to asking for the
	// commit, and sealPause how long the database waits for that: together less than
	// [store.SealWithin].
	sealTime  = time.Second
	sealPause = 500 * time.Millisecond
)

// errSlow says that a transaction that seals took too long.
var errSlow = errors.New("to seal took too long after it was looked who is present")

// isSlow reports whether that is why a transaction failed. The next one seals nothing
// that relies on others, so that all else gets stored.
func isSlow(err error) bool { return errors.Is(err, errSlow) || isState(err, "57014", "25P03") }

// meet looks who is present in documents that are to be sealed. Nobody publishes of
// them from here until the commit.
func (b *Backend) meet(ctx context.Context, p *plan) error {
	var keys []int64
	var ids [][]byte
	for _, batch := range p.batches {
		if batch.Resolution == nil || batch.Relies == nil || p.present[batch.Document] != nil {
			continue
		}
		if p.present == nil {
			p.present = make(map[crdt.DocumentID]map[store.Node]uint64)
		}
		p.present[batch.Document] = make(map[store.Node]uint64)
		keys, ids = append(keys, presenceLock(batch.Document)), append(ids, bytes.Clone(batch.Document[:]))
	}
	if len(keys) == 0 {
		return nil
	}
	if p.slow = b.slow; p.slow {
		return nil
	}
	slices.Sort(keys)
	p.looked = time.Now()
	q := &pgx.Batch{}
	q.Queue(sqlSealInTime, fmt.Sprint(sealTime.Milliseconds()), fmt.Sprint(sealPause.Milliseconds()))
	q.Queue(sqlLockToSeal, slices.Compact(keys))
	q.Queue(sqlLease, b.node[:]).QueryRow(func(row pgx.Row) error { return row.Scan(&p.lease) })
	q.Queue(sqlPresent, ids, b.node[:], true).Query(func(rows pgx.Rows) error {
		return takePresences(rows, func(of store.Living, there store.Presence, somebody bool) {
			if somebody {
				p.present[there.Document][of.Node] = there.Seq
			}
		})
	})
	return b.writer.SendBatch(ctx, q).Close()
}

// rely reports why a batch may not rely on what it does. After a crash of the database
// nobody is present in it: who seals must have seen that by then.
func (p *plan) rely(batch *store.Batch) error {
	switch {
	case batch.Resolution == nil || batch.Relies == nil:
		return nil
	case p.slow:
		return fmt.Errorf("%w: %w", store.ErrPresence, errSlow)
	case p.lease == 0:
		return fmt.Errorf("%w: %w", store.ErrPresence, store.ErrNoLease)
	case p.lease != batch.Lease: // meanwhile people here may have been told what nobody else knew
		return store.ErrPresence
	case !maps.Equal(p.present[batch.Document], batch.Relies):
		return store.ErrPresence
	}
	return nil
}
