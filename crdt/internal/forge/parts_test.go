package forge

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/automerge/automerge-go"
)

// documents are chunks of whole documents that the engine has made; the last is
// large enough for it to deflate columns.
func documents(t testing.TB) (chunks [][]byte) {
	t.Helper()
	save := func(doc *automerge.Doc) {
		chunks = append(chunks, doc.Save())
	}
	for seed := range uint64(6) {
		var all []byte
		for _, c := range History(rand.New(rand.NewPCG(seed, 3)), 8, 12) {
			all = append(all, c.Chunk()...)
		}
		doc, err := automerge.Load(all)
		if err != nil {
			t.Fatal(err)
		}
		save(doc)
	}
	doc := automerge.New()
	if err := doc.SetActorID("aa"); err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		if err := doc.RootMap().Set(fmt.Sprint("key", i), fmt.Sprint("value", i)); err != nil {
			t.Fatal(err)
		}
	}
	save(doc)
	return chunks
}

// TestPartsMakeTheWhole takes honest documents, messages and frames apart and
// puts them together again.
func TestPartsMakeTheWhole(t *testing.T) {
	compressed := 0
	for i, chunk := range documents(t) {
		d, err := DissectDocument(chunk)
		if err != nil {
			t.Fatal(i, err)
		}
		for _, c := range append(d.Changes, d.Ops...) {
			if c.Spec&deflated != 0 {
				compressed++
			}
		}
		// The engine deflates otherwise than Go does: what it inflates to is the same.
		again, err := DissectDocument(d.Chunk())
		if err != nil || !bytes.Equal(again.Chunk(), d.Chunk()) {
			t.Errorf("document %d is another: %v", i, err)
		}
		if loaded, err := automerge.Load(d.Chunk()); err != nil || !bytes.Equal(loaded.Save(), chunk) {
			t.Errorf("document %d, put together: %v", i, err)
		}
	}
	if compressed == 0 {
		t.Error("no document has a deflated column")
	}
	for _, c := range MessageCases() {
		if in := c.Inputs[0]; c.Want != Refused && in.Zeros < 1000 {
			if m, err := DissectMessage(in.Bytes()); err != nil || !bytes.Equal(m.Bytes(), in.Bytes()) {
				t.Errorf("message %s: %v", c.Name, err)
			}
		}
	}
	for i, frame := range Frames() {
		top, rest, err := dissectCBOR(frame, 0)
		if err != nil || len(rest) > 0 || !bytes.Equal(top.append(nil), frame) {
			t.Errorf("frame %s: %v", frameTypes[i], err)
		}
	}
}

// TestMutantsOfPartsGetPastTheirFrames counts the mutants whose outermost
// framing is right: nearly all, and nearly none are what they were.
func TestMutantsOfPartsGetPastTheirFrames(t *testing.T) {
	docs, frames := documents(t), Frames()
	message := NewSyncMessage([]Hash{{1}}, newScene().next().Chunk())
	message.Have = Haves(BloomBytes(2, 10, 7, []byte{1, 2, 3}))
	v2 := &SyncMessage{MessageV2, Uleb(0), Uleb(0), Haves(), join(Uleb(1), Sized(join(docs[0], newScene().next().Chunk()))), []byte{2, 2, 0x84}}
	const rounds = 600
	count := map[string]int{}
	note := func(what string, is bool) {
		if is {
			count[what]++
		}
	}
	for seed := range uint64(rounds) {
		m := NewMutator(seed)
		doc := docs[seed%uint64(len(docs))]
		mutant := m.Document(doc)
		_, err := DissectDocument(mutant)
		note("documents in parts", err == nil)
		note("documents changed", !bytes.Equal(mutant, doc))
		for name, b := range map[string][]byte{"V1": message.Bytes(), "V2": v2.Bytes()} {
			mutant := NewMutator(seed).Message(b)
			_, err := DissectMessage(mutant)
			note(name+" messages in parts", err == nil)
			note(name+" messages changed", !bytes.Equal(mutant, b))
		}
		frame := frames[seed%uint64(len(frames))]
		mutant = m.Frame(frame)
		_, _, err = dissectCBOR(mutant, 0)
		note("frames in parts", err == nil)
		note("frames changed", !bytes.Equal(mutant, frame))
	}
	for what, n := range count {
		if n < rounds*6/10 {
			t.Errorf("%d of %d %s", n, rounds, what)
		}
	}
	t.Log(count)
}

// Mutating leaves what is mutated alone.
func TestMutatorsKeepTheirInput(t *testing.T) {
	doc, change := documents(t)[0], newScene().next().Chunk()
	message := NewSyncMessage(nil, change).Bytes()
	frame := FrameOf("sync", message)
	for seed := range uint64(500) {
		m := NewMutator(seed)
		for _, mutate := range []struct {
			name string
			of   func([]byte) []byte
			in   []byte
		}{{"chunk", m.Chunk, change}, {"document", m.Document, doc}, {"message", m.Message, message}, {"frame", m.Frame, frame}} {
			before := bytes.Clone(mutate.in)
			mutate.of(mutate.in)
			if !bytes.Equal(before, mutate.in) {
				t.Fatalf("seed %d: the %s was changed itself", seed, mutate.name)
			}
		}
	}
}
