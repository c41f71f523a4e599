// Messages that are passed on and not kept.
import assert from "node:assert/strict"
import { Presence, cbor } from "@automerge/automerge-repo"
import { client, clients, saved, scenario, until } from "./client.mjs"
import { Raw } from "./raw.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

// gather opens one document in n clients.
async function gather(t, n) {
  const all = clients(t, server, n)
  const first = all[0].repo.create({ room: 1 })
  await saved(all[0], first)
  const handles = [first, ...(await Promise.all(all.slice(1).map(c => c.find(first.url))))]
  await Promise.all(all.map((c, i) => saved(c, handles[i])))
  return { all, handles }
}

// listen collects what each handle hears.
const listen = handles =>
  handles.map(handle => {
    const heard = []
    handle.on("ephemeral-message", ({ senderId, message }) => heard.push({ senderId, ...message }))
    return heard
  })

scenario("a broadcast reaches every other client once, and not its sender", async t => {
  const { all, handles } = await gather(t, 3)
  const heard = listen(handles)
  for (let n = 0; n < 20; n++) handles.forEach((handle, from) => handle.broadcast({ from, n }))
  await until("all have heard all", () => heard.every(list => list.length >= 40))
  // What is sent now arrives after anything that was still under way.
  handles.forEach((handle, from) => handle.broadcast({ from, n: 20 }))
  await until("all have heard the last", () => heard.every(list => list.filter(m => m.n === 20).length === 2))
  heard.forEach((list, me) => {
    const others = [0, 1, 2].filter(from => from !== me)
    for (const from of others) {
      const mine = list.filter(m => m.from === from)
      assert.deepEqual(mine.map(m => m.n), Array.from({ length: 21 }, (_, n) => n))
      assert.ok(mine.every(m => m.senderId === all[from].repo.peerId))
    }
    assert.equal(list.length, 42)
  })
})

scenario("broadcasts stay with their document", async t => {
  const one = await gather(t, 2)
  const two = await gather(t, 2)
  const heard = listen(two.handles)
  one.handles[0].broadcast({ room: 1 })
  two.handles[0].broadcast({ room: 2 })
  await until("the second room hears its own", () => heard[1].length > 0)
  assert.deepEqual(heard[1].map(m => m.room), [2])
})

scenario("automerge-repo's Presence", async t => {
  const { all, handles } = await gather(t, 2)
  const [alice, bob] = handles.map(handle => new Presence({ handle }))
  t.after(() => [alice, bob].forEach(p => p.running && p.stop()))
  const seen = (who, whom) => who.getPeerStates().value[whom.repo.peerId]?.value
  alice.start({ initialState: { name: "Alice", focus: null }, heartbeatMs: 200 })
  bob.start({ initialState: { name: "Bob", focus: null }, heartbeatMs: 200 })
  await until("each sees the other", () => seen(alice, all[1])?.name === "Bob" && seen(bob, all[0])?.name === "Alice")
  alice.broadcast("focus", "price")
  await until("Bob sees Alice's focus", () => seen(bob, all[0]).focus === "price")
  alice.stop()
  await until("Alice has gone for Bob", () => seen(bob, all[0]) === undefined)
})

// member joins as a raw peer that has synced the document: only then do its
// messages count, and does it hear others'.
async function member(t, documentId) {
  const raw = await Raw.join(t, server)
  raw.request(documentId)
  await raw.receive("sync")
  raw.broadcast = (value, fields) =>
    raw.send({ type: "ephemeral", documentId, sessionId: "s", data: cbor.encode(value), ...fields })
  raw.heard = () => raw.received.filter(m => m.type === "ephemeral")
  return raw
}

scenario("a message in another peer's name is not passed on", async t => {
  const { all, handles } = await gather(t, 2)
  const heard = listen(handles)
  const raw = await member(t, handles[0].documentId)
  raw.broadcast({ spoofed: true }, { count: 1, senderId: all[0].repo.peerId })
  raw.broadcast({ spoofed: true }, { count: 2, senderId: "nobody" })
  raw.broadcast({ spoofed: false }, { count: 3 })
  await until("the honest one arrives", () => heard.every(list => list.some(m => m.spoofed === false)))
  for (const list of heard) assert.deepEqual(list.map(m => m.spoofed), [false])
})

scenario("a repeated or older count is not passed on", async t => {
  const { handles } = await gather(t, 1)
  const { documentId } = handles[0]
  const [sender, listener] = [await member(t, documentId), await member(t, documentId)]
  for (const count of [5, 5, 4, 6, 2 ** 40, 7]) sender.broadcast("x", { count })
  sender.broadcast("x", { count: 1, sessionId: "another" })
  await until("the last arrives", () => listener.heard().some(m => m.sessionId === "another"))
  const fromSender = listener.heard().filter(m => m.senderId === sender.peerId)
  assert.deepEqual(fromSender.map(m => m.count), [5, 6, 2 ** 40, 1])
  assert.ok(fromSender.every(m => m.targetId === listener.peerId))
})

scenario("who leaves and comes back under the same name is heard again", async t => {
  const { all, handles } = await gather(t, 1)
  const [heard] = listen(handles)
  for (const session of [1, 2]) {
    const again = client(t, server, { peerId: "comes-back" })
    const handle = await again.find(handles[0].url)
    await saved(again, handle)
    handle.broadcast({ session })
    await until(`session ${session} is heard`, () => heard.some(m => m.session === session))
    await again.close()
  }
  assert.equal(all[0].adapter.connected, true)
})
