package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/protocol"
)

// room is a ledger with its fields, and the state of a whole replica beside it,
// which checks every change as a server does.
type room struct {
	t     *testing.T
	l     *ledger
	whole *transaction.State
}

func newRoom(t *testing.T, fields int) *room {
	l := newLedger("deal")
	r := &room{t, l, transaction.New("deal")}
	r.add(transaction.Genesis("deal"))
	edit := r.whole.Edit("host", "holly", time.UnixMilli(1000))
	if err := edit.SetFields(fieldsOf(fields)); err != nil {
		t.Fatal(err)
	}
	c, err := edit.Change()
	if err != nil {
		t.Fatal(err)
	}
	r.add(c)
	return r
}

func (r *room) add(c *crdt.Change) {
	r.t.Helper()
	if err := r.whole.Apply(c); err != nil {
		r.t.Fatal(err)
	}
	r.l.add(c, fact{})
}

// enter returns a person's replica that has all that there is.
func (r *room) enter(user string, fields int) *replica {
	p := newReplica(r.l, crdt.ActorID(user), user, fields)
	r.catchUp(p)
	return p
}

func (r *room) catchUp(p *replica) {
	r.t.Helper()
	var chunks [][]byte
	for i := range r.l.graph.Len() {
		chunks = append(chunks, r.l.graph.ChunkAt(i))
	}
	if err := p.receive(&protocol.Message{Changes: chunks}, func(*fact) {}); err != nil {
		r.t.Fatal(err)
	}
}

// pick makes a pick, which the whole replica checks by the schema.
func (r *room) pick(p *replica, field, option int) crdt.Hash {
	r.t.Helper()
	if err := p.pick(field, option, fact{due: time.UnixMilli(2_000_000)}); err != nil {
		r.t.Fatal(err)
	}
	i := r.l.graph.Len() - 1
	c, err := crdt.DecodeChange(r.l.graph.ChunkAt(i), crdt.Limits{})
	if err != nil {
		r.t.Fatal(err)
	}
	if refusal := r.whole.Check(c, transaction.Author{User: p.user, Role: transaction.Party}, func(crdt.ActorID) string { return "" }); refusal != nil {
		r.t.Fatal(refusal)
	}
	if err := r.whole.Apply(c); err != nil {
		r.t.Fatal(err)
	}
	return c.Hash
}

// A pick is what transaction.Edit makes of the same: the same bytes.
func TestPicksAreThoseOfTheSchema(t *testing.T) {
	r := newRoom(t, 2)
	alice := r.enter("alice", 2)
	for n := range 3 {
		edit := r.whole.Edit("alice", "alice", time.UnixMilli(2_000_000))
		if err := edit.Pick(fieldName(1), fieldsOf(2)[fieldName(1)].Options["b"].Value, "b"); err != nil {
			t.Fatal(err)
		}
		want, err := edit.Change()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.pick(alice, 1, 1); got != want.Hash {
			t.Errorf("pick %d is not what transaction.Edit makes", n)
		}
	}
}

// People who pick without knowing of each other, and come together now and then,
// have the same in the end as a whole replica has.
func TestReplicasConverge(t *testing.T) {
	const fields = 3
	r := newRoom(t, fields)
	people := []*replica{r.enter("alice", fields), r.enter("bob", fields), r.enter("carol", fields)}
	for range 200 {
		p := people[rand.N(len(people))]
		r.pick(p, rand.N(fields), rand.N(2))
		if rand.N(3) == 0 {
			r.catchUp(people[rand.N(len(people))])
		}
	}
	for _, p := range people {
		r.catchUp(p)
		if heads := p.hashes(p.heads); !slices.Equal(heads, r.whole.Heads()) {
			t.Errorf("%s has heads %v, want %v", p.user, heads, r.whole.Heads())
		}
		for f := range fields {
			var want []crdt.OpID
			if sel, ok := r.whole.Selection(fieldName(f)); ok {
				for _, pick := range sel.Picks {
					want = append(want, pick.Op)
				}
			}
			got := slices.SortedFunc(slices.Values(p.live[f]), func(a, b crdt.OpID) int { return b.Compare(a) })
			if !slices.Equal(got, want) {
				t.Errorf("%s has picks %v for field %d, want %v", p.user, got, f, want)
			}
		}
	}
}

// The server's heads acknowledge what is below them, and nothing else; what is not
// acknowledged is sent again on the next connection, which begins at what the
// server is known to have.
func TestAcknowledge(t *testing.T) {
	r := newRoom(t, 1)
	alice, bob := r.enter("alice", 1), r.enter("bob", 1)
	first := r.pick(alice, 0, 0)
	r.pick(bob, 0, 0)
	r.catchUp(alice)
	before := alice.hashes(alice.heads)
	second, third := r.pick(alice, 0, 1), r.pick(alice, 0, 0)
	if m := alice.next(nil); len(m.Changes) != 3 {
		t.Errorf("%d changes are sent, want three", len(m.Changes))
	}
	acked := 0
	count := func(*fact) { acked++ }
	if alice.acknowledge(before, count); acked != 1 {
		t.Errorf("%d picks are acknowledged by heads at %s, want the first", acked, first)
	}
	if m := alice.next(nil); len(m.Changes) != 0 {
		t.Error("what was sent is sent again on the same connection")
	}
	opening := alice.opening()
	if !slices.Equal(opening.Heads, []crdt.Hash{third}) || !slices.Equal(opening.Have[0].LastSync, before) {
		t.Errorf("it opens with heads %v since %v, want %v since %v", opening.Heads, opening.Have[0].LastSync, third, before)
	}
	if m := alice.next(nil); len(m.Changes) != 2 {
		t.Errorf("%d changes are sent on the next connection, want two", len(m.Changes))
	}
	if alice.acknowledge([]crdt.Hash{second}, count); acked != 2 || len(alice.own) != 1 {
		t.Errorf("%d picks are acknowledged, %d are not", acked, len(alice.own))
	}
}

// A change that comes before one on which it depends is an error, and so is what
// is no change.
func TestBadServers(t *testing.T) {
	r := newRoom(t, 1)
	p := newReplica(r.l, "", "", 0)
	if err := p.receive(&protocol.Message{Changes: [][]byte{r.l.graph.ChunkAt(1)}}, nil); err == nil {
		t.Error("a change without its dependencies is taken")
	}
	if err := p.receive(&protocol.Message{Changes: [][]byte{[]byte("no change at all")}}, nil); err == nil {
		t.Error("what is no change is taken")
	}
}
