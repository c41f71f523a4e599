package transaction_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
)

const goldenGenesis = "../../testdata/genesis/genesis.json"

type golden struct {
	Transaction, Chunk, Hash, DocumentID, URL string
}

// readGolden reads what make-genesis.mjs has printed.
func readGolden(t *testing.T) []golden {
	t.Helper()
	text, err := os.ReadFile(goldenGenesis)
	if err != nil {
		t.Fatal(err)
	}
	var gs []golden
	if err := json.Unmarshal(text, &gs); err != nil {
		t.Fatal(err)
	}
	if len(gs) < 5 {
		t.Fatalf("%d golden changes", len(gs))
	}
	return gs
}

func TestGenesisAsJavaScript(t *testing.T) {
	for _, g := range readGolden(t) {
		id, err := transaction.ParseID(g.Transaction)
		if err != nil {
			t.Fatal(err)
		}
		c := transaction.Genesis(id)
		if got := hex.EncodeToString(c.Chunk()); got != g.Chunk {
			t.Errorf("%s: Go makes\n%s, JavaScript\n%s", id, got, g.Chunk)
		}
		if got := c.Hash.String(); got != g.Hash {
			t.Errorf("%s: hash %s, want %s", id, got, g.Hash)
		}
		if got := id.Document().String(); got != g.DocumentID || "automerge:"+got != g.URL {
			t.Errorf("%s: document %s, want %s in %s", id, got, g.DocumentID, g.URL)
		}
		if of, ok := transaction.OfGenesis(c); !ok || of != id {
			t.Errorf("the genesis of %s is taken for that of %q", id, of)
		}
	}
}

// The golden file is what the script prints today.
func TestGoldenGenesisIsFresh(t *testing.T) {
	want, err := os.ReadFile(goldenGenesis)
	if err != nil {
		t.Fatal(err)
	}
	if got := node(t, "", "make-genesis.mjs"); string(got) != string(want) {
		t.Errorf("make-genesis.mjs prints\n%s, the file is\n%s", got, want)
	}
}

func TestOfGenesis(t *testing.T) {
	b := crdt.NewBuilder(crdt.Header{Actor: transaction.GenesisActor, Seq: 1, StartOp: 1, Message: transaction.Schema})
	b.Put(crdt.OpID{}, "schema", crdt.Text(transaction.Schema))
	b.Put(crdt.OpID{}, "transaction", crdt.Text("t"))
	c, err := b.Change(crdt.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := transaction.OfGenesis(c); ok {
		t.Errorf("half a genesis is taken for that of %s", id)
	}
}

func TestParseID(t *testing.T) {
	for _, s := range []string{"", strings.Repeat("x", 129), "a b", "ü", "a/b", "a\x00", "%41", "a:b"} {
		if id, err := transaction.ParseID(s); err == nil {
			t.Errorf("%q passes as %q", s, id)
		}
	}
	for _, s := range []string{"a", strings.Repeat("x", 128), "AZaz09._~-"} {
		if id, err := transaction.ParseID(s); err != nil || string(id) != s {
			t.Errorf("%q: %q, %v", s, id, err)
		}
	}
}
