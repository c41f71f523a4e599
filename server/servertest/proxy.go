package servertest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a link between clients and a server that can be made a bad one.
type Proxy struct {
	l     net.Listener
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	delay atomic.Int64 // of each direction, in ns
	rate  atomic.Int64 // of each direction of each connection, in bytes per second; 0: any
	piece atomic.Int64 // after so many bytes of a connection it is cut; 0: never

	running sync.WaitGroup

	mu     sync.Mutex
	to     string
	links  map[*proxied]struct{}
	closed bool
}

// proxied is one connection through a proxy: both its halves.
type proxied struct {
	client, server net.Conn
	silent         atomic.Bool // swallows what it reads
	passed         atomic.Int64
	open           atomic.Int32
	cut            chan struct{}
	once           sync.Once
}

// NewProxy passes what comes in at l on to the server at an address. It ends
// with [Proxy.Close].
func NewProxy(l net.Listener, to string) *Proxy {
	return newProxy(l, to, (&net.Dialer{}).DialContext)
}

// NewPipeProxy is [NewProxy] from one pipe to another.
func NewPipeProxy(l, to *Pipe) *Proxy { return newProxy(l, "", to.Dial) }

func newProxy(l net.Listener, to string, dial func(context.Context, string, string) (net.Conn, error)) *Proxy {
	p := &Proxy{l: l, dial: dial, to: to, links: make(map[*proxied]struct{})}
	p.running.Go(p.accept)
	return p
}

// URL is where clients find the server over TCP.
func (p *Proxy) URL() string { return "ws://" + p.l.Addr().String() }

// Lead passes connections on to another server from now on.
func (p *Proxy) Lead(to string) {
	p.mu.Lock()
	p.to = to
	p.mu.Unlock()
}

// Delay holds up what passes, in each direction, from now on.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Throttle bounds what passes in each direction of each connection, in bytes per
// second, from now on; 0 does not. What waits fills the buffers of the system.
func (p *Proxy) Throttle(rate int) { p.rate.Store(int64(rate)) }

// CutAfter ends each connection that has carried so many bytes, most likely within a
// frame, from now on; 0 does not.
func (p *Proxy) CutAfter(bytes int) { p.piece.Store(int64(bytes)) }

// Cut ends all connections that there are.
func (p *Proxy) Cut() {
	for _, link := range p.present() {
		link.close()
	}
}

// Silence makes all connections that there are half-open: nothing passes any
// more, not even an end, and neither side is told. New connections pass.
func (p *Proxy) Silence() {
	for _, link := range p.present() {
		link.silent.Store(true)
	}
}

// Close ends the proxy and all connections, and waits for its goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.l.Close()
	p.Cut()
	p.running.Wait()
}

func (p *Proxy) present() []*proxied {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*proxied, 0, len(p.links))
	for link := range p.links {
		links = append(links, link)
	}
	return links
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		server, err := p.dial(context.Background(), "tcp", to)
		if err != nil {
			_ = client.Close()
			continue
		}
		link := &proxied{client: client, server: server, cut: make(chan struct{})}
		link.open.Store(2)
		p.mu.Lock()
		p.links[link] = struct{}{}
		closed := p.closed
		p.mu.Unlock()
		if closed { // Close may have missed it
			link.close()
		}
		p.running.Go(func() { p.pass(link, client, server) })
		p.running.Go(func() { p.pass(link, server, client) })
	}
}

// pass carries one direction until either half ends. A silent link ends when
// both halves have.
func (p *Proxy) pass(link *proxied, from, to net.Conn) {
	defer func() {
		if link.open.Add(-1) == 0 || !link.silent.Load() {
			link.close()
		}
		p.mu.Lock()
		if link.open.Load() == 0 {
			delete(p.links, link)
		}
		p.mu.Unlock()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(p.share(buf))
		if err != nil {
			return
		}
		if delay := time.Duration(p.delay.Load()) + p.takes(n); delay > 0 && !link.hold(delay) {
			return
		}
		if link.silent.Load() {
			continue
		}
		over := 0
		if most := p.piece.Load(); most > 0 {
			over = int(min(max(0, link.passed.Add(int64(n))-most), int64(n)))
		}
		if _, err := to.Write(buf[:n-over]); err != nil {
			return
		}
		if over > 0 {
			link.close()
			return
		}
	}
}

// share is how much of buf is read at once: on a slow line little, a tenth of a
// second's worth.
func (p *Proxy) share(buf []byte) []byte {
	if rate := p.rate.Load(); rate > 0 {
		return buf[:min(max(1, int(rate/10)), len(buf))]
	}
	return buf
}

// takes is how long n bytes take on the line.
func (p *Proxy) takes(n int) time.Duration {
	if rate := p.rate.Load(); rate > 0 {
		return time.Duration(n) * time.Second / time.Duration(rate)
	}
	return 0
}

// hold waits, and reports false if the link was cut meanwhile.
func (l *proxied) hold(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.cut:
		return false
	}
}

func (l *proxied) close() {
	l.once.Do(func() {
		close(l.cut)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}
