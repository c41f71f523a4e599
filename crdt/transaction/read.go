package transaction

import (
	"strings"

	"parley/crdt"
)

// reader reads one change, operation by operation. What does not keep to the
// schema is passed over, and the first such thing noted.
type reader struct {
	s       *State
	c       *crdt.Change
	author  *Author // nil: as if it may write everything
	rec     *record
	content content
	actors  []crdt.ActorID // of the change: the state's copies, as far as it knows them
	kinds   []kind         // of what each operation made
	fields  []string       // the field that it belongs to
	maps    map[int]shaped // the picks, fields and options made in this change
	fresh   map[crdt.OpID]map[string]bool
	dead    map[int]bool // operations that a later one of this change replaced
	refusal *crdt.Refusal
}

// shaped is a map of which the keys are given: which operation wrote each.
type shaped map[string]int

// read reads a change. Its operations may name what the state holds, and
// nothing else.
func (s *State) read(c *crdt.Change, author *Author) *reader {
	r := &reader{
		s: s, c: c, author: author, content: content{c: c},
		kinds: make([]kind, len(c.Ops)), fields: make([]string, len(c.Ops)),
		maps: make(map[int]shaped), dead: make(map[int]bool),
		fresh: make(map[crdt.OpID]map[string]bool),
		rec:   &record{hash: c.Hash},
	}
	r.nameActors()
	for i := range c.Ops {
		if code, name := r.operation(i); code != "" {
			r.refuse(newRefusal(code, "%s (operation %d of the change)", quote(name), i))
		}
	}
	r.finish()
	return r
}

// nameActors finds the state's copies of the actors' ids, so that what is kept
// of a change does not keep all its bytes.
func (r *reader) nameActors() {
	for _, id := range r.c.Actors {
		if known, ok := r.s.actors[id]; ok {
			id = known.id
		}
		r.actors = append(r.actors, id)
	}
	if _, known := r.s.actors[r.c.Actor]; !known {
		r.actors[0] = crdt.ActorID(strings.Clone(string(r.c.Actor)))
	}
	r.rec.actor = r.actors[0]
}

func (r *reader) refuse(refusal *crdt.Refusal) {
	if r.refusal == nil {
		refusal.Change = r.c.Hash
		r.refusal = refusal
	}
}

// operation reads operation i. It returns the code why it cannot be, and the name
// of the field or key where that was; "" if it can.
func (r *reader) operation(i int) (crdt.Code, string) {
	op := &r.c.Ops[i]
	object, k, field := r.object(op.Object)
	switch k {
	case kindRoot:
		return r.root(i, object), op.Key
	case kindFields, kindField, kindOptions, kindOption:
		if r.author != nil && r.author.Role != Host {
			return CodeNotHost, field
		}
		return r.fieldWrite(i, object, k, field)
	case kindSelections:
		return r.selection(i, object), op.Key
	case kindPick:
		return r.pickKey(i), field
	default:
		return r.inValue(i, k), field
	}
}

// object returns what an operation is on. What the state does not know is in an
// earlier pick, for the gate has let the change pass.
func (r *reader) object(ref crdt.Ref) (crdt.OpID, kind, string) {
	id := crdt.OpID{}
	if !ref.IsZero() {
		id = r.id(ref)
	}
	if j, ok := local(r.c, ref); ok {
		return id, r.kinds[j], r.fields[j]
	}
	o := r.s.objects[id]
	if o == nil {
		return id, kindPickValue, ""
	}
	return id, o.kind, o.field
}

// id returns the operation id that ref stands for.
func (r *reader) id(ref crdt.Ref) crdt.OpID {
	return crdt.OpID{Counter: uint64(ref.Counter), Actor: r.actors[ref.Actor]}
}

// write notes that operation i writes to a map that changes share.
func (r *reader) write(i int, object crdt.OpID, w write) {
	op := &r.c.Ops[i]
	w.object, w.op, w.key, w.at = object, r.id(r.c.OpRef(i)), strings.Clone(op.Key), i
	for _, p := range op.Pred {
		w.pred = append(w.pred, r.id(p))
		if j, ok := local(r.c, p); ok {
			r.dead[j] = true
		}
	}
	w.deletes = op.Action == crdt.Delete
	if op.Action.Makes() {
		r.kinds[i], r.fields[i] = w.makes, w.field
		if w.makes == kindUnknown {
			r.kinds[i] = kindFieldValue
			r.content.make(i, 1)
		}
	}
	r.rec.writes = append(r.rec.writes, w)
}

// root reads a write of the genesis; nobody else writes there.
func (r *reader) root(i int, object crdt.OpID) crdt.Code {
	if r.s.applied > 0 {
		return CodePath
	}
	w := write{}
	switch r.c.Ops[i].Key {
	case keyFields:
		w.makes = kindFields
	case keySelections:
		w.makes = kindSelections
	}
	r.write(i, object, w)
	return ""
}

