package client

import (
	"context"
	"slices"
	"time"

	"parley/crdt"
)

// View is the client's state at one moment. Views are values of their own: what
// they hold is not to be modified, and does not change.
type View struct {
	Heads  []crdt.Hash // of the replica; sorted
	Synced Synced
	Status Status
	// Rejections are the changes that the server refused since the client was
	// opened, oldest first, the newest 100.
	Rejections []Rejection
}

// Synced says what the server has of ours, and we of its.
type Synced struct {
	// Saved: every change that was made here is durable on the server, as far
	// as it has told us.
	Saved   bool
	Since   time.Time // when Saved became what it is, or the client was opened
	Pending int       // changes that the server is not known to have
	// Current: the server has said what it has, on this connection, and all of
	// that is here.
	Current bool
}

// show makes the view anew and hands it to who watches.
func (k *keeper) show() {
	k.dirty = false
	k.noteSynced()
	v := View{
		Heads:      k.replica.graph().Heads(),
		Synced:     k.synced,
		Status:     k.status,
		Rejections: slices.Clone(k.rejections),
	}
	k.publish(v)
	for w := range k.watchers {
		select { // what was not looked at is out of date; only we send here
		case <-w:
		default:
		}
		w <- v
	}
}

func (k *keeper) noteSynced() {
	g := k.replica.graph()
	pending := 0
	for _, i := range k.replica.unsaved() {
		if g.HashAt(i) != k.genesis { // anybody can make it again
			pending++
		}
	}
	if saved := pending == 0; saved != k.synced.Saved || k.synced.Since.IsZero() {
		k.synced.Saved, k.synced.Since = saved, time.Now()
	}
	k.synced.Pending = pending
	k.synced.Current = k.talk != nil && k.talk.current(g)
}

// View returns the state as it is now.
func (c *Client) View() View { return *c.view.Load() }

// Heads returns the heads of the replica, sorted.
func (c *Client) Heads() []crdt.Hash { return c.View().Heads }

// Synced says what the server has of ours.
func (c *Client) Synced() Synced { return c.View().Synced }

// Status says how the client stands with the server.
func (c *Client) Status() Status { return c.View().Status }

// Watch returns a channel with the state as it is and then, whenever it has
// changed, as it is then. Who is slow misses what was in between, never the
// last. The channel is closed when ctx ends or the client is closed.
func (c *Client) Watch(ctx context.Context) <-chan View {
	w := make(chan View, 1)
	err := c.post(func(k *keeper) {
		k.watchers[w] = struct{}{}
		w <- c.View()
		k.dirty = true // what else this batch does is shown after it
	})
	if err != nil {
		w <- c.View()
		close(w)
		return w
	}
	context.AfterFunc(ctx, func() {
		_ = c.post(func(k *keeper) { // closed: so is the channel
			if _, ok := k.watchers[w]; ok {
				delete(k.watchers, w)
				close(w)
			}
		})
	})
	return w
}
