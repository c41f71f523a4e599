// Package historytest makes documents and random histories of concurrent edits
// for tests. Only tests may import it. It does not import package crdt, so that
// crdt's own tests can use it.
package historytest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"parley/crdt/internal/engine"
)

// The engine's editing API, for tests that want to make changes by hand.
type (
	Doc     = engine.Doc
	Path    = engine.Path
	Object  = engine.Object
	Counter = engine.Counter
)

// What a document is made of.
const (
	List = engine.List
	Map  = engine.Map
	Text = engine.Text
)

// NewDoc returns an empty document that must be closed.
func NewDoc(actor []byte) (*Doc, error) { return engine.New(actor) }

// Change is one change of a history.
type Change struct {
	Chunk []byte // uncompressed
	Hash  [32]byte
	Deps  [][32]byte // sorted
	Actor string     // raw bytes
}

// History is a list of changes, each after all it depends on.
type History []Change

// Chunks returns the changes' chunks in order.
func (h History) Chunks() [][]byte {
	chunks := make([][]byte, len(h))
	for i, c := range h {
		chunks[i] = c.Chunk
	}
	return chunks
}

// Heads returns the hashes that no change depends on, sorted.
func (h History) Heads() [][32]byte {
	heads := map[[32]byte]bool{}
	for _, c := range h {
		heads[c.Hash] = true
	}
	for _, c := range h {
		for _, d := range c.Deps {
			delete(heads, d)
		}
	}
	var list [][32]byte
	for hash := range heads {
		list = append(list, hash)
	}
	slices.SortFunc(list, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
	return list
}

// Random returns the history of n changes by so many actors, who edit one map,
// list, text and counter, nested maps in the first two, and now and then take
// over each other's changes. The same arguments give the same bytes. It panics
// where the engine refuses what it must not.
func Random(seed uint64, actors, n int) History {
	m := &maker{rnd: rand.New(rand.NewPCG(seed, 1))}
	defer m.close()
	for i := range actors {
		m.replicas = append(m.replicas, m.newReplica(byte(i)))
	}
	if n > 0 {
		m.genesis()
	}
	for len(m.history) < n {
		r := m.replicas[m.rnd.IntN(actors)]
		if m.rnd.IntN(3) == 0 {
			m.sync(r, m.replicas[m.rnd.IntN(actors)])
		}
		deps, err := r.doc.Heads()
		must(err)
		for range 1 + m.rnd.IntN(4) {
			m.edit(r)
		}
		m.commit(r, deps)
	}
	return m.history
}

type maker struct {
	rnd      *rand.Rand
	history  History
	replicas []*replica
}

// replica is one actor's document; knows has a mark for each change of the
// history that is in it.
type replica struct {
	doc   *engine.Doc
	actor string
	knows []bool
}

func (m *maker) newReplica(i byte) *replica {
	actor := make([]byte, 16)
	for j := range actor {
		actor[j] = byte(m.rnd.Uint32())
	}
	actor[15] = i // never the same twice
	doc, err := engine.New(actor)
	must(err)
	return &replica{doc: doc, actor: string(actor)}
}

func (m *maker) close() {
	for _, r := range m.replicas {
		r.doc.Close()
	}
}

// genesis gives all replicas the objects that they then edit.
func (m *maker) genesis() {
	first := m.replicas[0]
	must(first.doc.Put(Path{"map"}, Map))
	must(first.doc.Put(Path{"list"}, List))
	must(first.doc.Put(Path{"text"}, Text))
	must(first.doc.Put(Path{"count"}, Counter(0)))
	m.commit(first, nil)
	for _, r := range m.replicas[1:] {
		m.sync(r, first)
	}
}

// commit adds what r edited since it had the heads deps, if anything, to the
// history.
func (m *maker) commit(r *replica, deps [][32]byte) {
	chunk, err := r.doc.Commit(m.message(), int64(1_700_000_000+len(m.history)))
	if errors.Is(err, engine.ErrNothingToCommit) {
		return
	}
	must(err)
	// The hash covers all but the magic and the checksum of it.
	m.history = append(m.history, Change{Chunk: chunk, Hash: sha256.Sum256(chunk[8:]), Deps: deps, Actor: r.actor})
	r.mark(len(m.history) - 1)
}

func (m *maker) message() string {
	if m.rnd.IntN(4) > 0 {
		return ""
	}
	return fmt.Sprintf("message %d", m.rnd.IntN(100))
}

// sync gives to all that from knows and to does not.
func (m *maker) sync(to, from *replica) {
	for i, known := range from.knows {
		if known && (i >= len(to.knows) || !to.knows[i]) {
			must(to.doc.Apply([][]byte{m.history[i].Chunk}))
			to.mark(i)
		}
	}
}

func (r *replica) mark(i int) {
	for len(r.knows) <= i {
		r.knows = append(r.knows, false)
	}
	r.knows[i] = true
}

func (m *maker) edit(r *replica) {
	switch m.rnd.IntN(10) {
	case 0, 1, 2:
		m.editMap(r, Path{"map"})
	case 3, 4, 5:
		m.editList(r)
	case 6, 7, 8:
		m.editText(r)
	case 9:
		must(r.doc.Increment(Path{"count"}, int64(m.rnd.IntN(20)-10)))
	}
}

func (m *maker) editMap(r *replica, at Path) {
	at = append(slices.Clip(at), string(rune('a'+m.rnd.IntN(8))))
	switch m.rnd.IntN(6) {
	case 0:
		must(r.doc.Delete(at))
	case 1:
		m.putMap(r, at)
	case 2:
		if len(at) < 4 {
			m.inside(r, at)
		}
	default:
		must(r.doc.Put(at, m.value()))
	}
}

// inside edits the map at a path, if there is one.
func (m *maker) inside(r *replica, at Path) {
	err := r.doc.Put(append(slices.Clip(at), "x"), m.value())
	if errors.Is(err, engine.ErrNoObject) {
		return
	}
	must(err)
	m.editMap(r, at)
}

func (m *maker) putMap(r *replica, at Path) {
	must(r.doc.Put(at, Map))
	must(r.doc.Put(append(slices.Clip(at), "made"), m.value()))
}

func (m *maker) editList(r *replica) {
	n, err := r.doc.Len(Path{"list"})
	must(err)
	i := m.rnd.IntN(n + 1)
	at := Path{"list", i}
	kind := m.rnd.IntN(6)
	switch {
	case i == n || kind < 2:
		must(r.doc.Insert(at, m.value()))
	case kind == 2:
		must(r.doc.Delete(at))
	case kind == 3:
		m.putMap(r, at)
	case kind == 4:
		m.inside(r, at)
	default:
		must(r.doc.Put(at, m.value()))
	}
}

func (m *maker) editText(r *replica) {
	n, err := r.doc.Len(Path{"text"})
	must(err)
	pos := m.rnd.IntN(n + 1)
	words := []string{"", "a", "bc", "déf", "😀", "\n\t\"", "漢字"}
	must(r.doc.Splice(Path{"text"}, pos, m.rnd.IntN(min(n-pos, 3)+1), words[m.rnd.IntN(len(words))]))
}

func (m *maker) value() any {
	switch m.rnd.IntN(9) {
	case 0:
		return nil
	case 1:
		return m.rnd.IntN(2) == 0
	case 2:
		return m.rnd.Int64() >> m.rnd.IntN(64)
	case 3:
		return -(m.rnd.Int64() >> m.rnd.IntN(64))
	case 4:
		return m.rnd.Uint64() >> m.rnd.IntN(64)
	case 5:
		return m.rnd.NormFloat64()
	case 6:
		return fmt.Sprintf("str %x <é>", m.rnd.Uint32())
	case 7:
		return []byte(fmt.Sprint(m.rnd.Uint32()))
	default:
		return time.UnixMilli(m.rnd.Int64N(1 << 42)).UTC()
	}
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("historytest: %v", err))
	}
}
