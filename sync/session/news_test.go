package session_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
)

// line is a transaction as several nodes append to it (server/store/postgres): what
// is not built on all of it is left out.
type line struct {
	t        *testing.T
	random   *rand.Rand
	settings presence.Settings
	changes  []session.StoredChange
	sealed   []sealedAt
	nodes    []*node
	behind   int
}

type sealedAt struct {
	presence.Resolution
	after int // changes
}

// node is one document's machine on one of several servers.
type node struct {
	*hall
	line      *line
	asked     []asked // of the disk, in order
	came      int     // resolutions, with those that were asked for
	kept      int     // resolutions that are known to be on disk
	overtaken bool
	people    []session.Peer
	picks     int
}

type asked struct {
	out     session.Output
	changes int // what it was built on
	sealed  int
}

func newLine(t *testing.T, random *rand.Rand) *line {
	l := &line{t: t, random: random}
	l.settings = presence.Settings{Policy: presence.Reopen, Quorum: 2}
	if random.IntN(3) == 0 {
		l.settings.Policy = presence.Lock
	}
	genesis, err := crdt.DecodeChange(transaction.Genesis(hallID).Chunk(), crdt.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	l.changes = []session.StoredChange{{Change: genesis}}
	for i := range 2 + random.IntN(2) {
		n := &node{hall: newHall(t, l.settings), line: l}
		for k := range 2 {
			user := fmt.Sprintf("user%d%d", i, k)
			n.people = append(n.people, peer(session.ConnID(k+1), user, user))
			n.take(n.hall.tell(n.people[k], presence.Ask{}))
		}
		l.nodes = append(l.nodes, n)
	}
	return l
}

// take queues what the machine asks of the disk.
func (n *node) take(outs []session.Output) {
	for _, out := range outs {
		switch out := out.(type) {
		case session.Commit:
			if !n.overtaken {
				n.asked = append(n.asked, asked{out, out.From, n.came})
			}
		case session.Seal:
			if !n.overtaken {
				n.asked = append(n.asked, asked{out, n.doc.Graph().Durable(), n.came})
				n.came++
			}
		}
	}
}

// write has the disk answer what it was asked first.
func (n *node) write() {
	l := n.line
	if len(n.asked) == 0 {
		return
	}
	next := n.asked[0]
	n.asked = n.asked[1:]
	if n.overtaken || next.changes != len(l.changes) || next.sealed != len(l.sealed) {
		n.overtaken = true
		l.behind++
		if len(n.asked) == 0 {
			n.learn()
		}
		return
	}
	switch out := next.out.(type) {
	case session.Commit:
		for i := out.From; i < out.To; i++ {
			c, err := crdt.DecodeChange(n.doc.Graph().ChunkAt(i), crdt.Limits{})
			if err != nil {
				l.t.Fatal(err)
			}
			if d := n.doc.Delivery(i); d.User == "" || d.At.IsZero() {
				l.t.Fatalf("change %d was delivered by %+v", i, d)
			}
			l.changes = append(l.changes, session.StoredChange{Change: c, User: n.doc.User(i)})
		}
		n.take(n.doc.Step(n.now, &session.DurableInput{N: out.To}, nil))
	case session.Seal:
		l.sealed = append(l.sealed, sealedAt{out.Resolution, len(l.changes)})
		n.kept++
		n.take(n.doc.Step(n.now, &session.SealedInput{}, nil))
	}
}

// learn tells the machine what other nodes have appended, if it is done with its own.
func (n *node) learn() {
	if len(n.asked) > 0 {
		return
	}
	news := &session.News{Changes: n.line.changes[n.doc.Graph().Durable():], Overtaken: n.overtaken}
	for _, s := range n.line.sealed[n.kept:] {
		news.Resolutions = append(news.Resolutions, s.Resolution)
	}
	n.kept, n.came, n.overtaken = len(n.line.sealed), len(n.line.sealed), false
	outs, err := n.doc.Learn(n.now, news, nil)
	if err != nil {
		n.line.t.Fatal(err)
	}
	n.take(outs)
}

func (n *node) step() {
	random := n.line.random
	p := n.people[random.IntN(len(n.people))]
	switch random.IntN(12) {
	case 0, 1:
		n.pick(p)
	case 2, 3, 4:
		n.take(n.hall.tell(p, presence.Ready{Heads: n.doc.Graph().Heads()}))
	case 5, 6, 7, 8:
		n.write()
	case 9, 10:
		n.learn()
	case 11:
		n.take(n.hall.wait(time.Duration(random.IntN(200)) * time.Millisecond))
	}
	if random.IntN(60) == 0 {
		n.doc.Rest()
	}
}

// pick makes a change on what is accepted on this node.
func (n *node) pick(p session.Peer) {
	state, err := n.doc.Transaction()
	if err != nil {
		n.line.t.Fatal(err)
	}
	n.picks++
	user := p.Person.User
	edit := state.Edit(crdt.ActorID(fmt.Sprintf("%s-%d", user, n.picks)), user, n.now)
	if err := edit.Pick("price", fmt.Append(nil, n.line.random.IntN(1000)), ""); err != nil {
		n.line.t.Fatal(err)
	}
	c, err := edit.Change()
	if err != nil {
		n.line.t.Fatal(err)
	}
	n.take(n.changes(p, c))
}

// settle lets all nodes write and learn until nothing is left to do.
func (l *line) settle() {
	for range 1000 {
		busy := false
		for _, n := range l.nodes {
			for len(n.asked) > 0 {
				n.write()
				busy = true
			}
			if n.kept < len(l.sealed) || n.doc.Graph().Durable() < len(l.changes) {
				n.learn()
				busy = true
			}
		}
		if !busy {
			return
		}
	}
	l.t.Fatal("the nodes do not come to an end")
}

// check: all nodes have the line, in its order, and what was agreed was agreed on
// what there was.
func (l *line) check() {
	l.t.Helper()
	for i, n := range l.nodes {
		g := n.doc.Graph()
		if !n.doc.Settled() || g.Len() != len(l.changes) {
			l.t.Fatalf("node %d has %d changes, %d on disk, of %d", i, g.Len(), g.Durable(), len(l.changes))
		}
		for k, c := range l.changes {
			if g.HashAt(k) != c.Change.Hash || n.doc.User(k) != c.User {
				l.t.Fatalf("node %d has another change %d", i, k)
			}
		}
		if len(n.doc.Resolutions()) != len(l.sealed) || n.doc.Sealing() {
			l.t.Fatalf("node %d has %d resolutions, of %d", i, len(n.doc.Resolutions()), len(l.sealed))
		}
		state, err := n.doc.Transaction()
		if err != nil {
			l.t.Fatal(err)
		}
		fresh, err := transaction.Load(hallID, g)
		if err != nil || fmt.Sprint(state.Selections()) != fmt.Sprint(fresh.Selections()) {
			l.t.Fatalf("node %d reads %v, want %v; %v", i, state.Selections(), fresh.Selections(), err)
		}
	}
	for k, s := range l.sealed {
		doc := crdt.NewDocument(crdt.Limits{})
		for _, c := range l.changes[:s.after] {
			if err := doc.AddStored(c.Change); err != nil {
				l.t.Fatal(err)
			}
		}
		if !slices.Equal(doc.Graph.Tips(), s.Heads) || s.N != k+1 {
			l.t.Fatalf("resolution %d says %d and is over %v, where there was %v", k, s.N, s.Heads, doc.Graph.Tips())
		}
		if l.settings.Policy == presence.Lock && s.after != len(l.changes) {
			l.t.Fatalf("%d changes after an agreement that locks", len(l.changes)-s.after)
		}
	}
}

// TestNodesKeepOneLine: whatever several nodes accept at once and however late they
// hear of each other, there is one line of changes, and an agreement is on all of it.
func TestNodesKeepOneLine(t *testing.T) {
	const runs, steps = 400, 150
	seed, behind, sealed, changes := uint64(0), 0, 0, 0
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for ; seed < runs; seed++ {
		l := newLine(t, rand.New(rand.NewPCG(seed, 2)))
		for range steps {
			l.nodes[l.random.IntN(len(l.nodes))].step()
		}
		l.settle()
		l.check()
		behind, sealed, changes = behind+l.behind, sealed+len(l.sealed), changes+len(l.changes)
	}
	if behind < runs || sealed < runs/2 {
		t.Errorf("%d times a node was behind, %d agreements: too few to say anything", behind, sealed)
	}
	t.Logf("%d changes, %d agreements, %d times a node was behind", changes, sealed, behind)
}

// TestNewsThatDoNotFollow: the document must be dropped.
func TestNewsThatDoNotFollow(t *testing.T) {
	h := newHall(t, presence.Settings{})
	late := newHall(t, presence.Settings{})
	late.changes(peer(1, "a", "alice"), h.pick("alice", "1"))
	state, err := late.doc.Transaction()
	if err != nil {
		t.Fatal(err)
	}
	edit := state.Edit("other", "alice", h.now)
	if err := edit.Pick("price", []byte("2"), ""); err != nil {
		t.Fatal(err)
	}
	c, err := edit.Change()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.doc.Learn(h.now, &session.News{Changes: []session.StoredChange{{Change: c, User: "alice"}}}, nil); err == nil {
		t.Error("a change was learnt before the one that it depends on")
	}
}

// TestNewsWhileSomethingIsOnItsWay: what is not on disk must not seem to be.
func TestNewsWhileSomethingIsOnItsWay(t *testing.T) {
	h := newHall(t, presence.Settings{})
	h.changes(peer(1, "a", "alice"), h.pick("alice", "1"))
	news := session.News{Changes: []session.StoredChange{{Change: h.pick("bob", "2"), User: "bob"}}}
	if _, err := h.doc.Learn(h.now, &news, nil); err == nil || h.doc.Graph().Durable() != 1 {
		t.Errorf("learnt with %d changes on disk, %v", h.doc.Graph().Durable(), err)
	}
}

// TestOvertakenChangesAreNotAskedForAgain: their client's message waits until they
// are on disk, wherever they stand then.
func TestOvertakenChangesAreNotAskedForAgain(t *testing.T) {
	h := newHall(t, presence.Settings{})
	alice := peer(1, "a", "alice")
	own := h.pick("alice", "1")
	h.changes(alice, own)
	news := session.News{Overtaken: true, Changes: []session.StoredChange{{Change: h.pick("bob", "2"), User: "bob"}, {Change: h.pick("carol", "3"), User: "carol"}}}
	if _, err := h.doc.Learn(h.now, &news, nil); err != nil {
		t.Fatal(err)
	}
	if g := h.doc.Graph(); g.Durable() != 3 || g.Len() != 4 || g.HashAt(3) != own.Hash {
		t.Fatalf("%d changes on disk, of %d", g.Durable(), g.Len())
	}
	if frame := h.doc.Pull(alice.Conn); frame != nil && slices.Contains(needOf(t, frame), own.Hash) {
		t.Error("it is asked for again")
	}
	h.doc.Step(h.now, &session.DurableInput{N: 4}, nil)
	if !slices.Contains(h.doc.Graph().Heads(), own.Hash) {
		t.Error("it is not on disk")
	}
}
