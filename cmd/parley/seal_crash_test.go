package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/server/servertest"
	"parley/sync/presence"
)

// deal is a transaction that alice and bob agree on again and again, with a
// server that is killed meanwhile.
type deal struct {
	t    *testing.T
	ctx  context.Context
	data string

	told []presence.Resolution // of which some client was told
	kept int                   // how many there were at the last start
}

const dealBody = `{"id": "deal", "parties": ["alice", "bob"], "fields":
	{"price": {"label": "Price", "required": true, "options": {}}}}`

func (p *process) request(method, path, body string) ([]byte, error) {
	req, err := http.NewRequest(method, "http"+strings.TrimPrefix(p.url, "ws")+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return text, err
}

// resolutions returns those of the deal, as a server shows them.
func (d *deal) resolutions(p *process) []presence.Resolution {
	d.t.Helper()
	text, err := p.request("GET", "/v1/transactions/deal", "")
	check(d.t, err)
	var shown struct{ Resolutions []presence.Resolution }
	check(d.t, json.Unmarshal(text, &shown))
	return shown.Resolutions
}

func (d *deal) enter(p *process, user string) *servertest.Party {
	d.t.Helper()
	party, err := servertest.Visitor{URL: p.url, User: user}.Enter(d.ctx, "deal")
	check(d.t, err)
	_, err = party.AwaitRoster(d.ctx, "a roster", func(r *presence.Roster) bool {
		return servertest.In(r, user) != nil && slices.Equal(r.Heads, party.Doc.Heads())
	})
	check(d.t, err)
	return party
}

// together makes both have a new price.
func (d *deal) together(alice, bob *servertest.Party, price int) {
	d.t.Helper()
	h, err := alice.Pick(d.ctx, "price", fmt.Sprint(price))
	check(d.t, err)
	check(d.t, alice.Doc.Acknowledged(d.ctx, h))
	check(d.t, bob.Doc.Has(d.ctx, h))
}

// TestKillAtTheAgreement kills the server at about the moment of an agreement.
// It is there afterwards as a whole, or it never was and nobody was told of it.
func TestKillAtTheAgreement(t *testing.T) {
	const rounds = 20
	d := &deal{t: t, ctx: within(t, 2*time.Minute), data: t.TempDir()}
	p := serve(t, d.data)
	_, err := p.request("POST", "/v1/transactions?user=hana&role=host", dealBody)
	check(t, err)
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	made, told := 0, 0
	soon := 2 * time.Millisecond // about when half of them are made
	for round := range rounds {
		before := len(d.told)
		after := d.round(p, round, time.Duration(random.Int64N(int64(2*soon))))
		p = serve(t, d.data)
		if d.compare(p, round, after) {
			made++
			soon = max(soon*2/3, 100*time.Microsecond)
		} else {
			soon = soon * 3 / 2
		}
		if len(d.told) > before {
			told++
		}
	}
	t.Logf("%d kills: %d resolutions made, %d of them told", rounds, made, told)
	if made == 0 || made == rounds {
		t.Error("no kill was close to the agreement")
	}
	http.DefaultClient.CloseIdleConnections()
}

// round has both agree, kills the server soon after the last ready, and returns
// what they agreed on.
func (d *deal) round(p *process, round int, soon time.Duration) presence.Resolution {
	d.t.Helper()
	alice, bob := d.enter(p, "alice"), d.enter(p, "bob")
	defer alice.CloseNow()
	defer bob.CloseNow()
	if roster := bob.Roster(); len(roster.Participants) > 2 || servertest.In(roster, "bob").Ready {
		d.t.Errorf("ghosts after a restart: %+v", roster)
	}
	d.together(alice, bob, round)
	_, err := alice.Ready(d.ctx)
	check(d.t, err)
	_, err = bob.AwaitRoster(d.ctx, "alice to be ready", func(r *presence.Roster) bool {
		return servertest.In(r, "alice") != nil && servertest.In(r, "alice").Ready
	})
	check(d.t, err)
	heads, err := bob.Ready(d.ctx)
	check(d.t, err)
	time.Sleep(soon) // the moment of the kill is at random
	_ = p.kill()
	for _, party := range []*servertest.Party{alice, bob} {
		_, err := party.Ended(d.ctx)
		check(d.t, err)
		d.note(party)
	}
	return presence.Resolution{N: d.kept + 1, Heads: heads, Parties: []string{"alice", "bob"}, Quorum: 2}
}

// note takes down the resolutions that a client was told of.
func (d *deal) note(party *servertest.Party) {
	told, err := party.Told()
	check(d.t, err)
	for _, m := range told {
		var r *presence.Resolution
		switch m := m.Message.(type) {
		case *presence.Resolved:
			r = &m.Resolution
		case *presence.Roster:
			r = m.Resolution
		}
		if r != nil && !slices.ContainsFunc(d.told, func(known presence.Resolution) bool { return known.N == r.N && known.At == r.At }) {
			d.told = append(d.told, *r)
		}
	}
}

// compare holds what a restarted server has against what was told, and reports
// whether the last agreement was made.
func (d *deal) compare(p *process, round int, last presence.Resolution) (made bool) {
	d.t.Helper()
	stored := d.resolutions(p)
	for i, r := range stored {
		if r.N != i+1 || len(r.Parties) != 2 || r.Quorum != 2 || len(r.Heads) == 0 || r.At == 0 {
			d.t.Errorf("round %d: resolution %d is %+v", round, i+1, r)
		}
	}
	for _, r := range d.told {
		if r.N > len(stored) || !bytes.Equal(encoded(stored[r.N-1]), encoded(r)) {
			d.t.Errorf("round %d: told of %+v, which is not there", round, r)
		}
	}
	made = len(stored) == last.N
	switch {
	case made:
		if now := stored[last.N-1]; !now.Over(last.Heads) || !slices.Equal(now.Parties, last.Parties) {
			d.t.Errorf("round %d: stored %+v, agreed on %+v", round, now, last)
		}
	case len(stored) != d.kept:
		d.t.Errorf("round %d: %d resolutions, there were %d", round, len(stored), d.kept)
	}
	d.kept = len(stored)
	return made
}

func encoded(r presence.Resolution) []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return text
}

