package store_test

import (
	"slices"
	"testing"

	"parley/server/store"
	"parley/server/store/storetest"
)

// receipts returns all of a document's.
func receipts(t *testing.T, s *store.Store, n int) []store.Receipt {
	t.Helper()
	list, err := s.Receipts(t.Context(), storetest.Document(1), n)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestReceipts are of who delivered a change first, and stay what they are,
// whatever a person with a shell tries.
func TestReceipts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	changes := storetest.Changes(1, 3)
	want := []store.Receipt{
		{Hash: changes[0].Hash, User: "alice", Role: "party", At: 1000},
		{Hash: changes[1].Hash, User: "holly", Role: "host", At: 2000},
		{Hash: changes[2].Hash},
	}
	for i := range changes {
		changes[i].User, changes[i].Role, changes[i].At = want[i].User, want[i].Role, want[i].At
	}
	storetest.MustPut(t, s, storetest.Document(1), changes...)
	changes[0].User, changes[0].Role, changes[0].At = "mallory", "host", 9000
	storetest.MustPut(t, s, storetest.Document(1), changes[0])
	for _, script := range []string{
		"UPDATE change SET user = 'mallory'", "UPDATE change SET at = 0 WHERE n = 1", "DELETE FROM change WHERE n = 3",
		"INSERT OR REPLACE INTO document SELECT key, randomblob(16) FROM document", "INSERT OR REPLACE INTO document SELECT key + 1, id FROM document",
	} {
		if err := shell(t, dir, script); err == nil {
			t.Errorf("%s: done", script)
		}
	}
	for _, script := range []string{
		"INSERT OR REPLACE INTO change SELECT document, n, hash, chunk, 'mallory', role, at FROM change",
		"INSERT OR REPLACE INTO change SELECT document, n + 10, hash, chunk, 'mallory', role, at FROM change",
		"INSERT OR REPLACE INTO change SELECT document, n, randomblob(32), chunk, 'mallory', role, at FROM change",
	} {
		mustShell(t, dir, script)
	}
	if got := receipts(t, s, 9); !slices.Equal(got, want) {
		t.Errorf("receipts %+v, want %+v", got, want)
	}
	if got := receipts(t, s, 2); !slices.Equal(got, want[:2]) {
		t.Errorf("the first two: %+v", got)
	}
	if got := receipts(t, s, 0); len(got) > 0 {
		t.Errorf("the first none: %+v", got)
	}
}
