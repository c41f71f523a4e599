package session

import (
	"slices"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// maxWaitingMessages is how many messages of one peer wait for the disk before
// later ones replace the last. Each message states the peer's whole position,
// so that only the newest matters; the older ones are kept so that a peer that
// never pauses is still heard.
const maxWaitingMessages = 4

// keptFreely is how many bytes of a peer's last message are not worth counting.
const keptFreely = 1024

// CodeDependsOnRefused is the one reason for which a change is refused that
// lies neither in itself nor in the document.
const CodeDependsOnRefused crdt.Code = "depends-on-refused"

// DocumentConfig is what the documents of a server have in common.
type DocumentConfig struct {
	Self    wire.PeerID
	Storage wire.StorageID
	// PlainDocuments admits documents that are not transactions.
	PlainDocuments bool
	Limits         Limits // with defaults set
	// Presence is what the rooms of transactions have in common. With a Node the store
	// is shared with others: then there are a [Publish] and a [Relay], and what other
	// nodes publish and relay is heard.
	Presence presence.Config
}

// Document is the machine of one document: the gate and the graph, a sync
// state for every peer that has it open, and what waits for disk or for
// dependencies.
type Document struct {
	id  crdt.DocumentID
	cfg *DocumentConfig

	doc      *crdt.Document
	snapshot *crdt.Snapshot
	peers    map[ConnID]*peer
	order    []*peer // peers in the order of their arrival, so that runs repeat
	held     heldChanges
	remote   remoteHeads

	wantedElsewhere    map[wire.StorageID]bool // that connections on other nodes want to hear of
	askedSubscriptions bool

	matter matter     // what the document is about: a transaction, as a rule
	users  []string   // who delivered each accepted change
	unkept []Delivery // of the changes that are not on disk

	room        *presence.Room        // nil until the document is a transaction on disk
	subject     *subject              // the room's
	settings    presence.Settings     // on disk
	coming      int                   // how many others are on their way there
	resolutions []presence.Resolution // on disk, in their order
	sealing     *presence.Resolution  // asked for, not yet on disk
	learning    bool                  // the room hears that there is more to come
	roomOut     []presence.Output
	elsewhere   map[presence.Node]*ElsewhereInput // until there is a room

	session wire.SessionID
	count   uint64 // of our own ephemeral messages in session
}

// peer is one connection's part in a document.
type peer struct {
	Peer
	state   protocol.State
	status  status
	refused refusedChanges
	toTell  []*crdt.Refusal  // refusals that the peer has not been told of
	waiting []waitingMessage // received, but its changes are not on disk yet
	remotes map[wire.StorageID]struct{}
	kept    int  // bytes of its last message that are accounted for
	pending bool // Pending was said and Pull has not been called since
	synced  bool // it has had all that there is
	told    bool // the room knows that
}

// status is what is known of a peer's hold on the document (DocSynchronizer's
// PeerDocumentStatus in automerge-repo).
type status int

const (
	statusUnknown status = iota
	statusHas
	statusWants
	statusUnavailable
)

type waitingMessage struct {
	upTo    int // length of the graph that must be durable first
	message *protocol.Message
}

// Stored is a document as the store holds it.
type Stored struct {
	Document *crdt.Document // all its changes durable
	Snapshot *crdt.Snapshot // nil if there is none
	Users    []string       // who delivered each change first, in the graph's order
	// Settings and Resolutions are a transaction's; resolutions in the order in
	// which they were made.
	Settings    presence.Settings
	Resolutions []presence.Resolution
}

// NewDocument returns the machine of a document. session must be new: it names
// this life of the document in messages of its own.
func NewDocument(id crdt.DocumentID, cfg *DocumentConfig, stored Stored, session wire.SessionID) *Document {
	d := &Document{
		id: id, cfg: cfg, doc: stored.Document, snapshot: stored.Snapshot, users: stored.Users,
		peers: make(map[ConnID]*peer), session: session,
		settings: stored.Settings, resolutions: stored.Resolutions,
	}
	d.matter.recognise(d)
	d.openRoom()
	return d
}

// User returns who delivered accepted change i first, empty if nobody was named.
func (d *Document) User(i int) string { return d.users[i] }

// Delivery is how a change came: what its receipt will say.
type Delivery struct {
	User string // whose connection it came from first, empty if nobody was named
	Role transaction.Role
	At   time.Time

	conn ConnID // which that was, 0 for none
}

// delivers is how a change comes from a peer.
func (p *Peer) delivers(now time.Time) Delivery {
	author := p.Person.Author()
	return Delivery{User: author.User, Role: author.Role, At: now, conn: p.Conn}
}

// Delivery returns how accepted change i came, which must not be on disk yet.
func (d *Document) Delivery(i int) Delivery { return d.unkept[i-d.Graph().Durable()] }

// Graph returns the change graph, which only Step changes.
func (d *Document) Graph() *crdt.Graph { return &d.doc.Graph }

// Index returns the index of all changes that are on disk, for [crdt.Document.LoadIndexed].
func (d *Document) Index() []byte { return d.doc.AppendIndex(nil) }

// Snapshot returns the newest snapshot, nil if there is none.
func (d *Document) Snapshot() *crdt.Snapshot { return d.snapshot }

// maxRestored is how many changes a document may have for Rest to free anything:
// about 2 ms of work to have it back.
const maxRestored = 512

// Rest frees what can be made again of the changes in a moment, for a document in
// which nothing has happened for a while.
func (d *Document) Rest() {
	if !d.Settled() || d.Graph().Len() > maxRestored {
		return
	}
	d.doc.DropTables()
	if d.room == nil || d.subject.isCurrent() {
		d.matter.state, d.matter.kept = nil, nil
	}
	d.roomOut, d.unkept = nil, nil
}

// Peers returns how many connections have the document open.
func (d *Document) Peers() int { return len(d.order) }

// Settled reports whether everything accepted is on disk.
func (d *Document) Settled() bool { return d.Graph().Durable() == d.Graph().Len() }

// Wake returns when a [TickInput] is due, the zero time if nothing in the
// document waits for time to pass.
func (d *Document) Wake() time.Time {
	wake := d.held.wake()
	if d.room != nil {
		if w := d.room.Wake(); wake.IsZero() || !w.IsZero() && w.Before(wake) {
			wake = w
		}
	}
	return wake
}

// Step applies one input and appends what the shell has to do to out.
func (d *Document) Step(now time.Time, in Input, out []Output) []Output {
	from, content := sender(in)
	if content && !d.served(from) {
		return append(out, d.unavailable(from))
	}
	if from.Conn != 0 {
		out = d.open(now, from, out)
	}
	switch in := in.(type) {
	case *SyncInput:
		out = d.receive(now, in, out)
	case *UnavailableInput:
		d.peers[from.Conn].status = statusUnavailable
		out = d.answerRequests(out)
	case *EphemeralInput:
		out = d.ephemeral(now, in, out)
	case *RemoteHeadsInput:
		out = d.learnRemoteHeads(now, in, out)
	case *SubscribeInput:
		out = d.subscribe(now, in, out)
	case *GoneInput:
		out = d.leave(now, in, out)
	case *DroppedInput:
		out = d.repeat(now, in.Conn, out)
	case *MeasuredInput:
		out = d.inRoom(now, presence.Measured{Conn: presence.Conn(in.Conn), RoundTrip: in.RoundTrip}, out)
	case *SettingsComingInput:
		d.coming++
		out = d.inRoom(now, presence.Setting{}, out)
	case *SettingsInput:
		d.settings, d.coming = in.Settings, max(0, d.coming-1)
		out = d.inRoom(now, presence.Set{Settings: in.Settings}, out)
	case *SealedInput:
		out = d.sealed(now, in.Checkpoint, out)
	case *DurableInput:
		out = d.durable(now, in.N, out)
	case *FailedInput:
		out = d.fail(in, out)
	case *SnapshotInput:
		d.snapshot = in.Snapshot
	case *StalledInput:
		out = d.inRoom(now, presence.Stalled{Stalled: in.Stalled}, out)
	case *DrainingInput:
		out = d.inRoom(now, presence.Draining{}, out)
	case *TickInput:
		out = d.inRoom(now, presence.Ticked{}, out)
	default:
		out = d.fromNodes(now, in, out)
	}
	return d.held.expire(now, out)
}

// sender returns who says something, the zero Peer if nobody does, and whether
// it is about the document's content.
func sender(in Input) (from Peer, content bool) {
	switch in := in.(type) {
	case *SyncInput:
		return in.From, true
	case *EphemeralInput:
		return in.From, true
	case *RemoteHeadsInput:
		return in.From, true
	case *UnavailableInput:
		return in.From, false
	case *SubscribeInput:
		return in.From, false
	}
	return Peer{}, false
}

// served reports whether a client may have the document. A plain one that was
// stored while those were admitted is kept, and not given out.
func (d *Document) served(to Peer) bool {
	return d.matter.kind != matterPlain || d.cfg.PlainDocuments && !to.TransactionsOnly
}

func (d *Document) unavailable(to Peer) Send {
	return Send{Conn: to.Conn, Frame: wire.Append(nil, &wire.DocUnavailable{
		SenderID: d.cfg.Self, TargetID: to.ID, DocumentID: d.id,
	})}
}

// open makes an entry for a peer at its first message.
func (d *Document) open(now time.Time, from Peer, out []Output) []Output {
	if _, ok := d.peers[from.Conn]; ok {
		return out
	}
	p := &peer{Peer: from}
	d.peers[from.Conn] = p
	d.order = append(d.order, p)
	return d.inRoom(now, p.arrived(), out)
}

func (d *Document) receive(now time.Time, in *SyncInput, out []Output) []Output {
	p := d.peers[in.From.Conn]
	first := d.Graph().Len()
	for _, c := range in.Changes {
		out = d.admit(now, p, c, out)
	}
	if n := d.Graph().Len(); n > first {
		out = append(out, Commit{first, n})
	}
	out = d.refuseUnsent(p, in.Message.Heads, out)
	out = d.tellRefusals(out)
	p.status = statusAfter(p.status, in)
	out = p.keep(in.Message, out)
	// The message may speak of changes that are accepted but not on disk. What
	// it says of the peer is weighed only when they are, so that every answer
	// is made of durable heads. A peer that knows nothing of them need not wait.
	if upTo := d.speaksOf(in); upTo > d.Graph().Durable() || len(p.waiting) > 0 {
		p.wait(waitingMessage{upTo, in.Message})
	} else {
		out = d.take(now, p, in.Message, out)
		out = d.tellSynced(now, p, out)
	}
	return d.answerRequests(out)
}

// keep accounts for what a sync state may keep of the peer's last message: its
// heads and filters are as long as the peer makes them.
func (p *peer) keep(m *protocol.Message, out []Output) []Output {
	hashes := len(m.Heads) + len(m.Need)
	size := 0
	for _, h := range m.Have {
		hashes += len(h.LastSync)
		size += len(h.Bloom)
	}
	size += hashes * len(crdt.Hash{})
	if size < keptFreely {
		size = 0
	}
	if size == p.kept {
		return out
	}
	out = append(out, Held{Conn: p.Conn, Bytes: size - p.kept})
	p.kept = size
	return out
}

// speaksOf returns the least length of the graph that holds all accepted
// changes that a message brings or names.
func (d *Document) speaksOf(in *SyncInput) (upTo int) {
	if d.Settled() {
		return 0
	}
	note := func(h crdt.Hash) {
		if i, ok := d.Graph().Index(h); ok {
			upTo = max(upTo, i+1)
		}
	}
	for _, h := range in.Message.Heads {
		note(h)
	}
	for _, c := range in.Changes {
		if c.Change != nil {
			note(c.Change.Hash)
		}
	}
	return upTo
}

func statusAfter(s status, in *SyncInput) status {
	switch {
	case len(in.Message.Heads) > 0:
		return statusHas
	case in.Request:
		return statusWants
	default:
		return s
	}
}

func (p *peer) wait(m waitingMessage) {
	if len(p.waiting) == maxWaitingMessages {
		p.waiting = p.waiting[:maxWaitingMessages-1]
	}
	p.waiting = append(p.waiting, m)
}

// admission is a change that is about to pass the gate.
type admission struct {
	peer   *peer
	change *crdt.Change
}

// admit passes one change through the gate, and with it the held changes that
// waited for it.
func (d *Document) admit(now time.Time, p *peer, c Decoded, out []Output) []Output {
	if c.Refusal != nil {
		return d.refuse(p, c.Refusal, c.Deps, out)
	}
	queue := []admission{{p, c.Change}}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		result := d.doc.AddIf(next.change, func(c *crdt.Change) *crdt.Refusal {
			return d.matter.check(d, c, next.peer.Peer)
		})
		switch result.Status {
		case crdt.Accepted:
			d.accepted(next.change, next.peer.delivers(now))
			var ready []admission
			ready, out = d.release(next.change.Hash, out)
			queue = append(queue, ready...)
		case crdt.Held:
			c := next.change
			if d.readOnly(next.peer) { // it would be, and meanwhile others' copies of it would not be asked for
				out = d.refuse(next.peer, readOnlyRefusal(c.Hash), known(c.Deps), out)
				break
			}
			out = d.hold(heldChange{
				peer: next.peer, hash: c.Hash, deps: c.Deps, chunk: c.Chunk(), missing: result.Missing, at: now,
			}, out)
		case crdt.Refused:
			out = d.refuse(next.peer, result.Refusal, known(next.change.Deps), out)
		case crdt.Known:
		}
	}
	return out
}

