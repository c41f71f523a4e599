package engine

// #include "capi.h"
import "C"

import (
	"fmt"
	"iter"
	"strings"
	"unsafe"
)

// Error is a call that the engine refused.
type Error struct {
	Call    string // what was asked of it
	Message string // the engine's own words, at most maxMessage bytes; they may quote the document
}

const maxMessage = 300

func (e *Error) Error() string { return "automerge: " + e.Call + ": " + e.Message }

// result owns one AMresult. What is read out of it (items, spans, object ids,
// the document of a load) lives in its memory and must not be used after free.
type result struct{ c *C.AMresult }

// checked takes ownership of r. On an error r is freed already.
func checked(call string, r *C.AMresult) (result, error) {
	if r == nil {
		return result{}, &Error{Call: call, Message: "not supported"}
	}
	if C.AMresultStatus(r) == C.STATUS_OK {
		return result{r}, nil
	}
	defer C.AMresultFree(r)
	message := goString(C.AMresultError(r))
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	return result{}, &Error{Call: call, Message: strings.ToValidUTF8(message, "\uFFFD")}
}

// done is for calls whose result holds nothing of interest.
func done(call string, r *C.AMresult) error {
	res, err := checked(call, r)
	res.free()
	return err
}

func (r result) free() {
	if r.c != nil {
		C.AMresultFree(r.c)
	}
}

func (r result) item() *C.AMitem { return C.AMresultItem(r.c) }

func (r result) size() int { return int(C.AMresultSize(r.c)) }

func (r result) items() iter.Seq[*C.AMitem] {
	return func(yield func(*C.AMitem) bool) {
		items := C.AMresultItems(r.c)
		for it := C.AMitemsNext(&items, 1); it != nil; it = C.AMitemsNext(&items, 1) {
			if !yield(it) {
				return
			}
		}
	}
}

// bytes copies the byte string that the result holds.
func (r result) bytes(call string) ([]byte, error) {
	var s C.AMbyteSpan
	if !C.AMitemToBytes(r.item(), &s) {
		return nil, unexpected(call)
	}
	return goBytes(s), nil
}

// hash reads the change hash that an item holds.
func hash(call string, it *C.AMitem) (Hash, error) {
	var s C.AMbyteSpan
	if !C.AMitemToChangeHash(it, &s) || s.count != C.size_t(len(Hash{})) {
		return Hash{}, unexpected(call)
	}
	return Hash(view(s)), nil
}

// unexpected says that a result was not of the type that the C API promises.
func unexpected(call string) error {
	return fmt.Errorf("automerge: %s: the result has an unexpected type", call)
}

// view is the span's own memory, in the hands of whatever it was read from.
func view(s C.AMbyteSpan) []byte {
	if s.count == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(s.src)), int(s.count))
}

func goBytes(s C.AMbyteSpan) []byte { return append([]byte{}, view(s)...) }

func goString(s C.AMbyteSpan) string { return string(view(s)) }

// c returns a pointer and length that C may read for the length of one call.
func c(b []byte) (unsafe.Pointer, C.size_t) {
	return unsafe.Pointer(unsafe.SliceData(b)), C.size_t(len(b))
}

func cString(s string) (unsafe.Pointer, C.size_t) {
	return unsafe.Pointer(unsafe.StringData(s)), C.size_t(len(s))
}
