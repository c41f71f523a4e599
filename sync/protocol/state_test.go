package protocol

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"parley/crdt"
)

// sum makes hashes that look like hashes.
func sum(i int) crdt.Hash { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }

// heads returns the hash of the n-th change of a chain, as heads.
func heads(n int) []crdt.Hash {
	if n == 0 {
		return nil
	}
	return []crdt.Hash{chainHash(n - 1)}
}

// at is the message of a peer that has the first n changes of a chain.
func at(n int) *Message {
	g := chain(n)
	return &Message{Version: V1, Heads: heads(n), Have: []Have{{Bloom: MakeBloom(g, g.Since(nil))}}}
}

var v2Peer = Capabilities{readsV2, flagsMark | byte(SupportsSyncReset)}

func generate(t *testing.T, s *State, g *crdt.Graph, opt Options) *Message {
	t.Helper()
	m, ok := s.Generate(g, opt)
	if !ok {
		t.Fatal("nothing to say")
	}
	if again, ok := s.Generate(g, opt); ok {
		t.Fatalf("says something again: %x", again.Append(nil))
	}
	return m
}

func silent(t *testing.T, s *State, g *crdt.Graph, opt Options) {
	t.Helper()
	if m, ok := s.Generate(g, opt); ok {
		t.Fatalf("should be silent, says heads %v need %v have %v and %d changes", m.Heads, m.Need, m.Have, len(m.Changes))
	}
}

func sends(t *testing.T, m *Message, g *crdt.Graph, from, to int) {
	t.Helper()
	var want [][]byte
	for i := from; i < to; i++ {
		want = append(want, g.ChunkAt(i))
	}
	if !slices.EqualFunc(m.Changes, want, slices.Equal) {
		t.Fatalf("sends %d changes, want those from %d to %d", len(m.Changes), from, to)
	}
}

func TestFirstMessageDescribesTheDocument(t *testing.T) {
	g := chain(5)
	var s State
	m := generate(t, &s, g, Options{})
	want := at(5)
	if string(m.Append(nil)) != string(want.Append(nil)) {
		t.Errorf("got %x, want %x", m.Append(nil), want.Append(nil))
	}
	if m.Capabilities != nil {
		t.Error("offers V2")
	}
}

func TestPeerGetsWhatItLacksOnce(t *testing.T) {
	g := chain(5)
	var s State
	s.Receive(g, at(2))
	m := generate(t, &s, g, Options{})
	sends(t, m, g, 2, 5)
	if len(m.Have) != 1 || !slices.Equal(m.Have[0].LastSync, heads(5)) || m.Have[0].Bloom != nil || m.Need != nil {
		t.Errorf("have %v, need %v; want to be in sync at %v", m.Have, m.Need, heads(5))
	}
	extend(g, 1) // before it answers
	sends(t, generate(t, &s, g, Options{}), g, 5, 6)
	s.Receive(g, at(5))
	silent(t, &s, g, Options{})
	s.Receive(g, at(6))
	silent(t, &s, g, Options{})
	if !slices.Equal(s.SharedHeads, heads(6)) {
		t.Errorf("shared heads %v, want %v", s.SharedHeads, heads(6))
	}
}

func TestAcceptedChangesAreAcknowledged(t *testing.T) {
	g := chain(3)
	var s State
	s.Receive(g, at(3))
	generate(t, &s, g, Options{})
	extend(g, 1) // the peer's
	s.Receive(g, at(4))
	m := generate(t, &s, g, Options{})
	sends(t, m, g, 0, 0)
	if len(m.Append(nil)) != 1+33+1+1+33+1+1 {
		t.Errorf("an acknowledgement has %d bytes", len(m.Append(nil)))
	}
}

func TestAcceptedIsNotDurable(t *testing.T) {
	g := chain(3)
	var s State
	s.Receive(g, at(3))
	generate(t, &s, g, Options{})
	g.Append(crdt.Node{Hash: chainHash(3), Deps: heads(3)})
	silent(t, &s, g, Options{})
	other := at(4) // a peer that has it already, from elsewhere
	s.Receive(g, other)
	silent(t, &s, g, Options{})
	g.MarkDurable(4)
	m := generate(t, &s, g, Options{})
	sends(t, m, g, 0, 0)
}

