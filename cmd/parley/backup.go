package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"parley/server/audit"
	"parley/server/store"
)

// backupCmd copies a store.
type backupCmd struct {
	Data       string `help:"The server's data folder." default:"parley-data" env:"PARLEY_DATA" type:"path" placeholder:"DIR"`
	To         string `help:"File to write, or a folder to write a file in that is named after the time." required:"" type:"path" placeholder:"FILE"`
	WithoutKey bool   `help:"Leave out the key that the server signs with."`
	Force      bool   `help:"Write over a file that is there."`
	JSON       bool   `help:"Print JSON."`
}

// Help is shown by kong under the command's one line.
func (*backupCmd) Help() string {
	return `The server may run meanwhile, and goes on saving. The backup is of one moment:
all that was acknowledged before it began is in it. It is one file, whole or not
there, and holds the key that the server signs with: keep it as secret as that,
or leave the key out with --without-key and keep it elsewhere. parley check
--data FILE checks a backup, parley restore puts it in place.

Exit codes: 0 done, 1 it did not work, 2 the command line is wrong, or there is
such a file, 11 the server's data is damaged, 130 interrupted. Unless it is 0,
nothing was written.`
}

// backedUp is what backup prints as JSON.
type backedUp struct {
	File      string     `json:"file"`
	Documents int        `json:"documents"`
	Changes   int        `json:"changes"`
	Bytes     int64      `json:"bytes"`
	Newest    *time.Time `json:"newest"` // when the newest change came, null if that is not known
	Key       bool       `json:"key"`    // the signing key is in it
}

func (c *backupCmd) Run(io streams) error {
	file, err := c.target()
	if err != nil {
		return err
	}
	files, err := keyFiles(c.Data, c.WithoutKey)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	tell := newLateTeller(io.err)
	held, err := store.Backup(ctx, c.Data, file, store.BackupOptions{Files: files, Force: c.Force, Progress: tell.copied})
	tell.clear()
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s is there already: --force writes over it, --to names another", file)
	}
	if err != nil {
		return explained(c.Data, err)
	}
	done := backedUp{File: file, Documents: held.Documents, Changes: held.Changes, Bytes: held.Bytes, Newest: momentOf(held.Newest), Key: hasKey(files)}
	if c.JSON {
		return printJSON(io.out, done)
	}
	return done.print(io.out, c.WithoutKey)
}

// target is the file to write.
func (c *backupCmd) target() (string, error) {
	file := c.To
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, time.Now().UTC().Format("parley-20060102T150405Z")+".backup")
	}
	into, err1 := os.Stat(filepath.Dir(file))
	data, err2 := os.Stat(c.Data)
	if err1 == nil && err2 == nil && os.SameFile(into, data) {
		return "", usagef("--to %s is in the server's data folder, which would be lost together: choose another place, best on another disk", file)
	}
	return file, nil
}

func momentOf(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

func (b *backedUp) print(w io.Writer, left bool) error {
	newest := ""
	if b.Newest != nil {
		newest = ", the newest of " + b.Newest.Format("2006-01-02 15:04:05 UTC")
	}
	key := "the server's signing key is in it: keep it as secret as the key"
	switch {
	case left:
		key = "the server's signing key is not in it: keep " + keyFile + " elsewhere, without it nothing can be signed as before"
	case !b.Key:
		key = "there is no signing key yet: the server makes one at its first start"
	}
	_, err := fmt.Fprintf(w, "%s written: %s, %s%s, %s\n%s\n", b.File,
		count(b.Documents, "document", "documents"), count(b.Changes, "change", "changes"), newest, sizeText(b.Bytes), key)
	return err
}

func hasKey(files []store.File) bool {
	return slices.ContainsFunc(files, func(f store.File) bool { return f.Name == keyFile })
}

// keyFiles reads the signing key and its public half from a data folder. Neither is
// there before the server's first start.
func keyFiles(dir string, withoutKey bool) (files []store.File, err error) {
	public, err := os.ReadFile(filepath.Join(dir, publicFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	hasPublic := err == nil
	if hasPublic {
		files = append(files, store.File{Name: publicFile, Mode: 0o644, Data: public})
	}
	if withoutKey {
		return files, nil
	}
	path := filepath.Join(dir, keyFile)
	key, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && hasPublic:
		return nil, fmt.Errorf("%s is gone, and %s is there: put the key back from where it is kept, or leave it out with --without-key", path, publicFile)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the signing key: %w: run this as the server's user, or leave the key out with --without-key", err)
	}
	if _, err := audit.ParseKey(string(key)); err != nil {
		return nil, &codedError{exitDamaged, fmt.Errorf("%s: %w: put back the one that was there, or leave it out with --without-key", path, err)}
	}
	return append(files, store.File{Name: keyFile, Mode: 0o600, Data: key}), nil
}
