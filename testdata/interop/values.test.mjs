// Every kind of value comes through, in its type.
import assert from "node:assert/strict"
import * as Automerge from "@automerge/automerge"
import { clients, converged, saved, scenario, until } from "./client.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

// pass has one client create a document and gives another's handle of it too.
async function pass(t, initial) {
  const [writer, reader] = clients(t, server, 2)
  const handle = writer.repo.create(initial)
  await saved(writer, handle)
  return [handle, await reader.find(handle.url)]
}

scenario("scalars, lists, maps, bytes and dates", async t => {
  const initial = {
    string: "text",
    unicode: "äöü ☃ 𝔸 \u0000",
    empty: "",
    immutable: new Automerge.ImmutableString("scalar"),
    true: true,
    false: false,
    null: null,
    int: 42,
    negative: -7,
    safe: Number.MAX_SAFE_INTEGER,
    float: 0.1,
    tiny: Number.MIN_VALUE,
    typedInt: new Automerge.Int(5),
    typedUint: new Automerge.Uint(6),
    typedFloat: new Automerge.Float64(7),
    date: new Date("2026-01-02T03:04:05.678Z"),
    bytes: new Uint8Array([0, 1, 254, 255]),
    noBytes: new Uint8Array(),
    list: [1, "two", { three: [3] }, null, []],
    map: { nested: { deeply: { yes: true } }, none: {} },
  }
  const [written, read] = await pass(t, initial)
  assert.deepEqual(Automerge.toJS(read.doc()), Automerge.toJS(written.doc()))
  assert.ok(read.doc().date instanceof Date)
  assert.ok(read.doc().bytes instanceof Uint8Array)
  assert.equal(Number(read.doc().safe), Number.MAX_SAFE_INTEGER) // Automerge reads large integers as BigInt
})

scenario("text that two clients edit", async t => {
  const [a, b] = await pass(t, { text: "middle" })
  a.change(doc => Automerge.splice(doc, ["text"], 0, 0, "before "))
  b.change(doc => Automerge.splice(doc, ["text"], 6, 0, " after"))
  await converged([a, b])
  assert.equal(a.doc().text, "before middle after")
  assert.equal(b.doc().text, a.doc().text)
})

scenario("text with marks", async t => {
  const [a, b] = await pass(t, { text: "bold and plain" })
  a.change(doc => Automerge.mark(doc, ["text"], { start: 0, end: 4, expand: "both" }, "bold", true))
  await converged([a, b])
  assert.deepEqual(Automerge.marks(b.doc(), ["text"]), [{ name: "bold", value: true, start: 0, end: 4 }])
})

scenario("counters that two clients increment", async t => {
  const [a, b] = await pass(t, { n: new Automerge.Counter(10) })
  for (let i = 0; i < 5; i++) {
    a.change(doc => doc.n.increment(1))
    b.change(doc => doc.n.decrement(3))
  }
  await converged([a, b])
  assert.equal(a.doc().n.value, 0)
  assert.equal(b.doc().n.value, 0)
})

scenario("deletes, list splices and whole maps replaced", async t => {
  const [a, b] = await pass(t, { list: [1, 2, 3, 4], map: { old: true }, gone: 1 })
  a.change(doc => {
    delete doc.gone
    doc.list.splice(1, 2, "x")
    doc.map = { fresh: true }
  })
  await converged([a, b])
  assert.deepEqual(Automerge.toJS(b.doc()), { list: [1, "x", 4], map: { fresh: true } })
})

scenario("values of 1 MiB", async t => {
  const bytes = new Uint8Array(1 << 20).map((_, i) => (i * 2654435761) >>> 24)
  const [a, b] = await pass(t, { bytes })
  assert.deepEqual(b.doc().bytes, bytes)
  a.change(doc => (doc.string = new Automerge.ImmutableString("x".repeat(1 << 20))))
  await until("b has the string", () => b.doc().string?.toString().length === 1 << 20, 20_000)
})
