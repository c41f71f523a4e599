// Documents edited by several clients come out the same everywhere.
import assert from "node:assert/strict"
import * as Automerge from "@automerge/automerge"
import { client, clients, converged, joined, random, saved, scenario, until } from "./client.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

// share has the first client create a document and the others open it.
async function share(all, initial = { fields: {} }) {
  const first = all[0].repo.create(initial)
  await saved(all[0], first)
  return [first, ...(await Promise.all(all.slice(1).map(c => c.find(first.url))))]
}

scenario("changes go both ways", async t => {
  const [a, b] = await share(clients(t, server, 2))
  a.change(doc => (doc.fields.price = 100))
  await until("b sees the price", () => b.doc().fields.price === 100)
  b.change(doc => (doc.fields.price = 120))
  await until("a sees the new price", () => a.doc().fields.price === 120)
})

scenario("a late joiner gets the document after its writer has left", async t => {
  const writer = client(t, server)
  const handle = writer.repo.create({ title: "kept" })
  handle.change(doc => (doc.more = [1, 2, 3]))
  await saved(writer, handle)
  await writer.close()
  const late = await client(t, server).find(handle.url)
  assert.deepEqual(Automerge.toJS(late.doc()), { title: "kept", more: [1, 2, 3] })
})

scenario("concurrent writes to one key have one winner and one set of conflicts on all clients", async t => {
  const all = clients(t, server, 3)
  const handles = await share(all)
  await converged(handles)
  for (const c of all) c.adapter.goOffline()
  handles.forEach((handle, i) => handle.change(doc => (doc.fields.price = 100 + i)))
  for (const c of all) c.adapter.goOnline()
  await converged(handles)
  const outcome = handle => ({
    winner: handle.doc().fields.price,
    conflicts: Automerge.getConflicts(handle.doc().fields, "price"),
  })
  const [first, ...others] = handles.map(outcome)
  assert.deepEqual(Object.values(first.conflicts).sort(), [100, 101, 102])
  for (const other of others) assert.deepEqual(other, first)
})

scenario("edits made offline on both sides are merged", async t => {
  const all = clients(t, server, 2)
  const [a, b] = await share(all)
  for (const c of all) c.adapter.goOffline()
  for (let i = 0; i < 25; i++) {
    a.change(doc => (doc.fields[`a${i}`] = i))
    b.change(doc => (doc.fields[`b${i}`] = i))
  }
  for (const c of all) c.adapter.goOnline()
  await converged([a, b])
  assert.equal(Object.keys(a.doc().fields).length, 50)
})

scenario("60 fields", async t => {
  const [a, b] = await share(clients(t, server, 2))
  for (let i = 0; i < 60; i++) {
    const side = i % 2 ? a : b
    side.change(doc => (doc.fields[`field ${i}`] = { label: `Field ${i}`, value: i }))
  }
  await converged([a, b])
  assert.equal(Object.keys(b.doc().fields).length, 60)
  assert.deepEqual(Automerge.toJS(b.doc()), Automerge.toJS(a.doc()))
})

scenario("a document with 5,000 changes", async t => {
  const writer = client(t, server)
  await joined(writer)
  const handle = writer.repo.create({ fields: {} })
  handle.update(doc => {
    for (let i = 0; i < 5_000; i++) doc = Automerge.change(doc, d => (d.fields[`field ${i % 50}`] = i))
    return doc
  })
  await saved(writer, handle, 40_000)
  const reader = await client(t, server).find(handle.url)
  await converged([handle, reader], 20_000)
  assert.equal(Automerge.getAllChanges(reader.doc()).length, 5_001)
})

scenario("20 documents on one connection", async t => {
  const [writer, reader] = clients(t, server, 2)
  const written = Array.from({ length: 20 }, (_, n) => writer.repo.create({ n }))
  await Promise.all(written.map(handle => saved(writer, handle)))
  const read = await Promise.all(written.map(handle => reader.find(handle.url)))
  read.forEach((handle, n) => assert.equal(handle.doc().n, n))
  read.forEach(handle => handle.change(doc => (doc.n += 100)))
  await Promise.all(written.map((handle, n) => until(`document ${n} comes back`, () => handle.doc().n === n + 100)))
})

scenario("1,000 changes in a rush", async t => {
  const [a, b] = await share(clients(t, server, 2), { n: 0 })
  for (let i = 1; i <= 1_000; i++) {
    a.change(doc => (doc.n = i))
    if (i % 50 === 0) await new Promise(setImmediate)
  }
  await until("b has the last", () => b.doc().n === 1_000, 30_000)
  await converged([a, b])
})

scenario("a crowd that edits, goes offline and comes back", async t => {
  const pick = random(3)
  const crowd = clients(t, server, 8)
  const handles = await share(crowd, { fields: {}, list: [], text: "" })
  const edits = [
    doc => (doc.fields[`field ${pick(10)}`] = pick(1_000)),
    doc => delete doc.fields[`field ${pick(10)}`],
    doc => (doc.fields[`field ${pick(10)}`] = { value: pick(1_000), by: "somebody" }),
    doc => doc.list.splice(pick(doc.list.length + 1), pick(2), pick(1_000)),
    doc => Automerge.splice(doc, ["text"], pick(doc.text.length + 1), 0, "abc"),
  ]
  for (let i = 0; i < 400; i++) {
    const who = pick(crowd.length)
    handles[who].change(edits[pick(edits.length)])
    if (pick(20) === 0) crowd[who].adapter.goOffline()
    if (pick(10) === 0) crowd.filter(c => !c.adapter.socket).forEach(c => c.adapter.goOnline())
    if (pick(5) === 0) await new Promise(setImmediate)
  }
  crowd.filter(c => !c.adapter.socket).forEach(c => c.adapter.goOnline())
  await converged(handles, 30_000)
  const [first, ...others] = handles.map(handle => Automerge.toJS(handle.doc()))
  for (const other of others) assert.deepEqual(other, first)
})
