package crdt_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/historytest"
)

const interop = "../testdata/interop"

// needJavaScript skips the test where JavaScript's libraries are not installed,
// unless CI is set, where they must be.
func needJavaScript(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(interop, "node_modules")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the JavaScript libraries are not installed: run npm ci in testdata/interop: %v", err)
		}
		t.Skip("compares with JavaScript's implementation, which is not installed: run npm ci in testdata/interop")
	}
}

// javascript runs materialize.mjs over lines and returns its answers.
func javascript(t *testing.T, lines []string) []string {
	t.Helper()
	needJavaScript(t)
	cmd := exec.CommandContext(t.Context(), "node", "materialize.mjs")
	cmd.Dir = interop
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("materialize.mjs: %v\n%s", err, stderr.Bytes())
	}
	var answers []string
	for in := bufio.NewReader(bytes.NewReader(out)); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		answers = append(answers, strings.TrimSuffix(line, "\n"))
	}
	if len(answers) != len(lines) {
		t.Fatalf("materialize.mjs answered %d of %d lines", len(answers), len(lines))
	}
	return answers
}

func TestMaterializeAsJavaScript(t *testing.T) {
	documents := [][][]byte{oddValues(t)}
	for seed := range uint64(20) {
		documents = append(documents, historytest.Random(seed, 3, 60).Chunks())
	}
	var lines []string
	for _, chunks := range documents {
		line, err := json.Marshal(chunks)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	for i, theirs := range javascript(t, lines) {
		ours, err := crdt.Materialize(nil, documents[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := parse(t, string(ours)), parse(t, theirs); !reflect.DeepEqual(got, want) {
			t.Errorf("document %d: Go reads\n%s, JavaScript\n%s", i, ours, theirs)
		}
	}
}

// parse keeps numbers as they are written, so that 5, 5.0 and an integer off by
// one differ.
func parse(t *testing.T, s string) (v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

// oddValues are those that JSON has no form for or that JavaScript's numbers
// cannot hold.
func oddValues(t *testing.T) [][]byte {
	t.Helper()
	doc, err := historytest.NewDoc([]byte("actor"))
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Close()
	for key, value := range map[string]any{
		"nan": math.NaN(), "inf": math.Inf(1), "-inf": math.Inf(-1), "float": 0.1, "whole": 5.0, "large": 1e21, "small": 5e-324,
		"min": int64(math.MinInt64), "max": uint64(math.MaxUint64), "2^53+1": int64(1<<53 + 1),
		"far": time.UnixMilli(1 << 50), "before 1970": time.UnixMilli(-1), "bytes": []byte{0xff, 0, 0xfe}, "no bytes": []byte{},
		"line separator": "\u2028<&>\x00\x7f", "counter": historytest.Counter(-3), "ключ": nil, "😀": "", "\uffff": true,
	} {
		if err := doc.Put(historytest.Path{key}, value); err != nil {
			t.Fatal(err)
		}
	}
	chunk, err := doc.Commit("", 0)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{chunk}
}

// A change made here is byte for byte the one that JavaScript makes of the same
// edit, so its hash is the same too.
func TestCommitAsJavaScript(t *testing.T) {
	doc, err := historytest.NewDoc([]byte{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Close()
	if err := doc.Put(historytest.Path{"a"}, "b"); err != nil {
		t.Fatal(err)
	}
	chunk, err := doc.Commit("m", 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(chunk), javascript(t, []string{""})[0]; got != want {
		t.Errorf("Go makes the change\n%s, JavaScript\n%s", got, want)
	}
}
