package crdt_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/historytest"
	"parley/crdt/internal/forge"
)

// A reading is what somebody makes of a history: a line for each change, sorted,
// the operations by the change's hash, the heads, sorted, and the document's state
// as crdt.Materialize writes it.
type reading struct {
	Changes    []string          `json:"changes"`
	Operations map[string]string `json:"-"` // of no change that cannot be told
	Heads      []string          `json:"heads"`
	State      string            `json:"state"`
}

// header is what a change says of itself, in a line.
func header(hash, actor string, seq uint64, seconds int64, message string, deps []string) string {
	slices.Sort(deps)
	return fmt.Sprintf("%s by %s, %d, at %d %q on %v", hash, actor, seq, seconds, message, deps)
}

// read is what the gate and the naive document make of a history.
func read(t *testing.T, history [][]byte) reading {
	t.Helper()
	r := reading{Operations: make(map[string]string)}
	var cs []*crdt.Change
	heads := make(map[string]bool)
	for _, chunk := range history {
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			t.Fatalf("what was accepted is refused: %v", err)
		}
		cs = append(cs, c)
		var deps []string
		for _, d := range c.Deps {
			deps = append(deps, d.String())
			delete(heads, d.String())
		}
		heads[c.Hash.String()] = true
		r.Changes = append(r.Changes, header(c.Hash.String(), hex.EncodeToString([]byte(c.Actor)), c.Seq, c.Time, c.Message, deps))
		var ops strings.Builder
		fmt.Fprintf(&ops, "from %d", c.StartOp)
		for i := range c.Ops {
			ops.WriteString("\n" + operationLine(c, &c.Ops[i]))
		}
		r.Operations[c.Hash.String()] = ops.String()
	}
	for h := range heads {
		r.Heads = append(r.Heads, h)
	}
	slices.Sort(r.Heads)
	slices.Sort(r.Changes)
	r.State = newNaive(cs).json()
	return r
}

// difference says in what two readings of a history differ, "" if in nothing.
func difference(t *testing.T, ours, theirs reading) string {
	t.Helper()
	switch {
	case !slices.Equal(ours.Changes, theirs.Changes):
		return fmt.Sprintf("changes are read as\n%s\nand by the other as\n%s", strings.Join(ours.Changes, "\n"), strings.Join(theirs.Changes, "\n"))
	case theirs.Operations != nil && !maps.Equal(ours.Operations, theirs.Operations):
		return fmt.Sprintf("operations are read as\n%v\nand by the other as\n%v", ours.Operations, theirs.Operations)
	case !slices.Equal(ours.Heads, theirs.Heads):
		return fmt.Sprintf("heads are %v, and to the other %v", ours.Heads, theirs.Heads)
	case !sameState(parse(t, ours.State), parse(t, theirs.State)):
		return fmt.Sprintf("the document is\n%s\nand to the other\n%s", ours.State, theirs.State)
	}
	return ""
}

// sameState compares JSON with another's. JavaScript writes a counter beyond 53
// bits as text, and has no date more than 8.64e15 milliseconds from 1970.
func sameState(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, ok := b[k]; !ok || !sameState(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameState)
	case json.Number:
		if b == a.String() {
			return true
		}
		x, err := a.Float64()
		if n, ok := b.(json.Number); ok && err == nil {
			y, err := n.Float64()
			return a == n || err == nil && x == y
		}
		return b == nil && (x > 8.64e15 || x < -8.64e15)
	}
	return reflect.DeepEqual(a, b)
}

// operationLine is an operation as JavaScript's decodeChange tells it.
func operationLine(c *crdt.Change, op *crdt.Op) string {
	id := func(r crdt.Ref, zero string) string {
		if r.IsZero() {
			return zero
		}
		return fmt.Sprintf("%d@%x", r.Counter, string(c.Actors[r.Actor]))
	}
	o := jsOp{Obj: id(op.Object, "_root"), Insert: op.Insert}
	o.Action = []string{"makeMap", "set", "makeList", "del", "makeText", "inc", "makeTable", "markEnd"}[op.Action]
	if op.Keyed {
		o.Key = op.Key
	} else {
		o.ElemID = id(op.Elem, "_head")
	}
	if op.MarkBegin {
		o.Action, o.Name = "markBegin", op.MarkName
	}
	if op.Action == crdt.Mark {
		o.Expand = op.Expand
	}
	if op.Action == crdt.Put || op.Action == crdt.Increment || op.MarkBegin {
		o.Value, o.Datatype = jsValue(op.Value)
	}
	if op.Action == crdt.Increment {
		o.Datatype = ""
	}
	for _, p := range op.Pred {
		o.Pred = append(o.Pred, id(p, ""))
	}
	return o.line()
}

// jsValue is a value as JavaScript's decodeChange tells it.
func jsValue(v crdt.Value) (value any, datatype string) {
	number := func(n any) any { return fmt.Sprint(n) }
	switch v.Kind {
	case crdt.KindFalse, crdt.KindTrue:
		return v.Kind == crdt.KindTrue, ""
	case crdt.KindUint:
		return number(v.Uint()), "uint"
	case crdt.KindInt:
		return number(v.Int()), "int"
	case crdt.KindFloat:
		return number(v.Float()), "float64"
	case crdt.KindText:
		return v.Text(), ""
	case crdt.KindBytes:
		list := []any{}
		for _, b := range []byte(v.Raw()) {
			list = append(list, number(b))
		}
		return list, ""
	case crdt.KindCounter:
		return number(v.Int()), "counter"
	case crdt.KindTimestamp:
		return number(v.Int()), "timestamp"
	}
	return nil, ""
}

