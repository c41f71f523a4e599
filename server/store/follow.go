package store

import (
	"context"

	"parley/crdt"
)

// News is what a commit of another process has appended to a document.
type News struct {
	Document crdt.DocumentID
	Version  Version // of the document, with it
	// Changes are all that it appended, the last of Version.Changes; nil if there is
	// more to know: ask [Store.Newer].
	Changes []Change // Chunk and User alone
}

// Follower hears of what other processes commit, soon after they do. What it hears
// is a hint: all of it may be lost, and is made good by Missed, or by comparing
// [Store.Versions] now and then. Its methods are called by one goroutine; they must
// be quick and not wait.
type Follower interface {
	News(News)
	// Revoked says that there are further revocations.
	Revoked()
	// Presence says what another node has published of a document. If it is not whole,
	// there is data, which was too long: ask [Store.Present].
	Presence(p Presence, whole bool)
	// Relayed is a message from another node.
	Relayed(Relayed)
	// Missed says that anything may have been committed unheard, or that there is a
	// further node.
	Missed()
}

// Following is a [Backend] that hears of what other processes commit.
type Following interface {
	// Follow begins to tell f, until Close.
	Follow(f Follower)
	Versions(ctx context.Context, docs []crdt.DocumentID) (map[crdt.DocumentID]Version, error)
}

// Follow tells f from now on what other processes commit; it is called at most once.
// Nobody else commits to a data folder.
func (s *Store) Follow(f Follower) {
	if b, ok := s.backend.(Following); ok {
		b.Follow(f)
	}
}

// Versions says how far documents have come; those that are not stored are left out.
// Of a data folder it says nothing.
func (s *Store) Versions(ctx context.Context, docs []crdt.DocumentID) (map[crdt.DocumentID]Version, error) {
	if b, ok := s.backend.(Following); ok {
		return b.Versions(ctx, docs)
	}
	return nil, nil
}
