package web

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func packed(t *testing.T, text string) *fstest.MapFile {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: b.Bytes()}
}

func someBuild(t *testing.T) fstest.MapFS {
	return fstest.MapFS{
		".gitkeep":                 {},
		"start.html.gz":            packed(t, "start"),
		"about.html.gz":            packed(t, "about"),
		"transaction.html.gz":      packed(t, "transaction"),
		"transaction-dev.html.gz":  packed(t, "transaction-dev"),
		"worker.js.gz":             packed(t, "worker"),
		"assets/page-AB.js.gz":     packed(t, "script"),
		"assets/engine-CD.wasm.gz": packed(t, "wasm"),
	}
}

func get(p *Page, path string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestWhatIsWhere(t *testing.T) {
	for _, tc := range []struct {
		path      string
		dev       bool
		status    int
		body      string
		mediaType string
		cache     string
	}{
		{"/", false, 200, "about", "text/html", "no-cache"},
		{"/", true, 200, "start", "text/html", "no-cache"},
		{"/t/sale-1", false, 200, "transaction", "text/html", "no-cache"},
		{"/t/sale-1?token=secret", true, 200, "transaction-dev", "text/html", "no-cache"},
		{"/worker.js", false, 200, "worker", "text/javascript", "no-cache"},
		{"/assets/page-AB.js", false, 200, "script", "text/javascript", "public, max-age=31536000, immutable"},
		{"/assets/engine-CD.wasm", false, 200, "wasm", "application/wasm", "public, max-age=31536000, immutable"},
		{"/assets/other.js", false, 404, "There is nothing here", "text/plain", "no-store"},
		{"/assets/page-AB.js.gz", false, 404, "There is nothing here", "text/plain", "no-store"},
		{"/transaction-dev.html", false, 404, "There is nothing here", "text/plain", "no-store"},
	} {
		p, err := New(someBuild(t), Options{Dev: tc.dev})
		if err != nil {
			t.Fatal(err)
		}
		r := get(p, tc.path)
		if body := text(t, r); r.StatusCode != tc.status || !strings.HasPrefix(body, tc.body) {
			t.Errorf("%s, dev %v: %d %q, want %d %q", tc.path, tc.dev, r.StatusCode, body, tc.status, tc.body)
		}
		if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, tc.mediaType) {
			t.Errorf("%s: type %q, want %q", tc.path, got, tc.mediaType)
		}
		if got := r.Header.Get("Cache-Control"); got != tc.cache {
			t.Errorf("%s: cached %q, want %q", tc.path, got, tc.cache)
		}
		for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
			if r.Header.Get(h) == "" {
				t.Errorf("%s: no %s", tc.path, h)
			}
		}
	}
}

func TestCompressed(t *testing.T) {
	p, err := New(someBuild(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "br, gzip;q=0.8": true, "gzip;q=0": false, "identity": false, "*": true, "deflate": false,
	} {
		r := get(p, "/assets/page-AB.js", "Accept-Encoding", accept)
		body := text(t, r)
		if got := r.Header.Get("Content-Encoding") == "gzip"; got != want || got == (body == "script") {
			t.Errorf("Accept-Encoding %q: compressed %v, %q", accept, got, body)
		}
		if got := r.Header.Get("Vary"); got != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: Vary %q", accept, got)
		}
	}
}

func TestNotModified(t *testing.T) {
	p, err := New(someBuild(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	tag := get(p, "/t/x").Header.Get("ETag")
	for header, want := range map[string]int{
		tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200, "": 200,
	} {
		if r := get(p, "/t/x", "If-None-Match", header); r.StatusCode != want {
			t.Errorf("If-None-Match %s: %d, want %d", header, r.StatusCode, want)
		}
	}
	if r := get(p, "/t/x", "If-None-Match", tag, "Accept-Encoding", "gzip"); r.StatusCode != 200 {
		t.Errorf("the tag of the plain text is taken for that of the compressed: %d", r.StatusCode)
	}
}

func TestNotBuilt(t *testing.T) {
	p, err := New(fstest.MapFS{".gitkeep": {}}, Options{})
	if !errors.Is(err, ErrNotBuilt) {
		t.Errorf("error %v, want %v", err, ErrNotBuilt)
	}
	if body := text(t, get(p, "/")); !strings.Contains(body, "make web") {
		t.Errorf("the answer does not say what to do: %q", body)
	}
}
