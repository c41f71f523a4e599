package presence_test

import (
	"fmt"
	"testing"

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
