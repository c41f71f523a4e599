package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	minSecret  = 32   // bytes: less than the hash of HS256 can be guessed
	minRSA     = 2048 // bits
	maxKeyFile = 1 << 20

	// recheckFile is how often a file of keys is looked at, at most: what was
	// taken out of it is void within that time.
	recheckFile = time.Second
	// refreshURL is how often keys at an address are read; a kid that is not
	// known makes them be read at once, but not more often than refreshUnknown.
	refreshURL     = 5 * time.Minute
	refreshUnknown = 10 * time.Second
	fetchWithin    = 5 * time.Second
)

// asymmetric are the algorithms whose keys the server need not keep secret.
var asymmetric = []string{"EdDSA", "ES256", "RS256"}

var symmetric = []string{"HS256"}

var (
	errUnknownKey = errors.New("no key of this kid")
	errKeyType    = errors.New("the key is not of the algorithm")
)

// Keys are what tokens are checked with. They are read again when they change.
type Keys struct {
	log  *slog.Logger
	path string // "" for keys at an address

	mu      sync.Mutex // guards what follows
	set     *keySet
	version fileVersion
	checked time.Time
}

// fileVersion tells a file from what it was.
type fileVersion struct {
	modified time.Time
	size     int64
}

// keySet is the keys at one time.
type keySet struct {
	methods []string
	// key returns the key for a token, or a jwt.VerificationKeySet for one that
	// names none.
	key func(context.Context, *jwt.Token) (any, error)
}

// OpenKeys reads keys from an http:// or https:// address of a JWKS (RFC 7517),
// or from a file, whose content says what it is: a JWKS if it begins with "{",
// public keys if it has PEM blocks, and else a secret for HS256, of which spaces
// at both ends are no part. Keys at an address are refreshed until ctx ends.
func OpenKeys(ctx context.Context, source string, now time.Time, log *slog.Logger) (*Keys, error) {
	if strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://") {
		return fetchKeys(ctx, source, log)
	}
	k := &Keys{log: log, path: source, checked: now}
	var err error
	if k.set, k.version, err = readKeys(source, fileVersion{}); err != nil {
		return nil, err
	}
	return k, nil
}

// current returns the keys as of now.
func (k *Keys) current(now time.Time) *keySet {
	k.mu.Lock()
	set, version := k.set, k.version
	due := k.path != "" && now.Sub(k.checked) >= recheckFile
	if due {
		k.checked = now // nobody else looks meanwhile
	}
	k.mu.Unlock()
	if !due {
		return set
	}
	fresh, version, err := readKeys(k.path, version)
	switch {
	case err != nil:
		k.log.Error("the keys could not be read again: those from before stay", "err", err)
		return set
	case fresh == nil:
		return set
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set, k.version = fresh, version
	return fresh
}

// readKeys reads a file of keys, nil if it is as it was.
func readKeys(path string, was fileVersion) (*keySet, fileVersion, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, was, err
	}
	is := fileVersion{info.ModTime(), info.Size()}
	switch {
	case is == was:
		return nil, was, nil
	case is.size > maxKeyFile:
		return nil, was, fmt.Errorf("%s: too long for a file of keys", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, was, err
	}
	set, err := parseKeys(content)
	if err != nil {
		return nil, was, fmt.Errorf("%s: %w", path, err)
	}
	return set, is, nil
}

// parseKeys tells by its content what a file of keys holds.
func parseKeys(content []byte) (*keySet, error) {
	content = bytes.TrimSpace(content)
	switch {
	case bytes.HasPrefix(content, []byte("{")):
		return parseJWKS(content)
	case bytes.Contains(content, []byte("-----BEGIN ")):
		return parsePEM(content)
	case len(content) < minSecret:
		return nil, fmt.Errorf("the secret has %d bytes, want at least %d random ones", len(content), minSecret)
	}
	secret := bytes.Clone(content)
	return &keySet{methods: symmetric, key: func(context.Context, *jwt.Token) (any, error) { return secret, nil }}, nil
}

func parseJWKS(content []byte) (*keySet, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, errors.New("it begins as JSON and is no JWKS that can be read")
	}
	if len(set.Keys) == 0 {
		return nil, errors.New(`the JWKS has no keys: want {"keys": [...]}`)
	}
	for _, key := range set.Keys {
		if key.KTY == jwkset.KtyOct {
			return nil, errors.New("the JWKS holds a secret (kty oct): put a secret into a file of its own")
		}
	}
	find, err := keyfunc.NewJWKSetJSON(content)
	if err != nil {
		return nil, errors.New("the JWKS has a key that cannot be read")
	}
	return findIn(find), nil
}

