package crdt

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"context"
)

const interopDir = "../testdata/interop"

// interop runs a script of the interop folder and returns what it prints.
func interop(t testing.TB, args ...string) []byte {
	t.Helper()
	if _, err := os.Stat(filepath.Join(interopDir, "node_modules")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s has no node_modules: run npm ci there", interopDir)
		}
		t.Skipf("%s has no node_modules; npm ci there lets this test run", interopDir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = interopDir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// history is the changes of one document, each after its dependencies.
type history struct {
	name    string
	changes [][]byte
}

// readHistories reads what make-changes.mjs prints.
func readHistories(t testing.TB, out []byte) []history {
	t.Helper()
	var hs []history
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		kind, value, _ := strings.Cut(lines.Text(), " ")
		if kind == "doc" {
			hs = append(hs, history{name: value})
			continue
		}
		chunk, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		last := &hs[len(hs)-1]
		last.changes = append(last.changes, chunk)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return hs
}

// TestTakesWhatJavaScriptMakes is the test against false refusals: a client
// whose change is refused cannot sync.
func TestTakesWhatJavaScriptMakes(t *testing.T) {
	documents, steps, want := 130, 50, 5000
	if testing.Short() {
		documents, steps, want = 6, 60, 200
	}
	out := interop(t, "make-changes.mjs", "7", fmt.Sprint(documents), fmt.Sprint(steps))
	total, ops := 0, 0
	seen := map[string]int{}
	for _, h := range readHistories(t, out) {
		total += len(h.changes)
		ops += replay(t, h, seen)
	}
	t.Logf("%d changes, %d operations, %v", total, ops, seen)
	if total < want {
		t.Errorf("%d changes, want at least %d", total, want)
	}
	for _, what := range []string{"author", "mark", "message", "empty", "counter", "increment", "gap"} {
		if seen[what] == 0 {
			t.Errorf("no change with: %s", what)
		}
	}
}

// replay gives a history to a document, and to one that reloads now and then.
// Deflated, every change must decode to the same.
func replay(t *testing.T, h history, seen map[string]int) (ops int) {
	t.Helper()
	d, reloaded := NewDocument(Limits{}), NewDocument(Limits{})
	for i, chunk := range h.changes {
		c, err := DecodeChange(chunk, Limits{})
		if err != nil {
			t.Errorf("%s: change %d: %v\n%x", h.name, i, err, chunk)
			return ops
		}
		checkRoundTrip(t, c)
		checkDeflated(t, c)
		checkHeader(t, c)
		note(d, c, seen)
		ops += c.NumOps()
		if o := d.Add(c); o.Status != Accepted && o.Status != Known {
			t.Errorf("%s: change %d: %+v %v", h.name, i, o, o.Refusal)
			return ops
		}
		if i%50 == 49 {
			reloaded = reload(t, d, i)
		}
		if o := reloaded.Add(c); o.Status != Accepted && o.Status != Known {
			t.Errorf("%s: change %d, reloaded: %+v %v", h.name, i, o, o.Refusal)
			return ops
		}
		if o := d.Add(c); o.Status != Known {
			t.Errorf("%s: change %d again: %+v", h.name, i, o)
		}
	}
	checkEngine(t, d)
	return ops
}

// checkEngine checks that the engine takes what the gate took.
func checkEngine(t *testing.T, d *Document) {
	t.Helper()
	chunks := make([][]byte, d.Graph.Len())
	for i := range chunks {
		chunks[i] = d.Graph.ChunkAt(i)
	}
	if _, err := Compact(nil, chunks, d.Graph.Tips()); err != nil {
		t.Errorf("the engine does not take what the gate took: %v", err)
	}
}

// reload makes a document of what is in another one, or drops its tables.
func reload(t *testing.T, d *Document, i int) *Document {
	t.Helper()
	again := NewDocument(Limits{})
	var chunks [][]byte
	for j := range d.Graph.Len() {
		chunks = append(chunks, d.Graph.ChunkAt(j))
	}
	if err := again.Load(chunks...); err != nil {
		t.Fatal(err)
	}
	if again.Bytes() != d.Bytes() || again.NumOps() != d.NumOps() || again.Graph.Durable() != d.Graph.Len() {
		t.Errorf("loaded: %d bytes, %d ops, %d durable; want %d, %d, %d", again.Bytes(), again.NumOps(),
			again.Graph.Durable(), d.Bytes(), d.NumOps(), d.Graph.Len())
	}
	if i%100 == 99 {
		d.DropTables()
	}
	return again
}

func checkDeflated(t *testing.T, c *Change) {
	t.Helper()
	again, err := DecodeChange(frame(typeDeflated, newDraft(c).body()), Limits{})
	if err != nil {
		t.Fatalf("%s deflated: %v", c.Hash, err)
	}
	if again.Hash != c.Hash || again.size != c.size {
		t.Errorf("%s deflated is %s", c.Hash, again.Hash)
	}
}

func checkHeader(t *testing.T, c *Change) {
	t.Helper()
	h, err := DecodeHeader(c.Chunk())
	if err != nil {
		t.Fatal(err)
	}
	if h.Hash != c.Hash || h.Actor != c.Actor || h.Seq != c.Seq || h.MaxOp() != c.MaxOp() || h.size != c.size {
		t.Errorf("header of %s: %+v", c.Hash, h)
	}
}

// note counts what a change shows.
func note(d *Document, c *Change, seen map[string]int) {
	count := func(what string, is bool) {
		if is {
			seen[what]++
		}
	}
	count("author", c.Extra != nil)
	count("message", c.Message != "")
	count("empty", c.NumOps() == 0)
	count("gap", c.StartOp > d.Graph.MaxOpOf(c.Deps)+1)
	count("merge", len(c.Deps) > 1)
	for i := range c.Ops {
		op := &c.Ops[i]
		count("mark", op.Action == Mark)
		count("counter", op.Value.Kind == KindCounter)
		count("increment", op.Action == Increment)
		count("conflict", len(op.Pred) > 1)
		count("text object", op.Action == MakeText)
	}
}
