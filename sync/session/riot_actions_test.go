package session_test

import (
	"fmt"
	"slices"
	"time"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// step does what the program says next.
func (r *riot) step() {
	i := r.choose(len(r.conns))
	c := r.conns[i]
	if c.closed {
		r.connect(i)
		c = r.conns[i]
		r.send(c, wire.Append(nil, &wire.Join{SenderID: c.peer}))
	}
	switch action := r.choose(20); action {
	case 0:
		r.send(c, wire.Append(nil, &wire.Join{SenderID: c.peer}))
	case 1:
		r.send(c, wire.Append(nil, &wire.Request{SenderID: c.peer, TargetID: serverID, DocumentID: r.goods.id, Data: r.message(c).Append(nil)}))
	case 2, 3, 4:
		r.sync(c, r.message(c).Append(nil))
	case 5:
		m := r.message(c)
		m.Changes = append(m.Changes, r.bent(r.change().Chunk()))
		r.sync(c, m.Append(nil))
	case 6:
		m := r.message(c)
		m.Changes = append(m.Changes, r.goods.hostile[(r.choose(256)<<8|r.choose(256))%len(r.goods.hostile)])
		r.sync(c, m.Append(nil))
	case 7:
		r.sync(c, r.goods.messages[(r.choose(256)<<8|r.choose(256))%len(r.goods.messages)])
	case 8:
		r.send(c, r.goods.frames[(r.choose(256)<<8|r.choose(256))%len(r.goods.frames)])
	case 9:
		r.ephemeral(c, []byte{0xa1, 0x61, 'x', byte(r.choose(24))})
	case 10:
		r.ephemeral(c, presence.Encode(r.presence()))
	case 11:
		r.send(c, wire.Append(nil, r.other(c)))
	case 12:
		r.send(c, r.bentFrame(c.last))
	case 13: // as somebody else
		r.send(c, wire.Append(nil, &wire.Sync{SenderID: riotPeers[r.choose(len(riotPeers))].peer, DocumentID: r.goods.id, Data: r.message(c).Append(nil)}))
	case 14:
		r.write()
	case 15:
		r.now = r.now.Add(time.Duration(r.choose(64)) * time.Second)
		r.stepDocument(nil, &session.TickInput{})
	case 16:
		r.gone(c, r.choose(2) == 1)
	case 17:
		r.stepDocument(nil, &session.DroppedInput{Conn: c.id})
	case 18:
		r.doc.Rest()
	case 19:
		r.fail(r.choose(2) == 1)
	}
}

// change is one of the honest changes, as a rule the next that is not there.
func (r *riot) change() *crdt.Change {
	list := r.goods.changes
	next := slices.IndexFunc(list, func(c *crdt.Change) bool { return !r.doc.Graph().Accepted(c.Hash) })
	b := r.choose(256)
	if b%4 == 3 || next < 0 {
		return list[b/4%len(list)]
	}
	return list[min(next+b%2, len(list)-1)]
}

// message is one that an honest client could send, at some time.
func (r *riot) message(c *rioter) *protocol.Message {
	m := &protocol.Message{Version: protocol.V1}
	if n := r.choose(4); n > 0 {
		first := slices.Index(r.goods.changes, r.change())
		for _, c := range r.goods.changes[first:min(first+n, len(r.goods.changes))] {
			m.Changes = append(m.Changes, c.Chunk())
		}
	}
	if r.apart && c.peer == riotPeers[viewer].peer {
		m.Changes = nil
	}
	for range r.choose(3) {
		m.Heads = append(m.Heads, r.change().Hash)
	}
	crdt.SortHashes(m.Heads)
	switch r.choose(6) {
	case 1:
		m.Need = []crdt.Hash{r.change().Hash}
	case 2:
		m.Have = []protocol.Have{{LastSync: []crdt.Hash{r.change().Hash}}}
	case 3:
		m.Capabilities = protocol.Capabilities{2, 0x80 | byte(r.choose(8))}
	case 4:
		m.Heads = append(m.Heads, crdt.Hash{byte(r.choose(256))})
	case 5:
		m.Have = []protocol.Have{{}}
	}
	return m
}

// bent is a change with a byte of its body changed, its checksum made right.
func (r *riot) bent(chunk []byte) []byte {
	body := chunkBody(chunk)
	body[r.choose(256)%len(body)] ^= byte(1 << r.choose(8))
	return rechunk(body)
}

// bentFrame reads as much of the program whatever the frame is.
func (r *riot) bentFrame(frame []byte) []byte {
	frame = slices.Clone(frame)
	for range 1 + r.choose(3) {
		at, kind, value := r.choose(256)<<8|r.choose(256), r.choose(3), r.choose(256)
		if len(frame) == 0 {
			continue
		}
		at %= len(frame)
		switch kind {
		case 0:
			frame[at] ^= byte(1 << (value % 8))
		case 1:
			frame[at] = byte(value)
		default:
			frame = frame[:at]
		}
	}
	return frame
}

func (r *riot) presence() presence.Message {
	switch r.choose(7) {
	case 1:
		return presence.Ready{Heads: r.doc.Graph().Heads()}
	case 2:
		return presence.Ready{Heads: []crdt.Hash{r.change().Hash}}
	case 3:
		return presence.Unready{}
	case 4:
		return presence.Focus{Field: fmt.Sprint("field", r.choose(4))}
	case 5:
		return presence.Leave{}
	case 6:
		return presence.Ping{N: uint64(r.choose(256))}
	}
	return presence.Ask{}
}

// other is a message of another type, now and then as somebody else.
func (r *riot) other(c *rioter) wire.Message {
	store, as := wire.StorageID(fmt.Sprint("store", r.choose(3))), c.peer
	if b := r.choose(256); b%4 == 3 {
		as = riotPeers[b/4%len(riotPeers)].peer
	}
	switch r.choose(5) {
	case 1:
		return &wire.RemoteSubscriptionChange{SenderID: as, TargetID: serverID, Add: []wire.StorageID{store, serverStore}}
	case 2:
		return &wire.RemoteHeadsChanged{SenderID: as, DocumentID: r.goods.id, NewHeads: []wire.RemoteHeads{
			{StorageID: store, Heads: []crdt.Hash{r.change().Hash}, Timestamp: float64(r.choose(256))},
		}}
	case 3:
		return &wire.Leave{SenderID: as}
	case 4: // of documents without end
		return &wire.DocUnavailable{SenderID: as, DocumentID: crdt.DocumentID{byte(r.choose(8))}}
	}
	return &wire.DocUnavailable{SenderID: as, DocumentID: r.goods.id}
}

func (r *riot) ephemeral(c *rioter, data []byte) {
	if r.choose(4) > 0 {
		c.count++
	}
	r.send(c, wire.Append(nil, &wire.Ephemeral{SenderID: c.peer, DocumentID: r.goods.id, Count: c.count, SessionID: "s", Data: data}))
}

func (r *riot) sync(c *rioter, data []byte) {
	if len(data) == 0 {
		return
	}
	r.send(c, wire.Append(nil, &wire.Sync{SenderID: c.peer, TargetID: serverID, DocumentID: r.goods.id, Data: data}))
}
