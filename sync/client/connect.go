package client

import (
	"context"
	"errors"
	"time"
)

// State is how the client stands with the server.
type State int

const (
	// Offline: nothing is tried, because there is no server to try, it refused
	// us for good, or the client is closed.
	Offline State = iota
	// Connecting: the first try, or the first that [Client.Reconnect] asked for.
	Connecting
	// Online: connected and joined.
	Online
	// Reconnecting: a try failed or the connection was lost; more tries follow.
	Reconnecting
)

// String returns the state in one lower-case word.
func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Online:
		return "online"
	case Reconnecting:
		return "reconnecting"
	}
	return "offline"
}

// Status is the state of the connection.
type Status struct {
	State State
	Since time.Time // when State began
	// NextTry is when a client that is reconnecting tries again; zero while it
	// tries.
	NextTry time.Time
	// Tries counts the tries that failed since it was last online.
	Tries int
	// Err is why the connection was lost or the last try failed: a
	// [*RefusedError] if the client has stopped trying, or waits for another token.
	// Nil while online.
	Err error
	// Unavailable: the server is there but says that it has no such transaction
	// for us. What we pick stays here.
	Unavailable bool
}

// connect keeps a connection to the server until ctx ends.
func (c *Client) connect(ctx context.Context) {
	var wait backoff
	status := Status{State: Connecting}
	for {
		c.setStatus(status)
		was := c.try(ctx)
		if ctx.Err() != nil {
			c.setStatus(Status{State: Offline})
			return
		}
		status.Err = was.err
		status.Tries++
		if was.joined {
			status.Tries = 0
			wait.lasted(was.lasted)
			c.forgetRetry()
		}
		status = c.pause(ctx, status, &wait)
		if ctx.Err() != nil {
			c.setStatus(Status{State: Offline})
			return
		}
	}
}

// forgetRetry drops a wish to connect that has come true since.
func (c *Client) forgetRetry() {
	select {
	case <-c.retry:
	default:
	}
}

// pause waits until it is time for the next try, and returns the status for it.
func (c *Client) pause(ctx context.Context, status Status, wait *backoff) Status {
	var tryAgain <-chan time.Time
	var refused *RefusedError
	if errors.As(status.Err, &refused) && c.refusal == nil {
		status.State, status.NextTry = Offline, time.Time{}
		c.log.Warn("the server refuses us: not trying again", "code", refused.Code, "reason", refused.Reason)
	} else {
		after := wait.next()
		status.State, status.NextTry = Reconnecting, time.Now().Add(after)
		c.log.Debug("trying to connect again", "after", after, "err", status.Err)
		timer := time.NewTimer(after)
		defer timer.Stop()
		tryAgain = timer.C
	}
	c.setStatus(status)
	select {
	case <-tryAgain:
		status.NextTry = time.Time{}
		return status
	case <-c.retry:
		*wait = backoff{}
		return Status{State: Connecting}
	case <-ctx.Done():
		return Status{State: Offline}
	}
}

// Reconnect makes the client try to connect now, if it is not online: instead
// of waiting for the next try, or although the server refused it before.
func (c *Client) Reconnect() {
	if c.Status().State == Online {
		return
	}
	select {
	case c.retry <- struct{}{}:
	default: // one is on its way
	}
}

// setStatus tells the keeper how the connection stands.
func (c *Client) setStatus(s Status) {
	_ = c.post(func(k *keeper) { k.setStatus(s) }) // closed: nobody looks
}
