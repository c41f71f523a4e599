package server_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/audit"
	"parley/server/servertest"
	"parley/sync/presence"
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

// TestExport hands out the record that verifies, the same each time, as of earlier
// heads too, and as CSV. An agreement in it bears its own checkpoint.
func TestExport(t *testing.T) {
	ctx, key := t.Context(), newKey(t)
	r := start(t, server.Options{Identify: server.DevIdentity, Key: key})
	here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice", "bob")
	r.readyFor(ctx, here["alice"])
	must(here["bob"].Ready(ctx))
	told := must(servertest.AwaitTold[*presence.Resolved](ctx, here["bob"]))
	checkpoint, err := key.Public().Open(here["bob"].Doc.ID, told.Resolution.Checkpoint)
	check(t, err)
	if parties, err := checkpoint.Said("parties"); err != nil || parties != `["alice","bob"]` {
		t.Errorf("the checkpoint says of the parties %s, %v", parties, err)
	}
	agreedOn := here["alice"].Doc.Heads()
	h := must(here["alice"].Pick(ctx, "price", "115"))
	check(t, here["alice"].Doc.Acknowledged(ctx, h))

	const path = "/v1/transactions/sale/export?user=ada&role=auditor"
	verified := func(query string) *audit.Findings {
		t.Helper()
		status, contentType, record := r.call("GET", path+query, "")
		if status != http.StatusOK || contentType != "application/zip" {
			t.Fatalf("%d %s %s", status, contentType, record)
		}
		if _, _, again := r.call("GET", path+query, ""); !bytes.Equal(again, record) {
			t.Error("the same record is not the same bytes")
		}
		return must(audit.Verify(record, key.Public(), nil))
	}
	verified("")
	verified("&at=" + agreedOn[0].String())
	status, contentType, csv := r.call("GET", path+"&format=csv", "")
	if status != http.StatusOK || !strings.HasPrefix(contentType, "text/csv") || !strings.Contains(string(csv), "price,Price,115,alice,") {
		t.Errorf("%d %s %s", status, contentType, csv)
	}
	for query, want := range map[string]int{
		"?user=bob&format=pdf": http.StatusBadRequest, "?user=bob&at=12": http.StatusBadRequest,
		"?user=bob&at=" + strings.Repeat("0", 64): http.StatusNotFound, "?user=vera&role=viewer": http.StatusForbidden, "": http.StatusForbidden,
	} {
		if status, _, body := r.call("GET", "/v1/transactions/sale/export"+query, ""); status != want {
			t.Errorf("%s: %d, want %d: %s", query, status, want, body)
		}
	}
}

// TestSlowReaders: who does not read what was asked for keeps nobody else from
// theirs, and is cut off.
func TestSlowReaders(t *testing.T) {
	inBubble(t, server.Options{Key: newKey(t)}, func(t *testing.T, ctx context.Context, r *running) {
		r.sale("sale", "")
		var slow []net.Conn
		for range 4 {
			c := must(r.pipe.Dial(ctx, "", ""))
			defer c.Close()
			_ = must(c.Write([]byte("GET /v1/transactions/sale/export?user=alice HTTP/1.1\r\nHost: pipe\r\n\r\n")))
			slow = append(slow, c)
		}
		synctest.Wait()
		began := time.Now()
		if status, _, text := r.call("GET", "/v1/transactions/sale/export?user=bob", ""); status != http.StatusOK {
			t.Errorf("%d %s", status, text)
		}
		if after := time.Since(began); after > time.Second {
			t.Errorf("answered after %v", after)
		}
		time.Sleep(time.Minute)
		for _, c := range slow {
			if n, err := io.Copy(io.Discard, c); err != nil || n > 1<<10 {
				t.Errorf("read %d bytes after a minute: %v", n, err)
			}
		}
	})
}
