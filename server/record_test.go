package server_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/audit"
)

// newKey makes a key that signs nothing but what tests do.
func newKey(t *testing.T) *audit.Key {
	t.Helper()
	key, err := audit.NewKey(rand.NewChaCha8([32]byte{7}), "parley-test")
	check(t, err)
	return key
}

// proven is what a proof over HTTP says.
type proven struct {
	N, From, Size        int
	Leaf, Root, FromRoot string
	Proof                []string
}

func (r *running) proven(path string) (p proven) {
	r.t.Helper()
	status, _, body := r.call("GET", path, "")
	if status != http.StatusOK {
		r.t.Fatalf("GET %s: %d %s", path, status, body)
	}
	check(r.t, json.Unmarshal(body, &p))
	return p
}

func unhex(t *testing.T, texts ...string) [][]byte {
	t.Helper()
	var all [][]byte
	for _, text := range texts {
		b, err := hex.DecodeString(text)
		check(t, err)
		all = append(all, b)
	}
	return all
}

// TestLogIsProven by proofs over HTTP that another implementation verifies,
// under a root that the server has signed; and again after a restart.
func TestLogIsProven(t *testing.T) {
	key := newKey(t)
	opt := server.Options{Identify: server.DevIdentity, Key: key}
	r := start(t, opt)
	const host, path = "user=hana&role=host", "/v1/transactions/sale-1"
	for i := range 9 {
		body := fmt.Sprintf(`{"id": "sale-1", "fields": {"f%d": {"label": "", "required": false, "options": {}}}}`, i)
		if status, _, text := r.call("POST", "/v1/transactions?"+host, body); status > 201 {
			t.Fatalf("%d %s", status, text)
		}
	}
	_, _, before := r.call("GET", path+"/checkpoint?"+host, "")
	old, err := key.Public().Open(transaction.ID("sale-1").Document(), string(before))
	check(t, err)
	if old.Size != 10 { // with the genesis
		t.Errorf("the log has %d receipts", old.Size)
	}
	r.down()
	r.up(opt)
	r.call("POST", "/v1/transactions?"+host, `{"id": "sale-1", "fields": {"g": {"label": "", "required": false, "options": {}}}}`)
	_, _, after := r.call("GET", path+"/checkpoint?user=ada&role=auditor", "")
	now, err := key.Public().Open(transaction.ID("sale-1").Document(), string(after))
	check(t, err)

	c := r.proven(fmt.Sprintf("%s/proof/consistency?%s&from=%d&size=%d", path, host, old.Size, now.Size))
	check(t, proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old.Size), uint64(now.Size), unhex(t, c.Proof...), old.Root[:], now.Root[:]))
	for n := range now.Size {
		i := r.proven(fmt.Sprintf("%s/proof/inclusion?%s&n=%d", path, host, n))
		leaf := rfc6962.DefaultHasher.HashLeaf([]byte(i.Leaf))
		check(t, proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(n), uint64(i.Size), leaf, unhex(t, i.Proof...), now.Root[:]))
		receipt, err := audit.ParseReceipt([]byte(i.Leaf))
		check(t, err)
		if receipt.N != n || receipt.User != "hana" || receipt.Role != transaction.Host || receipt.At == 0 {
			t.Errorf("receipt %d: %+v", n, receipt)
		}
	}
	_, _, shown := r.call("GET", "/v1/key", "")
	if strings.TrimSpace(string(shown)) != key.Public().Text() {
		t.Errorf("the key is shown as %s", shown)
	}
}

func TestProofsThatCannotBe(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	r.transaction("POST", "/v1/transactions?user=hana&role=host", `{"id": "sale-1", `+saleFields+`}`, http.StatusCreated)
	for path, want := range map[string]int{
		"/v1/transactions/sale-1/proof/inclusion?user=bob":                       http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/inclusion?user=bob&n=2":                   http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/inclusion?user=bob&n=-1":                  http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/inclusion?user=bob&n=0&size=x":            http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/inclusion?user=bob&n=0&size=3":            http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/consistency?user=bob&from=0":              http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/consistency?user=bob&from=2&size=1":       http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/consistency?user=bob&from=1&size=9":       http.StatusBadRequest,
		"/v1/transactions/sale-1/proof/inclusion?n=0":                            http.StatusForbidden,
		"/v1/transactions/sale-1/proof/inclusion?n=0&user=vera&role=viewer":      http.StatusForbidden,
		"/v1/transactions/sale-1/proof/consistency?from=1&user=vera&role=viewer": http.StatusForbidden,
		"/v1/transactions/sale-2/proof/inclusion?n=0&user=bob":                   http.StatusNotFound,
		"/v1/transactions/sale-1/proof/inclusion?n=0&user=bob&role=king":         http.StatusUnauthorized,
		"/v1/transactions/sale-1/checkpoint?user=bob":                            http.StatusNotFound, // without a key
		"/v1/key": http.StatusNotFound,
	} {
		if status, _, body := r.call("GET", path, ""); status != want || !strings.Contains(string(body), `"detail": "`) {
			t.Errorf("GET %s: %d, want %d: %s", path, status, want, body)
		}
	}
}
