package presence_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// lease is for how long a node counts on after its last beat.
const lease = 6 * time.Second

// town is several nodes with a room of the same transaction, the database that they
// share, and what truly happened.
type town struct {
	*rapid.T
	now      time.Time
	nodes    []*node
	starts   byte
	settings presence.Settings

	// The database.
	log    []entry // changes and resolutions
	rows   map[presence.Node]row
	leases map[presence.Node]time.Time
	seq    uint64
	news   []news // on their way

	conns  presence.Conn
	links  []*link
	acts   []*act
	rough  bool // a node was cut off, or has crashed: people on it may be taken for gone
	seals  int
	skewed bool            // a node may take a connection for older than it is
	left   map[string]bool // users who have left, perhaps, since all rooms last heard of all
}

// entry is a change or a resolution in the document's log.
type entry struct{ resolution *presence.Resolution }

type row struct {
	seq  uint64
	data []byte
}

// news is a row on its way to a node.
type news struct {
	to, from presence.Node
	row
}

// node is one server.
type node struct {
	town  *town
	id    presence.Node
	room  *presence.Room
	knows int // entries of the log
	want  *presence.Publish
	seal  *presence.Resolve
	stale bool // the seal was asked for under an earlier lease
	cut   bool // from the database
	gone  bool // its own lease has run out, and it knows
	shows map[string]presence.Participant
	shown []crdt.Hash
}

// link is one connection, as it truly is.
type link struct {
	node       *node
	conn       presence.Conn
	user, peer string
	role       transaction.Role
	live       bool
	half       bool // its client is gone, and the node does not know
	away       bool // it took leave
	until      time.Time
}

// act is what a user said of being ready, by a connection of a node's.
type act struct {
	user    string
	node    *node
	heads   []crdt.Hash // nil: taken back
	at      int
	told    bool
	publish uint64 // that holds it, 0: none yet
}

// Heads and what follows make a node the subject of its room.
func (n *node) Heads() []crdt.Hash {
	changes := byte(1)
	for _, e := range n.town.log[:n.knows] {
		if e.resolution == nil {
			changes++
		}
	}
	return at(changes)
}
func (n *node) Settled() bool               { return true }
func (n *node) Past(heads []crdt.Hash) bool { return heads[0][0] <= n.Heads()[0][0] }
func (n *node) Known() bool                 { return true }
func (n *node) Contested() []string         { return nil }
func (n *node) Missing() []string           { return nil }

func newTown(rt *rapid.T) *town {
	w := &town{T: rt, now: epoch, rows: map[presence.Node]row{}, left: map[string]bool{}, leases: map[presence.Node]time.Time{}, settings: presence.Settings{Policy: presence.Reopen}}
	if rapid.Bool().Draw(rt, "named") {
		w.settings.Parties = []string{"alice", "bob", "carol"}
		w.settings.Quorum = rapid.IntRange(0, 2).Draw(rt, "quorum")
	}
	w.skewed = rapid.IntRange(0, 7).Draw(rt, "skewed") == 7
	for range rapid.IntRange(2, 4).Draw(rt, "nodes") {
		w.nodes = append(w.nodes, w.start())
	}
	return w
}

// start makes a new node, which reads what is stored before anybody comes.
func (w *town) start() *node {
	w.starts++
	n := &node{town: w, id: presence.Node{w.starts * 37, w.starts}, shows: map[string]presence.Participant{}}
	n.knows = len(w.log)
	var resolutions []presence.Resolution
	for _, e := range w.log {
		if e.resolution != nil {
			resolutions = append(resolutions, *e.resolution)
		}
	}
	n.room = presence.New(presence.Config{Node: n.id}, n, w.settings, resolutions)
	w.leases[n.id] = w.now.Add(lease)
	w.compare(n)
	return n
}

func (w *town) lives(id presence.Node) bool { return w.now.Before(w.leases[id]) }

