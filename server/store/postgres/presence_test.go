package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/storetest"
)

// TestFollowPresence: what one node publishes the others hear, with all of it if it is
// short, and what it relays; nothing of their own.
func TestFollowPresence(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	s, other := open(t, url), open(t, url)
	h := newHears()
	s.Follow(h)
	h.until(t, "that it began", func() bool { return h.missed == 1 })
	storetest.MustBeat(t, s)
	storetest.MustBeat(t, other)
	h.until(t, "that another has begun", func() bool { return h.missed == 2 })
	storetest.MustBeat(t, other) // it only goes on
	doc := storetest.Document(1)
	storetest.MustPublish(t, s, store.Presence{Document: doc, Data: []byte("own")})
	_, err := other.Publish(t.Context(), []store.Presence{
		{Document: doc, Data: []byte("short")}, {Document: storetest.Document(2), Data: make([]byte, 6000)}, {Document: storetest.Document(3)},
	}, []store.Relayed{{Document: doc, Data: make([]byte, store.MaxRelayed)}, {Document: doc, Data: make([]byte, store.MaxRelayed+1)}, {Document: doc, Data: []byte("m")}})
	if err != nil {
		t.Fatal(err)
	}
	h.until(t, "all of it", func() bool { return len(h.presences) == 2 && len(h.long) == 1 && len(h.relayed) == 2 })
	if p := h.presences[0]; p.Document != doc || p.Node != other.Node() || string(p.Data) != "short" {
		t.Errorf("told of %+v", p)
	}
	if p := h.presences[1]; p.Document != storetest.Document(3) || p.Data != nil {
		t.Errorf("told of %+v", p)
	}
	if p := h.long[0]; p.Document != storetest.Document(2) || p.Node != other.Node() || p.Seq <= h.presences[0].Seq || p.Data != nil {
		t.Errorf("told of %+v", p)
	}
	if string(h.relayed[1].Data) != "m" || h.relayed[1].Document != doc || len(h.relayed[0].Data) != store.MaxRelayed {
		t.Errorf("relayed %q", h.relayed[1])
	}
	if _, err := other.Publish(t.Context(), nil, []store.Relayed{{Document: doc, Data: []byte("alone")}}); err != nil {
		t.Fatal(err)
	}
	h.until(t, "a message alone", func() bool { return len(h.relayed) == 3 })
	if h.missed != 2 {
		t.Errorf("told %d times that it may have missed something", h.missed)
	}
	if list, _, err := s.Present(t.Context(), []crdt.DocumentID{storetest.Document(2)}, false); err != nil || len(list) != 1 || !bytes.Equal(list[0].Data, make([]byte, 6000)) {
		t.Errorf("the long one is %v, %v", list, err)
	}
}

// TestPublishBesideASeal: a document that is being sealed is left out; what is said of
// others is stored and told, at once, and so is what is relayed.
func TestPublishBesideASeal(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	s, other := open(t, url), open(t, url)
	h := newHears()
	other.Follow(h)
	for _, s := range []*store.Store{s, other} {
		storetest.MustBeat(t, s)
	}
	docs := []crdt.DocumentID{{1}, {2}}
	first := storetest.MustPublish(t, s, store.Presence{Document: docs[0], Data: []byte("first")})
	sealing, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sealing.Close(context.Background()) }()
	for _, sql := range []string{"BEGIN", fmt.Sprintf("SELECT pg_advisory_xact_lock(('x%x')::bit(64)::bigint)", docs[0][:8])} {
		if _, err := sealing.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	list := []store.Presence{{Document: docs[0], Data: []byte("left out")}, {Document: docs[1], Data: []byte("stored")}}
	came := 0
	for _, relayed := range []string{"beside", "alone"} {
		come, err := s.Publish(t.Context(), list, []store.Relayed{{Document: docs[0], Data: []byte(relayed)}})
		if _, stored := come[docs[1]]; err != nil || stored != (len(list) == 2) || len(come) != len(list)-1 {
			t.Errorf("published of %v, %v", come, err)
		}
		if came++; len(list) == 2 {
			storetest.MustBePresent(t, other, docs, first[0], list[1])
			list = list[:1]
		}
		h.until(t, "what is relayed", func() bool { return len(h.relayed) == came })
	}
	if len(h.presences) != 2 || string(h.presences[1].Data) != "stored" {
		t.Errorf("told of %v", h.presences)
	}
	if _, err := sealing.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	storetest.MustPublish(t, s, list...)
}

