package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"

	"parley/server/audit"
)

// verifyCmd verifies a record, without any server.
type verifyCmd struct {
	File       string `arg:"" name:"FILE" help:"The record, as parley export writes it; - is standard input."`
	Key        string `help:"File of the server's public key, parley.pub: a line such as parley-1a2b3c4d+5e6f7a8b+AWk…" required:"" placeholder:"FILE"`
	Checkpoint string `help:"File of a checkpoint that you were handed with an agreement: is it in the record, and the log before it as it was then?" placeholder:"FILE"`
	JSON       bool   `help:"Print JSON."`
}

// Help is shown by kong under the command's one line.
func (*verifyCmd) Help() string {
	return `It needs no server and no network, and trusts nothing but the key: get that from
somebody you trust. It says what is proved and what no record can prove.

Exit codes: 0 all holds, 1 something does not, and the error says what, 2 the
command line is wrong or a file cannot be read.`
}

// verdict is what --json prints.
type verdict struct {
	Holds bool   `json:"holds"`
	Error string `json:"error,omitempty"` // what does not hold
	*audit.Findings
}

func (c *verifyCmd) Run(io streams) error {
	record, public, checkpoint, err := c.read(io.in)
	if err != nil {
		return usagef("%v", err)
	}
	findings, err := c.verify(record, public, checkpoint, progressOn(io.err))
	if err != nil {
		err = errors.New(plain(fmt.Sprintf("%s does not hold: %v", c.File, err)))
		if c.JSON {
			return errors.Join(err, printJSON(io.out, verdict{Error: err.Error()}))
		}
		return err
	}
	if c.JSON {
		return printJSON(io.out, verdict{Holds: true, Findings: findings})
	}
	return printFindings(io.out, findings)
}

func (c *verifyCmd) verify(record []byte, public audit.Public, checkpoint string, p *progress) (*audit.Findings, error) {
	findings, err := audit.Verify(record, public, p.step)
	p.end()
	if err != nil || c.Checkpoint == "" {
		return findings, err
	}
	said, err := findings.Compare(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("held against %s: %w", c.Checkpoint, err)
	}
	findings.Proved = append(findings.Proved, said)
	return findings, nil
}

// read reads the files.
func (c *verifyCmd) read(in io.Reader) (record []byte, public audit.Public, checkpoint string, err error) {
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, public, "", fmt.Errorf("read the public key: %w", err)
	}
	if public, err = audit.ParsePublic(string(key)); err != nil {
		return nil, public, "", fmt.Errorf("%s: %w", c.Key, err)
	}
	if c.Checkpoint != "" {
		text, err := os.ReadFile(c.Checkpoint)
		if err != nil {
			return nil, public, "", fmt.Errorf("read the checkpoint: %w", err)
		}
		checkpoint = string(text)
	}
	if record, err = readRecord(c.File, in); err != nil {
		return nil, public, "", fmt.Errorf("read the record: %w", err)
	}
	return record, public, checkpoint, nil
}

// maxRecord is what a record has less than, in bytes. So much of a file is read.
const maxRecord = 4 << 30

func readRecord(file string, in io.Reader) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		switch {
		case err != nil:
			return nil, err
		case info.Size() >= maxRecord:
			return nil, fmt.Errorf("%s is no record: it has %d bytes, and records have less than 4 GiB", file, info.Size())
		case info.Mode().IsRegular():
			return os.ReadFile(file) // at once: its size is known
		}
		in = f
	}
	record, err := io.ReadAll(io.LimitReader(in, maxRecord))
	if err == nil && len(record) == maxRecord {
		err = fmt.Errorf("%s is no record: records have less than 4 GiB", file)
	}
	return record, err
}

// printFindings prints what was proved, for people.
func printFindings(w io.Writer, f *audit.Findings) error {
	const widest, width = 40, 100
	rows := [][]string{{"FIELD", "VALUE", "BY", "FROM"}}
	for _, field := range f.Fields {
		value := field.Value
		if field.By == "" {
			value = "-"
		}
		rows = append(rows, []string{plain(field.Label), plain(value), plain(field.By), plain(field.Source)})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the record holds\n%s\n\n", f.Transaction, agreementOf(f))
	if len(f.Fields) > 0 {
		if err := writeTable(&b, rows, widest); err != nil {
			return err
		}
		b.WriteString("\n")
	}
	b.WriteString("Proved, by the key " + f.Key + ":\n")
	for _, line := range f.Proved {
		writeItem(&b, line, width)
	}
	b.WriteString("\nNot proved:\n")
	for _, line := range f.Unproved {
		writeItem(&b, line, width)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func agreementOf(f *audit.Findings) string {
	if f.Agreed == nil {
		if n := len(f.Resolutions); n > 0 {
			return fmt.Sprintf("not agreed: changed since agreement %d", n)
		}
		return "not agreed"
	}
	r := f.Resolutions[*f.Agreed-1]
	return fmt.Sprintf("agreed by %s, %s", and(r.Parties), time.UnixMilli(r.At).UTC().Format("2006-01-02 15:04:05 UTC"))
}

// writeItem writes one of a list, broken at blanks into lines of a width.
func writeItem(b *strings.Builder, text string, width int) {
	line := "  -"
	for _, word := range strings.Fields(plain(text)) {
		if len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = "   "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// progress tells on a terminal how far it is, once that takes a while.
type progress struct {
	w    io.Writer // nil: no terminal
	next time.Time
	told bool
}

func progressOn(w io.Writer) *progress {
	const patience = 300 * time.Millisecond
	p := &progress{next: time.Now().Add(patience)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(f.Fd()) {
		p.w = w
	}
	return p
}

func (p *progress) step(done, total int) {
	const interval, width = 100 * time.Millisecond, 30
	if p.w == nil || time.Now().Before(p.next) {
		return
	}
	p.next, p.told = time.Now().Add(interval), true
	full := width * done / max(total, 1)
	fmt.Fprintf(p.w, "\r%s%s %d of %d changes", strings.Repeat("█", full), strings.Repeat("░", width-full), done, total)
}

// end clears the line.
func (p *progress) end() {
	if p.told {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
