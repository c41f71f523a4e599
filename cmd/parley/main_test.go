package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"parley/server/store/pgtest"
)

// asBinary makes this test binary behave as parley, so that tests can start
// and kill real processes.
const asBinary = "PARLEY_TEST_AS_BINARY"

func TestMain(m *testing.M) {
	// A server starts its own executable for snapshots, with an empty environment.
	worker := len(os.Args) > 1 && os.Args[1] == "compact-worker"
	if worker || os.Getenv(asBinary) != "" {
		main()
	}
	testscript.Main(withPostgres{m}, map[string]func(){"parley": main})
}

// withPostgres stops the database that tests have started.
type withPostgres struct{ m *testing.M }

func (w withPostgres) Run() int { return pgtest.Main(w.m) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": serverCommand, "exits": exitsCommand, "lacks": lacksCommand, "into": intoCommand,
		},
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "TZ=UTC", "GORACE=atexit_sleep_ms=0")
			env.Values[scriptServer{}] = &scriptServer{t: t}
			return nil
		},
	})
}

// scriptServer is the server of one script.
type scriptServer struct {
	t *testing.T
	p *process
}

// serverCommand is "server start [FLAGS]" and "server stop": a real server for the
// script, whose address stays the same. Its log is the file server.log then.
func serverCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 || args[0] != "start" && (args[0] != "stop" || len(args) > 1) {
		ts.Fatalf("usage: server start [FLAGS] | server stop")
	}
	s := ts.Value(scriptServer{}).(*scriptServer)
	if args[0] == "stop" {
		ts.Check(s.p.end(os.Interrupt))
		ts.Check(os.WriteFile(ts.MkAbs("server.log"), []byte(s.p.output()), 0o600))
		return
	}
	listen := "127.0.0.1:0"
	if url := ts.Getenv("PARLEY_SERVER"); url != "" {
		listen = strings.TrimPrefix(url, "ws://")
	}
	s.p = serve(s.t, filepath.Join(ts.Getenv("WORK"), "data"), append([]string{"--listen", listen}, args[1:]...)...)
	ts.Setenv("PARLEY_SERVER", s.p.url)
}

// exitsCommand is "exits CODE COMMAND...": it must end with that code, and say
// why in one line.
func exitsCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d", args[1:], got, want)
	}
	if text := strings.TrimSpace(ts.ReadFile("stderr")); want != 0 && strings.Contains(text, "\n") {
		ts.Fatalf("more than one line of error: %s", text)
	}
}

// lacksCommand is "lacks FILE VARIABLE...": the values of these variables are
// nowhere in the file.
func lacksCommand(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, name := range args[1:] {
		value := ts.Getenv(name)
		if value == "" {
			ts.Fatalf("%s is not set", name)
		}
		for part := range strings.SplitSeq(value, ".") {
			if strings.Contains(text, part) {
				ts.Fatalf("%s holds a part of %s: %s", args[0], name, text)
			}
		}
	}
}

// intoCommand is "into VARIABLE COMMAND...": it sets a variable to what the command
// prints.
func intoCommand(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
