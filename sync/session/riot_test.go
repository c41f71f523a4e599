package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// What a riot's document may keep for one connection, and what its frames hold.
var riotLimits = session.Limits{
	Frame: 64 << 10, JoinFrame: 4 << 10, Documents: 2, Ephemeral: 1 << 10, HeldChanges: 12, HeldBytes: 2 << 10, SendBytes: 1 << 10,
	Change: crdt.Limits{Ops: 500, Heads: 8},
}.WithDefaults()

// A riot is a document and a few connections to it that send what a program says:
// honest frames, in any order, of wrong senders, bent, or from the corpus of
// hostile ones. The disk is a queue that the program lets run.
type riot struct {
	t       *testing.T
	program []byte
	goods   *goods
	now     time.Time
	doc     *session.Document
	lives   int
	conns   []*rioter
	next    session.ConnID
	disk    []session.Output            // what it was asked for
	written int                         // changes that are on it
	muted   bool                        // what the one who may only read sends goes nowhere
	apart   bool                        // who may only read has none of the others' changes
	senders map[crdt.Hash][]string      // users who sent a change, and may write
	log     map[wire.PeerID][]string    // frames of ours
	sent    map[wire.PeerID][]crdt.Hash // the changes in them
	stored  []presence.Resolution
}

// A rioter is one connection.
type rioter struct {
	conn    *session.Conn
	id      session.ConnID
	peer    wire.PeerID
	person  presence.Person
	opened  bool // the document knows of it
	closed  bool
	count   uint64
	held    int
	last    []byte // its last frame
	longest int    // of its frames, in bytes
}

// riotPeers are who takes part. The first is who the hostile corpus speaks as;
// the last may only read.
var riotPeers = []struct {
	peer   wire.PeerID
	person presence.Person
}{
	{"forge-client", presence.Person{User: "mallory", Role: transaction.Party}},
	{"alice's", presence.Person{User: "alice", Role: transaction.Party}},
	{"bob's", presence.Person{User: "bob", Role: transaction.Party}},
	{"victor's", presence.Person{User: "victor", Role: transaction.Viewer}},
}

const viewer = 3 // in riotPeers

// newRiot begins a riot.
func newRiot(t *testing.T, g *goods, program []byte) *riot {
	r := &riot{t: t, program: program, goods: g, now: epoch, senders: make(map[crdt.Hash][]string), log: make(map[wire.PeerID][]string),
		sent: make(map[wire.PeerID][]crdt.Hash)}
	r.load(nil, nil)
	for i := range riotPeers {
		r.conns = append(r.conns, nil)
		r.connect(i)
	}
	return r
}

func (r *riot) load(chunks [][]byte, users []string) {
	doc := crdt.NewDocument(r.goods.config.Limits.Change)
	if err := doc.Load(chunks...); err != nil {
		r.t.Fatalf("what was stored does not load: %v", err)
	}
	r.lives++
	r.written = len(chunks)
	r.doc = session.NewDocument(r.goods.id, &r.goods.config, session.Stored{Document: doc, Users: users, Resolutions: r.stored},
		wire.SessionID(fmt.Sprint("life-", r.lives)))
}

func (r *riot) connect(i int) {
	r.next++
	who := riotPeers[i]
	c := &rioter{id: r.next, peer: who.peer, person: who.person, conn: session.NewConn(r.next, who.person, &session.ConnConfig{
		Self: serverID, Storage: serverStore, Limits: riotLimits,
	})}
	if before := r.conns[i]; before != nil {
		c.last, c.count = before.last, before.count
	}
	r.conns[i] = c
}

// choose reads the program's next decision, one of n. A program that has ended
// decides for the first.
func (r *riot) choose(n int) int {
	if len(r.program) == 0 {
		return 0
	}
	b := int(r.program[0])
	r.program = r.program[1:]
	return b % n
}

// run plays the program and then lets everything come to rest.
func (r *riot) run() {
	for steps := 0; len(r.program) > 0 && steps < 200; steps++ {
		r.step()
		r.check()
	}
	r.settle()
}

// send is a frame from a connection, as the shell handles it.
func (r *riot) send(c *rioter, frame []byte) {
	c.last, c.longest = frame, max(c.longest, len(frame))
	if r.muted && c.peer == riotPeers[viewer].peer || len(frame) > c.conn.MaxFrame() {
		return
	}
	before := bytes.Clone(frame)
	ev := c.conn.Receive(frame)
	if !bytes.Equal(before, frame) {
		r.t.Fatal("a frame was changed")
	}
	switch ev := ev.(type) {
	case session.Joined:
		r.hear(c, ev.Reply)
	case session.Reply:
		r.hear(c, ev.Frame)
	case session.Deliver:
		if !c.conn.Joined() {
			r.t.Fatal("heard before it has joined")
		}
		if says := speaker(frame); says != c.peer {
			r.t.Fatalf("%s is heard as %s", c.peer, says)
		}
		if ev.Document != r.goods.id {
			return
		}
		c.opened = true
		if ev.Subscriptions != nil {
			r.stepDocument(c, ev.Subscriptions)
		}
		r.stepDocument(c, ev.Input)
	case session.Subscribe:
		if ev.Input.From.ID != c.peer {
			r.t.Fatalf("%s subscribes for %s", c.peer, ev.Input.From.ID)
		}
		if c.opened {
			r.stepDocument(c, &ev.Input)
		}
	case session.Close:
		r.end(c, ev)
	}
}