// release returns the held changes that waited for nothing but hash, and lets
// the others wait for the next that they miss.
func (d *Document) release(hash crdt.Hash, out []Output) (ready []admission, _ []Output) {
	freed, out := d.held.release(hash, out)
	for _, h := range freed {
		for len(h.missing) > 0 && d.Graph().Accepted(h.missing[0]) {
			h.missing = h.missing[1:]
		}
		if len(h.missing) > 0 {
			out = d.hold(h, out)
			continue
		}
		if c, err := crdt.DecodeChange(h.chunk, d.cfg.Limits.Change); err == nil { // as it was before
			ready = append(ready, admission{h.peer, c})
		}
	}
	return ready, out
}

// hold keeps a change until its dependencies arrive, within limits. A change
// on top of a refused one is refused: what it needs will never be here.
func (d *Document) hold(h heldChange, out []Output) []Output {
	if i := slices.IndexFunc(h.missing, h.peer.refused.has); i >= 0 {
		return d.refuse(h.peer, &crdt.Refusal{
			Code:   CodeDependsOnRefused,
			Change: h.hash,
			Reason: "it builds on change " + h.missing[i].String() + ", which was refused",
		}, known(h.deps), out)
	}
	lim := d.cfg.Limits
	if d.held.count(h.peer.Conn) >= lim.HeldChanges || d.held.bytes(h.peer.Conn)+h.cost() > lim.HeldBytes {
		return append(out, d.disconnect(h.peer, CloseTooLarge, "too many changes whose dependencies were not sent"))
	}
	return d.held.add(h, out)
}

