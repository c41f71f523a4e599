package presence

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"parley/crdt"
)

// elsewhere is what is known of another node.
type elsewhere struct {
	node       Node
	seq        uint64 // of the newest row that was heard of
	row        bool   // it stands there
	unreadable bool
	silent     bool
	people     map[string]*far // by user
}

// far is one user as another node tells.
type far struct {
	name  string
	named Stamp
	since time.Time
	conns []Connected
	lost  []awaited
	ended []Ended
	word  *Word
}

// awaited is a client that was lost on another node.
type awaited struct {
	Awaited
	until time.Time // the node having gone silent; zero: it says itself when it is over
	due   time.Time // until when it was waited for when the node said so
}

func (a *awaited) isOver(now time.Time) bool { return !a.until.IsZero() && !now.Before(a.until) }

// trace is what has to be remembered of a user besides connections, so that others
// hear of it.
type trace struct {
	word  *Word       // kept by this node; nil: none
	n     uint64      // the first Publish that held it, 0: none yet
	was   []crdt.Hash // what the user was ready for until word took it back
	over  Stamp       // the last word that took something back, while the user is here
	ended map[string]Stamp
	// until is when what is here may be forgotten although the user is gone: by then
	// every node knows, or it is silent.
	until time.Time
}

// shared reports whether there may be other nodes.
func (r *Room) shared() bool { return r.node != Node{} }

// stamp returns one that is later than all that were heard of. By the time of day it
// is later, too, than most that were not.
func (r *Room) stamp() Stamp {
	if !r.shared() {
		return Stamp{Count: r.ticks}
	}
	r.clock = max(r.clock+1, uint64(max(0, r.now.UnixMilli())))
	return Stamp{Count: r.clock, Node: r.node}
}

// Relies returns the rows by which this room goes, each with its number: those of
// nodes that are not silent.
func (r *Room) Relies() map[Node]uint64 {
	if !r.shared() {
		return nil
	}
	rows := make(map[Node]uint64, len(r.nodes))
	for _, e := range r.nodes {
		if e.row && !e.silent {
			rows[e.node] = e.seq
		}
	}
	return rows
}

// isInTheDark reports whether there is a row that cannot be read: it may say that
// somebody is not ready any more.
func (r *Room) isInTheDark() bool {
	return slices.ContainsFunc(r.nodes, func(e *elsewhere) bool { return e.row && e.unreadable && !e.silent })
}

// hearOf takes what another node tells.
func (r *Room) hearOf(in Elsewhere) {
	if !r.shared() || in.Node == r.node {
		return
	}
	at, ok := slices.BinarySearchFunc(r.nodes, in.Node, func(e *elsewhere, n Node) int { return e.node.Compare(n) })
	if !ok {
		r.nodes = slices.Insert(r.nodes, at, &elsewhere{node: in.Node})
	}
	e := r.nodes[at]
	if in.Seq != 0 && (in.Seq < e.seq || in.Seq == e.seq && e.row && !e.silent) {
		return
	}
	before := e.people
	e.seq, e.silent = max(e.seq, in.Seq), false
	e.row, e.unreadable = in.Attendance != nil || in.Unreadable, in.Unreadable
	e.people = make(map[string]*far)
	if in.Attendance != nil {
		for i := range in.Attendance.People {
			p := &in.Attendance.People[i]
			e.people[p.User] = r.read(p)
		}
	}
	changed := make(map[string]struct{})
	for user := range before {
		changed[user] = struct{}{}
	}
	for user, f := range e.people {
		if changed[user] = struct{}{}; f.isAs(before[user]) {
			delete(changed, user)
		}
	}
	for _, user := range slices.Sorted(maps.Keys(changed)) {
		r.regard(user)
	}
}

// isAs reports whether what is told of a user is surely what was told before.
func (f *far) isAs(before *far) bool {
	return before != nil && f.name == before.name && f.named == before.named && f.since.Equal(before.since) &&
		slices.Equal(f.conns, before.conns) && slices.Equal(f.ended, before.ended) && f.word.isAs(before.word) &&
		len(f.lost) == 0 && len(before.lost) == 0
}

func (w *Word) isAs(before *Word) bool {
	if w == nil || before == nil {
		return w == before
	}
	return w.Said == before.Said && w.Over == before.Over && slices.Equal(w.Heads, before.Heads)
}

