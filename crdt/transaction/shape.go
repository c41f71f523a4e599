package transaction

import (
	"encoding/json"
	"fmt"
	"math"

	"parley/crdt"
)

// fits says whether operation i may be at a key of a pick, a field or an option,
// as far as it says by itself.
func fits(c *crdt.Change, i int, k kind) bool {
	op := &c.Ops[i]
	deletes := op.Action == crdt.Delete
	text := deletes || op.Action == crdt.MakeText || op.Action == crdt.Put && op.Value.Kind == crdt.KindText
	switch k {
	case kindPick:
		switch op.Key {
		case keyValue:
			return true
		case keyBy, keyOption:
			return text
		case keyAt:
			return deletes || op.Action == crdt.Put
		}
	case kindField:
		switch op.Key {
		case keyLabel:
			return text
		case keyRequired:
			return deletes || op.Action == crdt.Put && (op.Value.Kind == crdt.KindTrue || op.Value.Kind == crdt.KindFalse)
		case keyOptions:
			return deletes || op.Action == crdt.MakeMap
		}
	case kindOption:
		switch op.Key {
		case keyValue:
			return true
		case keySource:
			return text
		}
	}
	return false
}

// finish reads the values, which are complete now, and checks what only the
// whole change tells.
func (r *reader) finish() {
	for n := range r.rec.writes {
		w := &r.rec.writes[n]
		if w.deletes {
			continue
		}
		switch r.kinds[w.at] {
		case kindPick:
			w.pick = r.pick(w)
		case kindField, kindOption:
			r.complete(w)
		case kindUnknown, kindFieldValue:
			w.leaf = r.leaf(w)
		}
	}
	for i, k := range r.kinds {
		if k == kindFieldValue {
			r.rec.closed = append(r.rec.closed, r.id(r.c.OpRef(i)))
		}
	}
}

// complete checks that a new field or option has all its keys.
func (r *reader) complete(w *write) {
	keys := []string{keyLabel, keyRequired, keyOptions}
	if w.makes == kindOption {
		keys = []string{keyValue, keySource}
	}
	for _, key := range keys {
		if _, ok := r.maps[w.at][key]; !ok && !r.dead[w.at] {
			r.refuse(newRefusal(CodeField, "%q of %s is missing", key, quote(w.field)))
		}
	}
}

// leaf reads a value of a field.
func (r *reader) leaf(w *write) leaf {
	v := r.content.value(w.at)
	l := leaf{json: encode(v), text: r.content.textOf(w.at), yes: v == true}
	limit := MaxTextBytes
	if w.key == keyValue {
		limit = MaxValueBytes
	}
	if len(l.json) > limit {
		r.refuse(newRefusal(CodeSize, "%s of %s has %d bytes of at most %d", w.key, quote(w.field), len(l.json), limit))
	}
	return l
}

// pick reads a pick and, if it is there to stay, checks it.
func (r *reader) pick(w *write) *Pick {
	keys := r.maps[w.at]
	p := &Pick{
		Field: w.field, Value: json.RawMessage("null"),
		By: r.text(keys, keyBy), Option: r.text(keys, keyOption),
		Change: r.c.Hash, Actor: w.op.Actor, Op: w.op,
	}
	if i, ok := keys[keyValue]; ok {
		p.Value = encode(r.content.value(i))
	}
	at, hasAt := r.integer(keys, keyAt)
	p.At = at
	if !r.isPlain(p, keys) {
		p.body = r.body(p, keys)
	}
	if r.dead[w.at] {
		return p
	}
	if code, what := r.checkPick(p, keys, hasAt); code != "" {
		r.refuse(newRefusal(code, "%s", what))
	}
	return p
}

// isPlain says whether a pick's parts, as they stand in it, are all there is to it
// as JSON. It is of what clients write.
func (r *reader) isPlain(p *Pick, keys shaped) bool {
	_, hasAt := r.integer(keys, keyAt)
	_, hasValue := keys[keyValue]
	by, hasBy := keys[keyBy]
	option, hasOption := keys[keyOption]
	want := 3
	if hasOption {
		want++
	}
	if !hasValue || !hasBy || !hasAt || len(keys) != want || hasOption && p.Option == "" {
		return false
	}
	kind := r.c.Ops[keys[keyAt]].Value.Kind
	return (kind == crdt.KindInt || kind == crdt.KindUint) && r.content.isText(by) && (!hasOption || r.content.isText(option))
}

// body returns what stands in a pick, as JSON.
func (r *reader) body(p *Pick, keys shaped) json.RawMessage {
	body := make(map[string]any, len(keys))
	for key, i := range keys {
		body[key] = r.content.value(i)
	}
	if _, ok := keys[keyValue]; ok {
		body[keyValue] = p.Value
	}
	return encode(body)
}

func (r *reader) checkPick(p *Pick, keys shaped, hasAt bool) (crdt.Code, string) {
	_, hasValue := keys[keyValue]
	_, hasBy := keys[keyBy]
	_, hasOption := keys[keyOption]
	switch {
	case !hasValue:
		return CodePick, "value of " + quote(p.Field) + " is missing"
	case !hasBy:
		return CodePick, "by of " + quote(p.Field) + " is missing"
	case !hasAt:
		return CodePick, "at of " + quote(p.Field) + " is no time in milliseconds"
	case len(p.Value) > MaxValueBytes:
		return CodeSize, fmt.Sprintf("the value of %s has %d bytes of at most %d", quote(p.Field), len(p.Value), MaxValueBytes)
	case hasOption && (p.Option == "" || len(p.Option) > MaxNameBytes):
		return CodeName, "the option of " + quote(p.Field)
	case p.By == "" || r.author != nil && p.By != r.author.User:
		return CodeNotAuthor, quote(p.Field)
	}
	return "", ""
}

func (r *reader) text(keys shaped, key string) string {
	if i, ok := keys[key]; ok {
		return r.content.textOf(i)
	}
	return ""
}

// integer reads a time, which JavaScript writes as an integer, a float or a
// timestamp. Times are since 1970, and integers in JavaScript's numbers.
func (r *reader) integer(keys shaped, key string) (int64, bool) {
	i, ok := keys[key]
	if !ok {
		return 0, false
	}
	var f float64
	switch v := r.c.Ops[i].Value; v.Kind {
	case crdt.KindInt, crdt.KindTimestamp:
		return v.Int(), v.Int() >= 0 && v.Int() <= maxTime
	case crdt.KindUint:
		return int64(v.Uint()), v.Uint() <= maxTime
	case crdt.KindFloat:
		f = v.Float()
	default:
		return 0, false
	}
	if !(f >= 0 && f <= maxTime) || f != math.Trunc(f) {
		return 0, false
	}
	return int64(f), true
}

const maxTime = 1<<53 - 1

// quote returns a name as a sentence may hold it: quoted, and not too long.
func quote(name string) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("%.64q…", name)
	}
	return fmt.Sprintf("%q", name)
}
