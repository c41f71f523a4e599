package client

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// ErrClosed says that the client was closed.
var ErrClosed = errors.New("the client is closed")

// maxBatch is how many requests share one commit at most.
const maxBatch = 256

// request is a step of the keeper. It is answered after the commit of the batch
// that it was stepped in.
type request struct {
	step  func(*keeper)
	added bool       // the step added changes
	done  chan error // of capacity 1: why these were not committed
}

// keeper owns the replica and steps it in one goroutine. Its batches are
// linear: steps, commit, answers.
type keeper struct {
	// static
	log     *slog.Logger
	genesis crdt.Hash
	role    transaction.Role // as far as we know it; ""
	wake    chan<- struct{}  // the connection's writer looks when it can
	publish func(View)

	replica *replica
	actor   crdt.ActorID
	remade  map[crdt.Hash]int // how often changes that stand for others were refused
	talk    *talk             // nil without a connection
	after   []func()
	dirty   bool // the view is to be made again

	status   Status
	synced   Synced
	watchers map[chan View]struct{}
	shown    View // last

	rejections []Rejection
	rejected   int
	people     people
}

// run steps requests until quit is closed.
func (k *keeper) run(requests <-chan request, quit <-chan struct{}) {
	batch := make([]request, 0, maxBatch)
	for {
		select {
		case r := <-requests:
			batch = k.batch(append(batch[:0], r), requests)
		case <-quit:
			for w := range k.watchers {
				close(w)
			}
			k.watchers = nil
			return
		}
	}
}

// batch steps one request and all that wait behind it, commits what they added,
// and answers them.
func (k *keeper) batch(batch []request, requests <-chan request) []request {
	k.step(&batch[0])
	for more := true; more && len(batch) < maxBatch; {
		select {
		case r := <-requests:
			batch = append(batch, r)
			k.step(&batch[len(batch)-1])
		default:
			more = false
		}
	}
	err := k.commit()
	if k.dirty {
		k.show()
	}
	for _, r := range batch {
		if r.added {
			r.done <- err
			continue
		}
		r.done <- nil
	}
	return batch
}

func (k *keeper) step(r *request) {
	before := len(k.replica.unwritten)
	r.step(k)
	r.added = len(k.replica.unwritten) > before
}

// commit makes what the batch added durable, and then lets the conversation
// know of it.
func (k *keeper) commit() error {
	before := k.replica.graph().Durable()
	added := len(k.replica.unwritten) > 0
	err := k.replica.commit()
	after := k.after
	k.after = nil
	if err != nil {
		k.log.Error("cannot keep changes", "err", err)
		k.reverted()
		return err
	}
	for _, f := range after {
		f()
	}
	if added && k.replica.graph().Durable() > before {
		k.dirty = true
		k.wakeWriter()
	}
	return nil
}

// reverted starts over with what is durable. What the server sent in this batch
// is gone too: it has to be asked again, so the connection ends.
func (k *keeper) reverted() {
	k.dirty = true
	k.breakOff()
}

// breakOff ends the conversation, if there is one, to begin another.
func (k *keeper) breakOff() {
	if k.talk != nil {
		k.talk.broken = true
		k.wakeWriter()
	}
}

func (k *keeper) wakeWriter() {
	select {
	case k.wake <- struct{}{}:
	default: // it is awake
	}
}

func (k *keeper) setStatus(s Status) {
	if s.State != k.status.State {
		s.Since = time.Now()
	} else {
		s.Since = k.status.Since
	}
	k.status = s
	k.dirty = true
	if s.State == Offline {
		k.giveUpReady(s.Err)
	}
}

// post steps the keeper, and returns when what the step added is committed. Who
// has been answered sees what it did.
func (c *Client) post(step func(*keeper)) error { return c.postIn(context.Background(), step) }

// postIn is post for callers who may give up: ctx bounds the wait until the
// keeper takes the request, not the commit, whose outcome must be known.
func (c *Client) postIn(ctx context.Context, step func(*keeper)) error {
	r := request{step: step, done: make(chan error, 1)}
	select {
	case c.requests <- r:
		return <-r.done // what the keeper has taken it answers
	case <-c.kept:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin starts a conversation with the server.
func (k *keeper) begin(server wire.PeerID) {
	k.talk = newTalk(server, k.replica.known)
	k.people.begin()
	k.setStatus(Status{State: Online})
	k.wakeWriter()
}

// end forgets the conversation. What the server has of ours it will say again.
func (k *keeper) end() {
	k.talk = nil
	k.dirty = true
}

func (k *keeper) unavailable() {
	k.status.Unavailable = true
	k.dirty = true
}

// errBroken ends a connection whose conversation cannot go on.
var errBroken = errors.New("what the server sent could not be kept")

// pull returns the data of the sync message or else of the ephemeral message that
// the server should have now, nil if there is nothing to say.
func (k *keeper) pull() (sync, ephemeral []byte, err error) {
	switch {
	case k.talk == nil:
		return nil, nil, nil
	case k.talk.broken:
		return nil, nil, errBroken
	}
	if data := k.talk.next(k.replica.graph()); data != nil {
		return data, nil, nil
	}
	return nil, k.people.next(), nil
}

// incoming is a sync message whose changes were decoded and checked by
// themselves.
type incoming struct {
	message *protocol.Message
	changes []*crdt.Change
	refused []*crdt.Refusal
}

// receive takes a sync message. Its changes pass the gate like anybody's; what
// it says of the server counts when they are committed.
func (k *keeper) receive(in incoming) {
	if k.talk == nil {
		return
	}
	for _, r := range in.refused {
		k.refuse(r)
	}
	k.talk.held = append(k.talk.held, in.changes...)
	k.admitHeld()
	if len(k.talk.held) > maxHeld {
		k.breakOff()
	}
	t := k.talk
	k.after = append(k.after, func() {
		t.receive(k.replica.graph(), in.message)
		k.replica.learn(in.message.Heads, in.changes)
		k.status.Unavailable = false
		k.dirty = true
		k.tendReady()
		k.wakeWriter()
	})
}

// admitHeld adds what can be added of the changes that came, in whatever order
// they did.
func (k *keeper) admitHeld() {
	for again := true; again; {
		again = false
		k.talk.held = slices.DeleteFunc(k.talk.held, func(c *crdt.Change) bool {
			out := k.replica.add(c, false)
			switch out.Status {
			case crdt.Held:
				return false
			case crdt.Accepted:
				again = true
			case crdt.Refused:
				k.refuse(out.Refusal)
			case crdt.Known:
			}
			return true
		})
	}
}

// refuse remembers a change of the server's that does not pass our gate: it is
// not asked for again.
func (k *keeper) refuse(r *crdt.Refusal) {
	k.log.Error("the server sent a change that does not pass", "change", r.Change, "code", r.Code)
	k.talk.refused[r.Change] = struct{}{}
}
