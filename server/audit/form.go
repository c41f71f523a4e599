package audit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"maps"
	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"slices"
)

// Format names what a record is written by: FORMAT.md. The bytes of every file
// follow from it, those of the report too.
const Format = "parley-record/1"

// recordForm is record.json.
type recordForm struct {
	Format      string           `json:"format"`
	Transaction transaction.ID   `json:"transaction"`
	Document    string           `json:"document"`
	URL         string           `json:"url"`
	Parties     []string         `json:"parties"`
	Quorum      int              `json:"quorum"`
	Policy      presence.Policy  `json:"policy"`
	Heads       []string         `json:"heads"`
	Log         logForm          `json:"log"`
	Agreed      *int             `json:"agreed"`
	Contested   []string         `json:"contested"`
	Missing     []string         `json:"missing"`
	Fields      []fieldForm      `json:"fields"`
	Resolutions []resolutionForm `json:"resolutions"`
}

type logForm struct {
	Size int    `json:"size"`
	Root string `json:"root"`
}

type fieldForm struct {
	Field     string       `json:"field"`
	Defined   bool         `json:"defined"`
	Label     string       `json:"label"`
	Required  bool         `json:"required"`
	Options   []optionForm `json:"options"`
	Contested bool         `json:"contested"`
	Selection *pickForm    `json:"selection"`
	Picks     []pickForm   `json:"picks"`
}

type optionForm struct {
	Option string          `json:"option"`
	Value  json.RawMessage `json:"value"`
	Source string          `json:"source"`
}

type pickForm struct {
	Value        json.RawMessage `json:"value"`
	By           string          `json:"by"`
	At           int64           `json:"at"`
	Option       string          `json:"option,omitempty"`
	Source       string          `json:"source,omitempty"`
	Offered      bool            `json:"offered"`
	N            int             `json:"n"`
	Change       string          `json:"change"`
	Received     int64           `json:"received"`
	State        string          `json:"state"`
	Contested    bool            `json:"contested"`
	SupersededBy []endingForm    `json:"superseded_by,omitempty"`
}

type endingForm struct {
	Kind     transaction.EventKind `json:"kind"`
	By       string                `json:"by"`
	At       int64                 `json:"at"`
	N        int                   `json:"n"`
	Change   string                `json:"change"`
	Received int64                 `json:"received"`
}

type resolutionForm struct {
	N          int      `json:"n"`
	Heads      []string `json:"heads"`
	Parties    []string `json:"parties"`
	Needed     []string `json:"needed"`
	Quorum     int      `json:"quorum"`
	At         int64    `json:"at"`
	Size       int      `json:"size"`
	Checkpoint string   `json:"checkpoint"`
}

// What a pick can be.
const (
	stateWins = "wins" // it is the field's selection
	stateLive = "live" // it stands beside the one that wins
	stateLost = "lost" // something took its place
)

// recordJSON writes record.json.
func (a *account) recordJSON() []byte {
	set := a.src.Settings
	f := recordForm{
		Format: Format, Transaction: a.src.Transaction, Document: a.doc.String(), URL: "automerge:" + a.doc.String(),
		Parties: listed(set.Parties), Quorum: set.Quorum, Policy: set.Policy,
		Heads: crdt.HashTexts(a.heads), Log: logForm{a.log.Size(), a.root.String()},
		Contested: listed(a.state.Contested()), Missing: listed(a.state.Missing()),
		Fields: []fieldForm{}, Resolutions: []resolutionForm{},
	}
	if r := a.agreed(); r != nil {
		f.Agreed = &r.N
	}
	for _, name := range a.fieldNames() {
		f.Fields = append(f.Fields, a.fieldForm(name))
	}
	for i := range a.resolutions {
		f.Resolutions = append(f.Resolutions, a.resolutions[i].form())
	}
	return jsonPage(f)
}

func (a *account) fieldForm(name string) fieldForm {
	def, defined := a.state.Field(name)
	sel, _ := a.state.Selection(name)
	f := fieldForm{
		Field: name, Defined: defined, Label: def.Label, Required: def.Required, Options: optionForms(def.Options),
		Contested: sel.Contested(), Picks: []pickForm{},
	}
	story := a.stories[name]
	if story == nil {
		return f
	}
	for _, p := range story.picks {
		form := p.form()
		f.Picks = append(f.Picks, form)
		if p.wins {
			f.Selection = &form
		}
	}
	return f
}

func optionForms(options map[string]transaction.Option) []optionForm {
	forms := []optionForm{}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		forms = append(forms, optionForm{name, options[name].Value, options[name].Source})
	}
	return forms
}

func (p *pickStory) form() pickForm {
	f := pickForm{
		Value: p.Value, By: p.By, At: p.At, Option: p.Option, Source: p.source, Offered: p.offered,
		N: p.n, Change: p.Change.String(), Received: p.received, State: p.fate(), Contested: p.contest != nil,
	}
	for _, e := range p.ended {
		f.SupersededBy = append(f.SupersededBy, endingForm{e.kind, e.by, e.at, e.n, e.change.String(), e.received})
	}
	return f
}

