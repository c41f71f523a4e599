package transaction_test

import (
	"encoding/json"
	"fmt"
	"log"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

// pick makes a pick on what a replica knows, and applies it there.
func pick(s *transaction.State, user, field, value string) *crdt.Change {
	e := s.Edit(crdt.ActorID("replica of "+user), user, time.UnixMilli(1_700_000_000_000))
	if err := e.Pick(field, json.RawMessage(value), ""); err != nil {
		log.Fatal(err)
	}
	c, err := e.Change()
	if err != nil {
		log.Fatal(err)
	}
	apply(s, c)
	return c
}

func apply(s *transaction.State, changes ...*crdt.Change) {
	for _, c := range changes {
		if err := s.Apply(c); err != nil {
			log.Fatal(err)
		}
	}
}

// Two people pick while neither knows of the other. Both see the same winner
// and that the field is contested, until one of them picks again.
func Example() {
	alice, bob := transaction.New("deal-42"), transaction.New("deal-42")
	for _, s := range []*transaction.State{alice, bob} {
		apply(s, transaction.Genesis("deal-42"))
	}
	hers := pick(alice, "alice", "price", "100")
	his := pick(bob, "bob", "price", "120")
	apply(alice, his)
	apply(bob, hers)
	fmt.Println(alice.Contested(), bob.Contested())

	sel, _ := bob.Selection("price")
	fmt.Printf("%s by %s, and %s by %s\n", sel.Picks[0].Value, sel.Picks[0].By, sel.Picks[1].Value, sel.Picks[1].By)

	apply(bob, pick(alice, "alice", "price", "110"))
	sel, _ = bob.Selection("price")
	fmt.Printf("%s by %s, contested: %t\n", sel.Winner().Value, sel.Winner().By, sel.Contested())
	// Output:
	// [price] [price]
	// 120 by bob, and 100 by alice
	// 110 by alice, contested: false
}

func ExampleID_Document() {
	id, err := transaction.ParseID("deal-42")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("automerge:" + id.Document().String())
	// Output: automerge:2PSrMvajybQ4cEyHk76dJiZwoDzc
}

func ExampleState_Missing() {
	s := transaction.New("deal-42")
	apply(s, transaction.Genesis("deal-42"))
	e := s.Edit("replica of hanna", "hanna", time.UnixMilli(1_700_000_000_000))
	err := e.SetFields(map[string]transaction.Field{"price": {
		Label:    "Price",
		Required: true,
		Options: map[string]transaction.Option{
			"a": {Value: json.RawMessage("100"), Source: "seller.pdf"},
			"b": {Value: json.RawMessage("120"), Source: "buyer.pdf"},
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	c, err := e.Change()
	if err != nil {
		log.Fatal(err)
	}
	apply(s, c)
	fmt.Println(s.Missing())
	pick(s, "alice", "price", "100")
	fmt.Println(s.Missing())
	// Output:
	// [price]
	// []
}

func ExampleState_Check() {
	s := transaction.New("deal-42")
	apply(s, transaction.Genesis("deal-42"))
	offline := transaction.New("deal-42")
	apply(offline, transaction.Genesis("deal-42"))
	c := pick(offline, "alice", "price", "100")

	mallory := transaction.Author{User: "mallory", Role: transaction.Party}
	owner := func(crdt.ActorID) string { return "" } // nobody has used any actor yet
	fmt.Println(s.Check(c, mallory, owner).Code)
	// Output: not-author
}

func ExampleState_AsOf() {
	s := transaction.New("deal-42")
	apply(s, transaction.Genesis("deal-42"))
	first := pick(s, "alice", "price", "100")
	pick(s, "bob", "price", "120")
	then, err := s.AsOf([]crdt.Hash{first.Hash})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(then.JSON()))
	for _, e := range s.History() {
		fmt.Println(e.Kind, e.Field, string(e.Pick.Value), "by", e.User, "over", len(e.Superseded))
	}
	// Output:
	// {"fields":{},"schema":"parley/1","selections":{"price":{"at":1700000000000,"by":"alice","value":100}},"transaction":"deal-42"}
	// picked price 100 by alice over 0
	// picked price 120 by bob over 1
}
