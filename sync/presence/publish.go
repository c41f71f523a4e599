package presence

import (
	"slices"
	"time"
)

// publishWithin is how soon other nodes hear of what may wait: where somebody looks,
// and round trip times.
const publishWithin = 200 * time.Millisecond

// publisher tells other nodes of those who are here through this one. One Publish is
// on its way at a time.
type publisher struct {
	asked  uint64 // the newest Publish
	acked  uint64 // the newest on which nobody counts any more, or which is stored
	stored uint64
	cut    bool // acked is not stored: this node's lease has run out
	some   bool // asked told of somebody

	// Told after stored: while one of these is true, what is so here may be unknown
	// to others, who might agree against it. Nobody is told a roster meanwhile.
	must    bool   // something is not in asked that others must know
	mustAck uint64 // the newest Publish that was made for such a thing

	later time.Time // when to publish what may wait; zero: there is nothing
	draft *draft    // how it stood when the newest Publish was made
	told  *Roster   // the last that somebody saw
}

// draft is a roster that may be told when Publish n is stored.
type draft struct {
	n      uint64
	roster *Roster
}

// mustTell takes note of something that others must know before anybody is told it.
func (r *Room) mustTell() {
	if r.shared() {
		r.publisher.must = true
	}
}

// mayWait takes note of something that others should hear some time soon.
func (r *Room) mayWait() {
	if r.shared() && r.publisher.later.IsZero() {
		r.publisher.later = r.now.Add(publishWithin)
	}
}

// isHeldBack reports whether rosters wait for a Publish.
func (r *Room) isHeldBack() bool { return r.publisher.must || r.publisher.mustAck > r.publisher.acked }

// mayPublish reports whether something may be published now: nothing is on its way, nor
// a resolution, which could rest on what this takes back. Without a lease none gets
// there.
func (r *Room) mayPublish() bool {
	p := &r.publisher
	return p.asked == p.acked && (r.sealing == nil || p.cut)
}

// nextPublish is when to publish what may wait, zero if never, or not for now.
func (r *Room) nextPublish() time.Time {
	if !r.mayPublish() {
		return time.Time{}
	}
	return r.publisher.later
}

// publish asks for what is new to be stored.
func (r *Room) publish(out []Output) []Output {
	p := &r.publisher
	late := !p.later.IsZero() && !r.now.Before(p.later)
	if !r.shared() || !r.mayPublish() || !p.must && !late {
		return out
	}
	a := r.attendance()
	must := p.must
	p.must, p.later = false, time.Time{}
	if a == nil && !p.some {
		return out // as before
	}
	p.asked++
	if must {
		p.mustAck = p.asked
		r.prepare()
	}
	p.some = a != nil
	for _, t := range r.traces {
		if t.n == 0 {
			t.n = p.asked
		}
	}
	return append(out, Publish{N: p.asked, Attendance: a})
}

// prepare keeps the roster as it is, if one is due: when it may be told, something
// else may have happened that may not.
func (r *Room) prepare() {
	next := r.nextBroadcast()
	if r.publisher.draft = nil; !next.IsZero() && !r.now.Before(next) && r.subject.Known() {
		r.publisher.draft = &draft{r.publisher.asked, r.roster()}
	}
}

// published takes note of what is stored. If all that is new is not, at least what was
// so when it was asked for can be told.
func (r *Room) published(in Published, out []Output) []Output {
	if !r.shared() {
		return out
	}
	p := &r.publisher
	n := min(in.N, p.asked)
	p.acked = max(p.acked, n)
	if p.cut != in.Unstored {
		p.cut = in.Unstored
		r.teller.changed(r.now) // what was not told may be
	}
	if in.Unstored {
		p.draft = nil
		return out
	}
	p.stored = max(p.stored, n)
	d := p.draft
	if d == nil || n < d.n {
		return out
	}
	p.draft = nil
	if !r.isHeldBack() || r.now.Before(r.nextBroadcast()) || !slices.Equal(d.roster.Heads, r.subject.Heads()) {
		return out
	}
	p.told, r.teller.last = d.roster, r.now
	return append(out, Send{Data: d.roster.Encode()})
}

// forgotten publishes all again. Nobody else counts on a readiness that was stored
// before: they have taken this node for silent, or know nothing of it any more.
func (r *Room) forgotten() {
	if !r.shared() {
		return
	}
	p := &r.publisher
	p.must, p.some, p.acked, p.draft = true, true, p.asked, nil
	for user, t := range r.traces {
		if t.word == nil || t.word.withdraws() || !r.isStored(t) {
			continue
		}
		if t.word = nil; t.over != (Stamp{}) {
			t.word, t.n = &Word{Said: t.over}, 0
		}
		if u := r.users[user]; u != nil {
			r.weigh(u)
		}
	}
	r.teller.changed(r.now)
}

// hides reports whether a user is shown ready who is not: what took it back is not
// stored, and others may count on what it took back.
func (r *Room) hides(p *participant) bool {
	t := r.traces[p.user]
	return r.publisher.cut && t != nil && t.was != nil && !r.isStored(t) && slices.Equal(t.was, r.subject.Heads())
}

// isStored reports whether others know of the word that is kept.
func (r *Room) isStored(t *trace) bool { return t.n != 0 && t.n <= r.publisher.stored }

// seen takes note that somebody sees a roster.
func (r *Room) seen(roster *Roster) {
	if r.shared() {
		r.publisher.told = roster
	}
}

// lastTold is the last roster that somebody saw, without anybody if there was none.
func (r *Room) lastTold() *Roster {
	if r.publisher.told != nil {
		return r.publisher.told
	}
	roster := r.roster()
	roster.Participants = nil
	return roster
}
