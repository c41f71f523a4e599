package server

import (
	"testing"
	"time"

	"parley/crdt"
	"parley/server/store"
)

// TestRelaysAreBounded: messages for other servers wait in bounded space, what is too
// long stays here, and without other servers there is nothing to do.
func TestRelaysAreBounded(t *testing.T) {
	s := &Server{}
	p := newPublisher(s)
	m := store.Relayed{Data: make([]byte, 1000)}
	p.relay(m)
	s.others.Store(1)
	const fit = maxRelays / (1000 + relayOverhead)
	for range fit + 10 {
		p.relay(m)
	}
	p.relay(store.Relayed{Data: make([]byte, store.MaxRelayed+1)})
	if dropped, long := s.counters.relayedDropped.Load(), s.counters.relayedTooLong.Load(); dropped != 10 || long != 1 {
		t.Errorf("%d were dropped and %d too long", dropped, long)
	}
	now := time.Now()
	if _, relays := p.take(now, false); len(relays) != 0 {
		t.Error("messages go before it is time")
	}
	if at, any := p.due(now); !any || at != now {
		t.Errorf("they are due at %v, if ever: %v", at, any)
	}
	if _, relays := p.take(now, true); len(relays) != fit {
		t.Errorf("%d messages go", len(relays))
	}
	if _, any := p.due(now); any {
		t.Error("there is more")
	}
	if p.relay(m); len(p.relays) != 1 {
		t.Error("there is no room again")
	}
}

// TestPublicationsGoTogether: of what a document says the newest goes, with that of
// others, up to what one transaction takes. What was not stored waits, unless there is
// something newer.
func TestPublicationsGoTogether(t *testing.T) {
	p := newPublisher(&Server{neighbours: &neighbours{}})
	var docs []*document
	for i := range store.PublishedAtOnce + 1 {
		docs = append(docs, &document{id: crdt.DocumentID{byte(i), byte(i >> 8)}})
		p.publish(publication{from: docs[i], n: 1})
		p.publish(publication{from: docs[i], n: 2})
	}
	now := time.Now()
	first, _ := p.take(now, false)
	if at, any := p.due(now); len(first) != store.PublishedAtOnce || first[0].n != 2 || !any || at.After(now) {
		t.Errorf("%d go together, more: %v", len(first), any)
	}
	p.publish(publication{from: first[0].from, n: 3})
	p.keep(first)
	if len(p.waiting) != len(docs) || p.waiting[first[0].from.id].n != 3 || p.waiting[first[1].from.id].n != 2 {
		t.Errorf("%d wait", len(p.waiting))
	}
}

// TestSealedDocumentsGoLater: what a document has to say that is being sealed is tried
// again, less and less often, while what others say goes.
func TestSealedDocumentsGoLater(t *testing.T) {
	p := newPublisher(&Server{neighbours: &neighbours{}})
	sealed := publication{from: &document{id: crdt.DocumentID{1}}, n: 1}
	var last time.Duration
	for tries := range 70 {
		now := time.Now()
		sealed.later(now)
		if after := sealed.after.Sub(now); after < last || after > maxSealPatience {
			t.Fatalf("after %d tries it waits for %v, after %v before", tries, after, last)
		} else {
			last = after
		}
	}
	now := time.Now()
	p.keep([]publication{sealed})
	if at, any := p.due(now.Add(time.Hour)); !any || at != sealed.after {
		t.Errorf("it is due at %v, if ever: %v", at, any)
	}
	p.publish(publication{from: &document{id: crdt.DocumentID{2}}})
	if pubs, _ := p.take(now, false); len(pubs) != 1 || pubs[0].from.id[0] != 2 {
		t.Errorf("what goes is %v", pubs)
	}
	if pubs, _ := p.take(sealed.after, false); len(pubs) != 1 || pubs[0].n != 1 {
		t.Errorf("what goes later is %v", pubs)
	}
}
