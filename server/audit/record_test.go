package audit

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

var update = flag.Bool("update", false, "write the golden record anew")

// verified is the record of a scene, which holds.
func verified(t *testing.T, s *scene) (files, *Findings) {
	t.Helper()
	record := s.record()
	if again := s.record(); !bytes.Equal(again, record) {
		t.Fatal("the same source makes another record")
	}
	f, err := Verify(record, s.key.Public(), nil)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := unpack(record)
	if err != nil {
		t.Fatal(err)
	}
	return fs, f
}

// TestGolden holds the format still: records that were written once must go on
// to verify.
func TestGolden(t *testing.T) {
	s := sale(t)
	path := filepath.Join("testdata", "sale.zip")
	if *update {
		s.must(os.WriteFile(path, s.record(), 0o644))
		s.must(os.WriteFile(filepath.Join("testdata", "parley.pub"), []byte(s.key.Public().Text()+"\n"), 0o644))
	}
	golden, err := os.ReadFile(path)
	s.must(err)
	pub, err := os.ReadFile(filepath.Join("testdata", "parley.pub"))
	s.must(err)
	public, err := ParsePublic(string(pub))
	s.must(err)
	want, err := unpack(golden)
	s.must(err)
	got, _ := verified(t, s)
	for _, name := range fileNames {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%v: the format has changed, which needs another name for it (-update writes the record anew)", differenceIn(name, got[name], want[name]))
		}
	}
	if _, err := Verify(golden, public, nil); err != nil {
		t.Error(err)
	}
}

func TestZipForOthers(t *testing.T) {
	record := sale(t).record()
	r, err := zip.NewReader(bytes.NewReader(record), int64(len(record)))
	if err != nil {
		t.Fatal(err)
	}
	fs, err := unpack(record)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range r.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(rc)
		if err != nil || f.Name != fileNames[i] || f.Method != zip.Store || !bytes.Equal(content, fs[f.Name]) {
			t.Errorf("file %d is read as %s, %d bytes, %v", i, f.Name, len(content), err)
		}
	}
}

func TestFindings(t *testing.T) {
	s := sale(t)
	_, f := verified(t, s)
	if f.Transaction != "sale-14-harbour-road" || f.Size != 12 || f.Agreed == nil || *f.Agreed != 2 || len(f.Resolutions) != 2 || len(f.Contested)+len(f.Missing) != 0 {
		t.Errorf("%+v", f)
	}
	want := []FoundField{
		{"closing", "Closing date", "2027-06-30", "alice", "Draft contract, § 4"},
		{"fixtures", "Fixtures included", `["kitchen"]`, "alice", "Offer of the seller, page 4"},
		{"notary", "Notary", "Dr. Zoë Müller-Lüdenscheidt, 港口路 14", "bob", ""},
		{"price", "Purchase price", "405000", "bob", ""},
	}
	if !slices.Equal(f.Fields, want) {
		t.Errorf("fields\n%+v, want\n%+v", f.Fields, want)
	}
	proved := strings.Join(f.Proved, "\n")
	for _, part := range []string{
		"parley-test signed this record of transaction sale-14-harbour-road", "12 changes are in it", f.Root,
		"Agreement 1, over an earlier state, is by alice and bob", "Agreement 2, over exactly the state of this record",
	} {
		if !strings.Contains(proved, part) {
			t.Errorf("%q is not in\n%s", part, proved)
		}
	}
	_, f = verified(t, open(t))
	proved = strings.Join(f.Proved, "\n")
	if f.Agreed != nil || !slices.Equal(f.Contested, []string{"a"}) || !slices.Equal(f.Missing, []string{"b"}) || !strings.Contains(proved, "1 field is contested") {
		t.Errorf("%+v", f)
	}
}

