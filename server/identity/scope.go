package identity

import (
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Scope is which documents somebody may open. The zero Scope is none.
type Scope struct {
	all       bool
	ids       []transaction.ID // sorted
	documents map[crdt.DocumentID]struct{}
}

// every stands for all transactions in a token.
const every = "*"

// All is every document there is or will be, plain ones too.
func All() Scope { return Scope{all: true} }

// Only is these transactions and no other document.
func Only(ids ...transaction.ID) Scope {
	s := Scope{ids: slices.Compact(slices.Sorted(slices.Values(ids))), documents: make(map[crdt.DocumentID]struct{})}
	for _, id := range s.ids {
		s.documents[id.Document()] = struct{}{}
	}
	return s
}

// ParseScope reads transaction ids, among which "*" is all.
func ParseScope(texts []string) (Scope, error) {
	if slices.Contains(texts, every) {
		return All(), nil
	}
	ids := make([]transaction.ID, 0, len(texts))
	for _, text := range texts {
		id, err := transaction.ParseID(text)
		if err != nil {
			return Scope{}, err
		}
		ids = append(ids, id)
	}
	return Only(ids...), nil
}

// All reports whether s is every document.
func (s Scope) All() bool { return s.all }

// Covers reports whether a document is in s.
func (s Scope) Covers(doc crdt.DocumentID) bool {
	_, ok := s.documents[doc]
	return ok || s.all
}

// Texts returns what [ParseScope] reads.
func (s Scope) Texts() []string {
	if s.all {
		return []string{every}
	}
	texts := make([]string, 0, len(s.ids))
	for _, id := range s.ids {
		texts = append(texts, string(id))
	}
	return texts
}

// Overlaps reports whether some document is in both.
func (s Scope) Overlaps(t Scope) bool {
	if s.all || t.all {
		return true
	}
	return slices.ContainsFunc(s.ids, func(id transaction.ID) bool { return slices.Contains(t.ids, id) })
}

// Equal reports whether both are the same documents.
func (s Scope) Equal(t Scope) bool { return s.all == t.all && slices.Equal(s.ids, t.ids) }
