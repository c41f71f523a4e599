package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
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
	testscript.Main(m, map[string]func(){"parley": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
