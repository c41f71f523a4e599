package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/crdt/transaction"
)

// DefaultAudience is what a token must be meant for, if nothing else is said.
const DefaultAudience = "parley"

// DefaultLeeway is how far the clocks of issuer and server may be apart.
const DefaultLeeway = 30 * time.Second

const (
	maxToken = 16 << 10 // bytes
	maxClaim = 256      // bytes of a user, a name or a token's id
)

// Claims are what a token that was accepted says.
type Claims struct {
	User   string
	Name   string
	Role   transaction.Role
	Scope  Scope
	ID     string    // jti; "" if it has none
	Issued time.Time // zero if it does not say
	// Expires is the moment from which the token is refused.
	Expires time.Time
}

// Verifier checks tokens. It may be used by any goroutine.
type Verifier struct {
	Keys     *Keys
	Issuer   string // "": any
	Audience string // "": DefaultAudience
	// Leeway is for tokens that seem to come from the future (0: DefaultLeeway).
	// There is none for their end: a connection is closed when its token expires,
	// and must not be let in again with it.
	Leeway time.Duration
}

// claimsForm is a token's claims as they stand in it.
type claimsForm struct {
	jwt.RegisteredClaims
	Name         string `json:"name,omitempty"`
	Role         string `json:"role,omitempty"`
	Transactions names  `json:"transactions,omitempty"`
	Tx           names  `json:"tx,omitempty"` // another name of it
}

// names is a string or a list of strings.
type names []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *names) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*n = names{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(n))
}

// Verify returns what a token says, or a [*Refusal].
func (v *Verifier) Verify(ctx context.Context, token string, now time.Time) (*Claims, error) {
	if token == "" {
		return nil, ErrNoToken
	}
	form, refusal := v.parse(ctx, token, now)
	if refusal == nil {
		refusal = v.checkTimes(form, now)
	}
	if refusal != nil {
		return nil, refusal
	}
	return form.claims()
}

// parse checks what makes a token one of ours: its signature, issuer and
// audience.
func (v *Verifier) parse(ctx context.Context, token string, now time.Time) (*claimsForm, *Refusal) {
	if len(token) > maxToken {
		return nil, refuse(CodeMalformed, fmt.Sprintf("the token has more than %d bytes", maxToken))
	}
	set, form, asked := v.Keys.current(now), &claimsForm{}, false
	_, err := jwt.ParseWithClaims(token, form, func(t *jwt.Token) (any, error) {
		asked = true
		if _, critical := t.Header["crit"]; critical {
			return nil, jwt.ErrTokenMalformed // it wants what we do not know of (RFC 7515, 4.1.11)
		}
		return set.key(ctx, t)
	},
		jwt.WithValidMethods(set.methods), jwt.WithAudience(v.audience()), jwt.WithIssuer(v.Issuer),
		jwt.WithIssuedAt(), jwt.WithLeeway(v.leeway()), jwt.WithTimeFunc(func() time.Time { return now }))
	if err == nil {
		return form, nil
	}
	return nil, v.refusal(err, set, form, asked)
}

// refusal puts into our words what the library found. Its own may quote the
// token.
func (v *Verifier) refusal(err error, set *keySet, form *claimsForm, asked bool) *Refusal {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(jwt.ErrTokenMalformed):
		return refuse(CodeMalformed, "what was sent as token is none that can be read: check that it was copied whole")
	case !asked:
		return refuse(CodeAlgorithm, "the token is signed in a way not accepted here: sign with "+strings.Join(set.methods, ", "))
	case is(errUnknownKey):
		return refuse(CodeUnknownKey, "the server has no key of the token's kid: get a fresh token")
	case is(errKeyType):
		return refuse(CodeAlgorithm, "the token's algorithm is not its key's: sign with "+strings.Join(set.methods, ", "))
	case is(jwt.ErrTokenSignatureInvalid), is(jwt.ErrTokenUnverifiable):
		return refuse(CodeSignature, "the token is not signed with a key of this server: get one from its issuer")
	case is(jwt.ErrTokenExpired):
		return errExpired
	case is(jwt.ErrTokenNotValidYet), is(jwt.ErrTokenUsedBeforeIssued):
		return refuse(CodeNotYet, "the token is not valid yet: wait, or set the clock of who issued it")
	case is(jwt.ErrTokenInvalidIssuer), v.Issuer != "" && form.Issuer == "":
		return refuse(CodeIssuer, "the token is by another issuer (iss) than "+brief(v.Issuer))
	case is(jwt.ErrTokenInvalidAudience), len(form.Audience) == 0:
		return refuse(CodeAudience, "the token is not for this server: its aud must be "+brief(v.audience()))
	}
	return refuse(CodeMalformed, "the token's claims cannot be read")
}

var errExpired = refuse(CodeExpired, "the token has expired: get a fresh one")

// brief keeps a sentence short enough for a close frame.
func brief(s string) string {
	const most = 40
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func (v *Verifier) audience() string      { return cmp.Or(v.Audience, DefaultAudience) }
func (v *Verifier) leeway() time.Duration { return cmp.Or(v.Leeway, DefaultLeeway) }

// checkTimes checks what the library is too lenient in.
func (v *Verifier) checkTimes(form *claimsForm, now time.Time) *Refusal {
	switch {
	case form.ExpiresAt == nil:
		return refuse(CodeNoExpiry, "the token never expires (exp): get one that does")
	case !now.Before(form.ExpiresAt.Time):
		return errExpired
	}
	return nil
}

// claims reads what the server needs to know.
func (form *claimsForm) claims() (*Claims, error) {
	role := transaction.Role(form.Role)
	switch {
	case form.Subject == "":
		return nil, refuse(CodeNoUser, "the token names no user (sub)")
	case role == "":
		return nil, refuse(CodeNoRole, "the token names no role: host, party, viewer or auditor")
	case !knownRole(role):
		return nil, refuse(CodeUnknownRole, "the token's role is none: use host, party, viewer or auditor")
	case max(len(form.Subject), len(form.Name), len(form.ID)) > maxClaim:
		return nil, refuse(CodeTooLong, fmt.Sprintf("sub, name and jti may have at most %d bytes each", maxClaim))
	}
	scope, err := ParseScope(append(form.Transactions, form.Tx...))
	if err != nil || scope.Equal(Scope{}) {
		return nil, refuse(CodeNoTransactions, `the token names no transactions: "transactions" is a list of their ids, or "*"`)
	}
	c := &Claims{
		User: form.Subject, Name: form.Name, Role: role, Scope: scope, ID: form.ID, Expires: form.ExpiresAt.Time,
	}
	if form.IssuedAt != nil {
		c.Issued = form.IssuedAt.Time
	}
	return c, nil
}

func knownRole(r transaction.Role) bool {
	switch r {
	case transaction.Host, transaction.Party, transaction.Viewer, transaction.Auditor:
		return true
	}
	return false
}
