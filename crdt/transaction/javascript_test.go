package transaction_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
)

// whole is what picksOf says of a transaction in testdata/interop.
type whole struct {
	Document json.RawMessage
	Picks    map[string]struct {
		Winner string
		Picks  map[string]json.RawMessage
	}
}

// madeByJavaScript is a line of make-transactions.mjs.
type madeByJavaScript struct {
	Transaction transaction.ID
	Changes     []struct {
		Chunk []byte
		transaction.Author
	}
	Whole whole
}

// TestTakesWhatJavaScriptWrites holds the schema against false refusals, and
// what we read against what the library reads of its own changes.
func TestTakesWhatJavaScriptWrites(t *testing.T) {
	n := runs(t, 30)
	changes, contested := 0, 0
	for seed := 1; n > 0; seed++ {
		batch := min(n, 200)
		n -= batch
		out := node(t, "", "make-transactions.mjs", fmt.Sprint(seed), fmt.Sprint(batch), "25")
		for line := range bytes.Lines(out) {
			var made madeByJavaScript
			if err := json.Unmarshal(line, &made); err != nil {
				t.Fatal(err)
			}
			r := takeJavaScript(t, made)
			compareWhole(t, string(made.Transaction), r.state, made.Whole)
			checkEngine(t, 0, r.state, r.chunks())
			changes += len(made.Changes)
			contested += len(r.state.Contested())
		}
	}
	t.Logf("%d changes, %d contested fields", changes, contested)
	if changes == 0 || contested == 0 {
		t.Error("the histories show too little")
	}
}

func takeJavaScript(t *testing.T, made madeByJavaScript) *replica {
	t.Helper()
	r := newReplica(made.Transaction, 0, "reader")
	for i, change := range made.Changes {
		c, err := crdt.DecodeChange(change.Chunk, crdt.Limits{})
		if err != nil {
			t.Fatalf("%s: change %d: %v", made.Transaction, i, err)
		}
		r.take(t, c, change.Author)
	}
	return r
}

// compareWhole checks that JavaScript has the same document, and for each
// field the same winner and the same live picks.
func compareWhole(t *testing.T, name string, s *transaction.State, theirs whole) {
	t.Helper()
	if ours := s.JSON(); !reflect.DeepEqual(parse(t, ours), parse(t, theirs.Document)) {
		t.Fatalf("%s: Go reads\n%s, JavaScript\n%s", name, ours, theirs.Document)
	}
	selections := s.Selections()
	if len(selections) != len(theirs.Picks) {
		t.Fatalf("%s: %d fields are picked, in JavaScript %d", name, len(selections), len(theirs.Picks))
	}
	for _, sel := range selections {
		their := theirs.Picks[sel.Field]
		if got := sel.Winner().Op.String(); got != their.Winner || len(sel.Picks) != len(their.Picks) {
			t.Fatalf("%s: %q: %s of %d wins, in JavaScript %s of %d", name, sel.Field, got, len(sel.Picks), their.Winner, len(their.Picks))
		}
		for _, p := range sel.Picks {
			var body struct {
				Value      json.RawMessage
				By, Option string
			}
			if err := json.Unmarshal(their.Picks[p.Op.String()], &body); err != nil {
				t.Fatalf("%s: %q: %s: %v", name, sel.Field, p.Op, err)
			}
			if body.By != p.By || body.Option != p.Option || !reflect.DeepEqual(parse(t, body.Value), parse(t, p.Value)) {
				t.Fatalf("%s: %q: %s: Go reads %+v, JavaScript %s", name, sel.Field, p.Op, p, their.Picks[p.Op.String()])
			}
		}
	}
}

// parse keeps numbers as they are written.
func parse(t *testing.T, text json.RawMessage) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestJavaScriptReadsWhatWeWrite gives JavaScript histories made in Go.
func TestJavaScriptReadsWhatWeWrite(t *testing.T) {
	n := runs(t, 80)
	var lines []string
	var states []*transaction.State
	for seed := range uint64(n) {
		s := newSim(t, seed+1_000_000)
		s.run(20 + s.rnd.IntN(30))
		all := s.merged()
		line, err := json.Marshal(all.chunks())
		if err != nil {
			t.Fatal(err)
		}
		lines, states = append(lines, string(line)), append(states, all.state)
	}
	out := strings.Split(strings.TrimSpace(string(node(t, strings.Join(lines, "\n")+"\n", "picks.mjs"))), "\n")
	if len(out) != n {
		t.Fatalf("picks.mjs answered %d of %d lines", len(out), n)
	}
	for i, line := range out {
		var theirs whole
		if err := json.Unmarshal([]byte(line), &theirs); err != nil {
			t.Fatal(err)
		}
		compareWhole(t, fmt.Sprintf("seed %d", i+1_000_000), states[i], theirs)
	}
}
