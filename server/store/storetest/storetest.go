// Package storetest is what every store must pass, whatever it keeps its data in.
// It is imported by tests alone.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/store"
)

// Store is what the server asks of a store.
type Store interface {
	Append(store.Batch)
	Load(context.Context, crdt.DocumentID) (*store.Stored, error)
	LoadSince(context.Context, crdt.DocumentID, int) (*store.Stored, error)
	PutSnapshot(context.Context, crdt.DocumentID, crdt.Snapshot) error
	PutPack(context.Context, crdt.DocumentID, *store.Pack) error
	Newer(context.Context, crdt.DocumentID, store.Version) (*store.Stored, error)
	Receipts(context.Context, crdt.DocumentID, int) ([]store.Receipt, error)
	Revocations(context.Context, int) ([]store.Revocation, error)
	Documents(context.Context, crdt.DocumentID, int) ([]store.DocumentInfo, error)
	Node() store.Node
	Beat(context.Context, time.Duration) (store.Beat, error)
	Counted() time.Time
	Lease() uint64
	Publish(context.Context, []store.Presence, []store.Relayed) (map[crdt.DocumentID]store.Version, error)
	Present(context.Context, []crdt.DocumentID, bool) ([]store.Presence, []store.Living, error)
	StorageID() string
	Status() error
	Close() error
}

// Place is where a store keeps its data; it outlives the store.
type Place interface {
	Open(testing.TB) Store
}

// slow is a place where every commit takes its time.
type slow interface {
	// Rounds is how many of the model's are enough.
	Rounds() int
}

// Run tests stores that are opened in fresh places.
func Run(t *testing.T, fresh func(testing.TB) Place) {
	for name, test := range map[string]func(*testing.T, Place){
		"empty":      testEmpty,
		"resolved":   testResolutions,
		"unresolved": testNoResolution,
		"order":      testOrder,
		"again":      testAgain,
		"barrier":    testBarrier,
		"many":       testMany,
		"since":      testSince,
		"snapshot":   testSnapshot,
		"pack":       testPack,
		"documents":  testDocuments,
		"receipts":   testReceipts,
		"settings":   testSettings,
		"revoked":    testRevocations,
		"reopen":     testReopen,
		"closed":     testClosed,
		"model":      testModel,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

// Document returns a document id that differs with i.
func Document(i int) crdt.DocumentID {
	return crdt.DocumentID([]byte(fmt.Sprintf("document%08d", i)))
}

// Change makes an uncompressed change of so many bytes, at least 48, that is true
// to its hash and says nothing. The same arguments make the same change.
func Change(seed, size int) store.Change {
	chunk := make([]byte, max(size, 48))
	copy(chunk, "\x85\x6f\x4a\x83")
	chunk[8] = 1 // a change, not deflated
	body := sha256.Sum256(fmt.Append(nil, seed))
	for at := 9; at < len(chunk); at += len(body) {
		copy(chunk[at:], body[:])
	}
	hash := sha256.Sum256(chunk[8:])
	copy(chunk[4:8], hash[:])
	return store.Change{Hash: hash, Chunk: chunk}
}

// Changes makes n of 200 bytes, the first from the given seed.
func Changes(seed, n int) []store.Change {
	list := make([]store.Change, 0, n)
	for i := range n {
		list = append(list, Change(seed+i, 200))
	}
	return list
}

// Put appends and waits for how it ends.
func Put(s Store, doc crdt.DocumentID, changes ...store.Change) error {
	done := make(chan error, 1)
	s.Append(store.Batch{Document: doc, Changes: changes, Done: func(err error) { done <- err }})
	return <-done
}

// MustPut fails the test if the changes cannot be stored.
func MustPut(t testing.TB, s Store, doc crdt.DocumentID, changes ...store.Change) {
	t.Helper()
	if err := Put(s, doc, changes...); err != nil {
		t.Fatalf("append %d changes: %v", len(changes), err)
	}
}

// MustHold fails the test unless the store holds exactly these changes, in this
// order, with these bytes.
func MustHold(t testing.TB, s Store, doc crdt.DocumentID, want ...store.Change) {
	t.Helper()
	got, err := s.Load(context.Background(), doc)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, 0, want)
}

// failer is a *testing.T, a *testing.B or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func same(t failer, got *store.Stored, first int, want []store.Change) {
	t.Helper()
	if got.First != first || len(got.Hashes) != len(want) || len(got.Chunks) != len(want) {
		t.Fatalf("loaded %d hashes and %d chunks from %d, want %d from %d", len(got.Hashes), len(got.Chunks), got.First, len(want), first)
	}
	for i, w := range want {
		if got.Hashes[i] != w.Hash || !slices.Equal(got.Chunks[i], w.Chunk) || got.Users[i] != w.User {
			t.Fatalf("change %d is not the one that was appended", first+i)
		}
	}
}

