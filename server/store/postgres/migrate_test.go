package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/postgres"
	"parley/server/store/storetest"
)

// folder makes a data folder with a bit of everything.
func folder(t *testing.T, documents int) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for d := range documents {
		changes := storetest.Changes(d*1000, 1+d*37%600)
		for i := range changes {
			changes[i].User, changes[i].Role, changes[i].At = fmt.Sprint("user ", i%3), "party", int64(i)
		}
		b := store.Batch{Document: storetest.Document(d), Changes: changes}
		if d%2 == 0 {
			b.Settings = []byte("settings")
		}
		storetest.MustAppend(t, s, b)
		if d%3 == 0 {
			storetest.MustResolve(t, s, b.Document, storetest.Resolution(1, 1, "first"))
			storetest.MustResolve(t, s, b.Document, storetest.Resolution(2, 2, "second"))
		}
		if d%4 == 0 {
			if err := errors.Join(s.PutPack(t.Context(), b.Document, storetest.PackOf(changes...)),
				s.PutSnapshot(t.Context(), b.Document, crdt.Snapshot{Changes: 1, Data: []byte("snapshot")})); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 3 {
		storetest.MustAppend(t, s, store.Batch{Revocation: &store.Revocation{User: fmt.Sprint(3 - i), At: int64(i), By: "host"}})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func migrate(dir, url string) (*postgres.Migrated, error) {
	return postgres.Migrate(context.Background(), dir, url, store.Options{})
}

func TestMigrate(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	dir := folder(t, 8)
	first, err := migrate(dir, url)
	if err != nil {
		t.Fatal(err)
	}
	again, err := migrate(dir, url)
	if err != nil || *again != *first {
		t.Errorf("again: %+v, %v", again, err)
	}
	from, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to := open(t, url)
	if to.StorageID() != from.StorageID() {
		t.Error("it is another store")
	}
	changes := 0
	for d := range 8 {
		want, err1 := from.Load(t.Context(), storetest.Document(d))
		got, err2 := to.Load(t.Context(), storetest.Document(d))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		changes += len(want.Hashes)
		got.Version, want.Version = store.Version{}, store.Version{}
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w && (got.Snapshot == nil || want.Snapshot == nil) {
			t.Errorf("document %d is\n%.300s, want\n%.300s", d, g, w)
		}
		if (got.Snapshot == nil) != (want.Snapshot == nil) || got.Indexed != want.Indexed {
			t.Errorf("document %d: the snapshot is %v, %d indexed", d, got.Snapshot, got.Indexed)
		}
	}
	want, _ := from.Revocations(t.Context(), 0)
	got, err := to.Revocations(t.Context(), 0)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("revoked are %v, %v; want %v", got, err, want)
	}
	if *first != (postgres.Migrated{Documents: 8, Changes: changes, Revocations: 3}) {
		t.Errorf("it copied %+v, want %d changes", first, changes)
	}
}

func TestMigrateRefuses(t *testing.T) {
	pg := pgtest.Shared(t)
	dir := folder(t, 3)
	check := func(name string, url, dir, want string) {
		t.Helper()
		if _, err := migrate(dir, url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	url := pg.Schema(t)
	storetest.MustPut(t, open(t, url), storetest.Document(1), storetest.Changes(0, 1)...)
	check("another store", url, dir, "holds another store")

	url = pg.Schema(t)
	if _, err := migrate(dir, url); err != nil {
		t.Fatal(err)
	}
	s := open(t, url)
	storetest.MustPut(t, s, storetest.Document(9), storetest.Changes(0, 1)...)
	check("a document more", url, dir, "1 changes in the database and 0 in the folder")

	url = pg.Schema(t)
	if _, err := migrate(dir, url); err != nil {
		t.Fatal(err)
	}
	s = open(t, url)
	storetest.MustAppend(t, s, store.Batch{Document: storetest.Document(1), Settings: []byte("other")})
	check("other settings", url, dir, "is another in the database")
	storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(90, 1)...)
	check("a change more", url, dir, "changes in the database and")

	url = pg.Schema(t)
	if _, err := migrate(dir, url); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, url, "ALTER TABLE change DISABLE TRIGGER USER; UPDATE change SET role = 'host' WHERE n = 1")
	check("another receipt", url, dir, "is another in the database")

	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := migrate(missing, pg.Schema(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	open, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	check("a folder in use", pg.Schema(t), dir, "is in use by process")
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMigrateGoesOn: one that was killed is gone on with, and until it is done no
// server takes what is there.
func TestMigrateGoesOn(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	dir := folder(t, 40)
	killed := 0
	for wait := 60 * time.Millisecond; killed < 3; wait += 60 * time.Millisecond {
		child := exec.Command(os.Args[0], dir, url)
		child.Env = append(os.Environ(), childEnv+"=migrate")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		_ = child.Process.Kill()
		if child.Wait() == nil {
			break // it was done
		}
		killed++
	}
	s, err := postgres.Open(t.Context(), url, store.Options{})
	var unfinished *postgres.UnfinishedError
	switch {
	case err == nil: // killed before it began, or after it was done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	case !errors.As(err, &unfinished):
		t.Errorf("half of it opens with %v", err)
	}
	done, err := migrate(dir, url)
	if err != nil || done.Documents != 40 {
		t.Fatalf("after %d kills: %+v, %v", killed, done, err)
	}
	if err := open(t, url).Close(); err != nil {
		t.Error(err)
	}
}

func childMigrates(dir, url string) int {
	if _, err := migrate(dir, url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
