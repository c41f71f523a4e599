// Reads one JSON array of base64 chunks a line and answers each with the
// document they make, in the JSON that crdt.Materialize writes. The answer to an
// empty line is the change, in hexadecimal, that this library makes of one edit.
import { createInterface } from "node:readline"
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

const oneEdit = () => {
  let doc = A.init({ actor: "0102" })
  doc = A.change(doc, { message: "m", time: 1 }, d => { d.a = new A.ImmutableString("b") })
  return Buffer.from(A.getLastLocalChange(doc)).toString("hex")
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "") {
    console.log(oneEdit())
    continue
  }
  const chunks = JSON.parse(line).map(c => new Uint8Array(Buffer.from(c, "base64")))
  const [doc] = A.applyChanges(A.init(), chunks)
  console.log(goUnquote(JSON.stringify(plain(doc))))
}
