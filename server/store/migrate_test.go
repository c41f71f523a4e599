package store

import (
	"database/sql"
	"path/filepath"
	"testing"

	"parley/crdt"
)

// A folder that the first version wrote is brought up to date, and what it
// holds is there.
func TestMigratesTheFirstSchema(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite3", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	chunk := []byte{0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, typeDeflated}
	doc, hash := crdt.DocumentID{7}, crdt.Hash{}
	for _, step := range []struct {
		query string
		args  []any
	}{
		{migrations[0], nil},
		{"PRAGMA application_id = 1349676153; PRAGMA user_version = 1", nil},
		{"INSERT INTO document (key, id) VALUES (1, ?)", []any{doc[:]}},
		{"INSERT INTO change (document, n, hash, chunk) VALUES (1, 1, ?, ?)", []any{hash[:], chunk}},
	} {
		if _, err := db.Exec(step.query, step.args...); err != nil {
			t.Fatalf("%s: %v", step.query, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stored, err := s.Load(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored.Chunks) != 1 || stored.Users[0] != "" {
		t.Errorf("after the migration: %d changes, users %q", len(stored.Chunks), stored.Users)
	}
}