// read takes what another node tells of a user.
func (r *Room) read(p *Present) *far {
	f := &far{name: p.Name, named: p.Named, since: time.UnixMilli(p.Since), conns: p.Conns, ended: p.Ended, word: p.Word}
	for _, a := range p.Lost {
		f.lost = append(f.lost, awaited{Awaited: a, due: r.now.Add(a.Left)})
	}
	r.hearStamp(p.Named)
	for _, c := range p.Conns {
		r.hearStamp(c.Arrived)
		r.hearStamp(c.Focused)
	}
	for _, a := range p.Lost {
		r.hearStamp(a.Arrived)
	}
	for _, e := range p.Ended {
		r.hearStamp(e.At)
	}
	if w := p.Word; w != nil {
		r.hearStamp(w.Said)
		r.hearStamp(w.Over)
	}
	return f
}

func (r *Room) hearStamp(s Stamp) { r.clock = max(r.clock, s.Count) }

// mark is up to which word what was said before does not count.
func (w *Word) mark() Stamp {
	if w.withdraws() {
		return w.Said
	}
	return w.Over
}

// knows reports whether a word was said where it was known that something had been
// taken back.
func (w *Word) knows(back Stamp) bool {
	return !w.Over.Before(back) || w.Said.Node == back.Node && back.Before(w.Said)
}

func latest(a, b Stamp) Stamp {
	if a.Before(b) {
		return b
	}
	return a
}

func (r *Room) trace(user string) *trace {
	t := r.traces[user]
	if t == nil {
		t = &trace{}
		r.traces[user] = t
	}
	return t
}

// lose takes note that a node is silent.
func (r *Room) lose(node Node) {
	i := slices.IndexFunc(r.nodes, func(e *elsewhere) bool { return e.node == node })
	if i < 0 || r.nodes[i].silent {
		return
	}
	e := r.nodes[i]
	e.silent = true
	for _, user := range slices.Sorted(maps.Keys(e.people)) {
		f := e.people[user]
		for i := range f.lost {
			f.lost[i].until = f.lost[i].due
		}
		for _, c := range f.conns {
			f.lost = append(f.lost, awaited{
				Awaited: Awaited{Peer: c.Peer, Role: c.Role, Arrived: c.Arrived}, until: r.now.Add(r.grace),
			})
		}
		f.conns, f.ended, f.word = nil, nil, nil
		r.regard(user)
	}
}

// expireElsewhere forgets whom silent nodes have lost for good, and reports whether
// there was anybody.
func (r *Room) expireElsewhere(user string) (any bool) {
	for _, f := range r.fars(user) {
		before := len(f.lost)
		f.lost = slices.DeleteFunc(f.lost, func(a awaited) bool { return a.isOver(r.now) })
		any = any || len(f.lost) < before
	}
	return any
}

// forgetOld forgets what need not be remembered any more of those who have left.
func (r *Room) forgetOld() {
	for _, user := range slices.Sorted(maps.Keys(r.traces)) {
		if t := r.traces[user]; !t.until.IsZero() && !r.now.Before(t.until) {
			t.until = time.Time{}
			r.keep(user)
		}
	}
}

// fars iterates over what other nodes tell of a user.
func (r *Room) fars(user string) func(func(*elsewhere, *far) bool) {
	return func(yield func(*elsewhere, *far) bool) {
		for _, e := range r.nodes {
			if f := e.people[user]; f != nil && !yield(e, f) {
				return
			}
		}
	}
}

// regard looks anew at a user of whom another node tells something else.
func (r *Room) regard(user string) {
	var before Participant
	p := r.users[user]
	if p == nil {
		p = &participant{user: user, lost: make(map[string]absence)}
	} else {
		before = r.show(p)
	}
	r.reckon(p)
	if p.isGone() {
		delete(r.users, user)
		if len(p.lost) > 0 {
			r.mustTell()
		}
	} else {
		r.users[user] = p
	}
	r.keep(user)
	r.weigh(p)
	var after Participant
	if !p.isGone() {
		after = r.show(p)
	}
	switch {
	case !same(before, after):
		r.teller.changed(r.now)
	case before.RoundTrip == after.RoundTrip:
	case notable(p.trip, after.RoundTrip):
		r.teller.changed(r.now)
	default:
		r.teller.fresh = false
	}
}

// same reports whether two say the same but for round trip times.
func same(a, b Participant) bool {
	a.RoundTrip = b.RoundTrip
	return a == b
}

// identifyShared makes the user what the connections to all nodes say. What became
// of them here may end a readiness that others know of.
func (r *Room) identifyShared(p *participant) {
	r.reckon(p)
	if !p.isGone() && !r.isParty(p.user, p.role) && r.word(p.user) != nil {
		r.say(p, nil)
	}
	r.keep(p.user)
	r.weigh(p)
}

