package forge

import (
	"bytes"
	"errors"
	"slices"
)

var errMessage = errors.New("not one sync message that holds together")

// DissectMessage cuts a well-formed sync message into its parts.
func DissectMessage(b []byte) (*SyncMessage, error) {
	r := reader{b: b}
	typ := r.take(1)
	// part takes what read consumes.
	part := func(read func()) []byte {
		before := r.b
		read()
		return before[: len(before)-len(r.b) : len(before)-len(r.b)]
	}
	hashes := func() { r.take(r.uleb() * uint64(len(Hash{}))) }
	m := &SyncMessage{Heads: part(hashes), Need: part(hashes)}
	m.Have = part(func() {
		for n := r.uleb(); n > 0 && !r.bad; n-- {
			hashes()
			r.take(r.uleb())
		}
	})
	m.Changes = part(func() {
		for n := r.uleb(); n > 0 && !r.bad; n-- {
			r.take(r.uleb())
		}
	})
	if r.bad {
		return nil, errMessage
	}
	m.Type = typ[0]
	if len(r.b) > 0 {
		m.Flags = r.b
	}
	return m, nil
}

// HashItems are the hashes of a part that is a list of them.
func HashItems(part []byte) (items [][]byte) {
	r := reader{b: part}
	for n := r.uleb(); n > 0 && !r.bad; n-- {
		items = append(items, r.take(uint64(len(Hash{}))))
	}
	return items
}

// SizedItems are the items of a part that is a list of byte strings.
func SizedItems(part []byte) (items [][]byte) {
	r := reader{b: part}
	for n := r.uleb(); n > 0 && !r.bad; n-- {
		items = append(items, r.take(r.uleb()))
	}
	return items
}

// A have is an entry of a message's have part.
type have struct{ lastSync, bloom []byte }

func (h have) bytes() []byte { return join(h.lastSync, Sized(h.bloom)) }

func haveItems(part []byte) (items []have) {
	r := reader{b: part}
	for n := r.uleb(); n > 0 && !r.bad; n-- {
		before := r.b
		r.take(r.uleb() * uint64(len(Hash{})))
		last := before[: len(before)-len(r.b) : len(before)-len(r.b)]
		items = append(items, have{last, r.take(r.uleb())})
	}
	return items
}

// Chunks cuts a run of chunks, as a V2 message carries it, at their lengths.
// What is no chunk is the last item.
func Chunks(run []byte) (items [][]byte) {
	for len(run) > 0 {
		r := reader{b: run}
		head := r.take(9)
		r.take(r.uleb())
		if r.bad || !bytes.Equal(head[:4], magic) {
			return append(items, run)
		}
		n := len(run) - len(r.b)
		items = append(items, run[:n:n])
		run = run[n:]
	}
	return items
}

// Message mutates a sync message; what is no message is mutated as bytes.
func (m *Mutator) Message(b []byte) []byte {
	s, err := DissectMessage(bytes.Clone(b))
	if err != nil {
		return m.bytes(bytes.Clone(b))
	}
	for range 1 + m.rng.IntN(2) {
		m.messagePart(s)
	}
	return s.Bytes()
}

func (m *Mutator) messagePart(s *SyncMessage) {
	rng := m.rng
	switch rng.IntN(12) {
	case 0:
		s.Heads = m.hashes(s.Heads, s.Need)
	case 1:
		s.Need = m.hashes(s.Need, s.Heads)
	case 2, 3, 4:
		m.haves(s)
	case 5, 6, 7, 8:
		m.changes(s)
	case 9:
		m.version(s)
	case 10:
		s.Flags = pick(rng, [][]byte{nil, {1, 2}, {2, 2, 0x84}, {2, 2, 0x86}, {2, 2, 0x85}, {0}, {2, 2}, m.number(Uleb(2)), bytes.Repeat([]byte{0x40}, 0x41), m.bytes(bytes.Clone(s.Flags))})
	default:
		*pick(rng, []*[]byte{&s.Heads, &s.Need, &s.Have, &s.Changes}) = m.number(Uleb(0))
	}
}

