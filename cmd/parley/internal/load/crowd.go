package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Plan says what crowd there is.
type Plan struct {
	Transactions int
	People       int // in each transaction
	Fields       int // of each transaction
}

// Crowd are people on a server. Its methods belong to one goroutine.
type Crowd struct {
	// static
	target  *Target
	plan    Plan
	run     string // is in the names of all that it makes
	ledgers []*ledger
	people  []*person

	ctx     context.Context // of the people
	end     context.CancelCauseFunc
	running sync.WaitGroup
	dialing chan struct{} // a place for each that may dial at once
	counts  counts

	// BytesPerPerson is the memory that each takes in this process, connection
	// and all, before there are picks. Of few people it says little.
	BytesPerPerson int64

	mu       sync.Mutex
	refusals map[crdt.Code]*Refusal
	troubles map[string]int64
	last     error // why a connection was lost or not made
}

// counts are of the whole time that there is a crowd.
type counts struct {
	here         atomic.Int64 // people who have been in step
	picks        atomic.Int64 // made
	waiting      atomic.Int64 // made, and neither acknowledged nor refused
	acknowledged atomic.Int64
	refused      atomic.Int64
	reading      atomic.Int64 // cold joins under way
	cuts         atomic.Int64
	reconnects   atomic.Int64
	failures     atomic.Int64 // of connecting, and connections lost that we did not cut
}

// Refusal is how often the server refused with a code: picks, connections or
// requests.
type Refusal struct {
	Code    crdt.Code `json:"code"`
	Message string    `json:"message"`
	Count   int64     `json:"count"`
	Flag    string    `json:"flag,omitempty"` // of parley serve, that allows more
}

