package presence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Why a ready, or any message, is refused.
const (
	CodeNotAParty  crdt.Code = "not-a-party"
	CodeStale      crdt.Code = "stale"
	CodeContested  crdt.Code = "contested"
	CodeIncomplete crdt.Code = "incomplete"
	CodeBadMessage crdt.Code = "bad-message"
)

// CodeSealed refuses a change after an agreement that the transaction's policy
// locks.
const CodeSealed crdt.Code = "sealed"

// SealedSentence says in words what a change with CodeSealed has wrong.
const SealedSentence = "the parties have agreed, and this transaction is locked by that: a host can open it again by setting its policy to reopen"

const (
	// hopeFor is how long a ready may be for what is not on disk yet: who picks and
	// confirms in one go is heard before the pick is written, or has even come.
	hopeFor = time.Second
	// maxHopes is how many heads such a ready may name.
	maxHopes = 64
)

// fulfil answers those whose ready was for what was not on disk yet.
func (r *Room) fulfil(now time.Time, out []Output) []Output {
	for _, conn := range slices.Sorted(maps.Keys(r.conns)) {
		if c := r.conns[conn]; c.hopes != nil {
			out = r.ready(now, c, c.hopes, out)
		}
	}
	return out
}

// hope reports whether a ready that is refused now may be good in a moment. It is
// kept until then.
func (r *Room) hope(now time.Time, c *connection, heads []crdt.Hash, code crdt.Code) bool {
	hoped := c.hopes
	c.hopes = nil
	if code != CodeStale || len(heads) > maxHopes || r.subject.Past(heads) {
		return false
	}
	if !slices.Equal(hoped, heads) {
		c.hopesTill = now.Add(hopeFor)
	}
	if !now.Before(c.hopesTill) {
		return false
	}
	c.hopes = heads
	return true
}

// ready makes a user ready for exactly heads, or says why not.
func (r *Room) ready(now time.Time, c *connection, heads []crdt.Hash, out []Output) []Output {
	refusal := r.checkReady(c.person, heads)
	if refusal != nil && r.hope(now, c, heads, refusal.Code) {
		return out
	}
	c.hopes = nil
	if refusal != nil {
		refusal.Of, refusal.Heads = typeReady, heads
		return append(out, Send{To: c.conn, Data: refusal.Encode()})
	}
	p := r.holder(c)
	if p == nil {
		return out // replaced by a newer connection
	}
	already := slices.Equal(p.ready, heads)
	if r.shared() && !(already && r.isOwn(r.word(p.user), p.user)) {
		r.say(p, heads) // a word that another node keeps may be lost with it
	}
	if already {
		return out
	}
	p.ready, p.lapse = heads, nil
	r.teller.changed(now)
	return out
}

// unready takes a user's readiness back.
func (r *Room) unready(p *participant) {
	if r.shared() {
		r.say(p, nil)
	}
	if p.ready != nil {
		p.ready = nil
		r.teller.changed(r.now)
	}
}

// checkReady returns nil if a person may be ready for heads now.
func (r *Room) checkReady(who Person, heads []crdt.Hash) *Rejected {
	if !r.isParty(who.User, who.Role) {
		return &Rejected{Code: CodeNotAParty, Message: notAParty(who)}
	}
	// What was accepted and is not on disk yet nobody has seen.
	if !slices.Equal(heads, r.subject.Heads()) || !r.subject.Settled() {
		return &Rejected{Code: CodeStale, Message: "the transaction has changed since: look at it as it is now, and confirm that"}
	}
	if fields := r.subject.Contested(); len(fields) > 0 {
		return &Rejected{Code: CodeContested, Fields: fields, Message: "several values are picked for " + some(fields) + ": pick one of them first"}
	}
	if fields := r.subject.Missing(); len(fields) > 0 {
		return &Rejected{Code: CodeIncomplete, Fields: fields, Message: "nothing is picked for " + some(fields) + ": pick a value first"}
	}
	return nil
}

// isParty reports whether somebody's readiness is asked for: a party's, and a
// host's who was named as one.
func (r *Room) isParty(user string, role transaction.Role) bool {
	return user != "" && (role == transaction.Party || role == transaction.Host && slices.Contains(r.settings.Parties, user))
}

func notAParty(who Person) string {
	if who.User == "" {
		return "only parties confirm: say who you are"
	}
	return fmt.Sprintf("only parties confirm, and you are here as %s", who.Role)
}

// some names a few of many.
func some(names []string) string {
	const most = 5
	quoted := make([]string, 0, most)
	for _, name := range names[:min(most, len(names))] {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(quoted, ", "), more)
	}
	return strings.Join(quoted, ", ")
}

// lapse ends every readiness for what is no more, and tells everyone why.
func (r *Room) lapse(because Cause, out []Output) []Output {
	heads := r.subject.Heads()
	for _, user := range slices.Sorted(maps.Keys(r.users)) {
		p := r.users[user]
		before := p.ready
		if r.shared() {
			r.weigh(p)
		} else if !slices.Equal(p.ready, heads) {
			p.ready = nil
		}
		if before == nil || p.ready != nil {
			continue
		}
		p.lapse = &because
		r.census.Lapses++
		out = append(out, Send{Data: (&Lapsed{User: user, Because: because}).Encode()})
	}
	return out
}

// needed returns the users of whom quorum must be ready: those named, or the
// parties present.
func (r *Room) needed() (users []string, quorum int) {
	quorum = r.settings.Quorum
	if len(r.settings.Parties) > 0 {
		users = r.settings.Parties
		if quorum == 0 {
			quorum = len(users)
		}
		return users, quorum
	}
	for user, p := range r.users {
		if r.isParty(user, p.role) {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	if quorum == 0 {
		quorum = max(leastParties, len(users))
	}
	return users, quorum
}

// resolve asks for a resolution when all who must are ready for what is on disk,
// and nothing else is on its way there.
func (r *Room) resolve(now time.Time, out []Output) []Output {
	if r.sealing != nil || r.setting > 0 || r.learning || r.draining || !r.AnyReady() {
		return out
	}
	heads := r.subject.Heads()
	if r.resolution.Over(heads) || !r.subject.Settled() || r.isInTheDark() {
		return out
	}
	users, quorum := r.needed()
	var ready []string
	for _, user := range users {
		if p := r.users[user]; p != nil && p.ready != nil && slices.Equal(p.ready, heads) {
			ready = append(ready, user)
		}
	}
	if len(ready) < quorum {
		return out
	}
	r.sealing = &Resolution{
		N: r.resolutions + 1, Heads: slices.Clone(heads), Parties: ready, Quorum: quorum, At: now.UnixMilli(),
	}
	return append(out, Resolve{Resolution: *r.sealing, Relies: r.Relies()})
}

// resolved tells everyone of a resolution that is on disk.
func (r *Room) resolved(now time.Time, checkpoint string, out []Output) []Output {
	if r.sealing == nil {
		return out
	}
	ours := r.sealing
	ours.Checkpoint, r.sealing = checkpoint, nil
	return r.agreed(now, ours, out)
}

// agreed makes a resolution that is on disk the newest.
func (r *Room) agreed(now time.Time, resolution *Resolution, out []Output) []Output {
	r.resolution = resolution
	r.resolutions++
	r.teller.changed(now)
	return append(out, Send{Data: (&Resolved{*resolution}).Encode()})
}
