package protocol_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/automerge/automerge-go"

	"parley/crdt"
)

// oldPeer is Automerge's own implementation of 2023, which knows V1 and no
// capabilities. Its memory is freed by finalizers alone: see collect.
type oldPeer struct {
	t      *testing.T
	id     string
	doc    *automerge.Doc
	states map[int]*automerge.SyncState
	edits  int64
	actor  int // of this life
}

func newOldPeer(t *testing.T, i int) *oldPeer {
	p := &oldPeer{t: t, id: fmt.Sprintf("old%d", i), states: map[int]*automerge.SyncState{}, actor: 0xabc000 + i}
	p.create(nil)
	return p
}

func (p *oldPeer) create(changes []*automerge.Change) {
	p.doc = automerge.New()
	if err := p.doc.SetActorID(fmt.Sprintf("%032x", p.actor)); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range changes { // all at once would be Doc.Apply's bug
		if err := p.doc.LoadIncremental(c.Save()); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *oldPeer) lose(rnd *rand.Rand) {
	changes, err := p.doc.Changes()
	if err != nil {
		p.t.Fatal(err)
	}
	p.actor += 0x100000
	p.create(changes[:rnd.IntN(len(changes)+1)])
}

// collect frees what dropped peers hold in the C heap.
func collect(run uint64) {
	if run%25 == 24 {
		runtime.GC()
	}
}

func (p *oldPeer) name() string { return p.id }

func (p *oldPeer) edit(rnd *rand.Rand) {
	p.edits++
	key := fmt.Sprintf("key%d", rnd.IntN(4))
	var err error
	switch rnd.IntN(5) {
	case 0:
		err = p.doc.Path("map", key).Set(p.edits)
	case 1:
		err = p.editList(rnd)
	case 2:
		err = p.doc.Path(key).Delete()
	default:
		err = p.doc.Path(key).Set(fmt.Sprintf("%s %d", p.id, p.edits))
	}
	if err == nil {
		_, err = p.doc.Commit("", automerge.CommitOptions{AllowEmpty: true, Time: new(time.UnixMilli(p.edits))})
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// editList makes the list if it is not there; concurrent ones conflict.
func (p *oldPeer) editList(rnd *rand.Rand) error {
	v, err := p.doc.Path("list").Get()
	if err != nil {
		return err
	}
	if v.Kind() != automerge.KindList {
		return p.doc.Path("list").Set([]string{p.id})
	}
	list := v.List()
	if n := list.Len(); n > 0 && rnd.IntN(3) == 0 {
		return list.Delete(rnd.IntN(n))
	}
	return list.Append(p.edits)
}

func (p *oldPeer) connect(conn int, saved []byte) {
	s := automerge.NewSyncState(p.doc)
	if saved != nil {
		var err error
		if s, err = automerge.LoadSyncState(p.doc, saved); err != nil {
			p.t.Fatal(err)
		}
	}
	p.states[conn] = s
}

func (p *oldPeer) disconnect(conn int) []byte {
	s := p.states[conn]
	delete(p.states, conn)
	return s.Save()
}

func (p *oldPeer) receive(conn int, msg []byte) error {
	_, err := p.states[conn].ReceiveMessage(msg)
	return err
}

func (p *oldPeer) generate(conn int) []byte {
	m, ok := p.states[conn].GenerateMessage()
	if !ok {
		return nil
	}
	return m.Bytes()
}

func (p *oldPeer) heads() []crdt.Hash {
	hs := []crdt.Hash{}
	for _, h := range p.doc.Heads() {
		hs = append(hs, crdt.Hash(h))
	}
	return crdt.SortHashes(hs)
}

func (p *oldPeer) has(hashes []crdt.Hash) bool {
	for _, h := range hashes {
		if _, err := p.doc.Change(automerge.ChangeHash(h)); err != nil {
			return false
		}
	}
	return true
}

func (p *oldPeer) json() string {
	b, err := json.Marshal(p.doc.Root().Interface())
	if err != nil {
		p.t.Fatal(err)
	}
	return canonicalJSON(p.t, b)
}
