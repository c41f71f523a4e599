// Sync messages whose changes are not what an editor makes. Sent by a peer that
// otherwise keeps to the protocol, into a document that others are editing: what
// is refused is not passed on and not kept, and nobody's connection gets stuck.
import assert from "node:assert/strict"
import * as Automerge from "@automerge/automerge"
import { client, clients, converged, joined, random, saved, scenario, until } from "./client.mjs"
import { Raw } from "./raw.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

const base = Automerge.from({ n: 0 }, "00".repeat(16))

// member joins as a raw peer that has asked for the document.
async function member(t, documentId) {
  const raw = await Raw.join(t, server)
  raw.request(documentId)
  await raw.receive("sync")
  return raw
}

// poison has a raw peer send each list of changes into a document of two
// clients, coming back whenever it is thrown out. They must go on as if nothing
// had been sent; so must a newcomer, also after a restart.
async function poison(t, lists) {
  const all = clients(t, server, 2)
  const first = all[0].repo.import(Automerge.save(base))
  await saved(all[0], first)
  const second = await all[1].find(first.url)
  let raw = { closed: true }
  for (const changes of lists) {
    if (raw.closed) raw = await member(t, first.documentId)
    raw.offer(first.documentId, changes)
    await raw.settled()
  }
  server.assertRunning()

  first.change(doc => (doc.n += 1))
  await until("the witnesses converge", () => second.doc().n === 1)
  await converged([first, second])
  await saved(all[0], first)
  const contents = Automerge.toJS(first.doc())
  const check = async () => {
    const late = await client(t, server).find(first.url)
    await converged([first, late])
    assert.deepEqual(Automerge.toJS(late.doc()), contents)
  }
  await check()
  if (!server.restartable) return contents
  await Promise.all(all.map(c => c.close()))
  await server.stop()
  await server.start()
  await check()
  return contents
}

// One honest change on top of base, for spoiling.
const edited = Automerge.change(Automerge.clone(base, "11".repeat(16)), doc => {
  doc.map = { text: "some text", list: [1, 2, 3], bytes: new Uint8Array(20) }
})
const honest = Automerge.getLastLocalChange(edited)

const flipped = (bytes, at, bit) => bytes.map((b, i) => (i === at ? b ^ (1 << bit) : b))

scenario("changes with any bit flipped", async t => {
  const pick = random(1)
  const lists = Array.from({ length: 150 }, () => [flipped(honest, pick(honest.length), pick(8))])
  assert.deepEqual(await poison(t, lists), { n: 1 })
})

scenario("changes cut short, joined together or followed by bytes", async t => {
  const pick = random(2)
  const lists = Array.from({ length: 50 }, () => [honest.slice(0, pick(honest.length))])
  lists.push([new Uint8Array()], [new Uint8Array([0x85, 0x6f, 0x4a, 0x83])], [new Uint8Array(1000)])
  lists.push([new Uint8Array([...honest, 0])], [new Uint8Array([...honest.slice(0, -1)])])
  assert.deepEqual(await poison(t, lists), { n: 1 })
})

scenario("a whole document where a change belongs", async t => {
  await poison(t, [[Automerge.save(edited)], [Automerge.save(Automerge.from({ other: true }))]])
})

const actor = "22".repeat(16)
const [root] = Automerge.getHeads(base)
const set = { action: "set", obj: "_root", key: "poison", datatype: "int", value: 1, pred: [] }
const change = fields =>
  Automerge.encodeChange({ actor, seq: 1, startOp: 2, time: 0, message: null, deps: [root], ops: [set], ...fields })

scenario("changes that are well-formed and false", async t => {
  const lies = [
    { deps: ["ff".repeat(32)] }, // of nobody's
    { seq: 2 }, // the first is missing
    { startOp: 1 }, // an id that is taken
    { startOp: 100 }, // ids left out
    { ops: [{ ...set, pred: ["9@" + actor] }] }, // overwrites what is not there
    { ops: [{ ...set, pred: ["1@" + "33".repeat(16)] }] },
    { ops: [{ ...set, obj: "1@" + "00".repeat(16) }] }, // into what is no object
    { ops: [{ ...set, obj: "7@" + actor }] }, // into what is not there
    { ops: [{ action: "del", obj: "_root", key: "n", pred: [] }] },
  ]
  const made = lies.flatMap(lie => {
    try {
      return [[change(lie)]]
    } catch {
      return [] // Automerge does not even encode it
    }
  })
  assert.ok(made.length >= 5, `only ${made.length} of the lies could be told`)
  const contents = await poison(t, made)
  assert.equal(contents.n, 1)
})

scenario("one actor's number used for two changes", async t => {
  const twice = [1, 2].map(value => change({ ops: [{ ...set, value }] }))
  const contents = await poison(t, [[twice[0]], [twice[1]], twice])
  assert.equal(contents.poison, 1)
})

scenario("heads and needs of nobody's", async t => {
  const writer = client(t, server)
  const handle = writer.repo.create({ n: 0 })
  await saved(writer, handle)
  const raw = await Raw.join(t, server)
  const hashes = Array.from({ length: 500 }, (_, i) => i.toString(16).padStart(64, "0"))
  for (let i = 0; i < 20; i++) {
    raw.offer(handle.documentId, [], { heads: hashes, need: hashes, have: [{ lastSync: hashes, bloom: new Uint8Array() }] })
  }
  await raw.settled()
  const found = await client(t, server).find(handle.url)
  await converged([handle, found])
})

scenario("a change over the limits ends in no endless exchange", async t => {
  const author = client(t, server)
  await joined(author)
  const handle = author.repo.create({ list: [] })
  await saved(author, handle)
  let frames = 0
  author.adapter.on("message", () => frames++)
  handle.change(doc => doc.list.push(...Array.from({ length: 30_000 }, (_, i) => i))) // 20,000 operations are allowed
  const other = author.repo.create({ n: 0 })
  for (let n = 1; n <= 20; n++) {
    other.change(doc => (doc.n = n))
    await saved(author, other)
  }
  assert.ok(frames < 100, `the server has sent ${frames} frames`)
  assert.equal(author.adapter.connected, true)
  const late = await client(t, server).find(handle.url)
  assert.equal(late.doc().list.length, 0)
})
