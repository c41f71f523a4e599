package sim

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// document is an open document (server/document.go): its machine, and an inbox that
// is emptied when it is run.
type document struct {
	srv   *server
	id    crdt.DocumentID
	topic *topic
	chain *chain

	pins      int
	idleSince time.Time
	inbox     []posted
	ticking   bool // a tick is in the inbox

	machine  *session.Document // nil until loaded
	broken   bool
	conns    map[session.ConnID]*conn
	here     map[session.ConnID]*conn // of those, the ones whose users are here by them
	settings presence.Settings        // on disk
	coming   int                      // how many others are on their way there
	checked  int                      // changes that the model has compared with the disk's
	actor    crdt.ActorID             // with which the server writes
	out      []session.Output
}

// posted is one thing for a document to do.
type posted struct {
	from     *conn
	input    session.Input
	gone     *conn
	barred   *conn
	writable *conn
	settled  *settled
	measured *session.MeasuredInput
	snapshot *crdt.Snapshot
	ask      func()
	idle     bool
	rest     bool
	tick     bool
}

// settled is how a commit ended.
type settled struct {
	upTo     int
	settings *presence.Settings
	sealed   *presence.Resolution
	err      error
}

func newDocument(s *server, id crdt.DocumentID) *document {
	d := &document{srv: s, id: id, chain: &chain{}, conns: make(map[session.ConnID]*conn), here: make(map[session.ConnID]*conn), idleSince: s.w.now}
	for i := range s.w.plan.topics {
		if t := &s.w.plan.topics[i]; t.id == id {
			d.topic = t
		}
	}
	return d
}

func (d *document) post(p posted) { d.inbox = append(d.inbox, p) }

// run takes everything that waits. It reports whether there was anything.
func (d *document) run() bool {
	batch := d.inbox
	d.inbox = nil
	if len(batch) == 0 {
		return false
	}
	if d.machine == nil && !d.broken {
		d.load()
	}
	unpin, evict := 0, false
	for i := range batch {
		unpin += d.apply(&batch[i])
		evict = batch[i].idle && !(d.machine != nil && d.machine.Occupied())
	}
	d.perform()
	if unpin > 0 {
		d.srv.release(d, unpin, evict)
	}
	return true
}

// apply handles one posted thing and returns how many pins it gives back.
func (d *document) apply(p *posted) (unpin int) {
	switch {
	case p.gone != nil:
		delete(d.here, p.gone.id)
		d.step(&session.GoneInput{Conn: p.gone.id, Goodbye: p.gone.goodbye})
		delete(d.conns, p.gone.id)
		return 1
	case p.barred != nil:
		delete(d.here, p.barred.id)
		d.step(&session.GoneInput{Conn: p.barred.id, Goodbye: p.barred.expelled})
		return 1
	case p.settled != nil:
		d.settle(p.settled)
		return 1
	case p.ask != nil:
		p.ask()
		return 1
	case p.writable != nil:
		if p.writable.out.wasRobbed(d) {
			d.step(&session.DroppedInput{Conn: p.writable.id})
		}
		d.fill(p.writable)
		return 0
	case p.snapshot != nil:
		d.step(&session.SnapshotInput{Snapshot: p.snapshot})
		return 1
	case p.tick:
		d.ticking = false
		d.step(&session.TickInput{})
		return 1
	case p.measured != nil:
		d.step(p.measured)
		return 1
	case p.rest:
		if d.machine != nil {
			d.machine.Rest()
		}
		return 1
	case p.idle:
		return 1
	case d.broken:
		p.from.end(session.Close{Code: session.CloseInternal, Reason: "the document could not be stored"})
		return 0
	case p.from.barred:
		return 0
	}
	d.conns[p.from.id], d.here[p.from.id] = p.from, p.from
	d.step(p.input)
	return 0
}

func (d *document) step(in session.Input) {
	if d.broken {
		return
	}
	d.srv.w.steps++
	before := len(d.out)
	d.out = d.machine.Step(d.srv.w.now, in, d.out)
	d.check(before)
}

// said is a frame that the model has looked at.
type said struct {
	session.Send
	message wire.Message
}

// check shows the model what the machine has asked for, at once: later it would not
// know what that was said of.
func (d *document) check(from int) {
	for i, o := range d.out[from:] {
		switch o := o.(type) {
		case session.Seal:
			d.srv.w.model.sealing(d, &o.Resolution)
		case session.Send:
			if c, ok := d.conns[o.Conn]; ok {
				d.out[from+i] = said{o, d.srv.w.model.told(c, o.Frame)}
			}
		}
	}
}

// settle learns how a commit ended.
func (d *document) settle(s *settled) {
	switch {
	case d.broken:
		return
	case s.err != nil:
		d.srv.w.trace.say("%s is dropped from memory: %v", d.topic.name, s.err)
		d.step(&session.FailedInput{Overloaded: s.err == errOverloaded})
		d.perform()
		d.fail()
		return
	}
	d.step(&session.DurableInput{N: s.upTo})
	d.srv.w.model.durable(d, s.upTo)
	if s.settings != nil {
		d.settings = *s.settings
		d.coming--
		d.step(&session.SettingsInput{Settings: *s.settings})
	}
	if s.sealed != nil {
		d.step(&session.SealedInput{})
	}
}

// fail drops the document's state. Connections end and come back to a fresh one.
func (d *document) fail() {
	d.broken, d.machine = true, nil
	d.srv.forget(d)
}