// refuse remembers the change, so that this peer is never asked for it again.
// The peer is told at the end of the step, and the connection goes on.
func (d *Document) refuse(p *peer, r *crdt.Refusal, deps []crdt.Hash, out []Output) []Output {
	p.refused.add(r.Change, deps)
	p.toTell = append(p.toTell, r)
	freed, out := d.held.release(r.Change, out)
	for _, h := range freed { // the same peer's are refused too, others' wait on
		out = d.hold(h, out)
	}
	return out
}

// take applies what a message says of its sender, whose changes are on disk.
func (d *Document) take(now time.Time, p *peer, m *protocol.Message, out []Output) []Output {
	p.state.Receive(d.Graph(), m)
	out = d.learnPeerHeads(now, p, m.Heads, out)
	if p.status == statusHas && p.hasOnlyRefused(m.Heads) {
		p.status = statusUnavailable // it has nothing that we would take
	}
	if !p.synced && len(m.Heads) > 0 && slices.Equal(crdt.SortHashes(slices.Clone(m.Heads)), d.Graph().Heads()) {
		p.synced = true
	}
	return p.mark(out)
}

// tellSynced tells the room once that a peer has had all that there is.
func (d *Document) tellSynced(now time.Time, p *peer, out []Output) []Output {
	if !p.synced || p.told {
		return out
	}
	p.told = true
	return d.inRoom(now, presence.Synced{Conn: presence.Conn(p.Conn)}, out)
}

