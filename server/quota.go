package server

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"parley/crdt"
)

// Quotas bound what users and addresses may take of a server. Zero fields bound
// nothing.
type Quotas struct {
	// Frames is how many frames a user may send in a second, over all connections,
	// for as long as it likes, and FrameBurst how many at once. Who sends faster is
	// read from more slowly; who does so for a minute on end is closed. An HTTP
	// request counts as five, and is turned away if it is too many.
	Frames     float64
	FrameBurst int
	// UserConns and AddressConns are how many connections a user and an address
	// may have. An IPv6 address is its first 64 bits.
	UserConns    int
	AddressConns int
	// NewConns is how many new connections an address may open in a second, or HTTP
	// requests it may make, and NewConnBurst how many at once.
	NewConns     float64
	NewConnBurst int
}

// DefaultQuotas are for servers that anybody can reach.
func DefaultQuotas() Quotas {
	return Quotas{Frames: 50, FrameBurst: 500, UserConns: 100, AddressConns: 1000, NewConns: 50, NewConnBurst: 200}
}

// overQuota says that somebody takes too much: a code, and what to do.
type overQuota struct {
	code   crdt.Code
	reason string
}

// Error has both, as a refusal of a token has.
func (o *overQuota) Error() string { return string(o.code) + ": " + o.reason }

// The codes of overQuota.
const (
	codeUserConns    crdt.Code = "too-many-connections"
	codeAddressConns crdt.Code = "too-many-from-address"
	codeNewConns     crdt.Code = "connecting-too-fast"
	codeFrames       crdt.Code = "frames-too-fast"
	codeRequests     crdt.Code = "requests-too-fast"
)

// An ignored frame, such as an echo of somebody's ephemeral message, costs a
// tenth of one that does something: clients cannot help sending them.
const (
	frameCost   = 10
	ignoredCost = 1
	// A request is answered from the document's own goroutine, and may show a long
	// history.
	requestCost = 5 * frameCost
)

const (
	// slowedFor is how long a connection may send too fast before it is closed.
	slowedFor = time.Minute
	// maxPause is the longest that a frame waits: a connection that would have to
	// wait for longer has many others of its user's before it.
	maxPause = 5 * time.Second
	// forgetAfter is how often users and addresses that take nothing are dropped.
	forgetAfter = 10 * time.Second
)

// allowance is what one user or one address takes.
type allowance struct {
	conns int
	rate  *rate.Limiter // nil: not bounded
}

// idle reports whether nothing is lost by forgetting it.
func (a *allowance) idle(now time.Time) bool {
	return a.conns == 0 && (a.rate == nil || a.rate.TokensAt(now) >= float64(a.rate.Burst()))
}

// allowances are those of all users or addresses that take something.
type allowances map[string]*allowance

func (as allowances) of(name string, perSecond float64, burst int) *allowance {
	a := as[name]
	if a == nil {
		a = &allowance{}
		if perSecond > 0 {
			a.rate = rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))
		}
		as[name] = a
	}
	return a
}

func (as allowances) forget(now time.Time) {
	for name, a := range as {
		if a.idle(now) {
			delete(as, name)
		}
	}
}

// quotas keep account of who takes what.
type quotas struct {
	limits Quotas // static

	mu        sync.Mutex
	users     allowances
	addresses allowances
	forgot    time.Time
}

func newQuotas(limits Quotas) *quotas {
	return &quotas{limits: limits, users: make(allowances), addresses: make(allowances)}
}

// arrive counts a connection from an address, until it departs, and returns why it
// may not stay.
func (q *quotas) arrive(address string, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(now)
	a := q.addresses.of(address, q.limits.NewConns, q.limits.NewConnBurst)
	a.conns++
	switch {
	case a.rate != nil && !a.rate.AllowN(now, 1):
		return &overQuota{codeNewConns, "your address opens connections too fast: wait a little longer between them"}
	case q.limits.AddressConns > 0 && a.conns > q.limits.AddressConns:
		return &overQuota{codeAddressConns, fmt.Sprintf("your address has %d connections, the most there may be: close some", q.limits.AddressConns)}
	}
	return nil
}

