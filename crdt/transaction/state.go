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
// It holds what stands now, and a graph in which the changes are: one of its own,
// or a document's, which it follows ([Of]). What earlier changes did is read again
// from their bytes when it is asked for.
type State struct {
	id      ID
	graph   *crdt.Graph
	own     bool               // the graph is this state's, and has no changes but the applied ones
	applied int                // the graph's first changes
	tips    map[crdt.Hash]bool // that no applied change depends on
	maxOp   uint64
	actors  map[crdt.ActorID]actor
	objects map[crdt.OpID]*object // that later changes may name; picks and what is in them are not here
	checked *record               // of the change that Check has read last
	missing []string              // what Missing returns; nil: to be counted
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
	s := Of(id, &crdt.Graph{})
	s.own = true
	return s
}

// Of returns the state that the changes of a graph make, without any of them until
// [State.Follow] or [State.Apply] takes them, in the graph's order. While it is in
// use no change that was applied is taken back from the graph.
func Of(id ID, g *crdt.Graph) *State {
	return &State{
		id: id, graph: g,
		tips:    make(map[crdt.Hash]bool),
		actors:  make(map[crdt.ActorID]actor),
		objects: map[crdt.OpID]*object{{}: {kind: kindRoot, slots: make(map[string][]live)}},
	}
}

// Load returns the state that all accepted changes of a graph make.
func Load(id ID, g *crdt.Graph) (*State, error) {
	s := Of(id, g)
	if err := s.Follow(g.Len()); err != nil {
		return nil, err
	}
	return s, nil
}

// Follow applies the changes of the graph up to its n-th that were not applied yet.
func (s *State) Follow(n int) error {
	for s.applied < n {
		c, err := crdt.DecodeChange(s.graph.ChunkAt(s.applied), crdt.NoLimits)
		if err != nil {
			return fmt.Errorf("read change %d of transaction %s: %w", s.applied, s.id, err)
		}
		if want := s.graph.HashAt(s.applied); c.Hash != want {
			return fmt.Errorf("read change %d of transaction %s: it is %s, and should be %s", s.applied, s.id, c.Hash, want)
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
// transaction's genesis. A state [Of] a graph takes the next change of that; one of
// its own keeps the change's chunk, and nothing else of it.
func (s *State) Apply(c *crdt.Change) error {
	i, there := s.graph.Index(c.Hash)
	if there && i < s.applied {
		return nil
	}
	if s.applied == 0 && c.Hash != Genesis(s.id).Hash {
		return fmt.Errorf("apply change %s to transaction %s: its first change is not its genesis", c.Hash, s.id)
	}
	for _, dep := range c.Deps {
		if !s.Has(dep) {
			return fmt.Errorf("apply change %s to transaction %s: it depends on %s, which is not there", c.Hash, s.id, dep)
		}
	}
	if !s.own && (!there || i != s.applied) {
		return fmt.Errorf("apply change %s to transaction %s: it is not the graph's change %d", c.Hash, s.id, s.applied)
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
	_, ok := s.indexOf(h)
	return ok
}

// indexOf returns where an applied change stands in the graph.
func (s *State) indexOf(h crdt.Hash) (int, bool) {
	i, ok := s.graph.Index(h)
	return i, ok && i < s.applied
}

// Len returns the number of changes applied.
func (s *State) Len() int { return s.applied }

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
	wanted := make([]bool, s.applied)
	top := -1
	for _, h := range heads {
		i, ok := s.indexOf(h)
		if !ok {
			return nil, fmt.Errorf("transaction %s as of %s: no such change", s.id, h)
		}
		wanted[i] = true
		top = max(top, i)
	}
	for i := top; i >= 0; i-- {
		if wanted[i] {
			for _, dep := range s.graph.DepsOf(i) {
				wanted[dep] = true
			}
		}
	}
	then := New(s.id)
	for i := range wanted {
		if wanted[i] {
			c := s.change(i)
			then.run(c, then.read(c, nil).rec)
		}
	}
	return then, nil
}

// change reads a change again, as it was read before it was applied.
func (s *State) change(i int) *crdt.Change {
	c, err := crdt.DecodeChange(s.graph.ChunkAt(i), crdt.NoLimits)
	if err != nil {
		panic(fmt.Sprintf("transaction: change %d of %s was applied, and cannot be read: %v", i, s.id, err))
	}
	return c
}

// run takes the next change and does what its record says.
func (s *State) run(c *crdt.Change, rec *record) {
	if s.own {
		s.graph.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: rec.actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.Chunk()})
	}
	s.applied++
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
