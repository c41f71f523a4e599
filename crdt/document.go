package crdt

import (
	"fmt"
	"slices"
	"strings"
)

// Document is the gate's state for one document: its change graph, and of its
// operations what is needed to check the next change. It belongs to one
// goroutine.
type Document struct {
	Graph Graph

	lim   Limits
	bytes int // of all accepted changes, inflated
	ops   int // of all accepted changes
	table opTable
	pasts pasts
	check checker // scratch of Add
}

// NewDocument returns an empty document.
func NewDocument(lim Limits) *Document {
	return &Document{lim: lim.withDefaults()}
}

// Status is what became of a change given to [Document.Add].
type Status uint8

const (
	Accepted Status = iota // it is in the Graph; not durable yet
	Known                  // it was in the Graph before
	Held                   // it depends on changes that were not accepted, and was not looked at further
	Refused                // it must not be stored or passed on
)

// Outcome is the answer to a change.
type Outcome struct {
	Status  Status
	Missing []Hash   // of Held: the dependencies that are not there
	Refusal *Refusal // of Refused
}

// Load fills an empty document with the changes that a store holds, in the
// order in which they were appended. They were checked before they were
// stored: only what tells damage is checked again. All are durable. The
// document keeps the chunks.
func (d *Document) Load(chunks ...[]byte) error {
	for i, chunk := range chunks {
		c, err := DecodeHeader(chunk)
		if err != nil {
			return fmt.Errorf("stored change %d: %w", i, err)
		}
		if d.Graph.Accepted(c.Hash) {
			return fmt.Errorf("stored change %d: %s is stored twice", i, c.Hash)
		}
		for _, dep := range c.Deps {
			if !d.Graph.Accepted(dep) {
				return fmt.Errorf("stored change %d: %s is not stored before it", i, dep)
			}
		}
		d.append(c)
	}
	d.Graph.MarkDurable(d.Graph.Len())
	return nil
}

// Add checks a change and, if it passes, appends it to the graph. A change
// that does not pass changes nothing.
func (d *Document) Add(c *Change) Outcome { return d.AddIf(c, nil) }

// AddIf is Add with a further check of the caller's, nil for none: it is asked
// last, about a change that would otherwise be accepted.
func (d *Document) AddIf(c *Change, further func(*Change) *Refusal) Outcome {
	if d.Graph.Accepted(c.Hash) {
		return Outcome{Status: Known}
	}
	if missing := d.missing(c.Deps); missing != nil {
		return Outcome{Status: Held, Missing: missing}
	}
	spans, past, r := d.admit(c)
	if r == nil && further != nil {
		r = further(c)
	}
	if r != nil {
		r.Change = c.Hash
		return Outcome{Status: Refused, Refusal: r}
	}
	if d.table.upTo == d.Graph.Len() {
		d.table.add(c.Actor, uint32(c.StartOp), spans)
	}
	d.append(c)
	d.pasts.accepted(&d.Graph, past)
	return Outcome{Status: Accepted}
}

// AddStored appends a change that another process has checked and stored, behind
// all others: it is not checked again. Everything before it must be durable.
func (d *Document) AddStored(c *Change) error {
	if d.Graph.Accepted(c.Hash) {
		return fmt.Errorf("stored change %s is there already", c.Hash)
	}
	if missing := d.missing(c.Deps); missing != nil {
		return fmt.Errorf("stored change %s depends on %s, which is not stored before it", c.Hash, missing[0])
	}
	d.append(c)
	return nil
}

// TakeBack makes the document what it was with its durable changes alone, and
// returns the chunks of the others, in their order. It costs as much as reading the
// durable ones' places.
func (d *Document) TakeBack() (chunks [][]byte) {
	for i := d.Graph.Durable(); i < d.Graph.Len(); i++ {
		chunk := d.Graph.ChunkAt(i)
		chunks = append(chunks, chunk)
		size, numOps := sizeOf(chunk)
		d.bytes, d.ops = d.bytes-size, d.ops-numOps
	}
	d.Graph.truncate()
	d.DropTables()
	return chunks
}

// sizeOf returns what an accepted change counts for.
func sizeOf(chunk []byte) (size, numOps int) {
	c, err := DecodeHeader(chunk)
	if err != nil {
		return 0, 0 // it was read before
	}
	return c.size, c.numOps
}

// Bytes returns the size of all accepted changes, inflated.
func (d *Document) Bytes() int { return d.bytes }

// NumOps returns the number of operations of all accepted changes.
func (d *Document) NumOps() int { return d.ops }

// DropTables frees what Add has built to check changes with. The next Add that
// needs it builds it again, from the chunks.
func (d *Document) DropTables() {
	d.table, d.check, d.pasts = opTable{}, checker{}, pasts{}
}

func (d *Document) append(c *Change) {
	actor := c.Actor
	if c.Seq == 1 {
		// The graph keeps it: let it not keep the whole change.
		actor = ActorID(strings.Clone(string(actor)))
	}
	d.Graph.Append(Node{Hash: c.Hash, Deps: c.Deps, Actor: actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.chunk})
	d.bytes += c.size
	d.ops += c.numOps
}