func testEmpty(t *testing.T, p Place) {
	s := p.Open(t)
	got, err := s.Load(t.Context(), Document(1))
	if err != nil || got.Snapshot != nil || len(got.Chunks) != 0 {
		t.Fatalf("an unknown document loads as %+v, %v", got, err)
	}
	if list, err := s.Documents(t.Context(), crdt.DocumentID{}, 10); err != nil || len(list) != 0 {
		t.Fatalf("an empty store lists %v, %v", list, err)
	}
	if err := s.Status(); err != nil {
		t.Fatal(err)
	}
}

func testOrder(t *testing.T, p Place) {
	s := p.Open(t)
	a, b := Changes(0, 5), Changes(100, 3)
	b[1] = Change(101, 300_000) // many pages
	MustPut(t, s, Document(1), a[:3]...)
	MustPut(t, s, Document(2), b...)
	MustPut(t, s, Document(1), a[3:]...)
	MustHold(t, s, Document(1), a...)
	MustHold(t, s, Document(2), b...)
}

func testAgain(t *testing.T, p Place) {
	s := p.Open(t)
	a := Changes(0, 6)
	MustPut(t, s, Document(1), a[0], a[1], a[1], a[0])
	MustPut(t, s, Document(1), a[1], a[2])
	MustPut(t, s, Document(1), a[:3]...)
	MustHold(t, s, Document(1), a[:3]...)
	MustPut(t, s, Document(2), a[2], a[0]) // another document keeps its own
	MustHold(t, s, Document(2), a[2], a[0])
	MustPut(t, s, Document(1), a...)
	MustHold(t, s, Document(1), a...)
}

func testBarrier(t *testing.T, p Place) {
	s := p.Open(t)
	var order []int // Done is called by one goroutine
	for i := range 50 {
		s.Append(store.Batch{Document: Document(i % 3), Changes: Changes(i*10, 1+i%4), Done: func(error) { order = append(order, i) }})
	}
	MustPut(t, s, Document(99))
	if len(order) != 50 || !slices.IsSorted(order) {
		t.Fatalf("Done was called in the order %v", order)
	}
	if list, err := s.Documents(t.Context(), crdt.DocumentID{}, 10); err != nil || len(list) != 3 {
		t.Fatalf("an empty batch made a document: %v, %v", list, err)
	}
}

// testMany has writers share documents: whatever order the commits fix, every
// reader sees it, and sees only more of it later.
func testMany(t *testing.T, p Place) {
	s := p.Open(t)
	const writers, each = 16, 40
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if err := Put(s, Document(w%4), Change(w*each+i, 60+i*20)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { watch(t, s, Document(0), stop) })
	all.Wait()
	close(stop)
	reader.Wait()
	for d := range 4 {
		got, err := s.Load(t.Context(), Document(d))
		if err != nil {
			t.Fatal(err)
		}
		checkMany(t, got, d, writers, each)
	}
}

func checkMany(t *testing.T, got *store.Stored, d, writers, each int) {
	t.Helper()
	at := make(map[crdt.Hash]int)
	for i, h := range got.Hashes {
		at[h] = i
	}
	for w := d; w < writers; w += 4 {
		for i, last := 0, -1; i < each; i++ {
			n, ok := at[Change(w*each+i, 60+i*20).Hash]
			if !ok || n <= last {
				t.Fatalf("change %d of writer %d is at %d, the one before at %d (found: %t)", i, w, n, last, ok)
			}
			last = n
		}
	}
	if want := writers / 4 * each; len(at) != want || len(got.Hashes) != want {
		t.Fatalf("document %d holds %d changes, %d different, want %d", d, len(got.Hashes), len(at), want)
	}
}

