package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/identity"
	"parley/sync/presence"
	"parley/sync/session"
)

// Identity is who makes a request, as the server knows it. The zero Identity is
// somebody without a name, who may open nothing.
type Identity struct {
	User  string // the id that changes are made in the name of
	Name  string // for people to read; not unique
	Role  transaction.Role
	Scope identity.Scope // which documents

	// What is known of a token. Zero: it does not say, or there is none.
	Token   string // its id
	Issued  time.Time
	Expires time.Time
}

func (i Identity) person() presence.Person {
	return presence.Person{User: i.User, Name: i.Name, Role: i.Role}
}

func (i Identity) author() transaction.Author { return i.person().Author() }

// identify returns who makes a request, or the problem of one that is refused.
func (s *Server) identify(r *http.Request) (Identity, error) {
	var who Identity
	err := s.quotas.requestFrom(addressOf(r.RemoteAddr), time.Now())
	if err == nil {
		who, err = s.know(r)
	}
	if err == nil {
		err = s.quotas.requestBy(who.User, time.Now())
	}
	return who, s.refusalOf(err)
}

// identifyAgain is for a request that has taken a while, and is no further one.
func (s *Server) identifyAgain(r *http.Request) (Identity, error) {
	who, err := s.know(r)
	return who, s.refusalOf(err)
}

// refusalOf returns the problem that tells why a request is refused, nil for nil.
func (s *Server) refusalOf(err error) error {
	var refusal *identity.Refusal
	var over *overQuota
	switch {
	case err == nil:
		return nil
	case errors.As(err, &over):
		s.counters.requestsOver.Add(1)
		return newProblem(http.StatusTooManyRequests, over.code, over.reason)
	case !errors.As(err, &refusal):
		return newProblem(http.StatusUnauthorized, codeUnauthorized, err.Error())
	case refusal == identity.ErrRevoked:
		return newProblem(http.StatusForbidden, refusal.Code, refusal.Reason)
	}
	return newProblem(http.StatusUnauthorized, refusal.Code, refusal.Reason)
}

// know returns who makes a request, unless what proves it is no good or was taken
// back.
func (s *Server) know(r *http.Request) (Identity, error) {
	who, err := s.opt.Identify(r)
	switch {
	case err != nil:
	case strings.ContainsRune(who.User, 0):
		err = errors.New("a user's id may not hold the character NUL: not every database keeps it")
	case s.revoked.cover(who, s.opt.Now()):
		err = identity.ErrRevoked
	}
	return who, err
}

// transactionOf returns which transaction a request is about, and who makes it,
// if that may be.
func (s *Server) transactionOf(r *http.Request) (who Identity, id transaction.ID, err error) {
	if who, err = s.identify(r); err != nil {
		return who, "", err
	}
	if id, err = transaction.ParseID(r.PathValue("id")); err != nil {
		return who, "", newProblem(http.StatusBadRequest, codeBadRequest, err.Error())
	}
	return who, id, who.mayOpen(id)
}

// welcome makes a connection its user's, or returns why it may not stay.
func (s *Server) welcome(c *conn) (refusal error) {
	if s.revoked.cover(c.who, s.opt.Now()) { // closeRevoked may have missed it
		return identity.ErrRevoked
	}
	if c.frames, refusal = s.quotas.enter(c.who.User); refusal != nil {
		return refusal
	}
	s.endOutdated(c)
	return nil
}

// turnAway ends a connection that is not let in.
func (s *Server) turnAway(c *conn, refusal error) {
	code := codeOf(refusal)
	s.log.Debug("refused", "conn", c.id, "why", code)
	switch code {
	case identity.CodeRevoked:
		s.counters.tokensRevoked.Add(1)
	case codeUserConns:
		s.counters.userConnsOver.Add(1)
	case codeAddressConns, codeNewConns:
		s.counters.addressesOver.Add(1)
	default:
		s.counters.tokensRefused.Add(1)
	}
	c.bar(s.farewellOf(refusal))
}

// endOutdated ends the connections of the same user whose tokens are older and
// say something else: their clients come back with fresh ones. A user with another
// role is somebody else to the room of a transaction, and the old one has left: a
// party that is none any more must not be ready for the length of the grace.
func (s *Server) endOutdated(newer *conn) {
	for _, c := range s.peers.all() {
		if !newer.who.outdates(c.who) {
			continue
		}
		s.counters.tokensExpired.Add(1)
		end := c.bar
		if newer.who.Role != c.who.Role {
			end = c.expel
		}
		end(session.Refusal(s.opt.PeerID, session.CloseExpired,
			"token-outdated: a newer token of yours says something else: come back with a fresh one"))
	}
}

