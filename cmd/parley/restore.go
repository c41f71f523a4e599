package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"parley/server/inspect"
	"parley/server/store"
)

// restoreCmd puts a backup in place.
type restoreCmd struct {
	File string `arg:"" name:"FILE" help:"The backup, as parley backup writes it." type:"path"`
	Data string `help:"The data folder, which must be empty or missing." required:"" env:"PARLEY_DATA" type:"path" placeholder:"DIR"`
	JSON bool   `help:"Print JSON."`
}

// Help is shown by kong under the command's one line.
func (*restoreCmd) Help() string {
	return `All of the backup is checked first, as parley check does. Nothing is put in
place unless it is sound, and nothing is left then.

What is restored is the same store, under the same storage id, with the same
key. Never run both: what two servers sign would contradict each other.

Exit codes: 0 done, 1 it did not work, 2 the command line is wrong, or the folder
is not empty, 11 the backup is damaged, 130 interrupted.`
}

// restored is what restore prints as JSON.
type restored struct {
	Data      string     `json:"data"`
	Documents int        `json:"documents"`
	Changes   int        `json:"changes"`
	Newest    *time.Time `json:"newest"` // when the newest change came, null if that is not known
	Made      *time.Time `json:"made"`   // when the backup was made
	StorageID string     `json:"storageId"`
	Key       bool       `json:"key"` // the signing key was in it
}

func (c *restoreCmd) Run(io streams) error {
	ctx, stop := interruptible()
	defer stop()
	tell := newLateTeller(io.err)
	var report *inspect.Report
	done, err := store.Restore(ctx, c.File, c.Data, func(folder string) (err error) {
		report, err = checkData(ctx, folder, false, tell)
		if err == nil && !report.Sound {
			err = errDamaged
		}
		return err
	})
	tell.clear()
	if err != nil {
		return c.failed(err, report)
	}
	r := restored{
		Data: c.Data, Documents: done.Documents, Changes: done.Changes, Newest: momentOf(done.Newest), Made: momentOf(done.Made),
		StorageID: done.StorageID, Key: slices.Contains(done.Files, keyFile),
	}
	if c.JSON {
		return printJSON(io.out, r)
	}
	return r.print(io.out, slices.Contains(done.Files, publicFile))
}

var errDamaged = errors.New("it is damaged")

// failed says why nothing was restored.
func (c *restoreCmd) failed(err error, report *inspect.Report) error {
	var unreadable *store.UnreadableError
	var notEmpty *store.NotEmptyError
	var write *store.WriteError
	var foreign *store.ForeignError
	switch {
	case errors.As(err, &write):
		return err
	case errors.As(err, &foreign) && foreign.Err != nil:
		return &codedError{exitDamaged, fmt.Errorf("%s is damaged, or no backup (%w), and nothing was restored: use another", c.File, foreign.Err)}
	case errors.As(err, &foreign):
		return usagef("%s is no backup, but a database of another program: name a file that parley backup wrote", c.File)
	case errors.Is(err, errDamaged):
		return &codedError{exitDamaged, fmt.Errorf("%s is damaged, and nothing was restored: %s, the first in %s: parley check --data %s lists them; use another backup",
			c.File, count(len(report.Faults), "fault", "faults"), report.Faults[0].Where(), c.File)}
	case errors.As(err, &unreadable):
		return &codedError{exitDamaged, fmt.Errorf("nothing was restored: %w: use another backup", err)}
	case errors.As(err, &notEmpty):
		return usagef("%v", err)
	case errors.Is(err, fs.ErrNotExist):
		return usagef("there is no backup %s", c.File)
	case errors.Is(err, context.Canceled):
		return &codedError{exitInterrupted, errors.New("interrupted, nothing was restored")}
	}
	return err
}

func (r *restored) print(w io.Writer, hasPublic bool) error {
	newest := ""
	if r.Newest != nil {
		newest = ", the newest of " + r.Newest.Format("2006-01-02 15:04:05 UTC")
	}
	next := fmt.Sprintf("start it with: parley serve --data %s … (and never the store that this is a copy of)", r.Data)
	if hasPublic && !r.Key {
		next = fmt.Sprintf("the signing key was not in the backup: put %s into %s before the server starts", keyFile, r.Data)
	}
	_, err := fmt.Fprintf(w, "%s restored, checked and sound: %s, %s%s\n%s\n", r.Data,
		count(r.Documents, "document", "documents"), count(r.Changes, "change", "changes"), newest, next)
	return err
}
