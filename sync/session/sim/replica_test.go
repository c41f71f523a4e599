package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// maxChanges is how long documents grow.
const maxChanges = 120

// replica is a client's copy of a document.
type replica struct {
	c     *client
	topic *topic
	actor crdt.ActorID
	graph crdt.Graph
	tx    *transaction.State // nil of a plain document
	early []*crdt.Change     // came before what they depend on
	state protocol.State
	acked []crdt.Hash // every head that the server ever named

	// Of this connection.
	opened  bool
	roster  *presence.Roster        // the last one
	safe    []crdt.Hash             // what the server's store has, if it subscribed to that
	gone    bool                    // it said that its user leaves
	refused map[crdt.Hash]crdt.Code // what the server said that it refuses
}

func newReplica(c *client, t *topic) *replica {
	r := &replica{c: c, topic: t, actor: actorID(c.w.name("actor")), refused: make(map[crdt.Hash]crdt.Code)}
	if !t.plain() {
		r.tx = transaction.New(t.tx)
	}
	return r
}

func (r *replica) String() string { return fmt.Sprintf("%s's %s", r.c, r.topic.name) }

// disconnected forgets what was of the connection.
func (r *replica) disconnected() {
	r.opened, r.roster, r.safe, r.gone = false, nil, nil, false
	clear(r.refused)
	kept := r.state.Encode()
	r.state = protocol.State{}
	if r.c.store {
		if state, err := protocol.Restore(kept); err == nil {
			r.state = *state
		}
	}
}

// open asks for the document, or offers what there is of it.
func (r *replica) open() {
	if r.graph.Len() == 0 && r.tx != nil && r.c.index%2 == 1 {
		r.apply(r.c.w.model.genesis(r.topic))
	}
	first := r.graph.Len() == 0
	r.opened = true
	m, ok := r.state.Generate(&r.graph, r.options())
	if !ok {
		return
	}
	if first {
		r.c.send(&wire.Request{SenderID: r.c.peer, TargetID: serverID, DocumentID: r.topic.id, Data: r.encode(m)})
		return
	}
	r.send(m)
}

// say sends what the server should have now.
func (r *replica) say() {
	if !r.opened {
		return
	}
	if m, ok := r.state.Generate(&r.graph, r.options()); ok {
		r.send(m)
	}
}

func (r *replica) send(m *protocol.Message) {
	r.c.send(&wire.Sync{SenderID: r.c.peer, TargetID: serverID, DocumentID: r.topic.id, Data: r.encode(m)})
}

// encode says what newer clients of Automerge say of themselves.
func (r *replica) encode(m *protocol.Message) []byte {
	if !r.c.old {
		m.Capabilities = protocol.Capabilities{2, 0x80 | byte(protocol.SupportsSyncReset)}
	}
	return m.Append(nil)
}

func (r *replica) options() protocol.Options {
	var opt protocol.Options
	if len(r.early) > 0 {
		opt.Held = func(h crdt.Hash) bool {
			return slices.ContainsFunc(r.early, func(c *crdt.Change) bool { return c.Hash == h })
		}
		for _, c := range r.early {
			opt.Missing = append(opt.Missing, r.graph.Missing(c.Deps)...)
		}
	}
	return opt
}

// receive takes a sync message of the server's and answers it.
func (r *replica) receive(data []byte) {
	m, err := protocol.Decode(data, protocol.Limits{DocumentChunks: true})
	r.c.w.must(err == nil, "message", "%s cannot read %x: %v", r, data, err)
	if r.c.old {
		m.Capabilities = nil
	}
	for _, chunk := range r.c.w.model.chunks(m) {
		r.take(r.c.w.model.changeOf(chunk))
	}
	for _, h := range m.Heads {
		if !slices.Contains(r.acked, h) {
			r.acked = append(r.acked, h)
		}
	}
	if r.c.blind {
		r.mistake(m)
	}
	r.state.Receive(&r.graph, m)
	r.say()
}

