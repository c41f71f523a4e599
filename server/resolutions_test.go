package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/server"
	"parley/server/servertest"
	"parley/server/store"
	"parley/sync/presence"
)

const salePath = "/v1/transactions/sale"

// stall keeps the disk from taking anything more until the function that it
// returns is called.
func (r *running) stall() (release func()) {
	gate, stalled := make(chan struct{}), make(chan struct{})
	r.store.Append(store.Batch{Done: func(error) {
		close(stalled)
		<-gate // holds up the committer
	}})
	<-stalled
	return func() { close(gate) }
}

// answered is an answer that may take its time.
type answered struct {
	status int
	body   string
}

func (r *running) callLater(method, path, body string) <-chan answered {
	later := make(chan answered, 1)
	go func() {
		status, _, text := r.call(method, path, body)
		later <- answered{status, string(text)}
	}()
	return later
}

func (a answered) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &p)
	return p.Code
}

// agree lets all confirm, and waits until each was told of the resolution.
func (r *running) agree(ctx context.Context, parties map[string]*servertest.Party) presence.Resolution {
	r.t.Helper()
	for _, p := range parties {
		must(p.Ready(ctx))
	}
	var agreed *presence.Resolved
	for _, p := range parties {
		agreed = must(servertest.AwaitTold[*presence.Resolved](ctx, p))
	}
	return agreed.Resolution
}

func TestResolutionsAreShown(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice", "bob")
	before := r.transaction("GET", salePath, "", 200)
	if before.Resolution != nil || before.Resolutions == nil || len(before.Resolutions) != 0 {
		t.Errorf("before: %+v", before)
	}
	first := r.agree(ctx, here)
	agreed := r.transaction("GET", salePath, "", 200)
	if agreed.Resolution == nil || !sameResolution(*agreed.Resolution, first) || len(agreed.Resolutions) != 1 || first.N != 1 {
		t.Errorf("told of %+v, shown %+v", first, agreed)
	}
	h := must(here["bob"].Pick(ctx, "price", "120"))
	check(t, here["alice"].Doc.Has(ctx, h))
	reopened := r.transaction("GET", salePath, "", 200)
	if reopened.Resolution != nil || len(reopened.Resolutions) != 1 {
		t.Errorf("reopened: %+v", reopened)
	}
	second := r.agree(ctx, here)

	r.down()
	r.up(server.Options{Identify: server.DevIdentity})
	for at, want := range map[string]*presence.Resolution{
		"":              &second,
		agreed.Heads[0]: &first,
		h.String():      &second,
		strings.Join(texts(must(here["bob"].Doc.Dependencies(first.Heads[0]))), ","): nil,
	} {
		shown := r.transaction("GET", salePath+"?at="+at, "", 200)
		if (want == nil) != (shown.Resolution == nil) || want != nil && !sameResolution(*want, *shown.Resolution) {
			t.Errorf("at %q: %+v, want %+v", at, shown.Resolution, want)
		}
		if len(shown.Resolutions) != 2 || !sameResolution(shown.Resolutions[0], first) || !sameResolution(shown.Resolutions[1], second) {
			t.Errorf("at %q: all of them are %+v", at, shown.Resolutions)
		}
	}
	// Who comes later is told of the agreement that there is, and is not ready.
	alice := r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
	if roster := alice.Roster(); !roster.Resolution.Over(second.Heads) || servertest.In(roster, "alice").Ready || len(roster.Participants) != 1 {
		t.Errorf("after a restart: %+v", roster)
	}
	must(alice.Ready(ctx))
	bob := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
	r.readyFor(ctx, bob)
	if n := len(r.transaction("GET", salePath, "", 200).Resolutions); n != 2 {
		t.Errorf("the same agreed on again: %d resolutions", n)
	}
}

