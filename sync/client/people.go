package client

import (
	"slices"

	"parley/crdt"
	"parley/sync/presence"
)

const (
	// maxLapses and maxResolutions are how many a view holds.
	maxLapses      = 100
	maxResolutions = 100
)

// Lapse is a confirmation that a change undid.
type Lapse struct {
	N    int    // counts from 1 since the client was opened
	User string // whose it was
	// Because is the change. Its zero value says that it is not known: we were
	// away, and it has not come yet.
	Because presence.Cause
}

// people is what the keeper knows of who is here, and what our user wants of
// them. It says nothing itself: next is called when the connection has room.
type people struct {
	user   string // ours
	roster *presence.Roster
	lapses []Lapse
	lapsed int // so far

	resolutions []presence.Resolution

	ready      readiness
	taken      bool   // what was said was taken back, and the server may not know yet
	sayUnready bool   // it is to be told, on this connection
	field      string // where our user is
	sayField   bool
}

// begin starts a conversation, which the server knows nothing of.
func (p *people) begin() {
	p.sayField, p.sayUnready = p.field != "", p.taken
	p.ready.asked, p.ready.say, p.ready.shown = false, false, false
}

// next returns the message that the server should have now, nil if there is none.
func (p *people) next() []byte {
	switch {
	case p.sayUnready:
		p.sayUnready = false
		return presence.Encode(presence.Unready{})
	case p.ready.say:
		p.ready.say, p.ready.said = false, true
		return presence.Encode(presence.Ready{Heads: p.ready.heads})
	case p.sayField:
		p.sayField = false
		return presence.Encode(presence.Focus{Field: p.field})
	}
	return nil
}

// show adds what is known to a view.
func (p *people) show(v *View) {
	v.Roster = p.roster
	v.Lapses, v.Resolutions = slices.Clone(p.lapses), slices.Clone(p.resolutions)
	v.Ready, v.TakenBack = nil, false
	if p.taken && p.roster != nil {
		me, here := p.me()
		v.TakenBack = here && me.Ready
	}
	if p.ready.confirmed {
		v.Ready = p.ready.heads
	}
}

// me is our user in the roster.
func (p *people) me() (presence.Participant, bool) {
	i := slices.IndexFunc(p.roster.Participants, func(other presence.Participant) bool { return other.User == p.user })
	if i < 0 {
		return presence.Participant{}, false
	}
	return p.roster.Participants[i], true
}

func (p *people) noteLapse(user string, because presence.Cause) {
	for _, l := range p.lapses {
		if l.User == user && l.Because.Change == because.Change && because.Change != (crdt.Hash{}) {
			return // found out by ourselves before the server said it
		}
	}
	p.lapsed++
	p.lapses = append(p.lapses, Lapse{N: p.lapsed, User: user, Because: because})
	if len(p.lapses) > maxLapses {
		p.lapses = slices.Delete(p.lapses, 0, 1)
	}
}

// noteResolution takes note of one, which may have been told before.
func (p *people) noteResolution(r presence.Resolution) {
	if slices.ContainsFunc(p.resolutions, func(known presence.Resolution) bool { return known.N >= r.N }) {
		return
	}
	p.resolutions = append(p.resolutions, r)
	if len(p.resolutions) > maxResolutions {
		p.resolutions = slices.Delete(p.resolutions, 0, 1)
	}
}

// takeRoster takes note of who is here.
func (k *keeper) takeRoster(r *presence.Roster) {
	p := &k.people
	p.roster = r
	if r.Resolution != nil {
		p.noteResolution(*r.Resolution)
	}
	k.checkReady()
}

// takeLapse takes note of somebody's lapse.
func (k *keeper) takeLapse(l *presence.Lapsed) {
	k.people.noteLapse(l.User, l.Because)
	if l.User == k.people.user && !k.confirmedSince(l.Because.Change) {
		k.people.taken = false // there is nothing left to take back
		k.people.ready.end(&NotReadyError{Code: CodeLapsed, Message: "a change undid it", Because: &l.Because})
	}
}
