package sim

import (
	"cmp"
	"math"
	"slices"
	"time"

	"parley/crdt/transaction"
	"parley/sync/presence"
)

const (
	// maxRounds and maxFrames bound what is said until all is quiet: frames for each
	// copy of a document.
	maxRounds = 3000
	maxFrames = 1500
	// patience is longer than anything in the machines waits.
	patience = 2 * time.Minute
)

// end lets all faults be over, and checks what must be so then; then everybody
// agrees on everything; then one stays away; then all leave and come back to what the
// disk has.
func (w *world) end() {
	w.source.Seed(w.plan.seed, uint64(numKinds))
	w.trace.say("all faults are over")
	w.settle()
	w.verify()
	w.trace.say("all agree")
	w.agree()
	w.verify()
	w.trace.say("one stays away")
	w.stayAway(w.clients[w.dice.IntN(len(w.clients))])
	w.verify()
	w.trace.say("all leave, and come back")
	w.comeBack()
	w.verify()
}

// settle repairs everything and waits until nothing more happens.
func (w *world) settle() {
	w.disk.full, w.disk.room = false, math.MaxInt
	frames := w.model.counts.frames
	end := w.now.Add(patience)
	for rounds := 0; ; rounds++ {
		w.repair()
		if !w.round(false) && !w.sleep(end) {
			break
		}
		w.tick()
		w.must(rounds < maxRounds && w.model.counts.frames-frames < maxFrames*len(w.clients)*len(w.plan.topics),
			"endless", "it does not end in %d rounds and %d frames", rounds, w.model.counts.frames-frames)
	}
}

// repair ends all links that are broken, and connects everybody.
func (w *world) repair() {
	for _, l := range w.links {
		if l.up.dead || l.down.dead || l.conn.gone {
			l.notice()
			l.conn.leave()
		}
	}
	w.forgetLinks()
	for _, c := range w.clients {
		c.connect()
	}
}

