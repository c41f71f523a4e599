package crdt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Hash names a change: the SHA-256 of its uncompressed chunk from the type
// byte on, as Automerge's binary format defines it.
type Hash [32]byte

// ParseHash reads the 64 hexadecimal digits that [Hash.String] writes.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != hex.EncodedLen(len(h)) {
		return Hash{}, fmt.Errorf("change hash %q: want %d hexadecimal digits", s, hex.EncodedLen(len(h)))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("change hash %q: %w", s, err)
	}
	return h, nil
}

// String returns h in lower-case hexadecimal, as Automerge's tools print it.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHashes reads what [HashTexts] returns. It fails on the first text that is no
// hash.
func ParseHashes(texts []string) ([]Hash, error) {
	hs := make([]Hash, 0, len(texts))
	for _, text := range texts {
		h, err := ParseHash(text)
		if err != nil {
			return nil, err
		}
		hs = append(hs, h)
	}
	return hs, nil
}

// HashTexts returns hashes as [Hash.String] writes them: an empty list, not nil, if
// there are none.
func HashTexts(hs []Hash) []string {
	texts := make([]string, 0, len(hs))
	for _, h := range hs {
		texts = append(texts, h.String())
	}
	return texts
}

// JoinHashes returns hashes one after the other.
func JoinHashes(hs []Hash) []byte {
	b := make([]byte, 0, len(hs)*len(Hash{}))
	for _, h := range hs {
		b = append(b, h[:]...)
	}
	return b
}

// SplitHashes reads what [JoinHashes] returns. A piece of a hash at the end is left
// out.
func SplitHashes(b []byte) (hs []Hash) {
	for ; len(b) >= len(Hash{}); b = b[len(Hash{}):] {
		hs = append(hs, Hash(b[:len(Hash{})]))
	}
	return hs
}

// Compare orders hashes by their bytes, the order in which heads and deps are
// listed on the wire.
func (h Hash) Compare(o Hash) int { return bytes.Compare(h[:], o[:]) }

// SortHashes sorts hashes in place, ascending, and drops repeats.
func SortHashes(hs []Hash) []Hash {
	slices.SortFunc(hs, Hash.Compare)
	return slices.Compact(hs)
}

// ActorID is an actor's raw bytes: 1 to 128 of them, 16 as a rule. Automerge
// orders actors by these bytes.
type ActorID string

// String returns the actor in lower-case hexadecimal.
func (a ActorID) String() string { return hex.EncodeToString([]byte(a)) }

// ParseActorID reads what [ActorID.String] writes.
func ParseActorID(s string) (ActorID, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return "", fmt.Errorf("actor %q: %w", s, err)
	}
	if len(b) == 0 {
		return "", errors.New("actor: empty")
	}
	return ActorID(b), nil
}

// OpID names an operation: Automerge writes it counter@actor.
type OpID struct {
	Counter uint64
	Actor   ActorID
}

// String returns the operation id as Automerge writes it.
func (id OpID) String() string { return fmt.Sprintf("%d@%s", id.Counter, id.Actor) }
