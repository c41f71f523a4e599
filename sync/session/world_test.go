package session_test

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/datadriven"
	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// event does what the server's shell does with a connection's events.
func (w *world) event(c *client, ev session.Event) {
	switch ev := ev.(type) {
	case session.Joined:
		w.deliver(c, ev.Reply)
	case session.Reply:
		w.deliver(c, ev.Frame)
		if ev.Next != nil {
			w.deliver(c, ev.Next)
		}
	case session.Deliver:
		w.load(ev.Document)
		c.opened[ev.Document] = true
		if ev.Subscriptions != nil {
			w.step(ev.Document, ev.Subscriptions)
		}
		w.step(ev.Document, ev.Input)
	case session.Subscribe:
		for _, id := range w.documentIDs() {
			if c.opened[id] {
				w.step(id, &ev.Input)
			}
		}
	case session.Close:
		w.close(c, ev)
	case nil:
		w.trace("ignored")
	}
}

func (w *world) load(id crdt.DocumentID) {
	if w.docs[id] != nil {
		return
	}
	w.lives[id]++
	doc := crdt.NewDocument(crdt.Limits{})
	if err := doc.Load(w.chunks[id]...); err != nil {
		w.t.Fatal(err)
	}
	w.docs[id] = session.NewDocument(id, &session.DocumentConfig{
		Self: serverID, Storage: serverStore, PlainDocuments: w.plain, Limits: w.limits.WithDefaults(),
	}, session.Stored{
		Document: doc, Users: w.users[id], Settings: w.settings, Resolutions: w.sealed[id],
	}, wire.SessionID(fmt.Sprintf("life-%d", w.lives[id])))
}

// stored keeps what a document has on disk for its next life.
func (w *world) stored(id crdt.DocumentID) {
	doc := w.docs[id]
	if doc == nil {
		return
	}
	w.chunks[id], w.users[id] = nil, nil
	for i := range doc.Graph().Durable() {
		w.chunks[id] = append(w.chunks[id], doc.Graph().ChunkAt(i))
		w.users[id] = append(w.users[id], doc.User(i))
	}
	w.sealed[id] = doc.Resolutions()
}

// step steps a document and does what the server's shell does with the outputs.
func (w *world) step(id crdt.DocumentID, in session.Input) {
	doc := w.docs[id]
	if doc == nil {
		return
	}
	if w.rest {
		defer doc.Rest()
	}
	for _, out := range doc.Step(w.now, in, nil) {
		switch out := out.(type) {
		case session.Commit:
			w.commits = append(w.commits, pendingCommit{doc: id, c: out})
			if w.disk == "ok" {
				w.flush()
			} else {
				w.trace("waiting for disk: changes %d to %d of %s", out.From, out.To, documentName(id))
			}
		case session.Seal:
			w.commits = append(w.commits, pendingCommit{doc: id, seal: &out.Resolution})
			if w.disk == "ok" {
				w.flush()
			} else {
				w.trace("waiting for disk: a resolution of %s", documentName(id))
			}
		case session.Pending:
			if c := w.byConn(out.Conn); c != nil {
				w.pull(c, id)
			}
		case session.Send:
			if c := w.byConn(out.Conn); c != nil {
				w.deliver(c, out.Frame)
			}
		case session.Refused:
			w.trace("refused: %d %s", out.Count, out.First.Code)
		case session.Disconnect:
			if c := w.byConn(out.Conn); c != nil {
				w.close(c, out.Close)
			}
		case session.Held:
			w.trace("held %+d bytes", out.Bytes)
		}
	}
	if doc = w.docs[id]; doc != nil {
		if wake := doc.Wake(); !wake.IsZero() && !wake.After(w.now) {
			w.step(id, &session.TickInput{})
		}
	}
}

