// Links that break, fall silent, or are taken over.
import assert from "node:assert/strict"
import { client, converged, saved, scenario, until } from "./client.mjs"
import { Proxy } from "./proxy.mjs"
import { Raw } from "./raw.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

// pair has alice, behind a proxy, and bob, share a document.
async function pair(t) {
  const proxy = await Proxy.start(t, server.url)
  const alice = client(t, server, { peerId: "alice", url: proxy.url })
  const bob = client(t, server)
  const ofAlice = alice.repo.create({ n: 0 })
  await saved(alice, ofAlice)
  const ofBob = await bob.find(ofAlice.url)
  return { proxy, alice, bob, ofAlice, ofBob }
}

const edit = (handle, key) => handle.change(doc => (doc[key] = true))

scenario("a client that comes back under its peer id goes on where it was", async t => {
  const { alice, ofAlice, ofBob } = await pair(t)
  for (let round = 0; round < 5; round++) {
    alice.adapter.goOffline()
    edit(ofAlice, `alice ${round}`)
    edit(ofBob, `bob ${round}`)
    alice.adapter.goOnline()
    await until("both see both", () => ofAlice.doc()[`bob ${round}`] && ofBob.doc()[`alice ${round}`])
  }
  await converged([ofAlice, ofBob])
})

scenario("a connection that is cut is made again", async t => {
  const { alice, ofAlice, ofBob } = await pair(t)
  alice.adapter.socket.terminate()
  edit(ofBob, "while away")
  await until("alice sees it", () => ofAlice.doc()["while away"])
  edit(ofAlice, "back")
  await until("bob sees it", () => ofBob.doc().back)
})

scenario("a half-open link is replaced when its peer id returns", async t => {
  const { proxy, ofAlice, ofBob } = await pair(t)
  proxy.goSilent()
  edit(ofBob, "unheard")
  const again = client(t, server, { peerId: "alice" })
  const handle = await again.find(ofAlice.url)
  await until("alice sees what she missed", () => handle.doc().unheard)
  edit(handle, "from the new link")
  await until("bob sees the new link's edit", () => ofBob.doc()["from the new link"])
  edit(ofBob, "to the new link")
  await until("alice sees bob's", () => handle.doc()["to the new link"])
  await until("the server has ended the old link", () => proxy.dropped === 1)
  assert.equal(again.adapter.connected, true)
})

scenario("a link that falls silent is dropped", async t => {
  const { proxy, ofBob } = await pair(t)
  proxy.goSilent()
  edit(ofBob, "unheard")
  await until("the server ends the link", () => proxy.dropped === 1, 15_000)
})

scenario("the newer of two sockets with one peer id is the one that counts", async t => {
  const { ofBob, bob } = await pair(t)
  await saved(bob, ofBob)
  const older = await Raw.join(t, server)
  const newer = await Raw.connect(t, server)
  newer.peerId = older.peerId
  newer.send({ type: "join", peerMetadata: {}, supportedProtocolVersions: ["1"] })
  newer.serverId = (await newer.receive("peer")).senderId
  if (!server.several) await older.ended() // another server has no say in it
  newer.request(ofBob.documentId)
  await newer.receive("sync")
  assert.equal(newer.closed, false)
})