func (w *town) byID(id presence.Node) *node {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// step steps a node's room.
func (w *town) step(n *node, in presence.Input) {
	for _, out := range n.room.Step(w.now, in, nil) {
		switch out := out.(type) {
		case presence.Send:
			m, err := presence.DecodeDown(out.Data)
			if err != nil {
				w.Fatalf("%v", err)
			}
			if r, ok := m.(*presence.Roster); ok {
				w.told(n, r)
			}
		case presence.Resolve:
			if n.seal != nil {
				w.Fatalf("two seals")
			}
			n.seal, n.stale = &out, n.gone
		case presence.Publish:
			if n.want != nil && out.N <= n.want.N {
				w.Fatalf("publish %d after %d", out.N, n.want.N)
			}
			n.want = &out
			for _, a := range w.acts {
				if a.node == n && a.publish == 0 {
					a.publish = out.N
				}
			}
		}
	}
	if wake := n.room.Wake(); !wake.IsZero() && !wake.After(w.now) {
		if _, ticked := in.(presence.Ticked); ticked {
			w.Fatalf("ticked at %s, it wants to be ticked at %s", w.now, wake)
		}
	}
	w.told(n, n.room.Roster())
	if n.gone && n.want != nil && !in1(in) {
		w.step(n, presence.Published{N: n.want.N, Unstored: true})
	}
}

func in1(in presence.Input) bool {
	p, ok := in.(presence.Published)
	return ok && p.Unstored
}

// told notes what the clients of a node are shown.
func (w *town) told(n *node, r *presence.Roster) {
	shown := map[string]presence.Participant{}
	for _, p := range r.Participants {
		shown[p.User] = p
	}
	for _, a := range w.acts {
		if a.node == n && a.heads == nil && !shown[a.user].Ready && n.shows[a.user].Ready && slices.Equal(r.Heads, n.shown) {
			a.told = true // it was seen to take effect
		}
	}
	if !w.rough {
		for user := range n.shows {
			if _, still := shown[user]; !still && w.isHere(user) && !w.left[user] {
				w.Fatalf("node %x tells that %s has left, who has not", n.id, user)
			}
		}
	}
	n.shows, n.shown = shown, r.Heads
}

// isHere reports whether a user truly is here, by a connection.
func (w *town) isHere(user string) bool {
	return slices.ContainsFunc(w.links, func(l *link) bool { return l.user == user && l.live && !l.half && !l.away })
}

func (w *town) anyNode(rt *rapid.T) *node { return rapid.SampledFrom(w.nodes).Draw(rt, "node") }

func (w *town) liveLinks(of func(*link) bool) (list []*link) {
	for _, l := range w.links {
		if l.live && !l.half && of(l) {
			list = append(list, l)
		}
	}
	return list
}

func (w *town) anyLink(rt *rapid.T) *link {
	list := w.liveLinks(func(*link) bool { return true })
	if len(list) == 0 {
		rt.Skip("nobody is here")
	}
	return rapid.SampledFrom(list).Draw(rt, "link")
}

func (w *town) connect(n *node, user, peer string, role transaction.Role) *link {
	if !w.skewed {
		w.now = w.now.Add(10 * time.Millisecond) // the clocks are as good as that
	}
	w.conns++
	for _, l := range w.links {
		if l.peer == peer && l.live {
			l.half = true // the client has one connection
		}
		if l.peer == peer && !l.live && !l.until.IsZero() && w.now.Before(l.until) {
			l.until = w.now.Add(time.Hour * 1000) // it came back
		}
	}
	l := &link{node: n, conn: w.conns, user: user, peer: peer, role: role, live: true}
	w.links = append(w.links, l)
	w.step(n, presence.Arrived{Conn: l.conn, Peer: peer, Person: presence.Person{User: user, Name: peer, Role: role}})
	return l
}

func (w *town) arrive(rt *rapid.T) {
	user := rapid.SampledFrom([]string{"alice", "bob", "carol"}).Draw(rt, "user")
	role := transaction.Party
	if rapid.IntRange(0, 9).Draw(rt, "viewer") == 0 {
		role = transaction.Viewer
	}
	w.connect(w.anyNode(rt), user, fmt.Sprintf("%s/%d", user, rapid.IntRange(1, 2).Draw(rt, "tab")), role)
}

func (w *town) part(l *link, goodbye bool) {
	l.live = false
	if !goodbye {
		l.until = w.now.Add(grace)
	} else {
		w.left[l.user] = true
	}
	w.step(l.node, presence.Parted{Conn: l.conn, Goodbye: goodbye})
}

func (w *town) lose(rt *rapid.T) { w.part(w.anyLink(rt), false) }

func (w *town) bye(rt *rapid.T) {
	l := w.anyLink(rt)
	w.part(l, true)
	w.tookBack(l)
}

// tookBack notes a withdrawal if the user is truly gone, and it is this node that tells.
func (w *town) tookBack(l *link) {
	for _, other := range w.links {
		if other.user != l.user {
			continue
		}
		if !other.away && (other.live && !other.half || !other.live && w.now.Before(other.until)) || other.peer != l.peer && other.node != l.node {
			return
		}
	}
	w.note(l, nil)
}

func (w *town) note(l *link, heads []crdt.Hash) *act {
	a := &act{user: l.user, node: l.node, heads: heads, at: len(w.acts)}
	w.acts = append(w.acts, a)
	return a
}

// move loses a connection, which comes back at once, or soon, on some node.
func (w *town) move(rt *rapid.T) {
	l := w.anyLink(rt)
	if l.away {
		rt.Skip("it only listens")
	}
	how := rapid.IntRange(0, 2).Draw(rt, "how")
	if how > 0 {
		w.part(l, false)
	}
	if how > 1 {
		w.pass(grace / 2)
	}
	w.connect(w.anyNode(rt), l.user, l.peer, l.role)
}

// notice makes a node notice a dead half.
func (w *town) notice(rt *rapid.T) {
	for _, l := range w.links {
		if l.live && l.half {
			l.live = false
			l.until = w.now.Add(1000 * time.Hour) // it is elsewhere
			w.step(l.node, presence.Parted{Conn: l.conn})
			return
		}
	}
	rt.Skip("there is none")
}

func (w *town) ready(rt *rapid.T) { w.sayReady(w.anyLink(rt)) }

func (w *town) sayReady(l *link) {
	if l.role != transaction.Party {
		return
	}
	l.away = false
	w.note(l, l.node.Heads())
	w.step(l.node, presence.Heard{Conn: l.conn, Message: presence.Ready{Heads: l.node.Heads()}})
}

func (w *town) unready(rt *rapid.T) {
	l := w.anyLink(rt)
	if l.away {
		rt.Skip("it only listens")
	}
	w.note(l, nil)
	w.step(l.node, presence.Heard{Conn: l.conn, Message: presence.Unready{}})
}

func (w *town) leave(rt *rapid.T) {
	l := w.anyLink(rt)
	if w.skewed {
		rt.Skip("it might not come back") // not now
	}
	l.away = true
	w.left[l.user] = true
	w.step(l.node, presence.Heard{Conn: l.conn, Message: presence.Leave{}})
}

func (w *town) focus(rt *rapid.T) {
	l := w.anyLink(rt)
	l.away = false
	w.step(l.node, presence.Heard{Conn: l.conn, Message: presence.Focus{Field: rapid.SampledFrom([]string{"price", "date"}).Draw(rt, "field")}})
}

func (w *town) measure(rt *rapid.T) {
	l := w.anyLink(rt)
	w.step(l.node, presence.Measured{Conn: l.conn, RoundTrip: time.Duration(rapid.IntRange(1, 200).Draw(rt, "ms")) * time.Millisecond})
}

// store stores what a node asked for.
func (w *town) store(n *node) {
	if n.cut || n.want == nil || !w.lives(n.id) {
		return
	}
	p := n.want
	n.want = nil
	w.seq++
	r := row{seq: w.seq}
	if p.Attendance == nil {
		delete(w.rows, n.id)
	} else {
		r.data = p.Attendance.Encode()
		w.rows[n.id] = r
	}
	for _, a := range w.acts {
		if a.node == n && a.publish != 0 && a.publish <= p.N && a.heads == nil {
			a.told = true // from now on anybody may be
		}
	}
	for _, other := range w.nodes {
		if other != n {
			w.news = append(w.news, news{other.id, n.id, r})
		}
	}
	w.step(n, presence.Published{N: p.N})
}

// deliver brings some news that is on its way, loses it, or brings it twice.
func (w *town) deliver(rt *rapid.T) {
	if len(w.news) == 0 {
		rt.Skip("there are none")
	}
	i := rapid.IntRange(0, len(w.news)-1).Draw(rt, "which")
	m := w.news[i]
	fate := rapid.IntRange(0, 9).Draw(rt, "fate")
	if fate < 9 {
		w.news = slices.Delete(w.news, i, i+1)
	}
	if n := w.byID(m.to); n != nil && !n.cut && fate > 0 {
		w.hear(n, m.from, m.row)
	}
}

func (w *town) hear(n *node, from presence.Node, r row) {
	in := presence.Elsewhere{Node: from, Seq: r.seq}
	if r.data != nil {
		a, err := presence.DecodeAttendance(r.data)
		if err != nil {
			w.Fatalf("%v", err)
		}
		if again := a.Encode(); !bytes.Equal(again, r.data) {
			w.Fatalf("read and written again it differs")
		}
		in.Attendance = a
	}
	w.step(n, in)
}

// compare makes a node read all that is stored.
func (w *town) compare(n *node) {
	if n.cut {
		return
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.rows), presence.Node.Compare) {
		if id != n.id && w.lives(id) {
			w.hear(n, id, w.rows[id])
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(n.room.Relies()), presence.Node.Compare) {
		if _, there := w.rows[id]; w.lives(id) && !there {
			w.step(n, presence.Elsewhere{Node: id})
		} else if !w.lives(id) {
			w.step(n, presence.Silent{Node: id})
		}
	}
	if n.seal == nil {
		w.learn(n)
	}
}

// learn tells a node what is in the log.
func (w *town) learn(n *node) {
	if n.cut || n.knows == len(w.log) {
		return
	}
	w.step(n, presence.Learning{})
	defer w.step(n, presence.Learned{})
	for n.knows < len(w.log) {
		e := w.log[n.knows]
		n.knows++
		if e.resolution != nil {
			w.step(n, presence.Agreed{Resolution: *e.resolution})
		} else {
			w.step(n, presence.Advanced{Because: presence.Cause{User: "x", Change: n.Heads()[0]}})
		}
	}
}

// change adds a change by a node, which has learned of all before it.
func (w *town) change(rt *rapid.T) {
	n := w.anyNode(rt)
	if n.cut || n.seal != nil || len(w.log) > 200 {
		rt.Skip("not now")
	}
	w.learn(n)
	if n.seal == nil {
		w.log = append(w.log, entry{})
		w.learn(n)
	}
}

// commit stores the resolution that a node asked for, if all is as it was made by.
func (w *town) commit(n *node) {
	if n.seal == nil || n.cut {
		return
	}
	s := n.seal
	n.seal = nil
	others := map[presence.Node]uint64{}
	for id, r := range w.rows {
		if id != n.id && w.lives(id) {
			others[id] = r.seq
		}
	}
	if !w.lives(n.id) || n.stale || n.knows < len(w.log) || !maps.Equal(others, s.Relies) {
		if !w.lives(n.id) {
			w.beat(n)
		}
		n.seal = s // until it hears that there is none
		w.compare(n)
		n.seal = nil
		w.learn(n)
		w.step(n, presence.Overtaken{})
		return
	}
	w.checkSeal(n, &s.Resolution)
	w.seals++
	w.log = append(w.log, entry{&s.Resolution})
	n.knows++
	w.step(n, presence.Stored{})
}

// checkSeal fails if a resolution rests on what was not said, or taken back.
func (w *town) checkSeal(n *node, r *presence.Resolution) {
	for _, e := range w.log {
		if e.resolution != nil && slices.Equal(e.resolution.Heads, r.Heads) {
			w.Fatalf("a second resolution over the same heads")
		}
	}
	for _, user := range r.Parties {
		var last *act
		for _, a := range w.acts {
			if a.user == user && (a.heads == nil && a.told || slices.Equal(a.heads, r.Heads)) {
				last = a
			}
		}
		if last == nil || last.heads == nil {
			w.Fatalf("node %x seals %d with %s, who has taken it back, and that was told: %+v", n.id, r.Heads[0][0], user, last)
		}
	}
}

// beat prolongs a node's lease.
func (w *town) beat(n *node) {
	if n.cut {
		return
	}
	fresh := !w.lives(n.id)
	w.leases[n.id] = w.now.Add(lease)
	if fresh {
		delete(w.rows, n.id)
		n.gone, n.stale = false, true
		w.step(n, presence.Forgotten{})
	}
}

// pass lets time pass, during which all is heard of that is not cut off.
func (w *town) pass(d time.Duration) {
	if d > 100*time.Millisecond {
		w.calm()
	}
	for d > 0 {
		step := min(d, time.Second)
		d -= step
		w.now = w.now.Add(step)
		for _, l := range w.links {
			if !l.live && !w.now.Before(l.until) {
				w.left[l.user] = true
			}
		}
		for _, n := range w.nodes {
			w.beat(n)
		}
		for _, n := range w.nodes {
			if n.cut && !n.gone && !w.lives(n.id) {
				n.gone = true
				for _, id := range slices.SortedFunc(maps.Keys(n.room.Relies()), presence.Node.Compare) {
					w.step(n, presence.Silent{Node: id})
				}
				w.step(n, presence.Published{Unstored: true})
			}
			w.tick(n)
		}
		if step == time.Second {
			w.calm()
		}
	}
}

func (w *town) tick(n *node) {
	if wake := n.room.Wake(); !wake.IsZero() && !wake.After(w.now) {
		w.step(n, presence.Ticked{})
	}
}

// calm brings everything to whom it is for.
func (w *town) calm() {
	w.news = nil
	for rounds := 0; ; rounds++ {
		before := w.seq + uint64(len(w.log))
		for _, n := range w.nodes {
			w.store(n)
			w.commit(n)
			w.compare(n)
		}
		if before == w.seq+uint64(len(w.log)) && rounds > 1 {
			break
		}
		if rounds > 100 {
			w.Fatalf("it does not come to rest")
		}
	}
	w.news = nil
	for user := range w.left {
		if w.isHere(user) {
			delete(w.left, user)
		}
	}
}

// cutOff takes the database from a node, or gives it back.
func (w *town) cutOff(rt *rapid.T) {
	n := w.anyNode(rt)
	if n.cut {
		w.heal(n)
		return
	}
	if rapid.IntRange(0, 2).Draw(rt, "really") == 0 {
		w.rough, n.cut = true, true
	}
}

func (w *town) heal(n *node) {
	if n.cut {
		n.cut = false
		w.beat(n)
		n.gone = false
		w.compare(n)
	}
}

// crash ends a node and starts another.
func (w *town) crash(rt *rapid.T) {
	if rapid.IntRange(0, 4).Draw(rt, "really") != 0 {
		rt.Skip("not really")
	}
	w.rough = true
	i := rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "which")
	n := w.nodes[i]
	for _, l := range w.links {
		if l.node == n && l.live {
			l.live, l.until = false, w.now.Add(grace)
		}
	}
	w.nodes[i] = w.start()
}

