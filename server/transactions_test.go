package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
	"parley/sync/session"
)

const saleFields = `"fields": {"price": {"label": "Price", "required": true, "options": {
	"a": {"value": 100, "source": "seller.pdf"}, "b": {"value": 120, "source": "buyer.pdf"}}}}`

// call makes a request and returns the status, the content type and the body.
func (r *running) call(method, path, body string) (int, string, []byte) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http"+strings.TrimPrefix(r.url, "ws")+path, strings.NewReader(body))
	check(r.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.via.Do(req)
	check(r.t, err)
	defer resp.Body.Close()
	defer r.via.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	check(r.t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), text
}

// shown is what the tests look at of a transaction.
type shown struct {
	ID, Document, URL, Policy string
	Heads, Missing, Parties   []string
	Quorum                    int
	Contested                 []string
	Resolution                *presence.Resolution
	Resolutions               []presence.Resolution
	Fields                    map[string]struct {
		Label   string
		Defined bool
		Options map[string]struct{ Value json.RawMessage }
		Picks   []struct{ By string }
	}
}

func (r *running) transaction(method, path, body string, want int) shown {
	r.t.Helper()
	status, contentType, text := r.call(method, path, body)
	if status != want || contentType != "application/json" {
		r.t.Fatalf("%s %s: %d %s %s", method, path, status, contentType, text)
	}
	var s shown
	check(r.t, json.Unmarshal(text, &s))
	return s
}

func TestTransactionsAreCreatedOnce(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	const path = "/v1/transactions?user=hana&role=host"
	body := `{"id": "sale-1", ` + saleFields + `, "parties": ["bob", "alice", "bob"], "policy": "lock"}`
	first := r.transaction("POST", path, body, http.StatusCreated)
	if first.Document != transaction.ID("sale-1").Document().String() || first.URL != "automerge:"+first.Document {
		t.Errorf("document %s, URL %s", first.Document, first.URL)
	}
	if len(first.Parties) != 2 || first.Policy != "lock" || len(first.Missing) != 1 || first.Fields["price"].Label != "Price" {
		t.Errorf("created: %+v", first)
	}
	again := r.transaction("POST", path, body, http.StatusOK)
	if again.Heads[0] != first.Heads[0] {
		t.Error("the same again made a change")
	}

	changed := r.transaction("POST", path, strings.Replace(body, "120", "125", 1), http.StatusOK)
	if changed.Heads[0] == first.Heads[0] || string(changed.Fields["price"].Options["b"].Value) != "125" {
		t.Errorf("other content: %+v", changed)
	}
	r.down()
	r.up(server.Options{Identify: server.DevIdentity})
	now := r.transaction("GET", "/v1/transactions/sale-1", "", http.StatusOK)
	if now.Heads[0] != changed.Heads[0] || now.Policy != "lock" || len(now.Parties) != 2 {
		t.Errorf("after a restart: %+v", now)
	}
	then := r.transaction("GET", "/v1/transactions/sale-1?at="+first.Heads[0], "", http.StatusOK)
	if string(then.Fields["price"].Options["b"].Value) != "120" {
		t.Errorf("as of the first heads: %+v", then)
	}
}

func TestHistoryIsShown(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	r.transaction("POST", "/v1/transactions?user=hana&role=host", `{"id": "sale-1", `+saleFields+`}`, http.StatusCreated)
	status, _, text := r.call("GET", "/v1/transactions/sale-1/history", "")
	var events []struct{ Kind, Field, User, Change string }
	check(t, json.Unmarshal(text, &events))
	if status != http.StatusOK || len(events) != 1 || events[0].Kind != "field-set" || events[0].Field != "price" || events[0].User != "hana" {
		t.Errorf("%d %s", status, text)
	}
}

