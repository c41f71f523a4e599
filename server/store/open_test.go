package store_test

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/storetest"
)

// shell runs SQL on a store's file beside or without the store, as a person with
// a shell can.
func shell(t *testing.T, dir, script string) error {
	t.Helper()
	c, err := store.Connect(filepath.Join(dir, store.DatabaseName))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.(driver.ExecerContext).ExecContext(context.Background(), script, nil)
	return err
}

func mustShell(t *testing.T, dir, script string) {
	t.Helper()
	if err := shell(t, dir, script); err != nil {
		t.Fatal(err)
	}
}

func TestOpenMakesFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not yet", "a ?#%25 folder")
	s := open(t, dir, store.Options{})
	storetest.MustPut(t, s, storetest.Document(1), storetest.Change(1, 200))
	for _, name := range []string{"", store.DatabaseName, store.DatabaseName + "-wal", "lock"} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q may be read by others: %v", name, fi.Mode())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, store.DatabaseName+"-wal")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a closed store leaves its log: %v", err)
	}
}

// TestOpenTwice uses one process for two: the lock is on the open file, not on
// the process.
func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	_, err := store.Open(dir, store.Options{})
	var locked *store.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Fatalf("the second is told %v", err)
	}
	if line := err.Error(); strings.Contains(line, "\n") || !strings.Contains(line, "--data") {
		t.Errorf("the second is told %q", line)
	}
	storetest.MustPut(t, s, storetest.Document(1), storetest.Change(1, 200))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, store.Options{})
}

func TestOpenRefuses(t *testing.T) {
	made := func(t *testing.T, script string) string {
		dir := t.TempDir()
		if err := open(t, dir, store.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		if script != "" {
			mustShell(t, dir, script)
		}
		return dir
	}
	var newer *store.NewerError
	var foreign *store.ForeignError
	for name, c := range map[string]struct {
		dir  func(t *testing.T) string
		want any
	}{
		"newer": {func(t *testing.T) string { return made(t, "PRAGMA user_version = 1000") }, &newer},
		"other program": {func(t *testing.T) string {
			dir := t.TempDir()
			mustShell(t, dir, "CREATE TABLE theirs (x)")
			return dir
		}, &foreign},
		"no database": {func(t *testing.T) string {
			dir := t.TempDir()
			overwrite(t, filepath.Join(dir, store.DatabaseName), 0, bytes.Repeat([]byte("text "), 2000))
			return dir
		}, &foreign},
		"damaged": {func(t *testing.T) string {
			dir := made(t, "")
			overwrite(t, filepath.Join(dir, store.DatabaseName), 100, bytes.Repeat([]byte{0xff}, 3000)) // the schema's page
			return dir
		}, &foreign},
	} {
		t.Run(name, func(t *testing.T) {
			dir := c.dir(t)
			before := mustRead(t, filepath.Join(dir, store.DatabaseName))
			_, err := store.Open(dir, store.Options{})
			if !errors.As(err, c.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), dir) {
				t.Fatalf("told %v", err)
			}
			if !bytes.Equal(before, mustRead(t, filepath.Join(dir, store.DatabaseName))) {
				t.Error("the file was altered")
			}
			if _, err := store.Open(dir, store.Options{}); !errors.As(err, c.want) {
				t.Errorf("the second time, told %v", err)
			}
		})
	}
}

func TestOpenFileInPlaceOfFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	overwrite(t, path, 0, []byte("x"))
	if _, err := store.Open(path, store.Options{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("told %v", err)
	}
}

func overwrite(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestChangesStay tries to alter and to delete through another connection, while
// the store is open.
func TestChangesStay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	a := storetest.Changes(0, 3)
	storetest.MustPut(t, s, storetest.Document(1), a...)
	for _, script := range []string{
		"DELETE FROM change", "DELETE FROM change WHERE n = 2", "UPDATE change SET n = n + 10", "UPDATE change SET chunk = x''",
		"DELETE FROM document", "UPDATE document SET id = randomblob(16)",
	} {
		if err := shell(t, dir, script); err == nil {
			t.Errorf("%s: nobody minds", script)
		}
	}
	// What is there already is passed over.
	mustShell(t, dir, "INSERT INTO change (document, n, hash, chunk) SELECT document, 9, hash, chunk FROM change WHERE n = 1")
	storetest.MustHold(t, s, storetest.Document(1), a...)
	mustBeSound(t, s)
}