// mistake puts into the server's filters changes that it does not have: what happens
// to one in a hundred happens to one in four, and to the same again.
func (r *replica) mistake(m *protocol.Message) {
	s := r.c.w.disk.docs[r.topic]
	for i := range m.Have {
		have := &m.Have[i]
		var found []int
		for _, n := range r.graph.AppendSince(nil, have.LastSync) {
			if h := r.graph.HashAt(n); s.has(h) || h[0]%4 == 0 {
				found = append(found, n)
			}
		}
		have.Bloom = protocol.MakeBloom(&r.graph, found)
	}
}

// take applies a change, and those that came too early before it.
func (r *replica) take(c *crdt.Change) {
	if r.graph.Accepted(c.Hash) || slices.Contains(r.early, c) {
		return
	}
	r.early = append(r.early, c)
	for again := true; again; {
		again = false
		r.early = slices.DeleteFunc(r.early, func(c *crdt.Change) bool {
			if len(r.graph.Missing(c.Deps)) > 0 {
				return false
			}
			r.apply(c)
			again = true
			return true
		})
	}
}

func (r *replica) apply(c *crdt.Change) {
	if r.tx != nil {
		err := r.tx.Apply(c)
		r.c.w.must(err == nil, "apply", "%s: %v", r, err)
	}
	r.graph.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.Chunk()})
	r.graph.MarkDurable(r.graph.Len())
}

// rejected notes what the server refused. Some clients begin again then.
func (r *replica) rejected(m *presence.Rejected) {
	for _, h := range m.Changes {
		r.refused[h] = m.Code
	}
	if len(m.Changes) > 0 && !r.c.loyal {
		r.c.reload()
	}
}

// edit makes a change of a transaction, and offers it.
func (r *replica) edit(m made, do func(*transaction.Edit) error) {
	if r.tx == nil || r.graph.Len() >= maxChanges {
		return
	}
	if r.graph.Len() == 0 {
		r.apply(r.c.w.model.genesis(r.topic)) // it may never have been online
	}
	user := m.user
	edit := r.tx.Edit(r.actor, user, r.c.w.now)
	err := do(edit)
	if errors.Is(err, transaction.ErrNothingPicked) {
		return
	}
	r.c.w.must(err == nil, "edit", "%s: %v", r, err)
	c, err := edit.Change()
	if errors.Is(err, transaction.ErrNothingToDo) {
		return
	}
	r.c.w.must(err == nil, "edit", "%s: %v", r, err)
	m.topic, m.user = r.topic, r.c.user
	r.made(c, &m)
}

func (r *replica) made(c *crdt.Change, m *made) {
	r.c.w.model.made(c, m)
	r.c.w.trace.say("%s makes %s (%s%s)", r.c, m.name, m.picks, m.code)
	r.apply(c)
	r.say()
}

func (r *replica) mayEdit() bool { return writes(r.c.role) }

func (r *replica) pick() {
	if r.mayEdit() {
		r.pickAs(r.c.user, fields[r.c.w.dice.IntN(len(fields))], "")
	}
}

func (r *replica) pickAs(user, field string, code crdt.Code) {
	value := fmt.Append(nil, r.c.w.dice.IntN(100))
	r.edit(made{user: user, picks: field, fields: []string{field}, code: code}, func(e *transaction.Edit) error {
		return e.Pick(field, value, "")
	})
}

func (r *replica) withdraw() {
	if !r.mayEdit() {
		return
	}
	field := fields[r.c.w.dice.IntN(len(fields))]
	r.edit(made{user: r.c.user, picks: field, fields: []string{field}, withdraws: true}, func(e *transaction.Edit) error {
		return e.Withdraw(field)
	})
}

func (r *replica) editFields() {
	if r.c.role == transaction.Host {
		r.setField("")
	}
}

