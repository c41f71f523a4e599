package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/store"
	"parley/sync/session"
)

// ask runs do with the document's machine, between its steps, and waits until
// it has run. What other servers had stored before it is there then, unless the store
// is away. It fails if the document cannot be loaded.
func (s *Server) ask(id crdt.DocumentID, do func(d *document)) error {
	if s.draining.Load() {
		return newProblem(http.StatusServiceUnavailable, codeNotStored, "the server is restarting: try again")
	}
	d := s.docs.open(id)
	done := make(chan bool, 1)
	d.post(posted{ask: func() {
		d.refresh()
		if !d.broken {
			do(d)
		}
		done <- !d.broken
	}})
	if !<-done {
		return newProblem(http.StatusServiceUnavailable, codeNotStored, "the document could not be read or stored: try again")
	}
	return nil
}

// write makes the machine take changes of the server's own in author's name.
// The document's goroutine calls it.
func (d *document) write(author transaction.Author, changes ...*crdt.Change) *crdt.Refusal {
	var refusal *crdt.Refusal
	d.out, refusal = d.machine.Write(d.now, author, changes, d.out)
	return refusal
}

// storeSettings queues new settings behind the changes made before. Nobody is
// shown them before they are on disk.
func (d *document) storeSettings(settings []byte) {
	d.newSettings = settings
	n := d.ask()
	d.stepWith(&session.SettingsComingInput{})
	d.perform() // the changes before
	d.srv.docs.pin(d)
	upTo := d.machine.Graph().Len() // all queued before this, on disk before it
	base := d.base(upTo)
	d.came.Settings++
	d.srv.store.Append(store.Batch{Document: d.id, Base: base, Settings: settings, Chain: d.chain, Done: func(err error) {
		d.post(posted{settled: &settled{n: n, upTo: upTo, settings: settings, err: err}})
	}})
}

// takeSettings makes settings that are on disk those of the transaction.
func (d *document) takeSettings(stored []byte) {
	settings, err := readSettings(stored)
	if err != nil {
		panic("server: settings of our own: " + err.Error())
	}
	d.settings = stored
	d.stepWith(&session.SettingsInput{Settings: settings})
}

// barrier calls done when everything asked of the store for this document is on
// disk, or with why it is not.
func (d *document) barrier(done func(error)) {
	d.perform()
	d.srv.store.Append(store.Batch{Document: d.id, Chain: d.chain, Done: done})
}

// wait waits for what barrier was given, as long as ctx lasts.
func waitStored(ctx context.Context, stored <-chan error) error {
	select {
	case err := <-stored:
		switch {
		case errors.Is(err, store.ErrBehind):
			return err
		case err != nil:
			return errNotStored
		}
		return nil
	case <-ctx.Done():
		return newProblem(http.StatusServiceUnavailable, codeNotStored, "this cannot be stored now, and may be later: look how the transaction is before you try again")
	}
}

// accepted returns the transaction as all accepted changes make it, on disk or
// not: what new changes build on. The document's goroutine calls it; what it
// returns is valid there, until the next step.
func (d *document) accepted() (*transaction.State, error) {
	state, err := d.machine.Transaction()
	if err != nil || state != nil {
		return state, err
	}
	if d.machine.Graph().Len() > 0 {
		return nil, newProblem(http.StatusConflict, codeConflict, "the document of this id is not a transaction")
	}
	return nil, errNoTransaction
}

var errNoTransaction = newProblem(http.StatusNotFound, codeNotFound, "there is no such transaction: create it with POST /v1/transactions")

// stateOf returns the transaction as of heads, nil for all that is on disk:
// nobody hears of anything else. It is called and valid as accepted is.
func (d *document) stateOf(heads []crdt.Hash) (*transaction.State, error) {
	state, err := d.accepted()
	if err != nil {
		return nil, err
	}
	g := d.machine.Graph()
	if g.Durable() == 0 {
		return nil, errNoTransaction
	}
	if heads == nil {
		return d.machine.Durable()
	}
	if missing := g.Missing(heads); len(missing) > 0 {
		return nil, newProblem(http.StatusNotFound, codeNotFound, "this transaction has no change "+missing[0].String())
	}
	return state.AsOf(heads)
}

var errNotStored = newProblem(http.StatusServiceUnavailable, codeNotStored, "the transaction could not be stored: try again")

// storeWithin is how long a request waits for the disk.
const storeWithin = 10 * time.Second
