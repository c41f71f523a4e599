package client

import (
	"errors"
	"iter"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

// errNotRemade says that a change did something that has no counterpart now.
var errNotRemade = errors.New("cannot be made again")

// byChange yields the events of one change after the other, in the order of the
// changes' first events.
func byChange(history []transaction.Event) iter.Seq[[]transaction.Event] {
	events := make(map[crdt.Hash][]transaction.Event)
	for _, e := range history {
		events[e.Change] = append(events[e.Change], e)
	}
	return func(yield func([]transaction.Event) bool) {
		for _, e := range history {
			change, ok := events[e.Change]
			delete(events, e.Change)
			if ok && !yield(change) {
				return
			}
		}
	}
}

// makeAgain adds to fresh a change that does what these events of one change
// did, at the time that they say.
func (k *keeper) makeAgain(fresh *replica, change []transaction.Event) (crdt.Hash, error) {
	at := time.UnixMilli(change[0].At)
	for _, e := range change {
		if e.Pick != nil {
			at = time.UnixMilli(e.At) // exact, where others are rounded to seconds
		}
	}
	return k.edit(fresh, at, func(edit *transaction.Edit) error {
		for _, e := range change {
			if err := k.redo(edit, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// redo does what one event did. What a field was set to, the state as of the
// change knows.
func (k *keeper) redo(edit *transaction.Edit, e transaction.Event) error {
	switch e.Kind {
	case transaction.Picked:
		return edit.Pick(e.Field, e.Pick.Value, e.Pick.Option)
	case transaction.Withdrawn:
		return edit.Withdraw(e.Field)
	case transaction.FieldRemoved:
		edit.RemoveField(e.Field)
		return nil
	case transaction.FieldSet:
		then, err := k.replica.state.AsOf([]crdt.Hash{e.Change})
		if err != nil {
			return err
		}
		if f, ok := then.Field(e.Field); ok {
			return edit.SetFields(map[string]transaction.Field{e.Field: f})
		}
	}
	return errNotRemade
}
