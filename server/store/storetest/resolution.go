package storetest

import (
	"bytes"
	"slices"
	"testing"

	"parley/crdt"
	"parley/server/store"
)

// Resolution makes one over n heads. The same arguments make the same.
func Resolution(seed, n int, data string) *store.Resolution {
	r := &store.Resolution{Data: []byte(data)}
	for _, c := range Changes(seed, n) {
		r.Heads = append(r.Heads, c.Hash)
	}
	r.Heads = crdt.SortHashes(r.Heads)
	return r
}

// Resolve appends a resolution and changes in one batch, and waits for how that
// ends.
func Resolve(s Store, doc crdt.DocumentID, r *store.Resolution, changes ...store.Change) error {
	done := make(chan error, 1)
	s.Append(store.Batch{Document: doc, Changes: changes, Resolution: r, Done: func(err error) { done <- err }})
	return <-done
}

// MustResolve fails the test if the resolution cannot be stored.
func MustResolve(t testing.TB, s Store, doc crdt.DocumentID, r *store.Resolution, changes ...store.Change) {
	t.Helper()
	if err := Resolve(s, doc, r, changes...); err != nil {
		t.Fatalf("append a resolution: %v", err)
	}
}

// MustHaveResolved fails the test unless the document has exactly these, in this
// order.
func MustHaveResolved(t testing.TB, s Store, doc crdt.DocumentID, want ...*store.Resolution) {
	t.Helper()
	got, err := s.Load(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	sameResolutions(t, got.Resolutions, want)
}

func sameResolutions(t failer, got []store.Resolution, want []*store.Resolution) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d resolutions, want %d", len(got), len(want))
	}
	for i, w := range want {
		if !slices.Equal(got[i].Heads, w.Heads) || !bytes.Equal(got[i].Data, w.Data) {
			t.Fatalf("resolution %d is %q over %v, want %q over %v", i, got[i].Data, got[i].Heads, w.Data, w.Heads)
		}
	}
}

func testResolutions(t *testing.T, p Place) {
	s := p.Open(t)
	MustHaveResolved(t, s, Document(1))
	a := Changes(0, 3)
	first, second, third := Resolution(50, 1, "first"), Resolution(0, 2, "second"), Resolution(0, 1, "third")
	MustResolve(t, s, Document(1), first, a[0])
	MustResolve(t, s, Document(1), second)
	MustResolve(t, s, Document(1), Resolution(50, 1, "again"), a[1]) // the first over these heads stays
	MustResolve(t, s, Document(1), third, a[2])                      // some of the heads of another
	MustHaveResolved(t, s, Document(1), first, second, third)
	MustHold(t, s, Document(1), a...)
	MustResolve(t, s, Document(2), third) // another document has its own
	MustHaveResolved(t, s, Document(2), third)
	MustHold(t, s, Document(2))
	since, err := s.LoadSince(t.Context(), Document(1), 1)
	if err != nil || since.Resolutions != nil {
		t.Errorf("loaded with later changes: %v, %v", since.Resolutions, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = p.Open(t)
	fourth := Resolution(0, 3, "")
	fourth.Data = []byte{}
	MustResolve(t, s, Document(1), fourth)
	MustHaveResolved(t, s, Document(1), first, second, third, fourth)
	MustHaveResolved(t, s, Document(2), third)
}

// testNoResolution has a batch fail for its resolution: nothing of it is kept, and
// what waits beside it is.
func testNoResolution(t *testing.T, p Place) {
	s := p.Open(t)
	a := Changes(0, 3)
	MustPut(t, s, Document(1), a[0])
	for name, bad := range map[string]*store.Resolution{
		"of nothing":   {Data: []byte("x")},
		"without data": {Heads: []crdt.Hash{{1}}},
	} {
		s.Append(store.Batch{Document: Document(2), Changes: a[:1]})
		if err := Resolve(s, Document(1), bad, a[1]); err == nil {
			t.Errorf("a resolution %s was stored", name)
		}
	}
	MustHold(t, s, Document(1), a[0])
	MustHaveResolved(t, s, Document(1))
	MustHold(t, s, Document(2), a[0])
	MustResolve(t, s, Document(1), Resolution(0, 1, "good"), a[1:]...)
	MustHold(t, s, Document(1), a...)
	if err := s.Status(); err != nil {
		t.Error(err)
	}
}
