package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/inspect"
	"parley/server/servertest"
)

// throng is people who write on a server.
type throng struct {
	pickers []*picker
	writers []*writer
	mu      sync.Mutex
	picked  [2]int // how many picks of each were acknowledged
}

// acknowledged is how much was, at some moment.
type acknowledged struct{ picks, writes [2]int }

// run writes until ctx ends.
func (l *throng) run(ctx context.Context, url string) (wait func()) {
	var wg sync.WaitGroup
	for i, k := range l.pickers {
		wg.Go(func() { _ = k.pick(ctx, url, func() { l.mu.Lock(); l.picked[i]++; l.mu.Unlock() }) })
	}
	for _, w := range l.writers {
		wg.Go(func() { _ = w.write(ctx, url, func() {}) })
	}
	return wg.Wait
}

func (l *throng) now() (a acknowledged) {
	l.mu.Lock()
	a.picks = l.picked
	l.mu.Unlock()
	for i, w := range l.writers {
		w.mu.Lock()
		a.writes[i] = len(w.acked)
		w.mu.Unlock()
	}
	return a
}

// TestBackupUnderLoad copies the data of a server on which people write. What was
// acknowledged before a backup began is in it, and a server runs on it.
func TestBackupUnderLoad(t *testing.T) {
	const backups = 2
	ctx := within(t, 3*time.Minute)
	data, at := t.TempDir(), t.TempDir()
	p := serve(t, data)
	fill(t, ctx, p.url, 6)
	openDeal(t, p.url)
	l := &throng{
		pickers: []*picker{{user: "alice"}, {user: "bob"}},
		writers: []*writer{{id: servertest.NewDocumentID()}, {id: servertest.NewDocumentID(), n: 1 << 32}},
	}
	stop, end := context.WithCancel(ctx)
	defer end()
	wait := l.run(stop, p.url)
	var before [backups]acknowledged
	for n := range before {
		poll(t, ctx, "people to write", func() bool { a := l.now(); return a.picks[0] > 20*(n+1) && a.writes[0] > 20*(n+1) })
		before[n] = l.now()
		if out, code := parley(t, "", "backup", "--data", data, "--to", filepath.Join(at, fmt.Sprint(n))); code != exitOK {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	if out, code := parley(t, "", "check", "--data", data); code != exitOK || !strings.Contains(out, ": sound") {
		t.Errorf("while it runs: exit %d: %s", code, out)
	}
	end()
	wait()
	check(t, p.end(os.Interrupt))
	for n, was := range before {
		l.mustBeIn(t, ctx, filepath.Join(at, fmt.Sprint(n)), was)
		t.Logf("backup %d: %v picks and %v writes were acknowledged before, all are there", n, was.picks, was.writes)
	}
}

// mustBeIn restores a backup and runs a server on it.
func (l *throng) mustBeIn(t *testing.T, ctx context.Context, file string, was acknowledged) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "data")
	if out, code := parley(t, "", "restore", file, "--data", folder); code != exitOK {
		t.Fatalf("exit %d: %s", code, out)
	}
	p := serve(t, folder)
	reader, err := servertest.Dial(ctx, p.url, "")
	check(t, err)
	defer reader.CloseNow()
	for i, w := range l.writers {
		doc, err := reader.Open(ctx, w.id)
		check(t, err)
		for _, h := range w.acked[:was.writes[i]] {
			check(t, doc.Has(ctx, h))
		}
	}
	out, code := parley(t, p.url, "history", "deal", "--json")
	for i, k := range l.pickers {
		for _, h := range k.acked[:was.picks[i]] {
			if !strings.Contains(out, h.String()) {
				t.Fatalf("exit %d: a pick of %s's that was acknowledged is not there: %s", code, k.user, h)
			}
		}
	}
	check(t, p.end(os.Interrupt))
	if out, code := parley(t, "", "check", "--data", folder); code != exitOK {
		t.Errorf("after it ran: exit %d: %s", code, out)
	}
}

