package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/crdt/transaction"
	"parley/server/identity"
	"parley/sync/client"
)

// issuer signs tokens with a key of its own.
type issuer struct {
	key  *identity.SigningKey
	jwks string // the file of its public key
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	_, jwks, err := identity.NewKeyPair(file)
	check(t, err)
	key, err := identity.ReadSigningKey(file)
	check(t, err)
	return &issuer{key: key, jwks: jwks}
}

func (i *issuer) token(user string, role transaction.Role, ttl time.Duration) string {
	token, err := i.key.Sign(identity.Grant{User: user, Role: role, Transactions: []string{"*"}, Issued: time.Now(), TTL: ttl})
	if err != nil {
		panic(err)
	}
	return token
}

// openSample makes the sample transaction, under the name deal.
func openSample(t *testing.T, url, token string) {
	t.Helper()
	var out, errs strings.Builder
	code := run([]string{"open", "deal", "--fields", "../../testdata/sample.json", "--server", url, "--token", token},
		streams{strings.NewReader(""), &out, &errs})
	if code != exitOK {
		t.Fatalf("parley open: %s", errs.String())
	}
}

// Every token lasts a second. The client picks all the time, is closed at the end of
// each token, comes back with a fresh one, and loses nothing.
func TestAClientOutlivesItsTokens(t *testing.T) {
	ctx := within(t, 30*time.Second)
	by := newIssuer(t)
	p := serve(t, t.TempDir(), "--keys", by.jwks)
	openSample(t, p.url, by.token("holly", transaction.Host, time.Minute))
	var asked atomic.Int32
	c, err := client.Open(ctx, client.Options{
		Transaction: "deal", Server: p.url,
		TokenSource: func(context.Context) (string, error) {
			asked.Add(1)
			return by.token("alice", transaction.Party, time.Second), nil
		},
	})
	check(t, err)
	const picks = 35
	for i := range picks {
		_, err := c.Pick(ctx, "price", []byte(fmt.Sprint(i)), "")
		check(t, err)
		time.Sleep(100 * time.Millisecond)
	}
	for c.Flush(ctx) != nil {
		check(t, ctx.Err())
		time.Sleep(50 * time.Millisecond)
	}
	check(t, c.Close(ctx))
	if n := asked.Load(); n < 4 {
		t.Errorf("%d tokens for %d seconds", n, picks/10)
	}
	var out, errs strings.Builder
	if code := run([]string{"history", "deal", "--server", p.url, "--token", by.token("holly", transaction.Host, time.Minute)},
		streams{strings.NewReader(""), &out, &errs}); code != exitOK {
		t.Fatal(errs.String())
	}
	if n := strings.Count(out.String(), "alice  price = "); n != picks {
		t.Errorf("%d picks of %d are on the server:\n%s", n, picks, out.String())
	}
}

// The issuer goes over to another key while the server runs.
func TestTheIssuersKeyChanges(t *testing.T) {
	older, newer := newIssuer(t), newIssuer(t)
	var file atomic.Value
	file.Store(older.jwks)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, file.Load().(string))
	}))
	defer keys.Close()
	p := serve(t, t.TempDir(), "--keys", keys.URL)
	openSample(t, p.url, older.token("holly", transaction.Host, time.Minute))
	file.Store(newer.jwks)
	show := func(by *issuer) (code int, said string) {
		var out, errs strings.Builder
		code = run([]string{"show", "deal", "--server", p.url, "--token", by.token("alice", transaction.Party, time.Minute)},
			streams{strings.NewReader(""), &out, &errs})
		return code, errs.String()
	}
	if code, said := show(newer); code != exitOK {
		t.Errorf("a token of the new key: %s", said)
	}
	if code, said := show(older); code != exitRefused || !strings.Contains(said, "no key of the token's kid") {
		t.Errorf("a token of the old key: exit %d %s", code, said)
	}
	if log := p.output(); strings.Contains(log, older.token("alice", transaction.Party, time.Minute)[:20]) {
		t.Errorf("a part of a token is in the log: %s", log)
	}
	if err := p.end(os.Interrupt); err != nil {
		t.Error(err)
	}
}
