package session_test

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// abuser is one client that means no good, and the document that it works on.
type abuser struct {
	t    *testing.T
	conn *session.Conn
	doc  *session.Document
	id   crdt.DocumentID
	held int // bytes that the shell was told are kept for it
}

func newAbuser(t *testing.T) *abuser { return newAbuserWith(t, session.Limits{}) }

func newAbuserWith(t *testing.T, lim session.Limits) *abuser {
	t.Helper()
	lim = lim.WithDefaults()
	a := &abuser{t: t, id: crdt.DocumentID{1}}
	a.conn = session.NewConn(1, presence.Person{}, &session.ConnConfig{Self: "s", Storage: "st", Limits: lim})
	if _, ok := a.conn.Receive(wire.Append(nil, &wire.Join{SenderID: "p"})).(session.Joined); !ok {
		t.Fatal("no join")
	}
	a.doc = session.NewDocument(a.id, &session.DocumentConfig{Self: "s", Storage: "st", PlainDocuments: true, Limits: lim},
		session.Stored{Document: crdt.NewDocument(lim.Change)}, "life")
	return a
}

// send delivers a sync message and returns what the document wants done, or how
// the connection ends.
func (a *abuser) send(m protocol.Message) ([]session.Output, *session.Close) {
	a.t.Helper()
	m.Version = protocol.V1
	switch ev := a.conn.Receive(wire.Append(nil, &wire.Sync{SenderID: "p", DocumentID: a.id, Data: m.Append(nil)})).(type) {
	case session.Deliver:
		outs := a.doc.Step(epoch, ev.Input, nil)
		for _, out := range outs {
			if h, ok := out.(session.Held); ok {
				a.held += h.Bytes
			}
		}
		return outs, nil
	case session.Close:
		return nil, &ev
	default:
		a.t.Fatalf("%#v", ev)
		return nil, nil
	}
}

// frame makes a chunk of a body, deflated if that is asked for.
func frame(body []byte, deflate bool) []byte {
	plain := rechunk(body)
	if !deflate {
		return plain
	}
	sum := sha256.Sum256(plain[8:])
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestSpeed)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(body)
	_ = w.Close()
	head := binary.AppendUvarint(append([]byte{0x85, 0x6f, 0x4a, 0x83}, append(sum[:4:4], 2)...), uint64(z.Len()))
	return append(head, z.Bytes()...)
}

// bare is a change without operations, by an actor of its own.
func bare(n, seq int, deps ...crdt.Hash) []byte {
	b := binary.AppendUvarint(nil, uint64(len(deps)))
	for _, d := range crdt.SortHashes(slices.Clone(deps)) {
		b = append(b, d[:]...)
	}
	b = append(b, 8)
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	return frame(append(b, byte(seq), 1, 0, 0, 0, 0), false)
}

