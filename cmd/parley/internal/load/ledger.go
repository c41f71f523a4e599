package load

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

// ledger is what the people of one transaction share in this process: every
// change that one of them has made or been sent, once, and what is measured of
// it. What each of them knows is in its [replica].
type ledger struct {
	id         transaction.ID
	document   crdt.DocumentID
	selections crdt.OpID // the map that picks are put in

	mu    sync.Mutex
	graph crdt.Graph
	facts []fact // by index in the graph
}

// fact is one change.
type fact struct {
	maxOp  uint64
	writes []write

	// Of the picks of this run:
	author *person
	due    time.Time
	window *Window // that it is measured in; nil: none
	acked  bool
}

// write is what a change does to one field.
type write struct {
	field int // which of the plan's
	op    crdt.OpID
	pred  []crdt.OpID // that it replaces
	picks bool        // rather than withdraws
}

func newLedger(id transaction.ID) *ledger {
	l := &ledger{id: id, document: id.Document()}
	for i, op := range transaction.Genesis(id).Ops {
		if op.Key == "selections" {
			genesis := transaction.Genesis(id)
			l.selections = genesis.ID(genesis.OpRef(i))
		}
	}
	return l
}

// The frame of a change (Automerge's storage format): magic and checksum come
// before what is hashed, which begins with the chunk's type.
const (
	unhashed    = 8
	typeOfPlain = 1
)

// find returns the index of a change that was received. One that is not known
// yet, which is somebody's from outside, is added.
func (l *ledger) find(chunk []byte) (int, error) {
	if len(chunk) > unhashed && chunk[unhashed] == typeOfPlain {
		if i, ok := l.graph.Index(sha256.Sum256(chunk[unhashed:])); ok {
			return i, nil
		}
	}
	c, err := crdt.DecodeChange(slices.Clone(chunk), crdt.Limits{})
	if err != nil {
		return 0, fmt.Errorf("the server sent a change that is none: %w", err)
	}
	if i, ok := l.graph.Index(c.Hash); ok {
		return i, nil
	}
	for _, dep := range c.Deps {
		if !l.graph.Accepted(dep) {
			return 0, fmt.Errorf("the server sent change %s without %s, on which it depends", c.Hash, dep)
		}
	}
	return l.add(c, fact{}), nil
}

// add appends a change whose dependencies are there, and returns its index.
func (l *ledger) add(c *crdt.Change, f fact) int {
	f.maxOp = c.MaxOp()
	for i := range c.Ops {
		op := &c.Ops[i]
		if !op.Keyed || c.ID(op.Object) != l.selections {
			continue
		}
		if n, ok := fieldNumber(op.Key); ok {
			w := write{field: n, op: c.ID(c.OpRef(i)), picks: op.Action.Makes()}
			for _, p := range op.Pred {
				w.pred = append(w.pred, c.ID(p))
			}
			f.writes = append(f.writes, w)
		}
	}
	l.graph.Append(crdt.Node{
		Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: c.Chunk(),
	})
	l.graph.MarkDurable(l.graph.Len()) // here, that is: the graph walks no further
	l.facts = append(l.facts, f)
	return l.graph.Len() - 1
}

// fieldName is what the fields are called that people pick for.
func fieldName(i int) string { return fmt.Sprintf("field-%d", i+1) }

func fieldNumber(name string) (int, bool) {
	var n int
	if _, err := fmt.Sscanf(name, "field-%d", &n); err != nil || fieldName(n-1) != name {
		return 0, false
	}
	return n - 1, true
}

// optionsOf are the candidates for each field.
var optionNames = [2]string{"a", "b"}

func optionValue(field, option int) int64 { return int64(100*(field+1) + 10*option) }

// fieldsOf is what a host sets up.
func fieldsOf(n int) map[string]transaction.Field {
	fields := make(map[string]transaction.Field, n)
	for i := range n {
		options := make(map[string]transaction.Option)
		for o, name := range optionNames {
			options[name] = transaction.Option{
				Value: json.RawMessage(fmt.Sprint(optionValue(i, o))), Source: "document-" + name + ".pdf",
			}
		}
		fields[fieldName(i)] = transaction.Field{Label: fmt.Sprintf("Field %d", i+1), Required: true, Options: options}
	}
	return fields
}
