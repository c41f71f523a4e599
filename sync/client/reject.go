package client

import (
	"errors"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

const (
	// maxRejections is how many rejections a view holds.
	maxRejections = 100
	// codeDependsOnRefused is the server's code for a change that has nothing
	// wrong but what it builds on (sync/session).
	codeDependsOnRefused = "depends-on-refused"
	// maxRemade is how often a change is made again that the server refuses for
	// what it builds on: once is enough for one that does not know better.
	maxRemade = 3
)

// messageOthers takes the place of what the server said of changes that only their
// authors may bring.
const messageOthers = "the server does not have all that others did here any more: it is back when they connect"

// Rejection tells of changes that the server refused. They are gone from the
// replica, and everything else is kept: what we had built on them was made
// again, as new changes.
//
// They may be others' changes: a server that was restored from an older copy
// takes each back from its author only.
type Rejection struct {
	N       int         // counts from 1 since the client was opened
	Code    string      // from the server's closed set
	Message string      // a sentence for people
	Changes []crdt.Hash // what was refused
	// Lost is what these changes did, and what could not be made again without
	// them, in the order of history.
	Lost []transaction.Event
	// Others are changes that other people made and that are gone with these. They come
	// back when those who made them connect.
	Others []crdt.Hash
	// Remade says which changes stand for those that were built on them.
	Remade map[crdt.Hash]crdt.Hash
}

// hear takes a message of the server's own. Those of kinds that we do not know
// are of later versions.
func (c *Client) hear(data []byte) error {
	m, err := presence.DecodeDown(data)
	if errors.Is(err, presence.ErrNotOurs) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.post(func(k *keeper) {
		k.after = append(k.after, func() { k.heed(m) })
	})
}

// heed does what a message of the server's asks for.
func (k *keeper) heed(m any) {
	switch m := m.(type) {
	case *presence.Roster:
		k.takeRoster(m)
	case *presence.Lapsed:
		k.takeLapse(m)
	case *presence.Resolved:
		k.people.noteResolution(m.Resolution)
	case *presence.Rejected:
		if m.Of != "" {
			k.refusedMessage(m)
			break
		}
		k.reject(Rejection{Code: string(m.Code), Message: m.Message, Changes: m.Changes})
	}
	k.dirty = true
}

// reject rolls back what the server refused, if it is here and the server does
// not have it. It may have been rolled back before, with what it was built on.
func (k *keeper) reject(r Rejection) {
	g := k.replica.graph()
	if k.talk != nil && k.talk.last != nil {
		// What it had in earlier conversations it may have lost: it does not refuse
		// what it has.
		k.replica.learnAnew(k.talk.last.Heads)
	}
	refused := make(map[crdt.Hash]bool)
	for _, i := range k.replica.unsaved() {
		h := g.HashAt(i)
		if slices.Contains(r.Changes, h) && h != k.genesis {
			refused[h] = true
		}
	}
	if len(refused) == 0 {
		k.log.Debug("the server refused what is not here", "code", r.Code, "message", r.Message)
		return
	}
	if err := k.rollBack(&r, refused); err != nil {
		// The refused change is sent again on the next connection, and refused
		// again.
		k.log.Error("cannot roll back a change that the server refused", "err", err)
		k.breakOff()
		return
	}
	k.noteRejection(r)
}

// rollBack replaces the replica by one without the refused changes, in which
// what was built on them is made again, under a new actor: the old one's
// numbers are used up.
func (k *keeper) rollBack(r *Rejection, refused map[crdt.Hash]bool) error {
	g := k.replica.graph()
	gone := withDependents(g, refused)
	fresh := &replica{owner: k.replica.owner, ours: k.replica.ours}
	fresh.doc, fresh.state = rebuilt(fresh.owner.Transaction, g, g.Len(), gone)
	k.actor = newActor()
	remade := k.remakeAll(fresh, r, gone, refused)
	if err := k.replica.replace(fresh.doc, fresh.state); err != nil {
		return err
	}
	k.remade = remade
	if k.talk != nil {
		k.talk.restart(k.replica.graph(), k.replica.known)
	}
	k.dirty = true
	k.wakeWriter()
	return nil
}

// remakeAll makes the changes that are gone again in fresh, notes in r what
// became of each, and returns how often those that were made again had been
// refused.
func (k *keeper) remakeAll(fresh *replica, r *Rejection, gone, refused map[crdt.Hash]bool) map[crdt.Hash]int {
	remade := make(map[crdt.Hash]int)
	r.Remade = make(map[crdt.Hash]crdt.Hash)
	history := k.replica.state.History()
	history = slices.DeleteFunc(history, func(e transaction.Event) bool { return !gone[e.Change] })
	spare := r.sparesTheRest() || !slices.ContainsFunc(history, func(e transaction.Event) bool { return refused[e.Change] && k.isOurs(e) })
	overtaken := k.overtaken(history)
	for change := range byChange(history) {
		h := change[0].Change
		if !k.isOurs(change[0]) {
			r.Others = append(r.Others, h)
			continue
		}
		tries := k.remade[h]
		if refused[h] {
			tries++
		}
		lost := !spare || refused[h] && (r.Code != codeDependsOnRefused || tries > maxRemade)
		if !lost {
			standing := slices.DeleteFunc(slices.Clone(change), func(e transaction.Event) bool { return overtaken[matterOf(e)] })
			if len(standing) == 0 {
				continue
			}
			again, err := k.makeAgain(fresh, standing)
			lost = err != nil
			r.Remade[h], remade[again] = again, tries
		}
		if lost {
			delete(r.Remade, h)
			r.Lost = append(r.Lost, change...)
		}
	}
	return remade
}

// matter is what an event is about: what is picked for a field, or the field.
type matter struct {
	field  string
	picked bool
}

func matterOf(e transaction.Event) matter {
	return matter{e.Field, e.Kind == transaction.Picked || e.Kind == transaction.Withdrawn}
}

// overtaken returns the matters in which others had the last word, in a history that
// is gone. They come back with that; what we had done before must not come after it.
func (k *keeper) overtaken(history []transaction.Event) map[matter]bool {
	last := make(map[matter]transaction.Event)
	for _, e := range history {
		if m := matterOf(e); !m.picked || k.isOurs(e) {
			last[m] = e
		}
	}
	live := make(map[string][]crdt.OpID)
	for _, s := range k.replica.state.Selections() {
		for _, p := range s.Picks {
			live[s.Field] = append(live[s.Field], p.Op)
		}
	}
	gone := make(map[matter]bool)
	for m, e := range last {
		switch e.Kind {
		case transaction.Picked: // one of several that contest the field stands too
			gone[m] = !slices.Contains(live[e.Field], e.Op)
		case transaction.Withdrawn:
			gone[m] = len(live[e.Field]) > 0
		default:
			gone[m] = !k.isOurs(e)
		}
	}
	return gone
}

// isOurs says whether our user made a change: what others made is never made again
// in our name.
func (k *keeper) isOurs(e transaction.Event) bool {
	return k.replica.ours[e.Actor] || e.User != "" && e.User == k.replica.owner.User
}

// sparesTheRest says whether changes that were built on the refused one may
// pass when they are made again. They do not if it is we who may not make any.
func (r *Rejection) sparesTheRest() bool {
	switch crdt.Code(r.Code) {
	case transaction.CodeReadOnly, transaction.CodeNotAuthor:
		return false
	}
	return true
}

// withDependents returns the changes and all that depend on them.
func withDependents(g *crdt.Graph, changes map[crdt.Hash]bool) map[crdt.Hash]bool {
	gone := make(map[crdt.Hash]bool)
	for i := range g.Len() {
		h := g.HashAt(i)
		if changes[h] || slices.ContainsFunc(g.DepsOf(i), func(d int32) bool { return gone[g.HashAt(int(d))] }) {
			gone[h] = true
		}
	}
	return gone
}

func (k *keeper) noteRejection(r Rejection) {
	if len(r.Others) > 0 && len(r.Lost) == 0 {
		r.Message = messageOthers
	}
	k.log.Info("the server refused a change", "code", r.Code, "message", r.Message)
	k.rejected++
	r.N = k.rejected
	k.rejections = append(k.rejections, r)
	if len(k.rejections) > maxRejections {
		k.rejections = slices.Delete(k.rejections, 0, 1)
	}
	k.dirty = true
}
