package audit

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// TestJavaScriptLoadsTheDocument: document.automerge is a file that Automerge
// loads, and what it finds there is what the record says.
func TestJavaScriptLoadsTheDocument(t *testing.T) {
	interop, err := filepath.Abs("../../testdata/interop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(interop, "node_modules")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the JavaScript libraries are not installed: run npm ci in testdata/interop: %v", err)
		}
		t.Skip("compares with JavaScript's implementation, which is not installed: run npm ci in testdata/interop")
	}
	const script = `
import * as A from "@automerge/automerge"
import { readFileSync } from "node:fs"
import { toJSON } from "./plain.mjs"
const doc = A.load(new Uint8Array(readFileSync(process.argv[1])))
console.log(JSON.stringify({ heads: A.getHeads(doc), changes: A.getAllChanges(doc).length, document: JSON.parse(toJSON(doc)) }))`
	for name, s := range map[string]*scene{"sale": sale(t), "open": open(t), "long": long(t, 300)} {
		fs, findings := verified(t, s)
		path := filepath.Join(t.TempDir(), "document.automerge")
		s.must(os.WriteFile(path, fs[fileDocument], 0o644))
		cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", script, path)
		cmd.Dir = interop
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var theirs struct {
			Heads    []string
			Changes  int
			Document any
		}
		s.must(json.Unmarshal(out, &theirs))
		var ours any
		s.must(json.Unmarshal(s.state.JSON(), &ours))
		slices.Sort(theirs.Heads)
		if !slices.Equal(theirs.Heads, findings.Heads) || theirs.Changes != findings.Size || !reflect.DeepEqual(theirs.Document, ours) {
			t.Errorf("%s: JavaScript finds %s", name, out)
		}
	}
}
