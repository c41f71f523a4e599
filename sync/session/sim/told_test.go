package sim

import (
	"slices"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// told is asked about every frame that the server is going to send, and returns
// what it says.
func (m *model) told(c *conn, frame []byte) wire.Message {
	message, err := wire.Decode(frame, wire.Limits{})
	m.w.must(err == nil, "frame", "%v", err)
	m.counts.frames++
	m.w.trace.frame("server", c.link.client.String(), message, frame)
	switch said := message.(type) {
	case *wire.Sync:
		m.toldSync(c, m.topic(said.DocumentID), said.Data)
	case *wire.DocUnavailable:
		t := m.topic(said.DocumentID)
		m.w.must(len(m.w.disk.docs[t].rows) == 0, "unavailable", "%s is, with %d changes", t.name, len(m.w.disk.docs[t].rows))
	case *wire.RemoteHeadsChanged:
		for _, heads := range said.NewHeads {
			if heads.StorageID == serverStore {
				m.onDisk(m.topic(said.DocumentID), heads.Heads)
			}
		}
	case *wire.Ephemeral:
		if said.SenderID == serverID {
			m.toldOurs(c, m.topic(said.DocumentID), said.Data)
		}
	}
	return message
}

func (m *model) topic(id crdt.DocumentID) *topic {
	for i := range m.w.plan.topics {
		if t := &m.w.plan.topics[i]; t.id == id {
			return t
		}
	}
	panic(&violation{"frame", "about no document of ours"})
}

// onDisk fails unless all that is told of is on disk.
func (m *model) onDisk(t *topic, hashes []crdt.Hash) {
	for _, h := range hashes {
		m.w.must(m.w.disk.docs[t].has(h), "told too early", "%s of %s is not on disk", m.names([]crdt.Hash{h}), t.name)
	}
}

func (m *model) toldSync(c *conn, t *topic, data []byte) {
	message, err := protocol.Decode(data, protocol.Limits{DocumentChunks: true})
	m.w.must(err == nil, "frame", "%v", err)
	m.onDisk(t, message.Heads)
	for _, chunk := range m.chunks(message) {
		m.onDisk(t, []crdt.Hash{m.changeOf(chunk).Hash})
	}
	for _, h := range message.Need {
		m.w.must(!c.refused[h], "asked again", "%s was refused, and is asked for", m.names([]crdt.Hash{h}))
	}
}

func (m *model) toldOurs(c *conn, t *topic, data []byte) {
	message, err := presence.DecodeDown(data)
	m.w.must(err == nil, "frame", "%v", err)
	switch said := message.(type) {
	case *presence.Roster:
		m.toldRoster(t, said)
	case *presence.Lapsed:
		m.toldLapsed(t, said)
	case *presence.Resolved:
		m.toldResolution(t, &said.Resolution)
	case *presence.Rejected:
		m.toldRejected(c, t, said)
	}
}

func (m *model) toldRoster(t *topic, r *presence.Roster) {
	d := m.w.server.docs[t.id]
	m.w.must(slices.Equal(r.Heads, d.machine.Graph().Heads()), "roster", "of %s, where %s is on disk", m.names(r.Heads), m.names(d.machine.Graph().Heads()))
	m.onDisk(t, r.Heads)
	contested, missing := m.open(t, r.Heads)
	m.w.must(slices.Equal(r.Contested, nonNil(contested)), "roster", "%v is contested, and %v said to be", contested, r.Contested)
	m.w.must(slices.Equal(r.Missing, nonNil(missing)), "roster", "%v is missing, and %v said to be", missing, r.Missing)
	last := ""
	for _, p := range r.Participants {
		m.w.must(p.User > last, "roster", "%s comes after %s", p.User, last)
		last = p.User
		m.w.must(p.Connections <= d.peersOf(p.User) && (p.State == presence.Online) == (p.Connections > 0), "roster", "%s is %s on %d connections, of %d",
			p.User, p.State, p.Connections, d.peersOf(p.User))
		m.w.must(!p.Ready || m.hasConfirmed(t, p.User, r.Heads), "ready", "%s for %s, who never confirmed it", p.User, m.names(r.Heads))
		m.w.must(!p.Ready || len(contested)+len(missing) == 0, "ready", "%s, while %v is contested and %v missing", p.User, contested, missing)
	}
	if r.Resolution != nil {
		m.toldResolution(t, r.Resolution)
	}
}

// peersOf counts the clients by which a user is here.
func (d *document) peersOf(user string) int {
	peers := make(map[wire.PeerID]bool)
	for _, c := range d.here {
		if c.who.User == user {
			peers[c.machine.Peer().ID] = true
		}
	}
	return len(peers)
}

func nonNil(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// toldLapsed: the change must be one that its user did not know when confirming.
func (m *model) toldLapsed(t *topic, l *presence.Lapsed) {
	h := l.Because.Change
	m.onDisk(t, []crdt.Hash{h})
	s, c := m.w.disk.docs[t], m.changes[h]
	m.w.must(s.rows[s.index[h]].user == l.Because.User, "lapse", "%s came from %s, and %s is named", c.name, s.rows[s.index[h]].user, l.Because.User)
	m.w.must(slices.Contains(c.fields, l.Because.Field) || l.Because.Field == "" && len(c.fields) == 0, "lapse", "%s did nothing to %q", c.name, l.Because.Field)
	knew := true
	for said := range m.said {
		if said.topic == t && said.user == l.User {
			knew = knew && m.pastOf(hashes(said.heads)).has(c.index)
		}
	}
	m.w.must(!knew, "lapse", "%s knew of %s", l.User, c.name)
	m.counts.lapsed++
}

// hashes undoes key.
func hashes(key string) (hs []crdt.Hash) {
	for ; len(key) > 0; key = key[len(crdt.Hash{}):] {
		hs = append(hs, crdt.Hash([]byte(key[:len(crdt.Hash{})])))
	}
	return hs
}

func (m *model) toldResolution(t *topic, r *presence.Resolution) {
	m.w.must(m.w.disk.docs[t].resolved(r.Heads), "told too early", "resolution %d of %s is not on disk", r.N, t.name)
}

// toldRejected: what may stay is refused only for what it builds on, or because of
// an agreement.
func (m *model) toldRejected(c *conn, t *topic, r *presence.Rejected) {
	if r.Code == presence.CodeSealed {
		m.w.must(len(m.w.disk.docs[t].resolutions) > 0, "told too early", "changes of %s are sealed", t.name)
	}
	for _, h := range r.Changes {
		if c.refused == nil {
			c.refused = make(map[crdt.Hash]bool)
		}
		c.refused[h] = true
		change := m.changes[h]
		m.w.must(change != nil, "rejected", "%s, which nobody has made", h)
		allowed := []crdt.Code{presence.CodeSealed, change.code}
		for _, earlier := range m.perTopic[t] {
			if change.past.has(earlier.index) && !m.w.disk.docs[t].has(earlier.change.Hash) {
				allowed = append(allowed, "depends-on-refused")
			}
		}
		if !writes(c.who.Role) {
			allowed = append(allowed, "read-only")
		}
		m.w.must(slices.Contains(allowed, r.Code), "rejected", "%s with %s: %s", change.name, r.Code, r.Message)
	}
}