func (p *peer) hasOnlyRefused(heads []crdt.Hash) bool {
	return !slices.ContainsFunc(heads, func(h crdt.Hash) bool { return !p.refused.has(h) })
}

// depsOf returns what a change depends on that p sent and that is not in the
// graph; nil if nothing is known of it.
func (d *Document) depsOf(p *peer, h crdt.Hash) []crdt.Hash {
	if deps, ok := p.refused.deps[h]; ok {
		return deps
	}
	return d.held.deps[h]
}

// known tells a change without dependencies from one of which they are unknown.
func known(deps []crdt.Hash) []crdt.Hash {
	if deps == nil {
		return []crdt.Hash{}
	}
	return deps
}

func (p *peer) mark(out []Output) []Output {
	if p.pending {
		return out
	}
	p.pending = true
	return append(out, Pending{p.Conn})
}

// durable moves the mark up to which peers may hear of changes: this is where
// an acknowledgement becomes possible.
func (d *Document) durable(now time.Time, n int, out []Output) []Output {
	first := d.Graph().Durable()
	d.unkept = slices.Delete(d.unkept, 0, max(0, n-first))
	d.Graph().MarkDurable(n)
	out = d.learnOwnHeads(now, out)
	for _, p := range d.order {
		for len(p.waiting) > 0 && p.waiting[0].upTo <= n {
			m := p.waiting[0].message
			p.waiting = slices.Delete(p.waiting, 0, 1)
			out = d.take(now, p, m, out)
		}
		out = p.mark(out)
	}
	out = d.advance(now, first, out) // before the room says anything of these heads
	for _, p := range d.order {
		out = d.tellSynced(now, p, out)
	}
	return d.answerRequests(out)
}

