package audit

import (
	"encoding/json"
	"fmt"
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

// TestStranger runs a verifier that shares nothing with ours but FORMAT.md, on
// what is whole and on what is not.
func TestStranger(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("node, which runs the other verifier, is not installed")
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "parley.pub")
	for name, s := range map[string]*scene{"sale": sale(t), "open": open(t), "long": long(t, 300)} {
		s.must(os.WriteFile(key, []byte(s.key.Public().Text()), 0o644))
		record := s.record()
		path := filepath.Join(dir, name)
		s.must(os.WriteFile(path, record, 0o644))
		out, err := exec.CommandContext(t.Context(), "node", "testdata/stranger.mjs", path, key).CombinedOutput()
		if want := fmt.Sprintf("%d changes, %d agreements\n", len(s.src.Changes), len(s.src.Resolutions)); err != nil || string(out) != want {
			t.Errorf("%s: %v: %s, want %s", name, err, out, want)
		}
		record[len(record)/2] ^= 1
		s.must(os.WriteFile(path, record, 0o644))
		if out, err := exec.CommandContext(t.Context(), "node", "testdata/stranger.mjs", path, key).CombinedOutput(); err == nil {
			t.Errorf("%s, damaged: %s", name, out)
		}
	}
}