func TestRefusedRequests(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	r.transaction("POST", "/v1/transactions?user=hana&role=host", `{"id": "sale-1", `+saleFields+`}`, http.StatusCreated)
	const host = "/v1/transactions?user=hana&role=host"
	unknown := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"a party creates", "POST", "/v1/transactions?user=alice&role=party", `{"id": "x"}`, 403, "not-host"},
		{"nobody creates", "POST", "/v1/transactions", `{"id": "x"}`, 403, "not-host"},
		{"an unknown role", "POST", "/v1/transactions?user=a&role=king", `{"id": "x"}`, 401, "unauthorized"},
		{"a role without a user", "GET", "/v1/transactions/sale-1?role=host", "", 401, "unauthorized"},
		{"not JSON", "POST", host, `{`, 400, "bad-request"},
		{"an unknown member", "POST", host, `{"id": "x", "parteis": []}`, 400, "bad-request"},
		{"a bad id", "POST", host, `{"id": "a b"}`, 400, "bad-request"},
		{"no id", "POST", host, `{}`, 400, "bad-request"},
		{"a bad policy", "POST", host, `{"id": "x", "policy": "maybe"}`, 400, "bad-request"},
		{"a bad quorum", "POST", host, `{"id": "x", "parties": ["a", "a"], "quorum": 2}`, 400, "bad-request"},
		{"a party without a name", "POST", host, `{"id": "x", "parties": [""]}`, 400, "bad-request"},
		{"more than JSON", "POST", host, `{"id": "x"} more`, 400, "bad-request"},
		{"too long", "POST", host, `{"id": "` + strings.Repeat("x", 5<<20) + `"}`, 413, "bad-request"},
		{"a field without a name", "POST", host, `{"id": "x", "fields": {"": {"label": "", "required": false, "options": {}}}}`, 422, "name"},
		{"an unknown transaction", "GET", "/v1/transactions/nope", "", 404, "not-found"},
		{"a bad id to read", "GET", "/v1/transactions/a%20b", "", 400, "bad-request"},
		{"bad heads", "GET", "/v1/transactions/sale-1?at=xyz", "", 400, "bad-request"},
		{"unknown heads", "GET", "/v1/transactions/sale-1?at=" + unknown, "", 404, "not-found"},
		{"the history of none", "GET", "/v1/transactions/nope/history", "", 404, "not-found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, contentType, text := r.call(c.method, c.path, c.body)
			var p struct {
				Type, Title, Code, Detail string
				Status                    int
			}
			if err := json.Unmarshal(text, &p); err != nil {
				t.Fatalf("%d %s: %v", status, text, err)
			}
			if status != c.status || p.Status != c.status || p.Code != c.code || contentType != "application/problem+json" {
				t.Errorf("%d %s %s, want %d %s", status, contentType, text, c.status, c.code)
			}
			if c.method == "POST" {
				if status, _, text := r.call("GET", "/v1/transactions/x", ""); status != http.StatusNotFound {
					t.Errorf("the refused request left something behind: %d %s", status, text)
				}
			}
			if p.Type == "" || p.Title == "" || p.Detail == "" {
				t.Errorf("an incomplete problem: %s", text)
			}
		})
	}
}

func TestATransactionIdTakenByAPlainDocument(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	d := r.open(ctx, r.dial(ctx, "alice"), transaction.ID("taken").Document())
	check(t, d.Acknowledged(ctx, must(d.Set(ctx, "a", "b"))))
	for _, request := range [][3]string{
		{"POST", "/v1/transactions?user=hana&role=host", `{"id": "taken"}`},
		{"GET", "/v1/transactions/taken", ""},
	} {
		if status, _, text := r.call(request[0], request[1], request[2]); status != http.StatusConflict {
			t.Errorf("%s: %d %s", request[0], status, text)
		}
	}
}

func TestWithoutPlainDocumentsThereAreNone(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{})
	plain := servertest.NewDocumentID()
	d := r.open(ctx, r.dial(ctx, "alice"), plain)
	check(t, d.Acknowledged(ctx, must(d.Set(ctx, "a", "b"))))
	r.down()
	r.transactionsOnly = true
	r.up(server.Options{})
	c := r.dial(ctx, "bob")
	check(t, r.open(ctx, c, plain).Unavailable(ctx, 1)) // stored, but not given out
	other := r.open(ctx, c, servertest.NewDocumentID())
	must(other.Set(ctx, "a", "b"))
	check(t, c.Wait(ctx, "the refusal", func() bool { return len(c.ErrorsLocked()) > 0 }))
	if text := c.Errors()[0]; !strings.Contains(text, "transactions only") {
		t.Errorf("told %q", text)
	}
}

func TestSettingsThatARequestDoesNotMentionStay(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	const path = "/v1/transactions?user=hana&role=host"
	r.transaction("POST", path, `{"id": "sale-1", "parties": ["alice", "bob"], "quorum": 2, "policy": "lock"}`, http.StatusCreated)
	s := r.transaction("POST", path, `{"id": "sale-1", `+saleFields+`}`, http.StatusOK)
	if len(s.Parties) != 2 || s.Quorum != 2 || s.Policy != "lock" {
		t.Errorf("a request that names fields only left %+v", s)
	}
}

func TestAPageOfAnotherOriginCannotPost(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	resp, err := http.Post("http"+strings.TrimPrefix(r.url, "ws")+"/v1/transactions?user=evil&role=host", "text/plain", strings.NewReader(`{"id": "x"}`))
	check(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("as text: %d", resp.StatusCode)
	}
}

func TestRequestsKeepToTheLimitsOfChanges(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity, Limits: session.Limits{Change: crdt.Limits{Ops: 8}}})
	status, _, text := r.call("POST", "/v1/transactions?user=hana&role=host", `{"id": "sale-1", `+saleFields+`}`)
	if status != http.StatusUnprocessableEntity || !strings.Contains(string(text), "too-many-ops") {
		t.Errorf("%d %s", status, text)
	}
}