// TestAgreementOnAFullDisk takes the disk away before the last ready: nobody
// hears of an agreement before it has it.
func TestAgreementOnAFullDisk(t *testing.T) {
	d := &deal{t: t, ctx: within(t, time.Minute), data: t.TempDir()}
	p := serve(t, d.data)
	_, err := p.request("POST", "/v1/transactions?user=hana&role=host", dealBody)
	check(t, err)
	alice, bob := d.enter(p, "alice"), d.enter(p, "bob")
	defer alice.CloseNow()
	defer bob.CloseNow()
	d.together(alice, bob, 110)
	_, err = alice.Ready(d.ctx)
	check(t, err)

	check(t, p.limitFiles(0))
	_, err = bob.Ready(d.ctx)
	check(t, err)
	poll(t, d.ctx, "readyz to say what is wrong", func() bool {
		code, _ := p.ready(t)
		return code == http.StatusServiceUnavailable
	})
	carol := d.enter(p, "carol") // all goes on but that
	defer carol.CloseNow()
	_, err = bob.AwaitRoster(d.ctx, "carol, and both ready, on a full disk", func(r *presence.Roster) bool {
		return r.Stalled && servertest.In(r, "carol") != nil && servertest.In(r, "alice").Ready && servertest.In(r, "bob").Ready
	})
	check(t, err)
	d.note(alice)
	d.note(bob)
	d.note(carol)
	if shown := d.resolutions(p); len(d.told) > 0 || len(shown) > 0 {
		t.Errorf("told of %+v, shown %+v", d.told, shown)
	}

	check(t, p.limitFiles(^uint64(0)))
	for _, party := range []*servertest.Party{alice, bob, carol} {
		agreed, err := servertest.AwaitTold[*presence.Resolved](d.ctx, party)
		check(t, err)
		if shown := d.resolutions(p); len(shown) != 1 || !bytes.Equal(encoded(shown[0]), encoded(agreed.Resolution)) {
			t.Errorf("told of %+v, shown %+v", agreed.Resolution, shown)
		}
	}
	_, err = bob.AwaitRoster(d.ctx, "that the disk takes again", func(r *presence.Roster) bool { return !r.Stalled })
	check(t, err)
	http.DefaultClient.CloseIdleConnections()
}
