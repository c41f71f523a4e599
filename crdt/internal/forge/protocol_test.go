package forge_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/automerge/automerge-go"

	"parley/crdt"
	"parley/crdt/internal/forge"
	"parley/sync/protocol"
)

// maxProgram bounds the programs that a fuzzer tries: longer ones only take
// longer.
const maxProgram = 200

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

// messageHistory is the document that messages are about: its receiver has all
// but the last change.
var messageHistory = forge.History(rand.New(rand.NewPCG(5, 6)), 6, 8)

// messageBases are what messages are mutated from: V1 with a change, with
// several, V2 with a document and a change, and with everything.
var messageBases = func() (bases [][]byte) {
	var chunks [][]byte
	var heads []forge.Hash
	for _, c := range messageHistory {
		chunks, heads = append(chunks, c.Chunk()), append(heads, c.Hash())
	}
	n := len(chunks) - 1
	one := forge.NewSyncMessage(heads[n:], chunks[n])
	several := forge.NewSyncMessage(heads[n:], chunks...)
	several.Have = forge.Haves(forge.BloomBytes(2, 10, 7, []byte{1, 2, 3}))
	doc, err := automerge.Load(bytes.Join(chunks[:n], nil))
	if err != nil {
		panic(err)
	}
	run := append(doc.Save(), chunks[n]...)
	v2 := forge.NewSyncMessage(heads[n:], run)
	v2.Type, v2.Flags = forge.MessageV2, []byte{2, 2, 0x84}
	full := *several
	full.Need = append(forge.Uleb(1), heads[0][:]...)
	full.Flags = []byte{2, 2, 0x84}
	for _, m := range []*forge.SyncMessage{one, several, v2, &full} {
		bases = append(bases, m.Bytes())
	}
	return bases
}()

// FuzzMessageProgram mutates an honest sync message by a program. Nothing
// panics, what is read is what the bytes say, and it is answered once.
func FuzzMessageProgram(f *testing.F) {
	addPrograms(f, len(messageBases))
	f.Fuzz(func(t *testing.T, base byte, program []byte) {
		if len(program) > maxProgram {
			return
		}
		checkMessage(t, forge.NewProgram(program).Message(messageBases[int(base)%len(messageBases)]))
	})
}

// TestMutatedMessages is FuzzMessageProgram with so many mutants, the same each
// time.
func TestMutatedMessages(t *testing.T) {
	read, refused := 0, map[protocol.Code]int{}
	for seed := range uint64(5_000) {
		err := checkMessage(t, forge.NewMutator(seed).Message(messageBases[seed%uint64(len(messageBases))]))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if err == nil {
			read++
			continue
		}
		refused[err.Code]++
	}
	t.Logf("%d were read, refused %v", read, refused)
	for _, code := range []protocol.Code{
		protocol.CodeVersion, protocol.CodeTruncated, protocol.CodeNumber, protocol.CodeTooMany, protocol.CodeBloom, protocol.CodeChange, protocol.CodeTrailing,
	} {
		if refused[code] == 0 {
			t.Errorf("no message was refused as %s", code)
		}
	}
	if read < 1500 {
		t.Errorf("only %d messages were read", read)
	}
}

// checkMessage decodes a sync message and lets a replica answer it. It returns
// nil or why the message was refused.
func checkMessage(t *testing.T, b []byte) *protocol.Error {
	t.Helper()
	m, err := protocol.Decode(b, protocol.Limits{DocumentChunks: true})
	server, errServer := protocol.Decode(b, protocol.Limits{})
	if err != nil {
		var refused *protocol.Error
		if !errors.As(err, &refused) || refused.Reason == "" || m != nil || errServer == nil {
			t.Fatalf("% x: message %v, error %#v, a server's %v", b, m, err, errServer)
		}
		return refused
	}
	if m.Version == protocol.V2 && errServer == nil && len(server.Changes) > 0 && len(server.Changes[0]) > 0 {
		t.Errorf("% x: a server takes document chunks", b)
	}
	again := m.Append(nil)
	if !bytes.HasPrefix(b, again) {
		t.Errorf("% x written again is % x", b, again)
	}
	checkParts(t, b, m)
	graph := messageGraph(t)
	var s protocol.State
	s.Receive(graph, m)
	reply, said := s.Generate(graph, protocol.Options{})
	if said {
		if _, err := protocol.Decode(reply.Append(nil), protocol.Limits{}); err != nil {
			t.Errorf("% x is answered with what is no message: %v", b, err)
		}
	}
	if twice, ok := s.Generate(graph, protocol.Options{}); ok {
		t.Errorf("% x is answered twice, the second time with % x", b, twice.Append(nil))
	}
	return nil
}

// checkParts compares a message with its parts as they are cut without the code
// under test.
func checkParts(t *testing.T, b []byte, m *protocol.Message) {
	t.Helper()
	parts, err := forge.DissectMessage(b)
	if err != nil {
		t.Errorf("% x is read as %+v, but has no parts", b, m)
		return
	}
	hashes := func(what string, part []byte, got []crdt.Hash) {
		want := forge.HashItems(part)
		if len(want) != len(got) {
			t.Errorf("% x: %d %s, want %d", b, len(got), what, len(want))
			return
		}
		for i, h := range got {
			if !bytes.Equal(h[:], want[i]) {
				t.Errorf("% x: %s %d is %s, want %x", b, what, i, h, want[i])
			}
		}
	}
	for _, h := range m.Have {
		checkBloom(t, h.Bloom)
	}
	hashes("heads", parts.Heads, m.Heads)
	hashes("needs", parts.Need, m.Need)
	want := forge.SizedItems(parts.Changes)
	if len(want) != len(m.Changes) {
		t.Errorf("% x: %d changes, want %d", b, len(m.Changes), len(want))
		return
	}
	for i, c := range m.Changes {
		if !bytes.Equal(c, want[i]) {
			t.Errorf("% x: change %d is % x, want % x", b, i, c, want[i])
		}
	}
}

// checkBloom checks that a filter has the bits that it says.
func checkBloom(t *testing.T, bloom protocol.Bloom) {
	t.Helper()
	if len(bloom) == 0 {
		return
	}
	rest := []byte(bloom)
	var numbers [3]uint64
	for i := range numbers {
		v, n := binary.Uvarint(rest)
		numbers[i], rest = v, rest[max(n, 0):]
	}
	if bits := numbers[0] * numbers[1]; numbers[1] != 10 || numbers[2] != 7 || uint64(len(rest)) != (bits+7)/8 {
		t.Errorf("a filter of %d entries, %d bits each, %d probes in %d bytes is taken", numbers[0], numbers[1], numbers[2], len(rest))
	}
}

// messageGraph is what the receiver of messages has.
func messageGraph(t *testing.T) *crdt.Graph {
	t.Helper()
	doc := crdt.NewDocument(crdt.Limits{})
	for _, c := range messageHistory[:len(messageHistory)-1] {
		change, err := crdt.DecodeChange(c.Chunk(), crdt.Limits{})
		if err != nil || doc.Add(change).Status != crdt.Accepted {
			t.Fatalf("an honest change is refused: %v", err)
		}
	}
	doc.Graph.MarkDurable(doc.Graph.Len())
	return &doc.Graph
}
