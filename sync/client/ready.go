package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"parley/crdt"
	"parley/sync/presence"
)

// CodeLapsed is why Ready fails when a change came between the server's taking
// note and our hearing of it.
const CodeLapsed crdt.Code = "lapsed"

// errTakenBack ends a Ready that Unready or another Ready has overtaken.
var errTakenBack = errors.New("it was taken back before the server had taken note of it")

// stalledMessage is said of what is stale because the server keeps changes that it
// shows to nobody before they are on its disk.
const stalledMessage = "the server cannot save now, and has changes that it shows nobody before it has: confirm when it saves again"

// NotReadyError is why somebody is not ready: the server refused it with one of
// presence's codes, or it lapsed at once.
type NotReadyError struct {
	Code    crdt.Code
	Message string          // a sentence for people
	Fields  []string        // that it was refused for
	Because *presence.Cause // of a lapse
}

func (e *NotReadyError) Error() string { return e.Message }

// readiness is what our user has confirmed. The zero value is nothing.
type readiness struct {
	heads     []crdt.Hash // nil: nothing
	say       bool        // the server is to be told
	asked     bool        // it was, on this connection
	said      bool        // it may know, from whatever connection
	shown     bool        // and has shown us ready there
	confirmed bool        // or on an earlier one
	waiters   []chan error
}

// end forgets what was confirmed, and tells why.
func (r *readiness) end(why error) {
	r.answer(why)
	*r = readiness{}
}

func (r *readiness) answer(err error) {
	for _, w := range r.waiters {
		w <- err
	}
	r.waiters = nil
}

// Ready confirms, in the user's name, what is at exactly these heads: those of
// the [View] that the user has seen. It waits until the server has taken note of
// it, first bringing it what was picked here. It fails with a *NotReadyError if
// the server refuses, or if that is not what there is any more; and when ctx ends,
// which takes it back.
//
// A confirmation that the server has taken note of stands until it is taken back,
// or a change undoes it ([Client.OnLapse]): over a lost connection, and a restart
// of the server, if nothing has changed.
func (c *Client) Ready(ctx context.Context, heads []crdt.Hash) error {
	if len(heads) == 0 {
		return errors.New("there is nothing to be ready for yet")
	}
	heads = crdt.SortHashes(slices.Clone(heads))
	done := make(chan error, 1)
	if err := c.postIn(ctx, func(k *keeper) { k.wantReady(heads, done) }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-c.kept:
		return ErrClosed
	case <-ctx.Done():
		if err := c.post(func(k *keeper) { k.giveUpWaiting(done) }); err != nil {
			return err
		}
		select {
		case err := <-done: // it came meanwhile
			return err
		default:
			return fmt.Errorf("wait for the server to take note: %w", ctx.Err())
		}
	}
}

// Unready takes back what was confirmed, on this and every other connection of
// the user. Without a connection the server hears of it when there is one; until
// then the user may be ready there, for the grace.
func (c *Client) Unready(ctx context.Context) error {
	return c.postIn(ctx, func(k *keeper) {
		k.people.ready.end(errTakenBack)
		k.takeBack()
	})
}

// takeBack tells the server that our user is not ready, now or on the next
// connection, until it has shown that it knows.
func (k *keeper) takeBack() {
	k.people.taken, k.people.sayUnready = true, k.talk != nil
	k.dirty = true
	k.wakeWriter()
}

// Focus tells the others at which field the user is, "" at none.
func (c *Client) Focus(field string) {
	_ = c.post(func(k *keeper) { // closed: nobody looks
		if k.people.field != field {
			k.people.field, k.people.sayField = field, k.talk != nil
			k.wakeWriter()
		}
	})
}

func (k *keeper) wantReady(heads []crdt.Hash, done chan error) {
	r := &k.people.ready
	if k.status.State == Offline {
		done <- offlineError(k.status.Err)
		return
	}
	if !slices.Equal(r.heads, heads) {
		said := r.said
		r.end(errTakenBack)
		r.heads = heads
		if said { // these may be refused, and then nothing is confirmed
			k.takeBack()
		}
	}
	if r.shown {
		done <- nil
		return
	}
	r.waiters = append(r.waiters, done)
	k.tendReady()
}

