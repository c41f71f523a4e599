package identity_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/identity"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, source string) *identity.Keys {
	t.Helper()
	keys, err := identity.OpenKeys(t.Context(), source, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// pair makes a key pair; it returns the paths of the private key, and of the
// public one as PEM and as JWKS.
func pair(t *testing.T) (private, public, jwks string) {
	t.Helper()
	private = filepath.Join(t.TempDir(), "key.pem")
	public, jwks, err := identity.NewKeyPair(private)
	if err != nil {
		t.Fatal(err)
	}
	return private, public, jwks
}

func grant() identity.Grant {
	return identity.Grant{
		User: "alice", Name: "Alice", Role: transaction.Party, Transactions: []string{"sale-1", "sale-2"},
		Issuer: "https://issuer", Issued: now, TTL: time.Hour,
	}
}

func code(err error) crdt.Code {
	var r *identity.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return r.Code
}

func TestWhatATokenSays(t *testing.T) {
	private, public, jwks := pair(t)
	secret := write(t, []byte(strings.Repeat("secret", 8)+"\n"))
	for _, tt := range []struct{ sign, check string }{{private, public}, {private, jwks}, {secret, secret}} {
		token := must(must(identity.ReadSigningKey(tt.sign)).Sign(grant()))
		v := identity.Verifier{Keys: open(t, tt.check), Issuer: "https://issuer"}
		c, err := v.Verify(t.Context(), token, now)
		if err != nil {
			t.Fatal(err)
		}
		if c.User != "alice" || c.Name != "Alice" || c.Role != transaction.Party || c.ID == "" ||
			!c.Issued.Equal(now) || !c.Expires.Equal(now.Add(time.Hour)) {
			t.Errorf("claims %+v", c)
		}
		for id, want := range map[transaction.ID]bool{"sale-1": true, "sale-2": true, "sale-3": false} {
			if c.Scope.Covers(id.Document()) != want {
				t.Errorf("%s: covered %v", id, !want)
			}
		}
		if c.Scope.All() || c.Scope.Covers(crdt.DocumentID{1}) {
			t.Error("the token opens documents that it does not name")
		}
	}
	if info := must(os.Stat(private)); info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has mode %v", info.Mode())
	}
	if _, _, err := identity.NewKeyPair(private); !errors.Is(err, os.ErrExist) {
		t.Errorf("a key was overwritten: %v", err)
	}
}

// forger signs claims that no issuer would.
type forger struct {
	method jwt.SigningMethod
	key    any
	kid    string
}

func (f forger) sign(claims jwt.MapClaims) string {
	token := jwt.NewWithClaims(f.method, claims)
	if f.kid != "" {
		token.Header["kid"] = f.kid
	}
	return must(token.SignedString(f.key))
}

func claims(change func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": "alice", "role": "party", "transactions": "sale-1", "iss": "https://issuer", "aud": "parley",
		"exp": now.Add(time.Hour).Unix(), "iat": now.Unix(),
	}
	if change != nil {
		change(c)
	}
	return c
}

func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) {
		if value == nil {
			delete(c, name)
			return
		}
		c[name] = value
	}
}

func raise(token string) string {
	parts := strings.Split(token, ".")
	payload := string(must(base64.RawURLEncoding.DecodeString(parts[1])))
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(payload, `"party"`, `"host"`, 1)))
	return strings.Join(parts, ".")
}