// jsChange is what decode-changes.mjs prints of a change, its numbers as strings.
type jsChange struct {
	Hash, Actor, Message string
	Seq, StartOp, Time   string
	Deps                 []string
	Ops                  []jsOp
}

type jsOp struct {
	Action, Obj, Key, ElemID, Name, Datatype string
	Insert, Expand                           bool
	Value                                    any
	Pred                                     []string
}

// line writes an operation; a number is written as the float that it is to
// JavaScript.
func (o *jsOp) line() string {
	value := fmt.Sprintf("%#v", o.Value)
	if s, ok := o.Value.(string); ok && (o.Datatype != "" || o.Action == "inc" || o.Action == "markBegin") {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			value = fmt.Sprint(f)
		}
	}
	if o.Action == "markBegin" {
		o.Datatype = "" // JavaScript does not tell it
	}
	return fmt.Sprintf("  %s %s key %q elem %s insert %v %s %s on %v mark %q %v",
		o.Action, o.Obj, o.Key, o.ElemID, o.Insert, o.Datatype, value, o.Pred, o.Name, o.Expand)
}

func (c *jsChange) header(t *testing.T) string {
	t.Helper()
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return header(c.Hash, c.Actor, uint64(number(c.Seq)), number(c.Time), c.Message, c.Deps)
}

func (c *jsChange) operations() string {
	var s strings.Builder
	s.WriteString("from " + c.StartOp)
	for i := range c.Ops {
		s.WriteString("\n" + c.Ops[i].line())
	}
	return s.String()
}

// hide takes from a reading the operations that JavaScript cannot tell: those of
// changes with an integer beyond 53 bits.
func (r *reading) hide(t *testing.T, history [][]byte) {
	t.Helper()
	for _, chunk := range history {
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(c.Ops, func(op crdt.Op) bool { return beyond53(op.Value) }) {
			delete(r.Operations, c.Hash.String())
		}
	}
}

func beyond53(v crdt.Value) bool {
	const most = 1<<53 - 1
	switch v.Kind {
	case crdt.KindUint:
		return v.Uint() > most
	case crdt.KindInt, crdt.KindCounter, crdt.KindTimestamp:
		return v.Int() > most || v.Int() < -most
	}
	return false
}

// javascriptReads returns what JavaScript makes of each history, or why it takes
// none of it.
func javascriptReads(t *testing.T, histories [][][]byte) (readings []reading, errs []string) {
	t.Helper()
	needJavaScript(t)
	var in bytes.Buffer
	for _, h := range histories {
		line, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), "node", "decode-changes.mjs")
	cmd.Dir = interop
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("decode-changes.mjs: %v\n%s", err, stderr.Bytes())
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var answer struct {
			Changes      []jsChange
			Heads        []string
			State, Error string
		}
		if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		r := reading{Heads: answer.Heads, State: answer.State, Operations: make(map[string]string)}
		for _, c := range answer.Changes {
			r.Changes = append(r.Changes, c.header(t))
			if c.Ops != nil {
				r.Operations[c.Hash] = c.operations()
			}
		}
		slices.Sort(r.Changes)
		readings, errs = append(readings, r), append(errs, answer.Error)
	}
	if len(readings) != len(histories) {
		t.Fatalf("decode-changes.mjs answered %d of %d histories", len(readings), len(histories))
	}
	return readings, errs
}

// TestJavaScriptReadsTheSame gives JavaScript what the gate accepts: mutants,
// odd changes, and honest histories. It must take them, read every field as the
// gate does, and come to the state that the operations make.
func TestJavaScriptReadsTheSame(t *testing.T) {
	want := runs(t, 300)
	seed := envNumber(t, "PARLEY_SEED", 3)
	m := forge.NewMutator(uint64(seed))
	var odd [][][]byte
	for _, c := range forge.Cases() {
		if c.Want == forge.Accepted {
			odd = append(odd, append(slices.Clone(c.Setup), c.Inputs[0].Bytes()))
		}
	}
	odd = append(odd, oddValues(t), historytest.Random(uint64(seed), 3, 40).Chunks())
	histories, changes := 0, 0
	for jobs := odd; histories < want; jobs = acceptedMutants(t, m, min(childJobs, want-histories)) {
		readings, errs := javascriptReads(t, jobs)
		for i, job := range jobs {
			changes += len(job)
			ours := read(t, job)
			ours.hide(t, job)
			if errs[i] != "" {
				t.Errorf("JavaScript: %s\n%s", errs[i], describe(job))
			} else if d := difference(t, ours, readings[i]); d != "" {
				t.Errorf("%s\n%s", d, describe(job))
			}
		}
		histories += len(jobs)
	}
	t.Logf("%d histories, %d changes", histories, changes)
}

// TestReadingsDiffer shows that the comparisons can fail: each mutant of a change
// that the gate takes is told from the change.
func TestReadingsDiffer(t *testing.T) {
	setup, mutants := forge.NewMutator(4).Batch(300)
	d := setUp(t, setup)
	told := 0
	for _, chunk := range mutants {
		if give(d, chunk).Status != crdt.Accepted {
			continue
		}
		d = setUp(t, setup)
		ours, theirs := read(t, append(slices.Clone(setup), chunk)), read(t, setup)
		if difference(t, ours, theirs) == "" {
			t.Errorf("% x is not told from nothing", chunk)
		}
		told++
	}
	if told < 20 {
		t.Errorf("only %d mutants were accepted", told)
	}
}
