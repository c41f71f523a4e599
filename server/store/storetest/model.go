package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/crdt"
	"parley/server/store"
)

// model is a store in memory that does the obvious.
type model struct {
	changes     map[crdt.DocumentID][]store.Change
	snapshots   map[crdt.DocumentID]*crdt.Snapshot
	packs       map[crdt.DocumentID]int // how many changes the pack holds
	resolutions map[crdt.DocumentID][]*store.Resolution
}

func (m *model) resolve(doc crdt.DocumentID, r *store.Resolution) {
	known := slices.ContainsFunc(m.resolutions[doc], func(k *store.Resolution) bool { return slices.Equal(k.Heads, r.Heads) })
	if !known {
		m.resolutions[doc] = append(m.resolutions[doc], r)
	}
}

func (m *model) append(doc crdt.DocumentID, list []store.Change) {
	for _, c := range list {
		known := slices.ContainsFunc(m.changes[doc], func(k store.Change) bool { return k.Hash == c.Hash })
		if !known {
			m.changes[doc] = append(m.changes[doc], c)
		}
	}
}

// testModel does the same at random to a store and to a model of it. Every round
// has documents of its own in one store, because making a store is slow.
func testModel(t *testing.T, p Place) {
	s, round := p.Open(t), 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		if p, ok := p.(slow); ok && round > p.Rounds() {
			return
		}
		m := &model{
			changes: map[crdt.DocumentID][]store.Change{}, snapshots: map[crdt.DocumentID]*crdt.Snapshot{},
			packs:       map[crdt.DocumentID]int{},
			resolutions: map[crdt.DocumentID][]*store.Resolution{},
		}
		doc := rapid.Custom(func(rt *rapid.T) crdt.DocumentID {
			return Document(3*round + rapid.IntRange(0, 2).Draw(rt, "document"))
		})
		batch := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) store.Change {
			return Change(rapid.IntRange(0, 40).Draw(rt, "change"), 100)
		}), 0, 6)
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) { // without waiting
				d, list := doc.Draw(rt, "to"), batch.Draw(rt, "batch")
				s.Append(store.Batch{Document: d, Changes: list})
				m.append(d, list)
			},
			"resolve": func(rt *rapid.T) { // without waiting
				d, list := doc.Draw(rt, "of"), batch.Draw(rt, "with")
				r := Resolution(rapid.IntRange(0, 3).Draw(rt, "heads"), rapid.IntRange(1, 2).Draw(rt, "many"), rapid.String().Draw(rt, "data"))
				s.Append(store.Batch{Document: d, Changes: list, Resolution: r})
				m.append(d, list)
				m.resolve(d, r)
			},
			"snapshot": func(rt *rapid.T) {
				m.putSnapshot(rt, s, doc.Draw(rt, "of"), rapid.IntRange(1, 20).Draw(rt, "changes"))
			},
			"pack": func(rt *rapid.T) {
				d := doc.Draw(rt, "of")
				if n := len(m.changes[d]); n > 0 {
					m.pack(rt, s, d, rapid.IntRange(1, n).Draw(rt, "changes"))
				}
			},
			"load": func(rt *rapid.T) { m.compare(rt, s, doc.Draw(rt, "from")) },
		})
		if round%10 == 0 {
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
			s = p.Open(t)
		}
		for i := range 3 {
			m.compare(rt, s, Document(3*round+i))
		}
	})
}

func (m *model) putSnapshot(rt *rapid.T, s Store, d crdt.DocumentID, n int) {
	if err := Put(s, d); err != nil { // snapshots do not wait for changes
		rt.Fatal(err)
	}
	snap := crdt.Snapshot{Changes: n, Data: []byte{byte(n)}}
	err := s.PutSnapshot(context.Background(), d, snap)
	switch have := len(m.changes[d]); {
	case have == 0 && errors.Is(err, store.ErrUnknownDocument), have > 0 && n > have && err != nil:
	case have == 0 || n > have || err != nil:
		rt.Fatalf("a snapshot of %d of %d changes: %v", n, have, err)
	case m.snapshots[d] == nil || m.snapshots[d].Changes <= n:
		m.snapshots[d] = &snap
	}
}

func (m *model) pack(rt *rapid.T, s Store, d crdt.DocumentID, n int) {
	if err := Put(s, d); err != nil { // packs do not wait for changes
		rt.Fatal(err)
	}
	if err := s.PutPack(context.Background(), d, PackOf(m.changes[d][:n]...)); err != nil {
		rt.Fatal(err)
	}
	m.packs[d] = max(m.packs[d], n)
}

func (m *model) compare(rt *rapid.T, s Store, d crdt.DocumentID) {
	if err := Put(s, d); err != nil {
		rt.Fatal(err)
	}
	got, err := s.Load(context.Background(), d)
	if err != nil {
		rt.Fatal(err)
	}
	same(rt, got, 0, m.changes[d])
	if got.Indexed != m.packs[d] {
		rt.Fatalf("%d changes are indexed, want %d", got.Indexed, m.packs[d])
	}
	sameResolutions(rt, got.Resolutions, m.resolutions[d])
	if !equal(got.Snapshot, m.snapshots[d]) {
		rt.Fatalf("the snapshot is %+v, want %+v", got.Snapshot, m.snapshots[d])
	}
}
