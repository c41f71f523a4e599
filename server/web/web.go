// Package web is the page on which people settle a transaction in a browser, as
// the server hands it out. What it is made of is TypeScript, in page and client;
// build makes page/dist of that, and this package embeds it and answers requests
// with it. It knows nothing of transactions, tokens or users: the page connects
// as any client does.
//
// cmd/parley imports it, and hands it to the server.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// dist is what build makes. In a tree that was not built there is only the file
// that makes go:embed find something.
//
//go:embed all:page/dist
var dist embed.FS

// Built is the page as it was built into this binary.
func Built() fs.FS {
	sub, err := fs.Sub(dist, "page/dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

// ErrNotBuilt means that the binary was compiled without the page.
var ErrNotBuilt = errors.New("this server was built without its page")

// Options say how a [Page] is handed out.
type Options struct {
	// Dev is for servers that believe who people say they are: the page asks for a
	// name instead of a token, and the front page makes a sample to try.
	Dev bool
}

// Page answers browsers: the front page on /, a transaction's on /t/{id}, and
// what these load. The zero Page says that it was not built.
type Page struct {
	front       *file // on /
	transaction *file // on /t/{id}
	others      map[string]*file
}

// file is an answer, compressed when it was built.
type file struct {
	gzipped     []byte
	contentType string
	etag        string
	immutable   bool // its name changes with its content
}

// New reads a page that build made, [Built] or another. Its error is
// [ErrNotBuilt] if there is none; the Page that comes with it says so to people.
func New(built fs.FS, opt Options) (*Page, error) {
	p := &Page{others: make(map[string]*file)}
	err := fs.WalkDir(built, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".gz" {
			return err
		}
		return p.add(built, name)
	})
	if err != nil {
		return &Page{}, fmt.Errorf("read the page: %w", err)
	}
	front, transaction := "about.html", "transaction.html"
	if opt.Dev {
		front, transaction = "start.html", "transaction-dev.html"
	}
	p.front, p.transaction = p.others["/"+front], p.others["/"+transaction]
	if p.front == nil || p.transaction == nil {
		return &Page{}, ErrNotBuilt
	}
	return p, nil
}

func (p *Page) add(built fs.FS, name string) error {
	gzipped, err := fs.ReadFile(built, name)
	if err != nil {
		return err
	}
	url := "/" + strings.TrimSuffix(name, ".gz")
	sum := sha256.Sum256(gzipped)
	p.others[url] = &file{
		gzipped: gzipped, contentType: contentTypeOf(url),
		etag:      base64.RawURLEncoding.EncodeToString(sum[:12]),
		immutable: strings.HasPrefix(url, "/assets/"),
	}
	return nil
}

// contentTypeOf does not ask the system, whose tables differ.
func contentTypeOf(url string) string {
	switch path.Ext(url) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".wasm":
		return "application/wasm"
	case ".svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}

// ServeHTTP answers GET and HEAD.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	f := p.find(r.URL.Path)
	switch {
	case p.front == nil:
		plain(w, http.StatusNotFound, notBuilt)
	case f == nil:
		plain(w, http.StatusNotFound, "There is nothing here. The page of a transaction is /t/ and its id.")
	default:
		f.answer(w, r)
	}
}

const notBuilt = `This server was built without its page. In the source of Parley,

    make web binary

makes the page and a server that has it (Node and npm are needed for that).
Everything else works: parley join shows a transaction in a terminal.`

func (p *Page) find(url string) *file {
	switch {
	case url == "/":
		return p.front
	case strings.HasPrefix(url, "/t/"):
		return p.transaction
	case path.Ext(url) == ".html": // those have the addresses above
		return nil
	}
	return p.others[url]
}

// policy lets the page load what it is made of, from here, and connect to this
// server, and nothing else.
const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func harden(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// answer sends the file as it is stored to who reads gzip, and inflates it for
// others.
func (f *file) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if f.immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	packed := acceptsGzip(r.Header.Values("Accept-Encoding"))
	etag := `"` + f.etag + `"`
	if packed {
		etag = `"` + f.etag + `-gz"`
	}
	h.Set("ETag", etag)
	if matches(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if packed {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(f.gzipped)))
	}
	if r.Method == http.MethodHead {
		return
	}
	f.write(w, packed)
}

// write ignores errors: the browser has gone, and nobody is left to tell.
func (f *file) write(w io.Writer, packed bool) {
	if packed {
		_, _ = w.Write(f.gzipped)
		return
	}
	z, err := gzip.NewReader(bytes.NewReader(f.gzipped))
	if err != nil {
		return
	}
	_, _ = io.Copy(w, z)
}

// acceptsGzip reads Accept-Encoding as RFC 9110 has it, as far as it matters.
func acceptsGzip(values []string) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		coding, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || coding != "gzip" && coding != "*" {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		if params["q"] == "" || err == nil && q > 0 {
			return true
		}
	}
	return false
}

// matches reports whether If-None-Match names the tag.
func matches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if part = strings.TrimPrefix(strings.TrimSpace(part), "W/"); part == etag || part == "*" {
			return true
		}
	}
	return false
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}
