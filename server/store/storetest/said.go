package storetest

import (
	"fmt"
	"slices"
	"testing"

	"parley/crdt"
	"parley/server/store"
)

// Append appends a batch and waits for how it ends.
func Append(s Store, b store.Batch) error {
	done := make(chan error, 1)
	b.Done = func(err error) { done <- err }
	s.Append(b)
	return <-done
}

// MustAppend fails the test if the batch cannot be stored.
func MustAppend(t testing.TB, s Store, b store.Batch) {
	t.Helper()
	if err := Append(s, b); err != nil {
		t.Fatalf("append a batch: %v", err)
	}
}

// testReceipts: a change's receipt says who delivered it first.
func testReceipts(t *testing.T, p Place) {
	s := p.Open(t)
	a := Changes(0, 4)
	for i := range a {
		a[i].User, a[i].Role, a[i].At = fmt.Sprintf("user %d of ü", i), "party", int64(1000+i)
	}
	MustPut(t, s, Document(1), a[:3]...)
	again := a[1]
	again.User, again.Role, again.At = "mallory", "host", 5
	MustPut(t, s, Document(1), again, a[3])
	for _, n := range []int{0, 2, 4, 9} {
		got, err := s.Receipts(t.Context(), Document(1), n)
		if err != nil || len(got) != min(n, len(a)) {
			t.Fatalf("%d of the first %d receipts, %v", len(got), n, err)
		}
		for i, r := range got {
			if want := (store.Receipt{Hash: a[i].Hash, User: a[i].User, Role: a[i].Role, At: a[i].At}); r != want {
				t.Errorf("receipt %d is %+v, want %+v", i, r, want)
			}
		}
	}
	MustHold(t, s, Document(1), a...)
	if got, err := s.Receipts(t.Context(), Document(2), 9); err != nil || len(got) > 0 {
		t.Errorf("an unknown document has the receipts %v, %v", got, err)
	}
}

// testSettings: the newest settings are those of a document.
func testSettings(t *testing.T, p Place) {
	s := p.Open(t)
	MustAppend(t, s, store.Batch{Document: Document(1), Changes: Changes(0, 1), Settings: []byte("first")})
	MustAppend(t, s, store.Batch{Document: Document(1), Settings: []byte("second")})
	MustAppend(t, s, store.Batch{Document: Document(2), Settings: []byte("alone")})
	MustPut(t, s, Document(3), Changes(0, 1)...)
	check := func() {
		t.Helper()
		for i, want := range []string{"second", "alone", ""} {
			got, err := s.Load(t.Context(), Document(1+i))
			if err != nil || string(got.Settings) != want || (got.Settings == nil) != (want == "") {
				t.Errorf("document %d has the settings %q, %v; want %q", 1+i, got.Settings, err, want)
			}
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = p.Open(t)
	check()
}

// testRevocations: all are kept, in their order.
func testRevocations(t *testing.T, p Place) {
	s := p.Open(t)
	if list, err := s.Revocations(t.Context(), 0); err != nil || len(list) != 0 {
		t.Fatalf("an empty store has revoked %v, %v", list, err)
	}
	want := []store.Revocation{
		{User: "zoe", At: 10, By: "host"},
		{Token: "a token", At: 11, Until: 50, By: "host"},
		{User: "adam", Token: "another", At: 9, By: "other"},
	}
	for i := range want {
		MustAppend(t, s, store.Batch{Document: Document(i % 2), Revocation: &want[i]})
	}
	if err := Append(s, store.Batch{Revocation: &store.Revocation{At: 1, By: "host"}}); err == nil {
		t.Error("a revocation of nothing was stored")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = p.Open(t)
	got, err := s.Revocations(t.Context(), 0)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("revoked are %+v, %v; want %+v", got, err, want)
	}
	if list, err := s.Documents(t.Context(), crdt.DocumentID{}, 9); err != nil || len(list) != 0 {
		t.Errorf("revocations made documents: %v, %v", list, err)
	}
}