// missing returns the deps that were not accepted.
func (d *Document) missing(deps []Hash) (missing []Hash) {
	for _, dep := range deps {
		if !d.Graph.Accepted(dep) {
			missing = append(missing, dep)
		}
	}
	return missing
}

// admit checks a change whose dependencies are known. It returns what the
// operation table is to learn, valid until the next call.
func (d *Document) admit(c *Change) ([]span, past, *Refusal) {
	if r := d.admitSize(c); r != nil {
		return nil, past{}, r
	}
	if r := d.admitCounters(c); r != nil {
		return nil, past{}, r
	}
	past := d.pasts.of(&d.Graph, c.Deps)
	follows := d.dependsOnOwn(c)
	if !follows || refersToPast(c) {
		d.catchUp()
	}
	if !follows && !d.ownInPast(c, &past) {
		return nil, past, newRefusal(CodeSequence, "it does not depend on change %d of actor %s", c.Seq-1, c.Actor)
	}
	spans, r := d.check.run(&d.table, c, &past, d.lim.Depth)
	return spans, past, r
}

func (d *Document) admitSize(c *Change) *Refusal {
	if d.bytes+c.size > d.lim.DocumentBytes {
		return newRefusal(CodeDocumentSize, "%d bytes of at most %d", d.bytes+c.size, d.lim.DocumentBytes)
	}
	if d.ops+c.numOps > d.lim.DocumentOps {
		return newRefusal(CodeDocumentSize, "%d operations of at most %d", d.ops+c.numOps, d.lim.DocumentOps)
	}
	// Heads travel in every message, and what is concurrent is walked for every
	// change.
	if len(d.Graph.tips) >= d.lim.Heads && !d.Graph.hasTip(c.Deps) {
		return newRefusal(CodeTooManyHeads, "%d heads of at most %d", len(d.Graph.tips)+1, d.lim.Heads)
	}
	return nil
}

// admitCounters checks the numbers that a change begins with. Sequence numbers
// have no gaps. Operation counters are above all in the change's past, but not
// always by one: a change made on an earlier state (changeAt) continues from
// all that its author knew, some of which may not have come here yet. No
// author can know of more than a whole document's operations. A change without
// operations is made on all that its author knew; automerge 3.5 saves one that
// leaves a gap and cannot load what it saved.
func (d *Document) admitCounters(c *Change) *Refusal {
	if seq := d.Graph.Seq(c.Actor); c.Seq != seq+1 {
		return newRefusal(CodeSequence, "sequence number %d of actor %s, who is at %d", c.Seq, c.Actor, seq)
	}
	highest := d.Graph.MaxOpOf(c.Deps)
	if c.StartOp <= highest {
		return newRefusal(CodeStartOp, "%d, after %d", c.StartOp, highest)
	}
	if c.numOps == 0 && c.StartOp != highest+1 {
		return newRefusal(CodeStartOp, "%d, after %d, and it has no operations", c.StartOp, highest)
	}
	if limit := d.Graph.MaxOp() + 1 + uint64(d.lim.DocumentOps); c.StartOp > limit {
		return newRefusal(CodeStartOp, "%d is too far from %d", c.StartOp, d.Graph.MaxOp())
	}
	return nil
}

// dependsOnOwn says whether a change is its actor's first, or depends on the
// actor's previous one directly. Most do.
func (d *Document) dependsOnOwn(c *Change) bool {
	if c.Seq == 1 {
		return true
	}
	actor := d.Graph.byActor[c.Actor]
	return slices.ContainsFunc(c.Deps, func(dep Hash) bool {
		n := &d.Graph.nodes[d.Graph.must(dep)]
		return n.actor == actor && n.seq == c.Seq-1
	})
}

// ownInPast says whether the actor's previous change is in a change's past. An
// actor's changes are one line: JavaScript clients panic when they find a
// sequence number that no dependency orders.
func (d *Document) ownInPast(c *Change, p *past) bool {
	i, known := d.table.actor(c.Actor)
	if !known {
		return false
	}
	changes := d.table.actors[i].changes
	return p.contains(changes[len(changes)-1].node)
}

// refersToPast says whether an operation refers to one of an earlier change.
func refersToPast(c *Change) bool {
	if len(c.Actors) > 1 {
		return true
	}
	earlier := func(r Ref) bool { return !r.IsZero() && uint64(r.Counter) < c.StartOp }
	for i := range c.Ops {
		op := &c.Ops[i]
		if earlier(op.Object) || earlier(op.Elem) || slices.ContainsFunc(op.Pred, earlier) {
			return true
		}
	}
	return false
}

// catchUp brings the operation table up to the graph. It is empty after Load
// and DropTables, and falls behind while changes need no table.
func (d *Document) catchUp() {
	for d.table.upTo < d.Graph.Len() {
		c, err := DecodeChange(d.Graph.ChunkAt(d.table.upTo), NoLimits)
		if err != nil {
			// Stored by a version that took more: what refers to it is refused.
			d.table.upTo++
			continue
		}
		d.table.add(c.Actor, uint32(c.StartOp), d.check.record(&d.table, c))
	}
}
