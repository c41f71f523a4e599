package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"parley/server/servertest"
)

// TestFaultPause stops the server for a while under people who pick, as a host does
// that moves it or has no memory left, and lets it go on. Nobody whose connection
// outlasts it is dropped for the silence, which was the server's; all come back;
// nothing that was acknowledged is lost; who was ready, and who is here, is so still.
func TestFaultPause(t *testing.T) {
	const ping = time.Second
	pause := longer(3*ping, 30*time.Second) // clients give up a silent server after 15 s
	ctx := within(t, pause+time.Minute)
	data := t.TempDir()
	p := serve(t, data, "--ping", ping.String())
	openDeal(t, p.url)
	_, err := p.request("POST", "/v1/transactions?user=hana&role=host",
		`{"id": "calm", "parties": ["alice", "bob"], "fields": {"price": {"label": "Price", "options": {}}}}`)
	check(t, err)
	calm := goIn(t, p.url, "calm", "alice", "bob")
	calm[0].await(ctx)
	check(t, calm[0].Ready(ctx, calm[0].Heads()))
	people := goIn(t, p.url, "deal", "alice", "bob", "carol")
	stop := busy(t, people)
	poll(t, ctx, "people to pick", func() bool { return people[0].Synced().Saved && len(people[0].View().Selections) > 2 })
	mustBeHere(t, ctx, p.url, "deal", people)
	since := make(map[*party]time.Time)
	for _, who := range append(people, calm...) {
		since[who] = who.Status().Since
	}

	check(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	time.Sleep(pause) // the fault itself
	check(t, p.cmd.Process.Signal(syscall.SIGCONT))

	mustBeHere(t, ctx, p.url, "deal", people)
	if roster := mustBeHere(t, ctx, p.url, "calm", calm); !servertest.In(roster, "alice").Ready || servertest.In(roster, "bob").Ready {
		t.Errorf("who was ready before: %+v", roster)
	}
	time.Sleep(2 * ping) // in which the server would drop whom it takes for silent
	if soak() == 0 {     // nobody had reason to give up
		for who, at := range since {
			if now := who.Status(); now.Since != at {
				t.Errorf("%s was cut off: %+v", who.user, now)
			}
		}
	}
	stop()
	converge(t, ctx, p.url, people)
	mustBeHere(t, ctx, p.url, "deal", people)
	check(t, p.end(os.Interrupt))
	mustHaveReceipts(t, data, people)
	mustBeSoundOnDisk(t, data)
	for _, who := range people {
		t.Logf("%s made %d picks; the longest wait for an acknowledgement was %v", who.user, len(who.made), who.worst.Round(time.Millisecond))
	}
}