// sweep forgets, now and then, who takes nothing. The caller holds mu.
func (q *quotas) sweep(now time.Time) {
	if now.Sub(q.forgot) > forgetAfter {
		q.users.forget(now)
		q.addresses.forget(now)
		q.forgot = now
	}
}

// requestFrom counts a request by where it comes from, before anything is known of
// who makes it.
func (q *quotas) requestFrom(address string, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(now)
	a := q.addresses.of(address, q.limits.NewConns, q.limits.NewConnBurst)
	if a.rate != nil && !a.rate.AllowN(now, 1) {
		return &overQuota{codeRequests, "your address makes requests too fast: wait a little longer between them"}
	}
	return nil
}

// requestBy counts a request by its user.
func (q *quotas) requestBy(user string, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.users.of(user, q.limits.Frames*frameCost, max(q.limits.FrameBurst, 1)*frameCost)
	if u.rate != nil && !u.rate.AllowN(now, min(requestCost, u.rate.Burst())) {
		return &overQuota{codeRequests, "you make requests too fast: wait a little longer between them"}
	}
	return nil
}

func (q *quotas) depart(address string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addresses[address].conns--
}

// enter counts a connection of a user, until it leaves, and returns what bounds the
// user's frames (nil: nothing does), or why it may not stay. Only one that may
// leaves.
func (q *quotas) enter(user string) (*rate.Limiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.users.of(user, q.limits.Frames*frameCost, max(q.limits.FrameBurst, 1)*frameCost)
	if q.limits.UserConns > 0 && u.conns >= q.limits.UserConns {
		return nil, &overQuota{codeUserConns, fmt.Sprintf("you have %d connections, the most there may be: close some", u.conns)}
	}
	u.conns++
	return u.rate, nil
}

func (q *quotas) leave(user string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.users[user].conns--
}

// addressOf is by what a remote address is counted.
func addressOf(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	addr := ap.Addr().Unmap()
	if addr.Is4() {
		return addr.String()
	}
	const network = 64 // bits: who has one address of it has them all
	prefix, err := addr.WithZone("").Prefix(network)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}

// pace makes the reader wait as long as its user has to between frames: what is not
// read fills the client's own buffers, and slows it down. It returns why the
// connection must end, if that has not helped for long.
func (c *conn) pace(cost int) error {
	if c.frames == nil {
		return nil
	}
	now := time.Now()
	turn := c.frames.ReserveN(now, cost)
	pause := turn.DelayFrom(now)
	if pause == 0 {
		c.slowed = time.Time{}
		return nil
	}
	c.srv.counters.framesSlowed.Add(1)
	if c.slowed.IsZero() {
		c.slowed = now
	}
	if pause > maxPause || now.Sub(c.slowed) > slowedFor {
		turn.CancelAt(now)
		c.srv.counters.connsOverFrames.Add(1)
		return &overQuota{codeFrames, fmt.Sprintf("you send more than %v frames a second: send fewer", c.srv.opt.Quotas.Frames)}
	}
	time.Sleep(pause)
	c.arrived += pause // it does not count as the server's slowness
	return nil
}

// pingEvery is how soon after a client's ping the next is answered. Pings are no
// frames, and each costs an answer: who sends them faster is read from more slowly.
const pingEvery = 20 * time.Millisecond

// pingPace is when a connection's last ping was answered. Whoever reads the
// connection owns it.
type pingPace struct{ last time.Time }

// wait waits until a ping may be answered, which it always may then.
func (p *pingPace) wait(context.Context, []byte) bool {
	time.Sleep(pingEvery - time.Since(p.last)) // for a reader that is slow itself not at all
	p.last = time.Now()
	return true
}
