package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// exportCmd writes the record of a transaction.
type exportCmd struct {
	clientFlags
	txArg
	Out    string `short:"o" help:"File to write, - for standard output (default: TX.zip or TX.csv)." placeholder:"FILE"`
	Format string `help:"zip, the whole record, signed; or csv, the fields and what is picked." enum:"zip,csv" default:"zip"`
	At     string `help:"As it was at these changes: hashes, or the beginnings of hashes that history shows, joined by commas." placeholder:"HEADS"`
	Force  bool   `help:"Write over a file that is there."`
}

// Help is shown by kong under the command's one line.
func (*exportCmd) Help() string {
	return `The record is one file that proves itself: the document, every change with who
made it and when it came, what the parties agreed on, and a report to read and
print (report.html), all bound together by the server's signature. parley verify
checks it, without the server. Hosts, parties and auditors may have it.`
}

func (c *exportCmd) Run(io streams) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := c.needUser(); err != nil {
		return err
	}
	if c.Offline {
		return usagef("the server signs the record: leave --offline out")
	}
	file := c.Out
	if file == "" {
		file = string(id) + "." + c.Format
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	at, err := fullHashes(c.At, func() ([]event, error) { return c.api().history(ctx, id) })
	if err != nil {
		return err
	}
	body, err := c.api().export(ctx, id, c.Format, at)
	if err != nil {
		return err
	}
	if file == "-" {
		_, err := io.out.Write(body)
		return err
	}
	if err := writeNew(file, body, c.Force); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io.out, exported{File: file, Bytes: len(body)})
	}
	_, err = fmt.Fprintf(io.out, "%s written, %s%s\n", file, count(len(body), "byte", "bytes"), c.advice(file))
	return err
}

// exported is what export prints as JSON.
type exported struct {
	File  string `json:"file"`
	Bytes int    `json:"bytes"`
}

func (c *exportCmd) advice(file string) string {
	if c.Format != "zip" {
		return ""
	}
	return fmt.Sprintf("\nverify it with: parley verify %s --key parley.pub\n(the key is in the server's data folder, and at /v1/key)", file)
}

// writeNew writes a file whole or not at all, and over another only if forced. It
// is for its owner alone: a record says what was offered, and by whom.
func writeNew(file string, body []byte, force bool) (err error) {
	if _, err := os.Lstat(file); err == nil && !force {
		return usagef("%s is there already: --force writes over it, -o names another", file)
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}
