package server_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
)

// race is a transaction in which somebody picks, again and again, while all
// confirm what is there: at about the moment of the last ready.
type race struct {
	r       *running
	id      transaction.ID
	locks   bool
	parties []*servertest.Party
	random  *rand.Rand

	said  map[string]map[string]bool // by heads: who has said to be ready for them
	told  map[int]presence.Resolution
	tally raceTally
}

// raceTally is how races ended.
type raceTally struct{ rounds, agreed, overtaken, contested int }

var raceFor = flag.Duration("seal-race", 4*time.Second, "how long changes and confirmations race")

var racers = []string{"alice", "bob", "carol"}

func headsKey(heads []crdt.Hash) string { return fmt.Sprint(heads) }

// TestAChangeJustBeforeTheLastReady lets changes and confirmations race. However
// it ends: nobody is counted for what they have not confirmed.
func TestAChangeJustBeforeTheLastReady(t *testing.T) {
	const transactions = 6
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+2**raceFor)
	defer cancel()
	r := &running{t: t, dir: t.TempDir(), quiet: true}
	r.up(server.Options{Identify: server.DevIdentity})
	t.Cleanup(r.down)
	races := make([]*race, transactions)
	for i := range races {
		races[i] = &race{
			r: r, id: transaction.ID(fmt.Sprintf("race-%d", i)), locks: i%2 == 1,
			random: rand.New(rand.NewPCG(seed, uint64(i))),
			said:   make(map[string]map[string]bool), told: make(map[int]presence.Resolution),
		}
		settings := `"parties": ["alice", "bob", "carol"]`
		if races[i].locks {
			settings += `, "policy": "lock"`
		}
		r.sale(races[i].id, settings)
		for _, user := range racers {
			races[i].parties = append(races[i].parties, r.enter(ctx, races[i].id, servertest.Visitor{User: user}))
		}
	}
	var wg sync.WaitGroup
	for _, race := range races {
		wg.Go(func() { race.run(ctx, time.Now().Add(*raceFor)) })
	}
	wg.Wait()
	var sum raceTally
	for _, race := range races {
		race.check()
		sum.rounds += race.tally.rounds
		sum.agreed += race.tally.agreed
		sum.overtaken += race.tally.overtaken
		sum.contested += race.tally.contested
	}
	t.Logf("%d rounds: %d agreed, %d overtaken by a change, %d by two at once", sum.rounds, sum.agreed, sum.overtaken, sum.contested)
	if sum.agreed < sum.rounds/10 || sum.overtaken+sum.contested < sum.rounds/10 {
		t.Error("the races are not close")
	}
}

func (r *race) run(ctx context.Context, until time.Time) {
	round := 0
	for ; time.Now().Before(until); round++ {
		r.settle(ctx, round)
		r.round(ctx, round)
	}
	r.settle(ctx, round)
	for _, p := range r.parties {
		r.listen(p)
	}
}

// settle makes everybody have the same, with one value picked, and nobody
// ready for it.
func (r *race) settle(ctx context.Context, round int) {
	first := r.parties[0]
	h := must(first.Pick(ctx, "price", fmt.Sprint(1000*round)))
	check(r.r.t, first.Doc.Acknowledged(ctx, h))
	for _, p := range r.parties {
		check(r.r.t, p.Doc.Has(ctx, h))
	}
}

// round lets all confirm, and one or two of them pick at about that time.
func (r *race) round(ctx context.Context, round int) {
	heads := r.parties[0].Doc.Heads()
	said := make(map[string]bool)
	for _, user := range racers {
		said[user] = true
	}
	r.said[headsKey(heads)] = said // before they say it
	pickers := r.random.Perm(len(racers))[:1+r.random.IntN(8)/7]
	pauses := make([]time.Duration, 2*len(racers))
	for i := range pauses {
		pauses[i] = time.Duration(r.random.IntN(300)) * time.Microsecond
	}
	var wg sync.WaitGroup
	picked := make([]crdt.Hash, len(racers))
	for i, p := range r.parties {
		wg.Go(func() {
			busy(pauses[2*i])
			check(r.r.t, p.Say(ctx, presence.Ready{Heads: heads}))
			if slices.Contains(pickers, i) {
				busy(pauses[2*i+1])
				picked[i] = must(p.Pick(ctx, "price", fmt.Sprint(1000*round+i+1)))
			}
		})
	}
	wg.Wait()
	r.tally.rounds++
	r.end(ctx, heads, pickers, picked)
}

