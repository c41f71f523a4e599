// Reads one JSON array of base64 changes a line, each after those that it depends
// on, and answers each with what the library makes of them, or with why not:
//
//	{"changes": [{hash, actor, seq, startOp, time, message, deps, ops}], "heads", "state"}
//	{"error"}
//
// Operations are as decodeChange returns them, null where it cannot: it has no
// integer beyond 53 bits. The state is as crdt.Materialize writes it. Numbers are
// strings, so that none is rounded on the way. The document must survive being
// saved and loaded.
import { createInterface } from "node:readline"
import * as A from "@automerge/automerge"
import { toJSON } from "./plain.mjs"

const exact = (_, v) => {
  if (v instanceof Uint8Array) return [...v].map(String)
  return typeof v === "number" || typeof v === "bigint" ? String(v) : v
}

const operations = new Map()
const decode = chunk => {
  try {
    const c = A.decodeChange(chunk)
    operations.set(c.hash, c.ops)
  } catch (e) {
    if (!String(e).includes("represented as a JavaScript number")) throw e
  }
}

const same = (what, a, b) => {
  if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`saved and loaded it has other ${what}`)
}

const read = chunks => {
  operations.clear()
  chunks.forEach(decode)
  const [doc] = A.applyChanges(A.init(), chunks)
  const changes = A.getChangesMetaSince(doc, []).map(c => ({ ...c, ops: operations.get(c.hash) ?? null }))
  if (changes.length !== chunks.length) throw new Error(`${changes.length} of ${chunks.length} changes were taken`)
  const again = A.load(A.save(doc))
  const heads = A.getHeads(doc).sort()
  const state = toJSON(doc)
  const hashes = doc => A.getChangesMetaSince(doc, []).map(c => c.hash).sort()
  same("heads", A.getHeads(again).sort(), heads)
  same("changes", hashes(again), hashes(doc))
  same("state", toJSON(again), state)
  return JSON.stringify({ changes, heads, state }, exact)
}

for await (const line of createInterface({ input: process.stdin })) {
  const chunks = JSON.parse(line).map(c => new Uint8Array(Buffer.from(c, "base64")))
  try {
    console.log(read(chunks))
  } catch (e) {
    console.log(JSON.stringify({ error: String(e) }))
  }
}
