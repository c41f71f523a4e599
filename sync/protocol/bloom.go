package protocol

import (
	"encoding/binary"

	"parley/crdt"
)

// Automerge's Bloom filters have a false positive in about a hundred. Both
// numbers are part of each filter; nobody sends others, and we accept none.
const (
	bloomBitsPerEntry = 10
	bloomProbes       = 7
)

// Bloom is an encoded Bloom filter of change hashes: number of entries, bits
// per entry and probes, each unsigned LEB128, then the bits, lowest bit of each
// byte first. Empty, it contains nothing.
type Bloom []byte

// MakeBloom returns the filter of changes of g, given by index. Its bytes are
// those that Automerge makes of the same hashes.
func MakeBloom(g *crdt.Graph, changes []int) Bloom {
	if len(changes) == 0 {
		return nil
	}
	size := bloomSize(uint64(len(changes)))
	b := make([]byte, 0, binary.MaxVarintLen64+2+size)
	b = binary.AppendUvarint(b, uint64(len(changes)))
	b = append(b, bloomBitsPerEntry, bloomProbes)
	bits := b[len(b) : len(b)+int(size)]
	for _, i := range changes {
		p := startProbe(g.HashAt(i), bits)
		for range bloomProbes {
			bits[p.x/8] |= 1 << (p.x % 8)
			p.next()
		}
	}
	return b[:len(b)+len(bits)]
}

func bloomSize(entries uint64) uint64 { return (entries*bloomBitsPerEntry + 7) / 8 }

// bits returns what stands behind the three numbers of a checked filter.
func (b Bloom) bits() []byte {
	if len(b) == 0 {
		return nil
	}
	_, n := binary.Uvarint(b)
	return b[n+2:]
}

// bloomContains says whether the hash may be in the filter with these bits.
func bloomContains(bits []byte, h crdt.Hash) bool {
	if len(bits) == 0 {
		return false
	}
	p := startProbe(h, bits)
	for range bloomProbes {
		if bits[p.x/8]&(1<<(p.x%8)) == 0 {
			return false
		}
		p.next()
	}
	return true
}

// probe steps through the bits that belong to a hash: triple hashing over its
// first 12 bytes.
type probe struct{ x, y, z, modulo uint32 }

func startProbe(h crdt.Hash, bits []byte) probe {
	m := uint32(8 * len(bits))
	return probe{
		x:      binary.LittleEndian.Uint32(h[0:]) % m,
		y:      binary.LittleEndian.Uint32(h[4:]) % m,
		z:      binary.LittleEndian.Uint32(h[8:]) % m,
		modulo: m,
	}
}

func (p *probe) next() {
	p.x = (p.x + p.y) % p.modulo
	p.y = (p.y + p.z) % p.modulo
}
