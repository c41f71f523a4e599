package forge

import (
	"bytes"
	"math/rand/v2"
	"slices"
)

// A Mutator makes wrong changes of honest ones, at random. It works on what a
// change means (rows), on the runs of its columns, on its fields, and on bytes,
// and repairs length, checksum and the deps of later changes; so what it makes
// gets past everything but the rule that it breaks, and often breaks none.
// The same seed makes the same mutants.
type Mutator struct{ rng *rand.Rand }

// NewMutator starts from a seed.
func NewMutator(seed uint64) *Mutator { return &Mutator{rand.New(rand.NewPCG(seed, 0xf0e9e))} }

// History makes an honest history and mutates it as [Mutator.HistoryOf] does.
func (m *Mutator) History() [][]byte {
	history, hashes := hashedHistory(m.rng, 2+m.rng.IntN(6), 2+m.rng.IntN(8))
	return m.historyOf(history, hashes)
}

// HistoryOf mutates up to three changes of an honest history; the chunks are in
// the history's order. Changes that depended on a mutated change depend on the
// mutant.
func (m *Mutator) HistoryOf(history []*Change) [][]byte {
	hashes := make([]Hash, len(history))
	for i, c := range history {
		hashes[i] = c.Hash()
	}
	return m.historyOf(history, hashes)
}

func (m *Mutator) historyOf(history []*Change, hashes []Hash) [][]byte {
	wrong := map[int]bool{}
	for range 1 + m.rng.IntN(3) {
		wrong[m.rng.IntN(len(history))] = true
	}
	renamed := map[Hash]Hash{}
	chunks := make([][]byte, len(history))
	for i, honest := range history {
		c := *honest
		c.Deps = slices.Clone(c.Deps)
		follows := false
		for j, d := range c.Deps {
			if h, ok := renamed[d]; ok {
				c.Deps[j], follows = h, true
			}
		}
		slices.SortFunc(c.Deps, compareHashes)
		if wrong[i] {
			chunks[i] = m.Change(&c, history[:i])
		} else {
			chunks[i] = c.Chunk()
		}
		if wrong[i] || follows {
			if l, err := Dissect(chunks[i]); err == nil {
				renamed[hashes[i]] = l.Hash()
			}
		}
	}
	return chunks
}

// Batch makes an honest history and n mutants of its last change: the setup is
// the history without it.
func (m *Mutator) Batch(n int) (setup, mutants [][]byte) {
	changes, ops := 2+m.rng.IntN(6), 2+m.rng.IntN(8)
	if m.rng.IntN(8) == 0 {
		changes, ops = changes*3, ops*4
	}
	return m.BatchOf(History(m.rng, changes, ops), n)
}

// BatchOf is [Mutator.Batch] with a given honest history.
func (m *Mutator) BatchOf(history []*Change, n int) (setup, mutants [][]byte) {
	last := len(history) - 1
	for _, c := range history[:last] {
		setup = append(setup, c.Chunk())
	}
	p := newPool(history[last], history[:last])
	for range n {
		mutants = append(mutants, m.mutate(history[last], p))
	}
	return setup, mutants
}

func compareHashes(a, b Hash) int { return bytes.Compare(a[:], b[:]) }

// Chunk mutates one encoded change that nothing is known about. What has no rows
// is mutated in its layout, what has no layout as bytes.
func (m *Mutator) Chunk(chunk []byte) []byte {
	l, err := Dissect(bytes.Clone(chunk)) // mutations are in place
	if err != nil {
		return m.bytes(bytes.Clone(chunk))
	}
	if c, err := l.Change(); err == nil {
		return m.Change(c, nil)
	}
	m.layout(l)
	return l.Chunk()
}

// Change mutates c, which comes after the changes of history, and encodes it.
func (m *Mutator) Change(c *Change, history []*Change) []byte {
	return m.mutate(c, newPool(c, history))
}

func (m *Mutator) mutate(c *Change, p *pool) []byte {
	wrong := *c
	wrong.Ops = cloneOps(c.Ops)
	wrong.Deps = slices.Clone(c.Deps)
	level := m.rng.IntN(24)
	if level < 14 {
		for range 1 + m.rng.IntN(3) {
			m.meaning(&wrong, p)
		}
	}
	l := wrong.Layout()
	if level >= 12 { // or it is encoded as it should be
		m.layout(l)
	}
	if m.rng.IntN(50) == 49 {
		l.Type = TypeDeflated
	}
	return l.Chunk()
}

func cloneOps(ops []Op) []Op {
	out := slices.Clone(ops)
	for i := range out {
		out[i].Pred = slices.Clone(out[i].Pred)
	}
	return out
}

// A pool is what a mutation can refer to.
type pool struct {
	ids     []ID          // of all operations
	objects []ID          // made by them
	slots   map[slot][]ID // operations by where they put their value
	names   []slot        // the keys of slots, in order of first use
	ops     []Op
	hashes  []Hash
	actors  []string
}

func newPool(c *Change, history []*Change) *pool {
	p := &pool{slots: map[slot][]ID{}, actors: []string{carol}}
	for _, h := range append(slices.Clone(history), c) {
		if h != c {
			p.hashes = append(p.hashes, h.Hash())
		}
		p.actors = append(p.actors, h.Actor)
		for i, o := range h.Ops {
			id := h.OpID(i)
			s := o.slot(id)
			if p.slots[s] == nil {
				p.names = append(p.names, s)
			}
			p.slots[s] = append(p.slots[s], id)
			p.ids = append(p.ids, id)
			p.ops = append(p.ops, o)
			if o.Action == ActionMakeMap || o.Action == ActionMakeList || o.Action == ActionMakeText {
				p.objects = append(p.objects, id)
			}
		}
	}
	p.ids = append(p.ids, ID{}, ID{1, carol}, ID{c.StartOp + 1000, c.Actor})
	p.objects = append(p.objects, ID{})
	return p
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }
