package servertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// Visitor says who opens a transaction, and from where.
type Visitor struct {
	URL  string       // ws:// of a server that believes what it is told, or has Token
	Via  *http.Client // how to get there; nil: as the URL says
	User string
	// Token, if not empty, is all that the server is told.
	Token string
	Role  transaction.Role // party if empty
	Peer  wire.PeerID      // a fresh one if empty
	// LastOnly keeps of what the server says only the last.
	LastOnly bool
}

// Party is one client of a user who has a transaction open. Its methods belong
// to one goroutine.
type Party struct {
	*Client
	Visitor
	ID  transaction.ID
	Doc *Document

	actor   crdt.ActorID
	session wire.SessionID
	count   uint64
	heard   int // how much of what it was told [Party.Await] has passed
	read    int // how much of it refused holds
	refused map[crdt.Hash]crdt.Code
}

// Enter opens a transaction: a request for it is on its way to the server.
func (v Visitor) Enter(ctx context.Context, id transaction.ID) (*Party, error) {
	if v.Role == "" {
		v.Role = transaction.Party
	}
	if v.Peer == "" {
		v.Peer = wire.PeerID("test-" + uuid.NewString())
	}
	p := &Party{Visitor: v, ID: id, actor: crdt.ActorID(newActor()), refused: make(map[crdt.Hash]crdt.Code)}
	p.Doc = &Document{ID: id.Document(), held: make(map[crdt.Hash]*crdt.Change), state: protocol.State{}, tx: transaction.New(id)}
	return p, p.Return(ctx)
}

// Return opens the transaction on a new connection, with what the client has of
// it: what the older connection has not been sent is lost.
func (p *Party) Return(ctx context.Context) error {
	if p.Client != nil {
		p.CloseNow()
	}
	query := url.Values{"user": {p.User}, "role": {string(p.Role)}}
	switch {
	case p.Token != "":
		query = url.Values{"token": {p.Token}}
	case p.User == "":
		query = nil
	}
	c, err := ConnectVia(ctx, p.URL+"/?"+query.Encode(), p.Via)
	if err != nil {
		return err
	}
	c.lastOnly = p.LastOnly
	p.Client, p.session, p.count, p.heard, p.read = c, wire.SessionID(uuid.NewString()), 0, 0, 0
	if err := c.Join(ctx, p.Peer); err != nil {
		return err
	}
	return c.Adopt(ctx, p.Doc)
}

// Say sends a message to the server.
func (p *Party) Say(ctx context.Context, m presence.Message) error {
	p.count++
	return p.Send(ctx, &wire.Ephemeral{
		SenderID: p.PeerID, TargetID: p.Server.SenderID, DocumentID: p.Doc.ID,
		Count: p.count, SessionID: p.session, Data: presence.Encode(m),
	})
}

// Ready confirms what the client's copy holds, and returns its heads.
func (p *Party) Ready(ctx context.Context) ([]crdt.Hash, error) {
	heads := p.Doc.Heads()
	return heads, p.Say(ctx, presence.Ready{Heads: heads})
}

// Imitate makes p write as the same actor as another client.
func (p *Party) Imitate(other *Party) { p.actor = other.actor }

// Pick makes one change that picks a value, given as JSON, sends it, and returns
// its hash.
func (p *Party) Pick(ctx context.Context, field, value string) (crdt.Hash, error) {
	p.mu.Lock()
	hash, m, err := p.Doc.pick(p.actor, p.User, field, value)
	p.mu.Unlock()
	if err != nil || m == nil {
		return hash, err
	}
	return hash, p.Send(ctx, p.Doc.frame(m))
}

func (d *Document) pick(actor crdt.ActorID, user, field, value string) (hash crdt.Hash, m *protocol.Message, err error) {
	edit := d.tx.Edit(actor, user, time.Now())
	if err := edit.Pick(field, json.RawMessage(value), ""); err != nil {
		return hash, nil, err
	}
	change, err := edit.Change()
	if err != nil {
		return hash, nil, err
	}
	if hash, err = d.add(change.Chunk()); err != nil {
		return hash, nil, err
	}
	if m, ok := d.state.Generate(&d.graph, protocol.Options{}); ok {
		return hash, m, nil
	}
	return hash, nil, nil // it follows the server's next message
}

