package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"parley/crdt/transaction"
	"parley/server/identity"
)

// tokenCmd makes tokens and the keys for them, and checks tokens.
type tokenCmd struct {
	NewKey string `help:"Make a key pair: FILE is for signing, FILE.pub.pem and FILE.jwks.json are for servers." placeholder:"FILE" xor:"do"`
	Key    string `help:"Sign a token with this private key (PEM) or secret." placeholder:"FILE" type:"path" xor:"do"`
	Check  string `help:"Check a token, - for one on standard input, as a server with these --keys would." placeholder:"T" xor:"do"`

	User         string           `help:"Who the token is for." placeholder:"NAME"`
	Name         string           `help:"The user's name, for people to read." placeholder:"NAME"`
	Role         transaction.Role `help:"What the user is: host, party, viewer or auditor." enum:",host,party,viewer,auditor" default:"" placeholder:"ROLE"`
	Transactions []string         `help:"Which transactions the token opens, joined by commas; * is all." placeholder:"TX"`
	TTL          time.Duration    `help:"How long it is good for." default:"8h"`

	Keys string `help:"What to check it with, as for parley serve." env:"PARLEY_KEYS" placeholder:"FILE|URL"`
	issuerFlags
	JSON bool `help:"Print JSON."`
}

// Help is shown by kong under the command's one line.
func (*tokenCmd) Help() string {
	return `  parley token --new-key parley.pem
  parley serve --keys parley.pem.jwks.json
  PARLEY_TOKEN=$(parley token --key parley.pem --user alice --role party --transactions deal)

A token is printed and kept nowhere. Who has it is that user until it expires; its
id (jti), which --check shows, is what POST /v1/revocations takes to revoke it.`
}

func (c *tokenCmd) Run(io streams) error {
	switch {
	case c.NewKey != "":
		return c.newKey(io)
	case c.Key != "":
		return c.sign(io)
	case c.Check != "":
		return c.check(io)
	}
	return usagef("say what to do: --new-key FILE, --key FILE to sign a token, or --check T")
}

func (c *tokenCmd) newKey(io streams) error {
	public, jwks, err := identity.NewKeyPair(c.NewKey)
	if err != nil {
		return fmt.Errorf("--new-key: %w", err)
	}
	_, err = fmt.Fprintf(io.out, "%s signs tokens: keep it secret\n%s and %s are for parley serve --keys, either will do\n", c.NewKey, public, jwks)
	return err
}

func (c *tokenCmd) sign(io streams) error {
	switch {
	case c.User == "":
		return usagef("say who the token is for with --user NAME")
	case c.Role == "":
		return usagef("say what the user is with --role: host, party, viewer or auditor")
	case len(c.Transactions) == 0:
		return usagef("say which transactions the token opens with --transactions a,b or --transactions '*'")
	case c.TTL < time.Second:
		return usagef("--ttl must be a second at least")
	}
	key, err := identity.ReadSigningKey(c.Key)
	if err != nil {
		return usagef("--key: %v", err)
	}
	token, err := key.Sign(identity.Grant{
		User: c.User, Name: c.Name, Role: c.Role, Transactions: c.Transactions,
		Issuer: c.Issuer, Audience: c.Audience, Issued: time.Now(), TTL: c.TTL,
	})
	if err != nil {
		return usagef("%v", err)
	}
	_, err = fmt.Fprintln(io.out, token)
	return err
}

// jsonClaims are what an accepted token says.
type jsonClaims struct {
	User         string           `json:"user"`
	Name         string           `json:"name,omitempty"`
	Role         transaction.Role `json:"role"`
	Transactions []string         `json:"transactions"`
	ID           string           `json:"jti,omitempty"`
	Issued       *time.Time       `json:"issued,omitempty"`
	Expires      time.Time        `json:"expires"`
}

func (c *tokenCmd) check(io streams) error {
	if c.Keys == "" {
		return usagef("say what to check the token with: --keys FILE or URL")
	}
	token, err := readToken(io.in, c.Check)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	v, err := c.verifier(ctx, c.Keys, identity.DefaultLeeway, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	claims, err := v.Verify(ctx, token, time.Now())
	if err != nil {
		return refused(err.Error())
	}
	if c.JSON {
		all := jsonClaims{
			User: claims.User, Name: claims.Name, Role: claims.Role, Transactions: claims.Scope.Texts(),
			ID: claims.ID, Expires: claims.Expires.UTC(),
		}
		if !claims.Issued.IsZero() {
			issued := claims.Issued.UTC()
			all.Issued = &issued
		}
		return printJSON(io.out, all)
	}
	_, err = fmt.Fprintf(io.out, "good for %s as %s in %s, until %s\nid %s\n", plain(claims.User), claims.Role,
		strings.Join(claims.Scope.Texts(), ", "), claims.Expires.Format(time.RFC3339), plain(claims.ID))
	return err
}

// readToken reads a token from standard input if it is "-": what stands on a
// command line can be read by others.
func readToken(in io.Reader, arg string) (string, error) {
	if arg != "-" {
		return strings.TrimSpace(arg), nil
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(line), nil
}
