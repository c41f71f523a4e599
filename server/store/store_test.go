package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/storetest"
)

type folder struct {
	dir string
	opt store.Options
}

func (f folder) Open(t testing.TB) storetest.Store { return open(t, f.dir, f.opt) }

// open closes the store with the test, if the test has not.
func open(t testing.TB, dir string, opt store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place { return folder{dir: t.TempDir()} })
}

func TestUsersOfChangesAreKept(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	doc, changes := storetest.Document(1), storetest.Changes(1, 2)
	changes[0].User, changes[1].User = "alice", "bob"
	storetest.MustPut(t, s, doc, changes...)
	changes[0].User = "mallory" // who delivers a known change again does not become its author
	storetest.MustPut(t, s, doc, changes[0])
	stored, err := s.Load(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(stored.Users, []string{"alice", "bob"}) {
		t.Errorf("users %q", stored.Users)
	}
}

func TestSettingsTravelWithChanges(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	doc, changes := storetest.Document(1), storetest.Changes(1, 1)
	for _, b := range []store.Batch{
		{Document: doc, Changes: changes, Settings: []byte("first")},
		{Document: doc, Settings: []byte("second")},
		{Document: storetest.Document(2), Settings: []byte("alone")},
	} {
		done := make(chan error, 1)
		b.Done = func(err error) { done <- err }
		s.Append(b)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"second", "alone", ""} {
		stored, err := s.Load(t.Context(), storetest.Document(1+i))
		if err != nil {
			t.Fatal(err)
		}
		if string(stored.Settings) != want {
			t.Errorf("document %d: settings %q, want %q", 1+i, stored.Settings, want)
		}
	}
}

// TestRest gives memory back in the midst of everything: readers that are lent out
// go on, and the writer that cannot is opened anew.
func TestRest(t *testing.T) {
	f := &faults{}
	s := open(t, t.TempDir(), store.Options{}.WithConnect(f.connect))
	doc, made := storetest.Document(1), storetest.Changes(0, 40)
	shrunk := 0
	f.set(func(query string) fault {
		if query != "PRAGMA shrink_memory" {
			return fault{}
		}
		if shrunk++; shrunk%2 == 0 {
			return fault{err: errors.New("no memory")}
		}
		return fault{}
	})
	opened := f.opened
	for i := range made {
		storetest.MustPut(t, s, doc, made[i])
		if s.Rest(); i%3 == 0 {
			time.Sleep(5 * time.Millisecond) // it comes when nothing waits
		}
		st, err := s.Load(t.Context(), doc)
		if err != nil || len(st.Hashes) != i+1 {
			t.Fatalf("after %d changes: %v, %v", i+1, st, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if shrunk == 0 || f.opened == opened {
		t.Errorf("rested %d times; %d writers opened, %d before", shrunk, f.opened, opened)
	}
}

// TestNobodyElse: a data folder is one process's, and there is nobody to tell of who
// is present, nor to rely on.
func TestNobodyElse(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	doc := storetest.Document(1)
	beat, err := s.Beat(t.Context(), time.Minute)
	if err != nil || beat.Fresh || beat.Nodes != nil || !s.Counted().IsZero() || s.Node() != (store.Node{}) {
		t.Errorf("it hears %+v, is counted on until %v, %v", beat, s.Counted(), err)
	}
	if _, err := s.Publish(t.Context(), []store.Presence{{Document: doc, Data: []byte("p")}}, []store.Relayed{{Document: doc}}); err != nil {
		t.Error(err)
	}
	if list, nodes, err := s.Present(t.Context(), []crdt.DocumentID{doc}, false); err != nil || list != nil || nodes != nil {
		t.Errorf("present are %v of %v, %v", list, nodes, err)
	}
	storetest.MustAppend(t, s, store.Batch{Document: doc, Relies: map[store.Node]uint64{}, Resolution: storetest.Resolution(0, 1, "r")})
}