// read reads record.json as a stranger does.
func read(t *testing.T, fs files) recordForm {
	t.Helper()
	var f recordForm
	if err := json.Unmarshal(fs[fileRecord], &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func fieldOf(t *testing.T, f recordForm, name string) fieldForm {
	t.Helper()
	i := slices.IndexFunc(f.Fields, func(f fieldForm) bool { return f.Field == name })
	if i < 0 {
		t.Fatalf("there is no field %s", name)
	}
	return f.Fields[i]
}

func TestWhatBecameOfPicks(t *testing.T) {
	fs, _ := verified(t, sale(t))
	price := fieldOf(t, read(t, fs), "price")
	var story []string
	for _, p := range price.Picks {
		line := fmt.Sprintf("%s by %s %s contested=%v source=%q offered=%v", p.Value, p.By, p.State, p.Contested, p.Source, p.Offered)
		for _, e := range p.SupersededBy {
			line += fmt.Sprintf(" <%s by %s, %d>", e.Kind, e.By, e.N)
		}
		story = append(story, line)
	}
	want := []string{
		`412000 by alice lost contested=false source="Offer of the seller, page 2" offered=true <picked by alice, 5> <picked by bob, 6>`,
		`405000 by alice lost contested=true source="" offered=false <picked by bob, 7>`,
		`398500 by bob lost contested=true source="Offer of the buyer, page 1" offered=true <picked by bob, 7>`,
		`405000 by bob wins contested=false source="" offered=false`,
	}
	if !slices.Equal(story, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
	}
	fixtures := fieldOf(t, read(t, fs), "fixtures")
	if e := fixtures.Picks[0].SupersededBy; len(e) != 1 || e[0].Kind != transaction.Withdrawn || fixtures.Selection.By != "alice" {
		t.Errorf("fixtures %+v", fixtures)
	}
}

// TestSettledByWithdrawal: of all that was picked, or of what one knew.
func TestSettledByWithdrawal(t *testing.T) {
	s := newScene(t, "withdrawn")
	withdraw := func(e *transaction.Edit) error { return e.Withdraw("f") }
	mine := s.replica()
	first := s.make(mine, "bob", picks("f", "1", ""))
	second := s.make(mine, "bob", withdraw)
	s.pick("alice", "f", "2", "")
	s.arrive("bob", first)
	s.arrive("bob", second)
	mine = s.replica()
	first = s.make(mine, "bob", picks("f", "3", ""))
	s.pick("alice", "f", "4", "")
	s.arrive("bob", first)
	s.edit("alice", withdraw)
	fs, f := verified(t, s)
	if len(f.Contested) != 0 {
		t.Errorf("%+v", f)
	}
	for _, part := range []string{"bob withdrew a pick, which left 2 by alice, ", "alice withdrew what was picked, "} {
		if !bytes.Contains(fs[fileReport], []byte(part)) {
			t.Errorf("the report does not say %q", part)
		}
	}
}

// TestHostsEdits: a source is that which the field named when it was picked.
func TestHostsEdits(t *testing.T) {
	s := newScene(t, "edited")
	field := func(value, source string) map[string]transaction.Field {
		return map[string]transaction.Field{"f": {Label: "F", Options: map[string]transaction.Option{"a": {Value: json.RawMessage(value), Source: source}}}}
	}
	s.define(field("1", "first.pdf"))
	s.pick("alice", "f", "1", "a")
	s.define(field("2", "second.pdf"))
	s.pick("bob", "f", "1", "a") // which it is not any more
	s.pick("bob", "g", "1", "nothing")
	s.edit("holly", func(e *transaction.Edit) error { e.RemoveField("f"); return nil })
	fs, _ := verified(t, s)
	f := fieldOf(t, read(t, fs), "f")
	if f.Defined || f.Picks[0].Source != "first.pdf" || !f.Picks[0].Offered || f.Picks[1].Source != "" || f.Picks[1].Offered {
		t.Errorf("%+v", f)
	}
	report := string(fs[fileReport])
	for _, part := range []string{"removed the field", "defined the field: 2 from second.pdf", "option a is named, which the field did not have with this value", "not defined by a host"} {
		if !strings.Contains(report, part) {
			t.Errorf("the report does not say %q", part)
		}
	}
}

// TestEarlierHeads: what came later is not in the record, and what came to the
// log in between is, marked as not shown.
func TestEarlierHeads(t *testing.T) {
	s := sale(t)
	at := func(i int) crdt.Hash { return s.src.Receipts[i].Change }
	for _, c := range []struct {
		heads              []crdt.Hash
		size, resolutions  int
		shown              int
		contested, missing []string
		agreed             bool
	}{
		{[]crdt.Hash{at(0)}, 1, 0, 1, []string{}, []string{}, false},
		{[]crdt.Hash{at(1)}, 2, 0, 2, []string{}, []string{"closing", "price"}, false},
		{[]crdt.Hash{at(5)}, 6, 0, 6, []string{}, []string{}, false},
		{[]crdt.Hash{at(6)}, 7, 0, 6, []string{}, []string{}, false}, // bob's, offline
		{[]crdt.Hash{at(6), at(5)}, 7, 0, 7, []string{"price"}, []string{}, false},
		{[]crdt.Hash{at(6), at(5), at(2)}, 7, 0, 7, []string{"price"}, []string{}, false},
		{[]crdt.Hash{at(8)}, 9, 1, 9, []string{}, []string{}, true},
		{[]crdt.Hash{at(9)}, 10, 1, 10, []string{}, []string{}, false},
		{[]crdt.Hash{at(11)}, 12, 2, 12, []string{}, []string{}, true},
	} {
		s.src.Heads = c.heads
		fs, f := verified(t, s)
		shown := strings.Count(string(fs[fileChanges]), `"shown":true`)
		if f.Size != c.size || len(f.Resolutions) != c.resolutions || shown != c.shown || (f.Agreed != nil) != c.agreed ||
			!slices.Equal(f.Contested, c.contested) || !slices.Equal(f.Missing, c.missing) {
			t.Errorf("heads %v: %d of %d shown, %+v", c.heads, shown, c.size, f)
		}
	}
	s.src.Heads = nil
	all := s.record()
	s.src.Heads = s.state.Heads()
	if !bytes.Equal(s.record(), all) {
		t.Error("named heads make another record")
	}
	for _, heads := range [][]crdt.Hash{{}, {{1}}} {
		s.src.Heads = heads
		if _, err := Write(s.src, s.key); !errors.Is(err, ErrNoSuchHeads) {
			t.Errorf("a record of %v: %v", heads, err)
		}
	}
}

func TestManyFields(t *testing.T) {
	s := newScene(t, "many")
	fields := map[string]transaction.Field{}
	for i := range 200 {
		name := fmt.Sprintf("field-%03d", i)
		fields[name] = transaction.Field{Label: fmt.Sprintf("Field “%d” 漢字 😀", i), Required: i%2 == 0, Options: map[string]transaction.Option{
			"a": {Value: json.RawMessage(fmt.Sprint(i)), Source: "a.pdf"}, "b": {Value: json.RawMessage(`"` + longText[:500] + `"`), Source: longText[:900]},
		}}
	}
	s.define(fields)
	for name := range fields {
		if name != "field-007" {
			s.pick("alice", name, fmt.Sprintf("%q", longText[:500]), "b")
		}
	}
	fs, f := verified(t, s)
	if len(f.Fields) != 200 || len(f.Missing) != 0 {
		t.Errorf("%d fields, missing %v", len(f.Fields), f.Missing)
	}
	if n := bytes.Count(fs[fileReport], []byte("nothing chosen")); n != 1 {
		t.Errorf("nothing is chosen for %d fields", n)
	}
}

// TestReportIsClosed: nothing that a party wrote becomes markup, or turns the
// direction of what stands around it.
func TestReportIsClosed(t *testing.T) {
	fs, _ := verified(t, open(t))
	report := string(fs[fileReport])
	for _, bad := range []string{"<script", "\u202e", "\x00", "http:", "https:", "src=", "href=", "url(", "@import"} {
		if strings.Contains(report, bad) {
			t.Errorf("there is %q in the report", bad)
		}
	}
	for _, part := range []string{"&lt;script&gt;alert(1)", "⟨U&#43;202E⟩Reversed", "=1&#43;1⟨U&#43;0000⟩"} {
		if !strings.Contains(report, part) {
			t.Errorf("there is no %q in the report", part)
		}
	}
}

func TestSettingsInWords(t *testing.T) {
	for policy, want := range map[presence.Policy]string{presence.Lock: "locks the transaction", presence.Reopen: "opens the transaction again", "x": "is not known: x"} {
		if got := policyText(policy); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", policy, got, want)
		}
	}
	for _, c := range []struct {
		set  presence.Settings
		want string
	}{
		{presence.Settings{}, "every party present, at least two"},
		{presence.Settings{Quorum: 3}, "3 of the parties present"},
		{presence.Settings{Parties: []string{"a", "b", "c"}}, "a, b and c"},
		{presence.Settings{Parties: []string{"a", "b", "c"}, Quorum: 2}, "2 of a, b and c"},
		{presence.Settings{Parties: []string{"a"}, Quorum: 1}, "a"},
	} {
		if got := (&account{src: Source{Settings: c.set}}).ruleText(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.set, got, c.want)
		}
	}
}

