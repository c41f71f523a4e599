package audit

import (
	"bytes"
	_ "embed" // for the template
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// The template is a part of the record's format: other bytes of it are another
// format, for reports are made again when records are verified.
//
//go:embed report.tmpl.html
var reportText string

var reportTemplate = template.Must(template.New(fileReport).Parse(reportText))

// reportView is what the template shows.
type reportView struct {
	ID, Document, URL string
	Kind              string // of the verdict: agreed, open
	Headline          string
	Verdict           []string // sentences
	AsOf              string
	Heads             []string
	Rule, Policy      string // who had to agree, and what becomes of changes after
	Chosen            string // what chosen values are called
	Fields            []fieldView
	People            []personView
	Agreements        []agreementView
	Contests          []contestView
	Overruled         []overruledView
	Timeline          []lineView
	Outside           int // entries of the log that are not in the past of the heads
	Proof             proofView
}

type fieldView struct {
	Label, Name string
	Notes       []string // required, not defined
	Missing     bool
	Chosen      *pickView
	Beside      []pickView // that stand beside the chosen one
	Rejected    []optionView
}

type pickView struct {
	Value, By, When, Own string
	Origin, Warning      string // one of them
	Long                 bool
}

type optionView struct{ Name, Value, Source string }

type personView struct {
	User, Roles, Asked, Agreed string
	Changes                    int
}

type agreementView struct {
	N, Size, Quorum               int
	When, Parties, Needed, Status string
	Heads                         []string
	Checkpoint                    string
}

type contestView struct {
	Label   string
	Picks   []pickView
	Settled string // "" if it is open
}

type overruledView struct {
	Label, Value, By, When, Instead, InsteadBy, InsteadWhen string
}

// lineView is a change, or, with Sealed, an agreement.
type lineView struct {
	N               int
	When, Who, Role string
	Did             []deedView
	Change          string
	Outside         bool
	Sealed          string
}

type deedView struct{ Label, Text string }

type proofView struct {
	Size                    int
	Root, RootHex           string
	Key, KeyName            string
	First, Last             string
	Documents, DocumentSize int
}

// report writes report.html.
func (a *account) report() ([]byte, error) {
	v := a.reportView()
	var b bytes.Buffer
	if err := reportTemplate.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return b.Bytes(), nil
}

func (a *account) reportView() *reportView {
	last := &a.src.Receipts[len(a.src.Receipts)-1]
	v := &reportView{
		ID: string(a.src.Transaction), Document: a.doc.String(), URL: "automerge:" + a.doc.String(),
		AsOf:  fmt.Sprintf("receipt %d, %s", last.N, timeText(last.At)),
		Heads: crdt.HashTexts(a.heads), Rule: a.ruleText(), Policy: policyText(a.src.Settings.Policy),
	}
	a.verdict(v)
	for _, name := range a.fieldNames() {
		v.Fields = append(v.Fields, a.fieldView(name))
	}
	v.People = a.people()
	for i := range a.resolutions {
		v.Agreements = append(v.Agreements, a.agreementView(&a.resolutions[i]))
	}
	a.disputes(v)
	a.timeline(v)
	v.Proof = a.proofView()
	return v
}

// verdict says in a headline how it stands.
func (a *account) verdict(v *reportView) {
	v.Kind, v.Chosen = "open", "Value chosen"
	if r := a.agreed(); r != nil {
		v.Kind, v.Chosen = "agreed", "Value agreed"
		v.Headline = "Agreed by " + and(r.Parties)
		v.Verdict = []string{fmt.Sprintf("Sealed on %s as agreement %d. Each of them confirmed exactly what is below, by the hash of that state, and nothing else.", timeText(r.At), r.N)}
		return
	}
	v.Headline = "Not agreed"
	if n := len(a.resolutions); n > 0 {
		v.Headline = "Changed since it was agreed"
		v.Verdict = append(v.Verdict, fmt.Sprintf("The last agreement, number %d, was sealed on %s over an earlier state; changes came after it.", n, timeText(a.resolutions[n-1].At)))
	} else {
		v.Verdict = append(v.Verdict, "The parties have not confirmed these values.")
	}
	if fields := a.state.Contested(); len(fields) > 0 {
		v.Verdict = append(v.Verdict, "Contested: "+a.labels(fields)+".")
	}
	if fields := a.state.Missing(); len(fields) > 0 {
		v.Verdict = append(v.Verdict, "Required, and nothing is chosen: "+a.labels(fields)+".")
	}
}

func (a *account) ruleText() string {
	set := a.src.Settings
	switch {
	case len(set.Parties) == 0 && set.Quorum == 0:
		return "every party present, at least two"
	case len(set.Parties) == 0:
		return fmt.Sprintf("%d of the parties present", set.Quorum)
	case set.Quorum == 0 || set.Quorum >= len(set.Parties):
		return and(set.Parties)
	}
	return fmt.Sprintf("%d of %s", set.Quorum, and(set.Parties))
}

func policyText(policy presence.Policy) string {
	switch policy {
	case presence.Lock:
		return "An agreement locks the transaction: later changes are refused."
	case presence.Reopen:
		return "A change after an agreement opens the transaction again."
	}
	return "What becomes of changes after an agreement is not known: " + shown(string(policy))
}

func (a *account) labelOf(name string) string {
	if f, ok := a.state.Field(name); ok && f.Label != "" {
		return shown(f.Label)
	}
	return shown(name)
}

func (a *account) labels(fields []string) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = a.labelOf(f)
	}
	return strings.Join(all, ", ")
}

