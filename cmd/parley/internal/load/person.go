package load

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// maxOwn is how many picks of one person may wait for the server: who has that
// many is not besieged with more, and the rest counts as not made.
const maxOwn = 2000

// person is a party of one transaction, with a connection that comes back when
// it is lost. Its two goroutines, a reader and a writer, end with their context.
type person struct {
	crowd *Crowd
	who   Who
	user  string // in whose name picks are
	l     *ledger
	wake  chan struct{} // there may be something to send

	mu     sync.Mutex // taken before the ledger's
	r      *replica
	link   *link // nil: none
	joined bool  // the replica has been in step: there is something to pick for
	came   bool  // it was, once, with any replica
	heard  bool  // on this one
	said   []crdt.Hash
	need   []crdt.Hash // that the server asks for
}

func newPerson(c *Crowd, who Who, l *ledger) *person {
	return &person{crowd: c, who: who, l: l, wake: make(chan struct{}, 1)}
}

// reset gives the person a fresh replica, as after the browser's data was
// deleted: the server refused what is in the old one.
func (p *person) reset(user string) {
	id := uuid.New()
	p.user = user
	p.r = newReplica(p.l, crdt.ActorID(id[:]), user, p.crowd.plan.Fields)
	p.r.born = len(p.l.facts)
	p.joined = false
}

// live keeps a connection until ctx ends.
func (p *person) live(ctx context.Context) {
	var wait backoff
	for again := false; ctx.Err() == nil; again = true {
		err := p.converse(ctx, again, &wait)
		if ctx.Err() != nil {
			return
		}
		p.crowd.lost(err)
		if wait.pause(ctx) != nil {
			return
		}
	}
}

// converse connects and reads until the connection ends.
func (p *person) converse(ctx context.Context, again bool, wait *backoff) error {
	l, err := p.crowd.dial(ctx, p.who, p.l.document)
	if err != nil {
		return err
	}
	defer l.cut()
	p.mu.Lock()
	p.l.mu.Lock()
	opening := p.r.opening()
	p.l.mu.Unlock()
	p.said, p.heard, p.need = opening.Heads, false, nil
	p.mu.Unlock()
	if err := l.open(ctx, opening); err != nil {
		return err
	}
	if again {
		p.crowd.counts.reconnects.Add(1)
	}
	p.mu.Lock()
	p.link = l
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.link = nil
		p.mu.Unlock()
	}()
	for {
		m, err := l.read(ctx)
		if err == nil {
			err = p.hear(l, m)
		}
		switch {
		case err != nil && l.cutByUs.Load():
			return errCut
		case err != nil:
			return err
		}
		wait.failures = 0
	}
}

// hear takes note of one message.
func (p *person) hear(l *link, m wire.Message) error {
	switch m := m.(type) {
	case *wire.Sync:
		if m.DocumentID == p.l.document {
			return p.receive(m.Data)
		}
	case *wire.DocUnavailable:
		return &RefusedError{Code: "unavailable", Message: "the server says that there is no transaction " + string(p.l.id), Final: true}
	case *wire.Ephemeral:
		// Rosters are most of these, and long: they are not read.
		if m.SenderID == l.server && bytes.Contains(m.Data, []byte("rejected")) {
			return p.refused(m.Data)
		}
	}
	return nil
}

func (p *person) receive(data []byte) error {
	now := time.Now()
	m, err := protocol.Decode(data, protocol.Limits{})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.l.mu.Lock()
	err = p.r.receive(m, func(f *fact) {
		if f.author != nil && f.author != p {
			f.window.saw(now.Sub(f.due))
		}
	})
	p.r.acknowledge(m.Heads, func(f *fact) {
		f.acked = true
		f.window.acknowledged(now.Sub(f.due))
		p.crowd.counts.waiting.Add(-1)
		p.crowd.counts.acknowledged.Add(1)
	})
	inStep := p.r.inStep(m.Heads)
	p.l.mu.Unlock()
	p.heard, p.need = true, slices.Clone(m.Need)
	first := inStep && !p.came
	p.joined, p.came = p.joined || inStep, p.came || inStep
	p.mu.Unlock()
	if first {
		p.crowd.arrived()
	}
	p.nudge()
	return err
}

// Why connections end that we end.
var (
	errRefused = errors.New("the server refused a pick")
	errCut     = errors.New("the link was cut")
)

// refused deals with a refusal of picks: what the person has differs from what
// the server has for good, so the person begins anew.
func (p *person) refused(data []byte) error {
	m, err := presence.DecodeDown(data)
	r, ok := m.(*presence.Rejected)
	if err != nil || !ok {
		return nil
	}
	if len(r.Changes) == 0 && r.Of != "" {
		return nil // of a message: we send none
	}
	p.crowd.refuse(r.Code, r.Message, max(1, len(r.Changes)))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	p.crowd.counts.waiting.Add(-int64(len(p.r.own)))
	p.crowd.counts.refused.Add(int64(len(p.r.own)))
	for _, i := range p.r.own {
		p.l.facts[i].window.refuse()
	}
	p.reset(p.user)
	return errRefused
}

func (p *person) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write sends whatever there is to send, until ctx ends; then it takes leave.
func (p *person) write(ctx context.Context) {
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			if l := p.connection(); l != nil {
				l.part()
			}
			return
		}
		l, m := p.next()
		if m == nil {
			continue
		}
		if err := l.sync(ctx, m); err != nil {
			l.cut() // the reader comes back
		}
	}
}

func (p *person) connection() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}

// next returns the message that the server should have now, nil if there is
// none or no connection to send it on.
func (p *person) next() (*link, *protocol.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil || !p.heard {
		return nil, nil
	}
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if len(p.need) == 0 && p.r.sent == len(p.r.own) && slices.Equal(p.said, p.r.hashes(p.r.heads)) {
		return nil, nil
	}
	m := p.r.next(p.need)
	p.said, p.need = m.Heads, nil
	return p.link, m
}

// pick picks something that was due at a time.
func (p *person) pick(due time.Time, w *Window) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.joined || len(p.r.own) >= maxOwn {
		w.skip()
		return
	}
	p.l.mu.Lock()
	err := p.r.pick(rand.N(p.crowd.plan.Fields), rand.N(len(optionNames)), fact{author: p, due: due, window: w})
	p.l.mu.Unlock()
	if err != nil {
		p.crowd.fail(err)
		w.skip()
		return
	}
	p.crowd.counts.picks.Add(1)
	p.crowd.counts.waiting.Add(1)
	w.made(time.Since(due))
	p.nudge()
}

// cutLink cuts the person's line, as a train does that enters a tunnel.
func (p *person) cutLink() bool {
	l := p.connection()
	if l == nil || !l.cutByUs.CompareAndSwap(false, true) {
		return false
	}
	l.cut()
	return true
}
