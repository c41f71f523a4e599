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
	if os.Getenv(asBinary) != "" {
		main()
	}
	// The server starts its own executable for snapshots: the scripts' parley
	// must be one that is still parley then.
	testscript.Main(m, map[string]func(){"parley": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
