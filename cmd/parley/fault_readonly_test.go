package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is whom the server runs as where the tests run as root, whom no permission
// binds.
const nobody = 65534

// unprivileged makes a process one that permissions bind, and returns the folder
// that its data is to be in.
func unprivileged(t *testing.T) (data string, bind func(*process)) {
	t.Helper()
	parent := t.TempDir()
	data = filepath.Join(parent, "data")
	if os.Geteuid() != 0 {
		return data, func(*process) {}
	}
	check(t, os.Chmod(filepath.Dir(parent), 0o755)) // a test's own, that others may pass through
	check(t, os.Chown(parent, nobody, nobody))
	self, err := os.Open(os.Args[0])
	check(t, err)
	t.Cleanup(func() { _ = self.Close() })
	return data, func(p *process) {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		p.cmd.ExtraFiles = []*os.File{self} // the binary may be where nobody may go
		p.cmd.Path = "/proc/self/fd/3"
	}
}

// chmodAll sets the permissions of a folder and of what is in it.
func chmodAll(t *testing.T, dir string, folder, files fs.FileMode) {
	t.Helper()
	check(t, os.Chmod(dir, 0o700))
	list, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range list {
		check(t, os.Chmod(filepath.Join(dir, e.Name()), files))
	}
	check(t, os.Chmod(dir, folder))
}

// TestFaultReadOnlyFolder starts the server on a folder that it may not write to, in
// one way and another. It refuses in a line that says so and what to do, and makes
// nothing worse: when the folder is as it was, all is there.
func TestFaultReadOnlyFolder(t *testing.T) {
	ctx := within(t, time.Minute)
	data, bind := unprivileged(t)
	start := func(args ...string) (*process, bool) {
		p := newProcess(t, data, args...)
		bind(p)
		return p, p.start()
	}
	p, ok := start()
	if !ok {
		t.Fatalf("it does not start: %s", p.output())
	}
	openDeal(t, p.url)
	people := goIn(t, p.url, "deal", "alice")
	stop := busy(t, people)
	poll(t, ctx, "people to pick", func() bool { return len(people[0].View().Selections) > 2 })
	stop()
	address := strings.TrimPrefix(p.url, "ws://")
	check(t, p.end(os.Interrupt))

	for name, mode := range map[string][2]fs.FileMode{
		"the folder":       {0o500, 0o600},
		"all of it":        {0o500, 0o400},
		"the files":        {0o700, 0o400},
		"what may be seen": {0o000, 0o600},
	} {
		chmodAll(t, data, mode[0], mode[1])
		p, ok := start()
		if ok {
			t.Fatalf("%s: it listens", name)
		}
		p.mustRefuse(name, exitFailure, data, "may not be written", "--data")
	}
	chmodAll(t, data, 0o700, 0o600)
	check(t, os.Chmod(filepath.Join(data, "parley.db"), 0o400))
	if p, ok = start(); ok {
		t.Fatal("the database alone: it listens")
	}
	p.mustRefuse("the database alone", exitFailure, data, "may not be written", "--data")
	chmodAll(t, data, 0o700, 0o600)
	p, ok = start("--listen", address)
	if !ok {
		t.Fatalf("it does not start: %s", p.output())
	}
	converge(t, ctx, p.url, people)
	check(t, p.end(os.Interrupt))
	mustHaveReceipts(t, data, people)
	mustBeSoundOnDisk(t, data)
}

// TestFaultFolderBecomesReadOnly takes the folder of a running server away from it,
// while something else makes it open the database again. It says so, serves readers,
// and goes on when it may write again.
func TestFaultFolderBecomesReadOnly(t *testing.T) {
	ctx := within(t, time.Minute)
	data, bind := unprivileged(t)
	p := newProcess(t, data)
	bind(p)
	if !p.start() {
		t.Fatalf("it does not start: %s", p.output())
	}
	openDeal(t, p.url)
	people := goIn(t, p.url, "deal", "alice", "bob")
	stop := busy(t, people)
	poll(t, ctx, "people to pick", func() bool { return len(people[0].View().Selections) > 2 })
	release := lockDatabase(t, data)
	notReady(t, ctx, p)
	chmodAll(t, data, 0o500, 0o400)
	release()
	poll(t, ctx, "readyz to give another reason", func() bool {
		_, body := p.ready(t)
		return strings.Contains(body, "readonly") || strings.Contains(body, "unable to open")
	})
	stop()
	mustServeReaders(t, ctx, p, people, ackedOf(people))
	chmodAll(t, data, 0o700, 0o600)
	wellAgain(t, ctx, p)
	converge(t, ctx, p.url, people)
	mustBeHere(t, ctx, p.url, "deal", people)
	check(t, p.end(os.Interrupt))
	mustHaveReceipts(t, data, people)
	mustBeSoundOnDisk(t, data)
}

// lockDatabase keeps the server from writing, as a person may with a shell on the
// database, until release is called.
func lockDatabase(t *testing.T, data string) (release func()) {
	t.Helper()
	const writeLock = 120 // in the file of shared memory, sqlite.org/walformat.html
	f, err := os.OpenFile(filepath.Join(data, "parley.db-shm"), os.O_RDWR, 0)
	check(t, err)
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: writeLock, Len: 1}
	poll(t, within(t, 10*time.Second), "the lock", func() bool { return syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &lock) == nil })
	return func() { check(t, f.Close()) }
}

// mustRefuse checks how a server that does not start says so: in one line.
func (p *process) mustRefuse(what string, code int, says ...string) {
	p.t.Helper()
	_ = p.cmd.Wait()
	out := p.output()
	for _, text := range says {
		if !strings.Contains(out, text) {
			p.t.Errorf("%s: it does not say %s: %s", what, strconv.Quote(text), out)
		}
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code || strings.Count(out, "\n") != 1 {
		p.t.Errorf("%s: exit %d, want %d: %s", what, got, code, out)
	}
}
