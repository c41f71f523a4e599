// Remote heads: a client learns which heads another client's store has.
import assert from "node:assert/strict"
import { client, joined, saved, scenario, until } from "./client.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

// A store that forgets everything but who it is.
const emptyStore = id => ({
  load: async key => (key[0] === "storage-adapter-id" ? new TextEncoder().encode(id) : undefined),
  loadRange: async () => [],
  save: async () => {},
  remove: async () => {},
  removeRange: async () => {},
})

const gossiping = (t, id) => client(t, server, { storage: emptyStore(id), enableRemoteHeadsGossiping: true })
const storeOfAlice = "aaaaaaaa-0000-4000-8000-000000000001"
const storeOfBob = "bbbbbbbb-0000-4000-8000-000000000002"

const sameHeads = (a, b) => [...(a ?? [])].sort().join() === [...b].sort().join()

scenario("a client sees that another client's store has its heads", async t => {
  const [alice, bob] = [gossiping(t, storeOfAlice), gossiping(t, storeOfBob)]
  await Promise.all([joined(alice), joined(bob)])
  alice.repo.subscribeToRemotes([storeOfBob])
  const handle = alice.repo.create({ n: 0 })
  await saved(alice, handle)
  const other = await bob.find(handle.url)
  for (let n = 1; n <= 3; n++) {
    handle.change(doc => (doc.n = n))
    await until("bob has it", () => other.doc().n === n)
    await until("alice knows that bob has it", () => sameHeads(handle.getSyncInfo(storeOfBob)?.lastHeads, handle.heads()))
  }
  assert.equal(typeof handle.getSyncInfo(storeOfBob).lastSyncTimestamp, "number")
})

scenario("who subscribes late is told what is known", async t => {
  const [alice, bob] = [gossiping(t, storeOfAlice), gossiping(t, storeOfBob)]
  await Promise.all([joined(alice), joined(bob)])
  const handle = alice.repo.create({ n: 0 })
  // Somebody must be subscribed for a server to keep a store's heads at all.
  alice.repo.subscribeToRemotes([storeOfBob])
  await saved(alice, handle)
  await saved(bob, await bob.find(handle.url))
  const carol = gossiping(t, "cccccccc-0000-4000-8000-000000000003")
  const late = await carol.find(handle.url)
  carol.repo.subscribeToRemotes([storeOfBob])
  await until("carol knows what bob has", () => sameHeads(late.getSyncInfo(storeOfBob)?.lastHeads, handle.heads()))
})

scenario("a client that does not gossip is told nothing and works on", async t => {
  const [alice, bob] = [gossiping(t, storeOfAlice), client(t, server)]
  alice.repo.subscribeToRemotes([storeOfBob])
  const handle = alice.repo.create({ n: 0 })
  await saved(alice, handle)
  const other = await bob.find(handle.url)
  const told = []
  bob.adapter.on("message", message => told.push(message.type))
  handle.change(doc => (doc.n = 1))
  await until("bob has it", () => other.doc().n === 1)
  assert.ok(!told.includes("remote-heads-changed"))
})