func parsePEM(content []byte) (*keySet, error) {
	var keys jwt.VerificationKeySet
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if strings.Contains(block.Type, "PRIVATE") {
			return nil, errors.New("this is a private key: the server needs the public one only")
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil || !usable(key) {
			return nil, errors.New("want PEM blocks of PUBLIC KEY: Ed25519, ECDSA on P-256, or RSA of 2048 bits and more")
		}
		keys.Keys = append(keys.Keys, key)
	}
	if len(keys.Keys) == 0 {
		return nil, errors.New("no PEM block that can be read")
	}
	return &keySet{methods: asymmetric, key: func(_ context.Context, t *jwt.Token) (any, error) { return suitable(t, keys) }}, nil
}

// usable reports whether a key is of one of our algorithms.
func usable(key any) bool {
	for _, alg := range asymmetric {
		if suits(key, alg) {
			return true
		}
	}
	return false
}

// fetchKeys reads keys from an address, now and until ctx ends.
func fetchKeys(ctx context.Context, address string, log *slog.Logger) (*Keys, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the address of the keys cannot be read")
	}
	if u.Scheme == "http" && !onThisMachine(u.Hostname()) {
		log.Warn("the keys come over http, on which others can put theirs in their place: use https", "from", u.Redacted())
	}
	mustBeThere := false
	find, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{address}, keyfunc.Override{
		Client:                    &http.Client{Timeout: fetchWithin},
		HTTPTimeout:               fetchWithin,
		NoErrorReturnFirstHTTPReq: &mustBeThere,
		RateLimitWaitMax:          fetchWithin,
		RefreshInterval:           refreshURL,
		RefreshUnknownKID:         rate.NewLimiter(rate.Every(refreshUnknown), 1),
		RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
			return func(_ context.Context, err error) {
				log.Error("the keys could not be fetched again: those from before stay", "from", u.Redacted(), "err", err)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("fetch the keys from %s: %w", u.Redacted(), err)
	}
	return &Keys{log: log, set: findIn(find)}, nil
}

func onThisMachine(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func findIn(find keyfunc.Keyfunc) *keySet {
	return &keySet{methods: asymmetric, key: func(ctx context.Context, t *jwt.Token) (any, error) {
		key, err := find.KeyfuncCtx(ctx)(t)
		if err != nil {
			return nil, errUnknownKey
		}
		return suitable(t, key)
	}}
}

// suitable returns key, or those of a set, that the token's algorithm is for.
func suitable(t *jwt.Token, key any) (any, error) {
	set, isSet := key.(jwt.VerificationKeySet)
	if !isSet {
		set.Keys = []jwt.VerificationKey{key}
	}
	var of jwt.VerificationKeySet
	for _, k := range set.Keys {
		if suits(k, t.Method.Alg()) {
			of.Keys = append(of.Keys, k)
		}
	}
	if len(of.Keys) == 0 {
		return nil, errKeyType
	}
	return of, nil
}

// suits reports whether a key is of an algorithm, and no weaker than it should.
func suits(key any, alg string) bool {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case *ecdsa.PublicKey:
		return alg == "ES256" && key.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return alg == "RS256" && key.N.BitLen() >= minRSA
	}
	return false
}
