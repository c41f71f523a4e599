// Parley is a sync server for transactions whose parties must agree. This is
// its one binary: the server, and the commands that talk to one.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Exit codes of every command. Commands with codes of their own list them in
// their help.
const (
	exitOK      = 0
	exitFailure = 1 // it was tried and did not work
	exitUsage   = 2 // the command line or the configuration is wrong
	exitRefused = 3 // the server refused it: who asks may not, or what is asked is wrong
	exitUnsaved = 4 // it is kept in the replica and not on the server yet

	// Those of parley ready.
	exitLapsed      = 5   // a change undid it before all were ready
	exitContested   = 6   // several values are picked for a field
	exitIncomplete  = 7   // nothing is picked for a required field
	exitStale       = 8   // that is not what there is any more
	exitWaiting     = 9   // not all were ready in time
	exitDamaged     = 11  // of parley check, backup, restore and serve: damage was found
	exitInterrupted = 130 // by SIGINT or SIGTERM, while it waited or worked
)

// cli is the command line. Each flag can also be given in the environment, as
// the help shows.
type cli struct {
	Open          openCmd          `cmd:"" help:"Create a transaction, or update its fields."`
	Pick          pickCmd          `cmd:"" help:"Pick a value for a field."`
	Withdraw      withdrawCmd      `cmd:"" help:"Take back what is picked for a field."`
	Ready         readyCmd         `cmd:"" help:"Confirm what is picked, and wait until all who must agree have."`
	Show          showCmd          `cmd:"" help:"Print a transaction: its fields and what is picked."`
	History       historyCmd       `cmd:"" help:"Print who picked what, when, and in place of what."`
	Export        exportCmd        `cmd:"" help:"Write the record of a transaction to a file that proves itself."`
	Join          joinCmd          `cmd:"" help:"Follow a transaction in a terminal, and pick."`
	Verify        verifyCmd        `cmd:"" help:"Verify a record that was exported, without any server."`
	Serve         serveCmd         `cmd:"" help:"Run the sync server."`
	Backup        backupCmd        `cmd:"" help:"Copy a server's data to a file, while it runs."`
	Migrate       migrateCmd       `cmd:"" help:"Copy a server's data folder into PostgreSQL."`
	Restore       restoreCmd       `cmd:"" help:"Put a backup into an empty data folder, once it is checked."`
	Check         checkCmd         `cmd:"" help:"Find out whether a server's data, or a backup, is as it was written."`
	Bench         benchCmd         `cmd:"" help:"Measure a server: how soon picks are saved and seen, and whether any are lost."`
	Token         tokenCmd         `cmd:"" help:"Make a token, or a key to make tokens with, or check one."`
	Version       versionCmd       `cmd:"" help:"Print the version."`
	CompactWorker compactWorkerCmd `cmd:"" hidden:"" help:"Make snapshots for a server, over standard input and output."`
}

const description = `A sync engine for people who must agree: the server, which speaks
automerge-repo's protocol, and the commands that talk to one.

Exit codes: 0 done, 1 tried and did not work, 2 wrong command line or
configuration, 3 refused by the server, 4 kept in the replica and not on the
server yet, 11 data is damaged; ready has more, see parley ready --help.`

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
		kong.Description(description),
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
		var coded *codedError
		if errors.As(err, &coded) {
			return report(io.err, coded.code, err)
		}
		return report(io.err, exitFailure, err)
	}
	return exitOK
}

func report(w io.Writer, code int, err error) int {
	fmt.Fprintf(w, "parley: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	return code
}

// usageError is a wrong command line or configuration.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}