func (w *world) byConn(id session.ConnID) *client {
	for _, c := range w.clients {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (w *world) flush() {
	commits := w.commits
	w.commits = nil
	for _, p := range commits {
		if p.seal != nil {
			w.step(p.doc, &session.SealedInput{})
			continue
		}
		w.step(p.doc, &session.DurableInput{N: p.c.To})
	}
}

func (w *world) setDisk(state string) {
	switch state {
	case "hold":
		w.disk = "hold"
	case "ok":
		w.disk = "ok"
		w.flush()
	case "fail", "overload":
		commits := w.commits
		w.commits = nil
		for _, p := range commits {
			w.stored(p.doc)
			w.step(p.doc, &session.FailedInput{Overloaded: state == "overload"})
			delete(w.docs, p.doc)
		}
	default:
		w.t.Fatalf("disk %s?", state)
	}
}

func (w *world) pull(c *client, id crdt.DocumentID) {
	if c.slow {
		c.pending = append(c.pending, id)
		return
	}
	if frame := w.docs[id].Pull(c.id); frame != nil {
		w.deliver(c, frame)
	}
}

func (w *world) deliver(c *client, frame []byte) {
	w.trace("%s< %s", c.name, w.describe(frame))
	c.received = append(c.received, frame)
}

func (w *world) close(c *client, how session.Close) {
	if how.Frame != nil {
		w.deliver(c, how.Frame)
	}
	retry := "stop"
	if how.Code.Retry() {
		retry = "retry"
	}
	w.trace("%s< close %d (%s) %s", c.name, how.Code, retry, how.Reason)
	c.closed, c.goodbye = true, how.Goodbye
	w.gone(c)
}

// maxRounds bounds a conversation: one that goes on longer does not end.
const maxRounds = 100

// run lets the clients read and answer until nobody has anything to say.
func (w *world) run(d *datadriven.TestData) {
	for range maxRounds {
		busy := false
		for _, c := range w.sortedClients() {
			frames := c.received
			c.received = nil
			for _, f := range frames {
				busy = true
				w.clientReceives(c, f)
			}
		}
		if !busy {
			return
		}
	}
	w.t.Fatalf("%s: the conversation does not end", d.Pos)
}

// clientReceives is what an automerge-repo client does with a sync frame.
func (w *world) clientReceives(c *client, frame []byte) {
	m, err := wire.Decode(frame, wire.Limits{})
	if err != nil {
		w.t.Fatalf("the server sent what cannot be read: %v", err)
	}
	s, ok := m.(*wire.Sync)
	if !ok {
		return
	}
	name := documentName(s.DocumentID)
	r := c.replica(name)
	pm, err := protocol.Decode(s.Data, protocol.Limits{})
	if err != nil {
		w.t.Fatalf("the server sent a sync message that cannot be read: %v", err)
	}
	for _, chunk := range pm.Changes {
		r.add(w.t, chunk)
		if err := r.am.LoadIncremental(chunk); err != nil && !strings.HasPrefix(name, "tx") {
			w.t.Fatal(err)
		}
	}
	r.state.Receive(&r.graph, pm)
	if answer, ok := r.state.Generate(&r.graph, protocol.Options{}); ok {
		w.send(c, &wire.Sync{SenderID: c.peer, TargetID: serverID, DocumentID: s.DocumentID, Data: answer.Append(nil)})
	}
}

func (w *world) state(doc string) {
	d := w.docs[documentID(doc)]
	if d == nil {
		w.trace("%s is not in memory", doc)
		return
	}
	g := d.Graph()
	w.trace("%s: %d changes, %d on disk, heads %s, peers %d", doc, g.Len(), g.Durable(), w.hashes(g.Heads()), d.Peers())
}

func (w *world) hashes(hs []crdt.Hash) string {
	var names []string
	for _, h := range hs {
		names = append(names, orElse(w.names[h], h.String()[:8]))
	}
	return "[" + strings.Join(names, " ") + "]"
}

// describe prints a frame in one line, hashes by their names in the script.
func (w *world) describe(frame []byte) string {
	m, err := wire.Decode(frame, wire.Limits{})
	if err != nil {
		return fmt.Sprintf("undecodable: %v", err)
	}
	switch m := m.(type) {
	case *wire.Join:
		return fmt.Sprintf("join %s storage=%q versions=%v", m.SenderID, m.Metadata.StorageID, m.Versions)
	case *wire.Peer:
		return fmt.Sprintf("peer %s for %s storage=%q version=%s", m.SenderID, m.TargetID, m.Metadata.StorageID, m.Version)
	case *wire.ProtocolError:
		return fmt.Sprintf("error %q", w.named(m.Message))
	case *wire.Request:
		return fmt.Sprintf("request %s %s", documentName(m.DocumentID), w.describeSync(m.Data))
	case *wire.Sync:
		return fmt.Sprintf("sync %s %s", documentName(m.DocumentID), w.describeSync(m.Data))
	case *wire.DocUnavailable:
		return "doc-unavailable " + documentName(m.DocumentID)
	case *wire.Ephemeral:
		if text := w.describeOurs(m.Data); text != "" && m.SenderID == serverID {
			return fmt.Sprintf("ephemeral %s session=%s count=%d %s", documentName(m.DocumentID), m.SessionID, m.Count, text)
		}
		return fmt.Sprintf("ephemeral %s from %s for %s session=%s count=%d data=%s", documentName(m.DocumentID), m.SenderID, m.TargetID, m.SessionID, m.Count, w.named(diagnose(m.Data)))
	case *wire.RemoteHeadsChanged:
		var parts []string
		for _, h := range m.NewHeads {
			parts = append(parts, fmt.Sprintf("%s has %s at %+d", h.StorageID, w.hashes(h.Heads), int64(h.Timestamp)-epoch.UnixMilli()))
		}
		return fmt.Sprintf("remote-heads-changed %s %s", documentName(m.DocumentID), strings.Join(parts, ", "))
	}
	return string(m.Type())
}

// describeOurs prints a message of the server's own, "" if it is none.
func (w *world) describeOurs(data []byte) string {
	m, err := presence.DecodeDown(data)
	if err != nil {
		return ""
	}
	switch m := m.(type) {
	case *presence.Roster:
		return w.describeRoster(m)
	case *presence.Lapsed:
		return fmt.Sprintf("lapsed %s because %s", m.User, w.describeCause(m.Because))
	case *presence.Rejected:
		return fmt.Sprintf("rejected %s%s heads %s fields %v %s: %q", m.Of, w.hashes(m.Changes), w.hashes(m.Heads), m.Fields, m.Code, w.named(m.Message))
	case *presence.Resolved:
		return "resolved " + w.describeResolution(&m.Resolution)
	case *presence.Pong:
		return fmt.Sprintf("pong %d", m.N)
	}
	return ""
}

func (w *world) describeRoster(r *presence.Roster) string {
	var b strings.Builder
	fmt.Fprintf(&b, "roster %d heads %s", r.Rev, w.hashes(r.Heads))
	for _, p := range r.Participants {
		fmt.Fprintf(&b, ", %s %s %s", p.User, p.Role, p.State)
		if p.Connections != 1 {
			fmt.Fprintf(&b, " x%d", p.Connections)
		}
		if p.Ready {
			b.WriteString(" ready")
		}
		if p.Focus != "" {
			fmt.Fprintf(&b, " at %s", p.Focus)
		}
		if p.Since != epoch.UnixMilli() {
			fmt.Fprintf(&b, " since %+d ms", p.Since-epoch.UnixMilli())
		}
		if p.RoundTrip > 0 {
			fmt.Fprintf(&b, " rtt %v", p.RoundTrip)
		}
		if p.Lapsed != nil {
			fmt.Fprintf(&b, " lapsed by %s", w.describeCause(*p.Lapsed))
		}
	}
	fmt.Fprintf(&b, "; %d of %v, %s", r.Quorum, r.Needed, r.Policy)
	if len(r.Contested)+len(r.Missing) > 0 {
		fmt.Fprintf(&b, "; contested %v missing %v", r.Contested, r.Missing)
	}
	if r.Resolution != nil {
		b.WriteString("; resolved " + w.describeResolution(r.Resolution))
	}
	return b.String()
}

func (w *world) describeCause(c presence.Cause) string {
	return fmt.Sprintf("%s %s %s", c.User, c.Field, orElse(w.names[c.Change], c.Change.String()[:8]))
}

func (w *world) describeResolution(r *presence.Resolution) string {
	return fmt.Sprintf("%d over %s by %v (%d) at %+d", r.N, w.hashes(r.Heads), r.Parties, r.Quorum, r.At-epoch.UnixMilli())
}

// diagnose prints CBOR as people read it, if it is a map.
func diagnose(data []byte) string {
	if text, err := cbor.Diagnose(data); err == nil && strings.HasPrefix(text, "{") {
		return text
	}
	return fmt.Sprintf("%x", data)
}

// named replaces hashes in a text by their names.
func (w *world) named(text string) string {
	for h, name := range w.names {
		text = strings.ReplaceAll(text, h.String(), name)
	}
	return text
}

func (w *world) describeSync(data []byte) string {
	m, err := protocol.Decode(data, protocol.Limits{})
	if err != nil {
		return "garbage"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "heads %s", w.hashes(m.Heads))
	if len(m.Need) > 0 {
		fmt.Fprintf(&b, " need %s", w.hashes(m.Need))
	}
	var changes []crdt.Hash
	for _, chunk := range m.Changes {
		if c, err := crdt.DecodeChange(chunk, crdt.Limits{}); err == nil {
			changes = append(changes, c.Hash)
		}
	}
	if len(m.Changes) > 0 {
		fmt.Fprintf(&b, " changes %s", w.hashes(changes))
	}
	return b.String()
}
