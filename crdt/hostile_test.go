package crdt_test

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/internal/forge"
)

// Bounds on what one input may cost, whatever it claims. They are far above
// what inputs take, and far below what they ask for.
const (
	inputTime  = 2 * time.Second // with the race detector on a busy machine
	inputBytes = 64 << 20        // allocated in all
)

// runs is PARLEY_RUNS, or n.
func runs(t *testing.T, n int) int { return envNumber(t, "PARLEY_RUNS", n) }

// envNumber is the number that an environment variable holds, or n.
func envNumber(t *testing.T, name string, n int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return n
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// give takes a chunk from bytes to the gate's last word.
func give(d *crdt.Document, chunk []byte) crdt.Outcome {
	c, err := crdt.DecodeChange(chunk, crdt.Limits{})
	if err != nil {
		return crdt.Outcome{Status: crdt.Refused, Refusal: err.(*crdt.Refusal)}
	}
	return d.Add(c)
}

// setUp returns a document that has accepted honest changes.
func setUp(t *testing.T, chunks [][]byte) *crdt.Document {
	t.Helper()
	d := crdt.NewDocument(crdt.Limits{})
	for i, chunk := range chunks {
		if o := give(d, chunk); o.Status != crdt.Accepted {
			t.Fatalf("honest change %d: %+v", i, o)
		}
	}
	return d
}

func TestHostileChanges(t *testing.T) {
	inputs := 0
	for _, c := range forge.Cases() {
		d := setUp(t, c.Setup)
		all := c.All()
		inputs += len(all)
		for i, chunk := range all {
			before := d.Graph.Len()
			o := bounded(t, d, &c, chunk)
			if !fitting(o, c.Want, c.Reason) {
				t.Errorf("%s/%s, input %d: status %d, refusal %v, want %s for %s", c.Class, c.Name, i, o.Status, o.Refusal, c.Want, c.Reason)
			}
			if o.Status != crdt.Accepted && d.Graph.Len() != before {
				t.Errorf("%s/%s, input %d: the document changed", c.Class, c.Name, i)
			}
		}
	}
	t.Logf("%d inputs of %d cases", inputs, len(forge.Cases()))
}

// bounded gives d a chunk and fails if that took too much time or memory.
func bounded(t *testing.T, d *crdt.Document, c *forge.Case, chunk []byte) crdt.Outcome {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	o := give(d, chunk)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if took > inputTime {
		t.Errorf("%s/%s: took %v", c.Class, c.Name, took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > inputBytes {
		t.Errorf("%s/%s: allocated %d bytes", c.Class, c.Name, n)
	}
	return o
}

// reasons are the codes that a broken rule of that kind may be reported as.
var reasons = map[forge.Reason][]crdt.Code{
	forge.BadFraming:   {crdt.CodeFraming, crdt.CodeHeader, crdt.CodeDeps},
	forge.BadChecksum:  {crdt.CodeChecksum, crdt.CodeFraming, crdt.CodeDeflate},
	forge.BadInflate:   {crdt.CodeDeflate, crdt.CodeFraming, crdt.CodeChecksum},
	forge.BadField:     {crdt.CodeHeader, crdt.CodeDeps, crdt.CodeActors, crdt.CodeCounter, crdt.CodeColumns, crdt.CodeExtra},
	forge.BadColumn:    {crdt.CodeColumns, crdt.CodeTooManyOps, crdt.CodeHeader, crdt.CodeKey, crdt.CodeReference, crdt.CodeValue, crdt.CodePreds, crdt.CodeMark, crdt.CodeAction, crdt.CodeExtra, crdt.CodeActors, crdt.CodeObjectType},
	forge.BadOperation: {crdt.CodeColumns, crdt.CodeAction, crdt.CodeKey, crdt.CodeReference, crdt.CodeValue, crdt.CodeMark, crdt.CodePreds, crdt.CodeDuplicateKey, crdt.CodeUnknownObject, crdt.CodeObjectType, crdt.CodeUnknownElement, crdt.CodeUnknownPred, crdt.CodeIncrement, crdt.CodeActors},
	forge.BadHistory:   {crdt.CodeSequence, crdt.CodeStartOp, crdt.CodeCounter, crdt.CodeReference},
	forge.OverLimit:    {crdt.CodeChangeSize, crdt.CodeTooManyOps, crdt.CodeDeps, crdt.CodeExtra},
}

func fitting(o crdt.Outcome, want forge.Want, reason forge.Reason) bool {
	switch want {
	case forge.Refused:
		return o.Status == crdt.Refused && slices.Contains(reasons[reason], o.Refusal.Code)
	case forge.Held:
		return o.Status == crdt.Held && len(o.Missing) > 0
	case forge.Accepted:
		return o.Status == crdt.Accepted
	}
	return false
}

// TestMutants gives the gate random wrong changes, alone and in histories:
// nothing panics, and what it refuses leaves no trace.
func TestMutants(t *testing.T) {
	start := time.Now()
	m := forge.NewMutator(1)
	var tally [4]int
	for total := 0; total < runs(t, 200_000); {
		setup, mutants := m.Batch(20)
		d := setUp(t, setup)
		for _, chunk := range mutants {
			status := offer(t, d, chunk)
			if tally[status]++; status == crdt.Accepted {
				d = setUp(t, setup)
			}
		}
		d = crdt.NewDocument(crdt.Limits{})
		history := m.History()
		for _, chunk := range history {
			tally[offer(t, d, chunk)]++
		}
		total += len(mutants) + len(history)
		if os.Getenv("PARLEY_RUNS") == "" && time.Since(start) > 15*time.Second {
			break
		}
	}
	t.Logf("%d accepted, %d known, %d held, %d refused in %v",
		tally[crdt.Accepted], tally[crdt.Known], tally[crdt.Held], tally[crdt.Refused], time.Since(start))
	if tally[crdt.Accepted] == 0 || tally[crdt.Refused] == 0 {
		t.Error("mutants are all accepted or all refused: they test nothing")
	}
}

// offer gives d a chunk and fails if it refuses it and changes nevertheless.
func offer(t *testing.T, d *crdt.Document, chunk []byte) crdt.Status {
	t.Helper()
	before := d.Graph.Len()
	o := give(d, chunk)
	if grown := d.Graph.Len() - before; grown != 0 && o.Status != crdt.Accepted {
		t.Fatalf("%+v, but the graph has grown by %d: % x", o, grown, chunk)
	}
	return o.Status
}

// FuzzGate gives the gate bytes, and a mutant of them where they are a change.
func FuzzGate(f *testing.F) {
	cases := forge.Cases()
	for i := 0; i < len(cases); i += 8 {
		if in := cases[i].Inputs[0]; len(in.Head)+in.Zeros < 1000 {
			f.Add(in.Bytes(), uint64(i))
		}
	}
	setup := cases[0].Setup
	f.Fuzz(func(t *testing.T, chunk []byte, seed uint64) {
		if len(chunk) > 100_000 {
			return
		}
		for _, b := range [][]byte{chunk, forge.NewMutator(seed).Chunk(chunk)} {
			d := setUp(t, setup)
			if offer(t, d, b) != crdt.Accepted {
				continue
			}
			c, err := crdt.DecodeHeader(b)
			if err != nil || !d.Graph.Accepted(c.Hash) {
				t.Fatalf("accepted, but its header is refused: %v", err)
			}
		}
	})
}