// perform does what the machine asked for.
func (d *document) perform() {
	out := d.out
	d.out = nil
	for _, o := range out {
		switch o := o.(type) {
		case session.Commit:
			d.commit(o)
		case session.Seal:
			d.seal(o.Resolution)
		case session.Pending:
			if c, ok := d.conns[o.Conn]; ok {
				d.fill(c)
			}
		case said:
			if c, ok := d.conns[o.Conn]; ok {
				c.send(packet{data: o.Frame, message: o.message}, droppable(d, o))
			}
		case session.Held:
			if c, ok := d.conns[o.Conn]; ok {
				c.addHeld(o.Bytes)
			}
		case session.Refused:
			d.srv.w.model.counts.refused += o.Count
		case session.Disconnect:
			if c, ok := d.conns[o.Conn]; ok {
				c.end(o.Close)
			}
		}
	}
}

// commit queues accepted changes for the disk.
func (d *document) commit(c session.Commit) {
	g := d.machine.Graph()
	var rows []row
	for i := c.From; i < c.To; i++ {
		from := d.machine.Delivery(i)
		rows = append(rows, row{hash: g.HashAt(i), chunk: g.ChunkAt(i), user: from.User, role: from.Role})
	}
	d.append(entry{rows: rows}, settled{upTo: c.To})
}

// seal queues a resolution behind all that was queued before.
func (d *document) seal(r presence.Resolution) {
	d.append(entry{resolution: &r}, settled{upTo: d.machine.Graph().Durable(), sealed: &r})
}

func (d *document) append(e entry, s settled) {
	d.pins++
	e.topic, e.chain = d.topic, d.chain
	e.done = func(err error) {
		s.err = err
		d.post(posted{settled: &s})
	}
	d.srv.w.disk.append(e)
}

// fill puts the sync message that c should have into its outbox, if there is room.
func (d *document) fill(c *conn) {
	if d.broken || !c.out.reserve(d) {
		return
	}
	d.srv.w.steps++
	if frame := d.machine.Pull(c.id); frame != nil {
		c.send(packet{data: frame, message: d.srv.w.model.told(c, frame)}, nil)
	}
}

// droppable returns whose frame is dropped, nil if it may not be.
func droppable(d *document, s said) *document {
	if s.Droppable {
		return d
	}
	return nil
}

// load reads the document from the disk.
func (d *document) load() {
	stored, err := d.srv.w.disk.load(d.topic)
	d.srv.w.must(err == nil, "load", "%s: %v", d.topic.name, err)
	d.srv.w.trace.say("%s is loaded with %d changes", d.topic.name, stored.Document.Graph.Len())
	d.settings = stored.Settings
	d.machine = session.NewDocument(d.id, &d.srv.docConfig, stored, wire.SessionID(d.srv.w.name("life")))
}

// put makes a field what a host asked for, and the transaction if there is none
// (server/transactions.go).
func (d *document) put() {
	w := d.srv.w
	state, err := d.machine.Transaction()
	w.must(err == nil, "transaction", "%v", err)
	var changes []*crdt.Change
	if state == nil {
		changes = append(changes, w.model.genesis(d.topic))
		state = transaction.New(d.topic.tx)
		_ = state.Apply(changes[0])
	}
	if d.actor == "" {
		d.actor = actorID(w.name("server"))
	}
	edit := state.Edit(d.actor, holly.User, w.now)
	field, required := fields[w.dice.IntN(len(fields))], w.dice.IntN(2) == 0
	err = edit.SetFields(map[string]transaction.Field{field: newField(required, w.name("label"))})
	w.must(err == nil, "edit", "%v", err)
	c, err := edit.Change()
	w.must(err == nil, "edit", "%v", err)
	w.model.made(c, &made{topic: d.topic, user: holly.User, defines: field, required: required, fields: []string{field}})
	w.steps++
	before := len(d.out)
	out, refusal := d.machine.Write(w.now, holly, append(changes, c), d.out)
	d.out = out
	d.check(before)
	w.must(refusal == nil || refusal.Code == presence.CodeSealed, "refused", "the host's fields: %v", refusal)
}

// set makes the settings what a host asked for, behind the changes made before.
func (d *document) set(settings presence.Settings) {
	d.coming++
	d.step(&session.SettingsComingInput{})
	d.perform() // the changes before
	d.append(entry{settings: &settings}, settled{upTo: d.machine.Graph().Len(), settings: &settings})
}

// makeSnapshot hands the document a snapshot, and the disk a pack. It is no
// snapshot of the engine's, but a number by which clients find what it stands for.
func (d *document) makeSnapshot() {
	if d.machine == nil || d.broken || d.machine.Graph().Durable() == 0 {
		return
	}
	g, w := d.machine.Graph(), d.srv.w
	snap := &crdt.Snapshot{Heads: g.Heads(), Changes: g.Durable()}
	var chunks [][]byte
	for i := range g.Durable() {
		chunks = append(chunks, g.ChunkAt(i))
	}
	w.model.snapshots = append(w.model.snapshots, chunks)
	snap.Data = binary.BigEndian.AppendUint32([]byte(snapshotMagic), uint32(len(w.model.snapshots)-1))
	w.disk.put(d.topic, snap, d.machine.Index())
	d.srv.postIfOpen(d, posted{snapshot: snap})
}

// snapshotMagic is what a snapshot begins with. No change does.
const snapshotMagic = "snap"

// newField is a field as hosts make them.
func newField(required bool, label string) transaction.Field {
	return transaction.Field{Label: label, Required: required, Options: map[string]transaction.Option{
		"a": {Value: json.RawMessage("1"), Source: "a.pdf"},
	}}
}

// fields are all there may be.
var fields = []string{"price", "date", "terms"}

// actorID makes an actor of a name.
func actorID(name string) crdt.ActorID { return crdt.ActorID(fmt.Sprintf("%16.16s", name)) }