// Trouble is what else went wrong.
type Trouble struct {
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// Stands is how a crowd stands.
type Stands struct {
	People, Here                 int
	Waiting, Cuts, Reconnects    int64
	Picks, Acknowledged, Refused int64
	LostConnections              int64
}

// How much is done at once, and how long nothing may happen.
const (
	dialAtOnce   = 32
	createAtOnce = 8
	readAtOnce   = 8
	patience     = 20 * time.Second
)

// Open makes the transactions and brings everybody in. It tells how many are
// there. Whatever the server says no to for good, or what it goes on saying no
// to, is the error.
func Open(ctx context.Context, target *Target, plan Plan, tell func(Stands)) (*Crowd, error) {
	c := &Crowd{
		target: target, plan: plan, run: uuid.NewString()[:8],
		dialing: make(chan struct{}, dialAtOnce), refusals: make(map[crdt.Code]*Refusal), troubles: make(map[string]int64),
	}
	c.ctx, c.end = context.WithCancelCause(context.WithoutCancel(ctx))
	for t := range plan.Transactions {
		c.ledgers = append(c.ledgers, newLedger(transaction.ID(fmt.Sprintf("bench-%s-%d", c.run, t+1))))
	}
	if err := c.each(ctx, createAtOnce, c.create); err != nil {
		c.Close()
		return nil, err
	}
	if err := c.admit(ctx, tell); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// each does something with every transaction, some at once.
func (c *Crowd) each(ctx context.Context, atOnce int, do func(context.Context, *ledger) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, l := range c.ledgers {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			if err := do(ctx, l); err != nil {
				stop(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// insist does something until it works, is refused for good, or has failed for
// long: a server that is busy, or that we ask too much of, gets the time.
func (c *Crowd) insist(ctx context.Context, do func(context.Context) error) error {
	var wait backoff
	for begin := time.Now(); ; {
		err := do(ctx)
		if err == nil {
			return nil
		}
		c.lost(err)
		if r := asRefused(err); r != nil && r.Final || time.Since(begin) > patience {
			return err
		}
		if wait.pause(ctx) != nil {
			return context.Cause(ctx)
		}
	}
}

// create makes a transaction. Where there is no server, it does not insist.
func (c *Crowd) create(ctx context.Context, l *ledger) error {
	host := Who{Name: c.run + "-host", Role: transaction.Host}
	var unreachable error
	err := c.insist(ctx, func(ctx context.Context) error {
		err := c.target.create(ctx, host, l.id, c.plan.Fields)
		if err != nil && asRefused(err) == nil {
			unreachable = err
			return nil
		}
		return err
	})
	return cmp.Or(err, unreachable)
}

// admit starts the people and waits until all are in step.
func (c *Crowd) admit(ctx context.Context, tell func(Stands)) error {
	before := memory()
	for t, l := range c.ledgers {
		for n := range c.plan.People {
			who := Who{Name: fmt.Sprintf("%s-%d-%d", c.run, t+1, n+1), Role: transaction.Party, Transaction: l.id}
			pass, err := c.target.Admit(who)
			if err != nil {
				return err
			}
			p := newPerson(c, who, l)
			p.reset(pass.User)
			c.people = append(c.people, p)
		}
	}
	for _, p := range c.people {
		c.running.Go(func() { p.live(c.ctx) })
		c.running.Go(func() { p.write(c.ctx) })
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	came, at := int64(0), time.Now()
	for came < int64(len(c.people)) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-ticker.C:
		}
		if n := c.counts.here.Load(); n > came {
			came, at = n, time.Now()
		}
		if time.Since(at) > c.patience() {
			return fmt.Errorf("only %d of %d people came in: %w", came, len(c.people), cmp.Or(c.lastError(), errors.New("the server does not answer")))
		}
		tell(c.Stands())
	}
	c.BytesPerPerson = max(0, memory()-before) / int64(len(c.people))
	return nil
}

// patience is how long nobody may come in: not long, if what the server says no
// to is more connections at once.
func (c *Crowd) patience() time.Duration {
	if r := asRefused(c.lastError()); r != nil && (r.Code == "too-many-connections" || r.Code == "too-many-from-address") {
		return patience / 8
	}
	return patience
}

// memory is what this process has in use, in bytes.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func (c *Crowd) dial(ctx context.Context, who Who, document crdt.DocumentID) (*link, error) {
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.target.dial(ctx, who, document)
}

// Stands returns how the crowd stands now.
func (c *Crowd) Stands() Stands {
	n := &c.counts
	return Stands{
		People: len(c.people), Here: int(n.here.Load()), Waiting: n.waiting.Load(), Cuts: n.cuts.Load(),
		Reconnects: n.reconnects.Load(), Picks: n.picks.Load(), Acknowledged: n.acknowledged.Load(), Refused: n.refused.Load(), LostConnections: n.failures.Load(),
	}
}

// Failed returns why nothing more can be measured, nil if it can.
func (c *Crowd) Failed() error { return context.Cause(c.ctx) }

func (c *Crowd) arrived() { c.counts.here.Add(1) }

// fail ends the crowd: there is nothing to measure any more.
func (c *Crowd) fail(err error) { c.end(err) }

// refuse counts what the server refuses.
func (c *Crowd) refuse(code crdt.Code, message string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refusals[code]
	if r == nil {
		r = &Refusal{Code: code, Message: message, Flag: Flag(code)}
		c.refusals[code] = r
	}
	r.Count += int64(n)
}

const maxTroubles = 20 // kinds of them that are told apart

// lost takes note of why there is no connection, or not any more.
func (c *Crowd) lost(err error) {
	if err == nil || errors.Is(err, errRefused) || errors.Is(err, errCut) || c.ctx.Err() != nil {
		return
	}
	r := asRefused(err)
	if r != nil {
		c.refuse(r.Code, r.Message, 1)
		if r.Final {
			c.fail(err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
	if r != nil {
		return
	}
	c.counts.failures.Add(1)
	text := reason(err)
	if _, known := c.troubles[text]; !known && len(c.troubles) == maxTroubles {
		text = "others"
	}
	c.troubles[text]++
}

func (c *Crowd) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Refusals returns what the server refused, the most frequent first.
func (c *Crowd) Refusals() []Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Refusal, 0, len(c.refusals))
	for _, r := range c.refusals {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b Refusal) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code)) })
	return all
}

// Troubles returns why connections were lost or not made, the most frequent
// first, without those that were cut on purpose.
func (c *Crowd) Troubles() []Trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Trouble, 0, len(c.troubles))
	for text, n := range c.troubles {
		all = append(all, Trouble{text, n})
	}
	slices.SortFunc(all, func(a, b Trouble) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text)) })
	return all
}

// Settle waits until every pick is acknowledged and has reached everybody, for as
// long as that goes on and at most for a while. It returns how many picks
// are not acknowledged.
func (c *Crowd) Settle(ctx context.Context, w *Window, within time.Duration) int64 {
	const still = 3 * time.Second // that nothing happened, and is not going to
	begin := time.Now()
	moved, was := begin, [2]int64{}
	for {
		counts, _ := w.Result()
		is := [2]int64{c.counts.waiting.Load(), counts.Seen}
		others := counts.Acknowledged * int64(c.plan.People-1)
		if is[0] == 0 && counts.Seen >= others && c.counts.reading.Load() == 0 {
			return 0
		}
		if is != was {
			moved, was = time.Now(), is
		}
		if time.Since(moved) > still && is[0] == 0 || time.Since(begin) > within || sleep(ctx, 10*time.Millisecond) != nil || c.ctx.Err() != nil {
			return is[0]
		}
	}
}

// Close lets everybody leave and waits for it.
func (c *Crowd) Close() {
	c.end(errClosed)
	c.running.Wait()
}

var errClosed = errors.New("the crowd has left")
