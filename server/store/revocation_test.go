package store

import (
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRevocationsStay(t *testing.T) {
	dir := t.TempDir()
	want := []Revocation{
		{User: "mallory", At: 1000, By: "holly"},
		{Token: "t-1", At: 2000, Until: 3000, By: "holly"},
		{User: "mallory", Token: "t-2", At: 4000},
	}
	for range 2 { // lives of the store
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		had, err := s.Revocations(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(had) == 0 {
			for _, r := range want {
				done := make(chan error, 1)
				s.Append(Batch{Revocation: &r, Done: func(err error) { done <- err }})
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
		} else if !slices.Equal(had, want) {
			t.Errorf("stored %+v, want %+v", had, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite3", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, query := range []string{
		"DELETE FROM revocation", "UPDATE revocation SET user = 'nobody'",
		"INSERT OR REPLACE INTO revocation SELECT n, 'nobody', token, at, until, by FROM revocation",
	} {
		if _, err := db.Exec(query); err == nil || !strings.Contains(err.Error(), "revocations are never") {
			t.Errorf("%s: %v", query, err)
		}
	}
}