// Heads that we do not know are asked for once.
func TestNeed(t *testing.T) {
	g := chain(3)
	refused, held, wanted, behind := sum(1), sum(2), sum(3), sum(4)
	opt := Options{
		Refused: func(h crdt.Hash) bool { return h == refused },
		Held:    func(h crdt.Hash) bool { return h == held },
		Missing: []crdt.Hash{behind, chainHash(1), refused},
	}
	var s State
	msg := &Message{Version: V1, Heads: crdt.SortHashes([]crdt.Hash{refused, held, wanted, chainHash(2)}), Have: []Have{{}}}
	s.Receive(g, msg)
	m := generate(t, &s, g, opt)
	if want := crdt.SortHashes([]crdt.Hash{behind, wanted}); !slices.Equal(m.Need, want) {
		t.Errorf("needs %v, want %v", m.Need, want)
	}
	s.Receive(g, msg)
	silent(t, &s, g, opt)
	opt.ReadOnly = true
	if m = generate(t, &s, g, opt); m.Need != nil || m.Capabilities.Flags()&ReadOnly == 0 {
		t.Errorf("read-only: needs %v, capabilities %x", m.Need, m.Capabilities)
	}
	s.Receive(g, msg)
	silent(t, &s, g, opt)
}

// A peer whose head is refused still gets all that is new, exactly, although
// its filter says that it has everything.
func TestPeerWithRefusedChange(t *testing.T) {
	g := chain(3)
	refused, onIt := sum(1), sum(2)
	deps := map[crdt.Hash][]crdt.Hash{refused: heads(2), onIt: {refused}}
	opt := Options{
		Refused: func(h crdt.Hash) bool { return deps[h] != nil },
		Deps:    func(h crdt.Hash) []crdt.Hash { return deps[h] },
	}
	full := Have{Bloom: append(Bloom{4, 10, 7}, 0xff, 0xff, 0xff, 0xff, 0xff)}
	msg := &Message{Version: V1, Heads: []crdt.Hash{onIt}, Have: []Have{full}}
	var s State
	s.Receive(g, msg)
	sends(t, generate(t, &s, g, opt), g, 2, 3)
	for range 5 {
		s.Receive(g, msg)
		silent(t, &s, g, opt)
	}
	extend(g, 2)
	sends(t, generate(t, &s, g, opt), g, 3, 5)
}

func TestReset(t *testing.T) {
	g := chain(3)
	var s State
	lost := &Message{Version: V1, Heads: []crdt.Hash{sum(1)}, Have: []Have{{LastSync: []crdt.Hash{sum(2)}}}}
	s.Receive(g, lost)
	m := generate(t, &s, g, Options{})
	if len(m.Have) != 1 || m.Have[0].LastSync != nil || m.Have[0].Bloom != nil || m.Need != nil || m.Changes != nil {
		t.Fatalf("not a reset: %+v", m)
	}
	s.Receive(g, lost) // again: it cannot do better
	m = generate(t, &s, g, Options{})
	sends(t, m, g, 0, 3)
	if !slices.Equal(m.Need, []crdt.Hash{sum(1)}) {
		t.Errorf("needs %v", m.Need)
	}
	for range 5 {
		s.Receive(g, lost)
		silent(t, &s, g, Options{})
	}
}

// Old peers do not always answer a reset. They get news all the same.
func TestResetWithoutAnswer(t *testing.T) {
	g := chain(3)
	var s State
	s.Receive(g, &Message{Version: V1, Heads: []crdt.Hash{sum(1)}, Have: []Have{{LastSync: []crdt.Hash{sum(2)}}}})
	generate(t, &s, g, Options{})
	extend(g, 1)
	sends(t, generate(t, &s, g, Options{}), g, 0, 4)
}

// A peer may take for shared what we have lost and hold now, or refused.
func TestNoResetForWhatIsHeld(t *testing.T) {
	g := chain(3)
	opt := Options{Held: func(h crdt.Hash) bool { return h == sum(2) }, Missing: []crdt.Hash{sum(3)}}
	var s State
	s.Receive(g, &Message{Version: V1, Heads: []crdt.Hash{sum(1)}, Have: []Have{{LastSync: []crdt.Hash{sum(2)}}}})
	m := generate(t, &s, g, opt)
	if want := crdt.SortHashes([]crdt.Hash{sum(1), sum(3)}); !slices.Equal(m.Need, want) {
		t.Errorf("needs %v, want %v", m.Need, want)
	}
	sends(t, m, g, 0, 3)
}

