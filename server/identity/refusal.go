package identity

import "parley/crdt"

// Refusal says why a token is not accepted: a stable code for programs and a
// sentence that says what to do.
type Refusal struct {
	Code   crdt.Code
	Reason string
}

// Error has both, the code first: a client may see no more than the text.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Reason }

// The codes of refusals.
const (
	CodeNoToken        crdt.Code = "no-token"
	CodeMalformed      crdt.Code = "malformed-token"
	CodeAlgorithm      crdt.Code = "wrong-algorithm"
	CodeUnknownKey     crdt.Code = "unknown-key"
	CodeSignature      crdt.Code = "bad-signature"
	CodeNoExpiry       crdt.Code = "no-expiry"
	CodeExpired        crdt.Code = "token-expired"
	CodeNotYet         crdt.Code = "not-yet-valid"
	CodeAudience       crdt.Code = "wrong-audience"
	CodeIssuer         crdt.Code = "wrong-issuer"
	CodeNoUser         crdt.Code = "no-user"
	CodeNoRole         crdt.Code = "no-role"
	CodeUnknownRole    crdt.Code = "unknown-role"
	CodeNoTransactions crdt.Code = "no-transactions"
	CodeTooLong        crdt.Code = "claim-too-long"
	CodeRevoked        crdt.Code = "revoked" // by the server: this package keeps no list
)

func refuse(code crdt.Code, reason string) *Refusal { return &Refusal{code, reason} }

// ErrNoToken refuses who brought no token at all.
var ErrNoToken = refuse(CodeNoToken, "this server wants a token: send Authorization: Bearer TOKEN, or ?token=TOKEN")

// ErrRevoked refuses a token that was taken back.
var ErrRevoked = refuse(CodeRevoked, "this token was revoked: ask whoever runs the server")
