package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"parley/crdt"
)

// Log is the Merkle log of a document: RFC 6962's tree (section 2.1) over its
// receipts. The zero value is empty.
type Log struct {
	size   int64
	hashes []tlog.Hash // as tlog numbers them
}

// Size is the number of receipts.
func (l *Log) Size() int { return int(l.size) }

// Append adds the next leaf.
func (l *Log) Append(leaf []byte) {
	hashes, err := tlog.StoredHashes(l.size, leaf, l.read())
	if err != nil {
		panic("audit: " + err.Error()) // of hashes that are all here
	}
	l.hashes = append(l.hashes, hashes...)
	l.size++
}

func (l *Log) read() tlog.HashReader {
	return tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		hs := make([]tlog.Hash, len(at))
		for i, n := range at {
			if n < 0 || n >= int64(len(l.hashes)) {
				return nil, fmt.Errorf("hash %d of %d", n, len(l.hashes))
			}
			hs[i] = l.hashes[n]
		}
		return hs, nil
	})
}

// Root returns the root of the tree over the first n receipts.
func (l *Log) Root(n int) (crdt.Hash, error) {
	if n < 0 || int64(n) > l.size {
		return crdt.Hash{}, fmt.Errorf("the log has %d receipts, not %d", l.size, n)
	}
	root, err := tlog.TreeHash(int64(n), l.read())
	return crdt.Hash(root), err
}

// Inclusion proves that receipt i is in the tree over the first n: the audit path
// of RFC 6962, section 2.1.1.
func (l *Log) Inclusion(i, n int) ([]crdt.Hash, error) {
	if n < 0 || int64(n) > l.size || i < 0 || i >= n {
		return nil, fmt.Errorf("there is no receipt %d in a log of %d, of which there are %d", i, n, l.size)
	}
	proof, err := tlog.ProveRecord(int64(n), int64(i), l.read())
	return proofHashes(proof), err
}

// Consistency proves that the tree over the first n receipts begins as the tree
// over the first m: RFC 6962, section 2.1.2.
func (l *Log) Consistency(m, n int) ([]crdt.Hash, error) {
	if m < 1 || m > n || int64(n) > l.size {
		return nil, fmt.Errorf("want 1 <= from <= size <= %d, not from %d and size %d", l.size, m, n)
	}
	proof, err := tlog.ProveTree(int64(n), int64(m), l.read())
	return proofHashes(proof), err
}

func proofHashes[T ~[]tlog.Hash](proof T) []crdt.Hash {
	hs := make([]crdt.Hash, 0, len(proof))
	for _, h := range proof {
		hs = append(hs, crdt.Hash(h))
	}
	return hs
}