// speaker is who sends a frame, as it says.
func speaker(frame []byte) wire.PeerID {
	m, err := wire.Decode(frame, wire.Limits{})
	if err != nil {
		return ""
	}
	switch m := m.(type) {
	case *wire.Request:
		return m.SenderID
	case *wire.Sync:
		return m.SenderID
	case *wire.DocUnavailable:
		return m.SenderID
	case *wire.Ephemeral:
		return m.SenderID
	case *wire.RemoteHeadsChanged:
		return m.SenderID
	}
	return ""
}

// stepDocument steps the document with an input, which is c's unless c is nil, and
// does what the shell does with what comes of it.
func (r *riot) stepDocument(c *rioter, in session.Input) {
	n := r.doc.Graph().Len()
	if in, ok := in.(*session.SyncInput); ok {
		r.note(c, in)
	}
	outs := r.doc.Step(r.now, in, nil)
	committed := n
	for _, out := range outs {
		switch out := out.(type) {
		case session.Commit:
			if out.From != committed || out.To > r.doc.Graph().Len() {
				r.t.Fatalf("commit of %d to %d, after %d of %d", out.From, out.To, committed, r.doc.Graph().Len())
			}
			committed = out.To
			r.disk = append(r.disk, out)
		case session.Seal:
			r.disk = append(r.disk, out)
		case session.Pending:
			if p := r.byID(out.Conn); !p.closed {
				if frame := r.doc.Pull(out.Conn); frame != nil {
					r.hear(p, frame)
				}
			}
		case session.Send:
			r.hear(r.byID(out.Conn), out.Frame)
		case session.Held:
			r.byID(out.Conn).held += out.Bytes
		case session.Refused:
			if out.Count < 1 || out.First == nil || out.First.Reason == "" {
				r.t.Fatalf("%+v", out)
			}
		case session.Disconnect:
			r.end(r.byID(out.Conn), out.Close)
		}
	}
	if committed != r.doc.Graph().Len() {
		r.t.Fatalf("%d changes were accepted, and %d are to be committed", r.doc.Graph().Len(), committed)
	}
	for i := n; i < r.doc.Graph().Len(); i++ {
		r.accepted(i)
	}
}

// note notes whose changes came.
func (r *riot) note(c *rioter, in *session.SyncInput) {
	for _, d := range in.Changes {
		if d.Change != nil {
			r.senders[d.Change.Hash] = append(r.senders[d.Change.Hash], c.person.User)
		}
	}
}

// accepted checks that a change came from somebody who may write.
func (r *riot) accepted(i int) {
	g := r.doc.Graph()
	user := r.doc.User(i)
	if g.ActorAt(i) == transaction.GenesisActor {
		return // anybody may bring it
	}
	if user == riotPeers[viewer].person.User && i > 0 {
		r.t.Fatalf("change %d was taken from one who may only read", i)
	}
	if !slices.Contains(r.senders[g.HashAt(i)], user) {
		r.t.Fatalf("change %d is said to be of %q, and came from %q", i, user, r.senders[g.HashAt(i)])
	}
}

func (r *riot) byID(id session.ConnID) *rioter {
	for _, c := range r.conns {
		if c.id == id {
			return c
		}
	}
	r.t.Fatalf("connection %d is spoken to, and gone", id)
	return nil
}

// hear takes a frame of the server's. Whatever it says must be on disk.
func (r *riot) hear(c *rioter, frame []byte) {
	m, err := wire.Decode(frame, wire.Limits{})
	var bad *wire.Error
	if errors.As(err, &bad) && bad.Kind == wire.KindDocument && bad.Type == wire.TypeDocUnavailable {
		return // the answer to an id that is none, in its own text
	}
	if err != nil {
		r.t.Fatalf("the server sends what cannot be read: %v: % x", err, frame)
	}
	r.log[c.peer] = append(r.log[c.peer], fmt.Sprintf("%s %x", m.Type(), frame))
	s, ok := m.(*wire.Sync)
	if !ok {
		return
	}
	if s.TargetID != c.peer || s.SenderID != serverID {
		r.t.Fatalf("%s is told by %s what is for %s", c.peer, s.SenderID, s.TargetID)
	}
	pm, err := protocol.Decode(s.Data, protocol.Limits{DocumentChunks: true})
	if err != nil {
		r.t.Fatalf("the server sends a message that cannot be read: %v", err)
	}
	for _, h := range pm.Heads {
		if !r.isWritten(h) {
			r.t.Fatalf("head %s is told and not on disk", h)
		}
	}
	for _, chunk := range pm.Changes {
		change, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			r.t.Fatalf("a change is sent on that the gate refuses: %v", err)
		}
		r.sent[c.peer] = append(r.sent[c.peer], change.Hash)
		if !r.isWritten(change.Hash) {
			r.t.Fatalf("change %s is sent and not on disk", change.Hash)
		}
	}
}

