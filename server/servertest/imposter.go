package servertest

import (
	"context"

	"parley/crdt"
	"parley/sync/wire"
)

// Actor is with which the party's changes are made.
func (p *Party) Actor() crdt.ActorID { return p.actor }

// Impersonate makes later changes with another's actor, or, if that is empty,
// in another's name.
func (p *Party) Impersonate(actor crdt.ActorID, user string) {
	if actor != "" {
		p.actor = actor
	}
	if user != "" {
		p.User = user
	}
}

// PickFrom is Pick in a frame that says another peer sent it.
func (p *Party) PickFrom(ctx context.Context, sender wire.PeerID, field, value string) (crdt.Hash, error) {
	p.mu.Lock()
	hash, m, err := p.Doc.pick(p.actor, p.User, field, value)
	p.mu.Unlock()
	if err != nil || m == nil {
		return hash, err
	}
	frame := p.Doc.frame(m)
	frame.SenderID = sender
	return hash, p.Send(ctx, frame)
}
