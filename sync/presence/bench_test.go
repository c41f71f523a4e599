package presence_test

import (
	"fmt"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// BenchmarkRoom has 50 parties become ready one after the other, then one of them
// change something, with a roster to everybody after each.
func BenchmarkRoom(b *testing.B) {
	const people = 50
	s := newScene(b, presence.Settings{Quorum: people + 1})
	for i := range people {
		s.arrive(presence.Conn(i+1), fmt.Sprintf("user%02d", i), transaction.Party)
	}
	var out []presence.Output
	bytes, steps := 0, 0
	step := func(in presence.Input) {
		s.now = s.now.Add(pause)
		out = s.room.Step(s.now, in, out[:0])
		for _, o := range out {
			bytes += len(o.(presence.Send).Data)
		}
		steps++
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range people {
			step(presence.Heard{Conn: presence.Conn(i + 1), Message: presence.Ready{Heads: s.doc.heads}})
		}
		s.doc.heads = []crdt.Hash{{byte(steps), byte(steps >> 8)}}
		step(presence.Advanced{Because: presence.Cause{Field: "price", User: "user00", Change: s.doc.heads[0]}})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/step")
	b.ReportMetric(float64(bytes)/float64(steps), "B/step")
}

// BenchmarkElsewhere has a room hear of 500 people on another node, one of whom has
// moved on.
func BenchmarkElsewhere(b *testing.B) {
	a := &presence.Attendance{}
	for i := range 500 {
		at := presence.Stamp{Count: uint64(i + 1), Node: nodeA}
		a.People = append(a.People, presence.Present{
			User: fmt.Sprintf("user%03d", i), Named: at, Since: epoch.UnixMilli(),
			Conns: []presence.Connected{{Peer: fmt.Sprintf("peer%03d", i), Role: transaction.Party, Arrived: at}},
			Word:  &presence.Word{Said: at, Heads: []crdt.Hash{{1}}},
		})
	}
	s := newScene(b, presence.Settings{Quorum: 501})
	s.room = presence.New(presence.Config{Node: nodeB}, s.doc, presence.Settings{Policy: presence.Reopen, Quorum: 501}, nil)
	data, seq := a.Encode(), uint64(0)
	var out []presence.Output
	b.ReportAllocs()
	for b.Loop() {
		heard, err := presence.DecodeAttendance(data)
		if err != nil {
			b.Fatal(err)
		}
		seq++
		heard.People[seq%500].Conns[0].Focus = "price"
		heard.People[seq%500].Conns[0].Focused.Count = 1000 + seq
		s.now = s.now.Add(time.Millisecond)
		out = s.room.Step(s.now, presence.Elsewhere{Node: nodeA, Seq: seq, Attendance: heard}, out[:0])
	}
	b.ReportMetric(float64(len(data)), "bytes")
}
