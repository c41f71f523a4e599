package presence

import (
	"maps"
	"slices"
	"time"
)

const (
	// tellEvery is the least time between two rosters to everybody, or between
	// two that one client asks for.
	tellEvery = 100 * time.Millisecond
	// crowd is for how many participants rosters are told that often; for twice as
	// many half as often, and so on: each is as long as there are people, and goes
	// to as many.
	crowd = 50
	// settleWithin is how long a roster may wait for the disk: what is contested
	// is costly to tell as of earlier heads, and who has taken back a confirmation
	// that is in an agreement should hear of that first.
	settleWithin = time.Second
)

// teller decides when everybody is told the roster. The zero value has told it.
type teller struct {
	rev   uint64
	fresh bool      // rev has been given to a roster
	since time.Time // when there was first something to tell; zero: all was told
	last  time.Time // when everybody was last told
}

// changed notes that the roster is not what it was.
func (t *teller) changed(now time.Time) {
	if t.since.IsZero() {
		t.since = now
	}
	t.fresh = false
}

// pause is the least time between two rosters to everybody.
func (r *Room) pause() time.Duration {
	return tellEvery * time.Duration(max(1, len(r.users)/crowd))
}

// nextBroadcast is when everybody is due a roster, zero if nobody is.
func (r *Room) nextBroadcast() time.Time {
	if r.teller.since.IsZero() {
		return time.Time{}
	}
	wake := r.teller.last.Add(r.pause())
	if !r.subject.Settled() || r.Sealing() {
		wake = later(wake, r.teller.since.Add(settleWithin))
	}
	return wake
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tell sends the roster to everybody if that is due, and else to those who have
// only now come or asked.
func (r *Room) tell(now time.Time, out []Output) []Output {
	if r.isHeldBack() {
		return out
	}
	if next := r.nextBroadcast(); !next.IsZero() && !now.Before(next) {
		return r.tellAll(now, out)
	}
	var asked []Conn
	for conn, c := range r.conns {
		if c.wants && !now.Before(c.told.Add(tellEvery)) {
			asked = append(asked, conn)
		}
	}
	if len(asked) == 0 {
		return out
	}
	slices.Sort(asked)
	data := r.roster().Encode()
	for _, conn := range asked {
		c := r.conns[conn]
		c.wants, c.told = false, now
		out = append(out, Send{To: conn, Data: data})
	}
	return out
}

func (r *Room) tellAll(now time.Time, out []Output) []Output {
	r.teller.since, r.teller.last = time.Time{}, now
	for _, c := range r.conns {
		c.wants, c.told = false, now
	}
	for _, p := range r.users {
		p.trip = p.roundTrip()
	}
	roster := r.roster()
	r.seen(roster)
	return append(out, Send{Data: roster.Encode()})
}

// roster is how it stands.
func (r *Room) roster() *Roster {
	if !r.teller.fresh {
		r.teller.rev++
		r.teller.fresh = true
	}
	roster := &Roster{
		Rev: r.teller.rev, Heads: r.subject.Heads(), Policy: r.settings.Policy,
		Contested: r.subject.Contested(), Missing: r.subject.Missing(), Stalled: r.stalled,
	}
	roster.Needed, roster.Quorum = r.needed()
	if r.resolution.Over(roster.Heads) {
		roster.Resolution = r.resolution
	}
	for _, user := range slices.Sorted(maps.Keys(r.users)) {
		roster.Participants = append(roster.Participants, r.show(r.users[user]))
	}
	return roster
}

func (r *Room) show(p *participant) Participant {
	state := Online
	if !p.isOnline() {
		state = Reconnecting
	}
	return Participant{
		User: p.user, Name: p.name, Role: p.role, State: state, Connections: len(p.conns) + len(p.others),
		Ready: p.ready != nil || r.hides(p), Focus: p.focus(), Since: p.since.UnixMilli(), RoundTrip: p.roundTrip(), Lapsed: p.lapse,
	}
}

// Roster returns how it stands, for those who ask otherwise than by message.
// What may not be told yet is not in it.
func (r *Room) Roster() *Roster {
	if r.isHeldBack() {
		return r.lastTold()
	}
	roster := r.roster()
	r.seen(roster)
	return roster
}
