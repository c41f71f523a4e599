package session_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/session"
)

// goods are what programs choose from.
type goods struct {
	id       crdt.DocumentID
	config   session.DocumentConfig
	changes  []*crdt.Change
	hostile  [][]byte // changes
	messages [][]byte
	frames   [][]byte
}

// allGoods are those of a plain document and of a transaction.
func allGoods(t testing.TB) []*goods {
	t.Helper()
	// The hostile corpus is about this document.
	plain, err := crdt.ParseDocumentID("4NMNnkMhL8jXrdJ9jamS58PAVdXu")
	if err != nil {
		t.Fatal(err)
	}
	list := []*goods{{id: plain, changes: plainChanges(t)}, {id: hallID.Document(), changes: transactionChanges(t)}}
	for i, g := range list {
		g.config = session.DocumentConfig{Self: serverID, Storage: serverStore, PlainDocuments: i == 0, Limits: riotLimits}
		corpus(t, "changes.jsonl", func(in []byte) { g.hostile = append(g.hostile, in) })
		corpus(t, "messages.jsonl", func(in []byte) { g.messages = append(g.messages, in) })
		corpus(t, "frames.jsonl", func(in []byte) { g.frames = append(g.frames, in) })
	}
	return list
}

// corpus reads the small inputs of a file of testdata/hostile, and the honest
// changes that they come after.
func corpus(t testing.TB, name string, use func([]byte)) {
	t.Helper()
	f, err := os.Open("../../testdata/hostile/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type blob struct {
		Head, Tail []byte
		Zeros      int
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			Changes [][]byte
			Input   blob
			Inputs  []blob
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		for _, c := range line.Changes {
			use(c)
		}
		for _, in := range append(line.Inputs, line.Input) {
			if len(in.Head) > 0 && len(in.Head)+in.Zeros+len(in.Tail) < 2000 {
				use(slices.Concat(in.Head, make([]byte, in.Zeros), in.Tail))
			}
		}
	}
}

// plainChanges are what three made in a plain document, with forks and merges.
func plainChanges(t testing.TB) (list []*crdt.Change) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	var g crdt.Graph
	for range 14 {
		actor := crdt.ActorID([]string{"a", "b", "c"}[rng.IntN(3)])
		deps := g.Tips()
		if own := slices.IndexFunc(list, func(c *crdt.Change) bool { return c.Actor == actor }); own >= 0 && len(list) > 3 && rng.IntN(2) == 0 {
			for i := range list { // on its own last change alone
				if list[i].Actor == actor {
					deps = []crdt.Hash{list[i].Hash}
				}
			}
		}
		b := crdt.NewBuilder(crdt.Header{Deps: crdt.SortHashes(slices.Clone(deps)), Actor: actor, Seq: g.Seq(actor) + 1, StartOp: g.MaxOpOf(deps) + 1})
		b.Put(crdt.OpID{}, fmt.Sprint("key", len(list)), crdt.Int(int64(len(list))))
		c, err := b.Change(crdt.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		g.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.Chunk()})
		list = append(list, c)
	}
	return list
}

// transactionChanges are a transaction's genesis and picks of two users.
func transactionChanges(t testing.TB) []*crdt.Change {
	t.Helper()
	state := transaction.New(hallID)
	list := []*crdt.Change{transaction.Genesis(hallID)}
	for i := range 10 {
		if err := state.Apply(list[i]); err != nil {
			t.Fatal(err)
		}
		user := []string{"alice", "bob", "mallory"}[i%3]
		edit := state.Edit(crdt.ActorID(user), user, epoch.Add(time.Duration(i)*time.Second))
		if err := edit.Pick(fmt.Sprint("field", i%4), fmt.Append(nil, i), ""); err != nil {
			t.Fatal(err)
		}
		c, err := edit.Change()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

// programs are some to begin with.
func programs(n, length int) (list [][]byte) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range n {
		p := make([]byte, length)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		for i := range riotPeers { // all join first
			p[2*i], p[2*i+1] = byte(i), 0
		}
		list = append(list, p)
	}
	return list
}

// FuzzRiot plays programs against the machines of connections and of a document.
func FuzzRiot(f *testing.F) {
	all := allGoods(f)
	for i, p := range programs(16, 120) {
		f.Add(i%2 == 1, p)
	}
	f.Fuzz(func(t *testing.T, inTransaction bool, program []byte) {
		if len(program) > 600 {
			return
		}
		g := all[0]
		if inTransaction {
			g = all[1]
		}
		playTwice(t, g, program)
		if !inTransaction {
			playMuted(t, g, program)
		}
	})
}

// TestRiots is FuzzRiot with so many programs, the same each time.
func TestRiots(t *testing.T) {
	all := allGoods(t)
	accepted, frames := 0, 0
	for i, p := range programs(150, 300) {
		r := playTwice(t, all[i%2], p)
		if i%2 == 0 {
			playMuted(t, all[0], p)
		}
		if t.Failed() {
			t.Fatalf("program %d", i)
		}
		accepted += r.doc.Graph().Len()
		for _, log := range r.log {
			frames += len(log)
		}
	}
	t.Logf("%d changes were accepted, %d frames sent", accepted, frames)
	if accepted < 300 || frames < 3000 {
		t.Error("too few to say anything")
	}
}

// playTwice plays a program twice: what everybody hears is the same.
func playTwice(t *testing.T, g *goods, program []byte) *riot {
	t.Helper()
	first, second := newRiot(t, g, program), newRiot(t, g, program)
	first.run()
	second.run()
	for _, who := range riotPeers {
		if a, b := first.log[who.peer], second.log[who.peer]; !slices.Equal(a, b) {
			t.Errorf("%s hears\n%s\nand the second time\n%s", who.peer, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	}
	return first
}

// playMuted plays a program with one who may only read, and without: the changes
// that are taken are the same, and those that the others are sent. The reader has
// no change that another will bring: while it is held for the reader nobody else
// is asked for it.
func playMuted(t *testing.T, g *goods, program []byte) {
	t.Helper()
	with, without := newRiot(t, g, program), newRiot(t, g, program)
	with.apart, without.apart, without.muted = true, true, true
	with.run()
	without.run()
	taken := func(r *riot) (list []crdt.Hash) {
		for i := range r.doc.Graph().Len() {
			list = append(list, r.doc.Graph().HashAt(i))
		}
		return list
	}
	if a, b := taken(with), taken(without); !slices.Equal(a, b) {
		t.Errorf("changes %v are taken, and without a reader %v", a, b)
	}
	for _, who := range riotPeers[:viewer] {
		if a, b := with.sent[who.peer], without.sent[who.peer]; !slices.Equal(a, b) {
			t.Errorf("%s is sent %v, and without a reader %v", who.peer, a, b)
		}
	}
}
