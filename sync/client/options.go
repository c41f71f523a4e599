package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"

	"parley/crdt/transaction"
)

// Options say what a client opens, and as whom. Transaction is required, and
// one of User and Token.
type Options struct {
	// Transaction is the transaction to open.
	Transaction transaction.ID
	// Server is the server's ws:// or wss:// URL (http:// and https:// are taken
	// for these). Empty: the client stays offline.
	Server string
	// User is the user's id, as picks bear it. Empty: the subject of Token.
	User string
	// Name and Role are what a server in development is told; a server that
	// wants tokens reads both from the token. With a role, changes that it may
	// not make are refused here already; empty: the server's default.
	Name string
	Role transaction.Role
	// Token is a JWT that proves who the user is.
	Token string
	// Replica is a folder for replicas, made if it is not there; each
	// transaction and user has a folder in it. Empty: the replica is in memory
	// only, and gone with the process.
	Replica string
	// Dial opens connections (default: WebSockets through net/http).
	Dial Dialer
	// Logger takes what operators should know (default: discarded).
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if _, err := transaction.ParseID(string(o.Transaction)); err != nil {
		return o, err
	}
	if o.User == "" && o.Token != "" {
		o.User = subject(o.Token)
	}
	if o.User == "" {
		return o, errors.New("option User: picks need a user id, and no token says it")
	}
	if o.Dial == nil {
		o.Dial = dialWebSocket
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// subject reads whom a JWT (RFC 7519) is about. Whether that is true is for the
// server to check; we only must not sign picks with another name.
func subject(token string) string {
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
	if o.Token != "" {
		return ""
	}
	return o.Role
}
