package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"parley/crdt/transaction"
	"parley/sync/client"
)

// A client works without a server, from the first moment. With Replica set to a
// folder, what is picked here survives the process, and travels when the
// transaction is opened with a Server.
func Example() {
	ctx := context.Background()
	c, err := client.Open(ctx, client.Options{Transaction: "house-42", User: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	_, err = c.SetFields(ctx, map[string]transaction.Field{"price": {
		Label: "Price", Required: true,
		Options: map[string]transaction.Option{
			"a": {Value: json.RawMessage("100"), Source: "seller.pdf"},
			"b": {Value: json.RawMessage("120"), Source: "buyer.pdf"},
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("missing:", c.Missing())
	if _, err := c.PickOption(ctx, "price", "b"); err != nil {
		log.Fatal(err)
	}
	for _, s := range c.Selections() {
		pick := s.Winner()
		fmt.Printf("%s: %s, by %s, contested: %t\n", s.Field, pick.Value, pick.By, s.Contested())
	}
	fmt.Println("not on the server:", c.Synced().Pending)
	// Output:
	// missing: [price]
	// price: 120, by alice, contested: false
	// not on the server: 2
}

// The transaction as it was at any earlier heads.
func ExampleClient_AsOf() {
	ctx := context.Background()
	c, err := client.Open(ctx, client.Options{Transaction: "house-42", User: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Pick(ctx, "price", json.RawMessage("100"), ""); err != nil {
		log.Fatal(err)
	}
	before := c.Heads()
	if _, err := c.Pick(ctx, "price", json.RawMessage("110"), ""); err != nil {
		log.Fatal(err)
	}
	then, err := c.AsOf(before)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, then %s\n", then.Selections()[0].Winner().Value, c.Selections()[0].Winner().Value)
	// Output: 100, then 110
}

// Watch is for programs that show the state: each View is the whole of it.
func ExampleClient_Watch() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	c, err := client.Open(ctx, client.Options{
		Transaction: "house-42", User: "alice", Server: "ws://127.0.0.1:8080", Replica: "replicas",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	told := 0
	for v := range c.Watch(ctx) {
		fmt.Println(v.Status.State, "saved:", v.Synced.Saved, "contested:", v.Contested)
		for _, r := range v.Rejections {
			if r.N > told {
				told = r.N
				fmt.Println("refused:", r.Message)
			}
		}
	}
}

// Flush tells a program that ends whether everything has arrived.
func ExampleClient_Flush() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := client.Open(ctx, client.Options{
		Transaction: "house-42", User: "alice", Server: "ws://127.0.0.1:8080", Replica: "replicas",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Pick(ctx, "price", json.RawMessage("100"), ""); err != nil {
		log.Fatal(err)
	}
	if err := c.Flush(ctx); err != nil {
		fmt.Println("kept here, and sent when the server is there again:", err)
	}
}
