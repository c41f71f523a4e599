package transaction

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parley/crdt"
)

var (
	// ErrNoGenesis is returned for a change to a transaction without its first
	// change: apply [Genesis] before.
	ErrNoGenesis = errors.New("the transaction has no first change yet")
	// ErrNothingPicked is returned for the withdrawal of a pick that is not there.
	ErrNothingPicked = errors.New("nothing is picked")
	// ErrNothingToDo is returned by [Edit.Change] for a change without edits.
	ErrNothingToDo = errors.New("nothing was edited")
)

// Edit is one change in the making. It follows on all that was applied to the
// state, and takes the place of everything live there; the state must not
// change before [Edit.Change].
type Edit struct {
	s          *State
	b          *crdt.Builder
	user       string
	at         time.Time
	fields     crdt.OpID // the maps at the root
	selections crdt.OpID
	replaced   map[slot][]crdt.OpID // what is live now where this edit has written
}

// slot is a key of one of the maps at the root.
type slot struct {
	object crdt.OpID
	key    string
}

// Edit begins a change by an actor, who must be one user's alone and write
// nothing elsewhere meanwhile: 16 random bytes, made once for a replica. Picks
// are made in the user's name, at the time given.
func (s *State) Edit(actor crdt.ActorID, user string, at time.Time) *Edit {
	e := &Edit{s: s, user: user, at: at, replaced: make(map[slot][]crdt.OpID)}
	e.b = crdt.NewBuilder(crdt.Header{
		Deps: s.Heads(), Actor: actor, Seq: s.actors[actor].seq + 1, StartOp: s.maxOp + 1, Time: at.Unix(),
	})
	root := s.objects[crdt.OpID{}].slots
	if s.applied > 0 {
		e.fields, e.selections = winner(root[keyFields]).op, winner(root[keySelections]).op
	}
	return e
}

// Pick puts a value, given as JSON, at a field, in the name of an option or of
// none (""). Integers of 64 bits stay integers, other numbers become floats.
func (e *Edit) Pick(field string, value json.RawMessage, option string) error {
	v, err := parse(value)
	if err != nil {
		return fmt.Errorf("pick %s: %w", quote(field), err)
	}
	if err := texts(field, e.user, option); err != nil {
		return fmt.Errorf("pick %s: %w", quote(field), err)
	}
	pick := e.put(e.selections, field)
	e.value(at{object: pick, key: keyValue}, v)
	e.b.Put(pick, keyBy, crdt.Text(e.user))
	e.b.Put(pick, keyAt, crdt.Int(e.at.UnixMilli()))
	if option != "" {
		e.b.Put(pick, keyOption, crdt.Text(option))
	}
	return nil
}

// Withdraw takes back what is picked for a field, whoever picked it. It fails
// with [ErrNothingPicked].
func (e *Edit) Withdraw(field string) error {
	live := e.live(e.selections, field)
	if len(live) == 0 {
		return fmt.Errorf("withdraw %s: %w", quote(field), ErrNothingPicked)
	}
	e.b.Delete(e.selections, field, live...)
	e.replaced[slot{e.selections, field}] = nil
	return nil
}

// SetFields puts the fields that differ from what is there, each as a whole. It
// leaves others alone.
func (e *Edit) SetFields(fields map[string]Field) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		if err := e.setField(name, f); err != nil {
			return fmt.Errorf("set field %s: %w", quote(name), err)
		}
	}
	return nil
}

