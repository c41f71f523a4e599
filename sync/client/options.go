package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"parley/crdt/transaction"
)

// Options say what a client opens, and as whom. Transaction is required, and
// one of User, Token and TokenSource.
type Options struct {
	// Transaction is the transaction to open.
	Transaction transaction.ID
	// Server is the server's ws:// or wss:// URL (http:// and https:// are taken
	// for these). Empty: the client stays offline.
	Server string
	// User is the user's id, as picks bear it. Empty: the subject of the token.
	User string
	// Name and Role are what a server in development is told; a server that
	// wants tokens reads both from the token. With a role, changes that it may
	// not make are refused here already; empty: the server's default.
	Name string
	Role transaction.Role
	// Token is a JWT that proves who the user is. With TokenSource, it is asked for
	// one at each connect instead, and while a token is refused, until it has
	// another: a token that expires is followed by a fresh one, and nothing is lost.
	Token       string
	TokenSource func(ctx context.Context) (string, error)
	// Replica is a folder for replicas, made if it is not there; each
	// transaction and user has a folder in it. Empty: the replica is in memory
	// only, and gone with the process.
	Replica string
	// Dial opens connections (default: WebSockets through net/http).
	Dial Dialer
	// Logger takes what operators should know (default: discarded).
	Logger *slog.Logger
}

func (o Options) withDefaults(ctx context.Context) (Options, error) {
	if _, err := transaction.ParseID(string(o.Transaction)); err != nil {
		return o, err
	}
	if err := o.takeUser(ctx); err != nil {
		return o, err
	}
	if o.Dial == nil {
		o.Dial = dialWebSocket
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// takeUser makes User the subject of the token, if there is one. A source that has
// none just now is asked again at each connect.
func (o *Options) takeUser(ctx context.Context) error {
	token, err := o.token(ctx)
	if err != nil && o.User == "" {
		return fmt.Errorf("get a token, which says who you are: %w", err)
	}
	if o.User == "" {
		o.User = TokenSubject(token)
	}
	if o.User == "" {
		return errors.New("option User: picks need a user id, and no token says it")
	}
	return o.checkSubject(token)
}

// checkSubject fails for a token of somebody else: picks would bear the wrong
// name. One that cannot be read is for the server to refuse.
func (o *Options) checkSubject(token string) error {
	if s := TokenSubject(token); s != "" && s != o.User {
		return fmt.Errorf("the token is of %q, and not of %q, who works here", s, o.User)
	}
	return nil
}

// hasToken says whether a token tells the server who we are.
func (o *Options) hasToken() bool { return o.Token != "" || o.TokenSource != nil }

// token returns the token to connect with, "" if there is none.
func (o *Options) token(ctx context.Context) (string, error) {
	if o.TokenSource == nil {
		return o.Token, nil
	}
	return o.TokenSource(ctx)
}

// TokenSubject reads whom a JWT (RFC 7519) is about, "" if it does not say. Whether
// that is true is for the server to check; picks must bear that name.
func TokenSubject(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Subject
}

// localRole is the role by which changes are checked before they are made; a
// token's is the server's business.
func (o *Options) localRole() transaction.Role {
	if o.hasToken() {
		return ""
	}
	return o.Role
}
