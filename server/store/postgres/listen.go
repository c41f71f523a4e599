package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/crdt"
	"parley/server/store"
)

const (
	// listenPause is how long after a failure another connection is tried, at first;
	// it doubles up to maxListenPause.
	listenPause    = 100 * time.Millisecond
	maxListenPause = 2 * time.Second
	// listenCheck is after how much silence the connection is asked for a sign of life,
	// and how long that may take.
	listenCheck = 5 * time.Second
	// unreadEvery is the least time between two comparisons because of what this version
	// cannot read: a later one may send a lot of it.
	unreadEvery = time.Second
)

// channel is the one on which the nodes of this store tell each other.
func (b *Backend) channel() string { return "parley_" + b.storageID[:8] }

// Follow implements [store.Following].
func (b *Backend) Follow(f store.Follower) {
	ctx, cancel := context.WithCancel(context.Background())
	b.stopListening = cancel
	b.listening.Go(func() { b.listen(ctx, f) })
}

// listen hears of commits until ctx ends.
func (b *Backend) listen(ctx context.Context, f store.Follower) {
	lost := false
	for pause := listenPause; ctx.Err() == nil; pause = min(2*pause, maxListenPause) {
		heard, err := b.listenOnce(ctx, f, lost)
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause, lost = listenPause, false
		}
		if !lost && b.opt.Logger != nil {
			b.opt.Logger.Warn("the other servers are not heard; what they commit is looked for now and then", "err", said(err))
		}
		lost = true
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listenOnce listens on one connection, until that fails. It reports whether it was
// ever heard.
func (b *Backend) listenOnce(ctx context.Context, f store.Follower, again bool) (heard bool, err error) {
	c, err := connect(ctx, b.config)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Close(closing)
	}()
	if _, err := c.Exec(ctx, "LISTEN "+pgx.Identifier{b.channel()}.Sanitize()); err != nil {
		return false, err
	}
	if again && b.opt.Logger != nil {
		b.opt.Logger.Info("the other servers are heard again")
	}
	f.Missed() // all before this
	var u unread
	for {
		n, err := wait(ctx, c, u.within())
		if err != nil {
			return true, err
		}
		if n != "" && b.tell(f, n) != nil {
			u.any = true
		}
		if u.isDue(time.Now()) {
			f.Missed()
		}
	}
}

// unread is what was told that this version cannot read.
type unread struct {
	any  bool
	next time.Time // not before this is compared because of it
}

// within is how long to wait at most for the next notification.
func (u *unread) within() time.Duration {
	if u.any {
		return min(max(time.Until(u.next), 0), listenCheck)
	}
	return listenCheck
}

// isDue reports whether it is to be compared now, and takes it for done.
func (u *unread) isDue(now time.Time) bool {
	if !u.any || now.Before(u.next) {
		return false
	}
	u.any, u.next = false, now.Add(unreadEvery)
	return true
}

// wait returns the next notification, "" if there was none for so long and the
// connection lives.
func wait(ctx context.Context, c *pgx.Conn, within time.Duration) (payload string, err error) {
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	n, err := c.WaitForNotification(waiting)
	switch {
	case err == nil:
		return n.Payload, nil
	case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || c.IsClosed():
		return "", err
	}
	checking, cancel := context.WithTimeout(ctx, listenCheck)
	defer cancel()
	return "", c.Ping(checking)
}

// tell tells what a notification says, if it can be read.
func (b *Backend) tell(f store.Follower, payload string) error {
	n, err := readNotice(payload)
	if err != nil || n.node == b.node {
		return err
	}
	for _, news := range n.news {
		f.News(news)
	}
	if n.revoked {
		f.Revoked()
	}
	for _, p := range n.presences {
		f.Presence(p.Presence, p.whole)
	}
	for _, m := range n.relayed {
		f.Relayed(m)
	}
	if n.begun {
		f.Missed()
	}
	return nil
}

// Versions implements [store.Following].
func (b *Backend) Versions(ctx context.Context, docs []crdt.DocumentID) (map[crdt.DocumentID]store.Version, error) {
	versions := make(map[crdt.DocumentID]store.Version, len(docs))
	ids := make([][]byte, len(docs))
	for i := range docs {
		ids[i] = docs[i][:]
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	rows, err := b.pool.Query(ctx, sqlVersions, ids)
	if err == nil {
		err = takeVersions(rows, versions)
	}
	if err != nil {
		return nil, fmt.Errorf("compare documents: %w", said(err))
	}
	return versions, nil
}

const sqlVersions = "SELECT id, changes, settings, resolutions FROM document WHERE id = ANY($1::bytea[])"

func takeVersions(rows pgx.Rows, versions map[crdt.DocumentID]store.Version) error {
	var id []byte
	var v store.Version
	_, err := pgx.ForEachRow(rows, []any{&id, &v.Changes, &v.Settings, &v.Resolutions}, func() error {
		versions[crdt.DocumentID(id)] = v
		return nil
	})
	return err
}
