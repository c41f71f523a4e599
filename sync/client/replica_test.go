package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"parley/crdt"
)

// asChild makes the test binary a client on the folder that it names.
const asChild = "PARLEY_CLIENT_TEST_REPLICA"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asChild); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// child picks until it is killed, and names each change that it was told is kept.
func child(dir string) {
	c, err := Open(context.Background(), Options{Transaction: tx, User: "alice", Replica: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		h, err := c.Pick(context.Background(), fmt.Sprintf("field-%d", i%20), json.RawMessage(`"x"`), "")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(h)
	}
}

func logPath(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", logName))
	check(t, err)
	if len(paths) != 1 {
		t.Fatalf("logs: %q", paths)
	}
	return paths[0]
}

func has(c *Client, h crdt.Hash) bool {
	_, err := c.AsOf([]crdt.Hash{h})
	return err == nil
}

func TestOfflinePicksSurviveClose(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	a, b := put(t, c, "a"), put(t, c, "b")
	closeNow(t, c)
	c = open(t, Options{Replica: dir})
	if !has(c, a) || !has(c, b) || c.Synced().Pending != 2 {
		t.Fatalf("opened again: %+v", c.View())
	}
	put(t, c, "c") // continues
	closeNow(t, c)

	srv := startServer(t)
	c = open(t, Options{Replica: dir, Server: srv.url()})
	until(t, c, "saved", saved)
	closeNow(t, c)
	c = open(t, Options{Replica: dir})
	if s := c.Synced(); !s.Saved || s.Current {
		t.Errorf("what the server has was forgotten: %+v", s)
	}
	if n := len(c.Selections()); n != 3 {
		t.Errorf("%d selections", n)
	}
}

func TestAKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var kept []string
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asChild+"="+dir)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 20 + 10*round {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			kept = append(kept, lines.Text())
		}
		check(t, cmd.Process.Kill())
		for lines.Scan() { // what it had said when it was killed counts too
			if len(lines.Text()) == 64 {
				kept = append(kept, lines.Text())
			}
		}
		_ = cmd.Wait() // killed
	}
	srv := startServer(t)
	alice := open(t, Options{Replica: dir, Server: srv.url()})
	for _, text := range kept {
		h, err := crdt.ParseHash(text)
		if err != nil {
			t.Fatalf("the child said: %s", text)
		}
		if !has(alice, h) {
			t.Errorf("change %s is lost", h)
		}
	}
	until(t, alice, "saved", saved)
	bob := open(t, Options{User: "bob", Server: srv.url()})
	until(t, bob, "all fields", func(v View) bool { return len(v.Selections) == 20 })
}

func TestATornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	a, b := put(t, c, "a"), put(t, c, "b")
	closeNow(t, c)
	info, err := os.Stat(logPath(t, dir))
	check(t, err)
	check(t, os.Truncate(logPath(t, dir), info.Size()-1))
	c = open(t, Options{Replica: dir})
	if !has(c, a) || has(c, b) {
		t.Error("not cut where it was torn")
	}
	d := put(t, c, "d")
	closeNow(t, c)
	if c = open(t, Options{Replica: dir}); !has(c, a) || !has(c, d) {
		t.Error("what was picked after the cut is lost")
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Replica: dir})
	_, err := Open(t.Context(), Options{Transaction: tx, User: "alice", Replica: dir})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), "end that one first") {
		t.Fatalf("opened twice: %v", err)
	}
	open(t, Options{Replica: dir, User: "bob"}) // has a replica of his own
}

// A disk that takes nothing: who picks is told, nothing is half there, and when
// there is room again all goes on.
func TestADiskThatFails(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	a := put(t, c, "a")
	fail := func(on bool) {
		check(t, c.post(func(k *keeper) {
			if on {
				check(t, k.replica.log.file.Close())
				k.replica.log.dir = filepath.Join(dir, "nowhere")
				return
			}
			k.replica.log.dir = filepath.Dir(logPath(t, dir))
		}))
	}
	fail(true)
	for range 2 { // the append fails, then making the file anew does
		if h, err := c.Pick(t.Context(), "b", json.RawMessage("1"), ""); err == nil || h != (crdt.Hash{}) {
			t.Fatalf("picked without a disk: %v", h)
		}
	}
	if v := c.View(); len(v.Selections) != 1 || v.Synced.Pending != 1 {
		t.Errorf("half there: %+v", v)
	}
	fail(false)
	b := put(t, c, "b")
	closeNow(t, c)
	if c = open(t, Options{Replica: dir}); !has(c, a) || !has(c, b) || len(c.Selections()) != 2 {
		t.Errorf("opened again: %+v", c.View())
	}
}

// A pick is reported when the disk says that it has it, and not when it does not.
func TestPicksAreOnDiskBeforeTheyAreReported(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	synced := 0
	var failure error
	check(t, c.post(func(k *keeper) {
		k.replica.log.sync = func(f *os.File) error {
			synced++
			return errors.Join(failure, f.Sync())
		}
	}))
	a := put(t, c, "a")
	if synced != 1 {
		t.Errorf("%d fsyncs before the pick was reported", synced)
	}
	failure = errors.New("bad sector")
	if _, err := c.Pick(t.Context(), "b", json.RawMessage("1"), ""); !errors.Is(err, failure) || len(c.Selections()) != 1 {
		t.Errorf("picked without the disk: %v", err)
	}
	failure = nil
	d := put(t, c, "d")
	closeNow(t, c)
	if c = open(t, Options{Replica: dir}); !has(c, a) || !has(c, d) || len(c.Selections()) != 2 {
		t.Errorf("opened again: %+v", c.View())
	}
}

func TestAReplicaOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Replica: dir})
	put(t, c, "a")
	closeNow(t, c)
	mine := filepath.Dir(logPath(t, dir))
	check(t, os.Rename(mine, filepath.Join(dir, replicaName(tx.Document(), "bob"))))
	if _, err := Open(t.Context(), Options{Transaction: tx, User: "bob", Replica: dir}); err == nil || !strings.Contains(err.Error(), "alice") {
		t.Errorf("opened: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, opt := range map[string]Options{
		"no transaction": {User: "alice"},
		"no user":        {Transaction: tx},
		"no scheme":      {Transaction: tx, User: "alice", Server: "localhost:8080"},
		"no host":        {Transaction: tx, User: "alice", Server: "ws://"},
		"no subject":     {Transaction: tx, Token: "x.y.z"},
	} {
		if c, err := Open(t.Context(), opt); err == nil {
			t.Errorf("%s: opened", name)
			closeNow(t, c)
		}
	}
}

func TestClosedClients(t *testing.T) {
	c := open(t, Options{})
	put(t, c, "a")
	w := c.Watch(t.Context())
	closeNow(t, c)
	closeNow(t, c)
	for range w { // ends
	}
	if _, err := c.Pick(t.Context(), "b", json.RawMessage("1"), ""); !errors.Is(err, ErrClosed) {
		t.Errorf("picked: %v", err)
	}
	if len(c.Selections()) != 1 {
		t.Error("the last view is gone")
	}
	for range c.Watch(t.Context()) { // the last view, and the end
	}
}
