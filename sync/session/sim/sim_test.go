package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSimulation runs a few seeds that are always the same, and one that is new.
// PARLEY_SEED runs that one only, PARLEY_RUNS so many.
func TestSimulation(t *testing.T) {
	if seed, ok := number(t, "PARLEY_SEED"); ok {
		simulate(t, seed, true)
		return
	}
	runs, ok := number(t, "PARLEY_RUNS")
	if !ok {
		runs = 150
	}
	var all tally
	for seed := range runs {
		all.add(simulate(t, seed, false))
	}
	seed := rand.Uint64()
	t.Logf("a new seed: PARLEY_SEED=%d", seed)
	all.add(simulate(t, seed, false))
	t.Log(&all)
	all.check(t)
}

// TestSoak runs new seeds for PARLEY_SOAK seconds; make soak does it. It says a
// line a minute.
func TestSoak(t *testing.T) {
	seconds, ok := number(t, "PARLEY_SOAK")
	if !ok {
		seconds = 1
	}
	var all tally
	base, end, said := rand.Uint64()>>16<<16, time.Now().Add(time.Duration(seconds)*time.Second), time.Now()
	for n := uint64(0); time.Now().Before(end); n++ {
		all.add(simulate(t, base+n, false))
		if time.Since(said) > time.Minute {
			said = time.Now()
			fmt.Println(&all)
		}
	}
	t.Log(&all)
}

// TestReplay: what happens follows from the seed alone.
func TestReplay(t *testing.T) {
	for seed := range uint64(10) {
		first, second := runSeed(seed), runSeed(seed)
		if first.hash != second.hash || first.steps != second.steps {
			t.Fatalf("seed %d: %d steps with hash %x, then %d with %x", seed, first.steps, first.hash, second.steps, second.hash)
		}
		p, _ := newPlan(seed)
		if again := replay(p, first.actions, newTrace(false)); again.hash != first.hash {
			t.Fatalf("seed %d: its actions come to %x, not %x", seed, again.hash, first.hash)
		}
	}
}

// runSeed makes a seed's plan happen.
func runSeed(seed uint64) outcome {
	p, dice := newPlan(seed)
	return run(p, func(i int) (action, bool) { return p.draw(dice), i < p.actions }, newTrace(false))
}

// replay makes a plan happen with actions that are given.
func replay(p *plan, actions []action, tr *trace) outcome {
	return run(p, func(i int) (action, bool) {
		if i >= len(actions) {
			return action{}, false
		}
		return actions[i], true
	}, tr)
}

// shrinkFor is how long a failure is made smaller.
const shrinkFor = 30 * time.Second

// simulate runs one seed. If that fails, it tells what is left of it.
func simulate(t *testing.T, seed uint64, always bool) outcome {
	t.Helper()
	out := runSeed(seed)
	if out.broken == nil {
		if always {
			t.Logf("seed %d: %d actions, %d steps, %+v", seed, len(out.actions), out.steps, out.counts)
		}
		return out
	}
	p, _ := newPlan(seed)
	p, actions := shrink(p, out.actions, failsBy(out.broken.rule), time.Now().Add(shrinkFor))
	tr := newTrace(true)
	replay(p, actions, tr)
	var list strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&list, " %s", a)
	}
	t.Fatalf("%v\nPARLEY_SEED=%d: of %d actions %d are left:%s\n%s", out.broken, seed, len(out.actions), len(actions), &list, &tr.out)
	return out
}

// number reads a number from the environment.
func number(t *testing.T, name string) (uint64, bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// tally sums up runs.
type tally struct {
	runs, actions, steps int
	counts
}

func (a *tally) add(o outcome) {
	a.runs, a.actions, a.steps = a.runs+1, a.actions+len(o.actions), a.steps+o.steps
	a.stored += o.counts.stored
	a.refused += o.counts.refused
	a.resolved += o.counts.resolved
	a.lapsed += o.counts.lapsed
	a.frames += o.counts.frames
}

func (a *tally) String() string {
	return fmt.Sprintf("%d runs: %d actions, %d steps of machines, %d frames sent, %d changes stored, %d refused, %d agreements, %d lapses",
		a.runs, a.actions, a.steps, a.frames, a.stored, a.refused, a.resolved, a.lapsed)
}

// check fails if the runs have not met what they are for.
func (a *tally) check(t *testing.T) {
	t.Helper()
	for what, n := range map[string]int{"stored": a.stored, "refused": a.refused, "agreements": a.resolved, "lapses": a.lapsed} {
		if n < a.runs/4 {
			t.Errorf("%d %s in %d runs: too few to say anything", n, what, a.runs)
		}
	}
}
