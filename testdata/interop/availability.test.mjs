// What a client learns of documents that are empty, unknown, or not there yet.
import assert from "node:assert/strict"
import { generateAutomergeUrl, parseAutomergeUrl } from "@automerge/automerge-repo"
import { client, clients, joined, saved, scenario, until } from "./client.mjs"
import { Raw } from "./raw.mjs"
import { useServer } from "./server.mjs"

const server = useServer()
const prompt = 2_000 // ms

scenario("a document created empty and asked for at once", async t => {
  const [writer, reader] = clients(t, server, 2)
  await Promise.all([joined(writer), joined(reader)])
  const handle = writer.repo.create()
  const search = reader.repo.findWithProgress(handle.url)
  await until("the reader has the empty document", () => search.peek().handle.isReady())
  assert.deepEqual(search.peek().handle.heads(), handle.heads())
})

scenario("an empty document is given to who asks later", async t => {
  const writer = client(t, server)
  const handle = writer.repo.create()
  await saved(writer, handle)
  await writer.close()
  const found = await client(t, server).find(handle.url)
  assert.deepEqual(found.heads(), handle.heads())
})

scenario("an unknown document is unavailable promptly", async t => {
  const reader = client(t, server)
  await joined(reader)
  const asked = Date.now()
  await assert.rejects(reader.find(generateAutomergeUrl()), /unavailable/)
  const took = Date.now() - asked
  assert.ok(took < prompt, `it took ${took} ms`)
})

scenario("an unavailable document arrives when somebody brings it, without being asked for again", async t => {
  const [reader, writer] = clients(t, server, 2)
  writer.adapter.goOffline()
  await joined(reader)
  const handle = writer.repo.create({ late: true })
  const search = reader.repo.findWithProgress(handle.url)
  await until("it is unavailable", () => search.peek().state === "unavailable", prompt)
  writer.adapter.goOnline()
  await until("it is ready", () => search.peek().handle.isReady())
  assert.equal(search.peek().handle.doc().late, true)
})

scenario("a document asked for by several before it exists reaches them all", async t => {
  const readers = clients(t, server, 3)
  const writer = client(t, server)
  await Promise.all([...readers, writer].map(joined))
  writer.adapter.goOffline()
  const handle = writer.repo.create()
  const searches = readers.map(reader => reader.repo.findWithProgress(handle.url))
  await until("all are told", () => searches.every(s => s.peek().state === "unavailable"), prompt)
  writer.adapter.goOnline()
  await until("all have it", () => searches.every(s => s.peek().handle.isReady()))
})

scenario("many unknown documents are all answered", async t => {
  const reader = client(t, server)
  await joined(reader)
  const urls = Array.from({ length: 100 }, generateAutomergeUrl)
  await Promise.all(urls.map(url => assert.rejects(reader.find(url), /unavailable/)))
})

scenario("a request for an unknown document is answered by doc-unavailable", async t => {
  const raw = await Raw.join(t, server)
  const { documentId } = parseAutomergeUrl(generateAutomergeUrl())
  raw.request(documentId)
  const answer = await raw.receive("doc-unavailable")
  assert.deepEqual(answer, { type: "doc-unavailable", senderId: raw.serverId, targetId: raw.peerId, documentId })
})

scenario("a document id that is none is answered by doc-unavailable in the same text", async t => {
  const raw = await Raw.join(t, server)
  for (const documentId of ["4NMNnkMhL8jXrdJ9jamS58PAVdXX", "no id", "../../etc/passwd", "é"]) {
    raw.request(documentId)
    await raw.receive("doc-unavailable", m => m.documentId === documentId)
  }
})

scenario("a document id in raw bytes, as samod writes it, is understood", async t => {
  const writer = client(t, server)
  const handle = writer.repo.create({ title: "in bytes" })
  await saved(writer, handle)
  const raw = await Raw.join(t, server)
  raw.request(parseAutomergeUrl(handle.url).binaryDocumentId)
  await raw.receive("sync")
})
