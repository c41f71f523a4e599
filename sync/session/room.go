package session

import (
	"maps"
	"slices"
	"time"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/wire"
)

// openRoom makes a transaction's room, as soon as there is something on disk that
// it can be about.
func (d *Document) openRoom() {
	if d.room == nil && d.matter.kind == matterTransaction && d.Graph().Durable() > 0 {
		d.subject = &subject{d: d}
		d.room = presence.New(d.cfg.Presence, d.subject, d.settings, d.resolutions)
	}
}

// Occupied reports whether somebody is in the transaction, or expected back. The
// document must stay in memory for that long.
func (d *Document) Occupied() bool { return d.room != nil && !d.room.Empty() }

// Census counts who is in the transaction.
func (d *Document) Census() presence.Census {
	if d.room == nil {
		return presence.Census{}
	}
	return d.room.Census()
}

// Resolutions returns a transaction's resolutions that are on disk, in the order
// in which they were made. They are not to be modified.
func (d *Document) Resolutions() []presence.Resolution { return d.resolutions }

// Sealing reports whether a resolution is on its way to the disk. What was
// refused because of it must not be told before it is there.
func (d *Document) Sealing() bool { return d.sealing != nil }

// arrived is what the room is told of a peer.
func (p *peer) arrived() presence.Arrived {
	return presence.Arrived{Conn: presence.Conn(p.Conn), Peer: string(p.ID), Person: p.Person}
}

// inRoom steps the room, if there is one.
func (d *Document) inRoom(now time.Time, in presence.Input, out []Output) []Output {
	if d.room == nil {
		return out
	}
	d.roomOut = d.room.Step(now, in, d.roomOut[:0])
	for _, o := range d.roomOut {
		switch o := o.(type) {
		case presence.Send:
			out = d.announce(o, out)
		case presence.Resolve:
			d.sealing = &o.Resolution
			out = append(out, Seal{o.Resolution, o.Relies})
		case presence.Publish:
			out = append(out, publish(o))
		}
	}
	clear(d.roomOut)
	return out
}

// announce sends a message of the room's to one peer or to all.
func (d *Document) announce(m presence.Send, out []Output) []Output {
	for _, p := range d.order {
		if m.To == 0 || m.To == presence.Conn(p.Conn) {
			out = append(out, Send{Conn: p.Conn, Frame: d.message(p, m.Data), Droppable: true})
		}
	}
	return out
}

// repeat tells a connection anew what frames that were dropped may have told it:
// how it stands, and what it subscribed to.
func (d *Document) repeat(now time.Time, conn ConnID, out []Output) []Output {
	p, ok := d.peers[conn]
	if !ok {
		return out
	}
	for _, store := range slices.Sorted(maps.Keys(p.remotes)) {
		if heads, known := d.remote[store]; known {
			out = append(out, d.tellRemoteHeads(p, heads))
		}
	}
	return d.inRoom(now, presence.Heard{Conn: presence.Conn(conn), Message: presence.Ask{}}, out)
}

// hear takes a message of a client's that is addressed to us.
func (d *Document) hear(now time.Time, p *peer, m presence.Message, out []Output) []Output {
	if d.room == nil {
		refusal := presence.Rejected{Of: presence.Kind(m), Code: codeNoTransaction, Message: "there is no such transaction here, or not yet"}
		return append(out, Send{Conn: p.Conn, Frame: d.message(p, refusal.Encode()), Droppable: true})
	}
	return d.inRoom(now, presence.Heard{Conn: presence.Conn(p.Conn), Message: m}, out)
}

// codeNoTransaction answers a message about a document that is none, or none yet.
const codeNoTransaction crdt.Code = "no-transaction"

