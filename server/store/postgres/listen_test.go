package postgres_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/storetest"
)

// hears keeps what a follower is told.
type hears struct {
	mu              sync.Mutex
	news            []store.News
	missed, revoked int
	presences       []store.Presence
	long            []store.Presence // of which there is more
	relayed         []store.Relayed
	changed         chan struct{}
}

func newHears() *hears { return &hears{changed: make(chan struct{}, 1)} }

func (h *hears) note(do func()) {
	h.mu.Lock()
	do()
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *hears) News(n store.News) { h.note(func() { h.news = append(h.news, n) }) }
func (h *hears) Revoked()          { h.note(func() { h.revoked++ }) }
func (h *hears) Relayed(m store.Relayed) {
	h.note(func() { h.relayed = append(h.relayed, m) })
}

func (h *hears) Presence(p store.Presence, whole bool) {
	h.note(func() {
		if whole {
			h.presences = append(h.presences, p)
		} else {
			h.long = append(h.long, p)
		}
	})
}

func (h *hears) Missed() { h.note(func() { h.missed++ }) }

// until waits for what is told.
func (h *hears) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		ok := cond()
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-h.changed:
		case <-timeout:
			t.Fatalf("not told: %s", what)
		}
	}
}

// followed opens two stores of one database. What the second commits h is told of.
func followed(t *testing.T, url string) (s, other *store.Store, h *hears) {
	t.Helper()
	s, other, h = open(t, url), open(t, url), newHears()
	s.Follow(h)
	h.until(t, "that it began", func() bool { return h.missed == 1 })
	return s, other, h
}

// TestFollow: a store tells what others commit, and nothing of its own.
func TestFollow(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	s, other, h := followed(t, url)
	a := storetest.Changes(0, 6)
	for i := range a {
		a[i].User = "ü"
	}
	a[5] = storetest.Change(5, 20_000)
	storetest.MustPut(t, s, storetest.Document(1), a[0])
	storetest.MustPut(t, other, storetest.Document(1), a[1:3]...)
	h.until(t, "of two changes", func() bool { return len(h.news) == 1 })
	n := h.news[0]
	if n.Document != storetest.Document(1) || n.Version != (store.Version{Changes: 3}) || len(n.Changes) != 2 || n.Changes[1].User != "ü" || !bytes.Equal(n.Changes[1].Chunk, a[2].Chunk) {
		t.Errorf("told of %+v", n)
	}
	storetest.MustPut(t, other, storetest.Document(1), a[2]) // nothing new
	storetest.MustPut(t, other, storetest.Document(2), a[5])
	h.until(t, "of a large change", func() bool { return len(h.news) == 2 })
	if n := h.news[1]; n.Changes != nil || n.Version.Changes != 1 {
		t.Errorf("told of %+v", n)
	}
	storetest.MustAppend(t, other, store.Batch{Document: storetest.Document(3), Changes: a[:1], Settings: []byte("s"), Revocation: &store.Revocation{User: "u", By: "h"}})
	h.until(t, "of settings and a revocation", func() bool { return len(h.news) == 3 && h.revoked == 1 })
	if n := h.news[2]; n.Changes != nil || n.Version != (store.Version{Changes: 1, Settings: 1}) {
		t.Errorf("told of %+v", n)
	}
	versions, err := s.Versions(t.Context(), []crdt.DocumentID{storetest.Document(1), storetest.Document(2), storetest.Document(9)})
	if err != nil || len(versions) != 2 || versions[storetest.Document(1)] != (store.Version{Changes: 3}) {
		t.Errorf("at %v, %v", versions, err)
	}
	pg.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
	h.until(t, "that it was cut off", func() bool { return h.missed == 2 })
	storetest.MustPut(t, other, storetest.Document(1), a[4])
	h.until(t, "of what came later", func() bool { return len(h.news) == 4 })
	pg.Exec(t, url, `SELECT pg_notify('parley_'||left(value, 8), 'from a later version') FROM meta WHERE name = 'storage-id'`)
	h.until(t, "that something was not understood", func() bool { return h.missed == 3 })
}

// TestUnreadNotifications: of a lot that a later version tells, the first has everything
// compared at once, and all that follows within a second once more.
func TestUnreadNotifications(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	_, other, h := followed(t, url)
	began := time.Now()
	for range 3 {
		pg.Exec(t, url, `SELECT pg_notify('parley_'||left(value, 8), 'from a later version '||n) FROM meta, generate_series(1, 20) n WHERE name = 'storage-id'`)
	}
	h.until(t, "of the first", func() bool { return h.missed == 2 })
	storetest.MustPut(t, other, storetest.Document(1), storetest.Changes(0, 1)...)
	h.until(t, "of what can be read", func() bool { return len(h.news) == 1 })
	h.until(t, "of the rest", func() bool { return h.missed == 3 })
	if after := time.Since(began); after < time.Second {
		t.Errorf("the rest was compared after %v", after)
	}
	time.Sleep(1200 * time.Millisecond)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.missed != 3 {
		t.Errorf("compared %d times", h.missed)
	}
}

// TestOneCommitNotifiesOnce: what many documents get in one commit is told in few
// notifications.
func TestOneCommitNotifiesOnce(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	s := open(t, url)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if _, err := c.Exec(t.Context(), "LISTEN parley_"+s.StorageID()[:8]); err != nil {
		t.Fatal(err)
	}
	const documents = 100
	var wg sync.WaitGroup
	wg.Add(documents + 1)
	held := make(chan struct{})
	s.Append(store.Batch{Done: func(error) { <-held; wg.Done() }}) // what follows gathers behind it
	for d := range documents {
		s.Append(store.Batch{Document: storetest.Document(d), Changes: storetest.Changes(d, 1), Done: func(error) { wg.Done() }})
	}
	close(held)
	wg.Wait()
	heard := 0
	for ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond); ; {
		if _, err := c.WaitForNotification(ctx); err != nil {
			cancel()
			break
		}
		heard++
	}
	if most := documents*(200+40)/5900 + 2; heard == 0 || heard > most {
		t.Errorf("%d notifications for %d documents, want at most %d", heard, documents, most)
	}
}
