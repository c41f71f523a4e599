package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
)

// replica is the document and its log. A change is in the document first, where
// later ones can build on it; commit writes it down and only then marks it
// durable. The graph shows nothing else to the sync protocol, so the server
// never hears of a change that a kill could take from us.
type replica struct {
	// static
	owner owner

	doc   *crdt.Document
	state *transaction.State    // of all accepted changes
	log   *logFile              // nil: in memory only
	ours  map[crdt.ActorID]bool // whose changes were made here, in this life or an earlier one

	unwritten []record
	mustSync  bool // an unwritten record is of a local change: the only copy there is

	// known are heads that the server has: with all that they depend on, what is
	// durable there, as far as it has told us.
	known []crdt.Hash
}

// maxSpent is how many bytes a log may hold that say nothing any more.
const maxSpent = 1 << 20

// owner is the content of the log's first record: whose replica it is.
type owner struct {
	Transaction transaction.ID `json:"transaction"`
	User        string         `json:"user"`
}

// openReplica reads the replica in dir, or makes an empty one; in memory if dir
// is empty. It returns how many bytes of a torn end were cut off.
func openReplica(dir string, o owner) (*replica, int, error) {
	r := &replica{owner: o, doc: crdt.NewDocument(crdt.Limits{}), ours: make(map[crdt.ActorID]bool)}
	r.state = transaction.Of(o.Transaction, r.graph())
	if dir == "" {
		return r, 0, nil
	}
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, 0, fmt.Errorf("make the replica's folder: %w", err)
	}
	log, records, cut, err := openLog(dir)
	if err != nil {
		return nil, 0, err
	}
	r.log = log
	if err := r.load(records); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("read the replica in %s: %w", dir, err), log.close())
	}
	return r, cut, nil
}

func (r *replica) load(records []record) error {
	if len(records) == 0 {
		r.unwritten = []record{r.ownerRecord()}
		return nil
	}
	var o owner
	if records[0].kind != recordOwner || json.Unmarshal(records[0].content, &o) != nil {
		return errors.New("it does not begin with whose it is")
	}
	if o != r.owner {
		return fmt.Errorf("it is of transaction %q and user %q", o.Transaction, o.User)
	}
	var chunks [][]byte
	spent := 0 // bytes of records that later ones replace
	for _, rec := range records[1:] {
		switch rec.kind {
		case recordChange:
			chunks = append(chunks, rec.content)
		case recordActor:
			r.ours[crdt.ActorID(rec.content)] = true
		case recordServer:
			r.known = crdt.SplitHashes(rec.content)
			spent += recordHead + len(rec.content)
		}
	}
	r.log.suspect = spent > maxSpent // the next write makes it anew
	if err := r.doc.Load(chunks...); err != nil {
		return err
	}
	state, err := transaction.Load(r.owner.Transaction, r.graph())
	if err != nil {
		return err
	}
	r.state = state
	r.known = slices.DeleteFunc(r.known, func(h crdt.Hash) bool { return !r.graph().Has(h) })
	return nil
}

func (r *replica) graph() *crdt.Graph { return &r.doc.Graph }

// add passes a change through the gate. A local one is on disk after the next
// commit; one that the server has may be lost with the power, and comes again.
func (r *replica) add(c *crdt.Change, local bool) crdt.Outcome {
	out := r.doc.Add(c)
	if out.Status == crdt.Accepted {
		if err := r.state.Apply(c); err != nil {
			panic("client: an accepted change does not apply: " + err.Error())
		}
		if local && !r.ours[c.Actor] {
			r.ours[c.Actor] = true
			r.unwritten = append(r.unwritten, record{recordActor, []byte(c.Actor)})
		}
		r.unwritten = append(r.unwritten, record{recordChange, c.Chunk()})
		r.mustSync = r.mustSync || local
	}
	return out
}

// commit writes down what was added. If it fails, all of that is gone from the
// document too.
func (r *replica) commit() error {
	if err := r.writeDown(); err != nil {
		r.revert()
		return err
	}
	r.unwritten, r.mustSync = r.unwritten[:0], false
	r.graph().MarkDurable(r.graph().Len()) // the commit point
	return nil
}

