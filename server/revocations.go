package server

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/crdt/transaction"
	"parley/server/identity"
	"parley/server/store"
	"parley/sync/session"
)

// revocations are what was taken back, as it is on disk.
type revocations struct {
	mu     sync.RWMutex
	all    []store.Revocation // in their order
	users  map[string][]store.Revocation
	tokens map[string][]store.Revocation

	heard int // how many of them the store has told; owned by hearRevocations
}

// add reports whether it is new.
func (rs *revocations) add(r store.Revocation) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	alike := rs.users[r.User]
	if r.Token != "" {
		alike = rs.tokens[r.Token]
	}
	if slices.Contains(alike, r) {
		return false
	}
	rs.all = append(rs.all, r)
	if rs.users == nil {
		rs.users, rs.tokens = make(map[string][]store.Revocation), make(map[string][]store.Revocation)
	}
	if r.User != "" {
		rs.users[r.User] = append(rs.users[r.User], r)
	}
	if r.Token != "" {
		rs.tokens[r.Token] = append(rs.tokens[r.Token], r)
	}
	return true
}

// cover reports whether what somebody may do was taken back. A token that does
// not say when it was issued is older than any revocation, as is one of the same
// second: most issuers know of no less.
func (rs *revocations) cover(who Identity, now time.Time) bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	for _, r := range rs.users[who.User] {
		if inForce(r, now) && !who.Issued.Truncate(time.Second).After(time.UnixMilli(r.At)) {
			return true
		}
	}
	for _, r := range rs.tokens[who.Token] {
		if inForce(r, now) {
			return true
		}
	}
	return false
}

func inForce(r store.Revocation, now time.Time) bool {
	return r.Until == 0 || now.Before(time.UnixMilli(r.Until))
}

func (rs *revocations) list() []revocationView {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	views := make([]revocationView, 0, len(rs.all))
	for _, r := range rs.all {
		views = append(views, viewRevocation(r))
	}
	return views
}

// revocationView is a revocation as JSON has it; the body of POST
// /v1/revocations has no By and no At.
type revocationView struct {
	User  string  `json:"user,omitempty"`
	Token string  `json:"token,omitempty"` // its id, jti
	At    int64   `json:"at,omitempty"`    // milliseconds since 1970
	Until *moment `json:"until,omitempty"`
	By    string  `json:"by,omitempty"`
}

// moment is written in milliseconds since 1970, and read so or as RFC 3339 has
// it.
type moment int64

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		return json.Unmarshal(b, (*int64)(m))
	}
	var t time.Time
	err := json.Unmarshal(b, &t)
	*m = moment(t.UnixMilli())
	return err
}

func viewRevocation(r store.Revocation) revocationView {
	v := revocationView{User: r.User, Token: r.Token, At: r.At, By: r.By}
	if r.Until != 0 {
		until := moment(r.Until)
		v.Until = &until
	}
	return v
}

func (s *Server) showRevocations(w http.ResponseWriter, r *http.Request) {
	_, err := s.operator(r)
	s.answer(w, http.StatusOK, s.revoked.list(), err)
}

// revoke takes back what a user, or whoever has a token, may do.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	revocation, err := s.takeBack(r)
	s.answer(w, http.StatusCreated, viewRevocation(revocation), err)
}

func (s *Server) takeBack(r *http.Request) (store.Revocation, error) {
	if _, err := s.operator(r); err != nil {
		return store.Revocation{}, err
	}
	revocation, err := readRevocation(r, s.opt.Now())
	if err != nil {
		return revocation, err
	}
	who, err := s.operator(r) // reading took as long as the client liked
	if err != nil {
		return revocation, err
	}
	revocation.By = who.User
	stored := make(chan error, 1)
	s.store.Append(store.Batch{Revocation: &revocation, Done: func(err error) {
		if err == nil { // the commit point: from here on it is in force
			s.revoked.add(revocation)
		}
		stored <- err
	}})
	ctx, cancel := context.WithTimeout(r.Context(), storeWithin)
	defer cancel()
	switch err := waitStored(ctx, stored); {
	case err != nil && ctx.Err() != nil:
		go func() { // ends with the store at the latest
			if <-stored == nil {
				s.closeRevoked(revocation)
			}
		}()
		return revocation, newProblem(http.StatusServiceUnavailable, codeNotStored, "the revocation cannot be stored now, and is in force as soon as it can be: look at /v1/revocations before you try again")
	case err != nil:
		return revocation, newProblem(http.StatusServiceUnavailable, codeNotStored, "the revocation could not be stored: try again")
	}
	s.log.Info("revoked", "users", revocation.User != "", "token", revocation.Token != "")
	s.closeRevoked(revocation)
	return revocation, nil
}

// operator returns who makes a request, if that is a host of everything.
func (s *Server) operator(r *http.Request) (Identity, error) {
	who, err := s.identify(r)
	switch {
	case err != nil:
		return who, err
	case who.Role != transaction.Host:
		return who, newProblem(http.StatusForbidden, transaction.CodeNotHost, "only a host may do this")
	case !who.Scope.All():
		return who, newProblem(http.StatusForbidden, session.CodeNotAllowed, `this takes a token for all transactions ("*")`)
	}
	return who, nil
}

func readRevocation(r *http.Request, now time.Time) (store.Revocation, error) {
	var body revocationView
	if err := readBody(r, &body); err != nil {
		return store.Revocation{}, err
	}
	revocation := store.Revocation{User: body.User, Token: body.Token, At: now.UnixMilli()}
	if body.Until != nil {
		revocation.Until = int64(*body.Until)
	}
	switch {
	case body.User == "" && body.Token == "":
		return revocation, badRequest(`say whom or what to revoke: "user", "token" (its jti), or both`)
	case max(len(body.User), len(body.Token)) > maxUser:
		return revocation, badRequest("user and token may have at most %d bytes; token is its id (jti)", maxUser)
	case strings.ContainsRune(body.User+body.Token, 0):
		return revocation, badRequest("user and token may not hold the character NUL: nobody is called so")
	case body.At != 0 || body.By != "":
		return revocation, badRequest(`"at" and "by" are the server's to say`)
	case body.Until != nil && revocation.Until <= revocation.At:
		return revocation, badRequest(`"until" is past: milliseconds since 1970, or a text such as 2027-01-31T12:00:00Z`)
	}
	return revocation, nil
}

// closeRevoked ends the connections of those that were revoked. A connection that
// is open has a token from before, whatever the clock of its issuer said.
func (s *Server) closeRevoked(r store.Revocation) {
	for _, c := range s.peers.all() {
		if r.User != "" && c.who.User == r.User || r.Token != "" && c.who.Token == r.Token {
			s.counters.tokensRevoked.Add(1)
			c.expel(s.farewellOf(identity.ErrRevoked))
		}
	}
}
