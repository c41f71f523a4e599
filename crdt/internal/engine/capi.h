// The part of Automerge's C API that this package calls, declared by hand for
// the one version of the library that automerge-go links, and small wrappers
// that take a pointer and a length where the API takes a struct: cgo may then
// be handed Go memory directly.
#ifndef PARLEY_ENGINE_CAPI_H
#define PARLEY_ENGINE_CAPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

typedef struct AMactorId AMactorId;
typedef struct AMchange AMchange;
typedef struct AMdoc AMdoc;
typedef struct AMitem AMitem;
typedef struct AMobjId AMobjId;
typedef struct AMresult AMresult;
typedef struct AMbyteSpan { const uint8_t *src; size_t count; } AMbyteSpan;
typedef struct AMitems { uint8_t detail[8 + 8 + 8]; } AMitems;
typedef struct AMunknownValue { AMbyteSpan bytes; uint8_t type_code; } AMunknownValue;

enum { STATUS_OK = 0 };
enum { OBJ_LIST = 1, OBJ_MAP = 2, OBJ_TEXT = 3 };
enum {
  VAL_VOID = 1 << 0, VAL_BOOL = 1 << 2, VAL_BYTES = 1 << 3,
  VAL_COUNTER = 1 << 6, VAL_F64 = 1 << 8, VAL_INT = 1 << 9, VAL_NULL = 1 << 11,
  VAL_OBJ = 1 << 12, VAL_STR = 1 << 13, VAL_TIMESTAMP = 1 << 17,
  VAL_UINT = 1 << 18, VAL_UNKNOWN = 1 << 19,
};

// Results own what was read out of them. Each must be freed.
uint8_t AMresultStatus(const AMresult *);
AMbyteSpan AMresultError(const AMresult *);
void AMresultFree(AMresult *);
AMitem *AMresultItem(AMresult *);
AMitems AMresultItems(AMresult *);
size_t AMresultSize(const AMresult *);

AMitem *AMitemsNext(AMitems *, ptrdiff_t);
uint32_t AMitemValType(const AMitem *);
const AMobjId *AMitemObjId(const AMitem *);
bool AMitemKey(const AMitem *, AMbyteSpan *);
bool AMitemToActorId(const AMitem *, const AMactorId **);
bool AMitemToBool(const AMitem *, bool *);
bool AMitemToBytes(const AMitem *, AMbyteSpan *);
bool AMitemToChange(AMitem *, AMchange **);
bool AMitemToChangeHash(const AMitem *, AMbyteSpan *);
bool AMitemToCounter(const AMitem *, int64_t *);
bool AMitemToDoc(AMitem *, AMdoc **);
bool AMitemToF64(const AMitem *, double *);
bool AMitemToInt(const AMitem *, int64_t *);
bool AMitemToStr(const AMitem *, AMbyteSpan *);
bool AMitemToTimestamp(const AMitem *, int64_t *);
bool AMitemToUint(const AMitem *, uint64_t *);
bool AMitemToUnknown(const AMitem *, AMunknownValue *);

AMresult *AMactorIdFromBytes(const uint8_t *, size_t);
AMresult *AMcreate(const AMactorId *);
AMresult *AMsetActorId(AMdoc *, const AMactorId *);
AMresult *AMload(const uint8_t *, size_t);
AMresult *AMsave(AMdoc *);
AMresult *AMgetHeads(AMdoc *);
AMresult *AMgetChanges(AMdoc *, const AMitems *);
AMresult *AMgetMissingDeps(AMdoc *, const AMitems *);
AMresult *AMgetLastLocalChange(AMdoc *);
AMresult *AMchangeFromBytes(const uint8_t *, size_t);
AMresult *AMapplyChanges(AMdoc *, const AMitems *);
AMbyteSpan AMchangeHash(const AMchange *);
AMbyteSpan AMchangeRawBytes(const AMchange *);
AMresult *AMcommit(AMdoc *, AMbyteSpan, const int64_t *);
size_t AMpendingOps(const AMdoc *);
size_t AMrollback(AMdoc *);