func (r *replica) writeDown() error {
	switch {
	case r.log == nil || len(r.unwritten) == 0:
		return nil
	case r.log.suspect:
		return r.log.rewrite(r.records(r.doc))
	default:
		return r.log.write(r.unwritten, r.mustSync)
	}
}

// revert goes back to what is durable.
func (r *replica) revert() {
	r.doc, r.state = rebuilt(r.owner.Transaction, r.graph(), r.graph().Durable(), nil)
	r.unwritten, r.mustSync = nil, false
}

// replace puts doc and its state in the place of ours, and then all of it is
// durable, or changes nothing.
func (r *replica) replace(doc *crdt.Document, state *transaction.State) error {
	known := slices.DeleteFunc(slices.Clone(r.known), func(h crdt.Hash) bool { return !doc.Graph.Has(h) })
	if r.log != nil {
		if err := r.log.rewrite(r.records(doc)); err != nil {
			return err
		}
	}
	doc.Graph.MarkDurable(doc.Graph.Len()) // the commit point
	r.doc, r.state, r.known = doc, state, known
	r.unwritten, r.mustSync = nil, false
	return nil
}

// rebuilt returns what the first n changes of g make but for those in without,
// which must hold all that depends on one of them.
func rebuilt(id transaction.ID, g *crdt.Graph, n int, without map[crdt.Hash]bool) (*crdt.Document, *transaction.State) {
	doc := crdt.NewDocument(crdt.Limits{})
	var chunks [][]byte
	for i := range n {
		if !without[g.HashAt(i)] {
			chunks = append(chunks, g.ChunkAt(i))
		}
	}
	var state *transaction.State
	err := doc.Load(chunks...)
	if err == nil {
		state, err = transaction.Load(id, &doc.Graph)
	}
	if err != nil {
		panic("client: what was loaded does not load again: " + err.Error())
	}
	return doc, state
}

// learn takes note of what the server has: the heads that it named, and
// changes that it sent.
func (r *replica) learn(heads []crdt.Hash, sent []*crdt.Change) {
	known := slices.Clone(heads)
	if len(r.graph().Missing(heads)) > 0 { // it has more; what it is we shall be told
		known = append(known, r.known...)
		for _, c := range sent {
			known = append(known, c.Hash)
		}
		known = slices.DeleteFunc(known, func(h crdt.Hash) bool { return !r.graph().Has(h) })
	}
	r.remember(known)
}

// learnAnew forgets all that the server had but for the heads that it names, as far
// as they are here.
func (r *replica) learnAnew(heads []crdt.Hash) {
	r.remember(slices.DeleteFunc(slices.Clone(heads), func(h crdt.Hash) bool { return !r.graph().Has(h) }))
}

func (r *replica) remember(known []crdt.Hash) {
	known = crdt.SortHashes(known)
	if slices.Equal(known, r.known) {
		return
	}
	r.known = known
	if r.log == nil {
		return
	}
	// Not worth an fsync, nor an error: it only saves asking the server.
	if !r.log.suspect {
		_ = r.log.write([]record{r.serverRecord()}, false)
	}
}

// unsaved returns the indices of the durable changes that the server is not
// known to have.
func (r *replica) unsaved() []int { return r.graph().Since(r.known) }

// records is the whole log of doc.
func (r *replica) records(doc *crdt.Document) []record {
	rs := []record{r.ownerRecord()}
	for _, actor := range slices.Sorted(maps.Keys(r.ours)) {
		rs = append(rs, record{recordActor, []byte(actor)})
	}
	for i := range doc.Graph.Len() {
		rs = append(rs, record{recordChange, doc.Graph.ChunkAt(i)})
	}
	return append(rs, r.serverRecord())
}

func (r *replica) ownerRecord() record {
	content, err := json.Marshal(r.owner)
	if err != nil {
		panic(err) // two strings
	}
	return record{recordOwner, content}
}

func (r *replica) serverRecord() record {
	return record{recordServer, crdt.JoinHashes(r.known)}
}

func (r *replica) close() error {
	if r.log == nil {
		return nil
	}
	return r.log.close()
}
