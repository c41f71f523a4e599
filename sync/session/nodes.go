package session

import (
	"maps"
	"slices"
	"time"

	"parley/sync/presence"
	"parley/sync/wire"
)

// shared reports whether other nodes use the same store.
func (d *Document) shared() bool { return d.cfg.Presence.Node != presence.Node{} }

// fromNodes takes what has to do with other nodes of the same store.
func (d *Document) fromNodes(now time.Time, in Input, out []Output) []Output {
	if !d.shared() {
		return out
	}
	switch in := in.(type) {
	case *ElsewhereInput:
		if d.room == nil {
			d.keepElsewhere(in)
			return out
		}
		return d.inRoom(now, in.read(), out)
	case *SilentInput:
		delete(d.elsewhere, in.Node)
		return d.inRoom(now, presence.Silent{Node: in.Node}, out)
	case *PublishedInput:
		return d.inRoom(now, presence.Published{N: in.N, Unstored: in.Unstored}, out)
	case *ForgottenInput:
		return d.inRoom(now, presence.Forgotten{}, out)
	case *RelayedInput:
		return d.relayed(now, in, out)
	}
	return out
}

// read is what the room is told of a row.
func (in *ElsewhereInput) read() presence.Elsewhere {
	e := presence.Elsewhere{Node: in.Node, Seq: in.Seq}
	if in.Data == nil {
		return e
	}
	attendance, err := presence.DecodeAttendance(in.Data)
	e.Attendance, e.Unreadable = attendance, err != nil
	return e
}

// keepElsewhere keeps a row until there is a room.
func (d *Document) keepElsewhere(in *ElsewhereInput) {
	if was, ok := d.elsewhere[in.Node]; ok && in.Seq != 0 && in.Seq <= was.Seq {
		return
	}
	if d.elsewhere == nil {
		d.elsewhere = make(map[presence.Node]*ElsewhereInput)
	}
	d.elsewhere[in.Node] = in
}

// tellElsewhere tells a new room what was kept.
func (d *Document) tellElsewhere(now time.Time, out []Output) []Output {
	if d.room == nil {
		return out
	}
	for _, node := range slices.SortedFunc(maps.Keys(d.elsewhere), presence.Node.Compare) {
		out = d.inRoom(now, d.elsewhere[node].read(), out)
	}
	d.elsewhere = nil
	return out
}

// Elsewhere returns the rows of other nodes that the document goes by, each with its
// number: those that were heard of, are not deleted, and whose nodes are not silent.
func (d *Document) Elsewhere() map[presence.Node]uint64 {
	if d.room != nil {
		return d.room.Relies()
	}
	rows := make(map[presence.Node]uint64, len(d.elsewhere))
	for node, in := range d.elsewhere {
		if in.Data != nil {
			rows[node] = in.Seq
		}
	}
	return rows
}

func publish(p presence.Publish) Publish {
	if p.Attendance == nil {
		return Publish{N: p.N}
	}
	return Publish{N: p.N, Data: p.Attendance.Encode()}
}

// relayed takes a message from another node. What it does not know is of a later
// version.
func (d *Document) relayed(now time.Time, in *RelayedInput, out []Output) []Output {
	if !d.cfg.PlainDocuments && d.matter.kind != matterTransaction {
		return out
	}
	decoded, err := wire.Decode(in.Data, wire.Limits{Frame: d.cfg.Limits.Frame})
	if err != nil {
		return out
	}
	switch m := decoded.(type) {
	case *wire.Ephemeral:
		return d.relayedEphemeral(m, out)
	case *wire.RemoteSubscriptionChange:
		return d.subscribedElsewhere(m, out)
	case *wire.RemoteHeadsChanged:
		return d.headsElsewhere(now, m, out)
	}
	return out
}

// relayedEphemeral hands an ephemeral message from another node to every peer, but not
// to a connection that its author has left for that node.
func (d *Document) relayedEphemeral(m *wire.Ephemeral, out []Output) []Output {
	if m.DocumentID != d.id {
		return out
	}
	for _, p := range d.order {
		if p.ID == m.SenderID || !d.served(p.Peer) {
			continue
		}
		m.TargetID = p.ID
		out = append(out, Send{Conn: p.Conn, Frame: wire.Append(nil, m), Droppable: true})
	}
	return out
}
