package store

import (
	"context"
	"errors"
	"time"

	"parley/crdt"
)

// Node names one process that has a store open: eight random bytes, others with each
// opening.
type Node [8]byte

// Presence is what a node says of who is in a document by its connections. It
// outlives neither the node nor, always, the database.
type Presence struct {
	Document crdt.DocumentID
	Node     Node
	Seq      uint64 // rises with each that the node publishes, and is never used again
	Data     []byte // means something to the caller only; nil: nobody is there
}

// Relayed is a message for those who have a document open on other nodes. It may be
// lost.
type Relayed struct {
	Document crdt.DocumentID
	Data     []byte // at most MaxRelayed bytes
}

// MaxRelayed is how long a relayed message may be: it must fit into a notification.
const MaxRelayed = 5800

// PublishedAtOnce is how many documents one call of [Store.Publish] may be about: each
// takes a lock.
const PublishedAtOnce = 256

// SealWithin is how long after it was looked who is present a resolution that relies on
// that may get stored. If it would take longer it is not stored at all, but for the time
// that the disk takes for the commit itself.
const SealWithin = 2 * time.Second

// Beat is what a node hears when it prolongs its lease.
type Beat struct {
	// Nodes are the others whose leases have not ended.
	Nodes []Node
	// Fresh says that nothing is there of what this node has published: it is the
	// first beat, or the lease had ended, or the database has forgotten.
	Fresh bool
	// Forgotten, in a fresh beat, says that the database has forgotten what all nodes had
	// published, and that not longer ago than a lease lasts: others may live, and have
	// to say again who is there.
	Forgotten bool
}

// Living is a node whose lease has not ended.
type Living struct {
	Node  Node
	Begun uint64 // what it has published with lower numbers was forgotten when its lease began
}

var (
	// ErrPresence refuses a resolution because other nodes have published meanwhile, or
	// have come or gone: who seals did not know. Nothing is wrong with the document.
	ErrPresence = errors.New("who is present on other servers has changed since this was made")
	// ErrNoLease is what Publish gets until the node has a lease (again), and, with
	// ErrPresence, a resolution that relies on others.
	ErrNoLease = errors.New("this server has no lease that others go by")
)

// Presenting is a [Backend] whose processes tell each other who is present.
type Presenting interface {
	Node() Node
	// Beat prolongs this node's lease, to as long as is said from now.
	Beat(ctx context.Context, lease time.Duration) (Beat, error)
	// Lease is the number of the lease that this node has, another after each time that
	// it had ended; 0: none yet.
	Lease() uint64
	// Counted is until when, by this process's clock, others may count on what this node
	// has published, whatever came of the calls of Beat, one that is under way among
	// them; zero: nobody does.
	Counted() time.Time
	// Publish replaces what this node has said of documents, and tells the others, all
	// in one transaction. It leaves out documents that are being sealed just now, and
	// returns how far the others had come: whoever seals one of these from then on knows
	// of it or fails, and who did not know of it and sealed has done so by then. It sets
	// their presences' Node and Seq. One goroutine calls it at a time.
	Publish(ctx context.Context, presences []Presence, relayed []Relayed) (map[crdt.DocumentID]Version, error)
	// Present returns the nodes whose leases have not ended, this one among them, and what
	// the others say of documents, as of one moment. With brief, Data is left out.
	Present(ctx context.Context, docs []crdt.DocumentID, brief bool) ([]Presence, []Living, error)
}

// Node names this process to others that use the store; zero if there cannot be any.
func (s *Store) Node() Node {
	if b, ok := s.backend.(Presenting); ok {
		return b.Node()
	}
	return Node{}
}

// Beat is that of [Presenting]. In a data folder there is nobody to tell.
func (s *Store) Beat(ctx context.Context, lease time.Duration) (Beat, error) {
	if b, ok := s.backend.(Presenting); ok {
		return b.Beat(ctx, lease)
	}
	return Beat{}, nil
}

// Lease is that of [Presenting].
func (s *Store) Lease() uint64 {
	if b, ok := s.backend.(Presenting); ok {
		return b.Lease()
	}
	return 0
}

// Counted is that of [Presenting].
func (s *Store) Counted() time.Time {
	if b, ok := s.backend.(Presenting); ok {
		return b.Counted()
	}
	return time.Time{}
}

// Publish is that of [Presenting]. In a data folder there is nobody to tell.
func (s *Store) Publish(ctx context.Context, presences []Presence, relayed []Relayed) (map[crdt.DocumentID]Version, error) {
	if b, ok := s.backend.(Presenting); ok {
		return b.Publish(ctx, presences, relayed)
	}
	return nil, nil
}

// Present is that of [Presenting]. A data folder has no other node.
func (s *Store) Present(ctx context.Context, docs []crdt.DocumentID, brief bool) ([]Presence, []Living, error) {
	if b, ok := s.backend.(Presenting); ok {
		return b.Present(ctx, docs, brief)
	}
	return nil, nil, nil
}