// text is a change that puts one long text at a key; nobody has its dependency.
func text(n, size int) []byte {
	b := slices.Concat([]byte{1}, bytes.Repeat([]byte{7}, 32), []byte{8})
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	b = append(b, 1, 2, 0, 0, 0, 6)
	columns := [][]byte{
		{0x15, 0x7f, 1, 'a'}, {0x34, 1}, {0x42, 0x7f, 1},
		binary.AppendUvarint([]byte{0x56, 0x7f}, uint64(size)<<4|6),
		append([]byte{0x57}, bytes.Repeat([]byte{'a'}, size)...),
		{0x70, 0x7f, 0},
	}
	for _, c := range columns {
		b = binary.AppendUvarint(append(b, c[0]), uint64(len(c)-1))
	}
	for _, c := range columns {
		b = append(b, c[1:]...)
	}
	return frame(b, true)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHeldChangesAreKeptSmall(t *testing.T) {
	a := newAbuser(t)
	before := heap()
	for n := range 100 {
		if _, end := a.send(protocol.Message{Changes: [][]byte{text(n, 100<<10)}}); end != nil {
			t.Fatal(end)
		}
	}
	if grown := int64(heap()) - int64(before); grown > 2<<20 {
		t.Errorf("100 held changes of 100 KiB, inflated, keep %d KB", grown>>10)
	}
	if a.held < 100*256 {
		t.Errorf("only %d bytes are accounted for", a.held)
	}
	runtime.KeepAlive(a)
}

func TestAMessageInflatesSoFar(t *testing.T) {
	a := newAbuserWith(t, session.Limits{MessageBytes: 1 << 20})
	var chunks [][]byte
	for n := range 12 {
		chunks = append(chunks, text(n, 100<<10))
	}
	if _, end := a.send(protocol.Message{Changes: chunks}); end == nil || end.Code != session.CloseTooLarge {
		t.Errorf("1.2 MB of changes in one small message: %v", end)
	}
}

func TestHeadsAreBounded(t *testing.T) {
	a := newAbuser(t)
	var chunks [][]byte
	for n := range 5_000 {
		chunks = append(chunks, bare(n, 1))
	}
	outs, end := a.send(protocol.Message{Changes: chunks})
	if end != nil {
		t.Fatal(end)
	}
	a.doc.Step(epoch, &session.DurableInput{N: a.doc.Graph().Len()}, nil)
	heads := a.doc.Graph().Heads()
	if len(heads) != 2000 {
		t.Errorf("%d heads", len(heads))
	}
	told := 0
	for _, out := range outs {
		if r, ok := out.(session.Refused); ok && r.First.Code == crdt.CodeTooManyHeads && r.Count == 3_000 {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times that 3,000 changes were refused", told)
	}
	// A client that has them all says so, and is understood.
	if _, end := a.send(protocol.Message{Heads: heads, Have: []protocol.Have{{LastSync: heads}}}); end != nil {
		t.Errorf("an honest answer ends with %v", end)
	}
	// A change that merges them is welcome.
	a.send(protocol.Message{Changes: [][]byte{bare(1<<30, 1, heads...)}})
	if n := len(a.doc.Graph().Tips()); n != 1 {
		t.Errorf("%d heads after a merge", n)
	}
}

func TestRefusedChangesAreNotAskedForForEver(t *testing.T) {
	a := newAbuser(t)
	var m protocol.Message
	chunks := make(map[crdt.Hash][]byte)
	for n := range 3000 {
		chunk := bare(n, 2) // its actor's first change is missing
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		chunks[c.Hash] = chunk
		m.Heads = append(m.Heads, c.Hash)
		m.Changes = append(m.Changes, chunk)
	}
	m.Heads, m.Have = crdt.SortHashes(m.Heads), []protocol.Have{{}}
	for range 10 {
		a.send(m)
		answer := a.doc.Pull(1)
		if answer == nil {
			return
		}
		m.Changes = nil
		for _, h := range needOf(t, answer) {
			m.Changes = append(m.Changes, chunks[h])
		}
	}
	t.Error("the exchange does not end")
}

func needOf(t *testing.T, frame []byte) []crdt.Hash {
	t.Helper()
	m, err := wire.Decode(frame, wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	pm, err := protocol.Decode(m.(*wire.Sync).Data, protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return pm.Need
}

func TestWhatAPeerSaysOfItselfIsAccountedFor(t *testing.T) {
	a := newAbuser(t)
	bloom := append(binary.AppendUvarint(nil, 800_000), 10, 7)
	bloom = append(bloom, make([]byte, 1_000_000)...)
	haves := []protocol.Have{{Bloom: bloom}, {Bloom: bloom}}
	if _, end := a.send(protocol.Message{Heads: []crdt.Hash{{9}}, Have: haves}); end != nil {
		t.Fatal(end)
	}
	if a.held < 2_000_000 {
		t.Errorf("%d bytes are accounted for of 2 MB", a.held)
	}
	if a.send(protocol.Message{Heads: []crdt.Hash{{9}}, Have: []protocol.Have{{}}}); a.held != 0 {
		t.Errorf("%d bytes are accounted for when it says little again", a.held)
	}
}

func TestManyDependenciesAreLookedAtOnce(t *testing.T) {
	a := newAbuser(t)
	var roots, held [][]byte
	var hashes []crdt.Hash
	for n := range 1500 {
		chunk := bare(n, 1)
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		roots, hashes = append(roots, chunk), append(hashes, c.Hash)
	}
	for n := range 40 {
		held = append(held, bare(1<<20+n, 1, hashes...))
	}
	a.send(protocol.Message{Changes: held})
	a.send(protocol.Message{Changes: roots})
	if n := a.doc.Graph().Len(); n != len(roots)+len(held) {
		t.Errorf("%d of %d changes were accepted", n, len(roots)+len(held))
	}
	if a.held != 0 {
		t.Errorf("%d bytes are still accounted for", a.held)
	}
}
