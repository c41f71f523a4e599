package crdt

import "testing"

// typed returns a change that inserts n characters into a text.
func typed(t testing.TB, n int) (first, c *Change) {
	first = decoded(t, firstChange())
	ops := []Op{{Action: Put, Insert: true, Object: his(opText), Elem: his(opChar2), Value: textValue("a")}}
	for i := range uint32(n - 1) {
		ops = append(ops, Op{Action: Put, Insert: true, Object: his(opText), Elem: own(firstOps + 1 + i), Value: textValue("b")})
	}
	return first, decoded(t, &Change{
		Actor: bob, Actors: []ActorID{bob, alice}, Seq: 1, StartOp: firstOps + 1, Deps: []Hash{first.Hash}, Ops: ops,
	})
}

// put returns a change that replaces one key.
func put(t testing.TB) (first, c *Change) {
	first = decoded(t, firstChange())
	return first, decoded(t, &Change{
		Actor: bob, Actors: []ActorID{bob, alice}, Seq: 1, StartOp: firstOps + 1, Deps: []Hash{first.Hash},
		Ops: []Op{{Action: Put, Keyed: true, Key: "key", Value: intValue(5), Pred: []Ref{his(opScalar)}}},
	})
}

func benchmarkDecode(b *testing.B, chunk []byte) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeChange(chunk, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeChange(b *testing.B) {
	b.Run("put", func(b *testing.B) {
		_, c := put(b)
		benchmarkDecode(b, c.Chunk())
	})
	b.Run("typed21", func(b *testing.B) {
		_, c := typed(b, 21)
		benchmarkDecode(b, c.Chunk())
	})
	b.Run("typed20000", func(b *testing.B) {
		_, c := typed(b, 20_000)
		benchmarkDecode(b, c.Chunk())
	})
	b.Run("mixed", func(b *testing.B) {
		_, c := fixtures(b)
		benchmarkDecode(b, c.Chunk())
	})
	b.Run("deflated", func(b *testing.B) {
		_, c := typed(b, 2000)
		benchmarkDecode(b, frame(typeDeflated, newDraft(c).body()))
	})
}

func BenchmarkDecodeHeader(b *testing.B) {
	_, c := put(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeHeader(c.Chunk()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdd adds a long line of changes of one operation each, decoded
// before, to a document of its own.
func BenchmarkAdd(b *testing.B) {
	b.Run("put", func(b *testing.B) {
		benchmarkAdd(b, func(i uint32) Op {
			return Op{Action: Put, Keyed: true, Key: "key", Value: intValue(5), Pred: []Ref{own(i - 1)}}
		})
	})
	b.Run("typing", func(b *testing.B) {
		benchmarkAdd(b, func(i uint32) Op {
			op := Op{Action: Put, Insert: true, Object: own(opText), Value: textValue("a")}
			if i > firstOps+2 {
				op.Elem = own(i - 1)
			}
			return op
		})
	})
}

func benchmarkAdd(b *testing.B, op func(counter uint32) Op) {
	first := firstChange()
	first.Ops = append(first.Ops, Op{Action: Put, Keyed: true, Key: "key", Pred: []Ref{own(opScalar)}})
	changes := []*Change{decoded(b, first)}
	for i := range uint32(10_000) {
		last, at := changes[len(changes)-1], firstOps+2+i
		changes = append(changes, decoded(b, &Change{
			Actor: alice, Actors: []ActorID{alice}, Seq: last.Seq + 1, StartOp: uint64(at), Deps: []Hash{last.Hash}, Ops: []Op{op(at)},
		}))
	}
	b.ReportAllocs()
	d, i := NewDocument(Limits{}), 0
	for b.Loop() {
		if i == len(changes) {
			d, i = NewDocument(Limits{}), 0
		}
		if o := d.Add(changes[i]); o.Status != Accepted {
			b.Fatal(o.Refusal)
		}
		i++
	}
}

// BenchmarkFirstAdd is what the first change after a Load costs: the tables of
// 10,000 changes are built.
func BenchmarkFirstAdd(b *testing.B) {
	first := decoded(b, firstChange())
	chunks, last := [][]byte{first.Chunk()}, first
	for i := range uint64(10_000) {
		pred := own(opScalar)
		if i > 0 {
			pred = own(uint32(firstOps + i))
		}
		last = decoded(b, &Change{
			Actor: alice, Actors: []ActorID{alice}, Seq: i + 2, StartOp: firstOps + i + 1, Deps: []Hash{last.Hash},
			Ops: []Op{{Action: Put, Keyed: true, Key: "key", Value: intValue(5), Pred: []Ref{pred}}},
		})
		chunks = append(chunks, last.Chunk())
	}
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			if err := NewDocument(Limits{}).Load(chunks...); err != nil {
				b.Fatal(err)
			}
		}
	})
	d := NewDocument(Limits{})
	if err := d.Load(chunks...); err != nil {
		b.Fatal(err)
	}
	b.Run("index", func(b *testing.B) {
		index, hashes := d.AppendIndex(nil), hashesOf(d)
		b.ReportMetric(float64(len(index))/float64(len(hashes)), "B/change")
		for b.Loop() {
			if err := NewDocument(Limits{}).LoadIndexed(index, hashes, chunks); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tables", func(b *testing.B) {
		for b.Loop() {
			d.DropTables()
			d.catchUp()
		}
	})
}