size_t AMobjSize(const AMdoc *, const AMobjId *, const AMitems *);
uint8_t AMobjObjType(const AMdoc *, const AMobjId *);
AMresult *AMtext(const AMdoc *, const AMobjId *, const AMitems *);
AMresult *AMspliceText(AMdoc *, const AMobjId *, size_t, ptrdiff_t, AMbyteSpan);
AMresult *AMmapRange(const AMdoc *, const AMobjId *, AMbyteSpan, AMbyteSpan, const AMitems *);
AMresult *AMmapGet(const AMdoc *, const AMobjId *, AMbyteSpan, const AMitems *);
AMresult *AMmapDelete(AMdoc *, const AMobjId *, AMbyteSpan);
AMresult *AMmapIncrement(AMdoc *, const AMobjId *, AMbyteSpan, int64_t);
AMresult *AMmapPutBool(AMdoc *, const AMobjId *, AMbyteSpan, bool);
AMresult *AMmapPutBytes(AMdoc *, const AMobjId *, AMbyteSpan, AMbyteSpan);
AMresult *AMmapPutCounter(AMdoc *, const AMobjId *, AMbyteSpan, int64_t);
AMresult *AMmapPutF64(AMdoc *, const AMobjId *, AMbyteSpan, double);
AMresult *AMmapPutInt(AMdoc *, const AMobjId *, AMbyteSpan, int64_t);
AMresult *AMmapPutNull(AMdoc *, const AMobjId *, AMbyteSpan);
AMresult *AMmapPutObject(AMdoc *, const AMobjId *, AMbyteSpan, uint8_t);
AMresult *AMmapPutStr(AMdoc *, const AMobjId *, AMbyteSpan, AMbyteSpan);
AMresult *AMmapPutTimestamp(AMdoc *, const AMobjId *, AMbyteSpan, int64_t);
AMresult *AMmapPutUint(AMdoc *, const AMobjId *, AMbyteSpan, uint64_t);
AMresult *AMlistRange(const AMdoc *, const AMobjId *, size_t, size_t, const AMitems *);
AMresult *AMlistGet(const AMdoc *, const AMobjId *, size_t, const AMitems *);
AMresult *AMlistDelete(AMdoc *, const AMobjId *, size_t);
AMresult *AMlistIncrement(AMdoc *, const AMobjId *, size_t, int64_t);
AMresult *AMlistPutBool(AMdoc *, const AMobjId *, size_t, bool, bool);
AMresult *AMlistPutBytes(AMdoc *, const AMobjId *, size_t, bool, AMbyteSpan);
AMresult *AMlistPutCounter(AMdoc *, const AMobjId *, size_t, bool, int64_t);
AMresult *AMlistPutF64(AMdoc *, const AMobjId *, size_t, bool, double);
AMresult *AMlistPutInt(AMdoc *, const AMobjId *, size_t, bool, int64_t);
AMresult *AMlistPutNull(AMdoc *, const AMobjId *, size_t, bool);
AMresult *AMlistPutObject(AMdoc *, const AMobjId *, size_t, bool, uint8_t);
AMresult *AMlistPutStr(AMdoc *, const AMobjId *, size_t, bool, AMbyteSpan);
AMresult *AMlistPutTimestamp(AMdoc *, const AMobjId *, size_t, bool, int64_t);
AMresult *AMlistPutUint(AMdoc *, const AMobjId *, size_t, bool, uint64_t);

// span views n bytes. It never has a null source, which the API would read as
// "nothing given" instead of "empty".
static inline AMbyteSpan span(const void *src, size_t n) {
  return (AMbyteSpan){n == 0 ? (const uint8_t *)"" : (const uint8_t *)src, n};
}

// scalar is one value, going in or coming out. type says which field holds it;
// bytes also holds strings and the bytes of an unknown value, whose type code
// is code. obj is set for objects alone, code then holds the object's type.
// i also holds counters and timestamps (milliseconds).
typedef struct scalar {
  uint32_t type;
  uint8_t code;
  bool b;
  int64_t i;
  uint64_t u;
  double f;
  AMbyteSpan bytes;
  const AMobjId *obj;
} scalar;

// read_item reads a value. It returns false for a type that is no value of a
// document.
static inline bool read_item(const AMdoc *doc, const AMitem *item, scalar *out) {
  AMunknownValue unknown;
  out->type = AMitemValType(item);
  switch (out->type) {
  case VAL_VOID: case VAL_NULL: return true;
  case VAL_BOOL: return AMitemToBool(item, &out->b);
  case VAL_BYTES: return AMitemToBytes(item, &out->bytes);
  case VAL_COUNTER: return AMitemToCounter(item, &out->i);
  case VAL_F64: return AMitemToF64(item, &out->f);
  case VAL_INT: return AMitemToInt(item, &out->i);
  case VAL_STR: return AMitemToStr(item, &out->bytes);
  case VAL_TIMESTAMP: return AMitemToTimestamp(item, &out->i);
  case VAL_UINT: return AMitemToUint(item, &out->u);
  case VAL_OBJ:
    out->obj = AMitemObjId(item);
    out->code = AMobjObjType(doc, out->obj);
    return out->obj != NULL;
  case VAL_UNKNOWN:
    if (!AMitemToUnknown(item, &unknown)) return false;
    out->bytes = unknown.bytes;
    out->code = unknown.type_code;
    return true;
  default: return false;
  }
}

