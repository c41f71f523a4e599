package protocol

import (
	"encoding/binary"
	"slices"

	"parley/crdt"
)

// Version is a message's first byte.
type Version byte

const (
	V1 Version = 0x42 // changes one by one
	V2 Version = 0x43 // changes as one run of chunks, which may begin with a whole document
)

// Message is Automerge's sync message.
type Message struct {
	Version Version
	Heads   []crdt.Hash // of the sender's document, sorted
	Need    []crdt.Hash // changes that the sender asks for by name
	Have    []Have      // what else the sender has; as a rule one entry
	// Changes are change chunks; in a V2 message, chunks of changes or of a
	// whole document, which the wire carries as one. Decode gives a V2 message
	// one entry at most, with all of them.
	Changes [][]byte
	// Capabilities is the trailing section in which a sender says what it can
	// read and how it takes part. Nil: there is none, as from old peers.
	Capabilities Capabilities
}

// Have tells what the sender has: LastSync and all that these depend on, and
// the changes since then that are in the filter.
type Have struct {
	LastSync []crdt.Hash
	Bloom    Bloom
}

// Capabilities is the content of a message's trailing section: first a byte for
// each version that the sender reads (older peers send no more), then one with
// the high bit set and its [Flags].
type Capabilities []byte

// Flags say how the sender takes part.
type Flags byte

const (
	SyncReset         Flags  = 1 << iota // forget what you sent me
	ReadOnly                             // I take no changes from you
	SupportsSyncReset                    // I know the first flag
	flagsMark         = 0x80             // marks the byte of the flags
)

// readsV2 is how a peer says that it reads V2 messages.
const readsV2 = 0x02

// readOnlyCapabilities is what we say to a peer whose changes we take none of.
// Automerge sends none then. The section itself tells it that we read V2: to
// all others we send none, so that they send their changes one by one.
var readOnlyCapabilities = Capabilities{readsV2, flagsMark | byte(ReadOnly|SupportsSyncReset)}

// ReadsV2 says whether the sender reads V2 messages.
func (c Capabilities) ReadsV2() bool {
	return slices.ContainsFunc(c, func(b byte) bool { return b == readsV2 || b&flagsMark != 0 })
}

// Flags returns the sender's flags, none if it sent none.
func (c Capabilities) Flags() Flags {
	for _, b := range c {
		if b&flagsMark != 0 {
			return Flags(b &^ flagsMark)
		}
	}
	return 0
}

// isReset says whether this is the message of a peer that does not know what
// our Have began at: it describes itself as if it had nothing.
func (m *Message) isReset() bool {
	return len(m.Have) == 1 && len(m.Have[0].LastSync) == 0 && len(m.Have[0].Bloom) == 0 &&
		len(m.Heads) > 0 && len(m.Need) == 0 && m.changeBytes() == 0
}

// Append appends the message's bytes to dst.
func (m *Message) Append(dst []byte) []byte {
	dst = slices.Grow(dst, m.sizeHint())
	dst = append(dst, byte(m.Version))
	dst = appendHashes(dst, m.Heads)
	dst = appendHashes(dst, m.Need)
	dst = binary.AppendUvarint(dst, uint64(len(m.Have)))
	for _, h := range m.Have {
		dst = appendHashes(dst, h.LastSync)
		dst = appendBytes(dst, h.Bloom)
	}
	dst = m.appendChanges(dst)
	if m.Capabilities != nil {
		dst = appendBytes(dst, m.Capabilities)
	}
	return dst
}

func (m *Message) appendChanges(dst []byte) []byte {
	if m.Version == V1 || len(m.Changes) == 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.Changes)))
		for _, c := range m.Changes {
			dst = appendBytes(dst, c)
		}
		return dst
	}
	dst = append(dst, 1)
	dst = binary.AppendUvarint(dst, uint64(m.changeBytes()))
	for _, c := range m.Changes {
		dst = append(dst, c...)
	}
	return dst
}

func (m *Message) changeBytes() int {
	n := 0
	for _, c := range m.Changes {
		n += len(c)
	}
	return n
}

// sizeHint is at least the number of bytes that Append appends, as long as no
// list has more than two million entries.
func (m *Message) sizeHint() int {
	const count = 3 // bytes of a list's or of a short string's length
	n := 1 + 5*count + len(m.Capabilities) + len(crdt.Hash{})*(len(m.Heads)+len(m.Need))
	for _, h := range m.Have {
		n += 2*count + len(crdt.Hash{})*len(h.LastSync) + len(h.Bloom)
	}
	return n + m.changeBytes() + len(m.Changes)*(count+1)
}

func appendHashes(dst []byte, hs []crdt.Hash) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(hs)))
	for i := range hs {
		dst = append(dst, hs[i][:]...)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
