package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/mr-tron/base58"

	"parley/crdt"
)

const (
	headChecksum = 4
	maxHeadText  = 50 // the longest base58 text that 36 bytes can have
)

// appendHead58 appends a head as automerge-repo writes it outside of sync
// messages: base58check, like a document id.
func appendHead58(dst []byte, h crdt.Hash) []byte {
	sum := checksum(h)
	return append(dst, base58.Encode(append(h[:], sum[:]...))...)
}

// parseHead58 reads what appendHead58 writes.
func parseHead58(s string) (crdt.Hash, error) {
	var h crdt.Hash
	if len(s) == 0 || len(s) > maxHeadText {
		return h, fmt.Errorf("head: %d characters, want 36 to %d of base58check", len(s), maxHeadText)
	}
	b, err := base58.Decode(s)
	if err != nil {
		return h, fmt.Errorf("head: %w", err)
	}
	if len(b) != len(h)+headChecksum {
		return h, fmt.Errorf("head: holds %d bytes, want %d", len(b), len(h)+headChecksum)
	}
	copy(h[:], b)
	if sum := checksum(h); !bytes.Equal(b[len(h):], sum[:]) {
		return crdt.Hash{}, errors.New("head: its checksum does not match")
	}
	return h, nil
}

// ParseHead reads a head in either of the forms that clients have it in: the 64
// hexadecimal digits of Automerge, or automerge-repo's base58check.
func ParseHead(s string) (crdt.Hash, error) {
	if len(s) == 2*len(crdt.Hash{}) {
		return crdt.ParseHash(s)
	}
	return parseHead58(s)
}

func checksum(h crdt.Hash) [headChecksum]byte {
	inner := sha256.Sum256(h[:])
	outer := sha256.Sum256(inner[:])
	return [headChecksum]byte(outer[:headChecksum])
}
