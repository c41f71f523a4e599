package transaction

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"parley/crdt"
)

// plain returns a scalar as encoding/json is to write it, so that the outcome
// is what crdt.Materialize writes. Sum was added to a counter.
func plain(v crdt.Value, sum int64) any {
	switch v.Kind {
	case crdt.KindFalse, crdt.KindTrue:
		return v.Kind == crdt.KindTrue
	case crdt.KindUint:
		return v.Uint()
	case crdt.KindInt:
		return v.Int()
	case crdt.KindCounter:
		return v.Int() + sum
	case crdt.KindFloat:
		return plainFloat(v.Float())
	case crdt.KindText:
		return v.Text()
	case crdt.KindBytes:
		return []byte(v.Raw())
	case crdt.KindTimestamp:
		return plainTime(v.Int())
	}
	return nil
}

func plainFloat(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return f
}

// plainTime returns RFC 3339 where that has a form, which is for the years 0 to
// 9999, and milliseconds otherwise.
func plainTime(ms int64) any {
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return ms
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

// encode writes v as one line of JSON, keys sorted by their bytes, without HTML
// escapes.
func encode(v any) json.RawMessage {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("transaction: write JSON: %v", err)) // it is made of maps, lists and scalars
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// JSON returns the whole document as crdt.Materialize writes it: one line, keys
// sorted by their bytes, the winner where writes conflict.
func (s *State) JSON() json.RawMessage {
	if s.applied == 0 {
		return json.RawMessage("{}")
	}
	return encode(s.objects[crdt.OpID{}].plain())
}

// plain returns an object as encoding/json is to write it.
func (o *object) plain() any {
	m := make(map[string]any, len(o.slots))
	for key, lives := range o.slots {
		m[key] = lives[len(lives)-1].plain()
	}
	return m
}

// plain returns a pick as encoding/json is to write it.
func (p *Pick) plain() any {
	switch {
	case p.body != nil:
		return p.body
	case p.Option != "":
		return map[string]any{keyValue: p.Value, keyBy: p.By, keyAt: p.At, keyOption: p.Option}
	}
	return map[string]any{keyValue: p.Value, keyBy: p.By, keyAt: p.At}
}

func (l *live) plain() any {
	switch {
	case l.object != nil:
		return l.object.plain()
	case l.pick != nil:
		return l.pick.plain()
	}
	return l.leaf.json
}
