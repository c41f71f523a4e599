package wire

import "parley/crdt"

// PeerID is what a peer calls itself in a conversation. Nothing proves it.
type PeerID string

// StorageID names a store of documents, by a UUID's text as a rule. Several
// peers may share a store.
type StorageID string

// SessionID tells apart the processes that use one PeerID one after the other.
type SessionID string

// Type is the "type" field of a frame.
type Type string

// The types of the protocol. Any other type is read as [Unknown].
const (
	TypeJoin                     Type = "join"
	TypePeer                     Type = "peer"
	TypeError                    Type = "error"
	TypeLeave                    Type = "leave"
	TypeRequest                  Type = "request"
	TypeSync                     Type = "sync"
	TypeDocUnavailable           Type = "doc-unavailable"
	TypeEphemeral                Type = "ephemeral"
	TypeRemoteSubscriptionChange Type = "remote-subscription-change"
	TypeRemoteHeadsChanged       Type = "remote-heads-changed"
)

// Message is one frame: a pointer to one of the structs below.
type Message interface {
	// Type returns the frame's type. Only Unknown's is not from a closed set.
	Type() Type
	message()
}

// Metadata is what a peer tells of itself when it joins.
type Metadata struct {
	StorageID   StorageID // empty: it has no store
	IsEphemeral bool      // its store will be gone with it: not worth keeping a sync state for
}

// Join opens a conversation.
type Join struct {
	SenderID PeerID
	Metadata Metadata
	Versions []string // a frame without versions means [ProtocolVersion]
}

// Peer is the server's answer to Join.
type Peer struct {
	SenderID PeerID
	TargetID PeerID
	Metadata Metadata
	Version  string
}

// ProtocolError tells why the sender is about to close the connection. A
// client logs it and comes back.
type ProtocolError struct {
	SenderID PeerID // some servers leave both ids out
	TargetID PeerID
	Message  string
}

// Leave says that the sender is about to close.
type Leave struct {
	SenderID PeerID
}

// Request is a sync message from a peer that does not have the document.
type Request struct {
	SenderID   PeerID
	TargetID   PeerID
	DocumentID crdt.DocumentID
	Data       []byte // an Automerge sync message, not empty
}

// Sync is a sync message.
type Sync struct {
	SenderID   PeerID
	TargetID   PeerID
	DocumentID crdt.DocumentID
	Data       []byte // an Automerge sync message, not empty
}

// DocUnavailable says that the sender has no such document and, as far as it
// knows, nor have its peers; or that the receiver may not have it.
type DocUnavailable struct {
	SenderID   PeerID
	TargetID   PeerID
	DocumentID crdt.DocumentID

	// DocumentText, if not empty, is written in place of DocumentID. It answers
	// a document id that is none, in the text in which it was asked for. Decode
	// leaves it empty.
	DocumentText string
}

// Ephemeral is a message from one peer's application to the others'. It is
// passed on as it is, but for TargetID.
type Ephemeral struct {
	SenderID   PeerID // its author's, however many hops it has come
	TargetID   PeerID
	DocumentID crdt.DocumentID
	Count      uint64 // rises with each message of the author's session; below 2^53
	SessionID  SessionID
	Data       []byte // the application's value in CBOR, not empty
}

// RemoteSubscriptionChange says of which stores the sender wants to hear by
// RemoteHeadsChanged.
type RemoteSubscriptionChange struct {
	SenderID PeerID
	TargetID PeerID
	Add      []StorageID
	Remove   []StorageID
}

// RemoteHeadsChanged says which heads stores have of a document.
type RemoteHeadsChanged struct {
	SenderID   PeerID
	TargetID   PeerID
	DocumentID crdt.DocumentID
	NewHeads   []RemoteHeads // by rising StorageID, none twice
}

// RemoteHeads is what a store had of a document at a time.
type RemoteHeads struct {
	StorageID StorageID
	Heads     []crdt.Hash // in the order in which they came
	Timestamp float64     // milliseconds since 1970, as JavaScript's Date.now() has it; finite
}

// Unknown is a message of a type that this package does not know. It is not to
// be answered, and cannot be written.
type Unknown struct {
	Name     Type
	SenderID PeerID // empty if the frame has none
}

// Type returns "join".
func (*Join) Type() Type { return TypeJoin }

// Type returns "peer".
func (*Peer) Type() Type { return TypePeer }

// Type returns "error".
func (*ProtocolError) Type() Type { return TypeError }

// Type returns "leave".
func (*Leave) Type() Type { return TypeLeave }

// Type returns "request".
func (*Request) Type() Type { return TypeRequest }

// Type returns "sync".
func (*Sync) Type() Type { return TypeSync }

// Type returns "doc-unavailable".
func (*DocUnavailable) Type() Type { return TypeDocUnavailable }

// Type returns "ephemeral".
func (*Ephemeral) Type() Type { return TypeEphemeral }

// Type returns "remote-subscription-change".
func (*RemoteSubscriptionChange) Type() Type { return TypeRemoteSubscriptionChange }

// Type returns "remote-heads-changed".
func (*RemoteHeadsChanged) Type() Type { return TypeRemoteHeadsChanged }

// Type returns the type as it came.
func (u *Unknown) Type() Type { return u.Name }

func (*Join) message()                     {}
func (*Peer) message()                     {}
func (*ProtocolError) message()            {}
func (*Leave) message()                    {}
func (*Request) message()                  {}
func (*Sync) message()                     {}
func (*DocUnavailable) message()           {}
func (*Ephemeral) message()                {}
func (*RemoteSubscriptionChange) message() {}
func (*RemoteHeadsChanged) message()       {}
func (*Unknown) message()                  {}
