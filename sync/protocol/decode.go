package protocol

import (
	"encoding/binary"
	"fmt"

	"parley/crdt"
)

// Limits bound what Decode accepts, beyond the message's own length. Zero
// fields stand for the defaults.
type Limits struct {
	Hashes     int // in any one list; default 10,000
	BloomBytes int // of one filter; default 2 MiB, which is 1.6 million changes
	// DocumentChunks lets V2 messages carry changes. A server leaves it false:
	// it asks for V1, where every change can be checked by itself.
	DocumentChunks bool
}

const (
	defaultMaxHashes     = 10_000
	defaultMaxBloomBytes = 2 << 20

	maxHaves        = 8   // Automerge sends none or one
	maxCapabilities = 64  // bytes; Automerge sends two
	maxTrailing     = 256 // unread bytes at the end, for what newer peers may add
	minChangeBytes  = 10  // magic, checksum, type and length of a chunk
)

// Code names what is wrong with a message.
type Code string

// All codes of Error.
const (
	CodeVersion   Code = "version"    // first byte is neither V1's nor V2's
	CodeTruncated Code = "truncated"  // fewer bytes than its counts promise
	CodeNumber    Code = "number"     // a number that is not minimal LEB128 of 64 bits
	CodeTooMany   Code = "too-many"   // over one of the Limits
	CodeBloom     Code = "bloom"      // a filter that Automerge does not make
	CodeChange    Code = "change"     // a change too short to be one
	CodeV2Changes Code = "v2-changes" // a V2 message with changes, not asked for
	CodeTrailing  Code = "trailing"   // too much after its end
)

// Error says why bytes are no message.
type Error struct {
	Code   Code
	Reason string
}

func (e *Error) Error() string { return "sync message: " + e.Reason }

// Decode reads a message. The error is an *Error. Blooms, Changes and
// Capabilities of the message are parts of b. Decode checks no change, and no
// order or repeat of hashes.
func Decode(b []byte, lim Limits) (*Message, error) {
	r := reader{b: b, lim: lim.withDefaults()}
	m := &Message{Version: r.version()}
	m.Heads = r.hashes("heads")
	m.Need = r.hashes("need")
	m.Have = r.haves()
	m.Changes = r.changes(m.Version)
	m.Capabilities = r.capabilities()
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

func (l Limits) withDefaults() Limits {
	if l.Hashes == 0 {
		l.Hashes = defaultMaxHashes
	}
	if l.BloomBytes == 0 {
		l.BloomBytes = defaultMaxBloomBytes
	}
	return l
}

// reader consumes b. After its first error it reads nothing but zeros.
type reader struct {
	b   []byte
	lim Limits
	err *Error
}

func (r *reader) fail(code Code, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
	}
	r.b = nil
}

func (r *reader) version() Version {
	if len(r.b) == 0 {
		r.fail(CodeTruncated, "empty")
		return 0
	}
	v := Version(r.b[0])
	if v != V1 && v != V2 {
		r.fail(CodeVersion, "first byte is %#x, want %#x or %#x", r.b[0], V1, V2)
		return 0
	}
	r.b = r.b[1:]
	return v
}

func (r *reader) number(what string) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.fail(CodeTruncated, "ends at the number of %s", what)
		return 0
	case n < 0 || n > 1 && r.b[n-1] == 0:
		r.fail(CodeNumber, "the number of %s is not minimal LEB128 of 64 bits", what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many things follow that take at least size bytes each.
func (r *reader) count(what string, size int) int {
	n := r.number(what)
	if n > uint64(len(r.b)/size) {
		r.fail(CodeTruncated, "has %d bytes for %d %s", len(r.b), n, what)
		return 0
	}
	return int(n)
}

func (r *reader) bytes(what string) []byte {
	n := r.count(what, 1)
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) hashes(what string) []crdt.Hash {
	n := r.count(what, len(crdt.Hash{}))
	if n > r.lim.Hashes {
		r.fail(CodeTooMany, "%d %s, at most %d are taken", n, what, r.lim.Hashes)
		return nil
	}
	if n == 0 {
		return nil
	}
	hs := make([]crdt.Hash, n)
	for i := range hs {
		r.b = r.b[copy(hs[i][:], r.b):]
	}
	return hs
}

func (r *reader) haves() []Have {
	n := r.count("haves", 2)
	if n > maxHaves {
		r.fail(CodeTooMany, "%d haves, at most %d are taken", n, maxHaves)
		return nil
	}
	if n == 0 {
		return nil
	}
	haves := make([]Have, n)
	for i := range haves {
		haves[i] = Have{LastSync: r.hashes("last sync hashes"), Bloom: r.bloom()}
	}
	return haves
}

// bloom reads a filter and makes sure that bits and probing need no checks.
func (r *reader) bloom() Bloom {
	b := r.bytes("Bloom filter bytes")
	if len(b) == 0 {
		return nil
	}
	if len(b) > r.lim.BloomBytes {
		r.fail(CodeTooMany, "a Bloom filter of %d bytes, at most %d are taken", len(b), r.lim.BloomBytes)
		return nil
	}
	f := reader{b: b}
	entries := f.number("Bloom entries")
	bitsPerEntry := f.number("bits of a Bloom entry")
	probes := f.number("Bloom probes")
	if f.err != nil {
		r.fail(CodeBloom, "%s", f.err.Reason)
		return nil
	}
	// entries is compared first so that the product cannot overflow
	if bitsPerEntry != bloomBitsPerEntry || probes != bloomProbes ||
		entries == 0 || entries > uint64(len(b)) || bloomSize(entries) != uint64(len(f.b)) {
		r.fail(CodeBloom, "a Bloom filter of %d entries, %d bits each, %d probes in %d bytes", entries, bitsPerEntry, probes, len(f.b))
		return nil
	}
	return b
}

func (r *reader) changes(v Version) [][]byte {
	if v == V2 {
		return r.documentChunks()
	}
	n := r.count("changes", 1+minChangeBytes)
	if n == 0 {
		return nil
	}
	changes := make([][]byte, n)
	for i := range changes {
		changes[i] = r.bytes("bytes of a change")
		if len(changes[i]) < minChangeBytes {
			r.fail(CodeChange, "change %d has %d bytes", i, len(changes[i]))
			return nil
		}
	}
	return changes
}

func (r *reader) documentChunks() [][]byte {
	n := r.count("runs of chunks", 1)
	if n > 1 {
		r.fail(CodeTooMany, "%d runs of chunks, want one", n)
	}
	if n != 1 {
		return nil
	}
	b := r.bytes("bytes of chunks")
	if len(b) > 0 && !r.lim.DocumentChunks {
		r.fail(CodeV2Changes, "a V2 message with %d bytes of changes; V2 was not offered", len(b))
		return nil
	}
	return [][]byte{b}
}

func (r *reader) capabilities() Capabilities {
	if len(r.b) == 0 {
		return nil
	}
	c := r.bytes("capability bytes")
	if len(c) > maxCapabilities {
		r.fail(CodeTooMany, "%d capability bytes, at most %d are taken", len(c), maxCapabilities)
		return nil
	}
	if len(r.b) > maxTrailing {
		r.fail(CodeTrailing, "%d bytes after its end", len(r.b))
		return nil
	}
	return c
}
