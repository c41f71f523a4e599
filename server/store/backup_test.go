package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/server/store"
	"parley/server/store/storetest"
)

func sound(string) error { return nil }

var someFiles = []store.File{
	{Name: "parley.key", Mode: 0o600, Data: []byte("PRIVATE+KEY+ of nobody")},
	{Name: "parley.pub", Mode: 0o644, Data: []byte("public")},
}

func mustBackUp(t *testing.T, dir, file string, opt store.BackupOptions) *store.Contents {
	t.Helper()
	held, err := store.Backup(t.Context(), dir, file, opt)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// mustHoldOnly fails unless these are all names in a folder.
func mustHoldOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && len(want) > 0 {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("in %s there is %v, want %v", dir, got, want)
	}
}

// TestBackup copies a store that is open, puts it back, and opens that.
func TestBackup(t *testing.T) {
	dir, at := t.TempDir(), t.TempDir()
	s := open(t, dir, store.Options{})
	a, b := storetest.Changes(0, 30), storetest.Changes(100, 3)
	for i := range a {
		a[i].At = int64(1000 + i)
	}
	storetest.MustPut(t, s, storetest.Document(1), a...)
	storetest.MustPut(t, s, storetest.Document(2), b...)
	if err := s.PutPack(t.Context(), storetest.Document(1), storetest.PackOf(a...)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(at, "a ?#% backup")
	told := 0
	held := mustBackUp(t, dir, file, store.BackupOptions{Files: someFiles, Progress: func(done, total int) { told = done }})
	if held.Documents != 2 || held.Changes != 33 || held.Newest != 1029 || time.Since(time.UnixMilli(held.Made)) > time.Minute {
		t.Errorf("%+v", held)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != held.Bytes {
		t.Errorf("the file: %v, %v, want %d bytes", info, err, held.Bytes)
	}
	_ = told // a small one is copied at once
	storetest.MustPut(t, s, storetest.Document(1), storetest.Change(1000, 200))

	for _, data := range []string{filepath.Join(t.TempDir(), "not", "yet"), t.TempDir()} {
		var verified string
		done, err := store.Restore(t.Context(), file, data, func(folder string) error {
			verified = folder
			mustHoldOnly(t, folder, "parley.db", "parley.key", "parley.pub")
			mustHoldOnly(t, data, "lock", "restoring")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(verified) != data || done.StorageID != s.StorageID() || done.Changes != 33 || len(done.Files) != 2 {
			t.Errorf("verified %s, restored %+v", verified, done)
		}
		mustHoldOnly(t, data, "lock", "parley.db", "parley.key", "parley.pub")
		for _, f := range someFiles {
			info, err := os.Stat(filepath.Join(data, f.Name))
			if err != nil || info.Mode().Perm() != f.Mode || !bytes.Equal(mustRead(t, filepath.Join(data, f.Name)), f.Data) {
				t.Errorf("%s: %v, %v", f.Name, info, err)
			}
		}
		database := mustRead(t, filepath.Join(data, store.DatabaseName))
		if bytes.Contains(database, someFiles[0].Data) {
			t.Error("the key stayed in the database")
		}
		again := open(t, data, store.Options{})
		storetest.MustHold(t, again, storetest.Document(1), a...)
		storetest.MustHold(t, again, storetest.Document(2), b...)
		mustBeSound(t, again)
		storetest.MustPut(t, again, storetest.Document(2), storetest.Change(2000, 200))
	}
	mustHoldOnly(t, at, filepath.Base(file))
}

// TestBackupBesideWriters: whatever was acknowledged before a backup began is in it,
// and nobody waits for it.
func TestBackupBesideWriters(t *testing.T) {
	const writers, backups = 8, 5
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	for i := range 40 { // some 40 MB, so that there are several steps
		storetest.MustPut(t, s, storetest.Document(50), storetest.Change(1_000_000+i, 1_000_000))
	}
	var acked [writers]atomic.Int64
	var longest atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				if err := storetest.Put(s, storetest.Document(w), storetest.Change(w*100_000+i, 200)); err != nil {
					t.Error(err)
					return
				}
				longest.Store(max(longest.Load(), int64(time.Since(began))))
				acked[w].Add(1)
			}
		})
	}
	at := t.TempDir()
	for n := range backups {
		var before [writers]int64
		for w := range acked {
			before[w] = acked[w].Load()
		}
		file := filepath.Join(at, fmt.Sprint(n))
		steps := 0
		held := mustBackUp(t, dir, file, store.BackupOptions{Progress: func(int, int) { steps++; time.Sleep(5 * time.Millisecond) }})
		after := int64(0)
		for w := range acked {
			after += acked[w].Load()
		}
		if steps < 5 {
			t.Errorf("%d steps", steps)
		}
		if int64(held.Changes) >= after {
			t.Errorf("nothing was committed during a backup of %d changes, %d were before", held.Changes, after)
		}
		checkBackup(t, file, before[:])
	}
	close(stop)
	all.Wait()
	t.Logf("the longest commit beside a backup took %v", time.Duration(longest.Load()))
}