func (r *riot) isWritten(h crdt.Hash) bool {
	i, ok := r.doc.Graph().Index(h)
	return ok && i < r.written
}

func (r *riot) end(c *rioter, how session.Close) {
	if how.Frame != nil {
		r.hear(c, how.Frame)
	}
	r.gone(c, how.Goodbye)
}

func (r *riot) gone(c *rioter, goodbye bool) {
	if c.closed {
		return
	}
	c.closed = true
	if c.opened {
		r.stepDocument(c, &session.GoneInput{Conn: c.id, Goodbye: goodbye})
	}
}

// write completes the next thing that the disk was asked for.
func (r *riot) write() {
	if len(r.disk) == 0 {
		return
	}
	next := r.disk[0]
	r.disk = r.disk[1:]
	switch next := next.(type) {
	case session.Commit:
		r.written = next.To
		r.stepDocument(nil, &session.DurableInput{N: next.To})
	case session.Seal:
		r.stepDocument(nil, &session.SealedInput{})
	}
}

// fail lets the disk fail for good: all connections end, and the document begins
// anew with what was stored.
func (r *riot) fail(overloaded bool) {
	if len(r.disk) == 0 {
		return
	}
	r.disk, r.stored = nil, r.doc.Resolutions()
	var chunks [][]byte
	var users []string
	for i := range r.doc.Graph().Durable() {
		chunks, users = append(chunks, r.doc.Graph().ChunkAt(i)), append(users, r.doc.User(i))
	}
	for _, out := range r.doc.Step(r.now, &session.FailedInput{Overloaded: overloaded}, nil) {
		if d, ok := out.(session.Disconnect); ok {
			r.hear(r.byID(d.Conn), d.Frame)
		}
	}
	for i, c := range r.conns {
		if c.opened && !c.closed {
			r.connect(i)
		}
	}
	r.load(chunks, users)
}

// check checks what holds between any two steps.
func (r *riot) check() {
	g := r.doc.Graph()
	if len(g.Tips()) > riotLimits.Change.Heads {
		r.t.Fatalf("%d heads", len(g.Tips()))
	}
	peers := 0
	for _, c := range r.conns {
		if c.opened && !c.closed {
			peers++
		}
		// What it said of itself is at most as long as its longest frame.
		if c.held < 0 || c.held > riotLimits.HeldBytes+c.longest {
			r.t.Fatalf("%d bytes are kept for %s", c.held, c.peer)
		}
	}
	if r.doc.Peers() > peers {
		r.t.Fatalf("the document has %d peers of %d", r.doc.Peers(), peers)
	}
}

// settle writes what waits for the disk, ends all connections, and lets an honest
// client come, who must get all there is.
func (r *riot) settle() {
	for len(r.disk) > 0 {
		r.write()
	}
	if !r.doc.Settled() {
		r.t.Fatal("nothing waits for the disk, and not all is there")
	}
	for _, c := range r.conns {
		r.gone(c, false)
	}
	if n := r.doc.Peers(); n > 0 {
		r.t.Fatalf("%d peers of none", n)
	}
	r.connect(1)
	honest := r.conns[1]
	r.send(honest, wire.Append(nil, &wire.Join{SenderID: honest.peer}))
	var state protocol.State
	replica := crdt.NewDocument(crdt.Limits{})
	for rounds := 0; ; rounds++ {
		from := len(r.log[honest.peer])
		m, ok := state.Generate(&replica.Graph, protocol.Options{})
		if !ok {
			break
		}
		if rounds > 60 {
			r.t.Fatal("the conversation with an honest client does not end")
		}
		r.sync(honest, m.Append(nil))
		for _, text := range r.log[honest.peer][from:] {
			r.take(&state, replica, text)
		}
	}
	if !slices.Equal(replica.Graph.Heads(), r.doc.Graph().Heads()) {
		r.t.Fatalf("an honest client has %v, and there is %v", replica.Graph.Heads(), r.doc.Graph().Heads())
	}
	if honest.closed {
		r.t.Fatal("an honest client was sent away")
	}
}

// take is what an honest client does with a frame.
func (r *riot) take(state *protocol.State, replica *crdt.Document, text string) {
	var frame []byte
	var kind string
	if _, err := fmt.Sscanf(text, "%s %x", &kind, &frame); err != nil {
		r.t.Fatal(err)
	}
	m, err := wire.Decode(frame, wire.Limits{})
	if err != nil {
		r.t.Fatal(err)
	}
	s, ok := m.(*wire.Sync)
	if !ok {
		return
	}
	pm, err := protocol.Decode(s.Data, protocol.Limits{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, chunk := range pm.Changes {
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			r.t.Fatal(err)
		}
		if o := replica.Add(c); o.Status == crdt.Refused {
			r.t.Fatalf("an honest client refuses what it is sent: %v", o.Refusal)
		}
	}
	replica.Graph.MarkDurable(replica.Graph.Len())
	state.Receive(&replica.Graph, pm)
}
