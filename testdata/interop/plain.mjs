// A value of a document as the JSON that Go's crdt.Materialize writes.
import * as A from "@automerge/automerge"

const plain = value => {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value
  if (typeof value === "bigint") return exact(value)
  if (typeof value === "number") return plainNumber(value)
  if (value instanceof Date) return plainDate(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64")
  if (value instanceof A.Counter) return plainNumber(value.value)
  if (A.isImmutableString(value)) return value.toString()
  if (Array.isArray(value)) return value.map(plain)
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
}

const plainDate = date => {
  const year = date.getUTCFullYear()
  return year >= 0 && year <= 9999 ? date.toISOString() : date.getTime()
}

const plainNumber = n => Number.isFinite(n) ? n : String(n)

// JSON.stringify has no exact form for a bigint: a marker that goUnquote drops.
const exact = n => `bigint:${n}`
const goUnquote = json => json.replace(/"bigint:(-?\d+)"/g, "$1")

export const toJSON = value => goUnquote(JSON.stringify(plain(value)))
