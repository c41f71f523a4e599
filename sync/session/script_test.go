package session_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/automerge/automerge-go"
	"github.com/cockroachdb/datadriven"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// TestScripts replays the conversations in testdata. A script names clients
// and documents as it likes; every command prints the frames that it causes:
//
//	alice> sync d1 heads c1 changes c1     what the server received
//	alice< sync d1 heads c1                what it sent
//
// Changes are called c1, c2, ... in the order in which they were made. Run the
// test with -rewrite to write the output into the scripts, then read it.
func TestScripts(t *testing.T) { runScripts(t, false) }

// TestRestedScripts replays them with documents that rest after every step: nobody
// sees a difference.
func TestRestedScripts(t *testing.T) { runScripts(t, true) }

func runScripts(t *testing.T, rest bool) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "/fuzz/") {
			return
		}
		w := newWorld(t)
		w.rest = rest
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.out.Reset()
			w.command(t, d)
			if w.out.Len() == 0 {
				return "ok\n"
			}
			return w.out.String()
		})
	})
}

// world is a server made of the two machines, a disk that the script rules,
// and its clients.
type world struct {
	rest    bool // documents rest after every step
	t       *testing.T
	out     strings.Builder
	now     time.Time
	limits  session.Limits
	plain   bool
	nextID  session.ConnID
	clients map[string]*client
	docs    map[crdt.DocumentID]*session.Document
	names   map[crdt.Hash]string
	disk    string // "ok" or "hold"
	commits []pendingCommit

	settings presence.Settings // of every transaction, from its first loading on
	sealed   map[crdt.DocumentID][]presence.Resolution
	chunks   map[crdt.DocumentID][][]byte // of documents that were forgotten
	users    map[crdt.DocumentID][]string
	lives    map[crdt.DocumentID]int
}

// pendingCommit is what waits for the disk: changes, or a resolution.
type pendingCommit struct {
	doc  crdt.DocumentID
	c    session.Commit
	seal *presence.Resolution
}

// client is one automerge-repo client: our own sync machine on the other side.
type client struct {
	name     string
	id       session.ConnID
	conn     *session.Conn
	peer     wire.PeerID
	storage  wire.StorageID
	docs     map[string]*replica
	opened   map[crdt.DocumentID]bool
	slow     bool // takes nothing
	pending  []crdt.DocumentID
	received [][]byte
	closed   bool
	goodbye  bool // it took leave
	count    uint64
}