// busy waits for less than a scheduler's notion of time.
func busy(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// end waits until the round has come to an end, and counts how.
func (r *race) end(ctx context.Context, heads []crdt.Hash, pickers []int, picked []crdt.Hash) {
	refused := 0
	for _, i := range pickers {
		if r.locks && r.refused(ctx, r.parties[i], picked[i]) {
			refused++
			continue
		}
		check(r.r.t, r.parties[i].Doc.Acknowledged(ctx, picked[i]))
		for _, p := range r.parties {
			check(r.r.t, p.Doc.Has(ctx, picked[i]))
		}
	}
	shown := r.r.transaction("GET", "/v1/transactions/"+string(r.id), "", 200)
	agreed := len(shown.Resolutions) > 0 && shown.Resolutions[len(shown.Resolutions)-1].Over(heads)
	switch {
	case agreed:
		r.tally.agreed++
	case len(pickers) > 1:
		r.tally.contested++
	default:
		r.tally.overtaken++
	}
	if !r.locks {
		return
	}
	if agreed != (refused == len(pickers)) || refused != 0 && refused != len(pickers) {
		r.r.t.Errorf("%s: agreed: %v, refused %d changes of %d", r.id, agreed, refused, len(pickers))
	}
	if agreed {
		if strings.Join(shown.Heads, ",") != strings.Join(texts(heads), ",") {
			r.r.t.Errorf("%s: locked over %v, and at %v", r.id, heads, shown.Heads)
		}
		r.unlock(ctx, pickers)
	}
}

func texts(heads []crdt.Hash) (list []string) {
	for _, h := range heads {
		list = append(list, h.String())
	}
	return list
}

// refused waits until a change was acknowledged, or refused for the lock.
func (r *race) refused(ctx context.Context, p *servertest.Party, h crdt.Hash) (refused bool) {
	err := p.Wait(ctx, "an answer to the change", func() bool {
		refused = p.RefusedLocked(h, presence.CodeSealed)
		return refused || p.Doc.AcknowledgedLocked(h)
	})
	check(r.r.t, err)
	return refused
}

// unlock opens a locked transaction with one more change. Whose changes were
// refused begin anew, without them.
func (r *race) unlock(ctx context.Context, pickers []int) {
	const settings = `{"id": %q, "policy": %q}`
	r.r.transaction("POST", hostPath, fmt.Sprintf(settings, r.id, "reopen"), 200)
	for _, i := range pickers {
		p := r.parties[i]
		r.listen(p)
		p.CloseNow()
		r.parties[i] = r.r.enter(ctx, r.id, servertest.Visitor{User: p.User})
	}
	h := must(r.parties[0].Pick(ctx, "price", "1"))
	check(r.r.t, r.parties[0].Doc.Acknowledged(ctx, h))
	for _, p := range r.parties {
		check(r.r.t, p.Doc.Has(ctx, h))
	}
	r.r.transaction("POST", hostPath, fmt.Sprintf(settings, r.id, "lock"), 200)
}

// listen takes note of the resolutions that a client was told of.
func (r *race) listen(p *servertest.Party) {
	note := func(told presence.Resolution) {
		if old, ok := r.told[told.N]; ok && !sameResolution(old, told) {
			r.r.t.Errorf("%s: told of two resolutions %d: %+v and %+v", r.id, told.N, old, told)
		}
		r.told[told.N] = told
	}
	for _, told := range must(p.Told()) {
		switch m := told.Message.(type) {
		case *presence.Resolved:
			note(m.Resolution)
		case *presence.Roster:
			if m.Resolution != nil {
				note(*m.Resolution)
			}
		}
	}
}

func sameResolution(a, b presence.Resolution) bool {
	return a.N == b.N && a.Over(b.Heads) && slices.Equal(a.Parties, b.Parties) && a.Quorum == b.Quorum && a.At == b.At
}

// check holds what is stored against what was said and told.
func (r *race) check() {
	t := r.r.t
	stored := r.r.resolutions(r.id)
	if len(stored) != r.tally.agreed {
		t.Errorf("%s: %d resolutions, and %d rounds in which there was one", r.id, len(stored), r.tally.agreed)
	}
	over := make(map[string]bool)
	for i, res := range stored {
		key := headsKey(res.Heads)
		if res.N != i+1 || over[key] || !slices.Equal(res.Parties, racers) || res.Quorum != len(racers) {
			t.Errorf("%s: resolution %d is %+v", r.id, i+1, res)
		}
		over[key] = true
		for _, user := range res.Parties {
			if !r.said[key][user] {
				t.Errorf("%s: %s never confirmed %v", r.id, user, res.Heads)
			}
		}
	}
	for n, told := range r.told {
		if n > len(stored) || !sameResolution(stored[n-1], told) {
			t.Errorf("%s: told of %+v, which is not stored", r.id, told)
		}
	}
	if len(r.told) != len(stored) {
		t.Errorf("%s: told of %d resolutions of %d", r.id, len(r.told), len(stored))
	}
}

// resolutions reads those of a transaction from the store.
func (r *running) resolutions(id transaction.ID) (list []presence.Resolution) {
	r.t.Helper()
	stored := must(r.store.Load(r.t.Context(), id.Document()))
	for _, data := range stored.Resolutions {
		var res presence.Resolution
		check(r.t, res.UnmarshalJSON(data.Data))
		if !sameHeads(res.Heads, data.Heads) {
			r.t.Errorf("a resolution over %v is stored as one over %v", res.Heads, data.Heads)
		}
		list = append(list, res)
	}
	return list
}
