package server

import (
	"context"
	"time"
)

// heartParts is into how many parts a ping interval is cut: connections are
// pinged in turn, not all at once.
const heartParts = 10

// beat pings connections, drops silent ones, and evicts idle documents, until
// ctx ends.
func (s *Server) beat(ctx context.Context) {
	ticker := time.NewTicker(s.opt.Ping / heartParts)
	defer ticker.Stop()
	for part := uint64(0); ; part = (part + 1) % heartParts {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, c := range s.peers.all() {
				if uint64(c.id)%heartParts == part {
					s.checkLife(ctx, c)
				}
			}
			if part == 0 {
				s.docs.sweep(now.Add(-s.opt.IdleAfter))
			}
		}
	}
}

// checkLife drops a connection that was pinged an interval ago and has neither
// answered nor moved a byte since, and pings it otherwise.
func (s *Server) checkLife(ctx context.Context, c *conn) {
	var moved int64
	if c.link != nil {
		moved = c.link.moved.Load()
	}
	if c.pinged && !c.ponged.Load() && moved == c.moved {
		s.log.Debug("dropping a silent connection", "conn", c.id)
		_ = c.ws.CloseNow()
		return
	}
	c.moved = moved
	if c.pinged && !c.ponged.Load() {
		return // a long frame is still on its way; the ping is behind it
	}
	c.pinged = true
	c.ponged.Store(false)
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		if c.ws.Ping(ctx) == nil { // ends when the connection does
			c.ponged.Store(true)
		}
	}()
}
