package engine

// #include "capi.h"
import "C"

import (
	"errors"
	"fmt"
	"time"
	"unsafe"
)

// Path leads from the root to a value: a string for each map key, an int for
// each list index.
type Path []any

// Object is a new, empty object, as a value to write.
type Object uint8

// What a document is made of.
const (
	List Object = C.OBJ_LIST
	Map  Object = C.OBJ_MAP
	Text Object = C.OBJ_TEXT
)

// Counter is a number, as a value to write, that concurrent [Doc.Increment]s
// add up in.
type Counter int64

var (
	// ErrNoObject is returned for a path through, or an edit of, something that
	// is not there or is no object of the kind the edit needs.
	ErrNoObject = errors.New("automerge: no such object")
	// ErrUncommitted is returned by Apply, Heads, NumChanges and Save after edits
	// that were neither committed nor rolled back.
	ErrUncommitted = errors.New("automerge: there are uncommitted edits")
	// ErrNothingToCommit is returned by Commit without edits before it.
	ErrNothingToCommit = errors.New("automerge: nothing to commit")
)

// SetActor makes actor, 1 to 128 bytes, the author of the changes to come.
func (d *Doc) SetActor(actor []byte) error {
	if len(actor) == 0 || len(actor) > 128 {
		return fmt.Errorf("automerge: an actor id of %d bytes, want 1 to 128", len(actor))
	}
	p, n := c(actor)
	res, err := checked("actor id", C.AMactorIdFromBytes((*C.uint8_t)(p), n))
	if err != nil {
		return err
	}
	defer res.free()
	var id *C.AMactorId
	if !C.AMitemToActorId(res.item(), &id) {
		return unexpected("actor id")
	}
	return done("set actor id", C.AMsetActorId(d.doc, id))
}

// Put writes v at the path, in a map that is there or over an element of a
// list: nil, bool, int64, uint64, float64, string (a scalar; text is an
// [Object]), []byte, time.Time (milliseconds), [Counter] or [Object].
func (d *Doc) Put(at Path, v any) error {
	return d.edit("put", at, func(obj *C.AMobjId, last any) *C.AMresult {
		val, data, ok := scalarOf(v)
		if !ok {
			return nil
		}
		p, n := c(data)
		if key, ok := last.(string); ok {
			k, kn := cString(key)
			return C.map_put(d.doc, obj, k, kn, val, p, n)
		}
		return C.list_put(d.doc, obj, C.size_t(last.(int)), false, val, p, n)
	})
}

// Insert writes v, as [Doc.Put] takes it, into a list before the element that
// the path names; the list's length names its end.
func (d *Doc) Insert(at Path, v any) error {
	return d.edit("insert", at, func(obj *C.AMobjId, last any) *C.AMresult {
		val, data, ok := scalarOf(v)
		index, isIndex := last.(int)
		if !ok || !isIndex {
			return nil
		}
		p, n := c(data)
		return C.list_put(d.doc, obj, C.size_t(index), true, val, p, n)
	})
}

// Delete removes what the path names. A key that a map does not have is no
// error, and no edit.
func (d *Doc) Delete(at Path) error {
	return d.edit("delete", at, func(obj *C.AMobjId, last any) *C.AMresult {
		if key, ok := last.(string); ok {
			k, n := cString(key)
			return C.map_delete(d.doc, obj, k, n)
		}
		return C.AMlistDelete(d.doc, obj, C.size_t(last.(int)))
	})
}

// Increment adds to a counter.
func (d *Doc) Increment(at Path, by int64) error {
	return d.edit("increment", at, func(obj *C.AMobjId, last any) *C.AMresult {
		if key, ok := last.(string); ok {
			k, n := cString(key)
			return C.map_increment(d.doc, obj, k, n, C.int64_t(by))
		}
		return C.AMlistIncrement(d.doc, obj, C.size_t(last.(int)), C.int64_t(by))
	})
}

// Splice replaces del characters (Unicode code points, not JavaScript's UTF-16
// units) of a text object, from pos on, by s.
func (d *Doc) Splice(text Path, pos, del int, s string) error {
	return d.with(text, C.OBJ_TEXT, func(obj *C.AMobjId) error {
		if size := int(C.AMobjSize(d.doc, obj, nil)); pos < 0 || del < 0 || pos > size || del > size-pos {
			return fmt.Errorf("automerge: splice: %d characters at %d of %d", del, pos, size)
		}
		p, n := cString(s)
		return done("splice", C.splice_text(d.doc, obj, C.size_t(pos), C.ptrdiff_t(del), p, n))
	})
}

// Len returns the number of keys, elements or characters of an object.
func (d *Doc) Len(at Path) (n int, err error) {
	err = d.with(at, 0, func(obj *C.AMobjId) error {
		n = int(C.AMobjSize(d.doc, obj, nil))
		return nil
	})
	return n, err
}