// checkBackup restores and holds it against how many changes of each document were
// acknowledged before.
func checkBackup(t *testing.T, file string, before []int64) {
	t.Helper()
	data := t.TempDir()
	if _, err := store.Restore(t.Context(), file, data, sound); err != nil {
		t.Fatal(err)
	}
	s := open(t, data, store.Options{})
	mustBeSound(t, s)
	for w, n := range before {
		got, err := s.Load(t.Context(), storetest.Document(w))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(got.Hashes)) < n {
			t.Errorf("document %d: %d changes are in the backup, %d were acknowledged before it", w, len(got.Hashes), n)
		}
		for i, h := range got.Hashes {
			if h != storetest.Change(w*100_000+i, 200).Hash {
				t.Fatalf("document %d: change %d is another", w, i)
			}
		}
	}
}

func TestBackupRefuses(t *testing.T) {
	dir, at := t.TempDir(), t.TempDir()
	s := open(t, dir, store.Options{})
	storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
	made := func(script string) string {
		other := t.TempDir()
		if err := open(t, other, store.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		mustShell(t, other, script)
		return other
	}
	foreign, text := t.TempDir(), t.TempDir()
	mustShell(t, foreign, "CREATE TABLE theirs (x)")
	overwrite(t, filepath.Join(text, store.DatabaseName), 0, bytes.Repeat([]byte("text "), 2000))
	overwrite(t, filepath.Join(at, "there"), 0, []byte("somebody's"))
	overwrite(t, filepath.Join(at, "a file"), 0, nil)
	if err := os.Mkdir(filepath.Join(at, "busy.partial"), 0o700); err != nil {
		t.Fatal(err)
	}
	locked, err := store.LockFolder(filepath.Join(at, "busy.partial"))
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, dir, file string
		ctx             context.Context
		says            string
	}{
		{"no folder", filepath.Join(at, "nowhere"), "x", t.Context(), "is not there"},
		{"an empty folder", t.TempDir(), "x", t.Context(), "holds no store"},
		{"another program's", foreign, "x", t.Context(), "a database of another program"},
		{"no database", text, "x", t.Context(), "not a readable parley database"},
		{"newer", made("PRAGMA user_version = 1000"), "x", t.Context(), "written by a newer parley"},
		{"damaged", made("DROP TABLE document"), "x", t.Context(), "count the documents: no such table"},
		{"more damaged", made("DROP TABLE change"), "x", t.Context(), "count what was copied: no such table"},
		{"a file that is there", dir, "there", t.Context(), "file already exists"},
		{"no folder to write to", dir, "nowhere/x", t.Context(), "nowhere: no such file or directory: make room there, or choose another place"},
		{"a file for a folder", dir, "a file/x", t.Context(), "not a directory"},
		{"busy", dir, "busy", t.Context(), "is writing there already"},
		{"given up", dir, "x", cancelled, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := store.Backup(c.ctx, c.dir, filepath.Join(at, c.file), store.BackupOptions{Files: someFiles})
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("told %v, want %q", err, c.says)
			}
			mustHoldOnly(t, at, "a file", "busy.partial", "there")
		})
	}
	if err := locked.Release(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(at, "busy.partial", "parley.db"), 0, []byte("what a killed one left"))
	mustBackUp(t, dir, filepath.Join(at, "busy"), store.BackupOptions{})
	mustBackUp(t, dir, filepath.Join(at, "there"), store.BackupOptions{Force: true})
	checkBackup(t, filepath.Join(at, "there"), nil)
	mustHoldOnly(t, at, "a file", "busy", "there")
}