// Told is a message of the server's about the transaction, and when it came.
type Told struct {
	At      time.Time
	Message any // as presence.DecodeDown returns it
}

// Told returns all that the server has said on this connection, in its order.
func (p *Party) Told() ([]Told, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Told
	for i, m := range p.ephemeral {
		message, err := presence.DecodeDown(m.Data)
		if err != nil {
			return nil, err
		}
		all = append(all, Told{p.arrived[i], message})
	}
	return all, nil
}

// Roster returns the last roster of this connection, nil if there was none.
func (p *Party) Roster() *presence.Roster {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roster()
}

func (p *Party) roster() *presence.Roster {
	for _, m := range slices.Backward(p.ephemeral) {
		if message, err := presence.DecodeDown(m.Data); err == nil {
			if roster, ok := message.(*presence.Roster); ok {
				return roster
			}
		}
	}
	return nil
}

// Await waits for a message that cond holds for, among those after the one that
// the last call has returned.
func (p *Party) Await(ctx context.Context, what string, cond func(message any) bool) (any, error) {
	for {
		message, err := p.next(ctx, what)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; the last roster: %+v", p.User, err, p.Roster())
		}
		if cond(message) {
			return message, nil
		}
	}
}

// next waits for what the server says after all that was looked at.
func (p *Party) next(ctx context.Context, what string) (any, error) {
	err := p.Wait(ctx, what, func() bool {
		p.heard = max(p.heard, p.forgotten)
		return p.heard < p.forgotten+len(p.ephemeral)
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = max(p.heard, p.forgotten) + 1
	return presence.DecodeDown(p.ephemeral[p.heard-1-p.forgotten].Data)
}

// AwaitRoster waits as [Party.Await] does, for a roster.
func (p *Party) AwaitRoster(ctx context.Context, what string, cond func(*presence.Roster) bool) (*presence.Roster, error) {
	found, err := p.Await(ctx, what, func(message any) bool {
		roster, ok := message.(*presence.Roster)
		return ok && cond(roster)
	})
	if err != nil {
		return nil, err
	}
	return found.(*presence.Roster), nil
}

// AwaitTold waits as [Party.Await] does, for a message of one kind.
func AwaitTold[M any](ctx context.Context, p *Party) (m M, err error) {
	found, err := p.Await(ctx, fmt.Sprintf("a %T", m), func(message any) bool {
		_, ok := message.(M)
		return ok
	})
	if err != nil {
		return m, err
	}
	return found.(M), nil
}

// In returns the participant that a user is in a roster, nil if none.
func In(roster *presence.Roster, user string) *presence.Participant {
	i := slices.IndexFunc(roster.Participants, func(p presence.Participant) bool { return p.User == user })
	if i < 0 {
		return nil
	}
	return &roster.Participants[i]
}

// RefusedLocked reports whether the server has refused a change with a code, for
// a condition of [Client.Wait].
func (p *Party) RefusedLocked(h crdt.Hash, code crdt.Code) bool {
	for ; p.read < p.forgotten+len(p.ephemeral); p.read++ {
		message, _ := presence.DecodeDown(p.ephemeral[p.read-p.forgotten].Data)
		if rejected, ok := message.(*presence.Rejected); ok {
			for _, refused := range rejected.Changes {
				p.refused[refused] = rejected.Code
			}
		}
	}
	return p.refused[h] == code
}

// Goodbye takes leave as automerge-repo's clients do, and waits for the end.
func (p *Party) Goodbye(ctx context.Context) error {
	if err := p.Send(ctx, &wire.Leave{SenderID: p.PeerID}); err != nil {
		return err
	}
	_, err := p.Ended(ctx)
	return err
}

// Dependencies returns what a change of the copy follows on.
func (d *Document) Dependencies(h crdt.Hash) ([]crdt.Hash, error) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	i, ok := d.graph.Index(h)
	if !ok {
		return nil, fmt.Errorf("there is no change %s", h)
	}
	change, err := crdt.DecodeChange(d.graph.ChunkAt(i), crdt.Limits{})
	if err != nil {
		return nil, err
	}
	return change.Deps, nil
}
