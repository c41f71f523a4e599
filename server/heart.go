package server

import (
	"context"
	"time"
)

// heartParts is into how many parts a ping interval is cut: connections are
// pinged in turn, not all at once.
const heartParts = 10

// restAfter is how long nothing happens in a document until it frees what is only
// needed while something does; restFrees is about how much that is.
const (
	restAfter = 2 * time.Second
	restFrees = 4 << 10
)

// beat pings connections, drops silent ones, evicts idle documents, and gives
// memory back, until ctx ends.
func (s *Server) beat(ctx context.Context) {
	ticker := time.NewTicker(s.opt.Ping / heartParts)
	defer ticker.Stop()
	sleep, tidier := sleeper{last: time.Now()}, newTidier(s.store.Rest)
	for part := uint64(0); ; part = (part + 1) % heartParts {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := time.Now()
			drowsy := sleep.drowsy(now, s.opt.Ping)
			for _, c := range s.peers.all() {
				if uint64(c.id)%heartParts == part {
					s.checkLife(ctx, c, now, drowsy)
				}
			}
			if part%(heartParts/2) == 0 {
				n := s.docs.sweep(now.Add(-s.opt.IdleAfter), s.moment()-int64(min(restAfter, s.opt.IdleAfter)))
				tidier.freed(uint64(n) * restFrees)
			}
			tidier.beat()
			s.noteStall()
		}
	}
}

// sleeper finds out when it was us who were silent: a machine that slept, a
// process that was stopped or starved.
type sleeper struct{ last, awake time.Time }

// drowsy reports, at every beat, whether one has come late within the last
// interval.
func (s *sleeper) drowsy(now time.Time, interval time.Duration) bool {
	if now.Sub(s.last) > interval/2 {
		s.awake = now
	}
	s.last = now
	return now.Sub(s.awake) < interval
}

// checkLife pings a connection, or drops it if it has been silent for an
// interval: it was pinged and has not answered, not a byte has moved, and it
// was the client that we waited for all the time. Drowsy: we were not there
// ourselves, and nobody is dropped for what we may not have heard.
func (s *Server) checkLife(ctx context.Context, c *conn, now time.Time, drowsy bool) {
	if c.tokenIsOver() {
		c.expire()
		return
	}
	var moved int64
	if c.link != nil {
		moved = c.link.moved.Load()
	}
	unanswered := c.pinged && !c.ponged.Load()
	if unanswered && moved == c.moved && !drowsy && c.waitedFor(s.opt.Ping) {
		s.log.Debug("dropping a silent connection", "conn", c.id)
		c.silent.Store(true)
		s.drop(c)
		return
	}
	c.moved = moved
	if unanswered {
		return // something long is on its way; the ping is behind it
	}
	c.pinged = true
	c.ponged.Store(false)
	now = time.Now()
	s.running.begin()
	go func() {
		defer s.running.end()
		if c.ws.Ping(ctx) == nil { // ends when the connection does
			c.ponged.Store(true)
			c.measured(time.Since(now))
		}
	}()
}

// drop ends a connection, and does not wait for that: if its farewell is under
// way, it lasts as long as that.
func (s *Server) drop(c *conn) {
	s.running.begin()
	go func() {
		defer s.running.end()
		_ = c.ws.CloseNow()
	}()
}

// waitedFor reports whether the reader has waited for the client that long.
func (c *conn) waitedFor(d time.Duration) bool {
	since := c.waiting.Load()
	return since != 0 && c.srv.moment()-since >= int64(d)
}
