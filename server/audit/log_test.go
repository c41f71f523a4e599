package audit_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/audit"
)

func receipt(n int) audit.Receipt {
	return audit.Receipt{
		N: n, Change: crdt.Hash(sha256.Sum256(fmt.Append(nil, n))), Actor: "actor", User: `Zoë "<&>"` + "\n\u2028", Role: transaction.Party, At: int64(1000 + n),
	}
}

func TestReceiptLeaf(t *testing.T) {
	r := receipt(7)
	leaf := r.Leaf()
	want := `{"n":7,"change":"` + r.Change.String() + `","actor":"6163746f72","user":"Zoë \"<&>\"\n\u2028","role":"party","at":1007}`
	if string(leaf) != want {
		t.Errorf("%s\nwant %s", leaf, want)
	}
	if got, err := audit.ParseReceipt(leaf); err != nil || got != r {
		t.Errorf("read %+v, %v", got, err)
	}
	for what, bad := range map[string]string{
		"blank":       strings.Replace(want, ":7", ": 7", 1),
		"more":        want + " ",
		"cut":         want[:len(want)-1],
		"another key": strings.Replace(want, `"n"`, `"m"`, 1),
		"key twice":   strings.Replace(want, `"n":7`, `"n":7,"n":7`, 1),
		"upper case":  strings.Replace(want, r.Change.String(), strings.ToUpper(r.Change.String()), 1),
		"no hash":     strings.Replace(want, r.Change.String(), "00", 1),
		"no actor":    strings.Replace(want, "6163746f72", "", 1),
		"odd actor":   strings.Replace(want, "6163746f72", "616", 1),
		"float":       strings.Replace(want, "1007", "1007.0", 1),
		"key missing": strings.Replace(want, `"role":"party",`, "", 1),
		"nothing":     "",
	} {
		if got, err := audit.ParseReceipt([]byte(bad)); err == nil {
			t.Errorf("%s is read as %+v", what, got)
		}
	}
}

// TestLogAgainstAnother holds roots and proofs against another implementation of
// RFC 6962.
func TestLogAgainstAnother(t *testing.T) {
	const size = 70
	var log audit.Log
	var leaves [][]byte
	for n := range size {
		leaf := receipt(n).Leaf()
		log.Append(leaf)
		leaves = append(leaves, rfc6962.DefaultHasher.HashLeaf(leaf))
	}
	root := func(n int) []byte {
		t.Helper()
		r, err := log.Root(n)
		if err != nil {
			t.Fatal(err)
		}
		return r[:]
	}
	for n := 1; n <= size; n++ {
		i := rand.IntN(n)
		inclusion, err := log.Inclusion(i, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(n), leaves[i], raw(inclusion), root(n)); err != nil {
			t.Errorf("receipt %d of %d: %v", i, n, err)
		}
		m := 1 + rand.IntN(n)
		consistency, err := log.Consistency(m, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(m), uint64(n), raw(consistency), root(m), root(n)); err != nil {
			t.Errorf("%d in %d: %v", m, n, err)
		}
	}
	if !bytes.Equal(root(0), rfc6962.DefaultHasher.EmptyRoot()) {
		t.Errorf("the empty root is %x", root(0))
	}
	for what, err := range map[string]error{
		"root over more": second(log.Root(size + 1)), "root below": second(log.Root(-1)),
		"inclusion beyond": second(log.Inclusion(5, 5)), "of more": second(log.Inclusion(0, size+1)), "below": second(log.Inclusion(-1, 5)),
		"consistency backwards": second(log.Consistency(6, 5)), "with nothing": second(log.Consistency(0, 5)), "with more": second(log.Consistency(1, size+1)),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func raw(hs []crdt.Hash) [][]byte {
	var all [][]byte
	for _, h := range hs {
		all = append(all, h[:])
	}
	return all
}

func TestCheckpoint(t *testing.T) {
	key, err := audit.NewKey(rand.NewChaCha8([32]byte{1}), "parley-test")
	if err != nil {
		t.Fatal(err)
	}
	doc := transaction.ID("deal").Document()
	c := audit.Checkpoint{
		Origin: key.Public().Origin(doc), Size: 3, Root: crdt.Hash{1, 2},
		Says: []audit.Saying{{Word: "heads", Text: "ab,cd"}, {Word: "file", Text: "a 1"}, {Word: "file", Text: "b 2"}},
	}
	signed, err := key.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	public, err := audit.ParsePublic(key.Public().Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := public.Open(doc, signed)
	if err != nil || got.Text() != c.Text() || !slices.Equal(got.Says, c.Says) {
		t.Errorf("opened %+v, %v", got, err)
	}
	if heads, err := got.Said("heads"); heads != "ab,cd" || err != nil {
		t.Errorf("heads %q, %v", heads, err)
	}
	if _, err := got.Said("file"); err == nil {
		t.Error("what is said twice is said once")
	}
	again, err := audit.ParseKey(key.Text())
	if err != nil || again.Public().Text() != key.Public().Text() {
		t.Errorf("the key is read as %v, %v", again, err)
	}
	for i := range len(signed) {
		bad := []byte(signed)
		bad[i] ^= 1
		if got, err := public.Open(doc, string(bad)); err == nil {
			t.Errorf("byte %d flipped (%q) is opened as %+v", i, signed[i], got)
		}
	}
	last := strings.LastIndex(signed, "— ")
	if _, err := public.Open(doc, signed+signed[last:]); err == nil {
		t.Error("the signature stands twice")
	}
	if _, err := public.Open(transaction.ID("other").Document(), signed); err == nil {
		t.Error("it is another document's too")
	}
	other, err := audit.NewKey(rand.NewChaCha8([32]byte{2}), "parley-test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Public().Open(doc, signed); err == nil || !strings.Contains(err.Error(), "not by this key") {
		t.Errorf("another key: %v", err)
	}
	for _, bad := range []string{"", "a+b", "PRIVATE+KEY+x+12345678+AAAA", key.Public().Text()} {
		if _, err := audit.ParseKey(bad); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
	if _, err := audit.ParsePublic(key.Text()); err == nil {
		t.Error("the secret is taken for the public key")
	}
	if _, err := audit.NewKey(rand.NewChaCha8([32]byte{}), "with blank"); err == nil {
		t.Error("a name with a blank")
	}
}
