package engine

// #include "capi.h"
import "C"

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// MaxDepth is how deep a document may be nested to be read: encoding/json and
// other parsers refuse more.
const MaxDepth = 1000

// Value reads the whole document, choosing the winner where values conflict:
// maps as map[string]any, lists as []any, text and strings as string, integers
// as int64 or uint64, counters as int64, floats as float64, bytes as []byte,
// timestamps as time.Time (UTC, milliseconds), null as nil, a scalar of a type
// that the engine does not know as [Unknown].
func (d *Doc) Value() (any, error) {
	return d.object(nil, C.OBJ_MAP, 0)
}

// Unknown is a scalar of a type that a later version of Automerge introduced.
type Unknown struct {
	Type  uint8  `json:"$unknown"` // the type code, 10 to 15
	Bytes []byte `json:"bytes"`
}

// JSON returns the document as one line of JSON, without HTML escapes. Keys are
// sorted by their bytes. Numbers are exact for integers and the shortest that
// reads back for floats; JavaScript readers should mind integers above 2^53.
// What JSON has no form for is written as Protocol Buffers' JSON mapping does:
// bytes in standard base64 with padding, timestamps in RFC 3339 in UTC with
// milliseconds, and "NaN", "Infinity", "-Infinity" as strings. A timestamp
// outside the years 0 to 9999, for which RFC 3339 has no form either, is the
// number of its milliseconds; an [Unknown] is an object.
func (d *Doc) JSON() ([]byte, error) {
	v, err := d.Value()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(plain(v)); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// plain replaces, in place, what encoding/json cannot write as [Doc.JSON] says.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case float64:
		return plainFloat(v)
	case time.Time:
		return plainTime(v)
	}
	return v
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

func plainTime(t time.Time) any {
	if y := t.Year(); y < 0 || y > 9999 {
		return t.UnixMilli()
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

func (d *Doc) object(obj *C.AMobjId, kind C.uint8_t, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("automerge: the document is nested deeper than %d levels", MaxDepth)
	}
	switch kind {
	case C.OBJ_MAP:
		return d.mapValue(obj, depth)
	case C.OBJ_LIST:
		return d.listValue(obj, depth)
	case C.OBJ_TEXT:
		return d.textValue(obj)
	}
	return nil, fmt.Errorf("automerge: an object has the unknown type %d", kind)
}

func (d *Doc) mapValue(obj *C.AMobjId, depth int) (any, error) {
	res, err := checked("read map", C.map_range(d.doc, obj))
	if err != nil {
		return nil, err
	}
	defer res.free() // after its children: their object ids are in res
	m := make(map[string]any, res.size())
	for it := range res.items() {
		var key C.AMbyteSpan
		if !C.AMitemKey(it, &key) {
			return nil, unexpected("read map")
		}
		if m[goString(key)], err = d.item(it, depth); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (d *Doc) listValue(obj *C.AMobjId, depth int) (any, error) {
	res, err := checked("read list", C.list_range(d.doc, obj))
	if err != nil {
		return nil, err
	}
	defer res.free()
	list := make([]any, 0, res.size())
	for it := range res.items() {
		v, err := d.item(it, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *Doc) textValue(obj *C.AMobjId) (any, error) {
	res, err := checked("read text", C.AMtext(d.doc, obj, nil))
	if err != nil {
		return nil, err
	}
	defer res.free()
	var s C.AMbyteSpan
	if !C.AMitemToStr(res.item(), &s) {
		return nil, unexpected("read text")
	}
	return goString(s), nil
}

// item reads a value and, if it is an object, everything below it.
func (d *Doc) item(it *C.AMitem, depth int) (any, error) {
	var v C.scalar
	if !C.read_item(d.doc, it, &v) {
		return nil, unexpected("read value")
	}
	switch v._type {
	case C.VAL_VOID, C.VAL_NULL:
		return nil, nil
	case C.VAL_BOOL:
		return bool(v.b), nil
	case C.VAL_INT, C.VAL_COUNTER:
		return int64(v.i), nil
	case C.VAL_UINT:
		return uint64(v.u), nil
	case C.VAL_F64:
		return float64(v.f), nil
	case C.VAL_STR:
		return goString(v.bytes), nil
	case C.VAL_BYTES:
		return goBytes(v.bytes), nil
	case C.VAL_TIMESTAMP:
		return time.UnixMilli(int64(v.i)).UTC(), nil
	case C.VAL_UNKNOWN:
		return Unknown{Type: uint8(v.code), Bytes: goBytes(v.bytes)}, nil
	}
	return d.object(v.obj, v.code, depth+1)
}