static inline AMresult *map_range(const AMdoc *doc, const AMobjId *obj) {
  AMbyteSpan unbounded = {NULL, 0};
  return AMmapRange(doc, obj, unbounded, unbounded, NULL);
}

static inline AMresult *list_range(const AMdoc *doc, const AMobjId *obj) {
  return AMlistRange(doc, obj, 0, SIZE_MAX, NULL);
}

static inline AMresult *map_get(const AMdoc *doc, const AMobjId *obj, const void *key, size_t n) {
  return AMmapGet(doc, obj, span(key, n), NULL);
}

static inline AMresult *map_delete(AMdoc *doc, const AMobjId *obj, const void *key, size_t n) {
  return AMmapDelete(doc, obj, span(key, n));
}

static inline AMresult *map_increment(AMdoc *doc, const AMobjId *obj, const void *key, size_t n, int64_t by) {
  return AMmapIncrement(doc, obj, span(key, n), by);
}

// map_put writes v under a key; data holds v's bytes, if it has any. A type
// that cannot be written gives NULL.
static inline AMresult *map_put(AMdoc *doc, const AMobjId *obj, const void *key, size_t n,
                                scalar v, const void *data, size_t data_n) {
  AMbyteSpan k = span(key, n);
  switch (v.type) {
  case VAL_NULL: return AMmapPutNull(doc, obj, k);
  case VAL_BOOL: return AMmapPutBool(doc, obj, k, v.b);
  case VAL_BYTES: return AMmapPutBytes(doc, obj, k, span(data, data_n));
  case VAL_COUNTER: return AMmapPutCounter(doc, obj, k, v.i);
  case VAL_F64: return AMmapPutF64(doc, obj, k, v.f);
  case VAL_INT: return AMmapPutInt(doc, obj, k, v.i);
  case VAL_STR: return AMmapPutStr(doc, obj, k, span(data, data_n));
  case VAL_TIMESTAMP: return AMmapPutTimestamp(doc, obj, k, v.i);
  case VAL_UINT: return AMmapPutUint(doc, obj, k, v.u);
  case VAL_OBJ: return AMmapPutObject(doc, obj, k, v.code);
  default: return NULL;
  }
}

// list_put replaces the element at pos or, with insert, puts v before it.
static inline AMresult *list_put(AMdoc *doc, const AMobjId *obj, size_t pos, bool insert,
                                 scalar v, const void *data, size_t data_n) {
  switch (v.type) {
  case VAL_NULL: return AMlistPutNull(doc, obj, pos, insert);
  case VAL_BOOL: return AMlistPutBool(doc, obj, pos, insert, v.b);
  case VAL_BYTES: return AMlistPutBytes(doc, obj, pos, insert, span(data, data_n));
  case VAL_COUNTER: return AMlistPutCounter(doc, obj, pos, insert, v.i);
  case VAL_F64: return AMlistPutF64(doc, obj, pos, insert, v.f);
  case VAL_INT: return AMlistPutInt(doc, obj, pos, insert, v.i);
  case VAL_STR: return AMlistPutStr(doc, obj, pos, insert, span(data, data_n));
  case VAL_TIMESTAMP: return AMlistPutTimestamp(doc, obj, pos, insert, v.i);
  case VAL_UINT: return AMlistPutUint(doc, obj, pos, insert, v.u);
  case VAL_OBJ: return AMlistPutObject(doc, obj, pos, insert, v.code);
  default: return NULL;
  }
}

static inline AMresult *splice_text(AMdoc *doc, const AMobjId *obj, size_t pos, ptrdiff_t del,
                                    const void *text, size_t n) {
  return AMspliceText(doc, obj, pos, del, span(text, n));
}

// commit passes the message through; an empty one is none. The time is written
// as it is given.
static inline AMresult *commit(AMdoc *doc, const void *message, size_t n, int64_t time) {
  AMbyteSpan none = {NULL, 0};
  return AMcommit(doc, n == 0 ? none : span(message, n), &time);
}

static inline void trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

#endif
