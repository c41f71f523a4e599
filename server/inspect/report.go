package inspect

import (
	"fmt"

	"parley/crdt"
	"parley/crdt/transaction"
)

// What a fault is in.
const (
	InDatabase   = "database"
	InSchema     = "schema"
	InDocument   = "document"
	InChange     = "change"
	InReceipt    = "receipt"
	InSettings   = "settings"
	InResolution = "resolution"
	InSnapshot   = "snapshot"
	InPack       = "pack"
	InRevocation = "revocation"
	InKey        = "signing key"
)

// Report is what was found.
type Report struct {
	Sound     bool     `json:"sound"`
	Documents int      `json:"documents"` // that were looked at
	Changes   int      `json:"changes"`
	Bytes     int64    `json:"bytes"`  // of the database
	Quick     bool     `json:"quick"`  // not everything was looked at
	Faults    []Fault  `json:"faults"` // in the order in which they were found
	Notes     []string `json:"notes"`  // what is no fault and should be known
}

// Fault is one thing that is not as it was written.
type Fault struct {
	In       string `json:"in"`                 // one of the above
	Document string `json:"document,omitempty"` // its id; "" where it is of none
	// Transaction is the id of the one that the document is, "" if it is none or
	// that cannot be read.
	Transaction string `json:"transaction,omitempty"`
	N           int    `json:"n,omitempty"` // of the change or the resolution, counted from 1
	What        string `json:"what"`
	Do          string `json:"do"` // about it
}

// Where names the place of a fault for people.
func (f Fault) Where() string {
	of := "document " + f.Document
	if f.Transaction != "" {
		of = fmt.Sprintf("transaction %s (%s)", f.Transaction, of)
	}
	switch {
	case f.Document == "" && f.N > 0:
		return fmt.Sprintf("%s %d", f.In, f.N)
	case f.Document == "":
		return "the " + f.In
	case f.N > 0:
		return fmt.Sprintf("%s, %s %d", of, f.In, f.N)
	case f.In == InDocument:
		return of
	}
	return fmt.Sprintf("%s, its %s", of, f.In)
}

// What to do about faults.
const (
	doRestore  = "restore the store from a backup (parley restore)"
	doDocument = "restore the store from a backup (parley restore); until then its document cannot be used, others can"
	doPacked   = "the server still reads it from the document's pack: export what matters (parley export), and restore the store from a backup (parley restore) before that is damaged too"
	doGone     = "the server still reads it from the document's pack, but without its receipt no record can be made: restore the store from a backup (parley restore)"
	doNothing  = "no change is lost by it: the server leaves it out, and makes another when the document has grown"
	doSchema   = "somebody with a database shell was here: compare the store with a backup, and go on with that if you cannot tell what was done"
	doWitness  = "find out who altered it: compare with a backup, and with what the parties were handed when they agreed; go on with a backup from before"
)

// maxFaults bounds a report. What is more is counted.
const maxFaults = 1000

// Add adds a fault.
func (r *Report) Add(f Fault) {
	r.Sound = false
	switch {
	case len(r.Faults) < maxFaults:
		r.Faults = append(r.Faults, f)
	case len(r.Faults) == maxFaults:
		r.Faults = append(r.Faults, Fault{In: InDatabase, What: "there are more faults, which are not listed", Do: doRestore})
	}
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// document reports faults of one document.
type document struct {
	report *Report
	id     crdt.DocumentID
	tx     transaction.ID // "" if it is none
}

func (d *document) fault(in string, n int, do, format string, args ...any) {
	d.report.Add(Fault{In: in, Document: d.id.String(), Transaction: string(d.tx), N: n, What: fmt.Sprintf(format, args...), Do: do})
}
