package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"parley/server/audit"
	"parley/server/inspect"
	"parley/server/store"
)

// checkCmd finds out whether a store is as it was written.
type checkCmd struct {
	Data  string `help:"The server's data folder, or the file of a backup." default:"parley-data" env:"PARLEY_DATA" type:"path" placeholder:"PATH"`
	Quick bool   `help:"Leave out what takes long: indices, what changes say, and what was signed."`
	JSON  bool   `help:"Print JSON."`
}

// Help is shown by kong under the command's one line.
func (*checkCmd) Help() string {
	return `It reads everything: the database's structure; of each document that every
change is there, has its hash and its receipt, builds on earlier ones only and
keeps to the rules; what the parties agreed on, and what was signed of it; and
what is kept for speed. It alters nothing, and the server may run meanwhile.

Exit codes: 0 sound, 11 damage was found, 1 it could not be found out, 2 the
command line is wrong, 130 interrupted.`
}

func (c *checkCmd) Run(io streams) error {
	ctx, stop := interruptible()
	defer stop()
	tell := newLateTeller(io.err)
	report, err := checkData(ctx, c.Data, c.Quick, tell)
	tell.clear()
	if err != nil {
		return explained(c.Data, err)
	}
	if c.JSON {
		err = printJSON(io.out, report)
	} else {
		err = printReport(io.out, report)
	}
	if err == nil && !report.Sound {
		err = &codedError{exitDamaged, fmt.Errorf("%s is damaged: %s, see README, Backup and restore", c.Data, count(len(report.Faults), "fault", "faults"))}
	}
	return err
}

func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// checkData checks a data folder or a backup, with the key that is in it. What is
// damaged beyond opening is a fault.
func checkData(ctx context.Context, path string, quick bool, tell *lateTeller) (*inspect.Report, error) {
	r, err := store.Read(path)
	var foreign *store.ForeignError
	if errors.As(err, &foreign) && foreign.Err != nil {
		report := &inspect.Report{Quick: quick, Notes: []string{}}
		report.Add(inspect.Fault{In: inspect.InDatabase, What: fmt.Sprintf("it cannot be opened: %v", foreign.Err), Do: "restore the store from a backup (parley restore)"})
		return report, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	public, broken := publicKey(r, path)
	report, err := inspect.Run(ctx, r, inspect.Options{Quick: quick, Public: public, Progress: tell.checked})
	if err != nil {
		return nil, err
	}
	if broken != nil {
		report.Add(inspect.Fault{In: inspect.InKey, What: broken.Error(), Do: "put back the one that was there, from a backup"})
	}
	return report, nil
}

// publicKey returns the key that a store's agreements are signed by, nil if there is
// none, and what is wrong with the key files.
func publicKey(r *store.Reading, path string) (*audit.Public, error) {
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(path, name)) }
	if r.Backup() != nil {
		files, err := r.Files()
		if err != nil {
			return nil, err
		}
		read = func(name string) ([]byte, error) { return fileNamed(files, name) }
	}
	var key *audit.Key
	text, err := read(keyFile)
	if err == nil {
		if key, err = audit.ParseKey(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", keyFile, err)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	text, err = read(publicFile)
	if errors.Is(err, fs.ErrNotExist) {
		if key == nil {
			return nil, nil
		}
		public := key.Public()
		return &public, nil
	}
	if err != nil {
		return nil, err
	}
	public, err := audit.ParsePublic(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", publicFile, err)
	}
	if key != nil && key.Public().Text() != public.Text() {
		return &public, fmt.Errorf("%s is not the public half of %s", publicFile, keyFile)
	}
	return &public, nil
}

func fileNamed(files []store.File, name string) ([]byte, error) {
	for _, f := range files {
		if f.Name == name {
			return f.Data, nil
		}
	}
	return nil, fs.ErrNotExist
}

// explained makes an error of the store's one that says what to do.
func explained(path string, err error) error {
	var unreadable *store.UnreadableError
	var foreign *store.ForeignError
	var write *store.WriteError
	switch {
	case errors.Is(err, context.Canceled):
		return &codedError{exitInterrupted, errors.New("interrupted, nothing was done")}
	case errors.As(err, &write):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return usagef("%v: --data names the folder of the server", strings.TrimSuffix(err.Error(), ": "+fs.ErrNotExist.Error()))
	case errors.As(err, &unreadable):
		return &codedError{exitDamaged, fmt.Errorf("%s is damaged: %w: parley check --data %s says more", path, err, path)}
	case errors.As(err, &foreign) && foreign.Err != nil:
		return &codedError{exitDamaged, err}
	}
	return err
}

func printReport(w io.Writer, r *inspect.Report) error {
	var b strings.Builder
	said := "sound"
	if r.Quick {
		said = "nothing wrong as far as a quick look goes"
	}
	if !r.Sound {
		said = count(len(r.Faults), "fault", "faults")
	}
	fmt.Fprintf(&b, "%s, %s, %s: %s\n", count(r.Documents, "document", "documents"), count(r.Changes, "change", "changes"), sizeText(r.Bytes), said)
	const width = 100
	for _, f := range r.Faults {
		b.WriteString("\n" + plain(f.Where()) + "\n")
		writeItem(&b, f.What, width)
		writeItem(&b, "to do: "+f.Do, width)
	}
	if len(r.Notes) > 0 {
		b.WriteString("\nNo fault, and worth knowing:\n")
	}
	for _, note := range r.Notes {
		writeItem(&b, note, width)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sizeText is a number of bytes for people.
func sizeText(bytes int64) string {
	switch {
	case bytes < 1e6:
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	case bytes < 1e9:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}

// lateTeller says on a terminal how it goes, once that takes a while.
type lateTeller struct {
	*teller
	from time.Time
}

func newLateTeller(w io.Writer) *lateTeller {
	const patience = time.Second
	return &lateTeller{teller: newTeller(w), from: time.Now().Add(patience)}
}

func (t *lateTeller) tell(format string, args ...any) {
	if t.width > 0 && !time.Now().Before(t.from) {
		t.line(format, args...)
	}
}

// checked is told by a check. Nothing is heard of SQLite until it is done.
func (t *lateTeller) checked(documents, total, changes int) {
	if total == 0 {
		t.from = time.Time{}
		t.tell("checking the database's structure")
		return
	}
	t.tell("checked %d of %d documents, %d changes", documents, total, changes)
}

// copied is told by a backup.
func (t *lateTeller) copied(done, total int) { t.tell("copied %d%%", done*100/max(total, 1)) }
