package transaction

import (
	"encoding/json"
	"maps"
	"slices"

	"parley/crdt"
)

// Pick is one user's choice for a field.
type Pick struct {
	Field  string
	Value  json.RawMessage // as crdt.Materialize writes it
	By     string          // the user
	At     int64           // milliseconds since 1970 by the picker's clock
	Option string          // the field's option that it chose, "" if none
	Change crdt.Hash
	Actor  crdt.ActorID
	Op     crdt.OpID // that put the pick

	body json.RawMessage // the whole map, nil if the rest says it
}

// Selection is what a field holds: all picks that no later one superseded, at
// least one, the winner first. Every replica has the same winner.
type Selection struct {
	Field string
	Picks []Pick
}

// Winner returns the pick that counts until somebody picks again.
func (s Selection) Winner() Pick { return s.Picks[0] }

// Contested says whether users picked without knowing of each other's pick.
func (s Selection) Contested() bool { return len(s.Picks) > 1 }

// Selections returns what was picked, ordered by field.
func (s *State) Selections() []Selection {
	slots := s.slots(keySelections)
	all := make([]Selection, 0, len(slots))
	for _, field := range slices.Sorted(maps.Keys(slots)) {
		all = append(all, selectionOf(field, slots[field]))
	}
	return all
}

// Selection returns what a field holds, ok false if nothing is picked.
func (s *State) Selection(field string) (sel Selection, ok bool) {
	lives, ok := s.slots(keySelections)[field]
	if !ok {
		return Selection{}, false
	}
	return selectionOf(field, lives), true
}

func selectionOf(field string, lives []live) Selection {
	sel := Selection{Field: field, Picks: make([]Pick, len(lives))}
	for i := range lives {
		sel.Picks[len(lives)-1-i] = *lives[i].pick
	}
	return sel
}

// Contested returns the fields with more than one live pick, sorted.
func (s *State) Contested() []string {
	var fields []string
	for field, lives := range s.slots(keySelections) {
		if len(lives) > 1 {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields
}

// Missing returns the required fields for which nothing is picked, sorted.
func (s *State) Missing() []string {
	if s.missing == nil {
		s.missing = []string{}
		picked := s.slots(keySelections)
		for field := range s.slots(keyFields) {
			if _, ok := picked[field]; !ok && s.requires(field) {
				s.missing = append(s.missing, field)
			}
		}
		slices.Sort(s.missing)
	}
	return append([]string(nil), s.missing...)
}

// requires says whether there is a field, and a pick for it is wanted.
func (s *State) requires(field string) bool {
	lives := s.slots(keyFields)[field]
	return len(lives) > 0 && winner(lives).object.leaf(keyRequired).yes
}

// Field is a disputed datum. Its JSON is what `parley open` reads.
type Field struct {
	Label    string            `json:"label"`
	Required bool              `json:"required"`
	Options  map[string]Option `json:"options"`
}

// Option is a candidate for a field's value.
type Option struct {
	Value  json.RawMessage `json:"value"`
	Source string          `json:"source"` // where it comes from, in words
}

// Fields returns the fields by name. Where two hosts wrote one at once the
// winner is chosen as for picks.
func (s *State) Fields() map[string]Field {
	slots := s.slots(keyFields)
	fields := make(map[string]Field, len(slots))
	for name, lives := range slots {
		fields[name] = winner(lives).object.definition()
	}
	return fields
}

// Field returns one field, ok false if there is none of that name.
func (s *State) Field(name string) (f Field, ok bool) {
	lives, ok := s.slots(keyFields)[name]
	if !ok {
		return Field{}, false
	}
	return winner(lives).object.definition(), true
}

func (o *object) definition() Field {
	f := Field{Label: o.leaf(keyLabel).text, Required: o.leaf(keyRequired).yes, Options: map[string]Option{}}
	options := o.slots[keyOptions]
	if len(options) == 0 {
		return f
	}
	for name, lives := range winner(options).object.slots {
		option := winner(lives).object
		f.Options[name] = Option{Value: option.leaf(keyValue).json, Source: option.leaf(keySource).text}
	}
	return f
}

// leaf returns the value at a key, null if there is none.
func (o *object) leaf(key string) leaf {
	lives := o.slots[key]
	if len(lives) == 0 {
		return leaf{json: json.RawMessage("null")}
	}
	return winner(lives).leaf
}

func winner(lives []live) *live { return &lives[len(lives)-1] }

// slots returns what is in one of the maps at the root.
func (s *State) slots(key string) map[string][]live {
	lives := s.objects[crdt.OpID{}].slots[key]
	if len(lives) == 0 {
		return nil
	}
	return winner(lives).object.slots
}