// TestDamage alters what is stored behind the store's back.
func TestDamage(t *testing.T) {
	dir, log := t.TempDir(), &bytes.Buffer{}
	s := open(t, dir, store.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	for i := range 4 {
		storetest.MustPut(t, s, storetest.Document(i), storetest.Changes(i*10, 3)...)
	}
	if err := s.PutSnapshot(t.Context(), storetest.Document(3), crdt.Snapshot{Changes: 2, Data: []byte("good")}); err != nil {
		t.Fatal(err)
	}
	mustShell(t, dir, `DROP TRIGGER change_is_not_updated; DROP TRIGGER change_is_not_deleted;
		UPDATE change SET chunk = CAST(substr(chunk, 1, 100) || x'00' || substr(chunk, 102) AS BLOB) WHERE document = 1 AND n = 2;
		DELETE FROM change WHERE document = 2 AND n = 2;
		UPDATE snapshot SET data = x'62616421'`)
	for i, bad := range map[int]string{
		4: "UPDATE pack SET data = CAST(substr(data, 1, 100) || x'00' || substr(data, 102) AS BLOB)",
		5: "UPDATE pack SET changes = 2 WHERE document = (SELECT max(document) FROM pack)",
	} {
		doc := storetest.Document(i)
		storetest.MustPut(t, s, doc, storetest.Changes(i*10, 3)...)
		if err := s.PutPack(t.Context(), doc, storetest.PackOf(storetest.Changes(i*10, 3)...)); err != nil {
			t.Fatal(err)
		}
		mustShell(t, dir, bad)
		st, err := s.Load(t.Context(), doc)
		if err != nil || st.Indexed != 0 || len(st.Chunks) != 3 || !strings.Contains(log.String(), "pack") {
			t.Errorf("after %s it loads as %+v, %v; logged %q", bad, st, err, log)
		}
		log.Reset()
	}
	var damaged *store.DamagedError
	if _, err := s.Load(t.Context(), storetest.Document(0)); !errors.As(err, &damaged) || damaged.N != 2 || damaged.Hash != storetest.Change(1, 200).Hash {
		t.Errorf("an altered change loads as %v", err)
	}
	if _, err := s.Load(t.Context(), storetest.Document(1)); !errors.As(err, &damaged) || damaged.N != 0 || damaged.Document != storetest.Document(1) {
		t.Errorf("a missing change loads as %v", err)
	}
	storetest.MustHold(t, s, storetest.Document(2), storetest.Changes(20, 3)...)
	st, err := s.Load(t.Context(), storetest.Document(3))
	if err != nil || st.Snapshot != nil || len(st.Chunks) != 3 || !strings.Contains(log.String(), "snapshot") {
		t.Errorf("an altered snapshot loads as %+v, %v; logged %q", st, err, log)
	}
}

// TestCompressed keeps a deflated change under the hash of the inflated one, as
// Automerge makes them, and a truncated one never loads.
func TestCompressed(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	plain := storetest.Change(1, 1000)
	var deflated bytes.Buffer
	deflated.WriteString("\x85\x6f\x4a\x83")
	deflated.Write(plain.Hash[:4])
	deflated.WriteByte(2)
	w, err := flate.NewWriter(&deflated, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain.Chunk[9:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	packed := store.Change{Hash: plain.Hash, Chunk: deflated.Bytes()}
	storetest.MustPut(t, s, storetest.Document(1), packed)
	storetest.MustHold(t, s, storetest.Document(1), packed)
	for i, chunk := range [][]byte{{}, packed.Chunk[:8], append([]byte("\x85\x6f\x4a\x83none"), packed.Chunk[8:]...)} {
		storetest.MustPut(t, s, storetest.Document(2+i), store.Change{Hash: sha256.Sum256(chunk), Chunk: chunk})
		var damaged *store.DamagedError
		if _, err := s.Load(t.Context(), storetest.Document(2+i)); !errors.As(err, &damaged) {
			t.Errorf("%x loads as %v", chunk, err)
		}
	}
}

// TestLoadGivesUp ends with its context, also while all readers are busy.
func TestLoadGivesUp(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{Readers: 1})
	storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 100)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if _, err := s.Load(ctx, storetest.Document(1)); !errors.Is(err, context.Canceled) {
			t.Fatalf("told %v", err)
		}
	}
	storetest.MustHold(t, s, storetest.Document(1), storetest.Changes(0, 100)...)
}

// TestReadersWaitForNobody loads while another connection holds the right to
// write and the committer waits for it.
func TestReadersWaitForNobody(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	a := storetest.Changes(0, 2)
	storetest.MustPut(t, s, storetest.Document(1), a[0])
	c, err := store.Connect(filepath.Join(dir, store.DatabaseName))
	if err != nil {
		t.Fatal(err)
	}
	run := func(script string) {
		if _, err := c.(driver.ExecerContext).ExecContext(context.Background(), script, nil); err != nil {
			t.Fatal(err)
		}
	}
	run("BEGIN IMMEDIATE")
	done := make(chan error, 1)
	s.Append(store.Batch{Document: storetest.Document(1), Changes: a[1:], Done: func(err error) { done <- err }})
	storetest.MustHold(t, s, storetest.Document(1), a[0])
	select {
	case err := <-done:
		t.Errorf("committed beside another writer: %v", err)
	default:
	}
	run("ROLLBACK")
	if err := errors.Join(<-done, c.Close()); err != nil {
		t.Fatal(err)
	}
	storetest.MustHold(t, s, storetest.Document(1), a...)
}
