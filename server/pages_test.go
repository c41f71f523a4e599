package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"parley/server"
)

// Browsers get pages; sync clients and curl get on / what they always got.
func TestPages(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page for ", r.URL.Path) })
	for _, tc := range []struct {
		path, accept string
		pages        http.Handler
		status       int
		body         string
	}{
		{"/", "text/html,*/*;q=0.8", pages, http.StatusOK, "page for /"},
		{"/", "*/*", pages, http.StatusUpgradeRequired, "This is a Parley sync server"},
		{"/", "text/html", nil, http.StatusUpgradeRequired, "This is a Parley sync server"},
		{"/t/sale-1?token=x", "*/*", pages, http.StatusOK, "page for /t/sale-1"},
		{"/assets/page.js", "*/*", pages, http.StatusOK, "page for /assets/page.js"},
		{"/worker.js", "*/*", pages, http.StatusOK, "page for /worker.js"},
		{"/t/sale-1", "text/html", nil, http.StatusNotFound, "404"},
	} {
		r := start(t, server.Options{Pages: tc.pages})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(r.url, "ws")+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", tc.accept)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := string(must(io.ReadAll(answer.Body)))
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != tc.status || !strings.HasPrefix(body, tc.body) {
			t.Errorf("%s for %s: %d %q, want %d %q", tc.path, tc.accept, answer.StatusCode, body, tc.status, tc.body)
		}
	}
}