// A peer that lost what it was sent gets it again, but not for ever.
func TestPeerLostItsData(t *testing.T) {
	tests := map[string]*Message{
		"has nothing":       at(0),
		"asks for a change": {Version: V1, Heads: heads(1), Need: heads(3), Have: []Have{{LastSync: heads(1)}}},
		"resets":            {Version: V1, Heads: heads(1), Have: []Have{{}}},
		"says so":           {Version: V1, Heads: heads(1), Have: []Have{{LastSync: heads(1)}}, Capabilities: Capabilities{readsV2, flagsMark | byte(SyncReset)}},
	}
	for name, lost := range tests {
		t.Run(name, func(t *testing.T) {
			g := chain(3)
			has := 0
			if len(lost.Heads) > 0 {
				has = 1
			}
			var s State
			s.Receive(g, at(has))
			for range 1 + maxResends {
				sends(t, generate(t, &s, g, Options{}), g, has, 3)
				s.Receive(g, lost)
			}
			silent(t, &s, g, Options{})
			extend(g, 1)
			sends(t, generate(t, &s, g, Options{}), g, 3, 4)
		})
	}
}

// After an acknowledgement, a peer that falls back gets the changes as if new.
func TestPeerFallsBack(t *testing.T) {
	g := chain(4)
	var s State
	s.Receive(g, at(1))
	sends(t, generate(t, &s, g, Options{}), g, 1, 4)
	s.Receive(g, at(4))
	silent(t, &s, g, Options{})
	s.Receive(g, at(2))
	sends(t, generate(t, &s, g, Options{}), g, 2, 4)
}

func TestMaxBytes(t *testing.T) {
	g := chain(10) // of 100 bytes each
	opt := Options{MaxBytes: 350}
	var s State
	s.Receive(g, at(1))
	for from := 1; from < 10; from += 3 {
		sends(t, generate(t, &s, g, opt), g, from, from+3)
		s.Receive(g, &Message{Version: V1, Heads: heads(from + 3), Have: []Have{{LastSync: heads(1)}}})
	}
	silent(t, &s, g, opt)
	var small State
	small.Receive(g, at(1))
	sends(t, generate(t, &small, g, Options{MaxBytes: 50}), g, 1, 2)
}

// The list of what was sent shrinks with what the peer has got.
func TestSentIsCut(t *testing.T) {
	g := chain(100)
	var s State
	unknown := []crdt.Hash{sum(1)}
	for i := 1; i <= 100; i++ {
		extend(g, 1)
		s.Receive(g, &Message{Version: V1, Heads: crdt.SortHashes(append(heads(g.Len()-1), unknown...)), Have: []Have{{}}})
		generate(t, &s, g, Options{})
		if len(s.sent)+len(s.sentHeads) > 2 || len(s.SharedHeads) > 2 {
			t.Fatalf("round %d: remembers %d changes and %d heads as sent, %d as shared", i, len(s.sent), len(s.sentHeads), len(s.SharedHeads))
		}
	}
}

func TestSnapshot(t *testing.T) {
	g := chain(30)
	snap := &crdt.Snapshot{Heads: heads(25), Changes: 25, Data: []byte("a document")}
	tests := map[string]struct {
		has      int
		caps     Capabilities
		snap     *crdt.Snapshot
		maxBytes int
		want     bool
	}{
		"new peer":                     {0, v2Peer, snap, 0, true},
		"lacks more than a third":      {18, v2Peer, snap, 0, true},
		"lacks a third":                {20, v2Peer, snap, 0, false},
		"old peer":                     {0, nil, snap, 0, false},
		"peer that reads V1 only":      {0, Capabilities{1}, snap, 0, false},
		"no snapshot":                  {0, v2Peer, nil, 0, false},
		"of another history":           {0, v2Peer, &crdt.Snapshot{Heads: []crdt.Hash{sum(1)}, Data: []byte("x")}, 0, false},
		"longer than the changes":      {0, v2Peer, &crdt.Snapshot{Heads: heads(25), Data: make([]byte, 3000)}, 0, false},
		"longer than a message may be": {0, v2Peer, &crdt.Snapshot{Heads: heads(25), Data: make([]byte, 300)}, 200, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := at(tt.has)
			m.Capabilities = tt.caps
			var s State
			s.Receive(g, m)
			out := generate(t, &s, g, Options{Snapshot: tt.snap, MaxBytes: tt.maxBytes})
			if got := out.Version == V2; got != tt.want {
				t.Fatalf("version %x, snapshot wanted: %v", out.Version, tt.want)
			}
			if tt.want {
				if string(out.Changes[0]) != string(snap.Data) {
					t.Fatal("the snapshot does not come first")
				}
				out.Changes = out.Changes[1:]
				sends(t, out, g, 25, 30)
			}
		})
	}
}

