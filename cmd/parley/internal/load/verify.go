package load

import (
	"cmp"
	"context"
	"sync"
	"time"

	"parley/sync/protocol"
	"parley/sync/wire"
)

// Verdict is what fresh clients found in the end.
type Verdict struct {
	Checked   int    `json:"checked"`   // transactions that were read
	Unchecked int    `json:"unchecked"` // that could not be
	Why       string `json:"why,omitempty"`
	Lost      int    `json:"lost"` // picks that were acknowledged and are not there
	// LostIn names the transactions that lack picks, some of them.
	LostIn []string `json:"lostIn,omitempty"`
}

const maxLostIn = 10

// Verify reads every transaction as a fresh client, and looks for each pick that
// was acknowledged. The crowd may have been closed.
func (c *Crowd) Verify(ctx context.Context) Verdict {
	var mu sync.Mutex
	var v Verdict
	_ = c.each(ctx, readAtOnce, func(ctx context.Context, l *ledger) error {
		lost, err := c.verify(ctx, l)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil && asRefused(err) == nil && ctx.Err() == nil:
			v.Why = reason(err)
			return err // the server is gone
		case err != nil:
			v.Why = cmp.Or(v.Why, reason(err))
			return nil // the others are looked at all the same
		}
		v.Checked++
		v.Lost += lost
		if lost > 0 && len(v.LostIn) < maxLostIn {
			v.LostIn = append(v.LostIn, string(l.id))
		}
		return nil
	})
	v.Unchecked = len(c.ledgers) - v.Checked
	return v
}

// verify returns how many picks are lost.
func (c *Crowd) verify(ctx context.Context, l *ledger) (int, error) {
	var r *replica
	err := c.insist(ctx, func(ctx context.Context) (err error) {
		r, err = c.read(ctx, l)
		return err
	})
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := 0
	for i := range l.facts {
		if f := &l.facts[i]; f.acked && !r.has(i) {
			lost++
		}
	}
	return lost, nil
}

// readWithin bounds one reading of a transaction.
const readWithin = time.Minute

// read joins as a client that has nothing, and returns when it has all that
// the server first said it has.
func (c *Crowd) read(ctx context.Context, l *ledger) (*replica, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	link, err := c.dial(ctx, c.reader(), l.document)
	if err != nil {
		return nil, err
	}
	defer link.part()
	r := newReplica(l, "", "", 0)
	if err := link.open(ctx, r.opening()); err != nil {
		return nil, err
	}
	for {
		m, err := link.read(ctx)
		if err != nil {
			return nil, err
		}
		var answer *protocol.Message
		switch m := m.(type) {
		case *wire.DocUnavailable:
			return nil, &RefusedError{Code: "unavailable", Message: "the server says that there is no transaction " + string(l.id), Final: true}
		case *wire.Sync:
			if answer, err = r.read(m.Data); answer == nil || err != nil {
				return r, err
			}
		default:
			continue
		}
		if err := link.sync(ctx, answer); err != nil {
			return nil, err
		}
	}
}

// read takes what a message brings, and returns the answer that asks for more, or
// nil if there is no more.
func (r *replica) read(data []byte) (*protocol.Message, error) {
	m, err := protocol.Decode(data, protocol.Limits{})
	if err != nil {
		return nil, err
	}
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	if err := r.receive(m, func(*fact) {}); err != nil {
		return nil, err
	}
	if r.inStep(m.Heads) {
		return nil, nil
	}
	return r.next(nil), nil
}
