package transaction

import (
	"encoding/json"
	"fmt"
	"slices"

	"parley/crdt"
)

// State is a transaction as its changes tell it: who picked what, and what the
// fields are. It belongs to one goroutine. What it returns is the caller's, but
// for JSON, which is not to be modified.
//
// It holds what stands now. What earlier changes did is read again from their
// bytes when it is asked for, so that a long history takes no more than those.
type State struct {
	id      ID
	changes []applied // in the order in which they were applied
	index   map[crdt.Hash]int32
	tips    map[crdt.Hash]bool // that no applied change depends on
	maxOp   uint64
	actors  map[crdt.ActorID]actor
	objects map[crdt.OpID]*object // that later changes may name; picks and what is in them are not here
	checked *record               // of the change that Check has read last
	missing []string              // what Missing returns; nil: to be counted
}

// applied is a change that was applied.
type applied struct {
	hash  crdt.Hash
	chunk []byte // the caller's
}

// actor is what is known of one. Its id is kept once for all operation ids.
type actor struct {
	id   crdt.ActorID
	seq  uint64
	user string // in whose name its picks are, "" if it has none
}

// object is a map of the document. Slots have at least one live write each.
type object struct {
	kind  kind
	field string // that it belongs to; "" above fields
	slots map[string][]live
}

// live is a write that no later one replaced: exactly one of leaf, object and
// pick. Those of a slot are ordered by operation id, so the last one wins.
type live struct {
	op     crdt.OpID
	leaf   leaf
	object *object
	pick   *Pick
}

// leaf is a value that one change wrote whole.
type leaf struct {
	json json.RawMessage // nil: none
	text string          // of a text
	yes  bool            // it is true
}

// kind is what an object of the document is for.
type kind uint8

const (
	kindUnknown kind = iota
	kindRoot
	kindFields
	kindField
	kindOptions
	kindOption
	kindSelections
	kindPick
	kindPickValue  // the text, map or list of a pick's value, by or option, and below
	kindFieldValue // the same in a field
)

// New returns the state of a transaction without changes. The first to apply is
// its [Genesis].
func New(id ID) *State {
	return &State{
		id:      id,
		index:   make(map[crdt.Hash]int32),
		tips:    make(map[crdt.Hash]bool),
		actors:  make(map[crdt.ActorID]actor),
		objects: map[crdt.OpID]*object{{}: {kind: kindRoot, slots: make(map[string][]live)}},
	}
}

// Load returns the state that all accepted changes of a graph make.
func Load(id ID, g *crdt.Graph) (*State, error) {
	s := New(id)
	if err := s.Follow(g, g.Len()); err != nil {
		return nil, err
	}
	return s, nil
}

// Follow applies the changes of a graph up to its n-th, behind those that were
// applied, which are the graph's first.
func (s *State) Follow(g *crdt.Graph, n int) error {
	for i := len(s.changes); i < n; i++ {
		c, err := crdt.DecodeChange(g.ChunkAt(i), crdt.NoLimits)
		if err != nil {
			return fmt.Errorf("read change %d of transaction %s: %w", i, s.id, err)
		}
		if err := s.Apply(c); err != nil {
			return err
		}
	}
	return nil
}

// Apply adds a change whose dependencies were applied; one that was applied
// before changes nothing. The change has passed crdt.Document.Add: what in it
// is not as the schema says is passed over, for [State.Check] is not asked. It
// fails on a change out of order, and on a first change that is not the
// transaction's genesis. The state keeps the change's chunk, as a graph does, and
// nothing else of it.
func (s *State) Apply(c *crdt.Change) error {
	if s.Has(c.Hash) {
		return nil
	}
	if len(s.changes) == 0 && c.Hash != Genesis(s.id).Hash {
		return fmt.Errorf("apply change %s to transaction %s: its first change is not its genesis", c.Hash, s.id)
	}
	for _, dep := range c.Deps {
		if !s.Has(dep) {
			return fmt.Errorf("apply change %s to transaction %s: it depends on %s, which is not there", c.Hash, s.id, dep)
		}
	}
	rec := s.checked
	if rec == nil || rec.hash != c.Hash {
		rec = s.read(c, nil).rec
	}
	s.checked = nil
	s.run(c, rec)
	return nil
}

// ID returns which transaction it is.
func (s *State) ID() ID { return s.id }

// Has says whether a change was applied.
func (s *State) Has(h crdt.Hash) bool {
	_, ok := s.index[h]
	return ok
}

// Len returns the number of changes applied.
func (s *State) Len() int { return len(s.changes) }