// advance tells the room of the changes from first on, which are now on disk.
func (d *Document) advance(now time.Time, first int, out []Output) []Output {
	if d.room == nil {
		d.openRoom()
		if d.learning {
			out = d.inRoom(now, presence.Learning{}, out)
		}
		out = d.tellElsewhere(now, out) // before anybody arrives
		for range d.coming {            // as they do when a transaction is created
			out = d.inRoom(now, presence.Setting{}, out)
		}
		for _, p := range d.order {
			p.told = p.synced // it is told now what there is
			out = d.inRoom(now, p.arrived(), out)
			out = d.refuseUnsent(p, p.state.TheirHeads, out) // named before it was known what this is
		}
		return d.tellRefusals(out)
	}
	if first == d.Graph().Durable() {
		return out
	}
	var because presence.Cause
	if d.room.AnyReady() {
		because = d.cause(first)
	}
	return d.inRoom(now, presence.Advanced{Because: because}, out)
}

// cause returns the first change from first on that did something to a field, or
// else the first.
func (d *Document) cause(first int) presence.Cause {
	g := d.Graph()
	cause := presence.Cause{User: d.users[first], Change: g.HashAt(first)}
	state, err := d.matter.transaction(d)
	if err != nil {
		return cause
	}
	for i := first; i < g.Durable(); i++ {
		if events := state.EventsOf(g.HashAt(i)); len(events) > 0 {
			return presence.Cause{Field: events[0].Field, User: d.users[i], Change: g.HashAt(i)}
		}
	}
	return cause
}

// isSealed reports whether an agreement locks the transaction as it is.
func (d *Document) isSealed() bool {
	return d.room != nil && d.Settled() && d.room.Sealed(d.Graph().Heads())
}

// sealed takes note that a resolution is on disk: this is where it can be told,
// and what was refused because of it.
func (d *Document) sealed(now time.Time, checkpoint string, out []Output) []Output {
	if d.sealing == nil {
		return out
	}
	d.sealing.Checkpoint = checkpoint
	d.resolutions = append(d.resolutions, *d.sealing)
	d.sealing = nil
	out = d.inRoom(now, presence.Stored{Checkpoint: checkpoint}, out)
	return d.tellRefusals(out)
}

// subject is the document as its room sees it. It reads what is contested and
// missing once for the same heads.
type subject struct {
	d                  *Document
	heads              []crdt.Hash // of what follows; nil: nothing was read
	contested, missing []string
	unreadable         bool
}

// Heads implements presence.Subject.
func (s *subject) Heads() []crdt.Hash { return s.d.Graph().Heads() }

// Settled implements presence.Subject. A document that cannot be read never is:
// nobody can be ready for it.
func (s *subject) Settled() bool { return s.d.Settled() && !s.unreadable }

// Past implements presence.Subject.
func (s *subject) Past(heads []crdt.Hash) bool { return len(s.d.Graph().Missing(heads)) == 0 }

// Known implements presence.Subject.
func (s *subject) Known() bool {
	return s.d.matter.state != nil && s.d.Settled() || s.isCurrent()
}

// Contested implements presence.Subject.
func (s *subject) Contested() []string {
	s.read()
	return s.contested
}

// Missing implements presence.Subject.
func (s *subject) Missing() []string {
	s.read()
	return s.missing
}

// isCurrent reports whether what was read is of what is on disk.
func (s *subject) isCurrent() bool {
	return s.heads != nil && slices.Equal(s.d.Graph().Heads(), s.heads)
}

func (s *subject) read() {
	heads := s.d.Graph().Heads()
	if s.isCurrent() {
		return
	}
	state, err := s.d.matter.durable(s.d)
	s.heads, s.unreadable = heads, err != nil
	if err == nil {
		s.contested, s.missing = state.Contested(), state.Missing()
	}
}

// message is a frame with a message of Parley's own.
func (d *Document) message(p *peer, data []byte) []byte {
	d.count++
	return wire.Append(nil, &wire.Ephemeral{
		SenderID: d.cfg.Self, TargetID: p.ID, DocumentID: d.id,
		Count: d.count, SessionID: d.session, Data: data,
	})
}