func watch(t *testing.T, s Store, doc crdt.DocumentID, stop <-chan struct{}) {
	var seen []crdt.Hash
	for {
		got, err := s.Load(context.Background(), doc)
		if err != nil {
			t.Error(err)
			return
		}
		if len(got.Hashes) < len(seen) || !slices.Equal(got.Hashes[:len(seen)], seen) {
			t.Errorf("a document of %d changes became another of %d", len(seen), len(got.Hashes))
			return
		}
		seen = got.Hashes
		select {
		case <-stop:
			return
		default:
		}
	}
}

func testSince(t *testing.T, p Place) {
	s := p.Open(t)
	a := Changes(0, 10)
	MustPut(t, s, Document(1), a...)
	for _, known := range []int{0, 1, 9, 10, 11} {
		got, err := s.LoadSince(t.Context(), Document(1), known)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, known, a[min(known, len(a)):])
	}
}

func testSnapshot(t *testing.T, p Place) {
	s := p.Open(t)
	a := Changes(0, 10)
	snap := func(n int, data string) crdt.Snapshot {
		return crdt.Snapshot{Heads: crdt.SortHashes([]crdt.Hash{a[n-1].Hash, a[0].Hash}), Changes: n, Data: []byte(data)}
	}
	if err := s.PutSnapshot(t.Context(), Document(1), snap(1, "early")); !errors.Is(err, store.ErrUnknownDocument) {
		t.Fatalf("a snapshot of nothing: %v", err)
	}
	MustPut(t, s, Document(1), a...)
	if err := s.PutSnapshot(t.Context(), Document(1), crdt.Snapshot{Changes: 11}); err == nil {
		t.Fatal("a snapshot of more than is stored was taken")
	}
	for _, step := range []struct{ put, want crdt.Snapshot }{
		{snap(4, "four"), snap(4, "four")},
		{snap(7, "seven"), snap(7, "seven")},
		{snap(5, "five"), snap(7, "seven")},
		{snap(7, "again"), snap(7, "again")},
	} {
		if err := s.PutSnapshot(t.Context(), Document(1), step.put); err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(t.Context(), Document(1))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, 0, a)
		if !equal(got.Snapshot, &step.want) {
			t.Fatalf("the snapshot is %+v, want %+v", got.Snapshot, step.want)
		}
	}
}

func equal(a, b *crdt.Snapshot) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Changes == b.Changes && slices.Equal(a.Heads, b.Heads) && slices.Equal(a.Data, b.Data)
}

func testDocuments(t *testing.T, p Place) {
	s := p.Open(t)
	for i := range 7 {
		MustPut(t, s, Document(6-i), Changes(i*10, 7-i)...) // document i has i+1 changes
	}
	if err := s.PutSnapshot(t.Context(), Document(3), crdt.Snapshot{Changes: 2, Data: []byte("abc")}); err != nil {
		t.Fatal(err)
	}
	var got []store.DocumentInfo
	for after := (crdt.DocumentID{}); ; after = got[len(got)-1].ID {
		page, err := s.Documents(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, page...); len(page) < 3 {
			break
		}
	}
	for i, d := range got {
		want := store.DocumentInfo{ID: Document(i), Changes: i + 1}
		if i == 3 {
			want.Covered, want.SnapshotBytes = 2, 3
		}
		if d != want {
			t.Errorf("document %d is listed as %+v, want %+v", i, d, want)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d documents are listed, want 7", len(got))
	}
}

func testReopen(t *testing.T, p Place) {
	s := p.Open(t)
	id, a := s.StorageID(), Changes(0, 20)
	for i := range a { // Close commits what waits
		s.Append(store.Batch{Document: Document(1), Changes: a[i : i+1]})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = p.Open(t)
	MustHold(t, s, Document(1), a...)
	more := Changes(1000, 2)
	MustPut(t, s, Document(1), more...)
	MustHold(t, s, Document(1), slices.Concat(a, more)...)
	if s.StorageID() != id || len(id) != 36 {
		t.Errorf("the storage id was %q and is %q", id, s.StorageID())
	}
}

func testClosed(t *testing.T, p Place) {
	s := p.Open(t)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Put(s, Document(1), Changes(0, 1)...); !errors.Is(err, store.ErrClosed) {
		t.Errorf("appending to a closed store: %v", err)
	}
	if err := s.PutSnapshot(t.Context(), Document(1), crdt.Snapshot{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a snapshot for a closed store: %v", err)
	}
}