func TestSettingsCanCompleteAResolution(t *testing.T) {
	for _, c := range []struct {
		name, before, after string
		parties             []string
	}{
		{"a lower quorum", `"parties": ["alice", "bob", "carol"]`, `"quorum": 2`, []string{"alice", "bob"}},
		{"other parties", `"parties": ["alice", "bob", "carol"]`, `"parties": ["alice", "bob"]`, []string{"alice", "bob"}},
		{"a quorum of those present", `"quorum": 3`, `"quorum": 2`, []string{"alice", "bob"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := deadline(t)
			r := start(t, server.Options{Identify: server.DevIdentity})
			here := r.agreedSale(ctx, c.before, "alice", "bob")
			r.readyFor(ctx, here["alice"])
			r.readyFor(ctx, here["bob"])
			if s := r.transaction("GET", salePath, "", 200); len(s.Resolutions) > 0 {
				t.Fatalf("agreed too early: %+v", s.Resolutions)
			}
			r.transaction("POST", hostPath, `{"id": "sale", `+c.after+`}`, 200)
			for _, p := range here {
				agreed := must(servertest.AwaitTold[*presence.Resolved](ctx, p)).Resolution
				if agreed.Quorum != 2 || !slices.Equal(agreed.Parties, c.parties) || !agreed.Over(p.Doc.Heads()) {
					t.Errorf("resolved: %+v", agreed)
				}
			}
			if s := r.transaction("GET", salePath, "", 200); s.Resolution == nil {
				t.Errorf("not shown: %+v", s)
			}
		})
	}
}

const otherFields = `{"id": "sale", "fields": {"price": {"label": "The price", "required": true, "options": {}}}}`

func TestALockedTransactionTakesNoFields(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	here := r.agreedSale(ctx, `"parties": ["alice", "bob"], "policy": "lock"`, "alice", "bob")
	r.agree(ctx, here)
	agreed := r.transaction("GET", salePath, "", 200)
	status, contentType, text := r.call("POST", hostPath, otherFields)
	if a := (answered{status, string(text)}); status != 422 || a.code() != "sealed" || contentType != "application/problem+json" {
		t.Errorf("fields: %d %s", status, text)
	}
	// What changes nothing is no change.
	same := r.transaction("POST", hostPath, `{"id": "sale", `+saleFields+`}`, 200)
	if !slices.Equal(same.Heads, agreed.Heads) || same.Resolution == nil {
		t.Errorf("the same fields: %+v", same)
	}
	// A request may not open it and change it at once, nor change half.
	status, _, text = r.call("POST", hostPath, strings.Replace(otherFields, `"fields"`, `"policy": "reopen", "fields"`, 1))
	if status != 422 || !strings.Contains(string(text), "without changing any field") {
		t.Errorf("fields and the policy: %d %s", status, text)
	}
	if now := r.transaction("GET", salePath, "", 200); now.Policy != "lock" || !slices.Equal(now.Heads, agreed.Heads) {
		t.Errorf("a refused request has left %+v", now)
	}
	h := must(here["bob"].Pick(ctx, "price", "120"))
	check(t, here["bob"].Wait(ctx, "the refusal", func() bool { return here["bob"].RefusedLocked(h, presence.CodeSealed) }))

	r.transaction("POST", hostPath, `{"id": "sale", "policy": "reopen"}`, 200)
	open := r.transaction("POST", hostPath, otherFields, 200)
	if open.Resolution != nil || open.Fields["price"].Label != "The price" || len(open.Resolutions) != 1 {
		t.Errorf("opened again: %+v", open)
	}
}

