package load

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"parley/crdt/transaction"
)

// Pace is what a crowd does.
type Pace struct {
	Picks float64 // of each person in a minute
	Flap  float64 // how often each person's link is cut in a minute
	Cold  float64 // fresh clients in a minute, in all
}

// PerSecond is how many picks are due in a second.
func (c *Crowd) PerSecond(p Pace) float64 { return p.Picks * float64(len(c.people)) / 60 }

// tooLate is how late a pick may be made. One that would be later is counted as
// not made: this process cannot keep up.
const tooLate = 10 * time.Second

// Measure lets the crowd pick for a while without looking, and then measures for
// a duration. It tells how it goes every second. It ends early when ctx does, or
// the crowd has failed.
func (c *Crowd) Measure(ctx context.Context, pace Pace, warmup, duration time.Duration, tell func(Point)) (*Window, Usage) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.ctx, stop)()
	begin := time.Now()
	w := newWindow(begin.Add(warmup))
	end := w.begin.Add(duration)
	during := func(due time.Time) *Window {
		if due.Before(w.begin) {
			return nil
		}
		return w
	}
	var all sync.WaitGroup
	schedulers := min(runtime.GOMAXPROCS(0), len(c.people))
	for s := range schedulers {
		all.Go(func() { c.picks(ctx, begin, end, pace, s, schedulers, during) })
	}
	flaps := pace.Flap * float64(len(c.people)) / 60
	all.Go(func() { randomly(ctx, begin, end, flaps, func(time.Time) { c.flap() }) })
	all.Go(func() { randomly(ctx, begin, end, pace.Cold/60, func(due time.Time) { c.coldJoin(due, during(due)) }) })
	usage := c.watch(ctx, w, end, tell)
	all.Wait()
	return w, usage
}

// picks makes every so manieth person pick: each at even intervals, and all of
// them spread over the interval, in an order of chance. So the load is the same
// all the time.
func (c *Crowd) picks(ctx context.Context, begin, end time.Time, pace Pace, first, every int, during func(time.Time) *Window) {
	if pace.Picks <= 0 {
		return
	}
	interval := time.Duration(float64(time.Minute) / pace.Picks)
	var people []*person
	for i := first; i < len(c.people); i += every {
		people = append(people, c.people[i])
	}
	rand.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
	offsets := make([]time.Duration, len(people))
	for i := range offsets {
		offsets[i] = time.Duration((float64(i) + rand.Float64()) / float64(len(people)) * float64(interval))
	}
	for round := begin; ; round = round.Add(interval) {
		for i, p := range people {
			due := round.Add(offsets[i])
			if due.After(end) || sleep(ctx, time.Until(due)) != nil {
				return
			}
			if time.Since(due) > tooLate {
				during(due).skip()
				continue
			}
			p.pick(due, during(due))
		}
	}
}

// randomly does something so often in a second, at times that have nothing to do
// with each other.
func randomly(ctx context.Context, begin, end time.Time, perSecond float64, do func(due time.Time)) {
	if perSecond <= 0 {
		return
	}
	for due := begin; ; {
		due = due.Add(time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second)))
		if due.After(end) || sleep(ctx, time.Until(due)) != nil {
			return
		}
		do(due)
	}
}

func (c *Crowd) flap() {
	if c.people[rand.N(len(c.people))].cutLink() {
		c.counts.cuts.Add(1)
	}
}

// coldJoin lets a fresh client read one transaction, beside whatever else goes on.
func (c *Crowd) coldJoin(due time.Time, w *Window) {
	l := c.ledgers[rand.N(len(c.ledgers))]
	c.counts.reading.Add(1)
	w.joining()
	c.running.Go(func() {
		defer c.counts.reading.Add(-1)
		if _, err := c.read(c.ctx, l); err != nil {
			c.lost(err)
			return
		}
		w.joined(time.Since(due))
	})
}

// reader is who reads transactions.
func (c *Crowd) reader() Who { return Who{Name: c.run + "-reader", Role: transaction.Viewer} }

// watch ends a second after the other until the window is over, and returns what
// the server used in it.
func (c *Crowd) watch(ctx context.Context, w *Window, end time.Time, tell func(Point)) Usage {
	if sleep(ctx, time.Until(w.begin)) != nil {
		return Usage{}
	}
	before := usageOf(c.target.PID)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	over := time.NewTimer(time.Until(end))
	defer over.Stop()
	for last := w.begin; ; {
		ended := false
		select {
		case <-ticker.C:
		case <-over.C:
			ended = true
		case <-ctx.Done():
			ended = true
		}
		now := time.Now()
		if took := now.Sub(last); took > time.Second/2 || len(w.Timeline) == 0 {
			tell(w.point(now, max(took, time.Millisecond)))
			last = now
		}
		if ended {
			return usageOf(c.target.PID).since(before, now.Sub(w.begin))
		}
	}
}