// fieldWrite reads a write to fields or below, not into a value.
func (r *reader) fieldWrite(i int, object crdt.OpID, k kind, field string) (crdt.Code, string) {
	op := &r.c.Ops[i]
	if k == kindFields {
		field = strings.Clone(op.Key)
	}
	if !op.Keyed || op.Action == crdt.Increment {
		return CodeField, field
	}
	w := write{field: field}
	switch k {
	case kindFields, kindOptions:
		if code := r.named(object, op, limitOf(k)); code != "" {
			return code, field
		}
		if op.Action != crdt.Delete && op.Action != crdt.MakeMap {
			return CodeField, field
		}
		w.makes = map[kind]kind{kindFields: kindField, kindOptions: kindOption}[k]
	default:
		if !r.allowed(i, k, object) {
			return CodeField, field
		}
		if op.Key == keyOptions {
			w.makes = kindOptions
		}
	}
	r.write(i, object, w)
	if w.makes == kindField || w.makes == kindOption {
		r.shape(i)
	}
	return "", ""
}

// allowed says whether operation i may be at a key of a field or option. In
// those of earlier changes nothing is deleted: it would be missing.
func (r *reader) allowed(i int, k kind, object crdt.OpID) bool {
	op := &r.c.Ops[i]
	j, isLocal := local(r.c, op.Object)
	if !fits(r.c, i, k) || op.Action == crdt.Delete && !isLocal {
		return false
	}
	if isLocal {
		r.maps[j].note(i, op)
	}
	return true
}

// note keeps which operation wrote a key.
func (m shaped) note(i int, op *crdt.Op) {
	if op.Action == crdt.Delete {
		delete(m, op.Key)
		return
	}
	m[op.Key] = i
}

// shape notes that operation i makes a map whose keys are given.
func (r *reader) shape(i int) {
	if r.c.Ops[i].Action != crdt.Delete {
		r.maps[i] = shaped{}
	}
}

// named checks the name of a field or option, and how many there are.
func (r *reader) named(object crdt.OpID, op *crdt.Op, limit int) crdt.Code {
	if op.Key == "" || len(op.Key) > MaxNameBytes || op.Key == protoKey {
		return CodeName
	}
	if op.Action == crdt.Delete {
		return ""
	}
	held := 0
	if o := r.s.objects[object]; o != nil {
		if _, known := o.slots[op.Key]; known {
			return ""
		}
		held = len(o.slots)
	}
	fresh := r.fresh[object]
	if fresh == nil {
		fresh = make(map[string]bool)
		r.fresh[object] = fresh
	}
	fresh[op.Key] = true
	if held+len(fresh) > limit {
		// It is written all the same: how many there are depends on the order in which
		// changes come, and what was accepted somewhere must count everywhere.
		r.refuse(newRefusal(CodeTooMany, "%s", quote(op.Key)))
	}
	return ""
}

func limitOf(k kind) int {
	if k == kindOptions {
		return MaxOptions
	}
	return MaxFields
}

// selection reads a pick or a withdrawal.
func (r *reader) selection(i int, object crdt.OpID) crdt.Code {
	op := &r.c.Ops[i]
	if !op.Keyed || op.Action != crdt.MakeMap && op.Action != crdt.Delete {
		return CodePick
	}
	if code := r.named(object, op, MaxFields); code != "" {
		return code
	}
	r.write(i, object, write{field: strings.Clone(op.Key), makes: kindPick})
	r.shape(i)
	return ""
}

// pickKey reads a write to a pick, which must be of this change.
func (r *reader) pickKey(i int) crdt.Code {
	op := &r.c.Ops[i]
	j, isLocal := local(r.c, op.Object)
	switch {
	case !isLocal:
		return CodePickEdited
	case !op.Keyed || op.Action == crdt.Increment || !fits(r.c, i, kindPick):
		return CodePick
	}
	r.maps[j].note(i, op)
	if op.Action.Makes() {
		r.kinds[i], r.fields[i] = kindPickValue, r.fields[j]
		r.content.make(i, 1)
	}
	return ""
}

// inValue reads a write into a value, which must be of this change.
func (r *reader) inValue(i int, k kind) crdt.Code {
	j, isLocal := local(r.c, r.c.Ops[i].Object)
	switch {
	case !isLocal && k == kindPickValue:
		return CodePickEdited
	case !isLocal:
		return CodeFieldEdited
	}
	code := r.content.add(i, j)
	if code == "" && r.c.Ops[i].Action.Makes() {
		r.kinds[i], r.fields[i] = k, r.fields[j]
	}
	return code
}
