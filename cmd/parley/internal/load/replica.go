package load

import (
	"errors"
	"slices"

	"parley/crdt"
	"parley/sync/protocol"
)

// replica is what one client has of a transaction. It holds no change itself,
// only which of the ledger's it has: a bit for each, the heads, and what is
// picked. It is used with the ledger locked.
type replica struct {
	l     *ledger
	actor crdt.ActorID // "" for who only reads
	user  string
	seq   uint64
	maxOp uint64
	held  []uint64 // bits
	heads []int
	live  [][]crdt.OpID // by field: the picks that no other replaced
	// own are changes that the server is not known to have, oldest first, of which
	// the first sent have been sent on this connection.
	own  []int
	sent int
	// born is how many changes the ledger had before there was this replica:
	// those do not come late, they came to an earlier one.
	born int
}

func newReplica(l *ledger, actor crdt.ActorID, user string, fields int) *replica {
	return &replica{l: l, actor: actor, user: user, live: make([][]crdt.OpID, fields)}
}

func (r *replica) has(i int) bool { return i/64 < len(r.held) && r.held[i/64]>>(i%64)&1 != 0 }

var errGap = errors.New("the server sent a change before one on which it depends")

// take adds a change of the ledger, which is not there yet.
func (r *replica) take(i int) error {
	deps := r.l.graph.DepsOf(i)
	for _, d := range deps {
		if !r.has(int(d)) {
			return errGap
		}
	}
	for i/64 >= len(r.held) {
		r.held = append(r.held, 0)
	}
	r.held[i/64] |= 1 << (i % 64)
	r.heads = append(slices.DeleteFunc(r.heads, func(h int) bool { return slices.Contains(deps, int32(h)) }), i)
	f := &r.l.facts[i]
	r.maxOp = max(r.maxOp, f.maxOp)
	for _, w := range f.writes {
		if w.field >= len(r.live) {
			continue
		}
		live := slices.DeleteFunc(r.live[w.field], func(op crdt.OpID) bool { return slices.Contains(w.pred, op) })
		if w.picks {
			live = append(live, w.op)
		}
		r.live[w.field] = live
	}
	return nil
}

// pick makes a change that picks one of a field's options, as
// transaction.Edit.Pick does from a whole state, and takes it.
func (r *replica) pick(field, option int, f fact) error {
	r.seq++
	b := crdt.NewBuilder(crdt.Header{
		Deps: r.hashes(r.heads), Actor: r.actor, Seq: r.seq, StartOp: r.maxOp + 1, Time: f.due.Unix(),
	})
	pick := b.Make(r.l.selections, fieldName(field), crdt.MakeMap, r.live[field]...)
	b.Put(pick, "value", crdt.Int(optionValue(field, option)))
	b.Put(pick, "by", crdt.Text(r.user))
	b.Put(pick, "at", crdt.Int(f.due.UnixMilli()))
	b.Put(pick, "option", crdt.Text(optionNames[option]))
	c, err := b.Change(crdt.Limits{})
	if err != nil {
		return err
	}
	i := r.l.add(c, f)
	r.own = append(r.own, i)
	return r.take(i)
}

// receive adds what a message of the server's brings, and calls arrived for each
// change that is new.
func (r *replica) receive(m *protocol.Message, arrived func(*fact)) error {
	for _, chunk := range m.Changes {
		i, err := r.l.find(chunk)
		if err != nil {
			return err
		}
		if r.has(i) {
			continue
		}
		if err := r.take(i); err != nil {
			return err
		}
		if i >= r.born {
			arrived(&r.l.facts[i])
		}
	}
	return nil
}

// acknowledge drops from own what the server has by its heads, and calls acked
// for each.
func (r *replica) acknowledge(heads []crdt.Hash, acked func(*fact)) {
	if len(r.own) == 0 || len(heads) == 0 {
		return
	}
	lacking := r.l.graph.Since(heads)
	n := 0
	for n < len(r.own) {
		if _, lacks := slices.BinarySearch(lacking, r.own[n]); lacks {
			break
		}
		acked(&r.l.facts[r.own[n]])
		n++
	}
	r.own = slices.Delete(r.own, 0, n)
	r.sent = max(0, r.sent-n)
}

// inStep says whether it has all that is below the server's heads.
func (r *replica) inStep(heads []crdt.Hash) bool {
	for _, h := range heads {
		if i, ok := r.l.graph.Index(h); !ok || !r.has(i) {
			return false
		}
	}
	return len(heads) > 0
}

// opening is the first message on a connection: what we have from the server,
// and which heads.
func (r *replica) opening() *protocol.Message {
	r.sent = 0
	base := slices.Clone(r.heads)
	for k := 0; k < len(base); {
		i := base[k]
		if _, own := slices.BinarySearch(r.own, i); !own {
			k++
			continue
		}
		base = slices.Delete(base, k, k+1)
		for _, d := range r.l.graph.DepsOf(i) {
			if !slices.Contains(base, int(d)) {
				base = append(base, int(d))
			}
		}
	}
	return r.message(base, nil)
}

// next is a message with all that the server was not sent, and what it needs.
func (r *replica) next(need []crdt.Hash) *protocol.Message {
	var changes [][]byte
	for _, h := range need {
		if i, ok := r.l.graph.Index(h); ok && r.has(i) && !slices.Contains(r.own[r.sent:], i) {
			changes = append(changes, r.l.graph.ChunkAt(i))
		}
	}
	for _, i := range r.own[r.sent:] {
		changes = append(changes, r.l.graph.ChunkAt(i))
	}
	r.sent = len(r.own)
	return r.message(r.heads, changes)
}

func (r *replica) message(lastSync []int, changes [][]byte) *protocol.Message {
	return &protocol.Message{
		Version: protocol.V1, Heads: r.hashes(r.heads),
		Have: []protocol.Have{{LastSync: r.hashes(lastSync)}}, Changes: changes,
	}
}

func (r *replica) hashes(nodes []int) []crdt.Hash {
	hs := make([]crdt.Hash, 0, len(nodes))
	for _, i := range nodes {
		hs = append(hs, r.l.graph.HashAt(i))
	}
	return crdt.SortHashes(hs)
}
