package crdt

import (
	"os"
	"slices"
	"testing"

	"parley/crdt/internal/columnar"
)

// goldenHistories are what make-changes.mjs 3 2 60 has printed once.
func goldenHistories(t testing.TB) []history {
	t.Helper()
	out, err := os.ReadFile("testdata/history.txt")
	if err != nil {
		t.Fatal(err)
	}
	return readHistories(t, out)
}

func TestTakesGoldenHistories(t *testing.T) {
	for _, h := range goldenHistories(t) {
		replay(t, h, map[string]int{})
	}
}

// goldenChanges returns some of the golden changes, decoded, small ones first.
func goldenChanges(t testing.TB) []*Change {
	t.Helper()
	var cs []*Change
	for _, h := range goldenHistories(t) {
		for _, chunk := range h.changes {
			c, err := DecodeChange(chunk, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if len(chunk) < 1000 {
				cs = append(cs, c)
			}
		}
	}
	return cs
}

// FuzzDecodeChange gives a body a sound frame, so that what comes behind the
// checksum is reached; the bytes themselves are tried as a chunk too. What
// passes must be canonical.
func FuzzDecodeChange(f *testing.F) {
	for _, c := range goldenChanges(f) {
		f.Add(newDraft(c).body())
	}
	first, second := fixtures(f)
	f.Add(first.Chunk())
	f.Add(frame(typeDeflated, newDraft(second).body()))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, chunk := range [][]byte{data, frame(typeChange, data)} {
			c, err := DecodeChange(chunk, Limits{})
			if err != nil {
				if r := err.(*Refusal); r.Code.Sentence() == "" {
					t.Errorf("refused with code %q", r.Code)
				}
				continue
			}
			checkRoundTrip(t, c)
			checkHeader(t, c)
			checkDeflated(t, c)
		}
	})
}

// FuzzDocumentAdd plays a sequence of changes, each the length of a body and
// the body. Dependencies that do not exist become those that do, so that
// sequences survive mutation.
func FuzzDocumentAdd(f *testing.F) {
	for _, h := range goldenHistories(f) {
		var data []byte
		for _, chunk := range h.changes {
			c, err := DecodeChange(chunk, Limits{})
			if err != nil {
				f.Fatal(err)
			}
			if data = columnar.AppendText(data, string(newDraft(c).body())); len(data) > 6000 {
				break
			}
		}
		f.Add(data)
	}
	first, second := fixtures(f)
	f.Add(bodies(first, second, decoded(f, carolsChange(first))))
	for _, h := range hostileSequences {
		f.Add(bodies(first, second, decoded(f, carolsChange(first)), decoded(f, h.make(first, second))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDocument(Limits{Ops: 1000})
		r := columnar.NewReader(string(data))
		for r.Len() > 0 {
			body := r.Take(r.Uint())
			if c, err := DecodeChange(frame(typeChange, []byte(body)), d.lim); err == nil {
				addRepaired(t, d, c)
			}
		}
		if d.Graph.Len() > 0 {
			checkTables(t, d)
			checkEngine(t, d)
		}
	})
}

func bodies(cs ...*Change) (data []byte) {
	for _, c := range cs {
		data = columnar.AppendText(data, string(newDraft(c).body()))
	}
	return data
}

// addRepaired adds a change; if it depends on what is not there, one like it
// on the document's tips.
func addRepaired(t *testing.T, d *Document, c *Change) {
	o := d.Add(c)
	if o.Status == Held {
		draft := newDraft(c)
		draft.deps = d.Graph.Tips()
		c = draft.decode(t)
		o = d.Add(c)
	}
	switch {
	case o.Status == Accepted && d.Add(c).Status != Known:
		t.Errorf("%s was accepted and is not known", c.Hash)
	case o.Status == Refused && d.Graph.Accepted(c.Hash):
		t.Errorf("%s was refused and is in the graph", c.Hash)
	case o.Status == Held:
		t.Errorf("%s is held for %v, on the document's tips", c.Hash, o.Missing)
	}
}

// checkTables checks that the tables which grew with the document are those
// that a loaded document would build.
func checkTables(t *testing.T, d *Document) {
	d.catchUp()
	grown := d.table
	d.DropTables()
	d.table.seed = grown.seed
	d.catchUp()
	if !slices.EqualFunc(d.table.shapes.list, grown.shapes.list, slices.Equal) {
		t.Errorf("built anew, the shapes are\n%v\nand were\n%v", d.table.shapes.list, grown.shapes.list)
	}
	for i, ops := range d.table.actors {
		if !slices.Equal(ops.spans, grown.actors[i].spans) || !slices.Equal(ops.changes, grown.actors[i].changes) {
			t.Errorf("built anew, the table of actor %d is\n%v\nand was\n%v", i, ops, grown.actors[i])
		}
	}
}
