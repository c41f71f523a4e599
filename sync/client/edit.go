package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Pick puts a value, given as JSON, at a field, in the name of one of the
// field's options or of none (""). It returns the change when it is kept: on
// disk, if the replica is. Whether the server has it, [Client.Synced] says.
func (c *Client) Pick(ctx context.Context, field string, value json.RawMessage, option string) (crdt.Hash, error) {
	return c.Edit(ctx, func(e *transaction.Edit) error { return e.Pick(field, value, option) })
}

// PickOption is Pick with the value of one of the field's options as it is here.
func (c *Client) PickOption(ctx context.Context, field, option string) (crdt.Hash, error) {
	o, ok := c.Fields()[field].Options[option]
	if !ok {
		return crdt.Hash{}, fmt.Errorf("field %q has no option %q", field, option)
	}
	return c.Pick(ctx, field, o.Value, option)
}

// Withdraw takes back what is picked for a field, whoever picked it. It fails
// with transaction.ErrNothingPicked.
func (c *Client) Withdraw(ctx context.Context, field string) (crdt.Hash, error) {
	return c.Edit(ctx, func(e *transaction.Edit) error { return e.Withdraw(field) })
}

// SetFields puts the fields that differ from what is there, as hosts may, in as many
// changes as they take ([transaction.Parts]), and returns the last. It fails with
// transaction.ErrNothingToDo if no field differs; after another error those before
// it, in the order of their names, may be there.
func (c *Client) SetFields(ctx context.Context, fields map[string]transaction.Field) (last crdt.Hash, err error) {
	none := true
	for _, part := range transaction.Parts(fields, transaction.PartOps) {
		h, err := c.Edit(ctx, func(e *transaction.Edit) error { return e.SetFields(part) })
		switch {
		case errors.Is(err, transaction.ErrNothingToDo):
			continue
		case err != nil:
			return last, err
		}
		last, none = h, false
	}
	if none {
		return last, transaction.ErrNothingToDo
	}
	return last, nil
}

// Edit makes one change of what edit does, which stands or falls as a whole.
// edit must not keep its argument, nor call the client. A *crdt.Refusal says
// what the change has wrong, as the server would; ctx bounds the wait for our
// turn, not the writing, so that an error means that nothing was picked.
func (c *Client) Edit(ctx context.Context, edit func(*transaction.Edit) error) (crdt.Hash, error) {
	var h crdt.Hash
	var err error
	if posted := c.postIn(ctx, func(k *keeper) {
		h, err = k.edit(k.replica, time.Now(), edit)
	}); posted != nil {
		return crdt.Hash{}, posted
	}
	return h, err
}

// edit adds a change of ours to a replica.
func (k *keeper) edit(r *replica, at time.Time, edit func(*transaction.Edit) error) (crdt.Hash, error) {
	e := r.state.Edit(k.actor, r.owner.User, at)
	if err := edit(e); err != nil {
		return crdt.Hash{}, err
	}
	change, err := e.Change()
	if err != nil {
		return crdt.Hash{}, err
	}
	if k.role != "" {
		author := transaction.Author{User: r.owner.User, Role: k.role}
		if refusal := r.state.Check(change, author, func(crdt.ActorID) string { return "" }); refusal != nil {
			return crdt.Hash{}, refusal
		}
	}
	out := r.add(change, true)
	switch out.Status {
	case crdt.Accepted:
		return change.Hash, nil
	case crdt.Refused:
		return crdt.Hash{}, out.Refusal
	default:
		return crdt.Hash{}, fmt.Errorf("a change of our own does not fit: status %d", out.Status)
	}
}

// newActor returns an actor that nobody has used. A client takes one whenever
// it starts: an actor's changes are numbered, and the same number must never
// stand on two changes. The log alone could not promise that, since a machine
// may come back with an older copy of it than the server has seen.
func newActor() crdt.ActorID {
	id := uuid.New()
	return crdt.ActorID(id[:])
}
