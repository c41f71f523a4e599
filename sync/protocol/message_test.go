package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/automerge/automerge-go"
	"pgregory.net/rapid"

	"parley/crdt"
)

// Messages as real peers sent them. Those of JavaScript are from 3.5.0.
var realMessages = map[string]string{
	"automerge-go, first":                "4201a8e6d343f58943c55970566bf5a68f15af1003c96c0013abfa02102b1644a3b600010005010a07042900",
	"automerge-go, asks for a head":      "420001a8e6d343f58943c55970566bf5a68f15af1003c96c0013abfa02102b1644a3b601000000",
	"automerge-go, acknowledges":         "4201a8e6d343f58943c55970566bf5a68f15af1003c96c0013abfa02102b1644a3b6000101a8e6d343f58943c55970566bf5a68f15af1003c96c0013abfa02102b1644a3b60000",
	"JavaScript, first":                  "42016ca8f1b3d23bdb4f62a6a95aa0df6735d7002dc8c33b2b0ff64491e522a48f2400010005010a07455500020284",
	"JavaScript, asks for a head":        "4200016ca8f1b3d23bdb4f62a6a95aa0df6735d7002dc8c33b2b0ff64491e522a48f2401000000020284",
	"JavaScript, a change":               "42016ca8f1b3d23bdb4f62a6a95aa0df6735d7002dc8c33b2b0ff64491e522a48f2400010005010a074555012b856f4a836ca8f1b301210002cccc0101000000061503340142025602570170027f0179017f017f14027f00020284",
	"JavaScript, acknowledges":           "42016ca8f1b3d23bdb4f62a6a95aa0df6735d7002dc8c33b2b0ff64491e522a48f240001016ca8f1b3d23bdb4f62a6a95aa0df6735d7002dc8c33b2b0ff64491e522a48f240000020284",
	"JavaScript, a document in V2":       "4301221120a4c5f1bd0b507beb771b9e20c59bce1c97b23be4f1de9fbe36ea849e6c00010005010a07c718016a856f4a83b54e453000600102aaaa01221120a4c5f1bd0b507beb771b9e20c59bce1c97b23be4f1de9fbe36ea849e6c060102030213022302400256020815032102230234014202560257018001027f007f017f017f007f007f077f01787f007f01017f017f14017f0000020284",
	"JavaScript, acknowledges in V2":     "4301221120a4c5f1bd0b507beb771b9e20c59bce1c97b23be4f1de9fbe36ea849e6c000101221120a4c5f1bd0b507beb771b9e20c59bce1c97b23be4f1de9fbe36ea849e6c0000020284",
	"JavaScript, to one that reads only": "43017d842297c6f3b1ba32c8c0f2bd112bea8970373dff11913cc3f3a5e1c8c5de4b00010005010a072aa800020284",
	"JavaScript, a reset":                "42012a01d5f66e168fac6a12cdbf0ce17750eceef965c2f566e9dda9affbff194aea0001000000020284",
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRealMessagesRoundTrip(t *testing.T) {
	for name, s := range realMessages {
		b := unhex(t, s)
		m, err := Decode(b, Limits{DocumentChunks: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: encoded again %x, want %x", name, got, b)
		}
	}
}

func TestDecodeReadsEveryField(t *testing.T) {
	want := &Message{
		Version: V1,
		Heads:   []crdt.Hash{{1}, {2}},
		Need:    []crdt.Hash{{3}},
		Have: []Have{
			{LastSync: []crdt.Hash{{4}}, Bloom: append(Bloom{3, 10, 7}, 1, 2, 3, 4)},
			{},
		},
		Changes:      [][]byte{bytes.Repeat([]byte{7}, 10), bytes.Repeat([]byte{8}, 300)},
		Capabilities: Capabilities{2, 0x86},
	}
	got, err := Decode(want.Append(nil), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%x", got) != fmt.Sprintf("%x", want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if !got.Capabilities.ReadsV2() || got.Capabilities.Flags() != ReadOnly|SupportsSyncReset {
		t.Errorf("capabilities %x: %v, %b", got.Capabilities, got.Capabilities.ReadsV2(), got.Capabilities.Flags())
	}
}

func TestCapabilities(t *testing.T) {
	tests := []struct {
		c       Capabilities
		readsV2 bool
		flags   Flags
	}{
		{nil, false, 0},
		{Capabilities{}, false, 0},
		{Capabilities{1}, false, 0},
		{Capabilities{2}, true, 0},
		{Capabilities{1, 2}, true, 0},
		{Capabilities{2, 0x84}, true, SupportsSyncReset},
		{Capabilities{2, 0x85}, true, SyncReset | SupportsSyncReset},
		{Capabilities{0x86}, true, ReadOnly | SupportsSyncReset},
		{Capabilities{9, 10}, false, 0},
	}
	for _, tt := range tests {
		if tt.c.ReadsV2() != tt.readsV2 || tt.c.Flags() != tt.flags {
			t.Errorf("%x: %v, %b; want %v, %b", tt.c, tt.c.ReadsV2(), tt.c.Flags(), tt.readsV2, tt.flags)
		}
	}
}

// message joins numbers, as LEB128, and raw bytes.
func message(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.AppendUvarint(b, uint64(p))
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func raw(b ...byte) []byte { return b }

func TestDecodeRefuses(t *testing.T) {
	hash := make([]byte, 32)
	v1, v2 := raw(0x42), raw(0x43)
	huge := binary.AppendUvarint(nil, 1<<62)
	bloom := func(b []byte) []byte { return message(v1, 0, 0, 1, 0, len(b), b, 0) }
	tests := map[string]struct {
		msg  []byte
		code Code
	}{
		"nothing":                    {nil, CodeTruncated},
		"another type":               {raw(0x44, 0, 0, 0, 0), CodeVersion},
		"only the version":           {v1, CodeTruncated},
		"half a hash":                {message(v1, 1, hash[:31]), CodeTruncated},
		"2^62 heads":                 {message(v1, huge), CodeTruncated},
		"2^62 needs":                 {message(v1, 0, huge), CodeTruncated},
		"2^62 haves":                 {message(v1, 0, 0, huge), CodeTruncated},
		"2^62 last sync hashes":      {message(v1, 0, 0, 1, huge), CodeTruncated},
		"2^62 bytes of filter":       {message(v1, 0, 0, 1, 0, huge), CodeTruncated},
		"2^62 changes":               {message(v1, 0, 0, 0, huge), CodeTruncated},
		"2^62 bytes of change":       {message(v1, 0, 0, 0, 1, huge, make([]byte, 20)), CodeTruncated},
		"2^62 capabilities":          {message(v1, 0, 0, 0, 0, huge), CodeTruncated},
		"overlong number":            {message(v1, raw(0x80, 0)), CodeNumber},
		"number over 64 bits":        {message(v1, bytes.Repeat(raw(0xff), 10), 1), CodeNumber},
		"number without end":         {message(v1, raw(0x80)), CodeTruncated},
		"too many heads":             {message(v1, 4, make([]byte, 4*32), 0, 0, 0), CodeTooMany},
		"too many needs":             {message(v1, 0, 4, make([]byte, 4*32), 0, 0), CodeTooMany},
		"too many last sync hashes":  {message(v1, 0, 0, 1, 4, make([]byte, 4*32), 0, 0), CodeTooMany},
		"too many haves":             {message(v1, 0, 0, 9, make([]byte, 18), 0), CodeTooMany},
		"too large a filter":         {bloom(message(40, 10, 7, make([]byte, 50))), CodeTooMany},
		"filter of 0 bits":           {raw(0x42, 0, 0, 1, 0, 3, 1, 0, 7, 0), CodeBloom},
		"filter of 4e9 probes":       {bloom(message(1, 10, 4_000_000_000, raw(0xff, 0xff))), CodeBloom},
		"filter of 8 probes":         {bloom(message(1, 10, 8, raw(0xff, 0xff))), CodeBloom},
		"filter of 9 bits per entry": {bloom(message(1, 9, 7, raw(0xff, 0xff))), CodeBloom},
		"filter of no entries":       {bloom(message(0, 10, 7)), CodeBloom},
		"filter one byte short":      {bloom(message(2, 10, 7, raw(1, 2))), CodeBloom},
		"filter one byte long":       {bloom(message(1, 10, 7, raw(1, 2, 3))), CodeBloom},
		"filter of 2^62 entries":     {bloom(message(huge, 10, 7, raw(1, 2))), CodeBloom},
		"filter of one number":       {bloom(message(1)), CodeBloom},
		"change of 9 bytes":          {message(v1, 0, 0, 0, 1, 9, make([]byte, 9), make([]byte, 9)), CodeChange},
		"empty changes":              {message(v1, 0, 0, 0, 2, 0, 0, make([]byte, 30)), CodeChange},
		"V2 with changes":            {message(v2, 0, 0, 0, 1, 10, make([]byte, 10)), CodeV2Changes},
		"V2 with two runs":           {message(v2, 0, 0, 0, 2, 0, 0), CodeTooMany},
		"65 capabilities":            {message(v1, 0, 0, 0, 0, 65, make([]byte, 65)), CodeTooMany},
		"257 bytes at the end":       {message(v1, 0, 0, 0, 0, 2, raw(2, 0x84), make([]byte, 257)), CodeTrailing},
	}
	for name, tt := range tests {
		_, err := Decode(tt.msg, Limits{Hashes: 3, BloomBytes: 40})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != tt.code {
			t.Errorf("%s: %v, want code %s", name, err, tt.code)
		}
	}
}

func TestDecodeTolerates(t *testing.T) {
	v1, v2 := raw(0x42), raw(0x43)
	tests := map[string][]byte{
		"as many hashes as allowed": message(v1, 3, make([]byte, 3*32), 0, 0, 0),
		"eight haves":               message(v1, 0, 0, 8, make([]byte, 16), 0),
		"a filter of the limit":     message(v1, 0, 0, 1, 0, 40, 29, 10, 7, make([]byte, 37), 0),
		"bytes after the end":       message(v1, 0, 0, 0, 0, 2, raw(2, 0x84), make([]byte, 256)),
		"V2 without changes":        message(v2, 0, 0, 0, 0, 2, raw(2, 0x84)),
		"V2 with an empty run":      message(v2, 0, 0, 0, 1, 0, 2, raw(2, 0x84)),
	}
	for name, b := range tests {
		if _, err := Decode(b, Limits{Hashes: 3, BloomBytes: 40}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(message(v2, 0, 0, 0, 1, 10, make([]byte, 10)), Limits{DocumentChunks: true}); err != nil {
		t.Errorf("V2 with changes, where allowed: %v", err)
	}
}

// Every prefix of a message is refused, or is a message by itself: that
// without capabilities.
func TestDecodePrefixes(t *testing.T) {
	whole := (&Message{
		Version: V1, Heads: []crdt.Hash{{1}}, Need: []crdt.Hash{{3}},
		Have:    []Have{{LastSync: []crdt.Hash{{4}}, Bloom: append(Bloom{3, 10, 7}, 1, 2, 3, 4)}},
		Changes: [][]byte{bytes.Repeat([]byte{7}, 10)}, Capabilities: Capabilities{2, 0x86},
	}).Append(nil)
	for n := range whole {
		if _, err := Decode(whole[:n], Limits{}); err == nil && n != len(whole)-3 {
			t.Errorf("the first %d bytes of %d are a message", n, len(whole))
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, s := range realMessages {
		f.Add(unhex(f, s))
	}
	for _, m := range automergeMessages(f, 5) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b, Limits{DocumentChunks: true})
		if err != nil {
			if e := (*Error)(nil); !errors.As(err, &e) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		again := m.Append(nil)
		if !bytes.HasPrefix(b, again) || len(again) < len(b)-maxTrailing {
			t.Fatalf("%x encoded again is %x", b, again)
		}
		g := chain(3)
		var s State
		s.Receive(g, m)
		reply, _ := s.Generate(g, Options{})
		if reply != nil {
			if _, err := Decode(reply.Append(nil), Limits{Hashes: 1 << 30, BloomBytes: 1 << 30}); err != nil {
				t.Fatalf("answered %x with what is no message: %v", b, err)
			}
		}
		if second, ok := s.Generate(g, Options{}); ok {
			t.Fatalf("answered %x twice, with %x and %x", b, reply.Append(nil), second.Append(nil))
		}
	})
}

// chain returns a graph of n durable changes, each on the one before.
func chain(n int) *crdt.Graph {
	g := new(crdt.Graph)
	extend(g, n)
	return g
}

// extend adds n changes to a chain.
func extend(g *crdt.Graph, n int) {
	for range n {
		i := g.Len()
		g.Append(crdt.Node{Hash: chainHash(i), Deps: slices.Clone(g.Tips()), Actor: "a", Seq: uint64(i + 1), Chunk: bytes.Repeat([]byte{byte(i)}, 100)})
	}
	g.MarkDurable(g.Len())
}

func chainHash(i int) crdt.Hash { return [32]byte(bytes.Repeat([]byte{byte(i + 1), byte(i >> 8)}, 16)) }

// automergeMessages returns the messages by which Automerge itself gives a
// document of n changes to an empty one.
func automergeMessages(t testing.TB, n int) [][]byte {
	from, to := automerge.New(), automerge.New()
	for i := range n {
		if err := from.Path("n").Set(i); err != nil {
			t.Fatal(err)
		}
		if _, err := from.Commit("x"); err != nil {
			t.Fatal(err)
		}
	}
	a, b := automerge.NewSyncState(from), automerge.NewSyncState(to)
	var msgs [][]byte
	for again := true; again; {
		again = false
		for _, pair := range [][2]*automerge.SyncState{{a, b}, {b, a}} {
			m, ok := pair[0].GenerateMessage()
			if !ok {
				continue
			}
			again = true
			msgs = append(msgs, m.Bytes())
			if _, err := pair[1].ReceiveMessage(m.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return msgs
}

// Filters of the same hashes are byte-equal to Automerge's.
func TestBloomEqualsAutomerges(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 16, 57, 100} {
		msgs := automergeMessages(t, n)
		theirs, err := Decode(msgs[0], Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var g crdt.Graph
		var changes []int
		for _, b := range msgs {
			m, err := Decode(b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for _, chunk := range m.Changes {
				c, err := crdt.DecodeHeader(chunk)
				if err != nil {
					t.Fatal(err)
				}
				changes = append(changes, g.Len())
				g.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps})
			}
		}
		if len(changes) != n {
			t.Fatalf("%d changes went over, want %d", len(changes), n)
		}
		if got := MakeBloom(&g, changes); !bytes.Equal(got, theirs.Have[0].Bloom) {
			t.Errorf("%d changes: filter %x, Automerge's is %x", n, got, theirs.Have[0].Bloom)
		}
	}
}

// Automerge's messages come out as they went in.
func TestAutomergeMessagesRoundTrip(t *testing.T) {
	for _, b := range automergeMessages(t, 20) {
		m, err := Decode(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%x encoded again is %x", b, m.Append(nil))
		}
	}
}

func TestBloomContains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := chain(rapid.IntRange(1, 200).Draw(t, "changes"))
		in := rapid.SliceOfDistinct(rapid.IntRange(0, g.Len()-1), rapid.ID[int]).Draw(t, "in")
		bits := MakeBloom(g, in).bits()
		for _, i := range in {
			if !bloomContains(bits, g.HashAt(i)) {
				t.Fatalf("change %d is not in the filter of %v", i, in)
			}
		}
	})
	if bloomContains(nil, crdt.Hash{}) {
		t.Error("the empty filter contains something")
	}
}

// About one in a hundred, as Automerge's parameters promise.
func TestBloomFalsePositives(t *testing.T) {
	var g crdt.Graph
	var in []int
	for i := range 4000 {
		g.Append(crdt.Node{Hash: sum(i)})
		if i < 2000 {
			in = append(in, i)
		}
	}
	bits := MakeBloom(&g, in).bits()
	wrong := 0
	for i := 2000; i < 4000; i++ {
		if bloomContains(bits, g.HashAt(i)) {
			wrong++
		}
	}
	if wrong > 60 {
		t.Errorf("%d of 2000 are false positives", wrong)
	}
}
