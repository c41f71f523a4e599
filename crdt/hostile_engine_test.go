package crdt_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/automerge/automerge-go"

	"parley/crdt"
	"parley/crdt/historytest"
	"parley/crdt/internal/forge"
)

// The engine aborts its process on changes that it does not expect, so what
// the gate accepts is tried on it in a child process: this test binary, run
// again with engineChild set.
const (
	engineChild = "PARLEY_ENGINE_CHILD"
	engineTime  = 30 * time.Second // for one history, on a busy machine
	childJobs   = 500              // histories for one child
	answerRead  = "read "          // begins a child's answer to a history that went well
)

// TestAcceptedMutantsAreSafe is why the gate exists: what it accepts does not
// abort or hang the engine, leaves a document that can be saved and loaded, and is
// read there as the gate reads it.
func TestAcceptedMutantsAreSafe(t *testing.T) {
	want := runs(t, 2000)
	seed := envNumber(t, "PARLEY_SEED", 2)
	m := forge.NewMutator(uint64(seed))
	tried := 0
	for tried < want {
		jobs := acceptedMutants(t, m, min(childJobs, want-tried))
		jobs = append(jobs, acceptedOfEngine(t, m, uint64(seed+tried), 20)...)
		tried += len(jobs)
		for _, bad := range tryOnEngine(t, jobs) {
			t.Errorf("%s\n%s", bad.verdict, describe(bad.history))
		}
	}
	t.Logf("%d accepted mutants", tried)
}

// TestAcceptedCasesAreSafe does the same with the odd changes that have names.
func TestAcceptedCasesAreSafe(t *testing.T) {
	var jobs [][][]byte
	for _, c := range forge.Cases() {
		if c.Want == forge.Accepted {
			jobs = append(jobs, append(slices.Clone(c.Setup), c.Inputs[0].Bytes()))
		}
	}
	for _, bad := range tryOnEngine(t, jobs) {
		t.Errorf("%s\n%s", bad.verdict, describe(bad.history))
	}
}

// TestChildTellsWhatGoesWrong shows that the tests above can fail: without the
// gate, hostile changes abort the engine, and poison documents.
func TestChildTellsWhatGoesWrong(t *testing.T) {
	want := map[string]string{
		"column 0x1 actor 2":               "the engine died",
		"startOp 4294967295":               "the engine died",
		"time -9223372036854775808":        "poisoned",
		"mark deleted":                     "poisoned",
		"an actor that no operation names": "poisoned",
		"each row a literal run 0x42":      "poisoned",
		"of a deletion":                    "poisoned",
	}
	for _, c := range forge.Cases() {
		verdict, known := want[c.Name]
		if !known {
			continue
		}
		delete(want, c.Name)
		bad := tryOnEngine(t, [][][]byte{c.Setup, append(slices.Clone(c.Setup), c.Inputs[0].Bytes()), c.Setup})
		if len(bad) != 1 || !strings.HasPrefix(bad[0].verdict, verdict) {
			t.Errorf("%s/%s: %d findings, want one that begins: %s", c.Class, c.Name, len(bad), verdict)
			for _, b := range bad {
				t.Log(b.verdict)
			}
		}
	}
	for name := range want {
		t.Errorf("there is no case %q", name)
	}
}

// acceptedMutants returns n histories that the gate has accepted: honest ones
// that end with a mutant, and ones with several.
func acceptedMutants(t *testing.T, m *forge.Mutator, n int) [][][]byte {
	var jobs [][][]byte
	for len(jobs) < n {
		setup, mutants := m.Batch(20)
		d := setUp(t, setup)
		for _, chunk := range mutants {
			if give(d, chunk).Status == crdt.Accepted {
				jobs = append(jobs, append(slices.Clone(setup), chunk))
				d = setUp(t, setup)
			}
		}
		d = crdt.NewDocument(crdt.Limits{})
		var chain [][]byte
		for _, chunk := range m.History() {
			if give(d, chunk).Status == crdt.Accepted {
				chain = append(chain, chunk)
			}
		}
		if len(chain) > 0 {
			jobs = append(jobs, chain)
		}
	}
	return jobs[:n]
}

// acceptedOfEngine is like acceptedMutants, of a history that the engine has
// made.
func acceptedOfEngine(t *testing.T, m *forge.Mutator, seed uint64, n int) (jobs [][][]byte) {
	var history []*forge.Change
	for _, chunk := range historytest.Random(seed, 3, 12).Chunks() {
		c, err := forge.Parse(chunk)
		if err != nil {
			t.Fatal(err)
		}
		history = append(history, c)
	}
	setup, mutants := m.BatchOf(history, n)
	d := setUp(t, setup)
	for _, chunk := range mutants {
		if give(d, chunk).Status == crdt.Accepted {
			jobs = append(jobs, append(slices.Clone(setup), chunk))
			d = setUp(t, setup)
		}
	}
	return jobs
}

// finding is a history that the engine does not survive.
type finding struct {
	history [][]byte
	verdict string
}

// tryOnEngine gives every history to the engine, in children, and returns those
// that went wrong or that it reads otherwise than the gate.
func tryOnEngine(t *testing.T, jobs [][][]byte) (bad []finding) {
	t.Helper()
	for len(jobs) > 0 {
		verdicts, died := runChild(t, jobs)
		for i, v := range verdicts {
			if v := weigh(t, jobs[i], v); v != "" {
				bad = append(bad, finding{jobs[i], v})
			}
		}
		jobs = jobs[len(verdicts):]
		if died != "" && len(jobs) > 0 {
			bad = append(bad, finding{jobs[0], died})
			jobs = jobs[1:]
		}
	}
	return bad
}

