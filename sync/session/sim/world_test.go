package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"parley/sync/session"
)

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is all there is in a run.
type world struct {
	plan    *plan
	now     time.Time
	dice    *rand.Rand // of the action that is happening
	source  *rand.PCG
	clients []*client
	links   []*link // in which one side at least believes
	server  *server
	disk    *disk
	model   *model
	trace   *trace
	steps   int // of machines
	names   int // of actors, sessions and peers
}

func newWorld(p *plan, tr *trace) *world {
	w := &world{plan: p, now: epoch, source: rand.NewPCG(0, 0), trace: tr}
	w.dice = rand.New(w.source)
	tr.w = w
	w.model = newModel(w)
	w.disk = newDisk(w)
	w.server = newServer(w)
	for i, who := range p.people {
		w.clients = append(w.clients, newClient(w, i, who))
	}
	return w
}

// violation is what must not be.
type violation struct {
	rule string // the same for the same fault
	text string
}

func (v *violation) String() string { return v.rule + ": " + v.text }

// must ends the run if something is not so.
func (w *world) must(so bool, rule, format string, args ...any) {
	if !so {
		panic(&violation{rule, fmt.Sprintf(format, args...)})
	}
}

// outcome is how a run went.
type outcome struct {
	broken  *violation // nil: all was as it must be
	actions []action
	steps   int
	hash    uint64
	counts  counts
}

// run makes a plan happen: the actions that are given, or as many as next makes.
func run(p *plan, next func(i int) (action, bool), tr *trace) (out outcome) {
	w := newWorld(p, tr)
	defer func() {
		if fault := recover(); fault != nil {
			v, ok := fault.(*violation)
			if !ok {
				v = &violation{"panic", fmt.Sprintf("%v\n%s", fault, debug.Stack())}
			}
			out.broken = v
			tr.say("VIOLATION %s", v)
		}
		out.steps, out.hash, out.counts = w.steps, tr.hash.Sum64(), w.model.counts
	}()
	for i := 0; ; i++ {
		a, ok := next(i)
		if !ok {
			break
		}
		out.actions = append(out.actions, a)
		w.do(a)
	}
	w.end()
	return out
}

// do makes one action happen.
func (w *world) do(a action) {
	if client := int(a.who) % len(w.clients); w.plan.absent[client] && a.kind < step {
		return
	}
	w.source.Seed(uint64(a.luck), uint64(a.kind))
	w.trace.action(a)
	w.now = w.now.Add(time.Duration(w.dice.IntN(3)) * time.Millisecond)
	kinds[a.kind].do(w, a)
	w.tick()
}

// tick posts to every document whose time has come, and cuts off who does not take
// a farewell.
func (w *world) tick() {
	for _, d := range w.server.documents() {
		if d.machine == nil || d.ticking {
			continue
		}
		if wake := d.machine.Wake(); !wake.IsZero() && !wake.After(w.now) {
			d.ticking = true
			w.server.postIfOpen(d, posted{tick: true})
		}
	}
	for _, c := range w.server.list() {
		if !c.cutAt.IsZero() && !w.now.Before(c.cutAt) {
			c.leave()
		}
	}
	w.forgetLinks()
}

// forgetLinks drops links in which nobody believes.
func (w *world) forgetLinks() {
	kept := w.links[:0]
	for _, l := range w.links {
		if l.believed() || !l.conn.gone {
			kept = append(kept, l)
		}
	}
	clear(w.links[len(kept):])
	w.links = kept
}

// wait lets time pass, mostly little.
func (w *world) wait(action) {
	d := time.Duration(w.dice.IntN(200)) * time.Millisecond
	switch w.dice.IntN(20) {
	case 0:
		d = time.Duration(w.dice.IntN(10_000)) * time.Millisecond
	case 1:
		d = time.Duration(w.dice.IntN(90_000)) * time.Millisecond
	}
	w.now = w.now.Add(d)
}

// flow lets everything that is under way arrive, but for what is broken.
func (w *world) flow(action) {
	for range 1 + w.dice.IntN(20) {
		w.round(w.disk.full)
		w.tick()
	}
}

// meet lets some of those who have a transaction open confirm it at once, as people
// do who talk to each other.
func (w *world) meet(a action) {
	w.flow(a)
	for _, c := range w.clients {
		if r := c.replicas[int(a.who)%len(c.replicas)]; w.dice.IntN(4) > 0 {
			r.confirm()
		}
	}
}

// round moves everything once. It reports whether there was anything to move.
func (w *world) round(full bool) (moved bool) {
	for _, l := range w.links {
		moved = l.moveUp(1<<20) || moved
	}
	for _, d := range w.server.documents() {
		moved = d.run() || moved
	}
	if !full {
		moved = w.disk.begin(100) || moved
		moved = w.disk.finish(done) || moved
	}
	for _, d := range w.server.documents() {
		moved = d.run() || moved
	}
	for _, l := range w.links {
		moved = l.conn.write() || moved
		moved = l.moveDown(1<<20) || moved
	}
	return moved
}

// topicDocument is a document that is open, of a topic.
func (w *world) topicDocument(a action) *document {
	return w.server.docs[w.plan.topics[int(a.who)%len(w.plan.topics)].id]
}

func (w *world) stepDocument(a action) {
	docs := w.server.documents()
	if len(docs) > 0 {
		docs[int(a.who)%len(docs)].run()
	}
}

func (w *world) restDocument(a action) {
	if d := w.topicDocument(a); d != nil {
		w.server.postIfOpen(d, posted{rest: true})
	}
}

func (w *world) snapshotDocument(a action) {
	if d := w.topicDocument(a); d != nil {
		d.makeSnapshot()
	}
}

func (w *world) hostWrites(a action) {
	t := &w.plan.topics[int(a.who)%len(w.plan.topics)]
	if !t.plain() {
		w.server.put(t)
	}
}

// crash kills the server. What the disk was at may have got there.
func (w *world) crash() {
	w.disk.crash(w.dice.IntN(2) == 0)
	w.endServer()
}

// restart ends the server in peace, when there is room: what was accepted is on disk.
func (w *world) restart() {
	for _, d := range w.server.documents() {
		d.run()
	}
	w.disk.full = false
	for w.disk.begin(100) || w.disk.finish(done) {
	}
	w.endServer()
}

func (w *world) endServer() {
	for _, c := range w.server.list() {
		c.gone = true
		c.link.up.dead, c.link.down.dead = true, true
		if w.dice.IntN(2) == 0 && c.link.believed() {
			c.link.client.lose()
		}
	}
	w.server = newServer(w)
}

// name makes a name that nothing else has.
func (w *world) name(what string) string {
	w.names++
	return fmt.Sprintf("%s-%d", what, w.names)
}

// limits are small, so that they are met.
var limits = session.Limits{
	HeldChanges: 64, HeldBytes: 64 << 10, SendBytes: 4 << 10, Documents: 8,
}.WithDefaults()