// TestBackupOfStoppedStore works on what a killed server has left, its log
// included, and leaves the database as it is.
func TestBackupOfStoppedStore(t *testing.T) {
	running, dir := t.TempDir(), t.TempDir()
	s := open(t, running, store.Options{})
	a := storetest.Changes(0, 5)
	storetest.MustPut(t, s, storetest.Document(0), a...)
	for _, name := range []string{store.DatabaseName, store.DatabaseName + "-wal"} { // as after a kill
		overwrite(t, filepath.Join(dir, name), 0, mustRead(t, filepath.Join(running, name)))
	}
	file := filepath.Join(t.TempDir(), "x")
	if held := mustBackUp(t, dir, file, store.BackupOptions{}); held.Changes != 5 {
		t.Errorf("%+v", held)
	}
	for _, name := range []string{store.DatabaseName, store.DatabaseName + "-wal"} {
		if !bytes.Equal(mustRead(t, filepath.Join(dir, name)), mustRead(t, filepath.Join(running, name))) {
			t.Errorf("%s was altered", name)
		}
	}
	s = open(t, dir, store.Options{})
	storetest.MustHold(t, s, storetest.Document(0), a...)
}

func TestRestoreRefuses(t *testing.T) {
	dir, at := t.TempDir(), t.TempDir()
	s := open(t, dir, store.Options{})
	storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 300)...)
	file := filepath.Join(at, "backup")
	mustBackUp(t, dir, file, store.BackupOptions{Files: someFiles})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole := mustRead(t, file)
	with := func(name string, content []byte) string {
		overwrite(t, filepath.Join(at, name), 0, content)
		return filepath.Join(at, name)
	}
	altered := func(name, script string) string {
		folder := t.TempDir()
		overwrite(t, filepath.Join(folder, store.DatabaseName), 0, whole)
		mustShell(t, folder, script)
		return with(name, mustRead(t, filepath.Join(folder, store.DatabaseName)))
	}
	taken := t.TempDir()
	overwrite(t, filepath.Join(taken, "a"), 0, []byte("theirs"))
	used := t.TempDir()
	lock, err := store.LockFolder(used)
	if err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	mustShell(t, foreign, "CREATE TABLE theirs (x)")
	zeroed := bytes.Clone(whole)
	clear(zeroed[4096:8192])
	fresh := func() string { return filepath.Join(t.TempDir(), "data", "folder") }
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	bad := errors.New("it is bad")
	for _, c := range []struct {
		name, file, data string
		verify           error
		ctx              context.Context
		says             string
	}{
		{"no file", filepath.Join(at, "nowhere"), fresh(), nil, t.Context(), "is not there"},
		{"a folder that holds something", file, taken, nil, t.Context(), "is not empty, it holds a: restore into a folder that is empty"},
		{"a folder in use", file, used, nil, t.Context(), "in use by process"},
		{"a file for a folder", file, filepath.Join(taken, "a"), nil, t.Context(), "not a directory"},
		{"a store", filepath.Join(dir, store.DatabaseName), fresh(), nil, t.Context(), "the database of a store and no backup"},
		{"a store's folder", dir, fresh(), nil, t.Context(), "the database of a store and no backup"},
		{"another program's", filepath.Join(foreign, store.DatabaseName), fresh(), nil, t.Context(), "a database of another program"},
		{"text", with("text", bytes.Repeat([]byte("text "), 2000)), fresh(), nil, t.Context(), "not a readable parley database"},
		{"nothing", with("nothing", nil), fresh(), nil, t.Context(), "no backup"},
		{"newer", altered("newer", "PRAGMA user_version = 1000"), fresh(), nil, t.Context(), "written by a newer parley"},
		{"cut", with("cut", whole[:len(whole)/2]), fresh(), nil, t.Context(), "malformed"},
		{"a zeroed page", with("zeroed", zeroed), fresh(), nil, t.Context(), "malformed"},
		{"without its last changes", altered("less", "DROP TRIGGER change_is_not_deleted; DELETE FROM change WHERE n > 250"), fresh(), nil, t.Context(), "it holds 1 documents with 250 changes, and held 1 with 300"},
		{"with a file that goes elsewhere", altered("elsewhere", "UPDATE backup_file SET name = '../x' WHERE name = 'parley.key'"), fresh(), nil, t.Context(), "a row holds what it cannot hold"},
		{"that is found bad", file, fresh(), bad, t.Context(), "it is bad"},
		{"into an empty folder, found bad", file, t.TempDir(), bad, t.Context(), "it is bad"},
		{"given up", file, fresh(), nil, cancelled, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			was, _ := os.ReadDir(c.data)
			_, err := store.Restore(c.ctx, c.file, c.data, func(string) error { return c.verify })
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("told %v, want %q", err, c.says)
			}
			if now, _ := os.ReadDir(c.data); len(now) != len(was) {
				t.Errorf("left behind: %v", now)
			}
			if strings.HasSuffix(c.data, "data/folder") {
				if _, err := os.Stat(filepath.Dir(c.data)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the folder was left: %v", err)
				}
			}
		})
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreOlder brings a backup of an older schema up to date.
func TestRestoreOlder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	a := storetest.Changes(0, 3)
	storetest.MustPut(t, s, storetest.Document(1), a...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustShell(t, dir, "DROP TABLE pack; PRAGMA user_version = 7")
	file, data := filepath.Join(t.TempDir(), "x"), t.TempDir()
	mustBackUp(t, dir, file, store.BackupOptions{})
	if _, err := store.Restore(t.Context(), file, data, func(folder string) error {
		r, err := store.Read(folder)
		if err != nil {
			return err
		}
		return errors.Join(r.Current(), r.Close())
	}); err != nil {
		t.Fatal(err)
	}
	storetest.MustHold(t, open(t, data, store.Options{}), storetest.Document(1), a...)
}

