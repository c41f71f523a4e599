package main

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/servertest"
	"parley/server/store/pgtest"
)

// unserved runs parley serve, which must not start, and returns what it says.
func unserved(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--dev", "--listen", "127.0.0.1:0", "--log", "error"}, args...)...)
	cmd.Env = append(os.Environ(), asBinary+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Count(strings.TrimSpace(string(out)), "\n") > 0 {
		t.Errorf("it started, or says more than a line: %v: %s", err, out)
	}
	return string(out)
}

// asHost runs a command as a host and returns what it prints.
func asHost(t *testing.T, p *process, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	code := run(append(args, "--server", p.url, "--user", "host", "--role", "host"), streams{strings.NewReader(""), &out, &errs})
	if code != exitOK {
		t.Fatalf("%v: exit %d: %s%s", args, code, out.String(), errs.String())
	}
	return out.String()
}

// TestServeFromPostgres: a server on another machine goes on where one was killed,
// with the same key.
func TestServeFromPostgres(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	url = strings.Replace(url, "parley@", "parley:hunter2secret@", 1)
	first, second := t.TempDir(), t.TempDir()
	p := serve(t, first, "--store", url)
	asHost(t, p, "open", "sample", "--fields", "../../testdata/sample.json")
	if err := p.kill(); err == nil {
		t.Error("it was not killed")
	}
	if log := p.output(); strings.Contains(log, "hunter2secret") || !strings.Contains(log, "data=postgres://127.0.0.1:") {
		t.Errorf("it logged: %s", log)
	}
	if exists(filepath.Join(first, "parley.db")) {
		t.Error("there is a database in the data folder")
	}

	if said := unserved(t, "--data", second, "--store", url); !strings.Contains(said, "copy their parley.key into "+second) {
		t.Errorf("without the key: %s", said)
	}
	other := t.TempDir()
	if _, err := signingKey(other, "0123456789"); err != nil {
		t.Fatal(err)
	}
	if said := unserved(t, "--data", other, "--store", url); !strings.Contains(said, "is not the one that the other servers of this store sign with") {
		t.Errorf("with another key: %s", said)
	}
	shareKey(t, first, second)
	p = serve(t, second, "--store", url)
	if said := asHost(t, p, "show", "sample"); !strings.Contains(said, "Price") && !strings.Contains(said, "price") {
		t.Errorf("the transaction is %s", said)
	}
}

// TestAnyKeyOnAnEmptyDatabase: the first server brings a key that was made elsewhere.
func TestAnyKeyOnAnEmptyDatabase(t *testing.T) {
	made, dir := t.TempDir(), t.TempDir()
	p := serve(t, made)
	check(t, p.end(os.Interrupt))
	for _, name := range []string{keyFile, publicFile} {
		text, err := os.ReadFile(filepath.Join(made, name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, name), text, 0o604))
	}
	p = serve(t, dir, "--store", pgtest.Shared(t).Schema(t))
	if log := p.output(); !strings.Contains(log, "can read the key") {
		t.Errorf("of a key that everybody can read it logged %s", log)
	}
}

// TestServeWaitsForItsDatabase: a machine's services start in any order.
func TestServeWaitsForItsDatabase(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	pg.Kill(t)
	p := newProcess(t, t.TempDir(), "--store", pg.URL("postgres"))
	restarted := make(chan error, 1)
	go func() {
		for !strings.Contains(p.output(), "waiting for the database") && t.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		restarted <- pg.Restart()
	}()
	if !p.start() {
		t.Fatalf("it did not wait: %s", p.output())
	}
	check(t, <-restarted)
	if log := p.output(); strings.Count(log, "waiting for the database") != 1 {
		t.Errorf("it logged %s", log)
	}
}

func TestStoreIsNoURL(t *testing.T) {
	if said := unserved(t, "--data", t.TempDir(), "--store", "mysql://u:hunter2secret@h/d"); !strings.Contains(said, "want postgres://") || strings.Contains(said, "hunter2secret") {
		t.Errorf("it said %s", said)
	}
}