func (a *account) fieldView(name string) fieldView {
	def, defined := a.state.Field(name)
	v := fieldView{Label: a.labelOf(name), Name: shown(name)}
	if def.Required {
		v.Notes = append(v.Notes, "required")
		v.Missing = a.selection(name) == nil
	}
	if !defined {
		v.Notes = append(v.Notes, "not defined by a host")
	}
	won := a.selection(name)
	if won != nil {
		pick := won.view()
		v.Chosen = &pick
		for _, p := range a.stories[name].picks {
			if p.live && !p.wins {
				v.Beside = append(v.Beside, p.view())
			}
		}
	}
	for _, option := range slices.Sorted(maps.Keys(def.Options)) {
		o := def.Options[option]
		if won == nil || !(won.Option == option && won.offered && bytes.Equal(won.Value, o.Value)) {
			v.Rejected = append(v.Rejected, optionView{shown(option), valueText(o.Value), shown(o.Source)})
		}
	}
	return v
}

func (p *pickStory) view() pickView {
	v := pickView{Value: valueText(p.Value), By: shown(p.By), When: timeText(p.received)}
	const longValue, minute = 400, 60_000 // bytes, milliseconds
	v.Long = len(v.Value) > longValue
	if d := p.received - p.At; d > minute || d < -minute {
		v.Own = timeText(p.At)
	}
	switch {
	case p.Option == "":
		v.Origin = "no document: a value of " + shown(p.By) + "’s own"
	case !p.offered:
		v.Warning = "no document: option " + shown(p.Option) + " is named, which the field did not have with this value when it was picked"
	case p.source == "":
		v.Origin = "option " + shown(p.Option)
	default:
		v.Origin = shown(p.source)
	}
	return v
}

// people lists who delivered changes, was asked to agree, or agreed.
func (a *account) people() []personView {
	changes, asRoles, users := map[string]int{}, map[string][]string{}, map[string]bool{}
	for i := range a.src.Receipts {
		r := &a.src.Receipts[i]
		if a.entries[i].actor == transaction.GenesisActor || !a.entries[i].inPast {
			continue
		}
		changes[r.User]++
		users[r.User] = true
		if role := string(r.Role); !slices.Contains(asRoles[r.User], role) {
			asRoles[r.User] = append(asRoles[r.User], role)
		}
	}
	for _, r := range a.resolutions {
		for _, party := range slices.Concat(r.Parties, r.needed) {
			users[party] = true
		}
	}
	for _, party := range a.src.Settings.Parties {
		users[party] = true
	}
	var all []personView
	for _, user := range slices.Sorted(maps.Keys(users)) {
		all = append(all, personView{
			User: shown(user), Roles: strings.Join(asRoles[user], ", then "), Asked: a.asked(user), Agreed: a.agreedBy(user), Changes: changes[user],
		})
	}
	return all
}

func (a *account) asked(user string) string {
	if slices.Contains(a.src.Settings.Parties, user) {
		return "by name"
	}
	if r := a.agreed(); r != nil && slices.Contains(r.Parties, user) {
		return "yes"
	}
	return "no"
}

func (a *account) agreedBy(user string) string {
	var all []string
	for _, r := range a.resolutions {
		if slices.Contains(r.Parties, user) {
			all = append(all, fmt.Sprint(r.N))
		}
	}
	if all == nil {
		return "no"
	}
	return "agreement " + strings.Join(all, ", ")
}

func (a *account) agreementView(r *sealed) agreementView {
	v := agreementView{
		N: r.N, Size: r.size, Quorum: r.Quorum, When: timeText(r.At), Parties: and(r.Parties), Needed: and(r.needed),
		Heads: crdt.HashTexts(r.Heads), Checkpoint: r.Checkpoint, Status: "over an earlier state",
	}
	if r.Over(a.heads) {
		v.Status = "over the state of this record"
	}
	return v
}

func (a *account) proofView() proofView {
	first, last := a.src.Receipts[0], a.src.Receipts[len(a.src.Receipts)-1]
	size := 0
	for _, chunk := range a.src.Changes {
		size += len(chunk)
	}
	return proofView{
		Size: a.log.Size(), Root: base64.StdEncoding.EncodeToString(a.root[:]), RootHex: a.root.String(),
		Key: a.public.Text(), KeyName: a.public.Name,
		First: timeText(first.At), Last: timeText(last.At), Documents: len(a.entries), DocumentSize: size,
	}
}
