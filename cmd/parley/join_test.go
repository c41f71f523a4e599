package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// parley runs a command on a server and returns what it printed and its exit
// code.
func parley(t *testing.T, url string, args ...string) (string, int) {
	t.Helper()
	cmd := command(within(t, 30*time.Second), url, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func command(ctx context.Context, url string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asBinary+"=1", "PARLEY_SERVER="+url, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// follower is a parley join without a terminal.
type follower struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder
}

func follow(t *testing.T, url string, args ...string) *follower {
	t.Helper()
	f := &follower{t: t, cmd: command(within(t, 30*time.Second), url, append([]string{"join", "deal"}, args...)...)}
	f.cmd.Stderr = &f.stderr
	out, err := f.cmd.StdoutPipe()
	check(t, err)
	f.lines = bufio.NewScanner(out)
	check(t, f.cmd.Start())
	return f
}

// see reads until a line has the text.
func (f *follower) see(text string) {
	f.t.Helper()
	var all []string
	for f.lines.Scan() {
		all = append(all, f.lines.Text())
		if strings.Contains(f.lines.Text(), text) {
			return
		}
	}
	f.t.Fatalf("join ended without %q; it printed:\n%s\n%s", text, strings.Join(all, "\n"), f.stderr.String())
}

// interrupt ends it and returns the exit code.
func (f *follower) interrupt() int {
	check(f.t, f.cmd.Process.Signal(os.Interrupt))
	for f.lines.Scan() {
	}
	_ = f.cmd.Wait()
	return f.cmd.ProcessState.ExitCode()
}

func openDeal(t *testing.T, url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fields.json")
	check(t, os.WriteFile(file, []byte(`{"fields":{"price":{"label":"Price","required":true,"options":{}}}}`), 0o600))
	if out, code := parley(t, url, "open", "deal", "--fields", file, "--user", "holly"); code != exitOK {
		t.Fatalf("exit %d: %s", code, out)
	}
}

func TestJoinWithoutATerminal(t *testing.T) {
	p := serve(t, t.TempDir())
	if out, code := parley(t, p.url, "join", "deal", "--user", "alice"); code != exitFailure || !strings.Contains(out, "no such transaction") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := parley(t, p.url, "join", "deal"); code != exitUsage || !strings.Contains(out, "--user NAME") {
		t.Errorf("exit %d: %s", code, out)
	}
	openDeal(t, p.url)
	lines, objects := follow(t, p.url, "--user", "alice"), follow(t, p.url, "--user", "vera", "--role", "viewer", "--json")
	lines.see("price: missing")
	objects.see(`"missing":["price"]`)
	parley(t, p.url, "pick", "deal", "price", "120", "--user", "bob")
	lines.see("price: 120 by bob")
	objects.see(`"value":120`)
	check(t, p.end(os.Interrupt))
	lines.see("reconnecting, saved")
	objects.see(`"connection":"reconnecting"`)
	if code := lines.interrupt(); code != exitOK {
		t.Errorf("exit %d: %s", code, lines.stderr.String())
	}
	if code := objects.interrupt(); code != exitOK {
		t.Errorf("exit %d: %s", code, objects.stderr.String())
	}
}

func TestJoinOfflineSaysWhatIsNotSaved(t *testing.T) {
	replica := t.TempDir()
	if out, code := parley(t, "", "pick", "deal", "price", "7", "--user", "alice", "--replica", replica, "--offline", "--server", "ws://127.0.0.1:1"); code != exitUnsaved {
		t.Fatalf("exit %d: %s", code, out)
	}
	f := follow(t, "ws://127.0.0.1:1", "--user", "alice", "--replica", replica, "--offline")
	f.see("offline, 1 change not saved yet")
	f.see("price: 7 by alice")
	if code := f.interrupt(); code != exitUnsaved || !strings.Contains(f.stderr.String(), "kept in the replica") {
		t.Errorf("exit %d: %s", code, f.stderr.String())
	}
}

// TestKilledOffline: what was picked without a server is sent by the next
// process that has the replica.
func TestKilledOffline(t *testing.T) {
	data, replica := t.TempDir(), t.TempDir()
	p := serve(t, data)
	openDeal(t, p.url)
	if out, code := parley(t, p.url, "show", "deal", "--user", "alice", "--replica", replica); code != exitOK {
		t.Fatalf("exit %d: %s", code, out)
	}
	check(t, p.end(os.Interrupt))
	parley(t, p.url, "pick", "deal", "price", "7", "--user", "alice", "--replica", replica)
	f := follow(t, p.url, "--user", "alice", "--replica", replica)
	f.see("price: 7 by alice")
	check(t, f.cmd.Process.Kill())
	_ = f.cmd.Wait()

	p = serve(t, data, "--listen", strings.TrimPrefix(p.url, "ws://"))
	f = follow(t, p.url, "--user", "alice", "--replica", replica)
	f.see("online, saved")
	if out, _ := parley(t, p.url, "show", "deal"); !strings.Contains(out, "7       alice") {
		t.Errorf("the server has\n%s", out)
	}
	if code := f.interrupt(); code != exitOK {
		t.Errorf("exit %d: %s", code, f.stderr.String())
	}
}