func TestAttacks(t *testing.T) {
	private, public, jwks := pair(t)
	block, _ := pem.Decode(must(os.ReadFile(private)))
	key := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(ed25519.PrivateKey)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	var published struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(must(os.ReadFile(jwks)), &published); err != nil {
		t.Fatal(err)
	}
	kid := published.Keys[0].Kid
	honest := forger{jwt.SigningMethodEdDSA, key, kid}
	for _, tt := range []struct {
		name  string
		token string
		want  crdt.Code
	}{
		{"no token", "", identity.CodeNoToken},
		{"no JWT", "abc", identity.CodeMalformed},
		{"cut", honest.sign(claims(nil))[:40], identity.CodeMalformed},
		{"long", strings.Repeat("a.", 20_000), identity.CodeMalformed},
		{"alg none", forger{jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid}.sign(claims(nil)), identity.CodeAlgorithm},
		{"the public key as secret", forger{jwt.SigningMethodHS256, must(os.ReadFile(public)), kid}.sign(claims(nil)), identity.CodeAlgorithm},
		{"RS256 with an Ed25519 key's kid", forger{jwt.SigningMethodRS256, must(rsa.GenerateKey(rand.Reader, 2048)), kid}.sign(claims(nil)), identity.CodeUnknownKey},
		{"wrong key", forger{jwt.SigningMethodEdDSA, other, kid}.sign(claims(nil)), identity.CodeSignature},
		{"unknown kid", forger{jwt.SigningMethodEdDSA, key, "another"}.sign(claims(nil)), identity.CodeUnknownKey},
		{"role raised", raise(honest.sign(claims(nil))), identity.CodeSignature},
		{"expired", honest.sign(claims(set("exp", now.Unix()))), identity.CodeExpired},
		{"long expired", honest.sign(claims(set("exp", now.Add(-time.Hour).Unix()))), identity.CodeExpired},
		{"no exp", honest.sign(claims(set("exp", nil))), identity.CodeNoExpiry},
		{"not yet", honest.sign(claims(set("nbf", now.Add(time.Minute).Unix()))), identity.CodeNotYet},
		{"from the future", honest.sign(claims(set("iat", now.Add(time.Minute).Unix()))), identity.CodeNotYet},
		{"audience", honest.sign(claims(set("aud", "another"))), identity.CodeAudience},
		{"no audience", honest.sign(claims(set("aud", nil))), identity.CodeAudience},
		{"issuer", honest.sign(claims(set("iss", "https://mallory"))), identity.CodeIssuer},
		{"no issuer", honest.sign(claims(set("iss", nil))), identity.CodeIssuer},
		{"no user", honest.sign(claims(set("sub", nil))), identity.CodeNoUser},
		{"no role", honest.sign(claims(set("role", nil))), identity.CodeNoRole},
		{"unknown role", honest.sign(claims(set("role", "king"))), identity.CodeUnknownRole},
		{"a role that is no text", honest.sign(claims(set("role", 7))), identity.CodeMalformed},
		{"no transactions", honest.sign(claims(set("transactions", nil))), identity.CodeNoTransactions},
		{"an empty list", honest.sign(claims(set("transactions", []string{}))), identity.CodeNoTransactions},
		{"null", honest.sign(claims(func(c jwt.MapClaims) { c["transactions"] = nil })), identity.CodeNoTransactions},
		{"no id of a transaction", honest.sign(claims(set("transactions", "a b"))), identity.CodeNoTransactions},
		{"a long name", honest.sign(claims(set("name", strings.Repeat("a", 300)))), identity.CodeTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := identity.Verifier{Keys: open(t, jwks), Issuer: "https://issuer"}
			_, err := v.Verify(t.Context(), tt.token, now)
			if code(err) != tt.want {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			if len(err.Error()) > 123 {
				t.Errorf("%q does not fit into a close frame: %d bytes", err, len(err.Error()))
			}
			for part := range strings.SplitSeq(tt.token, ".") {
				if len(part) > 3 && strings.Contains(err.Error(), part) {
					t.Errorf("%q holds a part of the token", err)
				}
			}
		})
	}
}

func TestATokenFromAClockThatIsAhead(t *testing.T) {
	private, public, _ := pair(t)
	g := grant()
	g.Issued = now.Add(20 * time.Second)
	token := must(must(identity.ReadSigningKey(private)).Sign(g))
	v := identity.Verifier{Keys: open(t, public)}
	if _, err := v.Verify(t.Context(), token, now); err != nil {
		t.Error(err)
	}
	v.Leeway = time.Second
	if _, err := v.Verify(t.Context(), token, now); code(err) != identity.CodeNotYet {
		t.Error(err)
	}
}