// tokenIsOver reports whether the token of a connection that stays has run out by the
// clock: its timer does not hear of a clock that was set, or of a machine that slept.
func (c *conn) tokenIsOver() bool {
	return !c.who.Expires.IsZero() && !c.srv.opt.Now().Before(c.who.Expires) && !c.barred.Load()
}

// expire ends a connection whose token has run out.
func (c *conn) expire() {
	c.srv.counters.tokensExpired.Add(1)
	c.bar(session.Refusal(c.srv.opt.PeerID, session.CloseExpired, "token-expired: come back with a fresh token"))
}

// codeOf is all that a log holds of why somebody was refused.
func codeOf(err error) crdt.Code {
	var refusal *identity.Refusal
	var over *overQuota
	switch {
	case errors.As(err, &refusal):
		return refusal.Code
	case errors.As(err, &over):
		return over.code
	}
	return codeUnauthorized
}

// farewellOf is how a connection ends that is refused: if not for taking too much,
// then as it should not be tried again unchanged.
func (s *Server) farewellOf(err error) session.Close {
	code := session.CloseUnauthorized
	var over *overQuota
	switch {
	case errors.Is(err, identity.ErrRevoked):
		code = session.CloseRevoked
	case errors.As(err, &over):
		code = session.CloseTooMany
	}
	return session.Refusal(s.opt.PeerID, code, err.Error())
}

// mayOpen returns the problem of a request about a transaction that is not for
// who makes it.
func (i Identity) mayOpen(id transaction.ID) error {
	if i.Scope.Covers(id.Document()) {
		return nil
	}
	return newProblem(http.StatusForbidden, session.CodeNotAllowed, session.NotAllowedSentence)
}

// outdates reports whether i, of a token issued later, says something else of
// what the same user may do than old. Tokens for different transactions have
// nothing to do with each other.
func (i Identity) outdates(old Identity) bool {
	return i.User == old.User && old.Issued.Before(i.Issued) && i.Scope.Overlaps(old.Scope) &&
		(i.Role != old.Role || !i.Scope.Equal(old.Scope))
}

// TokenIdentity knows who makes a request by its token: a bearer in the header
// Authorization, or ?token= for those who cannot set one.
func TokenIdentity(v *identity.Verifier) func(*http.Request) (Identity, error) {
	return func(r *http.Request) (Identity, error) {
		c, err := v.Verify(r.Context(), tokenOf(r), time.Now())
		if err != nil {
			return Identity{}, err
		}
		return Identity{
			User: c.User, Name: c.Name, Role: c.Role, Scope: c.Scope,
			Token: c.ID, Issued: c.Issued, Expires: c.Expires,
		}, nil
	}
}

func tokenOf(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	return r.URL.Query().Get("token")
}

// maxUser is how long a user id or name may be, in bytes.
const maxUser = 256

// DevIdentity believes what a request says of itself, in ?user=, ?name= and
// ?role= (party, if there is a user and nothing is said). It proves nothing and
// is for development.
func DevIdentity(r *http.Request) (Identity, error) {
	q := r.URL.Query()
	id := Identity{User: q.Get("user"), Name: q.Get("name"), Role: transaction.Role(q.Get("role")), Scope: identity.All()}
	if len(id.User) > maxUser || len(id.Name) > maxUser {
		return Identity{}, fmt.Errorf("user and name may have at most %d bytes", maxUser)
	}
	if !utf8.ValidString(id.User) || !utf8.ValidString(id.Name) {
		return Identity{}, errors.New("user and name must be UTF-8")
	}
	switch id.Role {
	case "":
		if id.User != "" {
			id.Role = transaction.Party
		}
	case transaction.Host, transaction.Party, transaction.Viewer, transaction.Auditor:
		if id.User == "" {
			return Identity{}, fmt.Errorf("role %q needs a user: add ?user=NAME", id.Role)
		}
	default:
		return Identity{}, fmt.Errorf("there is no role %q: use host, party, viewer or auditor", id.Role)
	}
	return id, nil
}
