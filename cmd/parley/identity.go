package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"parley/server"
	"parley/server/identity"
)

// identityFlags say how a server knows who its clients are.
type identityFlags struct {
	Keys string `help:"What tokens are signed with: a file with a secret (HS256), public keys (PEM) or a JWKS, or the URL of a JWKS. Read again when it changes." env:"PARLEY_KEYS" placeholder:"FILE|URL"`
	issuerFlags
	Leeway time.Duration `help:"How far the clock of who issues tokens may be ahead." default:"30s" env:"PARLEY_LEEWAY"`
	Origin []string      `help:"Browser origins whose pages may connect, such as https://app.example.com; * stands for any part. Default: the server's own host; with --dev this machine's." env:"PARLEY_ORIGIN" placeholder:"ORIGIN"`
}

// issuerFlags are by whom and for whom tokens are.
type issuerFlags struct {
	Issuer   string `help:"By whom tokens must be issued (iss). Default: anybody with the key." env:"PARLEY_ISSUER" placeholder:"ISS"`
	Audience string `help:"For whom tokens must be (aud)." default:"parley" env:"PARLEY_AUDIENCE" placeholder:"AUD"`
}

// verifier opens the keys. Those at a URL are refreshed until ctx ends.
func (f issuerFlags) verifier(ctx context.Context, keys string, leeway time.Duration, log *slog.Logger) (*identity.Verifier, error) {
	k, err := identity.OpenKeys(ctx, keys, time.Now(), log)
	if err != nil {
		return nil, usagef("--keys: %v", err)
	}
	return &identity.Verifier{Keys: k, Issuer: f.Issuer, Audience: f.Audience, Leeway: leeway}, nil
}

// identify returns how the server knows who makes a request.
func (c *serveCmd) identify(ctx context.Context, log *slog.Logger) (func(*http.Request) (server.Identity, error), error) {
	if c.Dev {
		return server.DevIdentity, nil
	}
	v, err := c.Identity.verifier(ctx, c.Identity.Keys, c.Identity.Leeway, log)
	if err != nil {
		return nil, err
	}
	return server.TokenIdentity(v), nil
}