func TestOtherFormsOfTransactions(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	v := identity.Verifier{Keys: open(t, write(t, secret))}
	f := forger{jwt.SigningMethodHS256, secret, ""}
	all := must(v.Verify(t.Context(), f.sign(claims(set("transactions", "*"))), now))
	if !all.Scope.All() || !all.Scope.Covers(crdt.DocumentID{1}) {
		t.Error("* is not all")
	}
	tx := must(v.Verify(t.Context(), f.sign(claims(func(c jwt.MapClaims) {
		delete(c, "transactions")
		c["tx"] = []string{"b", "a", "b"}
	})), now))
	if !tx.Scope.Equal(identity.Only("a", "b")) || tx.Scope.Equal(identity.Only("a")) || tx.Scope.Equal(identity.All()) {
		t.Errorf("scope %+v", tx.Scope)
	}
	if _, err := v.Verify(t.Context(), forger{jwt.SigningMethodEdDSA, ed25519.NewKeyFromSeed(secret), ""}.sign(claims(nil)), now); code(err) != identity.CodeAlgorithm {
		t.Errorf("EdDSA where a secret is expected: %v", err)
	}
}

func TestFilesThatAreNoKeys(t *testing.T) {
	private, _, _ := pair(t)
	weak := must(x509.MarshalPKIXPublicKey(must(rsa.GenerateKey(rand.Reader, 1024)).Public()))
	curve := must(x509.MarshalPKIXPublicKey(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).Public()))
	public := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}) }
	for name, content := range map[string][]byte{
		"less than 32 bytes":            []byte("short"),
		"public one only":               must(os.ReadFile(private)),
		"2048 bits":                     public(weak),
		"P-256":                         public(curve),
		"no keys":                       []byte(`{"keys": []}`),
		"no JWKS":                       []byte(`{"keys"`),
		"a secret (kty oct)":            []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a"}]}`),
		"no PEM block that can be read": []byte("-----BEGIN PUBLIC KEY-----\nnothing"),
	} {
		_, err := identity.OpenKeys(t.Context(), write(t, content), now, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: taken for keys", name)
		}
	}
	if _, err := identity.OpenKeys(t.Context(), filepath.Join(t.TempDir(), "none"), now, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if _, err := identity.OpenKeys(t.Context(), server.URL, now, nil); err == nil {
		t.Error("a server without keys was taken for one")
	}
}

// The issuer goes over to another key: tokens of it are taken at once, those of
// the old one until it is gone.
func TestKeyRotation(t *testing.T) {
	oldPrivate, _, oldJWKS := pair(t)
	newPrivate, _, newJWKS := pair(t)
	oldToken := must(must(identity.ReadSigningKey(oldPrivate)).Sign(grant()))
	newToken := must(must(identity.ReadSigningKey(newPrivate)).Sign(grant()))
	var content atomic.Value
	content.Store(must(os.ReadFile(oldJWKS)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(content.Load().([]byte))
	}))
	defer server.Close()
	file := write(t, content.Load().([]byte))
	at := now
	for source, rotate := range map[string]func(){
		server.URL: func() { content.Store(must(os.ReadFile(newJWKS))) },
		file: func() {
			if err := os.WriteFile(file, append(must(os.ReadFile(newJWKS)), '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		v := identity.Verifier{Keys: open(t, source)}
		if _, err := v.Verify(t.Context(), oldToken, at); err != nil {
			t.Errorf("%s, before: %v", source, err)
		}
		rotate()
		at = at.Add(2 * time.Second)
		if _, err := v.Verify(t.Context(), newToken, at); err != nil {
			t.Errorf("%s: the new key's token: %v", source, err)
		}
		if _, err := v.Verify(t.Context(), oldToken, at); code(err) != identity.CodeUnknownKey {
			t.Errorf("%s: the old key's token: %v", source, err)
		}
	}
	// A file that cannot be read changes nothing.
	v := identity.Verifier{Keys: open(t, file)}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), newToken, at.Add(time.Minute)); err != nil {
		t.Errorf("without the file: %v", err)
	}
}

func TestES256AndRS256(t *testing.T) {
	for _, private := range []any{
		must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), must(rsa.GenerateKey(rand.Reader, 2048)),
	} {
		file := write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(private))}))
		var public any
		switch k := private.(type) {
		case *ecdsa.PrivateKey:
			public = k.Public()
		case *rsa.PrivateKey:
			public = k.Public()
		}
		keys := write(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))}))
		v := identity.Verifier{Keys: open(t, keys)}
		if _, err := v.Verify(t.Context(), must(must(identity.ReadSigningKey(file)).Sign(grant())), now); err != nil {
			t.Errorf("%T: %v", private, err)
		}
	}
}