// departShared takes note that a user has left because of what happened here. Who says
// so takes back what was said elsewhere, too, whether it was heard of or not.
func (r *Room) departShared(p *participant, said bool) {
	if w := r.word(p.user); said || w != nil && !r.isOwn(w, p.user) {
		r.say(p, nil)
	}
	if t := r.traces[p.user]; t != nil {
		t.until = r.now.Add(r.grace)
	}
	r.keep(p.user)
}

// isOwn reports whether this node keeps a word.
func (r *Room) isOwn(w *Word, user string) bool {
	t := r.traces[user]
	return t != nil && t.word == w
}

// reckon finds out which of a user's connections to all nodes are alive, and what
// follows.
func (r *Room) reckon(p *participant) {
	r.revive(p)
	newest := r.newest(p)
	p.conns = slices.DeleteFunc(p.conns, func(c *connection) bool {
		if !c.came.Before(newest[c.peer]) {
			return false
		}
		p.await(c.peer, absence{until: r.now.Add(r.grace), role: c.person.Role, came: c.came})
		r.beaten = append(r.beaten, c)
		r.mustTell()
		return true
	})
	for peer, a := range p.lost {
		a.dead = a.came.Before(newest[peer])
		p.lost[peer] = a
	}
	var since time.Time
	p.others, p.waited = nil, nil
	for _, f := range r.fars(p.user) {
		before := len(p.others) + len(p.waited)
		for _, c := range f.conns {
			if !c.Arrived.Before(newest[c.Peer]) {
				p.others = append(p.others, c)
			}
		}
		for _, a := range f.lost {
			if !a.Arrived.Before(newest[a.Peer]) && !a.isOver(r.now) {
				p.waited = append(p.waited, a)
			}
		}
		if len(p.others)+len(p.waited) > before {
			since = earlier(since, f.since)
		}
	}
	if p.isLocal() {
		since = earlier(since, p.since)
		if since.UnixMilli() != p.since.UnixMilli() {
			r.mustTell()
		}
	}
	if !p.isGone() {
		p.since = since
	}
	p.describe()
	r.describeShared(p)
}

// revive brings back connections that are open here while no other node has one of the
// same client any more, nor knows that it ended: then it was the other that was dead,
// and its stamp was later because of a clock.
func (r *Room) revive(p *participant) {
	r.beaten = slices.DeleteFunc(r.beaten, func(c *connection) bool {
		if c.person.User != p.user {
			return false
		}
		if c.away || slices.ContainsFunc(p.conns, func(newer *connection) bool { return newer.peer == c.peer }) {
			return true
		}
		if r.isClaimed(p.user, c) {
			return false
		}
		delete(p.lost, c.peer)
		if c.came.Before(r.newest(p)[c.peer]) {
			c.came = r.stamp() // the other node waits for it still
		}
		p.conns = append(p.conns, c)
		slices.SortStableFunc(p.conns, func(a, b *connection) int { return a.came.Compare(b.came) })
		r.mustTell()
		return true
	})
}

// isClaimed reports whether a client came later on another node, or ended.
func (r *Room) isClaimed(user string, c *connection) bool {
	if t := r.traces[user]; t != nil && c.came.Before(t.ended[c.peer]) {
		return true
	}
	for _, f := range r.fars(user) {
		if slices.ContainsFunc(f.conns, func(o Connected) bool { return o.Peer == c.peer && c.came.Before(o.Arrived) }) ||
			slices.ContainsFunc(f.ended, func(e Ended) bool { return e.Peer == c.peer && c.came.Before(e.At) }) {
			return true
		}
	}
	return false
}

// newest returns when the newest of each of a user's clients arrived, or ended.
func (r *Room) newest(p *participant) map[string]Stamp {
	newest := make(map[string]Stamp)
	note := func(peer string, s Stamp) { newest[peer] = latest(newest[peer], s) }
	for _, c := range p.conns {
		note(c.peer, c.came)
	}
	for peer, a := range p.lost {
		note(peer, a.came)
	}
	if t := r.traces[p.user]; t != nil {
		for peer, at := range t.ended {
			note(peer, at)
		}
	}
	for _, f := range r.fars(p.user) {
		for _, c := range f.conns {
			note(c.Peer, c.Arrived)
		}
		for _, a := range f.lost {
			note(a.Peer, a.Arrived)
		}
		for _, e := range f.ended {
			note(e.Peer, e.At)
		}
	}
	return newest
}