// settle heals all, lets those go who are not here, and holds the rooms against the
// truth and against each other.
func (w *town) settle() {
	for _, n := range w.nodes {
		w.heal(n)
	}
	for _, l := range w.links {
		if l.live && l.half {
			l.live = false
			w.step(l.node, presence.Parted{Conn: l.conn})
		}
	}
	w.pass(lease + 2*grace)
	w.calm()
	for range 20 {
		w.now = w.now.Add(pause)
		for _, n := range w.nodes {
			w.beat(n)
			w.tick(n)
		}
		w.calm()
	}
	w.same()
	w.asItIs()
}

// same fails unless all rooms tell the same.
func (w *town) same() {
	var first []byte
	for _, n := range w.nodes {
		r := n.room.Roster()
		r.Rev = 0
		for i := range r.Participants {
			r.Participants[i].RoundTrip, r.Participants[i].Lapsed = 0, nil
		}
		data := r.Encode()
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			w.Fatalf("node %x tells\n%+v, node %x\n%+v", w.nodes[0].id, w.nodes[0].room.Roster(), n.id, r)
		}
	}
}

// asItIs fails unless the rooms tell who truly is here.
func (w *town) asItIs() {
	truth := map[string]int{}
	for _, l := range w.liveLinks(func(l *link) bool { return !l.away }) {
		truth[l.user]++
	}
	shown := map[string]int{}
	for _, p := range w.nodes[0].room.Roster().Participants {
		shown[p.User] = p.Connections
		if p.State != presence.Online {
			w.Fatalf("%s is %s", p.User, p.State)
		}
	}
	if !maps.Equal(truth, shown) {
		w.Fatalf("there are %v, shown are %v", truth, shown)
	}
}

