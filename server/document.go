package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/server/store"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// document is one open document: its machine, and the goroutine that steps it
// while there is something in the inbox.
type document struct {
	// static
	srv *Server
	id  crdt.DocumentID

	// guarded by the registry's lock
	pins      int // connections and commits that still need it
	idleSince time.Time

	stepped atomic.Int64 // when something happened last, as Server.moment; 0: it rests
	seen    atomic.Int64 // how far it has come here on disk: all numbers of its version together

	elsewhere atomic.Uint64 // by which rows of other nodes it goes, of [rowSum]

	mu      sync.Mutex // guards what follows; never held over IO or a step
	inbox   []posted
	running bool

	// owned by the running goroutine
	machine     *session.Document // nil until loaded
	broken      bool              // could not be loaded or stored; nothing more is taken
	conns       map[session.ConnID]*conn
	chain       *store.Chain            // its commits: when one fails, so do those built on it
	inflight    int                     // what the store was asked for, and has not answered
	asked       int                     // what it was ever asked for
	proven      int                     // the last of that that came true: until it was asked for, nothing else was stored
	waiting     []waitingAsk            // in the order in which they came
	beaten      bool                    // by another node, which appended something
	lost        int                     // how often that happened, since something of ours came true
	yielded     time.Time               // when others were last let pass
	kept, came  store.Version           // on disk, and with all that the store was asked for; changes are the graph's to count
	overtaken   bool                    // something of that was: another node was first
	again       int                     // how often in a row what is newer could not be read then
	looking     bool                    // it is tried again in a moment
	stale       bool                    // another node may have stored something
	toLook      bool                    // who is present on other nodes may be another
	told        bool                    // something was published
	stored      *stored                 // what of it is stored, and the machine does not know yet
	refused     int                     // how often in a row a resolution was refused for who is present
	settings    []byte                  // on disk
	newSettings []byte                  // the newest, on disk or not
	actors      map[string]crdt.ActorID // with which the server writes, by user
	out         []session.Output
	now         time.Time
	compacting  bool
	compactErr  bool // the last snapshot failed
	compactLen  int  // how many changes it was to hold
	arrivals    []arrival
	census      presence.Census // that the server's counters have

	wake  time.Time   // when timer fires; zero: it does not
	timer *time.Timer // posts a tick; nil until there is need of one
}

// posted is one thing for a document to do: step the machine with input, note
// that a connection is gone, or fill one that is writable again.
type posted struct {
	from   *conn // who input is from, nil for the shell itself
	input  session.Input
	weight int64         // of from.flow, given back when input was stepped
	at     time.Duration // when it arrived, since the server's start; 0: nobody asks

	gone      *conn
	barred    *conn // will be gone: nothing of it counts any more
	writable  *conn
	settled   *settled
	turn      chan<- *compactJob // the document's snapshot is to be made now
	compacted *compacted
	ask       func()        // runs between steps, and may use the machine
	own       session.Input // of the server's, or of another node's, rather than of a client's
	news      *store.News   // of another node
	yield     int           // another node asks so often to let its changes pass
	look      bool          // who is present on other nodes may be another
	again     bool          // what is newer could not be read, and is tried again
	stored    *stored       // what was published
	idle      bool          // nobody has needed the document for a while
	rest      bool          // nothing has happened in it for a while
	tick      bool          // time has passed
}

// settled is how a commit ended.
type settled struct {
	n        int // it was the n-th
	upTo     int
	settings []byte               // that came with it, nil for none
	sealed   *presence.Resolution // that came with it, nil for none
	err      error
}

// post adds to the inbox. The caller holds a pin, or is a connection that does.
func (d *document) post(p posted) {
	d.mu.Lock()
	d.inbox = append(d.inbox, p)
	start := !d.running
	d.running = true
	d.mu.Unlock()
	if start {
		d.srv.running.begin()
		go d.run()
	}
}