// TestInterruptedBackup ends backups by SIGINT: they say so, and leave nothing.
func TestInterruptedBackup(t *testing.T) {
	ctx := within(t, time.Minute)
	data, at := t.TempDir(), t.TempDir()
	p := serve(t, data)
	fill(t, ctx, p.url, 10)
	interrupted := 0
	for n := 0; n < 40 && interrupted == 0; n++ {
		var said bytes.Buffer
		cmd := command(ctx, "", "backup", "--data", data, "--to", filepath.Join(at, "x"), "--force")
		cmd.Stderr = &said
		check(t, cmd.Start())
		poll(t, ctx, "the backup to begin", func() bool {
			_, err := os.Stat(filepath.Join(at, "x.partial"))
			_, there := os.Stat(filepath.Join(at, "x"))
			return err == nil || there == nil
		})
		check(t, cmd.Process.Signal(os.Interrupt))
		err := cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code == exitInterrupted {
			interrupted++
			mustBeEmpty(t, at)
			if said.String() != "parley: interrupted, nothing was done\n" {
				t.Errorf("it says %q", said.String())
			}
		} else if code != exitOK {
			t.Fatalf("%v: %s", err, said.String())
		}
		check(t, os.RemoveAll(filepath.Join(at, "x")))
	}
	if interrupted == 0 {
		t.Error("no backup was interrupted")
	}
	check(t, p.end(os.Interrupt))
}

