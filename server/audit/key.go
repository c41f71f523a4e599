package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"parley/crdt"
)

// Key signs checkpoints: an Ed25519 key with a name, in the form of
// golang.org/x/mod/sumdb/note.
type Key struct {
	text    string // as note writes private keys
	public  Public
	private ed25519.PrivateKey
}

// Public is the other half, which auditors need.
type Public struct {
	Name string
	Key  ed25519.PublicKey
}

// algEd25519 is note's number for the algorithm, which stands before the key.
const algEd25519 = 1

// NewKey makes a key. The name has no blank and no plus sign.
func NewKey(random io.Reader, name string) (*Key, error) {
	text, _, err := note.GenerateKey(random, name)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return ParseKey(text)
}

// ParseKey reads what [Key.Text] returned.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	if _, err := note.NewSigner(text); err != nil {
		return nil, fmt.Errorf("read a signing key: %w", err)
	}
	parts := strings.SplitN(text, "+", 5) // PRIVATE+KEY+name+hash+data
	data, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(data) != 1+ed25519.SeedSize || data[0] != algEd25519 {
		return nil, errors.New("read a signing key: it is no Ed25519 key")
	}
	private := ed25519.NewKeyFromSeed(data[1:])
	return &Key{
		text: text, private: private,
		public: Public{Name: parts[2], Key: private.Public().(ed25519.PublicKey)},
	}, nil
}

// Text is the key as it is kept, in one line: a secret.
func (k *Key) Text() string { return k.text }

// Public returns the half that may be known.
func (k *Key) Public() Public { return k.public }

// Origin names the log of a document in checkpoints of this key's.
func (p Public) Origin(doc crdt.DocumentID) string { return p.Name + "/" + doc.String() }

// Text is the key as parley.pub has it: note's "verifier key", in one line.
func (p Public) Text() string { return p.verifierKey(p.Name) }

func (p Public) verifierKey(name string) string {
	text, err := note.NewEd25519VerifierKey(name, p.Key)
	if err != nil {
		panic("audit: " + err.Error()) // of a key that was read, and a name without blanks
	}
	return text
}

// ParsePublic reads what [Public.Text] returned.
func ParsePublic(text string) (Public, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "PRIVATE+KEY+") {
		return Public{}, errors.New("read a public key: this is the server's private one, which nobody else should have")
	}
	if _, err := note.NewVerifier(text); err != nil {
		return Public{}, fmt.Errorf("read a public key: %w: want a line such as parley-1a2b3c4d+5e6f7a8b+AWk…", err)
	}
	parts := strings.SplitN(text, "+", 3) // name+hash+data
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != algEd25519 {
		return Public{}, errors.New("read a public key: it is no Ed25519 key")
	}
	return Public{Name: parts[0], Key: data[1:]}, nil
}

// Sign returns the checkpoint as a signed note. As the form wants it, the
// signature bears the log's name: the same key is used for all logs.
func (k *Key) Sign(c Checkpoint) (string, error) {
	signed, err := note.Sign(&note.Note{Text: c.Text()}, &signer{name: c.Origin, key: k})
	if err != nil {
		return "", fmt.Errorf("sign a checkpoint: %w", err)
	}
	return string(signed), nil
}

// signer is a key under the name of a log.
type signer struct {
	name string
	key  *Key
}

func (s *signer) Name() string { return s.name }

func (s *signer) KeyHash() uint32 {
	v, err := note.NewVerifier(s.key.public.verifierKey(s.name))
	if err != nil {
		panic("audit: " + err.Error())
	}
	return v.KeyHash()
}

func (s *signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key.private, text), nil }

// Open verifies a signed note of a document's log and returns the checkpoint.
func (p Public) Open(doc crdt.DocumentID, signed string) (Checkpoint, error) {
	verifier, err := note.NewVerifier(p.verifierKey(p.Origin(doc)))
	if err != nil {
		return Checkpoint{}, err
	}
	n, err := note.Open([]byte(signed), note.VerifierList(verifier))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return Checkpoint{}, fmt.Errorf("the signature is not by this key (%s)", p.Text())
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the signature does not hold: %w", err)
	}
	if len(n.UnverifiedSigs) > 0 || len(n.Sigs) != 1 {
		return Checkpoint{}, errors.New("there are other signatures than the server's")
	}
	if !isWritten(n, signed) {
		return Checkpoint{}, errors.New("the signature is not written as notes are")
	}
	c, err := ParseCheckpoint(n.Text)
	if err == nil && c.Origin != p.Origin(doc) {
		err = fmt.Errorf("it is of the log %q, not of %q", c.Origin, p.Origin(doc))
	}
	return c, err
}

// isWritten says whether a note with one signature is in the form in which it is
// written: note itself takes a signature twice, and base64 with bits that mean
// nothing.
func isWritten(n *note.Note, signed string) bool {
	sig, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	return err == nil && signed == fmt.Sprintf("%s\n— %s %s\n", n.Text, n.Sigs[0].Name, base64.StdEncoding.EncodeToString(sig))
}
