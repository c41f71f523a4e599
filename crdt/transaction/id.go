package transaction

import (
	"fmt"

	"github.com/google/uuid"

	"parley/crdt"
)

// ID names a transaction: 1 to 128 characters of A-Z a-z 0-9 . _ ~ -, which
// need no escape in a URL.
type ID string

const maxIDBytes = 128

// namespace is that of the names of documents, for UUIDs of version 5.
var namespace = uuid.MustParse("6d477204-aff4-4124-a080-9205b639d762")

// ParseID checks a transaction id that comes from outside.
func ParseID(s string) (ID, error) {
	if len(s) == 0 || len(s) > maxIDBytes {
		return "", fmt.Errorf("transaction id: %d characters, want 1 to %d", len(s), maxIDBytes)
	}
	for i := range len(s) {
		if !unreserved(s[i]) {
			return "", fmt.Errorf("transaction id %q: only A-Z a-z 0-9 . _ ~ - may stand in it", s)
		}
	}
	return ID(s), nil
}

// unreserved says whether c is one of the unreserved characters of RFC 3986.
func unreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '~' || c == '-'
}

// Document returns the id of the transaction's document: a UUID of version 5,
// so that whoever knows the transaction finds the document.
func (id ID) Document() crdt.DocumentID {
	return crdt.DocumentID(uuid.NewSHA1(namespace, []byte("conflict-resolution:"+id)))
}