// TestSlowSeal: a resolution that relies on others is not stored if that takes long,
// by one statement or by several; what was to be stored with it is.
func TestSlowSeal(t *testing.T) {
	pg := pgtest.Shared(t)
	for name, slow := range map[string]map[string]string{
		"one statement": {"resolution": "3"},
		"several":       {"resolution": "0.7", "document": "0.35"}, // of two
	} {
		t.Run(name, func(t *testing.T) {
			url := pg.Schema(t)
			s := open(t, url)
			storetest.MustBeat(t, s)
			storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 1)...)
			for table, seconds := range slow {
				pg.Exec(t, url, fmt.Sprintf("CREATE FUNCTION slow_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(%[2]s); RETURN NEW; END $$", table, seconds))
				pg.Exec(t, url, fmt.Sprintf("CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON %[1]s FOR EACH ROW EXECUTE FUNCTION slow_%[1]s()", table))
			}
			held, done := make(chan struct{}), make(chan error, 2)
			s.Append(store.Batch{Done: func(error) { <-held }}) // what follows goes together
			s.Append(store.Batch{Document: storetest.Document(1), Base: &store.Version{Changes: 1}, Relies: map[store.Node]uint64{}, Lease: s.Lease(), Resolution: storetest.Resolution(0, 1, "r"), Done: func(err error) { done <- err }})
			s.Append(store.Batch{Document: storetest.Document(2), Base: &store.Version{}, Changes: storetest.Changes(0, 1), Done: func(err error) { done <- err }})
			close(held)
			if sealed, beside := <-done, <-done; !errors.Is(sealed, store.ErrPresence) || beside != nil {
				t.Errorf("sealed: %v, beside it: %v", sealed, beside)
			}
			storetest.MustHaveResolved(t, s, storetest.Document(1))
			for table := range slow {
				pg.Exec(t, url, "DROP TRIGGER slow ON "+table)
			}
			if err := storetest.Append(s, store.Batch{Document: storetest.Document(1), Base: &store.Version{Changes: 1}, Relies: map[store.Node]uint64{}, Lease: s.Lease(), Resolution: storetest.Resolution(0, 1, "r")}); err != nil {
				t.Errorf("it is fast again, and does not seal: %v", err)
			}
		})
	}
}

// TestPresenceAfterACrash: a crash of the database forgets who is present, and the
// next beat says so. Until it is back nobody is promised more than was.
func TestPresenceAfterACrash(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	url := pg.Database(t)
	s, other := open(t, url), open(t, url)
	docs := []crdt.DocumentID{storetest.Document(1)}
	for _, s := range []*store.Store{s, other} {
		storetest.MustBeat(t, s)
	}
	old := storetest.MustPublish(t, s, store.Presence{Document: docs[0], Data: []byte("p")})
	storetest.MustBePresent(t, other, docs, old...)
	pg.Kill(t)
	_, err := s.Beat(t.Context(), time.Minute)
	first := s.Counted()
	if err == nil || first.After(time.Now().Add(time.Minute)) {
		t.Errorf("without a database the lease ends %v, %v", first, err)
	}
	if _, err := s.Beat(t.Context(), time.Minute); err == nil || s.Counted() != first {
		t.Errorf("what was not sent prolongs the lease from %v to %v, %v", first, s.Counted(), err)
	}
	if _, err := s.Publish(t.Context(), old, nil); err == nil {
		t.Error("published without a database")
	}
	if err := pg.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), old, nil); !errors.Is(err, store.ErrNoLease) {
		t.Errorf("published without a lease: %v", err)
	}
	storetest.MustBePresent(t, other, docs)
	if _, err := other.Beat(t.Context(), time.Minute); err == nil {
		t.Error("a connection has outlived the database")
	}
	for _, s := range []*store.Store{s, other} {
		if b := storetest.MustBeat(t, s); !b.Fresh || !b.Forgotten {
			t.Errorf("the first beat after it hears %+v", b)
		}
	}
	storetest.MustBePresent(t, other, docs, storetest.MustPublish(t, s, old...)...)
	if b := storetest.MustBeat(t, open(t, url)); !b.Forgotten {
		t.Error("who begins now does not know that others may have to say again who is there")
	}
	time.Sleep(10 * time.Millisecond)
	if b, err := open(t, url).Beat(t.Context(), 10*time.Millisecond); err != nil || !b.Fresh || b.Forgotten {
		t.Errorf("long after it: %+v, %v", b, err)
	}
}
