package main

import (
	"errors"
	"fmt"

	"parley/server/store"
	"parley/server/store/postgres"
)

// migrateCmd copies a data folder into PostgreSQL.
type migrateCmd struct {
	Data  string `help:"The server's data folder." default:"parley-data" env:"PARLEY_DATA" type:"path" placeholder:"DIR"`
	Store string `help:"The database, as parley serve takes it (postgres://USER:PASSWORD@HOST/DATABASE)." required:"" env:"PARLEY_STORE" placeholder:"URL"`
	JSON  bool   `help:"Print JSON."`
}

// Help is shown by kong under the command's one line.
func (*migrateCmd) Help() string {
	return `The server of the folder must be stopped, and none takes the database before this
is done. All that is copied is read again and compared. The database must be
empty, or hold what was copied from this folder: after an interruption run it
again. What is in the folder stays as it is, with the key that the server signs
with: keep it as --data, start servers with --store, and never one without.

Exit codes: 0 done, 1 it did not work, 2 the command line is wrong, or the
database holds something else, 11 the folder is damaged, 130 interrupted.`
}

// Validate is called by kong after parsing.
func (c *migrateCmd) Validate() error {
	if !postgres.IsURL(c.Store) {
		return errors.New("--store: want postgres://USER:PASSWORD@HOST/DATABASE")
	}
	return nil
}

// migrated is what migrate prints as JSON.
type migrated struct {
	Store       string `json:"store"` // without the password
	Documents   int    `json:"documents"`
	Changes     int    `json:"changes"`
	Revocations int    `json:"revocations"`
}

func (c *migrateCmd) Run(io streams) error {
	ctx, stop := interruptible()
	defer stop()
	log, err := newLogger(io, "info") // for a database that is waited for
	if err != nil {
		return err
	}
	done, err := postgres.Migrate(ctx, c.Data, c.Store, store.Options{Logger: log})
	var other *postgres.OtherContentError
	var damaged *store.DamagedError
	switch {
	case ctx.Err() != nil && err != nil:
		return &codedError{exitInterrupted, errors.New("interrupted: run it again, it goes on where it was")}
	case errors.As(err, &other):
		return usagef("%v", other)
	case errors.As(err, &damaged):
		return &codedError{exitDamaged, err}
	case err != nil:
		return explained(c.Data, err)
	}
	if c.JSON {
		return printJSON(io.out, migrated{postgres.Place(c.Store), done.Documents, done.Changes, done.Revocations})
	}
	_, err = fmt.Fprintf(io.out, "copied and compared: %s, %s and %s\nstart the server with --store and the same --data, which holds its key\n",
		count(done.Documents, "document", "documents"), count(done.Changes, "change", "changes"), count(done.Revocations, "revocation", "revocations"))
	return err
}
