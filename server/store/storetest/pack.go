package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"parley/server/store"
)

// PackOf returns the pack of changes.
func PackOf(changes ...store.Change) *store.Pack {
	p := &store.Pack{Index: fmt.Appendf(nil, "of %d", len(changes))}
	for _, c := range changes {
		p.Hashes = append(p.Hashes, c.Hash)
		p.Chunks = append(p.Chunks, c.Chunk)
		p.Users = append(p.Users, c.User)
	}
	return p
}

// testPack: with a pack a document loads as without one.
func testPack(t *testing.T, p Place) {
	s := p.Open(t)
	a := Changes(0, 9)
	for i := range a {
		a[i].User = []string{"alice", "bob", ""}[i%3]
	}
	a[4] = Change(4, 300_000) // many pages
	if err := s.PutPack(t.Context(), Document(1), PackOf(a[:2]...)); !errors.Is(err, store.ErrUnknownDocument) {
		t.Errorf("a pack of no document: %v", err)
	}
	MustPut(t, s, Document(2), Changes(20, 3)...)
	MustPut(t, s, Document(1), a[:6]...)
	if err := s.PutPack(t.Context(), Document(1), PackOf(a[:7]...)); err == nil {
		t.Error("a pack of more changes than there are was taken")
	}
	for _, n := range []int{3, 6, 4} { // the last is older
		if err := s.PutPack(t.Context(), Document(1), PackOf(a[:n]...)); err != nil {
			t.Fatal(err)
		}
		MustHold(t, s, Document(1), a[:6]...)
	}
	MustPut(t, s, Document(1), a[5:]...)
	MustHold(t, s, Document(1), a...)
	got, err := s.Load(t.Context(), Document(1))
	if err != nil || string(got.Index) != "of 6" || got.Indexed != 6 || got.First != 0 {
		t.Errorf("it loads with the index %q of %d changes, from %d, %v", got.Index, got.Indexed, got.First, err)
	}
	got, err = s.LoadSince(t.Context(), Document(1), 4)
	if err != nil || len(got.Chunks) != 5 || got.First != 4 || got.Indexed != 0 || got.Hashes[0] != a[4].Hash {
		t.Errorf("from the fifth on it loads as %d changes from %d, %d indexed, %v", len(got.Chunks), got.First, got.Indexed, err)
	}
	MustHold(t, s, Document(2), Changes(20, 3)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = p.Open(t)
	MustHold(t, s, Document(1), a...)
	if got, err = s.Load(context.Background(), Document(1)); err != nil || got.Indexed != 6 {
		t.Errorf("reopened, %d changes are indexed, %v", got.Indexed, err)
	}
}
