package sim

import (
	"math/rand/v2"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/wire"
)

// plan is what a run begins with. A seed makes it, and the actions that follow.
type plan struct {
	seed    uint64
	people  []person
	topics  []topic
	grace   time.Duration
	room    int // for bytes in a link
	backlog int // batches that may wait for the disk
	actions int
	weights [numKinds]int
	absent  []bool // clients that a shrunk run does without
}

// person is who sits before one client. Several may be one user.
type person struct {
	user string
	role transaction.Role

	slow  bool // reads and writes in small pieces
	old   bool // its Automerge knows nothing of flags and version 2
	store bool // keeps its sync states
	loyal bool // keeps what it was refused
	blind bool // finds far too much in Bloom filters
}

// topic is one document: a transaction, or a plain one.
type topic struct {
	name     string
	tx       transaction.ID // "" for a plain document
	id       crdt.DocumentID
	settings presence.Settings // with which it begins
}

func (t *topic) plain() bool { return t.tx == "" }

// users are all who may come. The first two always do.
var users = []person{
	{user: "alice", role: transaction.Party},
	{user: "bob", role: transaction.Party},
	{user: "carol", role: transaction.Party},
	{user: "holly", role: transaction.Host},
	{user: "victor", role: transaction.Viewer},
	{user: "ada", role: transaction.Auditor},
}

const (
	serverID    wire.PeerID    = "server"
	serverStore wire.StorageID = "server-store"
)

// newPlan makes the plan of a seed, and the dice that go on with its actions.
func newPlan(seed uint64) (*plan, *rand.Rand) {
	dice := rand.New(rand.NewPCG(seed, 0))
	p := &plan{
		seed: seed, grace: time.Duration(500+dice.IntN(8000)) * time.Millisecond,
		room: 256 << dice.IntN(6), backlog: 1 << dice.IntN(6), actions: 200 << dice.IntN(4),
	}
	for i := range 2 + dice.IntN(6) {
		who := users[i%2]
		if i >= 2 {
			who = users[dice.IntN(len(users))]
		}
		who.slow, who.old = dice.IntN(5) == 0, dice.IntN(4) == 0
		who.store, who.loyal, who.blind = dice.IntN(2) == 0, dice.IntN(2) == 0, dice.IntN(3) == 0
		p.people = append(p.people, who)
	}
	p.absent = make([]bool, len(p.people))
	for i := range 1 + dice.IntN(3) {
		tx := transaction.ID("tx" + string(rune('1'+i)))
		p.topics = append(p.topics, topic{name: string(tx), tx: tx, id: tx.Document(), settings: newSettings(dice)})
	}
	if dice.IntN(3) == 0 {
		p.topics = append(p.topics, topic{name: "plain", id: crdt.DocumentID{1}})
	}
	p.weigh(dice)
	return p, dice
}

func newSettings(dice *rand.Rand) presence.Settings {
	s := presence.Settings{Policy: presence.Reopen, Quorum: dice.IntN(3)}
	if dice.IntN(3) == 0 {
		s.Policy = presence.Lock
	}
	if dice.IntN(2) == 0 {
		s.Parties = []string{"alice", "bob"}
	}
	return s
}

// weigh makes runs differ: in each some faults do not happen, and some of the rest
// happens more often.
func (p *plan) weigh(dice *rand.Rand) {
	for k := range kinds {
		weight := 4 * kinds[k].weight
		switch luck := dice.IntN(4); {
		case kinds[k].fault && luck < 2:
			weight = 0
		case luck == 3:
			weight *= 3
		}
		p.weights[k] = weight
	}
}

// draw makes the next action.
func (p *plan) draw(dice *rand.Rand) action {
	sum := 0
	for _, weight := range p.weights {
		sum += weight
	}
	at := dice.IntN(sum)
	k := kind(0)
	for at >= p.weights[k] {
		at -= p.weights[k]
		k++
	}
	return action{kind: k, who: uint8(dice.IntN(256)), luck: dice.Uint32()}
}

// writes reports whether a role may make changes.
func writes(role transaction.Role) bool { return role == transaction.Party || role == transaction.Host }