// TestUnsignedResolution: of a server that did not sign then.
func TestUnsignedResolution(t *testing.T) {
	s := sale(t)
	s.src.Resolutions[0].Checkpoint = ""
	_, f := verified(t, s)
	if f.Resolutions[0].Signed || !f.Resolutions[1].Signed || !strings.Contains(strings.Join(f.Unproved, "\n"), "When agreement 1 was sealed") {
		t.Errorf("%+v", f)
	}
}

// TestCompare holds what parties kept against records.
func TestCompare(t *testing.T) {
	s := sale(t)
	fs, f := verified(t, s)
	kept := s.src.Resolutions
	for what, checkpoint := range map[string]string{"first": kept[0].Checkpoint, "second": kept[1].Checkpoint, "statement": string(fs[fileStatement])} {
		if said, err := f.Compare(checkpoint); err != nil || said == "" {
			t.Errorf("%s: %q, %v", what, said, err)
		}
	}
	refused := func(what string, f *Findings, checkpoint, want string) {
		t.Helper()
		if said, err := f.Compare(checkpoint); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want %s", what, said, err, want)
		}
	}
	refused("another transaction's", f, small(t).src.Resolutions[0].Checkpoint, "not by this key")
	refused("nonsense", f, "x", "does not hold")
	s.src.Heads = s.hashes(8)
	_, earlier := verified(t, s)
	refused("a later one", earlier, kept[1].Checkpoint, "ask for a newer record")
	s.src.Heads, s.src.Resolutions = nil, kept[:1]
	_, forgetful := verified(t, s)
	refused("a forgotten one", forgetful, kept[1].Checkpoint, "agreement 2, which it is of, is not in the record")
	s.src.Resolutions = nil
	s.src.Receipts[2].At++
	_, anew := verified(t, s)
	refused("a log written anew", anew, kept[0].Checkpoint, "the log was written anew")
}

