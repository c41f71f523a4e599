package crdt

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/mr-tron/base58"
)

// DocumentID names a document: the 16 bytes of a UUID. Its text form is
// automerge-repo's: base58check, that is base58 (Bitcoin's alphabet) over the
// bytes followed by the first 4 bytes of their double SHA-256.
type DocumentID [16]byte

const documentIDChecksum = 4

// maxDocumentIDText is the longest base58 text that 20 bytes can have.
const maxDocumentIDText = 28

// ParseDocumentID reads the text form. It fails on any other length, alphabet
// or checksum.
func ParseDocumentID(s string) (DocumentID, error) {
	var id DocumentID
	if len(s) == 0 || len(s) > maxDocumentIDText {
		return id, fmt.Errorf("document id: %d characters, want 20 to %d of base58check", len(s), maxDocumentIDText)
	}
	b, err := base58.Decode(s)
	if err != nil {
		return id, fmt.Errorf("document id %q: %w", s, err)
	}
	if len(b) != len(id)+documentIDChecksum {
		return id, fmt.Errorf("document id %q: holds %d bytes, want %d", s, len(b), len(id)+documentIDChecksum)
	}
	copy(id[:], b)
	if sum := id.checksum(); !bytes.Equal(b[len(id):], sum[:]) {
		return DocumentID{}, fmt.Errorf("document id %q: its checksum does not match", s)
	}
	return id, nil
}

// String returns the text form, without the "automerge:" of a URL.
func (id DocumentID) String() string {
	sum := id.checksum()
	return base58.Encode(append(id[:], sum[:]...))
}

func (id DocumentID) checksum() [documentIDChecksum]byte {
	inner := sha256.Sum256(id[:])
	outer := sha256.Sum256(inner[:])
	return [documentIDChecksum]byte(outer[:documentIDChecksum])
}
