package audit

import (
	"errors"
	"fmt"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// ErrNoSuchHeads is returned for a record of heads that the transaction does not
// have.
var ErrNoSuchHeads = errors.New("there are no such heads in the transaction")

// Source is what a record is made of: what the server has of a transaction.
type Source struct {
	Transaction transaction.ID
	Changes     [][]byte  // their chunks as received, in the order of commit
	Receipts    []Receipt // one for each change
	Settings    presence.Settings
	Resolutions []presence.Resolution // all, from the first

	// Heads is the state that the record is about; nil: that of all changes. As
	// of earlier heads it is about nothing that came to the log later.
	Heads []crdt.Hash
}

// cut returns the source without what came to the log after the heads: changes
// and receipts up to the last of them, and the resolutions over what they build
// on.
func (src Source) cut() (Source, error) {
	if len(src.Receipts) != len(src.Changes) {
		return src, fmt.Errorf("there are %d changes and %d receipts", len(src.Changes), len(src.Receipts))
	}
	if src.Heads == nil {
		return src, nil
	}
	if len(src.Heads) == 0 {
		return src, ErrNoSuchHeads
	}
	at := make(map[crdt.Hash]int, len(src.Receipts))
	for i := range src.Receipts {
		at[src.Receipts[i].Change] = i
	}
	last := 0
	for _, h := range src.Heads {
		i, ok := at[h]
		if !ok {
			return src, fmt.Errorf("%w: %s", ErrNoSuchHeads, h)
		}
		last = max(last, i)
	}
	past, err := src.past(at)
	if err != nil {
		return src, err
	}
	src.Changes, src.Receipts = src.Changes[:last+1], src.Receipts[:last+1]
	src.Resolutions = slices.DeleteFunc(slices.Clone(src.Resolutions), func(r presence.Resolution) bool {
		return slices.ContainsFunc(r.Heads, func(h crdt.Hash) bool { return !past[h] })
	})
	return src, nil
}

// past returns the heads and all changes that they depend on.
func (src Source) past(at map[crdt.Hash]int) (map[crdt.Hash]bool, error) {
	past := make(map[crdt.Hash]bool)
	todo := slices.Clone(src.Heads)
	for len(todo) > 0 {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if past[h] {
			continue
		}
		past[h] = true
		i, ok := at[h]
		if !ok {
			return nil, fmt.Errorf("there is no receipt of %s, on which others build", h)
		}
		c, err := crdt.DecodeHeader(src.Changes[i])
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		todo = append(todo, c.Deps...)
	}
	return past, nil
}
