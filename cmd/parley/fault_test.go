package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/servertest"
	"parley/sync/client"
	"parley/sync/presence"
)

// The tests of faults break what breaks in production: under load, the real
// binary. In an ordinary run they are short. With PARLEY_SOAK, which make soak
// sets, they take as long as the fault would, and what is drawn by lot goes on for
// a fourth of so many seconds.

// soak is for how long to go on; 0: this is an ordinary run.
func soak() time.Duration {
	seconds, _ := strconv.Atoi(os.Getenv("PARLEY_SOAK"))
	return time.Duration(seconds) * time.Second
}

// longer chooses between an ordinary run and a long one.
func longer[T any](ordinary, long T) T {
	if soak() > 0 {
		return long
	}
	return ordinary
}

// party is somebody with the real client, who picks on and on in a transaction,
// and remembers what was acknowledged.
type party struct {
	*client.Client
	user  string
	made  []crdt.Hash
	acked int // the first of made
	// worst is the longest wait for an acknowledgement.
	worst time.Duration
}

// goIn has users open a transaction.
func goIn(t *testing.T, url string, tx transaction.ID, users ...string) []*party {
	t.Helper()
	var all []*party
	for _, user := range users {
		c, err := client.Open(t.Context(), client.Options{Transaction: tx, Server: url, User: user, Role: transaction.Party})
		check(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = c.Close(ctx)
		})
		all = append(all, &party{Client: c, user: user})
	}
	return all
}

// pickOn picks, waits for the acknowledgement, and so on, until ctx ends.
func (p *party) pickOn(ctx context.Context) error {
	for ctx.Err() == nil {
		h, err := p.Pick(context.WithoutCancel(ctx), fmt.Sprintf("field%d", len(p.made)%5), json.RawMessage(strconv.Itoa(len(p.made))), "")
		if err != nil {
			return fmt.Errorf("%s picks: %w", p.user, err)
		}
		p.made = append(p.made, h)
		p.await(ctx)
		time.Sleep(5 * time.Millisecond) // people think
	}
	return nil
}

// await waits until the server has all that was picked, or ctx ends.
func (p *party) await(ctx context.Context) {
	const pause = 20 * time.Millisecond // between tries, while there is no connection
	since := time.Now()
	for p.Flush(ctx) != nil {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
	p.acked, p.worst = len(p.made), max(p.worst, time.Since(since))
}

// busy has people pick until the function that it returns is called.
func busy(t *testing.T, people []*party) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, p := range people {
		all.Go(func() {
			if err := p.pickOn(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// converge waits until everybody has all that anybody has made, and the server too.
func converge(t *testing.T, ctx context.Context, url string, people []*party) {
	t.Helper()
	for _, p := range people {
		p.Reconnect()
		p.await(ctx)
		if p.acked < len(p.made) {
			t.Fatalf("%s is not rid of %d picks: %+v", p.user, len(p.made)-p.acked, p.Status())
		}
	}
	observer, err := servertest.Visitor{URL: url, User: "observer", Role: transaction.Viewer}.Enter(ctx, "deal")
	check(t, err)
	defer observer.CloseNow()
	for _, p := range people {
		for _, h := range p.made {
			if err := observer.Doc.Has(ctx, h); err != nil {
				t.Fatalf("a pick of %s's that was acknowledged is lost: %v", p.user, err)
			}
		}
	}
	for _, p := range people {
		poll(t, ctx, p.user+" to have what the server has", func() bool { return slices.Equal(p.Heads(), observer.Doc.Heads()) })
	}
}

// mustBeHere waits until an observer is shown exactly these people, each of them
// online, over one connection. In no roster is anybody twice.
func mustBeHere(t *testing.T, ctx context.Context, url string, tx transaction.ID, people []*party) *presence.Roster {
	t.Helper()
	observer, err := servertest.Visitor{URL: url, User: "observer", Role: transaction.Viewer}.Enter(ctx, tx)
	check(t, err)
	defer observer.CloseNow()
	want := []string{"observer"}
	for _, p := range people {
		want = append(want, p.user)
	}
	slices.Sort(want)
	roster, err := observer.AwaitRoster(ctx, "everybody to be here, and nobody else", func(r *presence.Roster) bool {
		var here []string
		right := true
		for _, p := range r.Participants {
			here = append(here, p.User)
			right = right && p.State == presence.Online && p.Connections == 1
		}
		slices.Sort(here)
		if len(slices.Compact(slices.Clone(here))) != len(here) {
			t.Errorf("somebody is there twice: %v", here)
		}
		return right && slices.Equal(here, want)
	})
	check(t, err)
	return roster
}

// mustHaveReceipts compares what is on disk with what people know to be there, once
// the server has ended.
func mustHaveReceipts(t *testing.T, data string, people []*party) {
	t.Helper()
	var pickers []*picker
	made := 0
	for _, p := range people {
		pickers = append(pickers, &picker{user: p.user, acked: p.made[:p.acked]})
		made += p.acked
	}
	log := checkReceipts(t, data, pickers)
	t.Logf("%d picks were acknowledged; there are %d receipts, one for each change", made, log.Size())
}

// mustBeSoundOnDisk has parley check look at a folder.
func mustBeSoundOnDisk(t *testing.T, data string) {
	t.Helper()
	if out, code := parley(t, "", "check", "--data", data); code != exitOK {
		t.Errorf("parley check: exit %d: %s", code, out)
	}
}
