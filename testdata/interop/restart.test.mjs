// The server stops and starts, and nothing is lost.
import assert from "node:assert/strict"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after } from "node:test"
import * as Automerge from "@automerge/automerge"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { client, clients, converged, find, joined, saved, scenario, until } from "./client.mjs"
import { useServer } from "./server.mjs"

const server = useServer()
const skip = server.restartable ? false : "PARLEY_URL names a server that is not the tests' to stop"

// Clients' own stores, in a folder that goes when the last client has closed.
const stores = fs.mkdtempSync(path.join(os.tmpdir(), "parley-interop-client-"))
after(() => fs.rmSync(stores, { recursive: true, force: true }))
const store = () => fs.mkdtempSync(path.join(stores, "store-"))

async function restart() {
  await server.stop()
  await server.start()
}

scenario("documents are intact after a restart", { skip }, async t => {
  const writer = client(t, server)
  const handles = Array.from({ length: 10 }, (_, n) => writer.repo.create({ n, log: [] }))
  for (const handle of handles) for (let i = 0; i < 10; i++) handle.change(doc => doc.log.push(i))
  await Promise.all(handles.map(handle => saved(writer, handle)))
  await writer.close()
  await restart()
  const reader = client(t, server)
  for (const handle of handles) {
    const found = await reader.find(handle.url)
    assert.deepEqual(Automerge.toJS(found.doc()), Automerge.toJS(handle.doc()))
    assert.deepEqual(found.heads(), handle.heads())
  }
})

scenario("a document survives restarts with changes between them", { skip }, async t => {
  const [a, b] = clients(t, server, 2)
  const handle = a.repo.create({ rounds: [] })
  await saved(a, handle)
  const other = await b.find(handle.url)
  for (let round = 0; round < 3; round++) {
    await restart()
    const side = round % 2 ? handle : other
    side.change(doc => doc.rounds.push(round))
    await until(`round ${round} is everywhere`, () => [handle, other].every(h => h.doc().rounds.length === round + 1))
  }
  await Promise.all([saved(a, handle), saved(b, other)])
  await Promise.all([a.close(), b.close()])
  await restart()
  const found = await client(t, server).find(handle.url)
  assert.deepEqual(Automerge.toJS(found.doc()), { rounds: [0, 1, 2] })
})

scenario("clients return by themselves with what they edited meanwhile", { skip }, async t => {
  const all = clients(t, server, 3)
  const first = all[0].repo.create({ edits: {} })
  await saved(all[0], first)
  const handles = [first, ...(await Promise.all(all.slice(1).map(c => c.find(first.url))))]
  await converged(handles)
  await server.stop()
  handles.forEach((handle, i) => handle.change(doc => (doc.edits[`while down ${i}`] = true)))
  const born = all[1].repo.create({ born: "while down" })
  await server.start()
  await until("all edits are everywhere", () => handles.every(h => Object.keys(h.doc().edits).length === 3))
  const found = await all[2].find(born.url)
  assert.equal(found.doc().born, "while down")
})

scenario("clients with a store of their own, across restarts on both sides", { skip }, async t => {
  const folders = [store(), store()]
  const open = () => folders.map(folder => client(t, server, { storage: new NodeFSStorageAdapter(folder) }))

  let [a, b] = open()
  const { url } = a.repo.create({ edits: {} })
  await saved(a, await a.find(url))
  await b.find(url)
  await Promise.all([a.close(), b.close()])

  for (let round = 0; round < 2; round++) {
    await server.stop()
    ;[a, b] = open()
    for (const [side, c] of [a, b].entries()) {
      const handle = await find(c.repo, url) // from its own store
      handle.change(doc => (doc.edits[`round ${round} side ${side}`] = true))
    }
    await server.start()
    const handles = [await a.find(url), await b.find(url)]
    const want = 2 * (round + 1)
    await until("both have all edits", () => handles.every(h => Object.keys(h.doc().edits).length === want))
    await Promise.all([saved(a, handles[0]), saved(b, handles[1])])
    await Promise.all([a.close(), b.close()])
  }
})

scenario("a late joiner is answered from disk", { skip }, async t => {
  const writer = client(t, server)
  await joined(writer)
  const handle = writer.repo.create({ fields: {} })
  for (let i = 0; i < 300; i++) handle.change(doc => (doc.fields[`field ${i % 50}`] = i))
  await saved(writer, handle, 20_000)
  await writer.close()
  await restart()
  const found = await client(t, server).find(handle.url)
  await converged([handle, found])
})

scenario("a herd of clients returns with many documents each", { skip }, async t => {
  const herd = clients(t, server, 20)
  const documents = await Promise.all(
    herd.map(async c => {
      const handles = Array.from({ length: 10 }, (_, n) => c.repo.create({ n }))
      await Promise.all(handles.map(handle => saved(c, handle)))
      return handles
    })
  )
  await server.kill()
  for (const handle of documents.flat()) handle.change(doc => (doc.n += 100))
  await server.start()
  await Promise.all(herd.map((c, i) => Promise.all(documents[i].map(handle => saved(c, handle, 30_000)))))
  const reader = client(t, server)
  for (const handle of documents.map(list => list.at(-1))) {
    assert.equal((await reader.find(handle.url)).doc().n, 109)
  }
})