func (p *pickStory) fate() string {
	switch {
	case p.wins:
		return stateWins
	case p.live:
		return stateLive
	}
	return stateLost
}

func (r *sealed) form() resolutionForm {
	return resolutionForm{
		N: r.N, Heads: crdt.HashTexts(r.Heads), Parties: listed(r.Parties), Needed: listed(r.needed),
		Quorum: r.Quorum, At: r.At, Size: r.size, Checkpoint: r.Checkpoint,
	}
}

// changeForm is a line of changes.jsonl.
type changeForm struct {
	N       int        `json:"n"`
	Hash    string     `json:"hash"`
	Offset  int        `json:"offset"`
	Length  int        `json:"length"`
	Actor   string     `json:"actor"`
	Seq     uint64     `json:"seq"`
	Time    int64      `json:"time"`
	Message string     `json:"message"`
	Deps    []string   `json:"deps"`
	Shown   bool       `json:"shown"`
	User    string     `json:"user"`
	Did     []deedForm `json:"did"`
}

type deedForm struct {
	Kind       transaction.EventKind `json:"kind"`
	Field      string                `json:"field"`
	Value      json.RawMessage       `json:"value,omitempty"`
	At         *int64                `json:"at,omitempty"`
	Option     string                `json:"option,omitempty"`
	Definition *definitionForm       `json:"definition,omitempty"`
}

type definitionForm struct {
	Label    string       `json:"label"`
	Required bool         `json:"required"`
	Options  []optionForm `json:"options"`
}

// changesJSONL writes changes.jsonl.
func (a *account) changesJSONL() []byte {
	var b bytes.Buffer
	for i := range a.entries {
		e := &a.entries[i]
		f := changeForm{
			N: i, Hash: e.hash.String(), Offset: e.offset, Length: e.length, Actor: e.actor.String(), Seq: e.seq, Time: e.time,
			Message: e.message, Deps: crdt.HashTexts(e.deps), Shown: e.inPast, User: a.src.Receipts[i].User, Did: []deedForm{},
		}
		for j := range e.deeds {
			f.Did = append(f.Did, e.deeds[j].form())
		}
		b.Write(jsonLine(f))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func (d *deed) form() deedForm {
	f := deedForm{Kind: d.Kind, Field: d.Field}
	if d.Pick != nil {
		f.Value, f.At, f.Option = d.Pick.Value, &d.Pick.At, d.Pick.Option
	}
	if d.definition != nil {
		f.Definition = &definitionForm{d.definition.Label, d.definition.Required, optionForms(d.definition.Options)}
	}
	return f
}

// receiptsJSONL writes receipts.jsonl: the leaves of the log.
func (a *account) receiptsJSONL() []byte {
	var b bytes.Buffer
	for i := range a.src.Receipts {
		b.Write(a.src.Receipts[i].Leaf())
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// readRecordJSON returns what record.json says that no change does: which
// transaction and which state it is about, the settings and the resolutions.
func readRecordJSON(text []byte) (Source, error) {
	var f recordForm
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Source{}, fmt.Errorf("%s: %w", fileRecord, err)
	}
	if f.Format != Format {
		return Source{}, fmt.Errorf("%s: its format is %q, and this program reads %q", fileRecord, f.Format, Format)
	}
	id, err := transaction.ParseID(string(f.Transaction))
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w", fileRecord, err)
	}
	src := Source{Transaction: id, Settings: presence.Settings{Parties: f.Parties, Quorum: f.Quorum, Policy: f.Policy}}
	if src.Heads, err = crdt.ParseHashes(f.Heads); err != nil {
		return Source{}, fmt.Errorf("%s: heads: %w", fileRecord, err)
	}
	for _, r := range f.Resolutions {
		heads, err := crdt.ParseHashes(r.Heads)
		if err != nil {
			return Source{}, fmt.Errorf("%s: resolution %d: %w", fileRecord, r.N, err)
		}
		src.Resolutions = append(src.Resolutions, presence.Resolution{
			N: r.N, Heads: heads, Parties: r.Parties, Quorum: r.Quorum, At: r.At, Checkpoint: r.Checkpoint,
		})
	}
	return src, nil
}

// listed makes an empty list of nil.
func listed(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// jsonLine writes v in one line, jsonPage over many, indented by two blanks and
// with a line feed at its end. Only what JSON must escape is escaped, and U+2028
// and U+2029.
func jsonLine(v any) []byte { return bytes.TrimSuffix(jsonText(v, ""), []byte("\n")) }
func jsonPage(v any) []byte { return jsonText(v, "  ") }

func jsonText(v any, indent string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		panic("audit: write JSON: " + err.Error()) // of texts, numbers and JSON
	}
	return b.Bytes()
}
