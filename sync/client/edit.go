package client

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
)

// newActor returns an actor that nobody has used. A client takes one whenever
// it starts: an actor's changes are numbered, and the same number must never
// stand on two changes. The log alone could not promise that, since a machine
// may come back with an older copy of it than the server has seen.
func newActor() crdt.ActorID {
	id := uuid.New()
	return crdt.ActorID(id[:])
}

// header begins a change of ours on top of all that is here.
func (k *keeper) header(now time.Time) crdt.Header {
	g := k.replica.graph()
	return crdt.Header{
		Deps: g.Tips(), Actor: k.actor, Seq: g.Seq(k.actor) + 1, StartOp: g.MaxOp() + 1, Time: now.Unix(),
	}
}

// edit makes a change and returns its hash when it is on disk, or, without a
// replica on disk, in memory.
func (c *Client) edit(ctx context.Context, make func(*keeper) (*crdt.Change, error)) (crdt.Hash, error) {
	var change *crdt.Change
	var err error
	if posted := c.postIn(ctx, func(k *keeper) {
		if change, err = make(k); err == nil {
			err = k.addLocal(change)
		}
	}); err == nil {
		err = posted
	}
	if err != nil {
		return crdt.Hash{}, err
	}
	return change.Hash, nil
}

// addLocal passes our own change through the gate that everybody else's pass.
func (k *keeper) addLocal(c *crdt.Change) error {
	out := k.replica.add(c, true)
	switch out.Status {
	case crdt.Accepted:
		return nil
	case crdt.Refused:
		return out.Refusal
	default:
		return fmt.Errorf("a change of our own does not fit: status %d", out.Status)
	}
}
