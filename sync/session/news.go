package session

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"parley/crdt"
	"parley/sync/presence"
)

// News is what another process has appended to the document on disk, behind all
// that is durable here.
type News struct {
	Changes []StoredChange
	// Settings are the newest, nil if they are the same.
	Settings    *presence.Settings
	Resolutions []presence.Resolution
	// Overtaken says that nothing got to the disk that was on its way there: it was
	// built on less than there is. Without it nothing may be on its way.
	Overtaken bool
}

// StoredChange is one change and who delivered it first.
type StoredChange struct {
	Change *crdt.Change
	User   string
}

// takenBack is a change that was accepted here and is to be checked anew.
type takenBack struct {
	chunk []byte
	Delivery
}

// Learn takes news. What was overtaken by them is checked again, as if it had come
// after them, and asked to be committed again. An error says that the news do not
// follow on what is here: the document must be dropped.
func (d *Document) Learn(now time.Time, news *News, out []Output) ([]Output, error) {
	var own []takenBack
	switch {
	case news.Overtaken:
		own = d.takeBack()
	case !d.Settled() || d.sealing != nil:
		return out, errors.New("learn of changes: others of this server's are on their way to the disk")
	}
	d.learning = true
	out = d.inRoom(now, presence.Learning{}, out)
	var ready []admission
	for _, s := range news.Changes {
		if err := d.doc.AddStored(s.Change); err != nil {
			return out, fmt.Errorf("learn of changes: %w", err)
		}
		d.accepted(s.Change, Delivery{User: s.User, At: now})
		var freed []admission
		freed, out = d.release(s.Change.Hash, out)
		ready = append(ready, freed...)
	}
	durable := d.Graph().Len()
	out = d.durable(now, durable, out)
	if news.Settings != nil {
		d.settings = *news.Settings
		out = d.inRoom(now, presence.Set{Settings: d.settings}, out)
	}
	for _, r := range news.Resolutions {
		d.resolutions = append(d.resolutions, r)
		out = d.inRoom(now, presence.Agreed{Resolution: r}, out)
	}
	d.learning = false
	out = d.inRoom(now, presence.Learned{}, out)
	if news.Overtaken { // after all else: until then the room asks for nothing
		d.sealing, d.coming = nil, 0
		out = d.inRoom(now, presence.Overtaken{}, out)
		out = d.unsealed(out)
	}
	for _, t := range own {
		out = d.readmit(now, t, out)
	}
	for _, a := range ready {
		out = d.admit(now, a.peer, Decoded{Change: a.change}, out)
	}
	if n := d.Graph().Len(); n > durable {
		out = append(out, Commit{durable, n})
	}
	out = d.tellRefusals(out)
	return d.wakeWaiting(now, out), nil
}

// takeBack makes the document what it is on disk, as far as that is known, and
// returns what was on its way there.
func (d *Document) takeBack() (own []takenBack) {
	durable := d.Graph().Durable()
	for i, chunk := range d.doc.TakeBack() {
		own = append(own, takenBack{chunk, d.unkept[i]})
	}
	d.users, d.unkept = d.users[:durable], nil
	if len(own) > 0 {
		d.matter = matter{}
		d.matter.recognise(d)
	}
	for _, p := range d.order {
		for i := range p.waiting { // for changes that will stand elsewhere
			p.waiting[i].upTo = math.MaxInt
		}
	}
	return own
}

// readmit passes a change through the gate that passed it before.
func (d *Document) readmit(now time.Time, t takenBack, out []Output) []Output {
	c, err := crdt.DecodeChange(t.chunk, d.cfg.Limits.Change)
	if err != nil {
		return out // it passed before
	}
	from, p := Peer{Person: presence.Person{User: t.User, Role: t.Role}}, d.peers[t.conn]
	if p != nil {
		from = p.Peer
	}
	result := d.doc.AddIf(c, func(c *crdt.Change) *crdt.Refusal { return d.matter.check(d, c, from) })
	switch {
	case result.Status == crdt.Accepted:
		d.accepted(c, t.Delivery)
		var ready []admission
		ready, out = d.release(c.Hash, out)
		for _, a := range ready {
			out = d.admit(now, a.peer, Decoded{Change: a.change}, out)
		}
	case p == nil: // its client brings it again
	case result.Status == crdt.Held:
		return d.hold(heldChange{peer: p, hash: c.Hash, deps: c.Deps, chunk: c.Chunk(), missing: result.Missing, at: now}, out)
	case result.Status == crdt.Refused:
		return d.refuse(p, result.Refusal, known(c.Deps), out)
	}
	return out
}

// unsealed ends the connections of those whose changes were refused for a
// resolution that is none: they come back and send them again.
func (d *Document) unsealed(out []Output) []Output {
	if d.isSealed() {
		return out
	}
	for _, p := range d.order {
		if slices.ContainsFunc(p.toTell, func(r *crdt.Refusal) bool { return r.Code == presence.CodeSealed }) {
			p.toTell = nil
			out = append(out, d.disconnect(p, CloseOverloaded, "the transaction has changed: please come back"))
		}
	}
	return out
}

// wakeWaiting says for which changes messages wait that waited for what was
// overtaken: for all that are on their way now.
func (d *Document) wakeWaiting(now time.Time, out []Output) []Output {
	n, any := d.Graph().Len(), false
	for _, p := range d.order {
		for i := range p.waiting {
			if p.waiting[i].upTo == math.MaxInt {
				p.waiting[i].upTo, any = n, true
			}
		}
	}
	if any && d.Settled() {
		return d.durable(now, n, out)
	}
	return out
}