// hashes changes a list of hashes; other may be where they belong, too.
func (m *Mutator) hashes(part, other []byte) []byte {
	items := HashItems(part)
	if m.rng.IntN(3) == 0 {
		items = append(items, HashItems(other)...)
	} else {
		items = m.list(items)
	}
	return join(m.count(len(items)), join(items...))
}

func (m *Mutator) haves(s *SyncMessage) {
	rng := m.rng
	items := haveItems(s.Have)
	if len(items) == 0 {
		items = append(items, have{lastSync: Uleb(0)})
	}
	i := rng.IntN(len(items))
	switch rng.IntN(6) {
	case 0:
		items = slices.Delete(items, i, i+1)
	case 1:
		items = slices.Insert(items, i, slices.Repeat(items[i:i+1], 1+rng.IntN(9))...)
	case 2:
		items[i].lastSync = m.hashes(items[i].lastSync, s.Heads)
	default:
		items[i].bloom = m.bloom(items[i].bloom)
	}
	s.Have = m.count(len(items))
	for _, h := range items {
		s.Have = append(s.Have, h.bytes()...)
	}
}

// bloom changes a filter's numbers, or its bits.
func (m *Mutator) bloom(b []byte) []byte {
	r := reader{b: b}
	entries, bits, probes := r.uleb(), r.uleb(), r.uleb()
	if r.bad {
		entries, bits, probes, r.b = 1, 10, 7, []byte{0, 0}
	}
	v := uint64(pick(m.rng, interesting))
	switch m.rng.IntN(8) {
	case 0:
		return BloomBytes(v, bits, probes, r.b)
	case 1:
		return BloomBytes(entries, v, probes, r.b)
	case 2:
		return BloomBytes(entries, bits, v, r.b)
	case 3: // as long as it says
		const bitsPerEntry = 10
		entries = 1 + uint64(m.rng.IntN(200))
		return BloomBytes(entries, bitsPerEntry, probes, make([]byte, (entries*bitsPerEntry+7)/8))
	case 4:
		return nil
	case 5:
		return join(m.number(Uleb(entries)), m.number(Uleb(bits)), m.number(Uleb(probes)), r.b)
	}
	return BloomBytes(entries, bits, probes, m.bytes(bytes.Clone(r.b)))
}

// changes changes one of the changes, or the list of them.
func (m *Mutator) changes(s *SyncMessage) {
	items := SizedItems(s.Changes)
	v2 := s.Type == MessageV2
	if v2 {
		items = Chunks(join(items...))
	}
	if n := len(items); n > 0 && m.rng.IntN(4) > 0 {
		i := m.rng.IntN(n)
		items[i] = m.AnyChunk(items[i])
	} else {
		items = m.list(items)
	}
	if v2 {
		items = [][]byte{join(items...)}
	}
	s.Changes = m.count(len(items))
	for _, c := range items {
		s.Changes = append(s.Changes, Sized(c)...)
	}
}

// version says that it is the other version, with the changes as that one has
// them or as they are, or one that does not exist.
func (m *Mutator) version(s *SyncMessage) {
	if m.rng.IntN(6) == 5 {
		s.Type = byte(m.rng.IntN(256))
		return
	}
	s.Type ^= MessageV1 ^ MessageV2
	if m.rng.IntN(3) == 0 {
		return
	}
	items := [][]byte{join(SizedItems(s.Changes)...)}
	if s.Type == MessageV1 {
		items = Chunks(items[0])
	}
	s.Changes = Uleb(uint64(len(items)))
	for _, c := range items {
		s.Changes = append(s.Changes, Sized(c)...)
	}
}

// AnyChunk mutates a chunk of any type.
func (m *Mutator) AnyChunk(chunk []byte) []byte {
	if d, err := DissectDocument(chunk); err == nil {
		return m.document(d)
	}
	return m.Chunk(chunk)
}
