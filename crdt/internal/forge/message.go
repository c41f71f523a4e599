package forge

import (
	"fmt"
	"math"
)

// The types of sync messages.
const (
	MessageV1 byte = 0x42
	MessageV2 byte = 0x43
)

// A SyncMessage is a sync message in its parts, each as it stands on the wire.
type SyncMessage struct {
	Type    byte
	Heads   []byte
	Need    []byte
	Have    []byte
	Changes []byte
	Flags   []byte // nil: none
}

// NewSyncMessage is an honest V1 message with these heads and changes, that has
// nothing else and needs nothing.
func NewSyncMessage(heads []Hash, changes ...[]byte) *SyncMessage {
	m := &SyncMessage{Type: MessageV1, Heads: Uleb(uint64(len(heads))), Need: Uleb(0), Changes: Uleb(uint64(len(changes)))}
	for _, h := range heads {
		m.Heads = append(m.Heads, h[:]...)
	}
	m.Have = Haves(nil)
	for _, c := range changes {
		m.Changes = append(m.Changes, Sized(c)...)
	}
	return m
}

// Haves is the have part of a message: entries without shared heads, each with
// one of the blooms.
func Haves(blooms ...[]byte) []byte {
	b := Uleb(uint64(len(blooms)))
	for _, bloom := range blooms {
		b = append(append(b, 0), Sized(bloom)...)
	}
	return b
}

// BloomBytes is an encoded Bloom filter, sensible or not.
func BloomBytes(entries, bitsPerEntry, probes uint64, bits []byte) []byte {
	return join(Uleb(entries), Uleb(bitsPerEntry), Uleb(probes), bits)
}

// Bytes puts the parts together.
func (m *SyncMessage) Bytes() []byte {
	return join([]byte{m.Type}, m.Heads, m.Need, m.Have, m.Changes, m.Flags)
}

// MessageCases returns hostile sync messages. Their setup is what the receiver's
// document holds.
func MessageCases() []Case {
	l := &caseList{}
	l.blooms()
	l.messageCounts()
	l.messageForms()
	l.messageChanges()
	return l.cases
}

// message adds a case whose message has a wrong part.
func (l *caseList) message(class, name string, wrong func(m *SyncMessage)) {
	s := newScene()
	m := NewSyncMessage(s.alice.heads)
	wrong(m)
	l.after(s, BadMessage, class, name, m.Bytes())
}

func (l *caseList) blooms() {
	const class = "bloom"
	bad := func(name string, bloom []byte) {
		l.message(class, name, func(m *SyncMessage) { m.Have = Haves(bloom) })
	}
	l.after(&scene{}, BadMessage, class, "no bits, in ten bytes", []byte{0x42, 0, 0, 1, 0, 3, 1, 0, 7, 0})
	bad("one entry and no bits", BloomBytes(1, 10, 7, nil))
	bad("a byte too few", BloomBytes(10, 10, 7, make([]byte, 12)))
	bad("a byte too many", BloomBytes(10, 10, 7, make([]byte, 14)))
	for _, probes := range []uint64{0, 1, 6, 8, 255, 1 << 20, 4e9, math.MaxUint32, 1 << 32, 1 << 62, math.MaxUint64} {
		bad(fmt.Sprintf("%d probes", probes), BloomBytes(1, 10, probes, make([]byte, 2)))
	}
	for _, bits := range []uint64{0, 1, 9, 11, 64, math.MaxUint32, 1 << 62, math.MaxUint64} {
		bad(fmt.Sprintf("%d bits an entry", bits), BloomBytes(1, bits, 7, make([]byte, min((bits+7)/8, 64))))
	}
	for _, entries := range append(huge, 1<<60, 1<<61+1) {
		bad(fmt.Sprintf("%d entries", entries), BloomBytes(entries, 10, 7, make([]byte, 2)))
	}
	// 10 entries times 2^64/10+1 bits come to a few bits, modulo 2^64.
	bad("bits that overflow", BloomBytes(10, math.MaxUint64/10+1, 7, make([]byte, 1)))
	bad("entries that overflow", BloomBytes(math.MaxUint64/10+1, 10, 7, make([]byte, 1)))
	bad("a number of 77 bits", append(tooLong, 10, 7))
	bad("half a header", []byte{1, 10})
	bad("an unfinished header", []byte{0x80})
	l.message(class, "longer than the message", func(m *SyncMessage) { m.Have = join(Uleb(1), Uleb(0), Uleb(1<<40), []byte{1, 10, 7, 0, 0}) })
}

