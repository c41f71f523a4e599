package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"parley/server/store"
	"parley/server/store/storetest"
)

const (
	walHeader = 32
	walFrame  = 24 + 4096
)

// leftBehind returns the files that a killed server leaves: a store that holds n commits in
// its log, the last frames of which are those of an earlier log.
func leftBehind(t *testing.T, n int) (database, log []byte) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	for i := range 3 * n {
		storetest.MustPut(t, s, storetest.Document(i%3), storetest.Change(i, 3000))
	}
	mustShell(t, dir, "PRAGMA wal_checkpoint(RESTART)")
	for i := range n {
		storetest.MustPut(t, s, storetest.Document(i%3), storetest.Change(3*n+i, 200))
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return read(store.DatabaseName), read(store.DatabaseName + "-wal")
}

// reopened opens a store of these files, and returns how many changes it holds.
func reopened(t *testing.T, database, log []byte) (int, error) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{store.DatabaseName: database, store.DatabaseName + "-wal": log} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := store.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	said := r.Log()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, backup := store.Backup(t.Context(), dir, filepath.Join(t.TempDir(), "backup"), store.BackupOptions{})
	s, err := store.Open(dir, store.Options{})
	if (err != nil) != (said != nil) || (err != nil) != (backup != nil) {
		t.Fatalf("opening it: %v; checking it: %v; a backup: %v", err, said, backup)
	}
	if err != nil {
		return 0, err
	}
	defer s.Close()
	n := 0
	for i := range 3 {
		st, err := s.Load(t.Context(), storetest.Document(i))
		if err != nil {
			t.Fatal(err)
		}
		n += len(st.Hashes)
	}
	return n, nil
}

// TestDamagedLog has the log of a killed server damaged. A store does not open if
// commits that were acknowledged are behind that: SQLite would pass over them.
func TestDamagedLog(t *testing.T) {
	const n = 20
	database, log := leftBehind(t, n)
	if all, err := reopened(t, database, log); err != nil || all != 4*n {
		t.Fatalf("as it was: %d changes, %v", all, err)
	}
	salt := binary.BigEndian.Uint64(log[16:])
	var commits []int // the frames that end one
	frames := 0
	for at := walHeader; at < len(log) && binary.BigEndian.Uint64(log[at+8:]) == salt; at += walFrame {
		if binary.BigEndian.Uint32(log[at+4:]) > 0 {
			commits = append(commits, frames)
		}
		frames++
	}
	if len(commits) != n || walHeader+frames*walFrame >= len(log) {
		t.Fatalf("%d commits in %d frames of %d bytes of log", len(commits), frames, len(log))
	}
	last := commits[n-2] + 1 // the first frame of the last commit
	flipped := func(bit int) []byte {
		b := slices.Clone(log)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	mustRefuse := func(what string, log []byte) {
		t.Helper()
		var unreadable *store.UnreadableError
		if all, err := reopened(t, database, log); !errors.As(err, &unreadable) {
			t.Errorf("%s: %d changes, %v", what, all, err)
		}
	}
	for at := range walHeader {
		bit := 8*at + rand.IntN(8)
		mustRefuse(fmt.Sprintf("bit %d of the header", bit), flipped(bit))
	}
	for range 20 {
		frame := rand.IntN(commits[n-3] + 1) // two commits are behind it
		bit := 8*(walHeader+frame*walFrame) + rand.IntN(8*walFrame)
		if at := bit/8 - walHeader - frame*walFrame; rand.IntN(2) == 0 {
			bit -= 8 * (at - at%24) // in the frame's header
		}
		mustRefuse(fmt.Sprintf("bit %d of frame %d", bit-8*(walHeader+frame*walFrame), frame), flipped(bit))
	}
	for what, log := range map[string][]byte{
		"cut between commits": log[:walHeader+last*walFrame],
		"cut within a frame":  log[:walHeader+last*walFrame+1000],
		"cut in the header":   log[:walHeader-1],
		"gone":                nil,
		"of the last commit":  flipped(8 * (walHeader + last*walFrame + 100)), // which may not have been synced
	} {
		all, err := reopened(t, database, log)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if want := map[bool]int{true: 3 * n, false: 4*n - 1}[len(log) < walHeader]; all != want {
			t.Errorf("%s: %d changes, want %d", what, all, want)
		}
	}
}

// TestLostRows has rows vanish from one of the two trees that each change is in.
func TestLostRows(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	doc := storetest.Document(1)
	storetest.MustPut(t, s, doc, storetest.Changes(0, 20)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// As if the page with the last rows had never been linked to: without the index.
	mustShell(t, dir, `DROP TRIGGER change_is_not_deleted; PRAGMA writable_schema = 1;
		UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_document_1')
		WHERE name = 'sqlite_autoindex_change_2'; PRAGMA writable_schema = 0`)
	s = open(t, dir, store.Options{})
	var damaged *store.DamagedError
	if st, err := s.Load(t.Context(), doc); !errors.As(err, &damaged) {
		t.Errorf("loaded %d changes, %v", len(st.Hashes), err)
	}
}