// TestHalfRestored: no store is opened where one was half restored, and another
// restore makes good for it.
func TestHalfRestored(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	s := open(t, dir, store.Options{})
	storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
	file := filepath.Join(t.TempDir(), "x")
	mustBackUp(t, dir, file, store.BackupOptions{Files: someFiles})
	if err := os.Mkdir(filepath.Join(data, "restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(data, "restoring", "parley.db"), 0, []byte("half"))
	overwrite(t, filepath.Join(data, "parley.key"), 0, []byte("of the backup"))
	var unfinished *store.UnfinishedError
	if _, err := store.Open(data, store.Options{}); !errors.As(err, &unfinished) || !strings.Contains(err.Error(), "parley restore again") {
		t.Fatalf("told %v", err)
	}
	if _, err := store.Restore(t.Context(), file, data, sound); err != nil {
		t.Fatal(err)
	}
	storetest.MustHold(t, open(t, data, store.Options{}), storetest.Document(1), storetest.Changes(0, 3)...)
}

// TestBackupIsNotServed: a backup that was copied into a folder by hand is not taken
// for a store.
func TestBackupIsNotServed(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	open(t, dir, store.Options{})
	mustBackUp(t, dir, filepath.Join(data, store.DatabaseName), store.BackupOptions{})
	before := mustRead(t, filepath.Join(data, store.DatabaseName))
	var backup *store.BackupError
	if _, err := store.Open(data, store.Options{}); !errors.As(err, &backup) || !strings.Contains(err.Error(), "parley restore") {
		t.Errorf("opened: %v", err)
	}
	if _, err := store.Read(data); !errors.As(err, &backup) {
		t.Errorf("read as a folder: %v", err)
	}
	if !bytes.Equal(before, mustRead(t, filepath.Join(data, store.DatabaseName))) {
		t.Error("the file was altered")
	}
}

// childBacksUp makes one backup after the other, over the same file.
func childBacksUp(dir, file string) int {
	for {
		if _, err := store.Backup(context.Background(), dir, file, store.BackupOptions{Files: someFiles, Force: true}); err != nil {
			return fail(err)
		}
	}
}

// childRestores restores into one fresh folder after the other, and prints its name
// when that is done.
func childRestores(file, into string) int {
	for i := 0; ; i++ {
		data := filepath.Join(into, fmt.Sprint(i))
		if _, err := store.Restore(context.Background(), file, data, sound); err != nil {
			return fail(err)
		}
		if i > 20 {
			_ = os.RemoveAll(filepath.Join(into, fmt.Sprint(i-20)))
		}
	}
}

// killed runs a child for a while and kills it.
func killed(t *testing.T, what, a, b string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], a, b)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after) // the moment of the kill is at random
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if said.Len() > 0 {
		t.Fatalf("the child says %s", &said)
	}
}