func (e *Edit) setField(name string, f Field) error {
	options := make(map[string]any, len(f.Options))
	for o, option := range f.Options {
		v, err := parse(option.Value)
		if err != nil {
			return fmt.Errorf("option %s: %w", quote(o), err)
		}
		if err := texts(o, option.Source); err != nil {
			return fmt.Errorf("option %s: %w", quote(o), err)
		}
		options[o] = v
	}
	if err := texts(name, f.Label); err != nil {
		return err
	}
	if e.has(name, f, options) {
		return nil
	}
	object := e.put(e.fields, name)
	e.b.Put(object, keyLabel, crdt.Text(f.Label))
	e.b.Put(object, keyRequired, crdt.Bool(f.Required))
	list := e.b.Make(object, keyOptions, crdt.MakeMap)
	for _, o := range slices.Sorted(maps.Keys(options)) {
		option := e.b.Make(list, o, crdt.MakeMap)
		e.value(at{object: option, key: keyValue}, options[o])
		e.b.Put(option, keySource, crdt.Text(f.Options[o].Source))
	}
	return nil
}

// RemoveField deletes a field. What was picked for it stays. It returns whether
// the field was there.
func (e *Edit) RemoveField(name string) bool {
	live := e.live(e.fields, name)
	if len(live) == 0 {
		return false
	}
	e.b.Delete(e.fields, name, live...)
	e.replaced[slot{e.fields, name}] = nil
	return true
}

// Change returns the change, which is not applied. It fails with [ErrNoGenesis],
// [ErrNothingToDo], or a *crdt.Refusal that says which bound was passed.
func (e *Edit) Change() (*crdt.Change, error) {
	if e.s.applied == 0 {
		return nil, ErrNoGenesis
	}
	if e.b.Len() == 0 {
		return nil, ErrNothingToDo
	}
	c, err := e.b.Change(crdt.Limits{})
	if err != nil {
		return nil, err
	}
	r := e.s.read(c, nil)
	if r.refusal != nil {
		return nil, r.refusal
	}
	e.s.checked = r.rec
	return c, nil
}

// has says whether a field is there and nothing else, as it shall be.
func (e *Edit) has(name string, f Field, options map[string]any) bool {
	if _, edited := e.replaced[slot{e.fields, name}]; edited || len(e.live(e.fields, name)) != 1 {
		return false
	}
	was, _ := e.s.Field(name)
	if was.Label != f.Label || was.Required != f.Required || len(was.Options) != len(options) {
		return false
	}
	for o, v := range options {
		there, ok := was.Options[o]
		if !ok || there.Source != f.Options[o].Source || !bytes.Equal(there.Value, encode(v)) {
			return false
		}
	}
	return true
}

// live returns the operations that are live at a key of one of the root's maps.
func (e *Edit) live(object crdt.OpID, key string) []crdt.OpID {
	if ops, edited := e.replaced[slot{object, key}]; edited {
		return ops
	}
	o := e.s.objects[object]
	if o == nil {
		return nil
	}
	var ops []crdt.OpID
	for _, l := range o.slots[key] {
		ops = append(ops, l.op)
	}
	return ops
}

// put makes a new map at a key of one of the root's maps.
func (e *Edit) put(object crdt.OpID, key string) crdt.OpID {
	op := e.b.Make(object, key, crdt.MakeMap, e.live(object, key)...)
	e.replaced[slot{object, key}] = []crdt.OpID{op}
	return op
}

// at is a place for a value: a key of a map, or in a list behind an element.
type at struct {
	object, after crdt.OpID
	key           string
	list          bool
}

// value writes what parse returned, and returns the operation.
func (e *Edit) value(to at, v any) crdt.OpID {
	switch v := v.(type) {
	case map[string]any:
		object := e.make(to, crdt.MakeMap)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			e.value(at{object: object, key: key}, v[key])
		}
		return object
	case []any:
		object := e.make(to, crdt.MakeList)
		last := crdt.OpID{}
		for _, item := range v {
			last = e.value(at{object: object, after: last, list: true}, item)
		}
		return object
	}
	if to.list {
		return e.b.Insert(to.object, to.after, scalar(v))
	}
	return e.b.Put(to.object, to.key, scalar(v))
}

func (e *Edit) make(to at, kind crdt.Action) crdt.OpID {
	if to.list {
		return e.b.InsertObject(to.object, to.after, kind)
	}
	return e.b.Make(to.object, to.key, kind)
}