// TestMigrateIntoPostgres: a server goes on from its folder's copy, with the same key.
func TestMigrateIntoPostgres(t *testing.T) {
	url := pgtest.Shared(t).Schema(t)
	dir := t.TempDir()
	p := serve(t, dir)
	asHost(t, p, "open", "sample", "--fields", "../../testdata/sample.json")
	migrate := func(want int, args ...string) string {
		t.Helper()
		var out strings.Builder
		if code := run(append([]string{"migrate"}, args...), streams{strings.NewReader(""), &out, &out}); code != want {
			t.Errorf("exit %d, want %d: %s", code, want, out.String())
		}
		return out.String()
	}
	if said := migrate(exitFailure, "--data", dir, "--store", url); !strings.Contains(said, "is in use by process") {
		t.Errorf("while it runs: %s", said)
	}
	check(t, p.end(os.Interrupt))
	if said := migrate(exitOK, "--data", dir, "--store", url); !strings.Contains(said, "1 document,") {
		t.Errorf("it said %s", said)
	}
	if said := migrate(exitOK, "--data", dir, "--store", url, "--json"); !strings.Contains(said, `"documents":1`) {
		t.Errorf("it said %s", said)
	}
	migrate(exitUsage, "--data", filepath.Join(dir, "missing"), "--store", url)
	migrate(exitUsage, "--data", dir, "--store", "a folder")
	p = serve(t, dir, "--store", url)
	asHost(t, p, "show", "sample")
	check(t, p.end(os.Interrupt))
	other := t.TempDir()
	p = serve(t, other)
	check(t, p.end(os.Interrupt))
	if said := migrate(exitUsage, "--data", other, "--store", url); !strings.Contains(said, "holds another store") {
		t.Errorf("into another's: %s", said)
	}
}

// shareKey lets servers with these data folders sign with the key of the first.
func shareKey(t *testing.T, first string, others ...string) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(first, keyFile))
	check(t, err)
	for _, dir := range others {
		check(t, os.WriteFile(filepath.Join(dir, keyFile), key, 0o600))
	}
}

// writeTo is a client that writes until its connection ends, and knows what was
// acknowledged.
func writeTo(ctx context.Context, p *process, id crdt.DocumentID, n int) (acked []crdt.Hash) {
	var w steadyWriter
	_ = w.write(ctx, p, id, n) // it may be killed
	return w.acked
}

// steadyWriter writes one change after the other over one connection.
type steadyWriter struct {
	count atomic.Int64 // of acked
	acked []crdt.Hash  // once write has returned
}

// write returns why it ended before it had written n changes.
func (w *steadyWriter) write(ctx context.Context, p *process, id crdt.DocumentID, n int) error {
	c, err := servertest.Dial(ctx, p.url, "")
	if err != nil {
		return err
	}
	defer c.CloseNow()
	d, err := c.Open(ctx, id)
	for i := 0; err == nil && i < n; i++ {
		var h crdt.Hash
		if h, err = d.Set(ctx, "key", int64(i)); err == nil {
			err = d.Acknowledged(ctx, h)
		}
		if err == nil {
			w.acked = append(w.acked, h)
			w.count.Add(1)
		}
	}
	return err
}

// TestKilledServers: of two servers that share a database and a document, one is
// killed again and again; whatever either has acknowledged is there.
func TestKilledServers(t *testing.T) {
	ctx := within(t, 60*time.Second)
	url := pgtest.Shared(t).Schema(t)
	first, second := t.TempDir(), t.TempDir()
	stays := serve(t, first, "--store", url)
	shareKey(t, first, second)
	id := servertest.NewDocumentID()
	var mu sync.Mutex
	var acked []crdt.Hash
	add := func(hs []crdt.Hash) {
		mu.Lock()
		acked = append(acked, hs...)
		mu.Unlock()
	}
	for range 3 {
		p := serve(t, second, "--store", url)
		var wg sync.WaitGroup
		wg.Go(func() { add(writeTo(ctx, stays, id, 15)) })
		for range 2 {
			wg.Go(func() { add(writeTo(ctx, p, id, 1000)) })
		}
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		_ = p.kill()
		wg.Wait()
	}
	if len(acked) < 3*15 {
		t.Errorf("only %d changes were acknowledged: the server that stayed did not go on", len(acked))
	}
	c, err := servertest.Dial(ctx, stays.url, "")
	check(t, err)
	defer c.CloseNow()
	d, err := c.Open(ctx, id)
	check(t, err)
	for _, h := range acked {
		check(t, d.Has(ctx, h))
	}
	t.Logf("%d acknowledged", len(acked))
}