func (l *caseList) messageCounts() {
	const class = "message count"
	for _, n := range append(huge, 1_000_001, 1<<59, 1<<61) {
		name := decimalU(n)
		l.message(class, name+" heads", func(m *SyncMessage) { m.Heads = Uleb(n) })
		l.message(class, name+" needs", func(m *SyncMessage) { m.Need = Uleb(n) })
		l.message(class, name+" haves", func(m *SyncMessage) { m.Have = Uleb(n) })
		l.message(class, name+" changes", func(m *SyncMessage) { m.Changes = Uleb(n) })
		l.message(class, name+" shared heads", func(m *SyncMessage) { m.Have = join(Uleb(1), Uleb(n)) })
		l.message(class, "a change of "+name+" bytes", func(m *SyncMessage) { m.Changes = join(Uleb(1), Uleb(n), []byte{1, 2, 3}) })
	}
	for i, name := range []string{"heads", "needs", "haves", "changes"} {
		l.message(class, name+" of 77 bits", func(m *SyncMessage) {
			*[]*[]byte{&m.Heads, &m.Need, &m.Have, &m.Changes}[i] = tooLong
		})
	}
	// What claims much and brings it: three megabytes of zeros each.
	const many = 100_000
	honest := NewSyncMessage(nil)
	real := func(name string, b Blob) {
		l.cases = append(l.cases, Case{Class: class, Name: name, Inputs: []Blob{b}, Want: Bounded})
	}
	rest := join(honest.Need, honest.Have, honest.Changes)
	real("100,000 heads that are there", Blob{join([]byte{MessageV1}, Uleb(many)), many * 32, rest})
	real("100,000 needs that are there", Blob{join([]byte{MessageV1, 0}, Uleb(many)), many * 32, join(honest.Have, honest.Changes)})
	real("1,000,000 haves that are there", Blob{join([]byte{MessageV1, 0, 0}, Uleb(10*many)), 20 * many, honest.Changes})
	real("1,000,000 changes without bytes", Blob{join([]byte{MessageV1, 0, 0, 0}, Uleb(10*many)), 10 * many, nil})
	real("an honest bloom of 1,000,000 entries", Blob{
		join([]byte{MessageV1, 0, 0, 1, 0}, Uleb(5+1_250_000), Uleb(1_000_000), []byte{10, 7}), 1_250_000, []byte{0},
	})
}

func (l *caseList) messageForms() {
	const class = "message form"
	s := newScene()
	l.after(s, BadMessage, class, "no bytes", nil)
	for _, typ := range []byte{0, 0x41, 0x44, 0x7f, 0xc2, 0xff} {
		l.message(class, "type "+hexName(uint64(typ)), func(m *SyncMessage) { m.Type = typ })
	}
	chunk := s.next().Chunk()
	full := NewSyncMessage(s.alice.heads, chunk)
	full.Need = join(Uleb(1), make([]byte, 32))
	full.Have = Haves(BloomBytes(1, 10, 7, []byte{1, 2}))
	l.after(s, BadMessage, class, "cut short everywhere", full.Bytes())
	l.last().Each = Truncated
	l.after(s, BadMessage, class, "a change alone", chunk)

	v2 := NewSyncMessage(s.alice.heads)
	v2.Type = MessageV2
	v2.Flags = []byte{2, 2, 0x84}
	v2.Changes = Sized(chunk)
	l.after(s, BadMessage, class, "V2 with a change", v2.Bytes())
	v2.Changes = Sized(Frame(TypeDocument, make([]byte, 4)))
	l.after(s, BadMessage, class, "V2 with a document", v2.Bytes())
	v2.Changes = Sized(nil)
	l.after(s, "", class, "V2 without changes", v2.Bytes())
	l.last().Want = Bounded // honest from a read-only peer

	for name, flags := range map[string][]byte{
		"huge": Uleb(1 << 40), "cut short": {2, 2}, "empty": {0}, "unknown": {3, 9, 9, 9}, "followed by bytes": {2, 2, 0x84, 1, 2, 3},
	} {
		l.message(class, "flags "+name, func(m *SyncMessage) { m.Flags = flags })
		l.last().Want, l.last().Reason = Bounded, ""
	}
	sortTail(l, 5)
}

// messageChanges puts hostile changes into honest messages: the reason is the
// change's.
func (l *caseList) messageChanges() {
	const class = "hostile change in a message"
	taken := map[string]bool{}
	for _, c := range Cases() {
		in := c.Inputs[0]
		if c.Want != Refused || c.Each != "" || taken[c.Class] || len(in.Head)+in.Zeros > 20_000 {
			continue
		}
		taken[c.Class] = true
		l.cases = append(l.cases, Case{
			Class: class, Name: c.Class + ", " + c.Name, Setup: c.Setup, Want: Refused, Reason: c.Reason,
			Inputs: []Blob{{Head: NewSyncMessage(nil, in.Bytes()).Bytes()}},
		})
	}
}