// run steps the machine until the inbox is empty.
func (d *document) run() {
	defer d.srv.running.end()
	var batch []posted
	for {
		d.mu.Lock()
		batch, d.inbox = d.inbox, batch[:0]
		if len(batch) == 0 {
			d.running = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		d.step(batch)
		clear(batch)
	}
}

// maxOutputs is how much a batch may ask for before it is done.
const maxOutputs = 1024

// step takes everything that waited, then does what came of it: what several
// inputs make known to a peer travels in one message.
func (d *document) step(batch []posted) {
	d.now = d.srv.opt.Now()
	if d.machine == nil && !d.broken {
		d.load()
	}
	if len(batch) > 1 || !batch[0].rest {
		d.stepped.Store(d.srv.moment())
	}
	unpin, evict := 0, false
	for i := range batch {
		unpin += d.apply(&batch[i])
		if len(d.out) > maxOutputs {
			d.perform() // not to hold what many inputs cause for many peers
		}
		evict = batch[i].idle && !d.considerSnapshot(true) && !(d.machine != nil && d.machine.Occupied())
	}
	if d.toLook {
		d.look()
	}
	unpin += d.answerWaiting()
	d.perform()
	d.observe()
	if d.machine != nil {
		d.seen.Store(steps(d.version()))
	}
	d.setTimer()
	if unpin > 0 {
		d.srv.docs.release(d, unpin, evict)
	}
}

// setTimer makes the timer fire when the machine wants to be told the time.
func (d *document) setTimer() {
	var wake time.Time
	if d.machine != nil {
		wake = d.machine.Wake()
	}
	if wake.Equal(d.wake) {
		return
	}
	d.wake = wake
	switch {
	case wake.IsZero():
		d.timer.Stop()
	case d.timer == nil:
		d.timer = time.AfterFunc(time.Until(wake), func() { d.srv.tick(d) })
	default:
		d.timer.Reset(time.Until(wake))
	}
}

// tick lets time pass for a document. A server that shuts down lets it stand
// still: people whose connections it ends have not left.
func (s *Server) tick(d *document) {
	if !s.draining.Load() {
		s.docs.postIfOpen(d, posted{tick: true})
	}
}

// apply handles one posted thing and returns how many pins it gives back.
func (d *document) apply(p *posted) (unpin int) {
	switch {
	case p.gone != nil:
		d.stepWith(&session.GoneInput{Conn: p.gone.id, Goodbye: p.gone.goodbye})
		delete(d.conns, p.gone.id)
		return 1
	case p.barred != nil:
		d.stepWith(&session.GoneInput{Conn: p.barred.id, Goodbye: p.barred.expelled.Load()})
		return 1
	case p.settled != nil:
		d.settle(p.settled)
		return 1
	case p.ask != nil:
		return d.answer(p.ask)
	case p.turn != nil:
		p.turn <- d.compactJob()
		return 0
	case p.compacted != nil:
		d.takeSnapshot(p.compacted)
		return 1
	case p.writable != nil:
		if p.writable.out.wasRobbed(d) {
			d.stepWith(&session.DroppedInput{Conn: p.writable.id})
		}
		d.fill(p.writable)
		return 0
	case p.tick:
		d.wake = time.Time{} // it has fired
		d.stepWith(&session.TickInput{})
		return 1
	case p.news != nil:
		d.hear(p.news)
		return 1
	case p.own != nil:
		d.hearOf(p.own)
		return 1
	case p.yield > 0:
		d.yield(p.yield)
		return 1
	case p.again:
		d.overtakenStill()
		return 1
	case p.look:
		d.toLook = true
		return 1
	case p.stored != nil:
		d.takeStored(p.stored)
		return 1
	case p.rest:
		d.rest()
		return 1
	case p.idle:
		return 1
	}
	if p.from != nil {
		defer p.from.flow.Release(p.weight)
		if d.broken {
			p.from.end(session.Close{Code: session.CloseInternal, Reason: "the document could not be read or stored: please come back"})
			return 0
		}
		if p.from.barred.Load() {
			return 0
		}
		d.conns[p.from.id] = p.from
	}
	before := d.length()
	d.stepWith(p.input)
	d.arrived(p.at, before)
	return 0
}

// rest frees what is only needed while something happens.
func (d *document) rest() {
	if d.machine != nil {
		d.considerSnapshot(true) // who comes now is a cold client
		d.machine.Rest()
	}
	if len(d.out) == 0 {
		d.out = nil
	}
	if len(d.arrivals) == 0 {
		d.arrivals = nil
	}
	d.mu.Lock()
	if len(d.inbox) == 0 {
		d.inbox = nil
	}
	d.mu.Unlock()
}

func (d *document) stepWith(in session.Input) {
	if !d.broken {
		d.out = d.machine.Step(d.now, in, d.out)
	}
}

// settle learns how a commit ended. The machine is told of success only: this
// is where changes become visible to peers.
func (d *document) settle(s *settled) {
	if d.broken {
		return
	}
	d.inflight--
	if s.err == nil || errors.Is(s.err, store.ErrBehind) || errors.Is(s.err, store.ErrPresence) {
		d.settled(s)
		if d.inflight == 0 && (d.overtaken || d.stale) {
			d.perform() // what it asks of the store counts
			if d.inflight == 0 {
				d.askToPass()
				d.catchUp()
			}
		}
		return
	}
	d.srv.log.Error("a change could not be stored; its document is dropped from memory", "document", d.id, "err", s.err)
	d.stepWith(&session.FailedInput{Overloaded: errors.Is(s.err, store.ErrOverloaded)})
	d.perform()
	d.fail()
}

// settled takes note of a commit that is on disk, or that another node's was before.
func (d *document) settled(s *settled) {
	if s.err == nil {
		d.proven, d.lost = s.n, 0
		d.stepWith(&session.DurableInput{N: s.upTo})
		if s.settings != nil {
			d.kept.Settings++
			d.takeSettings(s.settings)
		}
		if s.sealed != nil {
			d.kept.Resolutions++
			d.refused = 0
			d.srv.counters.resolutions.Add(1)
			d.stepWith(&session.SealedInput{Checkpoint: s.sealed.Checkpoint})
		}
		d.tellStored()
		d.considerSnapshot(false)
		return
	}
	if s.sealed != nil && errors.Is(s.err, store.ErrPresence) {
		d.srv.counters.sealsRefused.Add(1)
		d.refused++
		d.toLook = true
		if d.srv.draining.Load() { // what was on its way is tried, once
			d.stepWith(&session.DrainingInput{})
		}
		if errors.Is(s.err, store.ErrNoLease) {
			signal(d.srv.neighbours.wake)
		}
	}
	d.beaten = d.beaten || errors.Is(s.err, store.ErrBehind)
	d.overtaken = true // the rest of the chain follows; then it is looked for what is newer
}

// fail drops the document's state. Connections end and come back to a fresh one.
func (d *document) fail() {
	d.broken = true
	d.machine = nil
	if d.told {
		d.srv.publisher.publish(publication{from: d}) // who comes back is told anew
	}
	d.srv.docs.forget(d)
}

// perform does what the machine asked for.
func (d *document) perform() {
	for i, out := range d.out {
		switch out := out.(type) {
		case session.Commit:
			d.commit(out)
		case session.Seal:
			d.seal(out)
		case session.Publish:
			d.told = true
			d.srv.publisher.publish(publication{from: d, n: out.N, data: out.Data})
		case session.Relay:
			d.srv.publisher.relay(store.Relayed{Document: d.id, Data: out.Data})
		case session.Pending:
			if c, ok := d.conns[out.Conn]; ok {
				d.fill(c)
			}
		case session.Send:
			if c, ok := d.conns[out.Conn]; ok {
				c.send(out.Frame, kindOfSend(out), d)
			}
		case session.Held:
			if c, ok := d.conns[out.Conn]; ok {
				c.addHeld(out.Bytes)
			}
		case session.Refused:
			d.srv.counters.refuse(out)
			d.srv.log.Info("changes refused", "conn", out.Conn, "code", out.First.Code, "changes", out.Count)
		case session.Disconnect:
			if c, ok := d.conns[out.Conn]; ok {
				c.end(out.Close)
			}
		}
		d.out[i] = nil
	}
	d.out = d.out[:0]
}

// commit queues accepted changes for the disk. Nobody hears of them before the
// store has called back.
func (d *document) commit(c session.Commit) {
	if d.overtaken {
		return // all that is not on disk is asked for again
	}
	for from := c.From; from < c.To; from += store.DocumentShare {
		d.commitPart(from, min(from+store.DocumentShare, c.To))
	}
}

func (d *document) commitPart(first, end int) {
	g := d.machine.Graph()
	changes := make([]store.Change, 0, end-first)
	for i := first; i < end; i++ {
		from := d.machine.Delivery(i)
		changes = append(changes, store.Change{
			Hash: g.HashAt(i), Chunk: g.ChunkAt(i), User: from.User, Role: string(from.Role), At: from.At.UnixMilli(),
		})
	}
	d.srv.docs.pin(d)
	n := d.ask()
	base := d.base(first)
	d.srv.store.Append(store.Batch{Document: d.id, Base: base, Changes: changes, Chain: d.chain, Done: func(err error) {
		d.post(posted{settled: &settled{n: n, upTo: end, err: err}})
	}})
}

// base is what a batch is built on that comes after so many changes and all else
// that was asked of the store; nil where nobody else appends.
func (d *document) base(changes int) *store.Version {
	if !d.srv.store.Shared() {
		return nil
	}
	return &store.Version{Changes: changes, Settings: d.came.Settings, Resolutions: d.came.Resolutions}
}

// fill puts the sync message that c should have into its outbox, if there is
// room; if not, the outbox asks for it later.
func (d *document) fill(c *conn) {
	if d.broken || !c.out.reserve(d) {
		return
	}
	if frame := d.machine.Pull(c.id); frame != nil {
		c.send(frame, frameSync, d)
	}
}

// load reads the document from the store.
func (d *document) load() {
	stored, err := d.srv.store.Load(context.Background(), d.id)
	if err == nil {
		var doc *crdt.Document
		if doc, err = loaded(stored, d.srv.opt.Limits.Change); err == nil {
			err = d.begin(doc, stored)
		}
	}
	if err == nil {
		if d.srv.stalled.Load() {
			d.stepWith(&session.StalledInput{Stalled: true})
		}
		d.look() // before anybody arrives
		return
	}
	advice := ": parley check says what is damaged in the data folder, parley restore puts a backup in its place"
	if d.srv.store.Shared() {
		advice = ""
	}
	d.srv.log.Error("a document could not be loaded"+advice, "document", d.id, "err", err)
	d.fail()
}

// loaded makes the document of what was stored, with the index as far as it goes.
func loaded(stored *store.Stored, lim crdt.Limits) (*crdt.Document, error) {
	doc := crdt.NewDocument(lim)
	n := stored.Indexed
	if n > 0 && doc.LoadIndexed(stored.Index, stored.Hashes[:n], stored.Chunks[:n]) != nil {
		n = 0 // of another version: the changes say it all
	}
	return doc, doc.Load(stored.Chunks[n:]...)
}

// readResolutions reads what seal has stored.
func readResolutions(stored []store.Resolution) ([]presence.Resolution, error) {
	list := make([]presence.Resolution, len(stored))
	for i, r := range stored {
		if err := json.Unmarshal(r.Data, &list[i]); err != nil {
			return nil, fmt.Errorf("read resolution %d: %w", i+1, err)
		}
	}
	return list, nil
}

// begin makes the machine of what was loaded.
func (d *document) begin(doc *crdt.Document, stored *store.Stored) error {
	settings, err := readSettings(stored.Settings)
	if err != nil {
		return err
	}
	resolutions, err := readResolutions(stored.Resolutions)
	if err != nil {
		return err
	}
	d.kept, d.came = stored.Version, stored.Version
	d.chain = &store.Chain{}
	d.settings, d.newSettings = stored.Settings, stored.Settings
	d.machine = session.NewDocument(d.id, &d.srv.docConfig, session.Stored{
		Document: doc, Snapshot: stored.Snapshot, Users: stored.Users,
		Settings: settings, Resolutions: resolutions,
	}, wire.SessionID(uuid.NewString()))
	return nil
}

// seal signs a resolution and queues it for the disk, behind all that was queued
// before.
func (d *document) seal(s session.Seal) {
	if d.overtaken {
		return // the room is told so
	}
	r := s.Resolution
	d.srv.docs.pin(d)
	n := d.ask()
	// Read before it is looked whether the others are known under it.
	lease := d.srv.neighbours.lease.Load()
	if s.Relies != nil && d.srv.moment() < d.srv.neighbours.unsure.Load() { // the database has forgotten who is there
		refused := posted{settled: &settled{n: n, sealed: &r, err: store.ErrPresence}}
		d.postLater(refused, sealAgain)
		return
	}
	upTo := d.machine.Graph().Durable() // it is over these
	if err := d.signResolution(&r); err != nil {
		d.post(posted{settled: &settled{n: n, err: fmt.Errorf("sign a resolution: %w", err)}})
		return
	}
	data, err := json.Marshal(r)
	if err != nil {
		panic("server: encode a resolution: " + err.Error()) // of texts and numbers
	}
	base, pause := d.base(upTo), d.sealPause()
	d.came.Resolutions++
	d.srv.store.Append(store.Batch{
		Document: d.id, Base: base, Resolution: &store.Resolution{Heads: r.Heads, Data: data}, Relies: relies(s.Relies), Lease: lease, Chain: d.chain,
		Done: func(err error) { // the commit point: after it the parties have agreed
			p := posted{settled: &settled{n: n, upTo: upTo, sealed: &r, err: err}}
			if errors.Is(err, store.ErrPresence) {
				d.postLater(p, pause)
				return
			}
			d.post(p)
		},
	})
}

// postLater posts what need not be known at once.
func (d *document) postLater(p posted, pause time.Duration) {
	if pause == 0 {
		d.post(p)
		return
	}
	d.srv.running.begin()
	time.AfterFunc(pause, func() {
		defer d.srv.running.end()
		d.post(p)
	})
}

// sealAgain is the longest time after which a resolution is tried again that was
// refused for who is present.
const sealAgain = 500 * time.Millisecond

// sealPause is how long after a resolution was refused for who is present it may be
// tried again: at once at first.
func (d *document) sealPause() time.Duration {
	if d.refused == 0 {
		return 0
	}
	return min(5*time.Millisecond<<min(d.refused, 10), sealAgain)
}
