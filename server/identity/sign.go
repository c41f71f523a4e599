package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"parley/crdt/transaction"
)

// Grant is what a token is to say.
type Grant struct {
	User, Name       string
	Role             transaction.Role
	Transactions     []string // ids; "*" is all
	Issuer, Audience string   // "": DefaultAudience
	Issued           time.Time
	TTL              time.Duration
}

// SigningKey makes tokens.
type SigningKey struct {
	method jwt.SigningMethod
	key    any
	id     string // kid; "" for a secret
}

// ReadSigningKey reads a file with a secret, or with a private key in PEM
// (PKCS #8): Ed25519, ECDSA on P-256, or RSA.
func ReadSigningKey(path string) (*SigningKey, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := parseSigningKey(bytes.TrimSpace(content))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func parseSigningKey(content []byte) (*SigningKey, error) {
	block, _ := pem.Decode(content)
	switch {
	case block == nil && bytes.HasPrefix(content, []byte("{")):
		return nil, errors.New("this is a JWKS: tokens are made with a secret or a private key in PEM")
	case block == nil && len(content) < minSecret:
		return nil, fmt.Errorf("the secret has %d bytes, want at least %d random ones", len(content), minSecret)
	case block == nil:
		return &SigningKey{method: jwt.SigningMethodHS256, key: content}, nil
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("want a PEM block of PRIVATE KEY (PKCS #8): make one with parley token --new-key FILE")
	}
	return newSigningKey(private)
}

func newSigningKey(private any) (*SigningKey, error) {
	k := &SigningKey{key: private}
	switch private.(type) {
	case ed25519.PrivateKey:
		k.method = jwt.SigningMethodEdDSA
	case *ecdsa.PrivateKey:
		k.method = jwt.SigningMethodES256
	case *rsa.PrivateKey:
		k.method = jwt.SigningMethodRS256
	}
	public, ok := private.(interface{ Public() crypto.PublicKey })
	if k.method == nil || !ok || !suits(public.Public(), k.method.Alg()) {
		return nil, errors.New("the key must be Ed25519, ECDSA on P-256, or RSA of 2048 bits and more")
	}
	jwk, err := publicJWK(public.Public(), k.method.Alg())
	if err != nil {
		return nil, err
	}
	k.id = jwk.KID
	return k, nil
}

// Sign makes a token.
func (k *SigningKey) Sign(g Grant) (string, error) {
	if g.Audience == "" {
		g.Audience = DefaultAudience
	}
	form := &claimsForm{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: g.User, Issuer: g.Issuer, Audience: jwt.ClaimStrings{g.Audience}, ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(g.Issued), ExpiresAt: jwt.NewNumericDate(g.Issued.Add(g.TTL)),
		},
		Name: g.Name, Role: string(g.Role), Transactions: g.Transactions,
	}
	if _, err := form.claims(); err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(k.method, form)
	if k.id != "" {
		token.Header["kid"] = k.id
	}
	return token.SignedString(k.key)
}

// NewKeyPair makes an Ed25519 key pair: the private key at path, for its owner
// alone, and the public one as PEM and as JWKS beside it. It overwrites nothing.
func NewKeyPair(path string) (publicPEM, jwks string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", "", err
	}
	jwk, err := publicJWK(public, jwt.SigningMethodEdDSA.Alg())
	if err != nil {
		return "", "", err
	}
	set, err := json.MarshalIndent(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk}}, "", "  ")
	if err != nil {
		return "", "", err
	}
	publicPEM, jwks = path+".pub.pem", path+".jwks.json"
	for _, f := range []struct {
		path    string
		content []byte
		mode    os.FileMode
	}{
		{path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}), 0o600},
		{publicPEM, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), 0o644},
		{jwks, append(set, '\n'), 0o644},
	} {
		if err := writeNew(f.path, f.content, f.mode); err != nil {
			return "", "", err
		}
	}
	return publicPEM, jwks, nil
}

func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// publicJWK returns a public key as JWK; its kid is its thumbprint (RFC 7638).
func publicJWK(public any, alg string) (jwkset.JWKMarshal, error) {
	options := jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(alg), USE: jwkset.UseSig}}
	jwk, err := jwkset.NewJWKFromKey(public, options)
	if err != nil {
		return jwkset.JWKMarshal{}, fmt.Errorf("write a public key: %w", err)
	}
	m := jwk.Marshal()
	required, err := json.Marshal(struct { // in the order that RFC 7638 wants
		CRV jwkset.CRV `json:"crv,omitempty"`
		E   string     `json:"e,omitempty"`
		KTY jwkset.KTY `json:"kty"`
		N   string     `json:"n,omitempty"`
		X   string     `json:"x,omitempty"`
		Y   string     `json:"y,omitempty"`
	}{m.CRV, m.E, m.KTY, m.N, m.X, m.Y})
	if err != nil {
		return m, err
	}
	sum := sha256.Sum256(required)
	m.KID = base64.RawURLEncoding.EncodeToString(sum[:])
	return m, nil
}