// TestLateTeller: what is told in time, to whom.
func TestLateTeller(t *testing.T) {
	var b strings.Builder
	quiet := newLateTeller(&b) // no terminal
	quiet.checked(0, 0, 0)
	quiet.checked(1, 2, 3)
	if b.Len() > 0 {
		t.Errorf("where there is no terminal: %q", b.String())
	}
	tell := newLateTeller(&b)
	tell.width = 80
	tell.copied(1, 3) // too soon
	tell.from = time.Time{}
	tell.copied(2, 3)
	tell.checked(0, 0, 0)
	tell.checked(1, 2, 3)
	tell.clear()
	const want = "\r\x1b[Kcopied 66%\r\x1b[Kchecking the database's structure\r\x1b[Kchecked 1 of 2 documents, 3 changes\r\x1b[K"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// fill makes a document of so many megabytes.
func fill(t *testing.T, ctx context.Context, url string, megabytes int) {
	t.Helper()
	c, err := servertest.Dial(ctx, url, "")
	check(t, err)
	defer c.CloseNow()
	doc, err := c.Open(ctx, servertest.NewDocumentID())
	check(t, err)
	text := make([]byte, 500_000)
	for range megabytes {
		for i := range text {
			text[i] = byte(rand.Uint32())
		}
		var h crdt.Hash
		h, err = doc.Set(ctx, "much", fmt.Sprintf("%x", text))
		check(t, err)
		check(t, doc.Acknowledged(ctx, h))
	}
}

// TestKillBackup kills backups of a running server at any moment: under the name of
// the file there is a sound backup, or none.
func TestKillBackup(t *testing.T) {
	ctx := within(t, time.Minute)
	data, at := t.TempDir(), t.TempDir()
	p := serve(t, data)
	fill(t, ctx, p.url, 10)
	there := 0
	for n := range 8 {
		file := filepath.Join(at, fmt.Sprint(n))
		cmd := command(ctx, "", "backup", "--data", data, "--to", file)
		check(t, cmd.Start())
		time.Sleep(time.Duration(60+20*n) * time.Millisecond) // the moment of the kill
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		there++
		if out, code := parley(t, "", "check", "--data", file); code != exitOK {
			t.Errorf("exit %d: %s", code, out)
		}
	}
	t.Logf("8 kills, %d after the backup was there", there)
	// One that comes later takes away what a killed one left.
	for n := range 8 {
		if out, code := parley(t, "", "backup", "--data", data, "--to", filepath.Join(at, fmt.Sprint(n)), "--force"); code != exitOK {
			t.Errorf("exit %d: %s", code, out)
		}
	}
	left, err := filepath.Glob(filepath.Join(at, "*.partial"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	check(t, p.end(os.Interrupt))
}

// limited is a command whose files may have so many bytes: the disk is full, as far
// as it can tell.
func limited(t *testing.T, blocks int, args ...string) (string, int) {
	t.Helper()
	script := fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, blocks)
	cmd := exec.CommandContext(within(t, 30*time.Second), "sh", append([]string{"-c", script, os.Args[0]}, args...)...)
	cmd.Env = append(os.Environ(), asBinary+"=1")
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// TestNoRoom has the disk fill up under a backup and under a restore. They say so
// in a line, and leave nothing.
func TestNoRoom(t *testing.T) {
	ctx := within(t, time.Minute)
	data, at := t.TempDir(), t.TempDir()
	p := serve(t, data)
	fill(t, ctx, p.url, 2)
	file, folder := filepath.Join(at, "file"), filepath.Join(at, "folder")
	out, code := limited(t, 200, "backup", "--data", data, "--to", file)
	mustRefuse(t, out, code, exitFailure, "cannot write "+file+": ", "make room there, or choose another place")
	mustBeEmpty(t, at)
	out, code = parley(t, "", "backup", "--data", data, "--to", file)
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, out)
	}
	out, code = limited(t, 200, "restore", file, "--data", folder)
	mustRefuse(t, out, code, exitFailure, "cannot write "+folder+": ", "make room there")
	mustBeEmpty(t, at, "file")
	check(t, p.end(os.Interrupt))
}

func mustRefuse(t *testing.T, out string, code, want int, says ...string) {
	t.Helper()
	for _, text := range says {
		if code != want || !strings.Contains(out, text) || strings.Count(out, "\n") != 1 {
			t.Errorf("exit %d, want %d: %q, want %q", code, want, out, text)
		}
	}
}

func mustBeEmpty(t *testing.T, dir string, but ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	check(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(but) {
		t.Errorf("in %s there is %v, want %v", dir, names, but)
	}
}

// TestRestoreOfDamage refuses a backup in which a change is another, and names it.
func TestRestoreOfDamage(t *testing.T) {
	at := t.TempDir()
	data, folder, file := filepath.Join(at, "data"), filepath.Join(at, "folder"), filepath.Join(at, "file")
	p := serve(t, data)
	openDeal(t, p.url)
	for i := range 5 {
		parley(t, p.url, "pick", "deal", "price", fmt.Sprint(100+i), "--user", "alice")
	}
	check(t, p.end(os.Interrupt))
	if out, code := parley(t, "", "backup", "--data", data, "--to", file); code != exitOK {
		t.Fatalf("exit %d: %s", code, out)
	}
	whole, err := os.ReadFile(file)
	check(t, err)
	in := bytes.Index(whole, []byte("parley/1 genesis")) // in a change's chunk
	if in < 0 {
		t.Fatal("no genesis in the file")
	}
	for name, bad := range map[string][]byte{
		"a byte":      append(append(bytes.Clone(whole[:in]), 'P'), whole[in+1:]...),
		"a page less": whole[:len(whole)-4096],
		"half":        whole[:len(whole)/2],
	} {
		check(t, os.WriteFile(file, bad, 0o600))
		out, code := parley(t, "", "restore", file, "--data", folder)
		mustRefuse(t, out, code, exitDamaged, "nothing was restored", "use another")
		mustBeEmpty(t, at, "data", "file")
		if name == "a byte" && !regexp.MustCompile(`1 fault, the first in transaction deal \(document \w+\), change \d: parley check --data .* lists them`).MatchString(out) {
			t.Errorf("%s: %s", name, out)
		}
		if out, code := parley(t, "", "check", "--data", file); code != exitDamaged {
			t.Errorf("%s: exit %d: %s", name, code, out)
		}
	}
}

// TestReportText is how a report reads.
func TestReportText(t *testing.T) {
	r := &inspect.Report{Documents: 1, Changes: 2_000, Bytes: 1_234_567_890, Notes: []string{"a note"}}
	r.Add(inspect.Fault{In: inspect.InChange, Document: "D", Transaction: "deal", N: 7, What: "it is \x1b[31mdamaged", Do: "restore"})
	r.Add(inspect.Fault{In: inspect.InPack, Document: "D", What: "bad", Do: "nothing"})
	r.Add(inspect.Fault{In: inspect.InDatabase, What: "bad", Do: "restore"})
	const want = `1 document, 2000 changes, 1.2 GB: 3 faults

transaction deal (document D), change 7
  - it is �[31mdamaged
  - to do: restore

document D, its pack
  - bad
  - to do: nothing

the database
  - bad
  - to do: restore

No fault, and worth knowing:
  - a note
`
	var b strings.Builder
	check(t, printReport(&b, r))
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}
