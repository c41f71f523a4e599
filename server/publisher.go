package server

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"parley/crdt"
	"parley/server/store"
	"parley/sync/session"
)

const (
	// publishWithin bounds one try to publish.
	publishWithin = 3 * time.Second
	// publishPause is how long after one that failed the next follows.
	publishPause = 200 * time.Millisecond
	// gatherFor is the least time between two, so that what many documents have to say
	// goes together.
	gatherFor = 5 * time.Millisecond
	// sealPatience is how long after a document was found to be sealed just now it is
	// tried again, at first; it doubles up to maxSealPatience.
	sealPatience    = 5 * time.Millisecond
	maxSealPatience = 80 * time.Millisecond
	// relayEvery is the least time between two that only pass messages on, and maxRelays
	// how many bytes of them wait for it: beyond that they are dropped.
	relayEvery = 50 * time.Millisecond
	maxRelays  = 128 << 10
	// relayOverhead is what a message costs beside its bytes.
	relayOverhead = 64
)

// publisher tells the other servers who is here, and passes on to them what clients
// say to each other. Of what a document has to say the newest is told; it waits for
// as long as the database is away. Messages do not wait.
type publisher struct {
	srv  *Server
	wake chan struct{} // capacity 1: there is something, or a lease

	mu         sync.Mutex
	waiting    map[crdt.DocumentID]publication // guarded by mu, as all below
	publishing int                             // how many are on their way
	relays     []store.Relayed
	relayBytes int
	urgent     bool          // one of them does not wait for its time
	alone      bool          // nobody counts on what was published
	idle       chan struct{} // closed when nothing waits; nil: nobody asks
}

// publication is what a document says of those who are in it by this server.
type publication struct {
	from     *document
	n        uint64
	data     []byte // nil: nobody is
	unstored bool   // the document was told that nobody counts on what was before

	sealed int       // how often the document was being sealed when this was tried
	after  time.Time // when it is tried again
}

// later lets it wait until the document may be sealed.
func (pub *publication) later(now time.Time) {
	pub.after = now.Add(min(sealPatience<<min(pub.sealed, 10), maxSealPatience))
	pub.sealed++
}

func newPublisher(srv *Server) *publisher {
	return &publisher{srv: srv, wake: make(chan struct{}, 1), waiting: make(map[crdt.DocumentID]publication)}
}

// publish takes what a document has to say, in place of what it had before.
func (p *publisher) publish(pub publication) {
	p.mu.Lock()
	p.waiting[pub.from.id] = pub
	p.mu.Unlock()
	signal(p.wake)
}

// relay takes a message for the other servers, if there are any.
func (p *publisher) relay(m store.Relayed) {
	c := &p.srv.counters
	switch {
	case p.srv.others.Load() == 0:
		return
	case len(m.Data) > store.MaxRelayed:
		c.relayedTooLong.Add(1)
		return
	}
	p.mu.Lock()
	cost := len(m.Data) + relayOverhead
	room := p.relayBytes+cost <= maxRelays
	if room {
		p.relays, p.relayBytes = append(p.relays, m), p.relayBytes+cost
	}
	p.mu.Unlock()
	if !room {
		c.relayedDropped.Add(1)
		return
	}
	signal(p.wake)
}

// urge asks the other servers to let this one's changes of a document pass, for the
// n-th time. It goes as a message of one byte, as no client's is.
func (p *publisher) urge(id crdt.DocumentID, n int) {
	p.mu.Lock()
	p.urgent = true
	p.relays = append(p.relays, store.Relayed{Document: id, Data: []byte{byte(min(n, math.MaxUint8))}})
	p.mu.Unlock()
	signal(p.wake)
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next, relayNext time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		now := time.Now()
		p.giveUp(now)
		if now.Before(next) {
			timer.Reset(next.Sub(now))
			continue
		}
		pubs, relays := p.take(now, !now.Before(relayNext))
		if len(pubs)+len(relays) > 0 {
			pause := gatherFor
			if err := p.send(ctx, pubs, relays); err != nil {
				p.srv.log.Debug("who is here is not told to other servers", "err", err)
				pause = publishPause
			}
			next = time.Now().Add(pause)
			relayNext = next.Add(relayEvery - gatherFor)
		}
		if at, any := p.due(relayNext); any {
			if at.Before(next) {
				at = next
			}
			timer.Reset(time.Until(at))
		}
	}
}

