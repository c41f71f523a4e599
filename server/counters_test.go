package server

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/crdt"
	"parley/sync/session"
)

// countingFrames is the counting on the way of one frame with a change that is sent
// on to one other client, once for each call.
func countingFrames() func() {
	s := &Server{started: time.Now()}
	s.counters.synced = newSynced()
	c := &conn{srv: s}
	d := &document{srv: s, machine: session.NewDocument(crdt.DocumentID{}, &session.DocumentConfig{}, session.Stored{
		Document: crdt.NewDocument(crdt.Limits{}),
	}, "")}
	var ev session.Event = session.Deliver{Input: &session.SyncInput{}}
	return func() {
		c.arrived = s.uptime()
		c.traffic.in.count(kindOf(ev), 300)
		d.arrived(c.arrived, d.length()-1)
		d.arrivals[0].upTo = 0 // on disk
		d.observe()
		c.traffic.out.count(frameSync, 300)
		c.traffic.out.count(frameSync, 100) // the acknowledgement
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	count := countingFrames()
	refusal := session.Refused{First: &crdt.Refusal{Code: crdt.CodePreds}, Count: 1}
	var c counters
	if n := testing.AllocsPerRun(1000, func() { count(); c.refuse(refusal) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// BenchmarkCounting is what a frame costs more because it is counted.
func BenchmarkCounting(b *testing.B) {
	b.Run("frame with a change", func(b *testing.B) {
		count := countingFrames()
		b.ReportAllocs()
		for b.Loop() {
			count()
		}
	})
	b.Run("ephemeral frame", func(b *testing.B) {
		s := &Server{started: time.Now()}
		c := &conn{srv: s}
		var ev session.Event = session.Deliver{Input: &session.EphemeralInput{}}
		b.ReportAllocs()
		for b.Loop() {
			c.arrived = s.uptime()
			c.traffic.in.count(kindOf(ev), 300)
			c.traffic.out.count(frameEphemeral, 300)
		}
	})
	b.Run("time.Now", func(b *testing.B) { // to compare with, on a machine that is busy
		var now time.Time
		for b.Loop() {
			now = time.Now()
		}
		_ = now
	})
}

// BenchmarkCollect is one look at a server with many connections.
func BenchmarkCollect(b *testing.B) {
	s := &Server{}
	s.counters.synced = newSynced()
	s.peers.conns = make(map[session.ConnID]*conn)
	for id := range session.ConnID(10_000) {
		s.peers.conns[id] = &conn{}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{s}, s.counters.synced)
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
