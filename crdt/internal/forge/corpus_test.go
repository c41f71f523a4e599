package forge

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
)

func TestCorpusIsUpToDate(t *testing.T) {
	files, err := Corpus()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../../testdata/hostile", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the cases make (%v): run go generate ./crdt/internal/forge", name, err)
		}
		total += len(want)
	}
	if total > 1_500_000 {
		t.Errorf("the corpus has %d bytes: describe what is large by zeros", total)
	}
}

func TestMessageCases(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range MessageCases() {
		if seen[c.Class+c.Name] {
			t.Errorf("two cases %s/%s", c.Class, c.Name)
		}
		seen[c.Class+c.Name] = true
	}
	t.Logf("%d message cases", len(seen))
}

// TestFrameCases checks by an independent decoder that what is to be refused
// for its shape is CBOR, and what is to be undecodable is not.
func TestFrameCases(t *testing.T) {
	mode, err := cbor.DecOptions{MaxNestedLevels: 100, UTF8: cbor.UTF8DecodeInvalid, DupMapKey: cbor.DupMapKeyQuiet}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range FrameCases() {
		key := c.Class + "/" + c.Name
		if c.Joined {
			key += " after joining"
		}
		if seen[key] {
			t.Errorf("two cases %s", key)
		}
		seen[key] = true
		err := mode.Wellformed(c.Input.Bytes())
		switch c.Want {
		case Undecodable:
			if err == nil && !c.Text {
				t.Errorf("%s can be decoded", key)
			}
		case WrongShape, BadDocumentID, Ignored, Decodable:
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	t.Logf("%d frame cases", len(seen))
}

func TestDocumentTextIsADocumentID(t *testing.T) {
	if _, err := crdt.ParseDocumentID(DocumentText); err != nil {
		t.Error(err)
	}
}