// describeShared adds to what the user is what connections to other nodes say.
func (r *Room) describeShared(p *participant) {
	for _, c := range p.others {
		p.role = stronger(p.role, c.Role)
	}
	for _, a := range p.waited {
		p.role = stronger(p.role, a.Role)
	}
	online, named := len(p.conns) > 0, p.named
	if online {
		named = p.conns[len(p.conns)-1].came
		p.named = named
	}
	for _, f := range r.fars(p.user) {
		if len(f.conns) > 0 && !online {
			online, named, p.name = true, f.named, f.name
		} else if (len(f.conns) > 0) == online && named.Before(f.named) {
			named, p.name = f.named, f.name
		}
	}
}

// word returns what the user is ready for by what was said on all nodes, nil if for
// nothing: the newest that was not taken back.
func (r *Room) word(user string) (newest *Word) {
	over := r.over(user)
	consider := func(w *Word) {
		if w != nil && !w.withdraws() && w.knows(over) && (newest == nil || newest.Said.Before(w.Said)) {
			newest = w
		}
	}
	if t := r.traces[user]; t != nil {
		consider(t.word)
	}
	for _, f := range r.fars(user) {
		consider(f.word)
	}
	return newest
}

// over returns the last word that is known to have taken something back: what was said
// without knowing of it does not count.
func (r *Room) over(user string) (over Stamp) {
	if t := r.traces[user]; t != nil {
		if over = t.over; t.word != nil {
			over = latest(over, t.word.mark())
		}
	}
	for _, f := range r.fars(user) {
		if f.word != nil {
			over = latest(over, f.word.mark())
		}
	}
	return over
}

// weigh makes a user ready, or not, by what was said on all nodes.
func (r *Room) weigh(p *participant) {
	w := r.word(p.user)
	if w == nil || !r.isParty(p.user, p.role) || !slices.Equal(w.Heads, r.subject.Heads()) {
		p.ready = nil
		return
	}
	p.ready, p.lapse = w.Heads, nil
}

// say keeps what a user says of being ready; nil takes back what was said before, also
// on other nodes, whether that was heard of or not.
func (r *Room) say(p *participant, heads []crdt.Hash) {
	t, over, was := r.trace(p.user), r.over(p.user), p.ready
	if was == nil && !r.isStored(t) {
		was = t.was
	}
	t.word, t.n, t.was = &Word{Said: r.stamp(), Heads: heads}, 0, nil
	if heads == nil {
		t.over, t.was = t.word.Said, was
	} else {
		t.word.Over = over
	}
	r.mustTell()
}

// end takes note that a client's connection is no more. Another node may have an older
// one, and not know that it is dead.
func (r *Room) end(user, peer string, at Stamp) {
	t := r.trace(user)
	if t.ended == nil {
		t.ended = make(map[string]Stamp)
	}
	if len(t.ended) >= maxLost {
		delete(t.ended, slices.MinFunc(slices.Sorted(maps.Keys(t.ended)), func(a, b string) int {
			return t.ended[a].Compare(t.ended[b])
		}))
	}
	t.ended[peer], t.until = latest(t.ended[peer], at), r.now.Add(r.grace)
	r.mustTell()
}

// endAll expects none of a user's clients back.
func (r *Room) endAll(p *participant) {
	for _, a := range p.waited { // and who has come again since, unknown to us, stays
		r.end(p.user, a.Peer, Stamp{Count: a.Arrived.Count + 1})
	}
}

// isToldOf reports whether another node tells of a client that arrived before.
func (r *Room) isToldOf(user, peer string, before Stamp) bool {
	for e, f := range r.fars(user) {
		if !e.silent && (slices.ContainsFunc(f.conns, func(c Connected) bool { return c.Peer == peer && c.Arrived.Before(before) }) ||
			slices.ContainsFunc(f.lost, func(a awaited) bool { return a.Peer == peer && a.Arrived.Before(before) })) {
			return true
		}
	}
	return false
}

// keep goes through what is remembered of a user: what need not be is forgotten, and
// what is better kept here is taken over.
func (r *Room) keep(user string) {
	p, over := r.users[user], r.over(user)
	t := r.traces[user]
	if t == nil {
		if p == nil || over == (Stamp{}) && r.word(user) == nil {
			return
		}
		t = r.trace(user)
	}
	if t.over = over; p == nil {
		t.over = Stamp{} // but for what is kept here
	}
	maps.DeleteFunc(t.ended, func(peer string, at Stamp) bool {
		if r.now.Before(t.until) || r.isToldOf(user, peer, at) {
			return false
		}
		r.mustTell()
		return true
	})
	if w := r.kept(t, p, user, over); w != t.word {
		t.word, t.n, t.was = w, 0, nil
		r.mustTell()
	}
	if p == nil && t.word == nil && len(t.ended) == 0 {
		delete(r.traces, user)
	}
}