// weigh compares what the engine read, if that is a child's answer, with what the
// gate reads. It returns what is wrong, "" if nothing is.
func weigh(t *testing.T, history [][]byte, answer string) string {
	t.Helper()
	text, ok := strings.CutPrefix(answer, answerRead)
	if !ok {
		return answer
	}
	var theirs reading
	if err := json.Unmarshal([]byte(text), &theirs); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return difference(t, read(t, history), theirs)
}

// runChild returns a verdict for each history until the child is done or dies;
// died says how.
func runChild(t *testing.T, jobs [][][]byte) (verdicts []string, died string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), engineChild+"=1", "MALLOC_ARENA_MAX=1")
	cmd.Stdin = bytes.NewReader(encodeJobs(jobs))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(engineTime, func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for len(verdicts) < len(jobs) && lines.Scan() {
		hang.Reset(engineTime)
		verdicts = append(verdicts, lines.Text())
	}
	hang.Stop()
	err = cmd.Wait()
	if len(verdicts) == len(jobs) {
		return verdicts, ""
	}
	return verdicts, fmt.Sprintf("the engine died (%v): %.400s", err, stderr.String())
}

func encodeJobs(jobs [][][]byte) []byte {
	var b []byte
	for _, job := range jobs {
		b = binary.AppendUvarint(b, uint64(len(job)))
		for _, chunk := range job {
			b = append(binary.AppendUvarint(b, uint64(len(chunk))), chunk...)
		}
	}
	return b
}

// describe writes a history so that it can be read and tried again.
func describe(history [][]byte) string {
	var s strings.Builder
	for _, chunk := range history {
		fmt.Fprintln(&s, hex.EncodeToString(chunk))
	}
	return s.String()
}

func TestMain(m *testing.M) {
	if os.Getenv(engineChild) != "" {
		beChild()
		return
	}
	os.Exit(m.Run())
}

// beChild reads histories and writes a line for each.
func beChild() {
	in := bufio.NewReader(os.Stdin)
	for i := 0; ; i++ {
		job, err := readJob(in)
		if err != nil {
			return
		}
		fmt.Println(answer(job))
		if i%100 == 0 {
			runtime.GC() // the binding frees documents in finalizers alone
		}
	}
}

// answer is what the engine reads in a history, or what goes wrong, in a line.
func answer(history [][]byte) string {
	if len(history) > 2 && bytes.Equal(history[0], damaged) {
		return compactDamaged(history[1], history[2:])
	}
	doc, err := tryHistory(history)
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	r, err := engineReads(doc, history)
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return answerRead + string(text)
}

// engineReads returns what a document says of its changes, which it has taken
// apart and put together again.
func engineReads(doc *automerge.Doc, history [][]byte) (r reading, err error) {
	changes, err := doc.Changes()
	if err != nil {
		return r, err
	}
	for _, c := range changes {
		var deps []string
		for _, d := range c.Dependencies() {
			deps = append(deps, d.String())
		}
		// The binding takes seconds for milliseconds.
		r.Changes = append(r.Changes, header(c.Hash().String(), c.ActorID(), c.ActorSeq(), c.Timestamp().UnixMilli(), c.Message(), deps))
	}
	slices.Sort(r.Changes)
	r.Heads = strings.Fields(headsOf(doc))
	state, err := crdt.Materialize(nil, history)
	r.State = string(state)
	return r, err
}

func readJob(in *bufio.Reader) ([][]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	job := make([][]byte, n)
	for i := range job {
		size, err := binary.ReadUvarint(in)
		if err != nil {
			return nil, err
		}
		job[i] = make([]byte, size)
		if _, err := io.ReadFull(in, job[i]); err != nil {
			return nil, err
		}
	}
	return job, nil
}

// tryHistory loads a history in the ways that a replica can get it, and what
// each saves again. All must end with the same heads and every change. It returns
// the document that was saved and loaded.
func tryHistory(history [][]byte) (*automerge.Doc, error) {
	whole, err := automerge.Load(bytes.Join(history, nil))
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	heads := headsOf(whole)
	if _, err := reload("whole", whole, heads, len(history)); err != nil {
		return nil, err
	}
	step, err := automerge.Load(history[0])
	if err != nil {
		return nil, fmt.Errorf("load the first: %w", err)
	}
	for i, chunk := range history[1:] {
		if err := step.LoadIncremental(chunk); err != nil {
			return nil, fmt.Errorf("load change %d: %w", i+1, err)
		}
	}
	if _, err := reload("one by one", step, heads, len(history)); err != nil {
		return nil, err
	}
	turned := slices.Clone(history)
	slices.Reverse(turned)
	backward, err := automerge.Load(bytes.Join(turned, nil))
	if err != nil {
		return nil, fmt.Errorf("load backward: %w", err)
	}
	return reload("backward", backward, heads, len(history))
}

func reload(how string, doc *automerge.Doc, heads string, changes int) (*automerge.Doc, error) {
	if got := headsOf(doc); got != heads {
		return nil, fmt.Errorf("%s: heads %s, want %s", how, got, heads)
	}
	again, err := automerge.Load(doc.Save())
	if err != nil {
		return nil, fmt.Errorf("poisoned, %s: %w", how, err)
	}
	if got := headsOf(again); got != heads {
		return nil, fmt.Errorf("poisoned, %s: heads %s, want %s", how, got, heads)
	}
	cs, err := again.Changes()
	if err != nil || len(cs) != changes {
		return nil, fmt.Errorf("poisoned, %s: %d changes (%v), want %d", how, len(cs), err, changes)
	}
	return again, nil
}

func headsOf(doc *automerge.Doc) string {
	var hs []string
	for _, h := range doc.Heads() {
		hs = append(hs, h.String())
	}
	slices.Sort(hs)
	return strings.Join(hs, " ")
}