// sleep lets time pass until a document wants to be woken, if that is before end.
func (w *world) sleep(end time.Time) bool {
	var wake time.Time
	for _, d := range w.server.documents() {
		if d.machine == nil {
			continue
		}
		if at := d.machine.Wake(); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	if wake.IsZero() || wake.After(end) {
		return false
	}
	if wake.After(w.now) {
		w.now = wake
	}
	return true
}

// verify checks what must be so when nothing more happens.
func (w *world) verify() {
	for _, d := range w.server.documents() {
		w.must(d.machine != nil && d.machine.Settled() && d.machine.Wake().IsZero() && len(d.inbox) == 0, "quiet", "%s is not", d.topic.name)
		w.must(d.machine.Peers() == len(d.here) && len(d.here) == len(d.conns), "memory", "%s has %d peers, of %d", d.topic.name, d.machine.Peers(), len(d.here))
		w.model.durable(d, d.machine.Graph().Len())
		w.must(d.checked == len(w.disk.docs[d.topic].rows), "receipts", "%s has %d changes in memory and %d on disk", d.topic.name, d.checked, len(w.disk.docs[d.topic].rows))
	}
	for _, c := range w.server.list() {
		w.must(len(c.out.frames)+len(c.out.waiting)+len(c.writing) == 0 && !c.out.ended, "quiet", "conn %d is not", c.id)
		w.must(c.held == 0, "held bytes", "%d are kept for conn %d", c.held, c.id)
	}
	for _, c := range w.clients {
		for _, r := range c.replicas {
			if c.link != nil {
				w.verifyReplica(r)
			}
		}
	}
	for i := range w.plan.topics {
		if t := &w.plan.topics[i]; !t.plain() {
			w.verifyRoster(t)
		}
	}
}

// verifyReplica: a copy has all that is on disk, and nothing besides but what its
// user was told is refused.
func (w *world) verifyReplica(r *replica) {
	s := w.disk.docs[r.topic]
	w.must(r.opened, "open", "%s is not", r)
	for _, row := range s.rows {
		w.must(r.graph.Has(row.hash), "diverged", "%s lacks %s", r, w.model.changes[row.hash].name)
	}
	for _, h := range r.acked {
		w.must(s.has(h), "lost", "%s of %s was acknowledged, and is not on disk", w.model.changes[h].name, r)
	}
	for _, h := range r.graph.Heads() {
		_, refused := r.refused[h]
		w.must(s.has(h) || refused, "not stored", "%s of %s: nobody was told why", w.model.changes[h].name, r)
	}
	if r.c.store && len(s.rows) > 0 {
		w.must(slices.Equal(r.safe, s.heads(w.model)), "remote heads", "%s was told that %s is stored, where %s is", r, w.model.names(r.safe), w.model.names(s.heads(w.model)))
	}
	if r.tx != nil && r.inStep() {
		for _, field := range fields {
			picks := w.model.picksOf(r.topic, r.graph.Heads(), field)
			sel, _ := r.tx.Selection(field)
			same := len(sel.Picks) == len(picks)
			for _, p := range sel.Picks {
				same = same && slices.ContainsFunc(picks, func(c *made) bool { return c.change.Hash == p.Change })
			}
			w.must(same, "selection", "%s has %d picks of %s, of %d", r, len(sel.Picks), field, len(picks))
		}
	}
}

// inStep reports whether a copy has nothing but what is on disk.
func (r *replica) inStep() bool {
	s := r.c.w.disk.docs[r.topic]
	return r.graph.Len() > 0 && r.graph.Len() == len(s.rows) && slices.Equal(r.graph.Heads(), s.heads(r.c.w.model))
}

// parties are the clients of those who must agree, with a copy that is in step.
func (w *world) parties(t *topic) (list []*replica) {
	for _, c := range w.clients {
		for _, r := range c.replicas {
			if r.topic == t && c.role == transaction.Party && r.opened && r.inStep() {
				list = append(list, r)
			}
		}
	}
	return list
}

// stayAway cuts one off who does not come back.
func (w *world) stayAway(c *client) {
	if c.link != nil {
		c.link.conn.leave()
		c.lose()
	}
	c.asleep = true
	w.settle()
}

// agree makes all confirm everything that can be, and checks what comes of it.
func (w *world) agree() {
	for i := range w.plan.topics {
		t := &w.plan.topics[i]
		s := w.disk.docs[t]
		parties := w.parties(t)
		if t.plain() || s.locked || len(parties) == 0 {
			continue
		}
		contested, missing := w.model.open(t, s.heads(w.model))
		for _, field := range slices.Concat(contested, missing) {
			parties[0].pickAs(parties[0].c.user, field, "")
		}
		w.settle()
		for _, r := range w.parties(t) {
			r.confirm()
		}
		w.settle()
		w.verifyAgreement(t)
	}
}

// verifyAgreement: whoever has confirmed what is there is ready, and if these are
// enough, they have agreed.
func (w *world) verifyAgreement(t *topic) {
	s := w.disk.docs[t]
	heads := s.heads(w.model)
	contested, missing := w.model.open(t, heads)
	if len(contested)+len(missing) > 0 {
		return // nobody is left who could have picked
	}
	ready := make(map[string]bool)
	for _, r := range w.parties(t) {
		ready[r.c.user] = true
	}
	for _, r := range w.parties(t) {
		for _, p := range r.roster.Participants {
			w.must(p.Ready || !ready[p.User], "ready", "%s is not, to %s", p.User, r)
		}
	}
	needed := s.settings.Parties
	if len(needed) == 0 {
		needed = w.usersAs(t, transaction.Party)
	}
	agreed := 0
	for _, user := range needed {
		if ready[user] {
			agreed++
		}
	}
	enough := cmp.Or(s.settings.Quorum, max(leastQuorum(s.settings), len(needed)))
	w.must(agreed < enough || s.resolved(heads), "no resolution", "of %s, with %d ready of %d", t.name, agreed, enough)
}

// usersAs returns the users who are there in a role, sorted.
func (w *world) usersAs(t *topic, role transaction.Role) (list []string) {
	for _, c := range w.clients {
		if c.role == role && c.link != nil && !c.on(t).gone {
			list = append(list, c.user)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (c *client) on(t *topic) *replica {
	for _, r := range c.replicas {
		if r.topic == t {
			return r
		}
	}
	panic("sim: no copy of " + t.name)
}

// verifyRoster: everybody was told who is there, and how it stands.
func (w *world) verifyRoster(t *topic) {
	s := w.disk.docs[t]
	if len(s.rows) == 0 {
		return
	}
	heads := s.heads(w.model)
	connections := make(map[string]int)
	for _, c := range w.clients {
		if c.link != nil && !c.on(t).gone {
			connections[c.user]++
		}
	}
	var first *presence.Roster
	for _, c := range w.clients {
		if c.link == nil {
			continue
		}
		r := c.on(t).roster
		w.must(r != nil, "roster", "%s has none of %s", c, t.name)
		if first == nil {
			first = r
		}
		w.must(slices.Equal(r.Heads, heads), "roster", "%s was told of %s, where %s is on disk", c, w.model.names(r.Heads), w.model.names(heads))
		w.must(r.Policy == s.settings.Policy, "roster", "%s was told of policy %s", c, r.Policy)
		w.must((r.Resolution != nil) == s.resolved(heads), "roster", "%s was told of resolution %v", c, r.Resolution)
		w.must(len(r.Participants) == len(connections), "roster", "%s was told of %d of %d users in %s", c, len(r.Participants), len(connections), t.name)
		for i, p := range r.Participants {
			w.must(p.State == presence.Online && p.Connections == connections[p.User], "roster", "%s was told that %s is %s on %d connections, of %d",
				c, p.User, p.State, p.Connections, connections[p.User])
			q := first.Participants[i]
			w.must(p.Ready == q.Ready && p.Focus == q.Focus && p.Since == q.Since, "roster", "%s was told something else of %s", c, p.User)
		}
	}
}

// comeBack lets all leave, waits until memory is empty, and connects them again.
func (w *world) comeBack() {
	for _, c := range w.clients {
		c.asleep = false
		if c.link != nil {
			c.link.conn.leave()
			c.lose()
		}
	}
	for range 5 {
		w.now = w.now.Add(w.plan.grace + idleAfter)
		w.tick()
		w.server.sweep()
		for _, d := range w.server.documents() {
			d.run()
		}
	}
	w.must(len(w.server.documents()) == 0, "memory", "%d documents stay in it", len(w.server.documents()))
	w.settle()
}