func (r *replica) setField(code crdt.Code) {
	field, required := fields[r.c.w.dice.IntN(len(fields))], r.c.w.dice.IntN(2) == 0
	label := r.c.w.name("label")
	r.edit(made{user: r.c.user, defines: field, required: required, fields: []string{field}, code: code}, func(e *transaction.Edit) error {
		return e.SetFields(map[string]transaction.Field{field: newField(required, label)})
	})
}

// forge makes a change that must be refused.
func (r *replica) forge() {
	switch {
	case !r.mayEdit():
		r.pickAs(r.c.user, fields[0], transaction.CodeReadOnly)
	case r.c.role == transaction.Party && r.c.w.dice.IntN(2) == 0:
		r.setField(transaction.CodeNotHost)
	default:
		r.pickAs("mallory", fields[0], transaction.CodeNotAuthor)
	}
}

// write makes a change of a plain document.
func (r *replica) write() {
	if r.tx != nil || !r.mayEdit() || r.graph.Len() >= maxChanges {
		return
	}
	b := crdt.NewBuilder(crdt.Header{
		Deps: r.graph.Heads(), Actor: r.actor, Seq: r.graph.Seq(r.actor) + 1, StartOp: r.graph.MaxOp() + 1, Time: r.c.w.now.Unix(),
	})
	b.Put(crdt.OpID{}, r.c.w.name("key"), crdt.Int(1))
	c, err := b.Change(crdt.Limits{})
	r.c.w.must(err == nil, "edit", "%s: %v", r, err)
	r.made(c, &made{topic: r.topic, user: r.c.user})
}

// hurry sends the newest change without what it builds on.
func (r *replica) hurry() {
	if !r.opened || r.graph.Len() == 0 {
		return
	}
	r.send(&protocol.Message{
		Version: protocol.V1, Heads: r.graph.Heads(), Have: []protocol.Have{{}},
		Changes: [][]byte{r.graph.ChunkAt(r.graph.Len() - 1)},
	})
}

// tell sends a message of Parley's own.
func (r *replica) tell(m presence.Message) {
	if r.opened && r.tx != nil {
		r.c.broadcast(r.topic, presence.Encode(m))
	}
}

// confirm says that the user agrees with exactly what is in this copy.
func (r *replica) confirm() {
	if r.roster == nil || r.graph.Len() == 0 {
		return
	}
	r.gone = false
	r.c.w.model.confirmed(r)
	r.tell(presence.Ready{Heads: r.graph.Heads()})
}

func (r *replica) takeBack() { r.tell(presence.Unready{}) }

func (r *replica) look() {
	if r.roster == nil {
		return
	}
	field := ""
	if n := r.c.w.dice.IntN(len(fields) + 1); n < len(fields) {
		field, r.gone = fields[n], false
	}
	r.tell(presence.Focus{Field: field})
}

// leave says that the user goes, although the connection stays.
func (r *replica) leave() {
	if r.roster != nil {
		r.gone = true
		r.tell(presence.Leave{})
	}
}

// chat says what changes nothing.
func (r *replica) chat() {
	switch {
	case !r.opened:
	case r.c.w.dice.IntN(3) == 0:
		r.tell(presence.Ask{})
	case r.c.w.dice.IntN(2) == 0:
		r.tell(presence.Ping{N: 7})
	default:
		r.c.broadcast(r.topic, []byte{1}) // an application's own
	}
}

// chunks returns the changes of a message one by one.
func (m *model) chunks(message *protocol.Message) (chunks [][]byte) {
	if message.Version == protocol.V1 || len(message.Changes) == 0 {
		return message.Changes
	}
	rest := message.Changes[0]
	if n := len(snapshotMagic); string(rest[:n]) == snapshotMagic {
		chunks = append(chunks, m.snapshots[binary.BigEndian.Uint32(rest[n:])]...)
		rest = rest[n+4:]
	}
	for len(rest) > 0 {
		const header = 9 // magic bytes, checksum, type
		size, n := binary.Uvarint(rest[header:])
		end := header + n + int(size)
		chunks = append(chunks, rest[:end])
		rest = rest[end:]
	}
	return chunks
}
