package server

import (
	"testing"

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
	if _, relays, _ := p.take(false); len(relays) != 0 {
		t.Error("messages go before it is time")
	}
	if _, relays, more := p.take(true); len(relays) != fit || more || p.relaysWait() {
		t.Errorf("%d messages go, more: %v", len(relays), more)
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
	first, _, more := p.take(false)
	if len(first) != store.PublishedAtOnce || !more || first[0].n != 2 {
		t.Errorf("%d go together, more: %v", len(first), more)
	}
	p.publish(publication{from: first[0].from, n: 3})
	p.keep(first)
	if len(p.waiting) != len(docs) || p.waiting[first[0].from.id].n != 3 || p.waiting[first[1].from.id].n != 2 {
		t.Errorf("%d wait", len(p.waiting))
	}
}