type replica struct {
	am    *automerge.Doc
	graph crdt.Graph
	state protocol.State
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const serverID = wire.PeerID("server")
const serverStore = wire.StorageID("server-store")

func newWorld(t *testing.T) *world {
	return &world{
		t: t, now: epoch, plain: true, disk: "ok",
		clients: make(map[string]*client), docs: make(map[crdt.DocumentID]*session.Document),
		names: make(map[crdt.Hash]string), sealed: make(map[crdt.DocumentID][]presence.Resolution),
		settings: presence.Settings{Policy: presence.Reopen},
		chunks:   make(map[crdt.DocumentID][][]byte), users: make(map[crdt.DocumentID][]string), lives: make(map[crdt.DocumentID]int),
	}
}

func (w *world) command(t *testing.T, d *datadriven.TestData) {
	arg := func(key string) string {
		for _, a := range d.CmdArgs {
			if a.Key == key && len(a.Vals) > 0 {
				return a.Vals[0]
			}
		}
		return ""
	}
	word := func(i int) string {
		if i >= len(d.CmdArgs) {
			d.Fatalf(t, "too few words")
		}
		return d.CmdArgs[i].Key
	}
	switch d.Cmd {
	case "server": // server [plain=false] [documents=n] [held=n]
		w.plain = arg("plain") != "false"
		w.limits.Documents, _ = strconv.Atoi(arg("documents"))
		w.limits.HeldChanges, _ = strconv.Atoi(arg("held"))
		w.limits.SendBytes, _ = strconv.Atoi(arg("send"))
		w.limits.Change.Ops, _ = strconv.Atoi(arg("ops"))
	case "settings": // settings [parties=a+b] [quorum=n] [policy=lock]: of all transactions
		w.settings = presence.Settings{Policy: presence.Policy(orElse(arg("policy"), string(presence.Reopen)))}
		w.settings.Quorum, _ = strconv.Atoi(arg("quorum"))
		if p := arg("parties"); p != "" {
			w.settings.Parties = strings.Split(p, "+")
		}
		for _, id := range w.documentIDs() {
			w.step(id, &session.SettingsInput{Settings: w.settings})
		}
	case "forget": // forget DOC: the server restarts, and has of it what is on disk
		w.forget(documentID(word(0)))
	case "measure": // measure NAME 12ms: its round trip time
		trip, err := time.ParseDuration(word(1))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		for _, id := range w.documentIDs() {
			w.step(id, &session.MeasuredInput{Conn: w.client(word(0)).id, RoundTrip: trip})
		}
	case "tell": // tell NAME TX KIND [heads=c1+c2|last] [field=f] [n=1]: a message to the server
		w.tell(w.client(word(0)), word(1), word(2), arg)
	case "data": // data NAME TX: the data of an ephemeral message, in hexadecimal, texts between quotes
		w.data(w.client(word(0)), word(1), d.Input)
	case "open": // a bare connection
		w.open(word(0), "", transaction.Party)
	case "join": // join NAME [as=peer] [user=u] [role=r] [only=tx] [storage=s] [version=v] [ephemeral=true]
		c := w.open(word(0), arg("user"), transaction.Role(orElse(arg("role"), string(transaction.Party))))
		if only := arg("only"); only != "" {
			c.conn.Restrict(session.Access{
				Covers:  func(id crdt.DocumentID) bool { return id == documentID(only) },
				Session: wire.SessionID("access-of-" + word(0)),
			})
		}
		c.peer = wire.PeerID(orElse(arg("as"), c.name))
		c.storage = wire.StorageID(arg("storage"))
		join := &wire.Join{SenderID: c.peer, Metadata: wire.Metadata{StorageID: c.storage, IsEphemeral: arg("ephemeral") == "true"}}
		if v := arg("version"); v != "" {
			join.Versions = []string{v}
		}
		w.send(c, join)
	case "begin": // begin NAME TX: the transaction's genesis, not yet sent
		w.begin(w.client(word(0)), word(1))
	case "pick": // pick NAME TX field=value [by=user] [actor=name]: not yet sent
		w.pickField(w.client(word(0)), word(1), d.CmdArgs[2], arg("by"), arg("actor"))
	case "edit": // edit NAME DOC key=value: a change, not yet sent
		for _, kv := range d.CmdArgs[2:] {
			w.edit(w.client(word(0)), word(1), kv.Key, kv.Vals[0])
		}
	case "editall": // edit2 NAME DOC key=value ...: all in one change
		w.editAll(w.client(word(0)), word(1), d.CmdArgs[2:])
	case "sync": // sync NAME DOC: the client says what it has or wants
		w.sync(w.client(word(0)), word(1))
	case "say": // say NAME TYPE DOC [field=value ...]
		w.say(w.client(word(0)), word(1), word(2), arg)
	case "changes": // changes NAME DOC c1 c2: exactly these changes, whatever they need
		w.sendChanges(w.client(word(0)), word(1), d.CmdArgs[2:], nil)
	case "spoil": // spoil NAME DOC: a change with a valid hash that no gate accepts
		w.spoil(w.client(word(0)), word(1))
	case "onto": // onto NAME DOC cN: a change that would be good, but builds on cN
		w.onto(w.client(word(0)), word(1), word(2))
	case "subscribe": // subscribe NAME [add=store] [remove=store]
		m := &wire.RemoteSubscriptionChange{SenderID: w.client(word(0)).peer, TargetID: serverID}
		if s := arg("add"); s != "" {
			m.Add = []wire.StorageID{wire.StorageID(s)}
		}
		if s := arg("remove"); s != "" {
			m.Remove = []wire.StorageID{wire.StorageID(s)}
		}
		w.send(w.client(word(0)), m)
	case "raw": // raw NAME: the body is hexadecimal
		b, err := hex.DecodeString(strings.Join(strings.Fields(d.Input), ""))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		c := w.client(word(0))
		w.event(c, c.conn.Receive(b))
	case "text": // text NAME: a text frame
		c := w.client(word(0))
		w.event(c, c.conn.ReceiveText())
	case "late": // late NAME: no join came in time
		c := w.client(word(0))
		w.event(c, c.conn.JoinTimeout())
	case "gone": // gone NAME: the socket is closed
		w.gone(w.client(word(0)))
	case "slow", "fast": // the client takes no frames, or takes them again
		c := w.client(word(0))
		c.slow = d.Cmd == "slow"
		for _, id := range c.pending {
			if !c.slow {
				w.pull(c, id)
			}
		}
	case "disk": // disk hold | ok | fail | overload
		w.setDisk(word(0))
	case "wait": // wait 61s
		pause, err := time.ParseDuration(word(0))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		w.now = w.now.Add(pause)
		for _, id := range w.documentIDs() {
			w.step(id, &session.TickInput{})
		}
	case "run": // every client answers what it has received, until all is quiet
		w.run(d)
	case "state": // state DOC: what the server holds
		w.state(word(0))
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (w *world) open(name, user string, role transaction.Role) *client {
	if w.clients[name] != nil {
		w.t.Fatalf("%s is open already", name)
	}
	w.nextID++
	c := &client{name: name, id: w.nextID, docs: make(map[string]*replica), opened: make(map[crdt.DocumentID]bool)}
	c.conn = session.NewConn(c.id, presence.Person{User: orElse(user, name), Name: strings.ToUpper(user), Role: role}, &session.ConnConfig{
		Self: serverID, Storage: serverStore, Limits: w.limits.WithDefaults(),
	})
	w.clients[name] = c
	return c
}

func (w *world) client(name string) *client {
	c := w.clients[name]
	if c == nil {
		w.t.Fatalf("no client %s", name)
	}
	return c
}

// documentID makes one from a script's name for it. Names that begin with tx are
// transactions'.
func documentID(name string) crdt.DocumentID {
	if strings.HasPrefix(name, "tx") {
		return transaction.ID(name).Document()
	}
	var id crdt.DocumentID
	copy(id[:], name)
	return id
}

func documentName(id crdt.DocumentID) string {
	for _, tx := range []string{"tx1", "tx2"} {
		if id == documentID(tx) {
			return tx
		}
	}
	return strings.TrimRight(string(id[:]), "\x00")
}

func (c *client) replica(doc string) *replica {
	r := c.docs[doc]
	if r == nil {
		r = &replica{am: automerge.New()}
		actor := make([]byte, 16)
		copy(actor, c.name+"/"+doc)
		if err := r.am.SetActorID(hex.EncodeToString(actor)); err != nil {
			panic(err)
		}
		c.docs[doc] = r
	}
	return r
}

func (w *world) edit(c *client, doc, key, value string) {
	w.editAll(c, doc, []datadriven.CmdArg{{Key: key, Vals: []string{value}}})
}

func (w *world) editAll(c *client, doc string, values []datadriven.CmdArg) {
	r := c.replica(doc)
	for _, kv := range values {
		if err := r.am.RootMap().Set(kv.Key, kv.Vals[0]); err != nil {
			w.t.Fatal(err)
		}
	}
	at := time.UnixMilli(epoch.Unix()) // automerge-go writes milliseconds where seconds belong
	if _, err := r.am.Commit("", automerge.CommitOptions{Time: &at}); err != nil {
		w.t.Fatal(err)
	}
	changes, err := r.am.Changes()
	if err != nil {
		w.t.Fatal(err)
	}
	chunk := changes[len(changes)-1].Save()
	w.name(r.add(w.t, chunk))
}

func (w *world) begin(c *client, tx string) {
	chunk := transaction.Genesis(transaction.ID(tx)).Chunk()
	w.name(c.replica(tx).add(w.t, chunk))
}

// pickField picks as an automerge-repo client would that follows the schema,
// but for whose name it puts and which actor it uses.
func (w *world) pickField(c *client, tx string, pick datadriven.CmdArg, by, actor string) {
	r := c.replica(tx)
	state, err := transaction.Load(transaction.ID(tx), &r.graph)
	if err != nil {
		w.t.Fatal(err)
	}
	id := make([]byte, 16)
	copy(id, orElse(actor, c.name))
	edit := state.Edit(crdt.ActorID(id), orElse(by, c.name), w.now)
	if err := edit.Pick(pick.Key, []byte(pick.Vals[0]), ""); err != nil {
		w.t.Fatal(err)
	}
	change, err := edit.Change()
	if err != nil {
		w.t.Fatal(err)
	}
	w.name(r.add(w.t, change.Chunk()))
}

// add appends a chunk to the replica's graph and returns its hash.
func (r *replica) add(t *testing.T, chunk []byte) crdt.Hash {
	c, err := crdt.DecodeChange(chunk, crdt.Limits{})
	if err != nil {
		t.Fatalf("a change that should be good: %v", err)
	}
	if r.graph.Accepted(c.Hash) {
		return c.Hash
	}
	r.graph.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: chunk})
	r.graph.MarkDurable(r.graph.Len())
	return c.Hash
}

func (w *world) name(h crdt.Hash) string {
	if w.names[h] == "" {
		w.names[h] = fmt.Sprintf("c%d", len(w.names)+1)
	}
	return w.names[h]
}

// spoil makes the client hold a change whose sequence number skips some.
func (w *world) spoil(c *client, doc string) {
	r := c.replica(doc)
	n := r.graph.At(r.graph.Len() - 1)
	body := chunkBody(n.Chunk)
	seq := 1 + len(n.Deps)*32 + 1 + int(body[1+len(n.Deps)*32]) // after deps and actor
	body[seq] += 5
	w.adopt(r, rechunk(body), []crdt.Hash{n.Hash})
}

// onto makes the client hold a change that builds on the named one.
func (w *world) onto(c *client, doc, name string) {
	r := c.replica(doc)
	n := r.graph.At(r.graph.Len() - 1)
	var dep crdt.Hash
	for h, known := range w.names {
		if known == name {
			dep = h
		}
	}
	first := r.graph.At(0)
	body := chunkBody(first.Chunk)
	body = slices.Concat([]byte{1}, dep[:], body[1:])
	w.adopt(r, rechunk(body), []crdt.Hash{n.Hash})
}

// adopt puts a chunk that the gate would refuse into the client's own graph.
func (w *world) adopt(r *replica, chunk []byte, deps []crdt.Hash) {
	h := crdt.Hash(sha256.Sum256(chunk[8:]))
	last := r.graph.At(r.graph.Len() - 1)
	r.graph.Append(crdt.Node{Hash: h, Deps: deps, Actor: last.Actor, Seq: last.Seq + 1, MaxOp: last.MaxOp + 1, Chunk: chunk})
	r.graph.MarkDurable(r.graph.Len())
	w.trace("%s made %s", last.Actor[:1], w.name(h))
}

// chunkBody returns a copy of what follows the header of a change chunk of less
// than 128 bytes, or of less than 16 KiB.
func chunkBody(chunk []byte) []byte {
	if chunk[9] < 0x80 {
		return slices.Clone(chunk[10:])
	}
	return slices.Clone(chunk[11:])
}

// rechunk puts a header with the right length and checksum before a body.
func rechunk(body []byte) []byte {
	rest := append(binary.AppendUvarint([]byte{1}, uint64(len(body))), body...)
	sum := sha256.Sum256(rest)
	return slices.Concat([]byte{0x85, 0x6f, 0x4a, 0x83}, sum[:4], rest)
}

func (w *world) sync(c *client, doc string) {
	r := c.replica(doc)
	m, ok := r.state.Generate(&r.graph, protocol.Options{})
	if !ok {
		w.trace("%s has nothing to say of %s", c.name, doc)
		return
	}
	data := m.Append(nil)
	if r.graph.Len() == 0 {
		w.send(c, &wire.Request{SenderID: c.peer, TargetID: serverID, DocumentID: documentID(doc), Data: data})
		return
	}
	w.send(c, &wire.Sync{SenderID: c.peer, TargetID: serverID, DocumentID: documentID(doc), Data: data})
}

func (w *world) sendChanges(c *client, doc string, names []datadriven.CmdArg, more [][]byte) {
	r := c.replica(doc)
	m := &protocol.Message{Version: protocol.V1, Heads: r.graph.Heads(), Have: []protocol.Have{{}}, Changes: more}
	for _, a := range names {
		for i := range r.graph.Len() {
			if n := r.graph.At(i); w.names[n.Hash] == a.Key {
				m.Changes = append(m.Changes, n.Chunk)
			}
		}
	}
	w.send(c, &wire.Sync{SenderID: c.peer, TargetID: serverID, DocumentID: documentID(doc), Data: m.Append(nil)})
}

func (w *world) say(c *client, typ, doc string, arg func(string) string) {
	sender := wire.PeerID(orElse(arg("sender"), string(c.peer)))
	id := documentID(doc)
	switch wire.Type(typ) {
	case wire.TypeEphemeral:
		count, _ := strconv.ParseUint(orElse(arg("count"), "1"), 10, 64)
		w.send(c, &wire.Ephemeral{SenderID: sender, TargetID: serverID, DocumentID: id, Count: count,
			SessionID: wire.SessionID(orElse(arg("session"), "s")), Data: []byte(orElse(arg("data"), "\x01"))})
	case wire.TypeDocUnavailable:
		w.send(c, &wire.DocUnavailable{SenderID: sender, TargetID: serverID, DocumentID: id})
	case wire.TypeLeave:
		w.send(c, &wire.Leave{SenderID: sender})
	case wire.TypeRemoteHeadsChanged:
		at, _ := strconv.ParseFloat(arg("at"), 64)
		w.send(c, &wire.RemoteHeadsChanged{SenderID: sender, TargetID: serverID, DocumentID: id,
			NewHeads: []wire.RemoteHeads{{StorageID: wire.StorageID(arg("store")), Heads: []crdt.Hash{{1}}, Timestamp: float64(epoch.UnixMilli()) + at}}})
	case wire.TypeSync:
		w.send(c, &wire.Sync{SenderID: sender, TargetID: serverID, DocumentID: id, Data: []byte(arg("data"))})
	default:
		w.t.Fatalf("cannot say %s", typ)
	}
}

// tell sends a message of Parley's own.
func (w *world) tell(c *client, tx, kind string, arg func(string) string) {
	var m presence.Message
	switch kind {
	case "ready":
		m = presence.Ready{Heads: w.hashesNamed(arg("heads"))}
	case "unready":
		m = presence.Unready{}
	case "focus":
		m = presence.Focus{Field: arg("field")}
	case "ping":
		n, _ := strconv.ParseUint(arg("n"), 10, 64)
		m = presence.Ping{N: n}
	case "leave":
		m = presence.Leave{}
	case "roster":
		m = presence.Ask{}
	default:
		w.t.Fatalf("tell %s?", kind)
	}
	w.broadcast(c, tx, presence.Encode(m))
}

func (w *world) broadcast(c *client, tx string, data []byte) {
	c.count++
	w.send(c, &wire.Ephemeral{SenderID: c.peer, TargetID: serverID, DocumentID: documentID(tx),
		Count: c.count, SessionID: "parley", Data: data})
}

// data sends an ephemeral message: hexadecimal digits, texts between quotes.
func (w *world) data(c *client, tx, text string) {
	var b []byte
	for i, part := range strings.Split(text, "'") {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		raw, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		if err != nil {
			w.t.Fatal(err)
		}
		b = append(b, raw...)
	}
	w.broadcast(c, tx, b)
}

// hashesNamed returns the changes with these names, joined by +.
func (w *world) hashesNamed(names string) (hs []crdt.Hash) {
	for name := range strings.SplitSeq(names, "+") {
		if name == "last" {
			name = fmt.Sprintf("c%d", len(w.names))
		}
		for h, known := range w.names {
			if known == name {
				hs = append(hs, h)
			}
		}
	}
	return crdt.SortHashes(hs)
}

// forget drops a document from memory. Its connections are cut.
func (w *world) forget(id crdt.DocumentID) {
	w.stored(id)
	delete(w.docs, id)
	for _, c := range w.sortedClients() {
		w.close(c, session.Close{Code: session.CloseRestarting, Reason: "the server is restarting"})
	}
}

func (w *world) send(c *client, m wire.Message) {
	frame := wire.Append(nil, m)
	w.trace("%s> %s", c.name, w.describe(frame))
	w.event(c, c.conn.Receive(frame))
}

func (w *world) trace(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

func (w *world) gone(c *client) {
	delete(w.clients, c.name)
	for _, id := range w.documentIDs() {
		w.step(id, &session.GoneInput{Conn: c.id, Goodbye: c.goodbye})
	}
}

func (w *world) documentIDs() []crdt.DocumentID {
	ids := make([]crdt.DocumentID, 0, len(w.docs))
	for id := range w.docs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b crdt.DocumentID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

func (w *world) sortedClients() []*client {
	cs := make([]*client, 0, len(w.clients))
	for _, c := range w.clients {
		cs = append(cs, c)
	}
	sort.Slice(cs, func(i, j int) bool { return cs[i].id < cs[j].id })
	return cs
}
