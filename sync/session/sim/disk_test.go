package sim

import (
	"errors"
	"fmt"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
)

var (
	errOverloaded  = errors.New("too much waits for the disk")
	errDisk        = errors.New("the disk failed")
	errChainBroken = errors.New("a batch that this one builds on was not stored")
)

// disk is the store (server/store): what is on it, and what waits to be.
type disk struct {
	w    *world
	docs map[*topic]*stored

	waiting []entry
	refused []entry // to be told so
	room    int     // for those that wait
	current []entry // one transaction, under way
	full    bool    // what is under way is tried again and again
	// overtaken: somebody was told of a refusal while this transaction waited.
	overtaken bool
}

// stored is what is on disk of one document.
type stored struct {
	rows        []row
	index       map[crdt.Hash]int
	settings    presence.Settings
	resolutions []presence.Resolution
	snapshot    *crdt.Snapshot
	pack        []byte // the index of the first packed changes
	packed      int
	locked      bool // an agreement forbids further changes
}

// row is a change and its receipt.
type row struct {
	hash  crdt.Hash
	chunk []byte
	user  string
	role  transaction.Role
}

// entry is a batch.
type entry struct {
	topic      *topic
	chain      *chain
	rows       []row
	settings   *presence.Settings
	resolution *presence.Resolution
	done       func(error)
	err        error
}

// chain ties batches together: when one fails, so do those that follow.
type chain struct{ failed error }

func (c *chain) fail(err error) {
	if c.failed == nil {
		c.failed = err
	}
}

func newDisk(w *world) *disk {
	d := &disk{w: w, room: w.plan.backlog, docs: make(map[*topic]*stored)}
	for i := range w.plan.topics {
		t := &w.plan.topics[i]
		d.docs[t] = &stored{index: make(map[crdt.Hash]int), settings: t.settings}
	}
	return d
}

// append queues a batch.
func (d *disk) append(e entry) {
	switch {
	case e.chain.failed != nil:
		d.refuse(e, errChainBroken)
	case len(d.waiting) >= d.room:
		d.refuse(e, errOverloaded)
	default:
		d.waiting = append(d.waiting, e)
	}
}

func (d *disk) refuse(e entry, err error) {
	e.err = err
	e.chain.fail(err)
	d.refused = append(d.refused, e)
}

// begin takes up to n batches for a transaction, if none is under way: mostly those
// that have waited longest, sometimes those of one document before all others. Who
// was refused is told so, also while the disk is full.
func (d *disk) begin(n int) bool {
	told := false
	if len(d.refused) > 0 && (len(d.current) == 0 || d.full) {
		d.tell(d.refused)
		d.refused, told = nil, true
		d.overtaken = len(d.current) > 0
	}
	if len(d.current) > 0 || len(d.waiting) == 0 {
		return told
	}
	first := d.waiting[d.w.dice.IntN(len(d.waiting))].topic
	alone := d.w.dice.IntN(4) == 0
	var rest []entry
	for _, e := range d.waiting {
		if len(d.current) < n && (!alone || e.topic == first) {
			d.current = append(d.current, e)
		} else {
			rest = append(rest, e)
		}
	}
	d.waiting = rest
	d.dropBroken()
	return true
}

// dropBroken ends what is under way and builds on what was not stored.
func (d *disk) dropBroken() {
	d.current = slices.DeleteFunc(d.current, func(e entry) bool {
		if e.chain.failed == nil {
			return false
		}
		e.done(errChainBroken)
		return true
	})
}

func (d *disk) tell(entries []entry) {
	for i := range entries {
		entries[i].done(entries[i].err)
	}
}

// result is how one try to commit ends.
type result int

const (
	done            result = iota
	failed                 // for good, and it is not on disk
	failedButStored        // it is, but was reported as failed
)

// finish ends the transaction that is under way. If it fails, each batch in it is
// tried alone. One that has waited for room is not what it was: those who were told
// meanwhile that a later batch was refused have forgotten this one.
func (d *disk) finish(how result) bool {
	if len(d.current) == 0 || d.full {
		return false
	}
	if d.overtaken {
		d.dropBroken()
		d.overtaken = false
	}
	entries := d.current
	d.current = nil
	if how != failed {
		d.store(entries)
	}
	if how == done {
		d.tell(entries)
		return true
	}
	for i := range entries {
		one := entries[i : i+1]
		if len(entries) == 1 || d.w.dice.IntN(2) == 0 {
			one[0].err = errDisk
		}
		d.settle(one, how)
	}
	return true
}

// settle ends the one batch of a transaction that has no error, or tells why not.
func (d *disk) settle(one []entry, how result) {
	e := &one[0]
	switch {
	case e.chain.failed != nil:
		e.err = errChainBroken
	case e.err == nil || how == failedButStored:
		d.store(one)
	}
	if e.err != nil {
		e.chain.fail(e.err)
	}
	d.tell(one)
}

// crash ends the process: what waits is lost, and perhaps what is under way.
func (d *disk) crash(got bool) {
	if got && !d.full {
		d.store(d.current)
	}
	d.current, d.waiting, d.refused, d.full, d.overtaken = nil, nil, nil, false, false
}

// store is the commit point. A change that is there already is passed over.
func (d *disk) store(entries []entry) {
	for i := range entries {
		e := &entries[i]
		s := d.docs[e.topic]
		for _, r := range e.rows {
			if _, there := s.index[r.hash]; !there {
				d.w.model.storing(e.topic, s, r)
				s.index[r.hash] = len(s.rows)
				s.rows = append(s.rows, r)
			}
		}
		if e.settings != nil {
			s.settings = *e.settings
			s.locked = s.locked && s.settings.Policy == presence.Lock
		}
		if e.resolution != nil && !s.resolved(e.resolution.Heads) {
			d.w.model.resolving(e.topic, s, e.resolution)
			s.resolutions = append(s.resolutions, *e.resolution)
			s.locked = s.settings.Policy == presence.Lock
		}
	}
}

func (s *stored) resolved(heads []crdt.Hash) bool {
	for i := range s.resolutions {
		if s.resolutions[i].Over(heads) {
			return true
		}
	}
	return false
}

// put stores what stands beside the changes.
func (d *disk) put(t *topic, snap *crdt.Snapshot, index []byte) {
	s := d.docs[t]
	s.snapshot = snap
	if snap.Changes <= len(s.rows) {
		s.pack, s.packed = index, snap.Changes
	}
}

// load reads a document: from its pack as far as that goes, and the changes after it.
func (d *disk) load(t *topic) (session.Stored, error) {
	s := d.docs[t]
	doc := crdt.NewDocument(limits.Change)
	var hashes []crdt.Hash
	var chunks [][]byte
	var users []string
	for _, r := range s.rows {
		hashes, chunks, users = append(hashes, r.hash), append(chunks, r.chunk), append(users, r.user)
	}
	if s.packed > 0 {
		if err := doc.LoadIndexed(s.pack, hashes[:s.packed], chunks[:s.packed]); err != nil {
			return session.Stored{}, fmt.Errorf("load a pack of %d changes: %w", s.packed, err)
		}
	}
	err := doc.Load(chunks[s.packed:]...)
	return session.Stored{
		Document: doc, Snapshot: s.snapshot, Users: users, Settings: s.settings,
		Resolutions: append([]presence.Resolution(nil), s.resolutions...),
	}, err
}
