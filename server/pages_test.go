package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// Who asks for a page and does not read it is cut off, and one that was answered
// before has all its time for the next.
func TestSlowReadersOfPages(t *testing.T) {
	page := bytes.Repeat([]byte("page "), 1<<18)
	pages := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	inBubble(t, server.Options{Pages: pages}, func(t *testing.T, ctx context.Context, r *running) {
		asked := func(c net.Conn) net.Conn {
			_ = must(c.Write([]byte("GET /assets/page.js HTTP/1.1\r\nHost: pipe\r\n\r\n")))
			return c
		}
		slow := asked(must(r.pipe.Dial(ctx, "", "")))
		defer slow.Close()
		check(t, slow.SetReadDeadline(time.Now().Add(6*time.Minute)))
		synctest.Wait()
		time.Sleep(5 * time.Minute)
		if n, err := io.Copy(io.Discard, slow); err != nil || n > 64<<10 {
			t.Errorf("read %d bytes after five minutes: %v", n, err)
		}
		for range 2 {
			if status, _, body := r.call("GET", "/t/sale", ""); status != http.StatusOK || !bytes.Equal(body, page) {
				t.Errorf("%d, %d bytes", status, len(body))
			}
			if status, _, body := r.call("GET", "/healthz", ""); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
			time.Sleep(50 * time.Second) // the connection is kept, and the time for the last answer is over
		}
	})
}
