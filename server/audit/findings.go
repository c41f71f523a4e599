package audit

import (
	"fmt"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Findings are what the verification of a record proved. Its JSON is what
// `parley verify --json` prints.
type Findings struct {
	Transaction transaction.ID    `json:"transaction"`
	Document    string            `json:"document"`
	Key         string            `json:"key"` // as [Public.Text] writes it
	Size        int               `json:"size"`
	Root        string            `json:"root"`
	Heads       []string          `json:"heads"`
	First       int64             `json:"first"` // when the first change was received, in milliseconds since 1970
	Last        int64             `json:"last"`
	Agreed      *int              `json:"agreed"`      // the resolution over these heads, nil: none
	Resolutions []FoundResolution `json:"resolutions"` // all in the record
	Contested   []string          `json:"contested"`
	Missing     []string          `json:"missing"`
	Fields      []FoundField      `json:"fields"`
	Proved      []string          `json:"proved"`   // in plain words
	Unproved    []string          `json:"unproved"` // what no record can prove, or this one does not

	account *account
}

// FoundResolution is an agreement that holds.
type FoundResolution struct {
	N       int      `json:"n"`
	Parties []string `json:"parties"`
	At      int64    `json:"at"`
	Size    int      `json:"size"`   // of the log when it was sealed
	Signed  bool     `json:"signed"` // by a checkpoint of its own
}

// FoundField is what a field holds. All but its name is empty if nothing is
// picked.
type FoundField struct {
	Field  string `json:"field"`
	Label  string `json:"label"`
	Value  string `json:"value"` // as people write it
	By     string `json:"by"`
	Source string `json:"source"`
}

// findings says what holds, of an account that was compared with its record.
func (a *account) findings() *Findings {
	receipts := a.src.Receipts
	f := &Findings{
		Transaction: a.src.Transaction, Document: a.doc.String(), Key: a.public.Text(),
		Size: a.log.Size(), Root: a.root.String(), Heads: crdt.HashTexts(a.heads),
		First: receipts[0].At, Last: receipts[len(receipts)-1].At,
		Contested: listed(a.state.Contested()), Missing: listed(a.state.Missing()),
		Resolutions: []FoundResolution{}, Fields: []FoundField{}, account: a,
	}
	if r := a.agreed(); r != nil {
		f.Agreed = &r.N
	}
	for _, r := range a.resolutions {
		f.Resolutions = append(f.Resolutions, FoundResolution{r.N, r.Parties, r.At, r.size, r.signed})
	}
	for _, name := range a.fieldNames() {
		found := FoundField{Field: name, Label: a.labelOf(name)}
		if p := a.selection(name); p != nil {
			found.Value, found.By, found.Source = valueText(p.Value), p.By, p.source
		}
		f.Fields = append(f.Fields, found)
	}
	a.proved(f)
	a.unproved(f)
	return f
}

// Compare holds a signed checkpoint of the same log against the record: the one
// that a party was handed with an agreement, or the statement of another record.
// It returns in words what it proves. The error says what does not hold: then the
// log was written anew, or, if the checkpoint is of a longer log, that this
// record is too old to tell.
func (f *Findings) Compare(checkpoint string) (string, error) {
	a := f.account
	c, err := a.public.Open(a.doc, checkpoint)
	if err != nil {
		return "", err
	}
	if c.Size > a.log.Size() {
		return "", fmt.Errorf("it is of the log when that had %d receipts, and the record has the first %d: ask for a newer record", c.Size, a.log.Size())
	}
	root, err := a.log.Root(c.Size)
	if err != nil {
		return "", err
	}
	if root != c.Root {
		return "", fmt.Errorf("the log was written anew: the root of its first %d receipts was %s, and is %s in the record", c.Size, c.Root, root)
	}
	n, err := c.Said(wordResolution)
	if err != nil { // it is of no agreement
		return fmt.Sprintf("The log begins with exactly the %s that the checkpoint is over.", count(c.Size, "receipt", "receipts")), nil
	}
	if !slices.ContainsFunc(a.resolutions, func(r sealed) bool { return r.Checkpoint == checkpoint }) {
		return "", fmt.Errorf("agreement %s, which it is of, is not in the record as it was sealed", n)
	}
	return fmt.Sprintf("Agreement %s is in the record as it was sealed, over exactly the %s that it was sealed over.", n, count(c.Size, "receipt", "receipts")), nil
}

func (a *account) proved(f *Findings) {
	f.Proved = []string{
		fmt.Sprintf("%s signed this record of transaction %s, and nothing in it was altered since.", a.public.Name, a.src.Transaction),
		fmt.Sprintf("%s in it, none left out, none added, each as its author made it, and each after all that it builds on.", count(len(a.entries), "change is", "changes are")),
		"Each was delivered by somebody who was allowed to make it, and every pick is in the name of the user who delivered it.",
		fmt.Sprintf("There is one receipt for each change, in the order in which the server took them; the root of their tree is %s.", a.root),
		"The fields, the picks, the history and the page to read are what the changes say, made again and compared byte by byte.",
	}
	for i := range a.resolutions {
		f.Proved = append(f.Proved, a.resolutions[i].proved(a))
	}
	if n := len(f.Contested); n > 0 {
		f.Proved = append(f.Proved, fmt.Sprintf("%s contested: %s.", count(n, "field is", "fields are"), a.labels(f.Contested)))
	}
	if n := len(f.Missing); n > 0 {
		f.Proved = append(f.Proved, fmt.Sprintf("Nothing is picked for %s: %s.", count(n, "required field", "required fields"), a.labels(f.Missing)))
	}
}

func (r *sealed) proved(a *account) string {
	what := "over an earlier state"
	if r.Over(a.heads) {
		what = "over exactly the state of this record"
	}
	how := "signed when it was sealed"
	if !r.signed {
		how = "not signed by itself"
	}
	return fmt.Sprintf("Agreement %d, %s, is by %s, sealed %s, %s: nothing was contested or missing, and the log had %s.",
		r.N, what, and(r.Parties), timeText(r.At), how, count(r.size, "receipt", "receipts"))
}

func (a *account) unproved(f *Findings) {
	f.Unproved = []string{
		"That the server's clock was right, or the clocks of those who picked.",
		"That nobody else used a user's name: who is who, the server found out before it wrote receipts.",
		"That a document cited as a source says what is said here: the documents are not in the record.",
		"That nothing happened after the last receipt, or that the server showed the same log to everybody: compare the checkpoints that the parties were handed with theirs.",
		"Who had to agree and what an agreement does (parties, quorum, policy): they are the server's word, as of when it signed this.",
	}
	for i := range a.resolutions {
		if r := &a.resolutions[i]; !r.signed {
			f.Unproved = append(f.Unproved, fmt.Sprintf("When agreement %d was sealed: it has no signature of its own, only this record's.", r.N))
		}
	}
}