// Pull makes the next sync frame for conn, carrying all that the peer lacks, or
// as much as one frame may hold (the rest follows the peer's answer). It
// returns nil if there is nothing to say.
func (d *Document) Pull(conn ConnID) []byte {
	p, ok := d.peers[conn]
	if !ok {
		return nil
	}
	p.pending = false
	if !d.served(p.Peer) {
		return nil
	}
	if len(d.Graph().Heads()) == 0 && p.status != statusHas {
		return nil // nothing to tell; a request is answered with doc-unavailable
	}
	m, ok := p.state.Generate(d.Graph(), d.options(p))
	if !ok {
		return nil
	}
	return wire.Append(nil, &wire.Sync{
		SenderID: d.cfg.Self, TargetID: p.ID, DocumentID: d.id, Data: m.Append(nil),
	})
}

// options says what may be sent to a peer. What it sent that is not in the
// graph is named only if there is such a thing.
func (d *Document) options(p *peer) protocol.Options {
	opt := protocol.Options{Snapshot: d.snapshot, MaxBytes: d.cfg.Limits.SendBytes, ReadOnly: d.readOnly(p)}
	if p.refused.forgot {
		opt.Refused = func(crdt.Hash) bool { return true }
		return opt
	}
	if len(p.refused.deps) > 0 || len(d.held.deps) > 0 {
		opt.Refused = p.refused.has
		opt.Held = d.held.has
		opt.Missing = d.held.missing(p.Conn)
		opt.Deps = func(h crdt.Hash) []crdt.Hash { return d.depsOf(p, h) }
	}
	return opt
}

