package inspect

import (
	"context"
	"errors"

	"parley/server/audit"
	"parley/server/store"
)

// Options say how much is checked.
type Options struct {
	// Quick leaves out what takes long: the indices of the database, what changes
	// say, and what was signed.
	Quick bool
	// Public is the key that agreements are signed by; nil: signatures are not checked.
	Public *audit.Public
	// Progress is told of every document; may be nil. Total is 0 as long as it is
	// the database's structure that is checked.
	Progress func(documents, total, changes int)
}

// Run checks all that there is. It returns an error if it cannot be found out how
// things are, or if ctx ends, and a report otherwise.
func Run(ctx context.Context, r *store.Reading, opt Options) (*Report, error) {
	if opt.Progress == nil {
		opt.Progress = func(int, int, int) {}
	}
	report := &Report{Sound: true, Quick: opt.Quick, Faults: []Fault{}, Notes: []string{}}
	c := &checking{ctx: ctx, reading: r, report: report, opt: opt}
	if err := c.failed(r.Log()); err != nil {
		return nil, err
	}
	if r.Empty() && len(report.Faults) > 0 {
		return report, nil // it is all in the log
	}
	if r.Empty() {
		report.Add(Fault{In: InDatabase, What: "there is nothing in it, not even a schema", Do: doRestore + "; if no server ever ran here, remove the file"})
		return report, nil
	}
	if err := r.Current(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{c.structure, c.schema, c.contents, c.documents, c.revocations} {
		if err := c.failed(step()); err != nil {
			return nil, err
		}
	}
	if c.unsigned > 0 {
		report.note("the signatures of %d agreements were not checked: parley.pub is not there, the server's public key", c.unsigned)
	}
	return report, nil
}

// checking is one run.
type checking struct {
	ctx      context.Context
	reading  *store.Reading
	report   *Report
	opt      Options
	total    int // documents, when it began
	unsigned int // resolutions whose signature nobody looked at
}

// failed makes a fault of an error that says that the database is damaged.
func (c *checking) failed(err error) error {
	var unreadable *store.UnreadableError
	if !errors.As(err, &unreadable) {
		return err
	}
	c.report.Add(Fault{In: InDatabase, What: unreadable.Error(), Do: doRestore})
	return nil
}

func (c *checking) structure() error {
	c.opt.Progress(0, 0, 0)
	complaints, err := c.reading.Integrity(c.ctx, c.opt.Quick)
	for _, said := range complaints {
		c.report.Add(Fault{In: InDatabase, What: said, Do: doRestore})
	}
	return err
}

func (c *checking) schema() error {
	differences, err := c.reading.Differences(c.ctx)
	for _, said := range differences {
		c.report.Add(Fault{In: InSchema, What: said, Do: doSchema})
	}
	if err != nil {
		return err
	}
	id, err := c.reading.StorageID()
	if err == nil && id == "" {
		c.report.Add(Fault{In: InDatabase, What: "the storage id is missing", Do: doRestore})
	}
	return err
}

// contents holds a backup against what it says that it holds.
func (c *checking) contents() error {
	held, err := c.reading.Contents()
	if err != nil {
		return err
	}
	c.report.Bytes, c.total = held.Bytes, held.Documents
	if said := c.reading.Backup(); said != nil && (said.Documents != held.Documents || said.Changes != held.Changes) {
		c.report.Add(Fault{In: InDatabase, Do: "take another backup", What: "the backup does not hold as many documents and changes as when it was made"})
	}
	return nil
}

func (c *checking) documents() error {
	return c.reading.Walk(c.ctx, func(raw *store.Raw) error {
		c.document(raw)
		c.report.Documents++
		c.report.Changes += len(raw.Changes)
		c.opt.Progress(c.report.Documents, max(c.total, c.report.Documents), c.report.Changes)
		return c.ctx.Err()
	})
}

func (c *checking) revocations() error {
	ns, err := c.reading.RevocationNumbers(c.ctx)
	for i, n := range ns {
		if want := i + 1; n != want {
			c.report.Add(Fault{In: InRevocation, N: want, What: "it is missing: a token that was taken back may be good again", Do: doRestore + ", or revoke again what was revoked"})
			break
		}
	}
	return err
}