// Commit makes one change of the edits since the last one and returns its
// chunk. Time is in seconds since 1970, as JavaScript writes it; an empty
// message is none.
func (d *Doc) Commit(message string, time int64) ([]byte, error) {
	if C.AMpendingOps(d.doc) == 0 {
		return nil, ErrNothingToCommit
	}
	p, n := cString(message)
	res, err := checked("commit", C.commit(d.doc, p, n, C.int64_t(time)))
	if err != nil {
		return nil, err
	}
	res.free()
	return d.lastChange()
}

// Rollback drops the edits since the last commit.
func (d *Doc) Rollback() { C.AMrollback(d.doc) }

func (d *Doc) lastChange() ([]byte, error) {
	res, err := checked("last change", C.AMgetLastLocalChange(d.doc))
	if err != nil {
		return nil, err
	}
	defer res.free()
	var change *C.AMchange
	if !C.AMitemToChange(res.item(), &change) {
		return nil, unexpected("last change")
	}
	chunk := goBytes(C.AMchangeRawBytes(change))
	d.size += len(chunk)
	return chunk, nil
}

// edit calls f with the object that holds what the path names, and with the
// path's last step, of the type that the object takes: string or an int that is
// not negative.
func (d *Doc) edit(call string, at Path, f func(obj *C.AMobjId, last any) *C.AMresult) error {
	if len(at) == 0 {
		return fmt.Errorf("%w: %s at the root itself", ErrNoObject, call)
	}
	last, kind := at[len(at)-1], C.uint8_t(0)
	switch step := last.(type) {
	case string:
		kind = C.OBJ_MAP
	case int:
		kind = C.OBJ_LIST
		if step < 0 {
			return fmt.Errorf("automerge: %s: the index %d is negative", call, step)
		}
	default:
		return fmt.Errorf("automerge: %s: a path holds a %T, want string or int", call, last)
	}
	return d.with(at[:len(at)-1], kind, func(obj *C.AMobjId) error {
		return done(call, f(obj, last))
	})
}

// with walks to the object at a path and calls f with it. A kind that is not
// zero is required of it.
func (d *Doc) with(at Path, kind C.uint8_t, f func(*C.AMobjId) error) error {
	var obj *C.AMobjId // nil is the root
	found := C.uint8_t(C.OBJ_MAP)
	for _, step := range at {
		res, err := d.step(obj, found, step)
		if err != nil {
			return err
		}
		defer res.free() // obj is in res until f is through
		var v C.scalar
		if !C.read_item(d.doc, res.item(), &v) || v._type != C.VAL_OBJ {
			return fmt.Errorf("%w at %v", ErrNoObject, at)
		}
		obj, found = v.obj, v.code
	}
	if kind != 0 && kind != found {
		return fmt.Errorf("%w of the kind needed at %v", ErrNoObject, at)
	}
	return f(obj)
}

func (d *Doc) step(obj *C.AMobjId, kind C.uint8_t, step any) (result, error) {
	switch step := step.(type) {
	case string:
		if kind == C.OBJ_MAP {
			p, n := cString(step)
			return checked("get", C.map_get(d.doc, obj, p, n))
		}
	case int:
		if kind == C.OBJ_LIST && step >= 0 && step < int(C.AMobjSize(d.doc, obj, nil)) {
			return checked("get", C.AMlistGet(d.doc, obj, C.size_t(step), nil))
		}
	}
	return result{}, fmt.Errorf("%w: nothing at %v", ErrNoObject, step)
}

// scalarOf is v as the C side takes it, and the bytes that belong to it.
func scalarOf(v any) (s C.scalar, data []byte, ok bool) {
	switch v := v.(type) {
	case nil:
		s._type = C.VAL_NULL
	case bool:
		s._type, s.b = C.VAL_BOOL, C.bool(v)
	case int64:
		s._type, s.i = C.VAL_INT, C.int64_t(v)
	case uint64:
		s._type, s.u = C.VAL_UINT, C.uint64_t(v)
	case float64:
		s._type, s.f = C.VAL_F64, C.double(v)
	case string:
		s._type, data = C.VAL_STR, unsafe.Slice(unsafe.StringData(v), len(v))
	case []byte:
		s._type, data = C.VAL_BYTES, v
	case time.Time:
		s._type, s.i = C.VAL_TIMESTAMP, C.int64_t(v.UnixMilli())
	case Counter:
		s._type, s.i = C.VAL_COUNTER, C.int64_t(v)
	case Object:
		s._type, s.code = C.VAL_OBJ, C.uint8_t(v)
	default:
		return s, nil, false
	}
	return s, data, true
}
