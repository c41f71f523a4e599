// Package wire reads and writes the frames of automerge-repo's WebSocket
// protocol, version "1", and its document ids and URLs. One binary WebSocket
// message is one frame, and one frame is one CBOR map:
//
//	type                        direction  fields beside type
//	join                        up         senderId, peerMetadata?, supportedProtocolVersions?
//	peer                        down       senderId, targetId, peerMetadata, selectedProtocolVersion
//	error                       down       senderId?, targetId?, message
//	leave                       either     senderId
//	request, sync               either     senderId, targetId, documentId, data
//	doc-unavailable             either     senderId, targetId, documentId
//	ephemeral                   either     senderId, targetId, documentId, count, sessionId, data
//	remote-subscription-change  up         senderId, targetId, add?, remove?
//	remote-heads-changed        either     senderId, targetId, documentId, newHeads
//
// What is written is what cbor-x 1.6.9 reads as the JavaScript packages mean
// it: definite lengths, shortest heads, and no integer of 64 bits, which would
// become a BigInt there. What is read is anything that a client may send: heads
// of every width, fields in any order, undefined and null as if absent, numbers
// as integers or floats, a targetId left out. Types and fields that are not in
// the table are ignored. Refused is what no client sends: indefinite lengths,
// repeated keys, keys that are not text, bytes after the map, deep nesting, and
// whatever is over a limit.
//
// The package knows nothing of connections: who may send which message when,
// and what a sync message's data holds, is for its callers. It is pure: bytes
// in, values out. sync/session, sync/client and server may import it.
package wire

// ProtocolVersion is the only version of the protocol there is.
const ProtocolVersion = "1"

// Limits bounds what [Decode] takes. A zero field means its default.
type Limits struct {
	Frame int // bytes in a frame; 16 MiB
	ID    int // bytes in a peer, storage or session id, a version, a type or a document id's text; 256
	List  int // storage ids, versions or entries or heads of newHeads in one message; 1,024
}

const (
	defaultFrame = 16 << 20
	defaultID    = 256
	defaultList  = 1024
)

func (l Limits) withDefaults() Limits {
	if l.Frame == 0 {
		l.Frame = defaultFrame
	}
	if l.ID == 0 {
		l.ID = defaultID
	}
	if l.List == 0 {
		l.List = defaultList
	}
	return l
}

// Kind says what is wrong with a frame, and so what may be done about it.
type Kind int

const (
	// KindEncoding: the frame is not one well-formed CBOR item. Whoever sends it
	// does not speak the protocol.
	KindEncoding Kind = iota + 1
	// KindShape: it is CBOR, but no message: not a map, a field missing, of the
	// wrong type, or given twice.
	KindShape
	// KindLimit: something in it is larger than the limits allow.
	KindLimit
	// KindDocument: a message for a document whose id cannot be one. The
	// sender is waiting for an answer, and can be told that there is no such
	// document: see [Error.DocumentText].
	KindDocument
)

// String returns a name that can stand as a metric's label.
func (k Kind) String() string {
	switch k {
	case KindEncoding:
		return "encoding"
	case KindShape:
		return "shape"
	case KindLimit:
		return "limit"
	case KindDocument:
		return "document"
	}
	return "unknown"
}

// Error is why a frame was refused.
type Error struct {
	Kind   Kind
	Reason string // a sentence for logs; quotes no more of the frame than names of fields

	// Set with KindDocument only.
	Type         Type
	SenderID     PeerID
	DocumentText string // the id as it came, not empty, at most Limits.ID bytes: what [DocUnavailable] can answer with
}

func (e *Error) Error() string { return "frame refused: " + e.Reason }