// answerRequests tells those who asked for a document that nobody has. They
// stay peers: when it appears, they get it without asking again.
func (d *Document) answerRequests(out []Output) []Output {
	if d.Graph().Len() > 0 || slices.ContainsFunc(d.order, func(p *peer) bool { return p.status == statusHas }) {
		return out
	}
	for _, p := range d.order {
		if p.status != statusWants {
			continue
		}
		p.status = statusUnavailable
		out = append(out, d.unavailable(p.Peer))
	}
	return out
}

func (d *Document) leave(now time.Time, in *GoneInput, out []Output) []Output {
	conn := in.Conn
	if _, ok := d.peers[conn]; !ok {
		return out
	}
	delete(d.peers, conn)
	d.order = slices.DeleteFunc(d.order, func(p *peer) bool { return p.Conn == conn })
	held := d.held.count(conn)
	out = d.held.drop(conn, out)
	for _, p := range d.order {
		if held > 0 {
			out = p.mark(out) // it may have named them too, and was not asked while they were here
		}
	}
	out = d.inRoom(now, presence.Parted{Conn: presence.Conn(conn), Goodbye: in.Goodbye}, out)
	return d.answerRequests(out)
}

// fail ends every connection: their clients come back with fresh states and
// send again what was never acknowledged.
func (d *Document) fail(in *FailedInput, out []Output) []Output {
	code, reason := CloseInternal, "a change could not be stored: please come back"
	if in.Overloaded {
		code, reason = CloseOverloaded, "too many changes wait for the disk: please come back later"
	}
	for _, p := range d.order {
		out = append(out, d.disconnect(p, code, reason))
	}
	return out
}

func (d *Document) disconnect(p *peer, code CloseCode, reason string) Disconnect {
	return Disconnect{p.Conn, Close{Code: code, Reason: reason, Frame: wire.Append(nil, &wire.ProtocolError{
		SenderID: d.cfg.Self, TargetID: p.ID, Message: reason,
	})}}
}

// ephemeral takes what is addressed to us, in a transaction or in what may become
// one, and hands what is an application's own to the other peers.
func (d *Document) ephemeral(now time.Time, in *EphemeralInput, out []Output) []Output {
	if d.matter.kind != matterPlain {
		if m, ours := presence.Decode(in.Message.Data); ours {
			return d.hear(now, d.peers[in.From.Conn], m, out)
		}
	}
	if !d.cfg.PlainDocuments && d.matter.kind != matterTransaction {
		return out
	}
	return d.relay(in, out)
}

// relay hands an ephemeral message to every other peer of the document, here and on
// other nodes. It stays its author's on every hop; only the target changes.
func (d *Document) relay(in *EphemeralInput, out []Output) []Output {
	for _, p := range d.order {
		if p.Conn == in.From.Conn || !d.served(p.Peer) {
			continue
		}
		m := in.Message
		m.TargetID = p.ID
		out = append(out, Send{Conn: p.Conn, Frame: wire.Append(nil, &m), Droppable: true})
	}
	if d.shared() {
		m := in.Message
		m.TargetID = ""
		out = append(out, Relay{wire.Append(nil, &m)})
	}
	return out
}