// giveUpWaiting takes back what was not confirmed in time.
func (k *keeper) giveUpWaiting(done chan error) {
	r := &k.people.ready
	if !slices.Contains(r.waiters, done) {
		return
	}
	if r.waiters = slices.DeleteFunc(r.waiters, func(w chan error) bool { return w == done }); len(r.waiters) == 0 && !r.confirmed {
		said := r.said
		*r = readiness{}
		if said {
			k.takeBack()
		}
	}
}

// giveUpReady answers those who wait when there will be no connection.
func (k *keeper) giveUpReady(why error) {
	if len(k.people.ready.waiters) > 0 {
		k.people.ready.end(offlineError(why))
	}
}

func offlineError(why error) error {
	return errors.Join(errors.New("there is no connection to the server"), why)
}

// tendReady brings what the user has confirmed to the server, when the server has
// all that is here and we have all that it has: unless that is not what the user
// has seen.
func (k *keeper) tendReady() {
	r, g := &k.people.ready, k.replica.graph()
	if r.heads == nil || r.asked || k.talk == nil || !k.talk.current(g) || len(k.replica.unsaved()) > 0 {
		return
	}
	if slices.Equal(r.heads, g.Heads()) {
		r.say, r.asked = true, true
		k.wakeWriter()
		return
	}
	if !r.confirmed {
		r.end(&NotReadyError{Code: presence.CodeStale, Message: "the transaction has changed since: look at it as it is now, and confirm that"})
		return
	}
	because := k.causeSince(r.heads)
	k.people.noteLapse(k.people.user, because)
	r.end(nil)
}

// causeSince finds the change that undid what was confirmed while we were away.
func (k *keeper) causeSince(heads []crdt.Hash) (because presence.Cause) {
	g := k.replica.graph()
	for _, i := range g.Since(heads) {
		events := k.replica.state.EventsOf(g.HashAt(i))
		if because.Change == (crdt.Hash{}) {
			because.Change = g.HashAt(i)
		}
		if len(events) > 0 {
			return presence.Cause{Field: events[0].Field, User: events[0].User, Change: g.HashAt(i)}
		}
	}
	return because
}

// confirmedSince reports whether a change was part of what is confirmed, and so
// does not undo it: the server may say after the change what it undid.
func (k *keeper) confirmedSince(change crdt.Hash) bool {
	r, g := &k.people.ready, k.replica.graph()
	i, here := g.Index(change)
	return r.heads != nil && here && !slices.Contains(g.Since(r.heads), i)
}

// checkReady compares what the server says of us with what we asked for.
func (k *keeper) checkReady() {
	p := &k.people
	r := &p.ready
	me, here := p.me()
	isReady := here && me.Ready
	if p.taken && !p.sayUnready && !isReady {
		p.taken = false
	}
	asked := r.heads != nil && r.asked && !r.say
	same := slices.Equal(p.roster.Heads, r.heads)
	switch {
	case !asked || !same && !r.shown:
		return
	case !same: // and we were not told
		var because presence.Cause
		if me.Lapsed != nil {
			because = *me.Lapsed
		}
		k.takeLapse(&presence.Lapsed{User: p.user, Because: because})
	case isReady:
		r.shown, r.confirmed = true, true
		p.taken = false
		r.answer(nil)
	case r.shown:
		r.end(nil) // taken back on another connection of ours
	}
}

// refusedMessage takes note that the server refused something that we said.
func (k *keeper) refusedMessage(m *presence.Rejected) {
	r := &k.people.ready
	if m.Of != "ready" || !slices.Equal(m.Heads, r.heads) {
		k.log.Info("the server refused a message", "of", m.Of, "code", m.Code, "message", m.Message)
		return
	}
	if r.confirmed && m.Code == presence.CodeStale { // what came between is on its way to us
		r.asked = false
		return
	}
	message := m.Message
	if m.Code == presence.CodeStale && k.people.roster != nil && k.people.roster.Stalled {
		message = stalledMessage
	}
	r.end(&NotReadyError{Code: m.Code, Message: message, Fields: m.Fields})
}