// kept returns the word that is to be kept by this node.
func (r *Room) kept(t *trace, p *participant, user string, over Stamp) *Word {
	own := t.word
	if own != nil && !own.withdraws() && (p == nil || !own.knows(over)) {
		if own = nil; over != (Stamp{}) { // others may have to hear of that
			own = &Word{Said: over}
		}
	}
	if p != nil && len(p.conns) > 0 {
		own = r.takeOver(own, user)
	}
	if isNews := over != (Stamp{}) && (own == nil || own.withdraws() && own.Said.Before(over)); isNews && (r.contradicts(user, over) ||
		p != nil && len(p.conns) > 0 && !r.isKeptElsewhere(user, &Word{Said: over})) {
		own = &Word{Said: over} // who else knew of it is silent
	}
	switch {
	case own == nil || r.contradicts(user, own.mark()):
		return own
	case p == nil && (!own.withdraws() || !r.now.Before(t.until)):
		return nil
	case p == nil:
		return own
	case len(p.conns) == 0 && len(p.lost) == 0 && r.isKeptElsewhere(user, own):
		return nil
	}
	return own
}

// takeOver returns what to keep of a user who is connected here: what was said on a
// node to which the user has no connection any more goes with the user.
func (r *Room) takeOver(own *Word, user string) *Word {
	counts := r.word(user)
	for e, f := range r.fars(user) {
		w := f.word
		if w == nil || e.silent || len(f.conns) > 0 || own != nil && !own.Said.Before(w.Said) {
			continue
		}
		if w == counts || counts == nil && w.withdraws() {
			own = &Word{Said: w.Said, Heads: w.Heads, Over: w.Over}
		}
	}
	return own
}

// contradicts reports whether another node tells of a readiness that was taken back
// before mark, of which it does not know.
func (r *Room) contradicts(user string, mark Stamp) bool {
	for _, f := range r.fars(user) {
		if f.word != nil && !f.word.withdraws() && !f.word.knows(mark) {
			return true
		}
	}
	return false
}

// isKeptElsewhere reports whether another node tells the same, or what makes up for
// it.
func (r *Room) isKeptElsewhere(user string, own *Word) bool {
	for _, f := range r.fars(user) {
		switch w := f.word; {
		case w == nil:
		case own.withdraws() && !w.mark().Before(own.Said), !own.withdraws() && !w.Said.Before(own.Said):
			return true
		}
	}
	return false
}

// attendance is what this node tells, nil if there is nobody to tell of.
func (r *Room) attendance() *Attendance {
	a := &Attendance{}
	users := make(map[string]struct{}, len(r.users))
	for user := range r.users {
		users[user] = struct{}{}
	}
	for user := range r.traces {
		users[user] = struct{}{}
	}
	for _, user := range slices.Sorted(maps.Keys(users)) {
		if p := r.present(user); len(p.Conns) > 0 || len(p.Lost) > 0 || len(p.Ended) > 0 || p.Word != nil {
			a.People = append(a.People, p)
		}
	}
	if len(a.People) == 0 {
		return nil
	}
	return a
}

// present is what this node tells of a user.
func (r *Room) present(user string) Present {
	told := Present{User: user}
	if t := r.traces[user]; t != nil {
		told.Word = t.word
		for _, peer := range slices.Sorted(maps.Keys(t.ended)) {
			told.Ended = append(told.Ended, Ended{Peer: peer, At: t.ended[peer]})
		}
	}
	p := r.users[user]
	if p == nil || len(p.conns) == 0 && len(p.lost) == 0 {
		return told
	}
	told.Name, told.Named, told.Since = p.name, p.named, p.since.UnixMilli()
	for _, c := range p.conns {
		told.Name, told.Named = c.person.Name, c.came
		told.Conns = append(told.Conns, Connected{
			Peer: c.peer, Role: c.person.Role, Arrived: c.came, Focus: c.focus, Focused: c.moved, RoundTrip: c.trip,
		})
	}
	p.outside = p.nearTrip()
	for _, peer := range slices.Sorted(maps.Keys(p.lost)) {
		a := p.lost[peer]
		told.Lost = append(told.Lost, Awaited{Peer: peer, Role: a.role, Arrived: a.came, Left: a.until.Sub(r.now)})
	}
	slices.SortStableFunc(told.Lost, func(a, b Awaited) int { return cmp.Compare(a.Peer, b.Peer) })
	return told
}
