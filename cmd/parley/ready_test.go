package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// waiting is a parley ready that waits for the others.
type waiting struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder
}

// getReady starts one and returns when it has confirmed.
func getReady(t *testing.T, url string, args ...string) *waiting {
	t.Helper()
	w := &waiting{t: t, cmd: command(within(t, 30*time.Second), url, append([]string{"ready", "deal"}, args...)...)}
	w.cmd.Stderr = &w.stderr
	out, err := w.cmd.StdoutPipe()
	check(t, err)
	w.lines = bufio.NewScanner(out)
	check(t, w.cmd.Start())
	w.see("you are ready for this")
	return w
}

// see reads until a line has the text.
func (w *waiting) see(text string) {
	w.t.Helper()
	for w.lines.Scan() {
		if strings.Contains(w.lines.Text(), text) {
			return
		}
	}
	w.t.Fatalf("ready ended without %q: %s", text, w.stderr.String())
}

// ends checks its exit code and what it says last.
func (w *waiting) ends(code int, text string) {
	w.t.Helper()
	last := ""
	for w.lines.Scan() {
		last = w.lines.Text()
	}
	_ = w.cmd.Wait()
	if got := w.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(last+w.stderr.String(), text) {
		w.t.Errorf("exit %d, want %d with %q: %s\n%s", got, code, text, last, w.stderr.String())
	}
}

// says checks one command's exit code and what it prints.
func says(t *testing.T, url string, code int, text string, args ...string) string {
	t.Helper()
	out, got := parley(t, url, args...)
	if got != code || !strings.Contains(out, text) {
		t.Errorf("parley %s: exit %d, want %d with %q:\n%s", strings.Join(args, " "), got, code, text, out)
	}
	return out
}

func TestReady(t *testing.T) {
	data := t.TempDir()
	p := serve(t, data)
	openDeal(t, p.url)
	says(t, p.url, exitIncomplete, `nothing is picked for "price"`, "ready", "deal", "--user", "alice")
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "100", "--user", "alice")
	says(t, p.url, exitRefused, "only parties confirm, and you are here as viewer", "ready", "deal", "--user", "vera", "--role", "viewer")
	before := headsOf(t, p.url)

	alice := getReady(t, p.url, "--user", "alice")
	alice.see("1 of 2 ready, waiting for another party")
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "110", "--user", "bob")
	alice.ends(exitLapsed, "you are not ready any more: bob changed Price")
	says(t, p.url, exitStale, "has changed since", "ready", "deal", "--user", "alice", "--at", before)

	says(t, p.url, exitWaiting, "not all are ready after 100ms: 1 of 2 ready, waiting for another party", "ready", "deal", "--user", "alice", "--wait", "100ms")
	alice = getReady(t, p.url, "--user", "alice")
	check(t, alice.cmd.Process.Signal(os.Interrupt))
	alice.ends(exitInterrupted, "interrupted: you are not ready")

	alice = getReady(t, p.url, "--user", "alice", "--at", headsOf(t, p.url)[:8])
	says(t, p.url, exitOK, "agreed by alice and bob (resolution 1)", "ready", "deal", "--user", "bob")
	alice.ends(exitOK, "agreed by alice and bob (resolution 1)")
	says(t, p.url, exitOK, "agreed by alice and bob, ", "show", "deal")

	// It survives a restart, and what comes later opens the transaction again.
	check(t, p.end(os.Interrupt))
	p = serve(t, data)
	says(t, p.url, exitOK, "(resolution 1)", "show", "deal")
	says(t, p.url, exitOK, "(resolution 1)", "ready", "deal", "--user", "alice")
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "120", "--user", "bob")
	says(t, p.url, exitOK, "agreed on before, but not on this", "show", "deal")
}

// Whose confirmation does not count is told so.
func TestReadyOfSomebodyElse(t *testing.T) {
	p := serve(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "named.json")
	check(t, os.WriteFile(file, []byte(`{"fields": {"price": {"label": "Price"}}, "parties": ["alice", "bob"]}`), 0o600))
	says(t, p.url, exitOK, "created", "open", "deal", "--fields", file, "--user", "holly")
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "100", "--user", "alice")
	out := says(t, p.url, exitWaiting, "you are ready for this, but not one of those who must agree\n", "ready", "deal", "--user", "mallory", "--wait", "50ms")
	if !strings.Contains(out, "you are not asked, 0 of 2 ready, waiting for alice (not here) and bob (not here)") {
		t.Errorf("printed\n%s", out)
	}
	out = says(t, p.url, exitWaiting, "you are ready for this\n", "ready", "deal", "--user", "alice", "--wait", "50ms")
	if strings.Contains(out, "not asked") {
		t.Errorf("printed\n%s", out)
	}
}