// What a snapshot did not bring comes as changes.
func TestSnapshotThatPeerCannotRead(t *testing.T) {
	g := chain(10)
	opt := Options{Snapshot: &crdt.Snapshot{Heads: heads(10), Data: []byte("garbage")}}
	var s State
	m := at(2)
	m.Capabilities = v2Peer
	s.Receive(g, m)
	if m := generate(t, &s, g, opt); m.Version != V2 {
		t.Fatal("no snapshot was sent")
	}
	s.Receive(g, &Message{Version: V1, Heads: heads(2), Have: []Have{{}}, Capabilities: v2Peer})
	sends(t, generate(t, &s, g, opt), g, 2, 10)
}

// The tail of a snapshot may be cut too.
func TestSnapshotAndMaxBytes(t *testing.T) {
	g := chain(30)
	opt := Options{Snapshot: &crdt.Snapshot{Heads: heads(25), Data: make([]byte, 50)}, MaxBytes: 260}
	var s State
	m := at(0)
	m.Capabilities = v2Peer
	s.Receive(g, m)
	m = generate(t, &s, g, opt)
	m.Changes = m.Changes[1:]
	sends(t, m, g, 25, 27)
	s.Receive(g, at(27))
	sends(t, generate(t, &s, g, opt), g, 27, 29)
}

func TestPeerThatTakesNoChanges(t *testing.T) {
	g := chain(3)
	var s State
	m := at(1)
	m.Capabilities = Capabilities{readsV2, flagsMark | byte(ReadOnly)}
	s.Receive(g, m)
	sends(t, generate(t, &s, g, Options{}), g, 0, 0)
	s.Receive(g, m)
	silent(t, &s, g, Options{})
}

func TestRestore(t *testing.T) {
	g := chain(5)
	var s State
	s.Receive(g, at(3))
	saved := s.Encode()
	r, err := Restore(saved)
	if err != nil {
		t.Fatal(err)
	}
	m := generate(t, r, g, Options{})
	if !slices.Equal(m.Have[0].LastSync, heads(3)) || len(m.Have[0].Bloom.bits()) != 3 {
		t.Errorf("have %v, want 2 changes since %v", m.Have, heads(3))
	}
	// A server whose disk was restored to an earlier day.
	r, err = Restore(saved)
	if err != nil {
		t.Fatal(err)
	}
	m = generate(t, r, chain(2), Options{})
	if m.Have[0].LastSync != nil || len(m.Have[0].Bloom.bits()) != 3 {
		t.Errorf("have %v, want 2 changes since the beginning", m.Have)
	}
}

func TestRestoreRefuses(t *testing.T) {
	tests := map[string]struct {
		b    []byte
		code Code
	}{
		"nothing":       {nil, CodeVersion},
		"a message":     {raw(0x42, 0), CodeVersion},
		"half a hash":   {message(raw(0x43), 1, make([]byte, 31)), CodeTruncated},
		"2^62 hashes":   {message(raw(0x43), binary.AppendUvarint(nil, 1<<62)), CodeTruncated},
		"a byte behind": {raw(0x43, 0, 0), CodeTrailing},
	}
	for name, tt := range tests {
		_, err := Restore(tt.b)
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != tt.code {
			t.Errorf("%s: %v, want code %s", name, err, tt.code)
		}
	}
}

func TestUnsortedHeads(t *testing.T) {
	g := chain(2)
	var s State
	s.Receive(g, &Message{Version: V1, Heads: []crdt.Hash{chainHash(1), chainHash(0), chainHash(1)}, Have: []Have{{}}})
	if want := crdt.SortHashes([]crdt.Hash{chainHash(0), chainHash(1)}); !slices.Equal(s.TheirHeads, want) {
		t.Errorf("their heads %v, want %v", s.TheirHeads, want)
	}
	generate(t, &s, g, Options{})
}

