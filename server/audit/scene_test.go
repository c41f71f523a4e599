package audit

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// scene is a transaction as it comes about on a server: replicas edit, their
// changes arrive and get receipts, agreements are sealed. It has no chance and
// no clock in it.
type scene struct {
	t     testing.TB
	key   *Key
	src   Source
	log   Log
	state *transaction.State // of the server
	roles map[string]transaction.Role
	clock int64
}

func testKey(t testing.TB, seed byte) *Key {
	t.Helper()
	key, err := NewKey(rand.NewChaCha8([32]byte{seed}), "parley-test")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newScene(t testing.TB, id transaction.ID) *scene {
	s := &scene{
		t: t, key: testKey(t, 1), state: transaction.New(id), clock: 1_800_000_000_000,
		src:   Source{Transaction: id, Settings: presence.Settings{Policy: presence.Reopen}},
		roles: map[string]transaction.Role{"holly": transaction.Host},
	}
	s.arrive("", transaction.Genesis(id))
	return s
}

func (s *scene) at() time.Time { return time.UnixMilli(s.clock) }

// replica is a copy of the transaction as it is on the server now.
func (s *scene) replica() *transaction.State {
	s.t.Helper()
	r := transaction.New(s.src.Transaction)
	for _, chunk := range s.src.Changes {
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		s.must(err)
		s.must(r.Apply(c))
	}
	return r
}

// make makes a change on a replica, which the server does not have yet.
func (s *scene) make(r *transaction.State, user string, do func(e *transaction.Edit) error) *crdt.Change {
	s.t.Helper()
	s.clock += 61_250
	actor := sha256.Sum256([]byte("actor of " + user))
	e := r.Edit(crdt.ActorID(actor[:16]), user, s.at())
	s.must(do(e))
	c, err := e.Change()
	s.must(err)
	s.must(r.Apply(c))
	return c
}

// arrive gives the server a change in a user's name.
func (s *scene) arrive(user string, c *crdt.Change) *crdt.Change {
	s.t.Helper()
	s.clock += 1_500
	role := s.roles[user]
	if role == "" {
		role = transaction.Party
	}
	receipt := Receipt{N: len(s.src.Changes), Change: c.Hash, Actor: c.Actor, User: user, Role: role, At: s.clock}
	s.must(s.state.Apply(c))
	s.src.Changes, s.src.Receipts = append(s.src.Changes, c.Chunk()), append(s.src.Receipts, receipt)
	s.log.Append(receipt.Leaf())
	return c
}

// edit is a change made by somebody who is connected.
func (s *scene) edit(user string, do func(e *transaction.Edit) error) *crdt.Change {
	s.t.Helper()
	return s.arrive(user, s.make(s.state, user, do))
}

func (s *scene) pick(user, field, value, option string) *crdt.Change {
	s.t.Helper()
	return s.edit(user, picks(field, value, option))
}

func picks(field, value, option string) func(*transaction.Edit) error {
	return func(e *transaction.Edit) error { return e.Pick(field, json.RawMessage(value), option) }
}

func (s *scene) define(fields map[string]transaction.Field) *crdt.Change {
	s.t.Helper()
	return s.edit("holly", func(e *transaction.Edit) error { return e.SetFields(fields) })
}

// agree seals what there is.
func (s *scene) agree(parties ...string) {
	s.t.Helper()
	s.clock += 20_000
	quorum := s.src.Settings.Quorum
	if quorum == 0 {
		quorum = max(len(parties), len(s.src.Settings.Parties))
	}
	r := presence.Resolution{N: len(s.src.Resolutions) + 1, Heads: s.state.Heads(), Parties: parties, Quorum: quorum, At: s.clock}
	root, err := s.log.Root(s.log.Size())
	s.must(err)
	origin := s.key.Public().Origin(s.src.Transaction.Document())
	r.Checkpoint, err = s.key.Sign(ResolutionCheckpoint(origin, s.log.Size(), root, s.src.Transaction, r, s.src.Settings.Parties))
	s.must(err)
	s.src.Resolutions = append(s.src.Resolutions, r)
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) record() []byte {
	s.t.Helper()
	record, err := Write(s.src, s.key)
	s.must(err)
	return record
}

// sale is a transaction in which everything happens.
func sale(t testing.TB) *scene {
	s := newScene(t, "sale-14-harbour-road")
	s.src.Settings.Parties = []string{"alice", "bob"}
	s.define(map[string]transaction.Field{
		"price": {Label: "Purchase price", Required: true, Options: map[string]transaction.Option{
			"seller": {Value: json.RawMessage("412000"), Source: "Offer of the seller, page 2"},
			"buyer":  {Value: json.RawMessage("398500"), Source: "Offer of the buyer, page 1"},
		}},
		"closing": {Label: "Closing date", Required: true, Options: map[string]transaction.Option{
			"june": {Value: json.RawMessage(`"2027-06-30"`), Source: "Draft contract, § 4"},
			"july": {Value: json.RawMessage(`"2027-07-15"`), Source: "Letter of the bank"},
		}},
		"fixtures": {Label: "Fixtures included", Options: map[string]transaction.Option{
			"all":     {Value: json.RawMessage(`["kitchen","lamps","shed"]`), Source: "Offer of the buyer, page 3"},
			"kitchen": {Value: json.RawMessage(`["kitchen"]`), Source: "Offer of the seller, page 4"},
		}},
		"notary": {Label: "Notary", Options: map[string]transaction.Option{}},
	})
	s.pick("alice", "price", "412000", "seller")
	s.pick("bob", "closing", `"2027-07-15"`, "july")
	s.pick("alice", "closing", `"2027-06-30"`, "june")
	offline := s.replica()
	mine := s.make(offline, "bob", picks("price", "398500", "buyer"))
	s.pick("alice", "price", "405000", "")
	s.arrive("bob", mine)
	s.pick("bob", "price", "405000", "")
	s.pick("bob", "fixtures", `["kitchen","lamps","shed"]`, "all")
	s.agree("alice", "bob")
	s.edit("bob", func(e *transaction.Edit) error { return e.Withdraw("fixtures") })
	s.pick("alice", "fixtures", `["kitchen"]`, "kitchen")
	s.pick("bob", "notary", `"Dr. Zoë Müller-Lüdenscheidt, 港口路 14"`, "")
	s.agree("alice", "bob")
	return s
}

// open is one that is not settled, with texts that are hard to show.
func open(t testing.TB) *scene {
	s := newScene(t, "open-1")
	s.define(map[string]transaction.Field{
		"a": {Label: "<script>alert(1)</script>", Required: true, Options: map[string]transaction.Option{
			"x": {Value: json.RawMessage(`"` + "\u202eevil" + `"`), Source: "=cmd()"},
		}},
		"b": {Label: "\u202eReversed", Required: true},
	})
	s.pick("zoë \"<&>\"\u2028", "a", `{"b":[1,2.5,null,true],"a":"<b>"}`, "x")
	offline := s.replica()
	mine := s.make(offline, "bob", picks("a", `"=1+1\u0000"`, ""))
	s.pick("alice", "a", "-5", "")
	s.arrive("bob", mine)
	s.pick("alice", "undefined", fmt.Sprintf("%q", "long "+longText), "")
	return s
}

var longText = func() string {
	text := ""
	for i := range 400 {
		text += fmt.Sprintf("word%d", i)
	}
	return text
}()