// headsOf returns what show prints after "heads".
func headsOf(t *testing.T, url string) string {
	t.Helper()
	out, _ := parley(t, url, "show", "deal")
	_, heads, ok := strings.Cut(out, "heads ")
	if !ok {
		t.Fatalf("show prints\n%s", out)
	}
	return strings.TrimSpace(heads)
}

func TestReadyIsContested(t *testing.T) {
	p := serve(t, t.TempDir())
	openDeal(t, p.url)
	dir := t.TempDir()
	as := func(user string) []string { return []string{"--user", user, "--replica", dir} }
	for _, user := range []string{"alice", "bob"} {
		says(t, p.url, exitOK, "", append([]string{"show", "deal"}, as(user)...)...)
		says(t, p.url, exitUnsaved, "not on the server", append([]string{"pick", "deal", "price", user, "--offline"}, as(user)...)...)
	}
	for _, user := range []string{"alice", "bob"} { // brings the picks there
		says(t, p.url, exitOK, "", append([]string{"show", "deal"}, as(user)...)...)
	}
	for _, user := range []string{"alice", "bob"} {
		says(t, p.url, exitContested, `several values are picked for "price"`, append([]string{"ready", "deal"}, as(user)...)...)
	}
}

func TestReadySaysItInJSON(t *testing.T) {
	p := serve(t, t.TempDir())
	openDeal(t, p.url)
	outcome := func(code int, args ...string) readyOutcome {
		t.Helper()
		cmd := command(within(t, 30*time.Second), p.url, append([]string{"ready", "deal", "--json"}, args...)...)
		out, _ := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("exit %d, want %d", got, code)
		}
		var o readyOutcome
		check(t, json.Unmarshal(out, &o))
		return o
	}
	if o := outcome(exitIncomplete, "--user", "alice"); o.Outcome != "incomplete" || len(o.Fields) != 1 || o.Message == "" {
		t.Errorf("incomplete: %+v", o)
	}
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "100", "--user", "alice")
	if o := outcome(exitWaiting, "--user", "alice", "--wait", "50ms"); o.Outcome != "waiting" || len(o.Heads) != 1 {
		t.Errorf("waiting: %+v", o)
	}
	bob := getReady(t, p.url, "--user", "bob")
	o := outcome(exitOK, "--user", "alice")
	bob.ends(exitOK, "agreed")
	if o.Outcome != "resolved" || o.Resolution == nil || len(o.Resolution.Parties) != 2 || o.Resolution.Quorum != 2 {
		t.Errorf("resolved: %+v", o)
	}
}

func TestReadyWantsAServer(t *testing.T) {
	nobody := "ws://127.0.0.1:1"
	says(t, nobody, exitFailure, "is parley serve running there?", "ready", "deal", "--user", "alice")
	says(t, nobody, exitFailure, "is parley serve running there?", "ready", "deal", "--user", "alice", "--replica", t.TempDir())
	says(t, nobody, exitUsage, "--user NAME", "ready", "deal")
	says(t, nobody, exitUsage, "leave --offline out", "ready", "deal", "--user", "alice", "--offline", "--replica", t.TempDir())
	says(t, nobody, exitUsage, "--wait must not be negative", "ready", "deal", "--user", "alice", "--wait=-1s")
}

// TestJoinShowsPeople in lines and in JSON.
func TestJoinShowsPeople(t *testing.T) {
	p := serve(t, t.TempDir(), "--grace", "300ms")
	openDeal(t, p.url)
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "100", "--user", "alice")
	lines, objects := follow(t, p.url, "--user", "alice"), follow(t, p.url, "--user", "vera", "--role", "viewer", "--json")
	lines.see("vera (viewer) is here")
	bob := getReady(t, p.url, "--user", "bob")
	lines.see("bob is ready")
	objects.see(`"user":"bob","name":"","role":"party","state":"online","connections":1,"ready":true`)
	lines.see("1 of 2 ready, waiting for alice")
	says(t, p.url, exitOK, "saved", "pick", "deal", "price", "110", "--user", "alice")
	lines.see("bob is not ready any more: alice changed Price")
	objects.see(`"lapses":[{"user":"bob","because":{"field":"price","user":"alice"`)
	bob.ends(exitLapsed, "alice changed Price")
	lines.see("bob has left")

	carol := follow(t, p.url, "--user", "carol")
	lines.see("carol is here")
	check(t, carol.cmd.Process.Kill()) // without a word
	lines.see("carol is reconnecting")
	lines.see("carol has left")
	_ = carol.cmd.Wait()

	bob = getReady(t, p.url, "--user", "bob")
	says(t, p.url, exitOK, "agreed by alice and bob", "ready", "deal", "--user", "alice")
	lines.see("agreed by alice and bob (resolution 1)")
	objects.see(`"resolution":{"n":1`)
	bob.ends(exitOK, "agreed")
}
