package sim

import (
	"cmp"
	"fmt"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// model is what is known of a run from outside: every change that was ever made,
// and everything that anybody ever confirmed. It says what must be so from that
// alone.
type model struct {
	w         *world
	changes   map[crdt.Hash]*made
	perTopic  map[*topic][]*made
	geneses   map[*topic]*crdt.Change
	snapshots [][][]byte // the chunks that each stands for
	said      map[confirmation]bool
	opens     map[string]openFields // by heads
	counts    counts
}

// counts tell whether a run has met what it is for.
type counts struct {
	stored, refused, resolved, lapsed, frames int
}

// made is a change that somebody made.
type made struct {
	name   string
	topic  *topic
	user   string
	change *crdt.Change
	past   past
	index  int // among its topic's

	fields    []string // that it does something to
	picks     string   // the field that it picks for, or withdraws from
	withdraws bool
	defines   string // the field that it defines
	required  bool
	code      crdt.Code // with which it must be refused; "" if it may stay
}

// past is a set of changes, by their index: those that one depends on.
type past []uint64

func (p past) has(i int) bool { return i/64 < len(p) && p[i/64]&(1<<(i%64)) != 0 }

func (p *past) add(i int) {
	for len(*p) <= i/64 {
		*p = append(*p, 0)
	}
	(*p)[i/64] |= 1 << (i % 64)
}

func (p *past) union(o past) {
	for i, word := range o {
		if i == len(*p) {
			*p = append(*p, 0)
		}
		(*p)[i] |= word
	}
}

// confirmation is what a user once said to agree with.
type confirmation struct {
	topic *topic
	user  string
	heads string
}

func newModel(w *world) *model {
	return &model{
		w: w, changes: make(map[crdt.Hash]*made), perTopic: make(map[*topic][]*made),
		geneses: make(map[*topic]*crdt.Change), said: make(map[confirmation]bool), opens: make(map[string]openFields),
	}
}

func key(heads []crdt.Hash) (k string) {
	for i := range heads {
		k += string(heads[i][:])
	}
	return k
}

// genesis returns the first change of a transaction, which is nobody's.
func (m *model) genesis(t *topic) *crdt.Change {
	if m.geneses[t] == nil {
		m.geneses[t] = transaction.Genesis(t.tx)
		m.made(m.geneses[t], &made{topic: t})
	}
	return m.geneses[t]
}

// made notes a change.
func (m *model) made(c *crdt.Change, as *made) {
	as.change, as.index = c, len(m.perTopic[as.topic])
	as.name = fmt.Sprintf("c%d", len(m.changes)+1)
	as.past = m.pastOf(c.Deps)
	m.changes[c.Hash] = as
	m.perTopic[as.topic] = append(m.perTopic[as.topic], as)
}

// pastOf returns the changes with these hashes, and all that they depend on.
func (m *model) pastOf(heads []crdt.Hash) (p past) {
	for _, h := range heads {
		if c := m.changes[h]; c != nil {
			p.union(c.past)
			p.add(c.index)
		}
	}
	return p
}

// changeOf returns the change that a chunk is.
func (m *model) changeOf(chunk []byte) *crdt.Change {
	header, err := crdt.DecodeHeader(chunk)
	m.w.must(err == nil, "chunk", "%v", err)
	c := m.changes[header.Hash]
	m.w.must(c != nil, "chunk", "nobody has made %s", header.Hash)
	return c.change
}

// live returns the changes that did something to a field which nobody who knew of
// it has done again.
func (m *model) live(t *topic, heads []crdt.Hash, did func(*made) bool) (list []*made) {
	there := m.pastOf(heads)
	var all []*made
	for _, c := range m.perTopic[t] {
		if there.has(c.index) && did(c) {
			all = append(all, c)
		}
	}
	for _, c := range all {
		if !slices.ContainsFunc(all, func(later *made) bool { return later.past.has(c.index) }) {
			list = append(list, c)
		}
	}
	return list
}

// picksOf returns the picks of a field that are live.
func (m *model) picksOf(t *topic, heads []crdt.Hash, field string) []*made {
	live := m.live(t, heads, func(c *made) bool { return c.picks == field })
	return slices.DeleteFunc(live, func(c *made) bool { return c.withdraws })
}

// openFields are those that are contested, and those for which a pick is missing.
type openFields struct{ contested, missing []string }

// open returns what is open at heads. It is the same for ever, and asked often.
func (m *model) open(t *topic, heads []crdt.Hash) (contested, missing []string) {
	k := key(heads)
	if known, ok := m.opens[k]; ok {
		return known.contested, known.missing
	}
	contested, missing = m.findOpen(t, heads)
	m.opens[k] = openFields{contested, missing}
	return contested, missing
}

func (m *model) findOpen(t *topic, heads []crdt.Hash) (contested, missing []string) {
	for _, field := range slices.Sorted(slices.Values(fields)) {
		picks := m.picksOf(t, heads, field)
		if len(picks) > 1 {
			contested = append(contested, field)
		}
		defined := m.live(t, heads, func(c *made) bool { return c.defines == field })
		if len(defined) > 0 && slices.MaxFunc(defined, byFirstOp).required && len(picks) == 0 {
			missing = append(missing, field)
		}
	}
	return contested, missing
}

// byFirstOp orders changes that define one field as Automerge chooses among them.
func byFirstOp(a, b *made) int {
	return cmp.Or(cmp.Compare(a.change.StartOp, b.change.StartOp), cmp.Compare(a.change.Actor, b.change.Actor))
}

// confirmed notes that a user has seen what is in a copy and agrees with it.
func (m *model) confirmed(r *replica) {
	m.said[confirmation{r.topic, r.c.user, key(r.graph.Heads())}] = true
}

func (m *model) hasConfirmed(t *topic, user string, heads []crdt.Hash) bool {
	return m.said[confirmation{t, user, key(heads)}]
}

// storing is asked before a change gets to the disk.
func (m *model) storing(t *topic, s *stored, r row) {
	must := m.w.must
	c := m.changes[r.hash]
	must(c != nil && c.topic == t, "storing", "nobody has made %s", r.hash)
	must(c.code == "", "forged", "%s is stored, to be refused with %s", c.name, c.code)
	genesis := m.geneses[t] != nil && c.change == m.geneses[t]
	must(genesis || r.user == c.user, "receipt", "%s by %s is said to be by %s", c.name, c.user, r.user)
	must(genesis || r.role == transaction.Party || r.role == transaction.Host, "receipt", "%s came from a %s", c.name, r.role)
	for _, dep := range c.change.Deps {
		_, there := s.index[dep]
		must(there, "order", "%s is stored before %s", c.name, m.names([]crdt.Hash{dep}))
	}
	must(!s.locked, "locked", "%s changes %s, which is locked", c.name, t.name)
	m.counts.stored++
}

// sealing is asked when the machine has found that all agree.
func (m *model) sealing(d *document, r *presence.Resolution) {
	must, t, g := m.w.must, d.topic, d.machine.Graph()
	must(slices.Equal(r.Heads, g.Heads()) && g.Len() == g.Durable(), "resolution", "over %s, where %s is on disk and %d changes follow",
		m.names(r.Heads), m.names(g.Heads()), g.Len()-g.Durable())
	contested, missing := m.open(t, r.Heads)
	must(len(contested) == 0 && len(missing) == 0, "resolution", "while %v is contested and %v missing", contested, missing)
	must(d.coming == 0, "resolution", "while other settings are on their way to the disk")
	needed, quorum := d.settings.Parties, leastQuorum(d.settings)
	must(r.Quorum >= quorum && len(r.Parties) >= r.Quorum, "resolution", "of %v, where %d of %v must agree", r.Parties, quorum, needed)
	for _, user := range r.Parties {
		must(len(needed) == 0 || slices.Contains(needed, user), "resolution", "%s is not needed", user)
		must(m.hasConfirmed(t, user, r.Heads), "resolution", "%s has not confirmed %s", user, m.names(r.Heads))
	}
}

// leastQuorum is how many must agree, whoever is there.
func leastQuorum(s presence.Settings) int {
	const leastParties = 2
	return cmp.Or(s.Quorum, len(s.Parties), leastParties)
}

// resolving is asked before a resolution gets to the disk.
func (m *model) resolving(t *topic, s *stored, r *presence.Resolution) {
	m.w.must(slices.Equal(r.Heads, s.heads(m)), "resolution", "over %s, where %s is on disk", m.names(r.Heads), m.names(s.heads(m)))
	m.w.must(r.N == len(s.resolutions)+1, "resolution", "is number %d of %d", r.N, len(s.resolutions)+1)
	m.counts.resolved++
}

// heads returns the changes on disk on which no other is built.
func (s *stored) heads(m *model) []crdt.Hash {
	built := make(map[crdt.Hash]bool)
	for _, r := range s.rows {
		for _, dep := range m.changes[r.hash].change.Deps {
			built[dep] = true
		}
	}
	heads := []crdt.Hash{}
	for _, r := range s.rows {
		if !built[r.hash] {
			heads = append(heads, r.hash)
		}
	}
	return crdt.SortHashes(heads)
}

func (s *stored) has(h crdt.Hash) bool {
	_, there := s.index[h]
	return there
}

// durable is asked when a document takes its first n changes to be on disk.
func (m *model) durable(d *document, n int) {
	rows, g := m.w.disk.docs[d.topic].rows, d.machine.Graph()
	m.w.must(n <= len(rows) && n == g.Durable(), "durable", "%d changes of %s, with %d on disk", n, d.topic.name, len(rows))
	for ; d.checked < n; d.checked++ {
		r := rows[d.checked]
		m.w.must(r.hash == g.HashAt(d.checked) && r.user == d.machine.User(d.checked), "receipts", "change %d of %s is %s in memory, and %s by %s on disk",
			d.checked, d.topic.name, m.names([]crdt.Hash{g.HashAt(d.checked)}), m.names([]crdt.Hash{r.hash}), r.user)
	}
}

// names prints hashes.
func (m *model) names(hashes []crdt.Hash) string {
	list := make([]string, 0, len(hashes))
	for _, h := range hashes {
		if c := m.changes[h]; c != nil {
			list = append(list, c.name)
		} else {
			list = append(list, h.String()[:8])
		}
	}
	return fmt.Sprint(list)
}
