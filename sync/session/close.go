package session

import "parley/sync/wire"

// CloseCode is a WebSocket close code. The range tells the client what to do:
// 4400 to 4499 say that trying again unchanged cannot work (stop), 4500 to 4599
// and the standard 1001 and 1013 that it will (retry, with backoff).
type CloseCode int

// The close codes that this package and the server's shell use.
const (
	// CloseNormal answers a client's leave.
	CloseNormal CloseCode = 1000

	// CloseBadFrame: the frame was not CBOR, or not of the protocol's shape.
	CloseBadFrame CloseCode = 4400
	// CloseUnauthorized: who the client says it is was not accepted.
	CloseUnauthorized CloseCode = 4401
	// CloseRevoked: what the client may do was taken back.
	CloseRevoked CloseCode = 4403
	// CloseVersion: no common protocol version.
	CloseVersion CloseCode = 4406
	// CloseJoinTimeout: no join frame came in time.
	CloseJoinTimeout CloseCode = 4408
	// CloseReplaced: the same peer id joined on a newer connection, or belongs to
	// a connection of somebody else.
	CloseReplaced CloseCode = 4409
	// CloseTooLarge: a frame, or what it holds, is over a limit.
	CloseTooLarge CloseCode = 4413
	// CloseBadChange: a change whose bytes do not make a change.
	CloseBadChange CloseCode = 4422

	// CloseInternal: the server could not read or write this document.
	CloseInternal CloseCode = 4500
	// CloseExpired: the client's token has expired, or a newer one says something
	// else. It comes back with a fresh one.
	CloseExpired CloseCode = 4501
	// CloseRestarting: the server is shutting down; its successor will answer.
	CloseRestarting CloseCode = 4503
	// CloseTooMany: more connections or frames than the user may have.
	CloseTooMany CloseCode = 4528
	// CloseOverloaded: more waits for the disk than the server may hold.
	CloseOverloaded CloseCode = 4529
)

// Retry reports whether a client that was closed with c should come back.
func (c CloseCode) Retry() bool {
	return c >= 4500 && c < 4600 || c == 1001 || c == 1013
}

// Refusal is the end of a connection that is refused before it is read from.
func Refusal(self wire.PeerID, code CloseCode, reason string) Close {
	return Close{Code: code, Reason: reason, Frame: wire.Append(nil, &wire.ProtocolError{SenderID: self, Message: reason})}
}