// TestKilledBackup kills backups at any moment: under the file's name there is a
// whole one, or none.
func TestKilledBackup(t *testing.T) {
	dir, at := t.TempDir(), t.TempDir()
	s := open(t, dir, store.Options{})
	for i := range 10 {
		storetest.MustPut(t, s, storetest.Document(0), storetest.Change(i, 200), storetest.Change(1_000_000+i, 1_000_000))
	}
	file := filepath.Join(at, "backup")
	there := 0
	for round := range 12 {
		killed(t, "backup", dir, file, time.Duration(20+17*round)*time.Millisecond)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		there++
		if _, err := store.Restore(t.Context(), file, filepath.Join(t.TempDir(), "data"), func(folder string) error {
			r, err := store.Read(folder)
			if err != nil {
				return err
			}
			said, err := r.Integrity(t.Context(), false)
			if len(said) > 0 {
				err = errors.New(strings.Join(said, ", "))
			}
			return errors.Join(err, r.Close())
		}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	mustBackUp(t, dir, file, store.BackupOptions{Force: true})
	mustHoldOnly(t, at, "backup")
	t.Logf("%d of 12 kills came after a backup", there)
}

// TestKilledRestore kills restores at any moment: a folder is a whole store, or none
// that can be opened, and another restore makes it one.
func TestKilledRestore(t *testing.T) {
	dir, into := t.TempDir(), t.TempDir()
	s := open(t, dir, store.Options{})
	a := storetest.Changes(0, 3000)
	storetest.MustPut(t, s, storetest.Document(0), a...)
	file := filepath.Join(t.TempDir(), "backup")
	mustBackUp(t, dir, file, store.BackupOptions{Files: someFiles})
	whole, half := 0, 0
	for round := range 12 {
		part := filepath.Join(into, fmt.Sprint(round))
		killed(t, "restore", file, part, time.Duration(20+17*round)*time.Millisecond)
		list, _ := os.ReadDir(part)
		for _, e := range list {
			data := filepath.Join(part, e.Name())
			if _, err := os.Stat(filepath.Join(data, store.DatabaseName)); err == nil {
				whole++
			} else {
				half++
				if _, err := store.Restore(t.Context(), file, data, sound); err != nil {
					t.Fatalf("restore again: %v", err)
				}
			}
			if string(mustRead(t, filepath.Join(data, "parley.key"))) != string(someFiles[0].Data) {
				t.Fatal("without its key")
			}
			again, err := store.Open(data, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			storetest.MustHold(t, again, storetest.Document(0), a...)
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d whole, %d half", whole, half)
}

// TestReadWithoutLog reads a store beside which nothing can be written, as in a
// folder that is read-only, unless there is something in the log.
func TestReadWithoutLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "no", "where"), filepath.Join(dir, store.DatabaseName+"-shm")); err != nil { // where it is needed
		t.Fatal(err)
	}
	r, err := store.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	held, err := r.Contents()
	if err := errors.Join(err, r.Close()); err != nil || held.Changes != 3 {
		t.Errorf("%+v, %v", held, err)
	}
	overwrite(t, filepath.Join(dir, store.DatabaseName+"-wal"), 0, []byte("something"))
	if _, err := store.Read(dir); err == nil || !strings.Contains(err.Error(), "run this as the user that the server runs as") {
		t.Errorf("told %v", err)
	}
}
