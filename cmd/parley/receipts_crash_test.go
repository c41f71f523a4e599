package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/audit"
	"parley/server/servertest"
	"parley/server/store"
)

// picker keeps picking over whatever connection there is, and remembers what was
// acknowledged.
type picker struct {
	user  string
	party *servertest.Party
	n     int
	acked []crdt.Hash
}

// pick goes on until its connection ends, and returns why it did.
func (p *picker) pick(ctx context.Context, url string, acknowledged func()) (err error) {
	if p.party == nil {
		p.party, err = servertest.Visitor{URL: url, User: p.user, LastOnly: true}.Enter(ctx, "deal")
	} else {
		p.party.URL = url
		err = p.party.Return(ctx)
	}
	if err != nil {
		return err
	}
	defer p.party.CloseNow()
	if err := p.party.Doc.Has(ctx, transaction.Genesis("deal").Hash); err != nil {
		return err
	}
	for {
		p.n++
		h, err := p.party.Pick(ctx, fmt.Sprintf("field%d", p.n%5), fmt.Sprint(p.n))
		if err != nil {
			return err
		}
		if err := p.party.Doc.Acknowledged(ctx, h); err != nil {
			return err
		}
		p.acked = append(p.acked, h)
		acknowledged()
	}
}

// TestReceiptsAfterKills kills the server in the middle of writing, again and
// again. Each time there is one receipt for each change, those that were
// acknowledged among them, and the log begins as it did before.
func TestReceiptsAfterKills(t *testing.T) {
	rounds := longer(20, 50)
	ctx := within(t, 3*time.Minute)
	data := t.TempDir()
	p := serve(t, data)
	openDeal(t, p.url)
	pickers := []*picker{{user: "alice"}, {user: "bob"}, {user: "carol"}}
	size, root := 0, crdt.Hash{}
	for range rounds {
		pickUntilKilled(t, ctx, p, pickers, 5+rand.IntN(40))
		log := checkReceipts(t, data, pickers)
		if size > 0 {
			if was, err := log.Root(size); err != nil || was != root {
				t.Fatalf("the first %d receipts are not what they were: %v", size, err)
			}
		}
		size = log.Size()
		var err error
		root, err = log.Root(size)
		check(t, err)
		p = serve(t, data)
	}
	acked := 0
	for _, k := range pickers {
		acked += len(k.acked)
	}
	t.Logf("%d acknowledged picks, none lost, and %d receipts, after %d kills", acked, size, rounds)
}

func pickUntilKilled(t *testing.T, ctx context.Context, p *process, pickers []*picker, n int) {
	t.Helper()
	acks, ended := make(chan struct{}, 10_000), make(chan error, len(pickers))
	var wg sync.WaitGroup
	for _, k := range pickers {
		wg.Go(func() { ended <- k.pick(ctx, p.url, func() { acks <- struct{}{} }) })
	}
	for range n {
		select {
		case <-acks:
		case err := <-ended:
			t.Fatalf("a picker was cut off by a living server: %v\n%s", err, p.output())
		}
	}
	p.killSoon()
	wg.Wait()
}

// checkReceipts compares receipts and changes on disk, and returns their log.
func checkReceipts(t *testing.T, data string, pickers []*picker) *audit.Log {
	t.Helper()
	st, err := store.Open(data, store.Options{})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	doc := transaction.ID("deal").Document()
	stored, err := st.Load(t.Context(), doc)
	check(t, err)
	receipts, err := st.Receipts(t.Context(), doc, len(stored.Hashes)+1)
	check(t, err)
	if len(receipts) != len(stored.Hashes) {
		t.Fatalf("%d receipts for %d changes", len(receipts), len(stored.Hashes))
	}
	var log audit.Log
	by := make(map[crdt.Hash]store.Receipt)
	for i, r := range receipts {
		if _, twice := by[r.Hash]; twice || r.Hash != stored.Hashes[i] || r.User == "" || r.Role == "" || r.At == 0 {
			t.Fatalf("receipt %d: %+v, twice: %t", i, r, twice)
		}
		by[r.Hash] = r
		log.Append(audit.Receipt{N: i, Change: r.Hash, User: r.User, Role: transaction.Role(r.Role), At: r.At}.Leaf())
	}
	for _, k := range pickers {
		for _, h := range k.acked {
			if r, ok := by[h]; !ok || r.User != k.user || r.Role != string(transaction.Party) {
				t.Fatalf("the receipt of a change of %s's that was acknowledged: %+v, there: %t", k.user, r, ok)
			}
		}
	}
	return &log
}