func TestNamesWithAnything(t *testing.T) {
	s := newScene(t, "names")
	odd := []string{"\"quoted\",\n—", "<b>", "a\u2028b", "\x7f", "漢字 😀"}
	slices.Sort(odd)
	s.src.Settings.Parties = odd
	for _, name := range odd {
		s.pick(name, "f", `"x"`, "")
	}
	s.agree(odd...)
	_, f := verified(t, s)
	if !slices.Equal(f.Resolutions[0].Parties, odd) {
		t.Errorf("%q", f.Resolutions[0].Parties)
	}
}

func TestCSV(t *testing.T) {
	s := sale(t)
	got, err := CSV(s.src)
	s.must(err)
	want := strings.ReplaceAll(`field,label,value,by,at,option,source,contested,missing,required
closing,Closing date,2027-06-30,alice,2027-01-15T08:04:11.000Z,june,"Draft contract, § 4",no,no,yes
fixtures,Fixtures included,"[""kitchen""]",alice,2027-01-15T08:10:47.500Z,kitchen,"Offer of the seller, page 4",no,no,no
notary,Notary,"Dr. Zoë Müller-Lüdenscheidt, 港口路 14",bob,2027-01-15T08:11:50.250Z,,,no,no,no
price,Purchase price,405000,bob,2027-01-15T08:07:19.250Z,,,no,no,yes
`, "\n", "\r\n")
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s = open(t)
	got, err = CSV(s.src)
	s.must(err)
	if !strings.Contains(string(got), ",-5,alice,") || !strings.Contains(string(got), "yes,no,yes\r\nb,") || !strings.Contains(string(got), ",no,yes,yes\r\n") {
		t.Errorf("%s", got)
	}
	for text, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\t=1": "'\t=1", "  =1": "'  =1", "＝1": "'＝1", "a=1": "a=1", "": "", " ": " ", "é": "é",
	} {
		if got := inert(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
