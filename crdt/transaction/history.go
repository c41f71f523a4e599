package transaction

import (
	"slices"

	"parley/crdt"
)

// EventKind is what happened to a field.
type EventKind string

// The kinds of events.
const (
	Picked       EventKind = "picked"
	Withdrawn    EventKind = "withdrawn"
	FieldSet     EventKind = "field-set"     // a host put a field, or a part of it
	FieldRemoved EventKind = "field-removed" // a host deleted it
)

// Event is one step of a transaction's history: what one change did to one
// field. Of several picks of a field in one change only the last is one.
type Event struct {
	Kind       EventKind
	Field      string
	Pick       *Pick  // of Picked
	User       string // in whose name the actor picks, "" if it has not picked
	At         int64  // milliseconds since 1970 by the author's clock
	Change     crdt.Hash
	Actor      crdt.ActorID
	Op         crdt.OpID   // the change's last for the field
	Superseded []crdt.OpID // the picks, as [Pick.Op] names them, that it took the place of
}

// History returns every pick ever made, every withdrawal and what hosts did to
// fields. An event stands after all that its author knew of; those that were
// concurrent are ordered by operation id, so that every replica with the same
// changes has the same history.
func (s *State) History() []Event {
	var all []Event
	for i := range s.applied {
		all = append(all, s.events(i)...)
	}
	slices.SortFunc(all, func(a, b Event) int { return a.Op.Compare(b.Op) })
	return all
}

// EventsOf returns what one change did, nil if it did nothing to a field or is
// not there.
func (s *State) EventsOf(change crdt.Hash) []Event {
	i, ok := s.indexOf(change)
	if !ok {
		return nil
	}
	return s.events(i)
}

// events reads a change again. What later changes have done since makes no
// difference to what it did.
func (s *State) events(i int) []Event {
	events := s.read(s.change(i), nil).events()
	for n := range events {
		e := &events[n]
		if e.User = s.actors[e.Actor].user; e.Pick != nil {
			e.User = e.Pick.By
		}
	}
	return events
}

// events returns what the change did to each field: one event for its pick, one
// for its definition. It is nil if it did nothing.
func (r *reader) events() []Event {
	var events []Event
	type subject struct {
		field string
		pick  bool
	}
	at := make(map[subject]int)
	for i := range r.rec.writes {
		w := &r.rec.writes[i]
		if w.field == "" {
			continue
		}
		about := subject{w.field, r.isSelection(w)}
		n, known := at[about]
		if !known {
			n = len(events)
			at[about] = n
			events = append(events, Event{Field: w.field, Change: r.c.Hash, Actor: r.rec.actor})
		}
		r.note(&events[n], w, about.pick)
	}
	events = slices.DeleteFunc(events, func(e Event) bool {
		return e.Kind == Withdrawn && len(e.Superseded) == 0 // it withdrew what it had picked itself
	})
	if len(events) == 0 {
		return nil
	}
	return events
}

// note brings an event up to a further write of its change.
func (r *reader) note(e *Event, w *write, pick bool) {
	e.Op, e.At = w.op, r.c.Time*1000
	if !pick {
		e.Kind = FieldSet
		if w.deletes && r.isField(w) {
			e.Kind = FieldRemoved
		}
		return
	}
	for _, p := range w.pred {
		if _, own := r.ownOp(p); !own {
			e.Superseded = append(e.Superseded, p)
		}
	}
	if w.deletes {
		e.Kind, e.Pick = Withdrawn, nil
		return
	}
	e.Kind, e.Pick, e.At = Picked, w.pick, w.pick.At
}

// ownOp returns the index of one of this change's operations.
func (r *reader) ownOp(id crdt.OpID) (int, bool) {
	if id.Actor != r.rec.actor || id.Counter < r.c.StartOp || id.Counter > r.c.MaxOp() {
		return 0, false
	}
	return int(id.Counter - r.c.StartOp), true
}

func (r *reader) isSelection(w *write) bool { return r.kindOf(w.object) == kindSelections }
func (r *reader) isField(w *write) bool     { return r.kindOf(w.object) == kindFields }

func (r *reader) kindOf(object crdt.OpID) kind {
	if i, own := r.ownOp(object); own {
		return r.kinds[i]
	}
	if o := r.s.objects[object]; o != nil {
		return o.kind
	}
	return kindUnknown
}
