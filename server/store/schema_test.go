package store

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"parley/crdt"
)

// TestMigratesEverySchema opens a folder of each version before this one. What it
// holds is there, and what is newer can be added.
func TestMigratesEverySchema(t *testing.T) {
	for version := 1; version < len(migrations); version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testMigrates(t, version) })
	}
}

func testMigrates(t *testing.T, version int) {
	dir := t.TempDir()
	chunk := []byte{0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, typeDeflated}
	doc, hash := crdt.DocumentID{7}, crdt.Hash{}
	db, err := sql.Open("sqlite3", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	for _, m := range migrations[:version] {
		exec(m)
	}
	exec(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version))
	exec("INSERT INTO document (key, id) VALUES (1, ?)", doc[:])
	exec("INSERT INTO change (document, n, hash, chunk) VALUES (1, 1, ?, ?)", hash[:], chunk)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(chan error, 1)
	s.Append(Batch{
		Document: doc, Settings: []byte("s"), Resolution: &Resolution{Heads: []crdt.Hash{hash}, Data: []byte("r")},
		Done: func(err error) { done <- err },
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Chunks) != 1 || got.Users[0] != "" || string(got.Settings) != "s" || len(got.Resolutions) != 1 {
		t.Errorf("after the migration: %+v", got)
	}
}