// agree has all parties confirm, which must be an agreement.
func (w *town) agree() {
	parties := map[string]*link{}
	for _, l := range w.liveLinks(func(l *link) bool { return l.role == transaction.Party && !l.away }) {
		parties[l.user] = l
	}
	before := w.nodes[0].room.Roster()
	for range 2 { // again, if somewhere something else was remembered
		for _, user := range slices.Sorted(maps.Keys(parties)) {
			w.sayReady(parties[user])
		}
		w.calm()
		w.pass(time.Second)
	}
	w.same()
	after := w.nodes[0].room.Roster()
	ready := 0
	for _, p := range after.Participants {
		if p.Ready != (parties[p.User] != nil) {
			w.Fatalf("%s: ready %t", p.User, p.Ready)
		}
		if p.Ready && slices.Contains(after.Needed, p.User) {
			ready++
		}
	}
	if agreed := after.Resolution != nil; agreed != (ready >= after.Quorum) && before.Resolution == nil {
		w.Fatalf("%d are ready, and agreed is %t: %+v", ready, agreed, after)
	}
}

// TestNodes puts rooms of the same transaction on several nodes, which hear of each
// other late, in any order, twice or not at all, lose the database, and crash.
func TestNodes(t *testing.T) {
	checks(t, 1000)
	rapid.Check(t, func(rt *rapid.T) {
		w := newTown(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"arrive":   w.arrive,
			"lose":     w.lose,
			"bye":      w.bye,
			"move":     w.move,
			"notice":   w.notice,
			"ready":    w.ready,
			"ready2":   w.ready,
			"unready":  w.unready,
			"leave":    w.leave,
			"focus":    w.focus,
			"measure":  w.measure,
			"store":    func(rt *rapid.T) { w.store(w.anyNode(rt)) },
			"store2":   func(rt *rapid.T) { w.store(w.anyNode(rt)) },
			"deliver":  w.deliver,
			"deliver2": w.deliver,
			"compare":  func(rt *rapid.T) { w.compare(w.anyNode(rt)) },
			"commit":   func(rt *rapid.T) { w.commit(w.anyNode(rt)) },
			"change":   w.change,
			"pass": func(rt *rapid.T) {
				w.pass(rapid.SampledFrom([]time.Duration{time.Millisecond, 99 * time.Millisecond, time.Second, grace, lease}).Draw(rt, "pause"))
			},
			"cut":   w.cutOff,
			"crash": w.crash,
		})
		w.settle()
		w.agree()
	})
}

func (n *node) GoString() string { return fmt.Sprintf("node %x", n.id[:2]) }
func (l *link) GoString() string { return fmt.Sprintf("%s(%d)@%x", l.peer, l.conn, l.node.id[:2]) }
