package client

import (
	"context"
	"slices"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// View is the client's state at one moment. Views are values of their own: what
// they hold is not to be modified, and does not change.
type View struct {
	Heads      []crdt.Hash                  // of the replica; sorted
	Fields     map[string]transaction.Field // by name
	Selections []transaction.Selection      // by field
	Contested  []string                     // fields with several live picks; sorted
	Missing    []string                     // required fields for which nothing is picked; sorted

	Synced Synced
	Status Status
	// Roster is who is here and how it stands, as the server last said; nil before
	// it has. While the client is not online it is as old as the connection. It is
	// shared and not to be modified.
	Roster *presence.Roster
	// Ready is what the user has confirmed and the server has taken note of, and
	// what is restored after a lost connection if nothing has changed; nil: nothing.
	Ready []crdt.Hash
	// TakenBack: the user took back what was confirmed, and the server, which shows
	// them ready still, has not heard of it or cannot tell it yet.
	TakenBack bool
	// Lapses are the confirmations, anybody's, that changes undid since the client
	// was opened, oldest first, the newest 100.
	Lapses []Lapse
	// Resolutions are the agreements that the server told of, oldest first, the
	// newest 100. Roster holds the one over its heads.
	Resolutions []presence.Resolution
	// Rejections are the changes that the server refused since the client was
	// opened, oldest first, the newest 100.
	Rejections []Rejection
}

// Stalled reports whether the server has said that nothing gets to its disk at the
// moment: what it is sent it keeps, and stores and acknowledges when it can.
func (v View) Stalled() bool {
	return v.Status.State == Online && v.Roster != nil && v.Roster.Stalled
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
	v := k.content()
	v.Synced, v.Status, v.Rejections = k.synced, k.status, slices.Clone(k.rejections)
	k.people.show(&v)
	k.publish(v)
	k.shown = v
	for w := range k.watchers {
		select { // what was not looked at is out of date; only we send here
		case <-w:
		default:
		}
		w <- v
	}
}

// content is what the document says, read only if it has changed.
func (k *keeper) content() View {
	heads, state := k.replica.graph().Heads(), k.replica.state
	if len(heads) > 0 && slices.Equal(heads, k.shown.Heads) {
		return k.shown
	}
	return View{
		Heads: heads, Fields: state.Fields(), Selections: state.Selections(),
		Contested: state.Contested(), Missing: state.Missing(),
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

// Fields returns the fields by name, as the host wrote them.
func (c *Client) Fields() map[string]transaction.Field { return c.View().Fields }

// Selections returns what was picked, ordered by field: the winner of each, and
// what it is contested by.
func (c *Client) Selections() []transaction.Selection { return c.View().Selections }

// Missing returns the required fields for which nothing is picked, sorted.
func (c *Client) Missing() []string { return c.View().Missing }

// Synced says what the server has of ours.
func (c *Client) Synced() Synced { return c.View().Synced }

// Status says how the client stands with the server.
func (c *Client) Status() Status { return c.View().Status }

// History returns every pick ever made, every withdrawal, and what hosts did to
// fields, in an order that is the same on every replica.
func (c *Client) History() ([]transaction.Event, error) {
	var all []transaction.Event
	err := c.post(func(k *keeper) { all = k.replica.state.History() })
	return all, err
}

// AsOf returns the transaction as it was at heads, which may be any changes
// that are here. The state is the caller's.
func (c *Client) AsOf(heads []crdt.Hash) (*transaction.State, error) {
	var then *transaction.State
	var err error
	if posted := c.post(func(k *keeper) { then, err = k.replica.state.AsOf(heads) }); posted != nil {
		return nil, posted
	}
	return then, err
}

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

// User returns whose replica it is.
func (c *Client) User() string { return c.opt.User }

// Participants returns who is here, by user, as the server last said.
func (c *Client) Participants() []presence.Participant {
	if r := c.View().Roster; r != nil {
		return slices.Clone(r.Participants)
	}
	return nil
}

// OnLapse calls do for every confirmation that a change undoes, the user's own
// and others', and first for those since the client was opened. The calls come
// one after the other from a goroutine of their own, and end when stop is called
// or the client is closed; do must not call Close, which waits for it.
func (c *Client) OnLapse(do func(Lapse)) (stop func()) {
	last := 0
	return c.follow(func(v View) {
		for _, l := range v.Lapses {
			if l.N > last {
				last = l.N
				do(l)
			}
		}
	})
}

// OnResolved calls do for every agreement of the parties that the server tells
// of; otherwise it is as OnLapse.
func (c *Client) OnResolved(do func(presence.Resolution)) (stop func()) {
	last := 0
	return c.follow(func(v View) {
		for _, r := range v.Resolutions {
			if r.N > last {
				last = r.N
				do(r)
			}
		}
	})
}

// follow calls see with every state, in a goroutine that ends with stop or Close.
func (c *Client) follow(see func(View)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	_ = c.post(func(*keeper) { // closed: there is nothing to see
		c.following.Go(func() {
			for v := range c.Watch(ctx) {
				see(v)
			}
			cancel()
		})
	})
	return cancel
}