// While a resolution is on its way to the disk, nothing that anybody is told
// speaks of it: no message, and no refusal that is because of it.
func TestNothingTellsOfAResolutionThatIsNotOnDisk(t *testing.T) {
	inBubble(t, server.Options{}, func(t *testing.T, ctx context.Context, r *running) {
		here := r.agreedSale(ctx, `"parties": ["alice", "bob"], "policy": "lock"`, "alice", "bob")
		alice, bob := here["alice"], here["bob"]
		r.readyFor(ctx, alice)
		time.Sleep(time.Second)

		release := r.stall()
		must(bob.Ready(ctx)) // the last one
		synctest.Wait()
		late := must(alice.Pick(ctx, "price", "120"))
		refused := r.callLater("POST", hostPath, otherFields)
		settings := r.callLater("POST", hostPath, `{"id": "sale", "quorum": 2}`)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		select {
		case a := <-refused:
			t.Errorf("fields were answered with %+v", a)
		case a := <-settings:
			t.Errorf("settings were answered with %+v", a)
		default:
		}
		carol := r.enter(ctx, "sale", servertest.Visitor{User: "carol", Role: "viewer"})
		for _, p := range []*servertest.Party{alice, bob, carol} {
			for _, told := range must(p.Told()) {
				switch m := told.Message.(type) {
				case *presence.Roster:
					if m.Resolution != nil {
						t.Errorf("%s has a roster with %+v", p.User, m.Resolution)
					}
				default:
					t.Errorf("%s was told %T %+v", p.User, m, m)
				}
			}
		}
		if s := r.transaction("GET", salePath, "", 200); s.Resolution != nil || len(s.Resolutions) > 0 {
			t.Errorf("shown: %+v", s)
		}

		release()
		for _, p := range []*servertest.Party{alice, bob, carol} {
			must(servertest.AwaitTold[*presence.Resolved](ctx, p))
		}
		check(t, alice.Wait(ctx, "the refusal", func() bool { return alice.RefusedLocked(late, presence.CodeSealed) }))
		if a := <-refused; a.status != 422 || a.code() != "sealed" {
			t.Errorf("fields: %+v", a)
		}
		if a := <-settings; a.status != 200 {
			t.Errorf("settings: %+v", a)
		}
		if s := r.transaction("GET", salePath, "", 200); s.Resolution == nil || s.Quorum != 2 {
			t.Errorf("shown: %+v", s)
		}
	})
}

// A disk that takes nothing for longer than a request waits: it is answered that
// it may not have been stored, and not why it would be refused.
func TestARefusalThatWaitsForTheDiskInVain(t *testing.T) {
	inBubble(t, server.Options{}, func(t *testing.T, ctx context.Context, r *running) {
		here := r.agreedSale(ctx, `"parties": ["alice", "bob"], "policy": "lock"`, "alice", "bob")
		r.readyFor(ctx, here["alice"])
		release := r.stall()
		must(here["bob"].Ready(ctx))
		synctest.Wait()
		status, _, text := r.call("POST", hostPath, otherFields)
		if a := (answered{status, string(text)}); status != http.StatusServiceUnavailable || a.code() != "not-stored" {
			t.Errorf("fields: %+v", a)
		}
		release()
		for _, p := range here {
			must(servertest.AwaitTold[*presence.Resolved](ctx, p))
		}
	})
}

// With the policy reopen a change can overtake the disk: the agreement stands as
// it was, and is the first thing that is told.
func TestAChangeDoesNotUndoAResolutionOnItsWay(t *testing.T) {
	inBubble(t, server.Options{}, func(t *testing.T, ctx context.Context, r *running) {
		here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice", "bob")
		alice, bob := here["alice"], here["bob"]
		heads := alice.Doc.Heads()
		r.readyFor(ctx, alice)
		time.Sleep(time.Second)
		release := r.stall()
		must(bob.Ready(ctx))
		h := must(bob.Pick(ctx, "price", "120"))
		time.Sleep(time.Second)
		release()
		synctest.Wait()
		check(t, bob.Doc.Acknowledged(ctx, h))
		for _, p := range here {
			agreed := must(servertest.AwaitTold[*presence.Resolved](ctx, p)).Resolution
			if !agreed.Over(heads) || fmt.Sprint(agreed.Parties) != "[alice bob]" {
				t.Errorf("%s was told of %+v", p.User, agreed)
			}
			lapsed := must(servertest.AwaitTold[*presence.Lapsed](ctx, p))
			if lapsed.Because.User != "bob" || lapsed.Because.Change != h || lapsed.Because.Field != "price" {
				t.Errorf("%s was told that %+v", p.User, lapsed)
			}
		}
	})
}
