package crdt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"parley/crdt/internal/forge"
)

// maxProgram bounds the programs that a fuzzer tries: longer ones only take
// longer.
const maxProgram = 200

// A mutantBase is an honest history, of which changes are mutated.
type mutantBase struct {
	history []*forge.Change
	chunks  [][]byte
	changes []*Change
}

// mutantBases are histories that the forge has made, and the beginnings of some
// that JavaScript has.
func mutantBases(t testing.TB) (bases []mutantBase) {
	t.Helper()
	add := func(history []*forge.Change) {
		b := mutantBase{history: history}
		for _, c := range history {
			change, err := DecodeChange(c.Chunk(), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			b.chunks, b.changes = append(b.chunks, c.Chunk()), append(b.changes, change)
		}
		bases = append(bases, b)
	}
	for seed := range uint64(8) {
		add(forge.History(rand.New(rand.NewPCG(seed, 4)), 6, 8))
	}
	for _, h := range goldenHistories(t) {
		var history []*forge.Change
		for _, chunk := range h.changes {
			c, err := forge.Parse(chunk)
			if err != nil {
				t.Fatalf("%s: %v", h.name, err)
			}
			if len(history) < 8 && len(chunk) < 1000 {
				history = append(history, c)
			}
		}
		add(history)
	}
	return bases
}

func (b *mutantBase) last() int { return len(b.history) - 1 }

// setUp returns a document that has all but the base's last change.
func (b *mutantBase) setUp(t *testing.T) *Document {
	t.Helper()
	d := NewDocument(Limits{})
	for _, c := range b.changes[:b.last()] {
		if o := d.Add(c); o.Status == Refused {
			t.Fatalf("an honest change is refused: %v", o.Refusal)
		}
	}
	return d
}

// addPrograms gives a fuzzer a few programs for each of n bases.
func addPrograms(f *testing.F, n int) {
	rng := rand.New(rand.NewPCG(1, 2))
	for base := range n {
		for _, size := range []int{0, 4, 12, 40} {
			program := make([]byte, size)
			for i := range program {
				program[i] = byte(rng.Uint32())
			}
			f.Add(byte(base), program)
		}
	}
}

// FuzzChangeProgram mutates the last change of an honest history by a program
// and gives it to the gate.
func FuzzChangeProgram(f *testing.F) {
	bases := mutantBases(f)
	addPrograms(f, len(bases))
	f.Fuzz(func(t *testing.T, base byte, program []byte) {
		if len(program) > maxProgram {
			return
		}
		b := &bases[int(base)%len(bases)]
		checkMutant(t, b.setUp(t), forge.NewProgram(program).Change(b.history[b.last()], b.history[:b.last()]))
	})
}

// FuzzHistoryProgram mutates several changes of an honest history by a program.
// What the gate takes of it the engine must take, in this process.
func FuzzHistoryProgram(f *testing.F) {
	bases := mutantBases(f)
	addPrograms(f, len(bases))
	f.Fuzz(func(t *testing.T, base byte, program []byte) {
		if len(program) > maxProgram {
			return
		}
		d := NewDocument(Limits{Ops: 1000})
		for _, chunk := range forge.NewProgram(program).HistoryOf(bases[int(base)%len(bases)].history) {
			checkMutant(t, d, chunk)
		}
		if d.Graph.Len() > 0 {
			checkEngine(t, d)
		}
	})
}

// TestMutantsByMeaning is FuzzChangeProgram with so many mutants of each history,
// the same each time.
func TestMutantsByMeaning(t *testing.T) {
	const mutantsOfBase = 300
	bases := mutantBases(t)
	accepted, refused := 0, map[Code]int{}
	for i := range bases {
		b := &bases[i]
		d := b.setUp(t)
		before := d.Graph.Len()
		_, mutants := forge.NewMutator(uint64(i)).BatchOf(b.history, mutantsOfBase)
		for j, chunk := range mutants {
			code := checkMutant(t, d, chunk)
			if t.Failed() {
				t.Fatalf("base %d, mutant %d", i, j)
			}
			if code == "" {
				accepted++
			} else {
				refused[code]++
			}
			if d.Graph.Len() > before {
				d = b.setUp(t)
			}
		}
	}
	t.Logf("%d were accepted or held, refused %v", accepted, refused)
	for code := range sentences {
		switch code {
		case CodeChangeSize, CodeTooManyOps, CodeDepth, CodeDocumentSize, CodeTooManyHeads: // those take many bytes
			continue
		}
		if refused[code] == 0 {
			t.Errorf("no mutant was refused as %s", code)
		}
	}
	if accepted < len(bases)*mutantsOfBase/10 {
		t.Errorf("only %d mutants were accepted", accepted)
	}
}

// checkMutant gives the gate a chunk and checks what it makes of it. It returns
// the code of a refusal.
func checkMutant(t *testing.T, d *Document, chunk []byte) Code {
	t.Helper()
	before := bytes.Clone(chunk)
	c, err := DecodeChange(chunk, d.lim)
	if !bytes.Equal(before, chunk) {
		t.Errorf("% x was changed", before)
	}
	if err != nil {
		return checkMutantRefusal(t, err.(*Refusal), chunk)
	}
	checkRoundTrip(t, c)
	checkHeader(t, c)
	checkParsed(t, c)
	known, n := d.Graph.Accepted(c.Hash), d.Graph.Len()
	o := d.Add(c)
	if grown := d.Graph.Len() - n; grown != 0 != (o.Status == Accepted) || grown > 1 {
		t.Errorf("%+v, and the graph has grown by %d: % x", o, grown, chunk)
	}
	switch o.Status {
	case Accepted:
		checkTables(t, d)
		checkReloaded(t, d)
	case Refused:
		return checkMutantRefusal(t, o.Refusal, chunk)
	case Known:
		if !known {
			t.Errorf("%s is known, and was not accepted", c.Hash)
		}
	}
	return ""
}

// checkMutantRefusal checks that a refusal says why, and names a change only by a hash
// that its bytes have.
func checkMutantRefusal(t *testing.T, r *Refusal, chunk []byte) Code {
	t.Helper()
	if r.Code.Sentence() == "" || r.Reason == "" {
		t.Errorf("refused with code %q: %q", r.Code, r.Reason)
	}
	if r.Change != (Hash{}) && !bytes.Equal(r.Change[:checksumBytes], chunk[len(chunkMagic):chunkTypeAt]) {
		t.Errorf("%s is not the hash of % x", r.Change, chunk)
	}
	return r.Code
}

// checkReloaded loads what a document has accepted in both ways that a store
// does.
func checkReloaded(t *testing.T, d *Document) {
	t.Helper()
	var hashes []Hash
	var chunks [][]byte
	for i := range d.Graph.Len() {
		hashes, chunks = append(hashes, d.Graph.HashAt(i)), append(chunks, d.Graph.ChunkAt(i))
	}
	d.Graph.MarkDurable(d.Graph.Len())
	index := d.AppendIndex(nil)
	read, indexed := NewDocument(Limits{}), NewDocument(Limits{})
	if err := read.Load(chunks...); err != nil {
		t.Fatalf("what was accepted is not loaded: %v", err)
	}
	if err := indexed.LoadIndexed(index, hashes, chunks); err != nil {
		t.Fatalf("what was accepted is not loaded by its index: %v", err)
	}
	for how, again := range map[string]*Document{"read": read, "by its index": indexed} {
		if !bytes.Equal(again.AppendIndex(nil), index) || !reflect.DeepEqual(again.Graph.Tips(), d.Graph.Tips()) {
			t.Errorf("loaded %s it is another document", how)
		}
	}
}

// checkParsed compares what the gate reads in a change with what the forge's
// reader finds, which shares nothing with it.
func checkParsed(t *testing.T, c *Change) {
	t.Helper()
	p, err := forge.Parse(c.Chunk())
	if err != nil {
		t.Fatalf("the forge cannot read what the gate takes: %v: % x", err, c.Chunk())
	}
	deps := make([]forge.Hash, len(c.Deps))
	for i, h := range c.Deps {
		deps[i] = forge.Hash(h)
	}
	want := &forge.Change{
		Deps: p.Deps, Actor: string(c.Actor), Seq: c.Seq, StartOp: c.StartOp, Time: c.Time, Message: c.Message, Ops: forged(c), Extra: p.Extra,
	}
	if fmt.Sprint(deps) != fmt.Sprint(p.Deps) || !bytes.Equal(p.Extra, c.Extra) || p.Hash() != forge.Hash(c.Hash) {
		t.Errorf("%s: the forge reads deps %x, extra %x, hash %x", c.Hash, p.Deps, p.Extra, p.Hash())
	}
	if a, b := describeForged(want), describeForged(p); a != b {
		t.Errorf("the gate reads\n%s\nthe forge\n%s", a, b)
	}
}

// forged are a change's operations as the forge has them.
func forged(c *Change) []forge.Op {
	id := func(r Ref) forge.ID {
		if r.IsZero() {
			return forge.ID{}
		}
		return forge.ID{Counter: uint64(r.Counter), Actor: string(c.Actors[r.Actor])}
	}
	ops := make([]forge.Op, len(c.Ops))
	for i := range c.Ops {
		op := &c.Ops[i]
		o := forge.Op{
			Object: id(op.Object), Elem: id(op.Elem), Insert: op.Insert, Action: uint64(op.Action), Expand: op.Expand,
			Value: forge.Value{Type: byte(op.Value.Kind), Raw: []byte(op.Value.Raw())},
		}
		if op.Keyed {
			o.Key = &op.Key
		}
		if op.MarkBegin {
			o.Mark = &op.MarkName
		}
		for _, p := range op.Pred {
			o.Pred = append(o.Pred, id(p))
		}
		ops[i] = o
	}
	return ops
}

// describeForged writes what a change means, a line for each operation.
func describeForged(c *forge.Change) string {
	text := func(s *string) string {
		if s == nil {
			return "none"
		}
		return fmt.Sprintf("%q", *s)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "actor %x seq %d from %d at %d %q", c.Actor, c.Seq, c.StartOp, c.Time, c.Message)
	for _, o := range c.Ops {
		fmt.Fprintf(&b, "\n%d of %x key %s elem %x insert %v value %d %x pred %x mark %s expand %v",
			o.Action, o.Object, text(o.Key), o.Elem, o.Insert, o.Value.Type, o.Value.Raw, o.Pred, text(o.Mark), o.Expand)
	}
	return b.String()
}

// FuzzSnapshotProgram mutates a snapshot by a program: no reader of changes takes
// a document chunk, whatever is in it.
func FuzzSnapshotProgram(f *testing.F) {
	bases := mutantBases(f)
	snapshots := make([]Snapshot, len(bases))
	for i, b := range bases {
		d := NewDocument(Limits{})
		if err := d.Load(b.chunks...); err != nil {
			f.Fatal(err)
		}
		var err error
		if snapshots[i], err = Compact(nil, b.chunks, d.Graph.Tips()); err != nil {
			f.Fatal(err)
		}
	}
	addPrograms(f, len(bases))
	f.Fuzz(func(t *testing.T, base byte, program []byte) {
		if len(program) > maxProgram {
			return
		}
		chunk := forge.NewProgram(program).Document(snapshots[int(base)%len(snapshots)].Data)
		if len(chunk) > chunkTypeAt && (chunk[chunkTypeAt] == typeChange || chunk[chunkTypeAt] == typeDeflated) {
			checkMutant(t, NewDocument(Limits{}), chunk)
			return
		}
		_, err := DecodeChange(chunk, Limits{})
		_, errHeader := DecodeHeader(chunk)
		errLoad := NewDocument(Limits{}).Load(chunk)
		if err == nil || errHeader == nil || errLoad == nil {
			t.Errorf("a document is taken for a change: %v, %v, %v: % x", err, errHeader, errLoad, chunk)
		}
	})
}
