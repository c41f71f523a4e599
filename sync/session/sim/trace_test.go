package sim

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"strings"

	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// trace is what happens in a run: all of it as a hash, and for people, if they
// want it, in lines.
type trace struct {
	w     *world
	hash  hash.Hash64
	lines bool
	out   strings.Builder
	title string // of the action that has not said anything yet
}

func newTrace(lines bool) *trace { return &trace{hash: fnv.New64a(), lines: lines} }

func (t *trace) action(a action) {
	var b [16]byte
	b[0], b[1] = byte(a.kind), a.who
	binary.BigEndian.PutUint32(b[2:], a.luck)
	binary.BigEndian.PutUint64(b[8:], uint64(t.w.now.UnixNano()))
	_, _ = t.hash.Write(b[:])
	if t.lines {
		t.title = fmt.Sprintf("%10s  %s\n", t.w.now.Sub(epoch), a)
	}
}

// say writes a line.
func (t *trace) say(format string, args ...any) {
	if !t.lines {
		return
	}
	t.out.WriteString(t.title)
	t.title = ""
	fmt.Fprintf(&t.out, "            "+format+"\n", args...)
}

// frame notes what somebody sends.
func (t *trace) frame(from, to string, m wire.Message, frame []byte) {
	_, _ = t.hash.Write(frame)
	if t.lines {
		t.say("%s > %s: %s", from, to, t.describe(m))
	}
}

func (t *trace) describe(m wire.Message) string {
	switch m := m.(type) {
	case *wire.Request:
		return t.describeSync("request", t.w.model.topic(m.DocumentID), m.Data)
	case *wire.Sync:
		return t.describeSync("sync", t.w.model.topic(m.DocumentID), m.Data)
	case *wire.DocUnavailable:
		return "doc-unavailable " + t.w.model.topic(m.DocumentID).name
	case *wire.ProtocolError:
		return "error " + m.Message
	case *wire.Ephemeral:
		about := t.w.model.topic(m.DocumentID).name + " "
		if m.SenderID == serverID {
			return about + t.describeDown(m.Data)
		}
		return about + t.describeUp(m.Data)
	}
	return string(m.Type())
}

func (t *trace) describeSync(kind string, about *topic, data []byte) string {
	m, err := protocol.Decode(data, protocol.Limits{DocumentChunks: true})
	if err != nil {
		return kind + " " + err.Error()
	}
	text := fmt.Sprintf("%s %s heads %s", kind, about.name, t.w.model.names(m.Heads))
	if len(m.Need) > 0 {
		text += " need " + t.w.model.names(m.Need)
	}
	if chunks := t.w.model.chunks(m); len(chunks) > 0 {
		text += " changes ["
		for i, chunk := range chunks {
			if i > 0 {
				text += " "
			}
			text += t.w.model.changes[t.w.model.changeOf(chunk).Hash].name
		}
		text += "]"
	}
	return text
}

func (t *trace) describeUp(data []byte) string {
	said, ours := presence.Decode(data)
	switch ready, ok := said.(presence.Ready); {
	case ok:
		return "ready " + t.w.model.names(ready.Heads)
	case ours:
		return presence.Kind(said)
	}
	return "an application's own"
}

func (t *trace) describeDown(data []byte) string {
	said, err := presence.DecodeDown(data)
	if err != nil {
		return err.Error()
	}
	switch said := said.(type) {
	case *presence.Roster:
		return t.describeRoster(said)
	case *presence.Rejected:
		return fmt.Sprintf("rejected %s %s %s", said.Of, t.w.model.names(said.Changes), said.Code)
	case *presence.Lapsed:
		return fmt.Sprintf("lapsed %s because of %s", said.User, t.w.model.changes[said.Because.Change].name)
	case *presence.Resolved:
		return fmt.Sprintf("resolved %d over %s", said.Resolution.N, t.w.model.names(said.Resolution.Heads))
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", said), "*presence.")
}

func (t *trace) describeRoster(r *presence.Roster) string {
	text := fmt.Sprintf("roster of %s:", t.w.model.names(r.Heads))
	for _, p := range r.Participants {
		ready := ""
		if p.Ready {
			ready = ", ready"
		}
		text += fmt.Sprintf(" %s (%s, %d%s)", p.User, p.State, p.Connections, ready)
	}
	if r.Resolution != nil {
		text += fmt.Sprintf(" resolution %d", r.Resolution.N)
	}
	return text
}