// Heads returns the changes that no other depends on, sorted.
func (s *State) Heads() []crdt.Hash {
	heads := make([]crdt.Hash, 0, len(s.tips))
	for h := range s.tips {
		heads = append(heads, h)
	}
	return crdt.SortHashes(heads)
}

// AsOf returns the state as it was at heads: that of these changes and all that
// they depend on. It is for reading: a change made of it would fork its actor's
// own line. It fails on heads that are not there. It costs as much as applying
// the changes up to then.
func (s *State) AsOf(heads []crdt.Hash) (*State, error) {
	wanted := make([]bool, len(s.changes))
	top := int32(-1)
	for _, h := range heads {
		i, ok := s.index[h]
		if !ok {
			return nil, fmt.Errorf("transaction %s as of %s: no such change", s.id, h)
		}
		wanted[i] = true
		top = max(top, i)
	}
	for i := top; i >= 0; i-- {
		if wanted[i] {
			for _, dep := range s.depsOf(i) {
				wanted[s.index[dep]] = true
			}
		}
	}
	then := New(s.id)
	for i := range wanted {
		if wanted[i] {
			c := s.change(int32(i))
			then.run(c, then.read(c, nil).rec)
		}
	}
	return then, nil
}

// change reads a change again.
func (s *State) change(i int32) *crdt.Change {
	c, err := crdt.DecodeChange(s.changes[i].chunk, crdt.NoLimits)
	s.mustBeRead(i, err)
	return c
}

// depsOf returns what a change depends on.
func (s *State) depsOf(i int32) []crdt.Hash {
	c, err := crdt.DecodeHeader(s.changes[i].chunk)
	s.mustBeRead(i, err)
	return c.Deps
}

// mustBeRead panics unless a change was read again, as it was before it was applied.
func (s *State) mustBeRead(i int32, err error) {
	if err != nil {
		panic(fmt.Sprintf("transaction: change %d of %s was applied, and cannot be read: %v", i, s.id, err))
	}
}

// run appends a change and does what its record says.
func (s *State) run(c *crdt.Change, rec *record) {
	s.index[c.Hash] = int32(len(s.changes))
	s.changes = append(s.changes, applied{hash: c.Hash, chunk: c.Chunk()})
	for _, dep := range c.Deps {
		delete(s.tips, dep)
	}
	s.tips[c.Hash] = true
	s.maxOp = max(s.maxOp, c.MaxOp())
	a := actor{id: rec.actor, seq: c.Seq, user: s.actors[rec.actor].user}
	for i := range rec.writes {
		w := &rec.writes[i]
		s.write(w)
		if w.pick != nil && a.user == "" {
			a.user = w.pick.By
		}
	}
	for _, op := range rec.closed {
		s.objects[op] = &closed
	}
	s.actors[a.id] = a
}

// closed is an object of a field in which later changes may write nothing.
var closed = object{kind: kindFieldValue}

// write makes one write take the place of those that it replaces.
func (s *State) write(w *write) {
	o := s.objects[w.object]
	lives := o.slots[w.key]
	if len(w.pred) > 0 {
		lives = slices.DeleteFunc(slices.Clone(lives), func(l live) bool { return slices.Contains(w.pred, l.op) })
	}
	if !w.deletes {
		l := live{op: w.op, leaf: w.leaf, pick: w.pick}
		if w.makes != kindUnknown && w.pick == nil {
			l.object = &object{kind: w.makes, field: w.field, slots: make(map[string][]live)}
			s.objects[w.op] = l.object
		}
		at, _ := slices.BinarySearchFunc(lives, l.op, func(l live, op crdt.OpID) int { return l.op.Compare(op) })
		lives = slices.Insert(lives, at, l)
	}
	was := len(o.slots[w.key]) > 0
	if len(lives) == 0 {
		delete(o.slots, w.key)
	} else {
		o.slots[w.key] = lives
	}
	s.recount(o, w.key, was, len(lives) > 0)
}

// recount keeps what is missing up to date: a slot was filled, or is.
func (s *State) recount(o *object, key string, was, is bool) {
	switch o.kind {
	case kindFields, kindField:
		s.missing = nil
	case kindSelections:
		if s.missing == nil || was == is || !s.requires(key) {
			return
		}
		i, found := slices.BinarySearch(s.missing, key)
		switch {
		case is && found:
			s.missing = slices.Delete(s.missing, i, i+1)
		case !is && !found:
			s.missing = slices.Insert(s.missing, i, key)
		}
	}
}
