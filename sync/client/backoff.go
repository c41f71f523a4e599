package client

import (
	"math/rand/v2"
	"time"
)

const (
	firstRetry = 250 * time.Millisecond // the first try comes no later than this
	lastRetry  = 10 * time.Second       // no wait is longer
	// stableAfter is how long a connection must last for the next loss to count
	// as a first one: a server that closes whom it has just let in is not
	// besieged.
	stableAfter = time.Second
)

// backoff spreads tries to connect: each wait is between half and all of a
// ceiling that doubles, so that the clients of a restarted server do not come
// back all at once.
type backoff struct {
	failures int
}

// next returns how long to wait before the next try.
func (b *backoff) next() time.Duration {
	ceiling := firstRetry
	for range b.failures {
		ceiling = min(2*ceiling, lastRetry)
	}
	b.failures++
	return ceiling/2 + rand.N(ceiling/2)
}

// lasted takes note of how long a connection was of use.
func (b *backoff) lasted(d time.Duration) {
	if d >= stableAfter {
		b.failures = 0
	}
}