// A peer in step costs next to nothing.
func TestInStepAllocatesNothing(t *testing.T) {
	g := chain(1000)
	var s State
	ack := at(1000)
	s.Receive(g, ack)
	generate(t, &s, g, Options{})
	allocs := testing.AllocsPerRun(100, func() {
		s.Receive(g, ack)
		if _, ok := s.Generate(g, Options{}); ok {
			t.Fatal("says something")
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// One change to fifty peers: decode it, tell all, and take their
// acknowledgements.
func BenchmarkFanOut(b *testing.B) {
	const peers = 50
	g := new(crdt.Graph)
	g.Append(crdt.Node{Hash: sum(0), Chunk: make([]byte, 150)})
	g.MarkDurable(1)
	states := make([]State, peers)
	first := &Message{Version: V1, Heads: g.Heads(), Have: []Have{{}}}
	for i := range states {
		states[i].Receive(g, first)
		states[i].Generate(g, Options{})
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		n := crdt.Node{Hash: sum(g.Len()), Deps: g.Heads(), Chunk: make([]byte, 150)}
		in := (&Message{Version: V1, Heads: []crdt.Hash{n.Hash}, Have: []Have{{LastSync: g.Heads()}}, Changes: [][]byte{n.Chunk}}).Append(nil)
		m, err := Decode(in, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		g.Append(n)
		g.MarkDurable(g.Len())
		states[0].Receive(g, m)
		for i := range states {
			out, ok := states[i].Generate(g, Options{})
			if !ok {
				b.Fatal("silent")
			}
			buf = out.Append(buf[:0])
		}
		ack := (&Message{Version: V1, Heads: g.Heads(), Have: []Have{{LastSync: g.Heads()}}, Capabilities: v2Peer}).Append(nil)
		for i := 1; i < peers; i++ {
			m, err := Decode(ack, Limits{})
			if err != nil {
				b.Fatal(err)
			}
			states[i].Receive(g, m)
			if _, ok := states[i].Generate(g, Options{}); ok {
				b.Fatal("answers an acknowledgement")
			}
		}
	}
}

// Our acknowledgement of a peer's change.
func BenchmarkAcknowledge(b *testing.B) {
	g := chain(200)
	var s State
	s.Receive(g, at(200))
	s.Generate(g, Options{})
	buf := make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		s.LastSentHeads = nil // as if the heads had moved
		m, ok := s.Generate(g, Options{})
		if !ok {
			b.Fatal("silent")
		}
		buf = m.Append(buf[:0])
	}
}

// A new peer and a long document.
func BenchmarkCold(b *testing.B) {
	for _, n := range []int{500, 10_000} {
		g := new(crdt.Graph)
		var deps []crdt.Hash
		for i := range n {
			g.Append(crdt.Node{Hash: sum(i), Deps: deps, Chunk: make([]byte, 100)})
			deps = []crdt.Hash{sum(i)}
		}
		g.MarkDurable(n)
		snap := &crdt.Snapshot{Heads: g.Heads(), Changes: n, Data: make([]byte, 3*n)}
		for name, opt := range map[string]Options{"changes": {}, "snapshot": {Snapshot: snap}} {
			b.Run(fmt.Sprintf("%d %s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				size := 0
				for b.Loop() {
					var s State
					s.Receive(g, &Message{Version: V1, Have: []Have{{}}, Capabilities: v2Peer})
					m, _ := s.Generate(g, opt)
					size = len(m.Append(nil))
				}
				b.ReportMetric(float64(size), "wire-B")
			})
		}
	}
}

// Who had all that a cut message brought has nothing to answer: what is new is sent
// all the same.
func TestWhoDoesNotAnswerACutMessage(t *testing.T) {
	g, grown := chain(10), chain(11)
	opt := Options{MaxBytes: 260}
	var s State
	s.Receive(g, at(0))
	first := generate(t, &s, g, opt)
	n := len(first.Changes)
	sends(t, first, g, 0, n)
	silent(t, &s, g, opt)
	sends(t, generate(t, &s, grown, opt), grown, n, 2*n)
	silent(t, &s, grown, opt)
}