// take returns what goes together.
func (p *publisher) take(now time.Time, messages bool) (pubs []publication, relays []store.Relayed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, pub := range p.waiting {
		if len(pubs) == store.PublishedAtOnce {
			break
		}
		if now.Before(pub.after) {
			continue
		}
		delete(p.waiting, id)
		pubs = append(pubs, pub)
	}
	p.publishing = len(pubs)
	if messages || len(pubs) > 0 || p.urgent {
		relays, p.relays, p.relayBytes, p.urgent = p.relays, nil, 0, false
	}
	return pubs, relays
}

// due returns when the first of what waits may go, and whether anything waits. Messages
// may at relayNext.
func (p *publisher) due(relayNext time.Time) (at time.Time, any bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if any = len(p.relays) > 0; any {
		at = relayNext
	}
	for _, pub := range p.waiting {
		if !any || pub.after.Before(at) {
			at, any = pub.after, true
		}
	}
	return at, any
}

// send publishes, and tells the documents so; or keeps what they said, also what there
// is of those that are being sealed.
func (p *publisher) send(ctx context.Context, pubs []publication, relays []store.Relayed) error {
	list := make([]store.Presence, 0, len(pubs))
	for _, pub := range pubs {
		list = append(list, store.Presence{Document: pub.from.id, Data: pub.data})
	}
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	come, err := p.srv.store.Publish(ctx, list, relays) // from here on, who seals knows of it
	c := &p.srv.counters
	if err != nil {
		c.publishFailed.Add(1)
		c.relayedDropped.Add(uint64(len(relays)))
		p.keep(pubs)
		if errors.Is(err, store.ErrNoLease) {
			signal(p.srv.neighbours.wake)
		}
		return err
	}
	c.published.Add(uint64(len(come)))
	c.relayedSent.Add(uint64(len(relays)))
	var sealed []publication
	for _, pub := range pubs {
		if at, stored := come[pub.from.id]; stored {
			p.tell(pub, at)
		} else {
			pub.later(time.Now())
			sealed = append(sealed, pub)
		}
	}
	p.keep(sealed)
	return nil
}

// keep ends a try: publications wait that were not stored, but for those of documents
// that have said something newer.
func (p *publisher) keep(pubs []publication) {
	p.mu.Lock()
	for _, pub := range pubs {
		if _, newer := p.waiting[pub.from.id]; !newer {
			p.waiting[pub.from.id] = pub
		}
	}
	p.publishing = 0
	if len(p.waiting) == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	p.mu.Unlock()
	p.giveUp(time.Now())
}

// giveUp tells documents that nobody counts any more on what they said before, if
// that is certain: people here may know then what others cannot. It waits to be
// stored nevertheless.
func (p *publisher) giveUp(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.alone
	p.alone = p.srv.neighbours.cut.Load() && now.After(p.srv.store.Counted().Add(sealWithin))
	if !p.alone {
		return
	}
	if !was { // those that wait for a resolution, and have nothing to publish before
		p.srv.docs.tellAll(&session.PublishedInput{N: math.MaxUint64, Unstored: true})
	}
	for id, pub := range p.waiting {
		if !pub.unstored {
			pub.unstored = true
			p.waiting[id] = pub
			p.srv.docs.postIfOpen(pub.from, posted{own: &session.PublishedInput{N: pub.n, Unstored: true}})
		}
	}
}

// tell tells a document what is stored, and how far it had come then.
func (p *publisher) tell(pub publication, at store.Version) {
	p.srv.docs.postIfOpen(pub.from, posted{stored: &stored{n: pub.n, at: at}})
}

// isBusy reports whether there is something that is not stored yet.
func (p *publisher) isBusy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)+p.publishing > 0
}

// flush waits until all that documents have said is stored, and told to them.
func (p *publisher) flush(ctx context.Context) error {
	p.mu.Lock()
	if len(p.waiting)+p.publishing == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	signal(p.wake)
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
