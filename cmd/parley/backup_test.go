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

// TestBackupUnderLoad copies the data of a server on which people write. What was
// acknowledged before a backup began is in it, and a server runs on it.
func TestBackupUnderLoad(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	data, at := t.TempDir(), t.TempDir()
	p := serve(t, data)
	fill(t, ctx, p.url, 6)
	openDeal(t, p.url)
	pickers := []*picker{{user: "alice"}, {user: "bob"}}
	writers := []*writer{{id: servertest.NewDocumentID()}, {id: servertest.NewDocumentID(), n: 1 << 32}}
	stop, end := context.WithCancel(ctx)
	defer end()
	var wg sync.WaitGroup
	var mu sync.Mutex
	picked := make(map[string]int) // how many picks of each were acknowledged
	for _, k := range pickers {
		wg.Go(func() {
			_ = k.pick(stop, p.url, func() { mu.Lock(); picked[k.user]++; mu.Unlock() })
		})
	}
	for _, w := range writers {
		wg.Go(func() { _ = w.write(stop, p.url, func() {}) })
	}
	type acked struct {
		picks  map[string]int
		writes [2]int
	}
	var before []acked
	for n := range 3 {
		time.Sleep(300 * time.Millisecond) // let them write
		was := acked{picks: make(map[string]int)}
		mu.Lock()
		for user, n := range picked {
			was.picks[user] = n
		}
		mu.Unlock()
		for i, w := range writers {
			w.mu.Lock()
			was.writes[i] = len(w.acked)
			w.mu.Unlock()
		}
		before = append(before, was)
		if out, code := parley(t, "", "backup", "--data", data, "--to", filepath.Join(at, fmt.Sprint(n))); code != exitOK {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	if out, code := parley(t, "", "check", "--data", data); code != exitOK || !strings.Contains(out, ": sound") {
		t.Errorf("while it runs: exit %d: %s", code, out)
	}
	end()
	wg.Wait()
	check(t, p.end(os.Interrupt))
	for n, was := range before {
		folder := filepath.Join(t.TempDir(), "data")
		if out, code := parley(t, "", "restore", filepath.Join(at, fmt.Sprint(n)), "--data", folder); code != exitOK {
			t.Fatalf("exit %d: %s", code, out)
		}
		q := serve(t, folder)
		reader, err := servertest.Dial(ctx, q.url, "")
		check(t, err)
		for i, w := range writers {
			doc, err := reader.Open(ctx, w.id)
			check(t, err)
			for _, h := range w.acked[:was.writes[i]] {
				check(t, doc.Has(ctx, h))
			}
		}
		reader.CloseNow()
		out, code := parley(t, q.url, "history", "deal", "--json")
		for _, k := range pickers {
			for _, h := range k.acked[:was.picks[k.user]] {
				if !strings.Contains(out, h.String()) {
					t.Fatalf("backup %d: exit %d: a pick of %s's that was acknowledged is not there: %s", n, code, k.user, h)
				}
			}
		}
		check(t, q.end(os.Interrupt))
		if out, code := parley(t, "", "check", "--data", folder); code != exitOK {
			t.Errorf("after it ran: exit %d: %s", code, out)
		}
		t.Logf("backup %d: %v picks and %v writes were acknowledged before, all are there", n, was.picks, was.writes)
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
