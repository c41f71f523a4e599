package postgres_test

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/storetest"
)

// proxy stands between a store and its database, and cuts the connection at a
// commit.
type proxy struct {
	to       string
	listener net.Listener
	wg       sync.WaitGroup

	mu   sync.Mutex
	cut  string // "": nothing; "before": the commit does not get there; "after": its answer does not come back
	cuts int
	all  []net.Conn
}

// through returns a proxy, and the URL that leads through it.
func through(t *testing.T, url string) (*proxy, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := url[strings.Index(url, "@")+1 : strings.LastIndex(url, "/")]
	p := &proxy{to: host, listener: l}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.closeAll()
		p.wg.Wait()
	})
	return p, strings.Replace(url, host, l.Addr().String(), 1)
}

func (p *proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		p.all = append(p.all, c, s)
		p.mu.Unlock()
		swallow := make(chan struct{})
		p.wg.Go(func() { p.up(c, s, swallow) })
		p.wg.Go(func() { p.down(c, s, swallow) })
	}
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		_ = c.Close()
	}
}

func (p *proxy) arm(cut string) {
	p.mu.Lock()
	p.cut = cut
	p.mu.Unlock()
}

// commits reports what to do about what a client sends. Statements are known by
// names that say nothing; what commits is the part that executes most of them.
func (p *proxy) commits(b []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == "" || bytes.Count(b, []byte("E\x00\x00\x00\x09")) < 3 {
		return ""
	}
	cut := p.cut
	p.cut = ""
	p.cuts++
	return cut
}

func (p *proxy) up(c, s net.Conn, swallow chan struct{}) {
	defer s.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		switch p.commits(buf[:n]) {
		case "before":
			_ = c.Close()
			return
		case "after":
			close(swallow)
			_, _ = s.Write(buf[:n])
			return
		}
		if _, err := s.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) down(c, s net.Conn, swallow chan struct{}) {
	defer c.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := s.Read(buf)
		select {
		case <-swallow:
			_, _ = io.Copy(io.Discard, s) // until the commit was answered, to nobody
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestLostAnswer: a commit of which nobody knows whether it was is made again, and
// what it brings is there once.
func TestLostAnswer(t *testing.T) {
	for _, cut := range []string{"before", "after"} {
		t.Run(cut, func(t *testing.T) { testLostAnswer(t, cut) })
	}
}

func testLostAnswer(t *testing.T, cut string) {
	url := pgtest.Shared(t).Schema(t)
	p, via := through(t, url)
	s, direct := open(t, via), open(t, url)
	doc, a := storetest.Document(1), storetest.Changes(0, 8)
	storetest.MustAppend(t, s, store.Batch{Document: doc, Base: &store.Version{}, Changes: a[:2], Settings: []byte("0")})
	r := storetest.Resolution(0, 1, "r")
	chain := &store.Chain{}
	revoked := store.Revocation{User: "eve", At: 1, By: "host"}
	for i, b := range []store.Batch{
		{Base: &store.Version{Changes: 2, Settings: 1}, Changes: a[2:4]},
		{Base: &store.Version{Changes: 4, Settings: 1}, Changes: a[4:5], Settings: []byte("1")},
		{Base: &store.Version{Changes: 5, Settings: 2}, Resolution: r},
		{Changes: a[5:7]}, // without a base
		{Base: &store.Version{Changes: 7, Settings: 2, Resolutions: 1}, Changes: a[7:], Revocation: &revoked},
	} {
		b.Document, b.Chain = doc, chain
		p.arm(cut)
		if err := storetest.Append(s, b); err != nil {
			t.Errorf("batch %d: %v", i, err)
		}
		p.mu.Lock()
		cuts := p.cuts
		p.mu.Unlock()
		if cuts != i+1 {
			t.Fatalf("batch %d: %d connections were cut", i, cuts)
		}
	}
	storetest.MustHold(t, direct, doc, a...)
	storetest.MustHaveResolved(t, direct, doc, r)
	st, err := direct.Load(t.Context(), doc)
	if err != nil || st.Version != (store.Version{Changes: 8, Settings: 2, Resolutions: 1}) {
		t.Errorf("it is at %+v, %v", st.Version, err)
	}
	list, err := direct.Revocations(t.Context(), 0)
	if err != nil || !slices.Equal(list, []store.Revocation{revoked}) {
		t.Errorf("revoked are %v, %v", list, err)
	}
	if n := s.Stats().Retries; n != 5 {
		t.Errorf("%d tries failed, want 5", n)
	}
}
