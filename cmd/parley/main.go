// Parley is a sync server for transactions whose parties must agree. This is
// its one binary: the server, and the commands that talk to one.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// Exit codes of every command. Commands with codes of their own list them in
// their help.
const (
	exitOK      = 0
	exitFailure = 1 // it was tried and did not work
	exitUsage   = 2 // the command line or the configuration is wrong
)

// cli is the command line. Each flag can also be given in the environment, as
// the help shows.
type cli struct {
	Serve         serveCmd         `cmd:"" help:"Run the sync server."`
	Version       versionCmd       `cmd:"" help:"Print the version."`
	CompactWorker compactWorkerCmd `cmd:"" hidden:"" help:"Make snapshots for a server, over standard input and output."`
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run executes one command line and returns the exit code. Errors go to
// stderr, in one line that says what to do.
func run(args []string, io streams) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("parley"),
		kong.Description("A sync server for people who must agree. It speaks automerge-repo's protocol."),
		kong.UsageOnError(),
		kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { exit = code }),
		kong.Bind(io),
	)
	if err != nil {
		panic(err) // the cli struct is wrong
	}
	k, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		return report(io.err, exitUsage, err)
	}
	if err := k.Run(); err != nil {
		var usage *usageError
		if errors.As(err, &usage) {
			return report(io.err, exitUsage, err)
		}
		return report(io.err, exitFailure, err)
	}
	return exitOK
}

func report(w io.Writer, code int, err error) int {
	fmt.Fprintf(w, "parley: %v\n", err)
	return code
}

// usageError is a wrong command line or configuration.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}
