// Connections that are lost, refused, dead, and come back.
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after, test } from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { open, type Transaction } from "../client/index.js"
import { agreed, arrived, host, join, Memory, newId, seen, until, value } from "./room.js"
import { useServer } from "./server.js"
import { keys, token } from "./tokens.js"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "parley-web-files-"))
after(() => fs.rmSync(folder, { recursive: true, force: true }))

const dev = useServer("--dev")
const strict = useServer("--keys", keys, "--leeway", "1ms")

test("a restart of the server: who was ready is ready again", async t => {
  const id = await host(dev, { parties: ["alice", "bob"] })
  const [alice, bob] = [join(t, dev, id, "alice"), join(t, dev, id, "bob")]
  await arrived(alice, bob)
  await alice.pick("price", 100)
  await agreed(alice, bob)
  await alice.ready()
  await until(bob, "alice is ready", s => seen(s, "alice")?.ready)

  await dev.kill()
  const lost = await until(alice, "the connection is lost", s => s.connection.state === "reconnecting" && s.connection.nextTry)
  assert.ok(lost.readiness.ready, "what was confirmed stands")
  assert.equal(lost.readiness.why?.code, "offline")
  await bob.pick("date", "1 Dec") // while nobody hears it
  assert.deepEqual([bob.getState().pending, bob.getState().saved], [1, false])
  await bob.withdraw("date")
  await dev.start()
  bob.reconnect()
  alice.reconnect()
  await agreed(alice, bob)
  // Bob's picks have undone it, whoever came back first.
  const state = await until(alice, "alice knows", s => !s.readiness.ready && s.lapses.length === 1)
  assert.equal(state.lapses[0]!.because?.user, "bob")

  await alice.ready()
  await dev.kill()
  await until(alice, "it is lost again", s => s.connection.state === "reconnecting")
  await dev.start()
  await until(bob, "bob sees alice ready, who did nothing", s => s.connection.state === "online" && seen(s, "alice")?.ready)
  assert.ok(alice.getState().readiness.ready)
  alice.unready()
  await until(bob, "and not ready", s => !seen(s, "alice")?.ready)
})

test("a server whose disk is full says so, and saves what it was sent when there is room", async t => {
  const id = await host(dev)
  const [alice, bob] = [join(t, dev, id, "alice"), join(t, dev, id, "bob")]
  await arrived(alice, bob)
  assert.equal(alice.getState().stalled, false)
  dev.fill()
  await alice.pick("price", 100)
  for (const person of [alice, bob]) await until(person, "it is said that nothing is saved", s => s.stalled)
  assert.deepEqual([alice.getState().saved, bob.getState().saved], [false, true])
  dev.empty()
  await until(alice, "it is saved", s => s.saved && !s.stalled)
  await until(bob, "bob has it", s => !s.stalled && s.selections["price"])
})

test("a dead server is noticed within 5 s while somebody is ready", async t => {
  const id = await host(dev, { parties: ["alice", "bob"] })
  const alice = join(t, dev, id, "alice")
  await arrived(alice)
  await alice.pick("price", 1)
  await alice.ready()
  await until(alice, "the server has answered a ping", s => s.roundTrip !== null && s.participants[0]?.ready)
  dev.freeze()
  const since = Date.now()
  await until(alice, "it is noticed", s => s.connection.state === "reconnecting")
  const took = Date.now() - since
  assert.ok(took < 7_500, `it took ${took} ms`) // and not 30 s; a busy machine adds to 5
  dev.thaw()
  await until(alice, "alice is back, and ready", s => s.connection.state === "online" && s.readiness.ready && s.participants[0]?.ready)
})

test("a server that has lost everything gets it again", async t => {
  const alice = join(t, dev, newId(), "alice")
  await alice.pick("price", 1)
  await until(alice, "it is saved", s => s.connection.state === "online" && s.saved)
  await dev.kill()
  dev.forget()
  await dev.start()
  const bob = join(t, dev, alice.id, "bob")
  await until(bob, "bob has it", () => value(bob, "price") === 1)
  await agreed(alice, bob)
})

for (const order of [["alice", "bob"], ["bob", "alice"]]) {
  test(`a server that has lost everything takes each one's from them, ${order} first`, async t => {
    const id = await host(dev)
    const storage: Record<string, Memory> = { alice: new Memory(), bob: new Memory() }
    const both = () => order.map(user => join(t, dev, id, user, { storage: storage[user]! }))
    const before = both()
    const [alice, bob] = ["alice", "bob"].map(user => before[order.indexOf(user)]!) as [Transaction, Transaction]
    await arrived(alice, bob)
    for (const [person, field, picked] of [[alice, "price", 1], [bob, "price", 2], [alice, "date", 3], [bob, "date", 4], [alice, "price", 5]] as const) {
      await person.pick(field, picked)
      await agreed(alice, bob)
    }
    await bob.withdraw("date")
    await agreed(alice, bob)
    await Promise.all([alice.close(), bob.close()])
    await dev.kill()
    dev.forget()
    await dev.start()
    const after = [] as Transaction[]
    for (const user of order) {
      const person = join(t, dev, id, user, { storage: storage[user]! })
      await until(person, "the server has it", s => s.connection.state === "online" && s.saved)
      after.push(person)
    }
    await agreed(...after)
    for (const person of after) {
      for (const e of person.history()) {
        if (e.pick) assert.ok((e.user === "alice" ? [1, 3, 5] : [2, 4]).includes(e.pick.value as number), `${e.user} has picked ${e.pick.value}`)
      }
      const { selections } = person.getState()
      assert.deepEqual(Object.values(selections).map(s => [s.field, s.contested, s.winner.by, s.winner.value]), [["price", false, "alice", 5]])
    }
  })
}

test("what is picked offline is kept, and travels later", async t => {
  const id = await host(dev)
  const storage = new Memory()
  const away = open(id, { user: "alice", storage })
  await away.pick("price", 7)
  await away.pick("date", "soon")
  await away.close()
  const bob = join(t, dev, id, "bob")
  await arrived(bob)
  const alice = join(t, dev, id, "alice", { storage })
  await until(bob, "bob has it", () => value(bob, "price") === 7 && value(bob, "date") === "soon")
  await agreed(alice, bob)
  assert.equal(alice.history().filter(e => e.user === "alice").length, 2)
  await alice.close()
  const later = open(id, { user: "alice", storage })
  assert.ok((await until(later, "it is read", s => s.loaded)).saved, "the server is known to have it")
  await later.close()
  // Another user's copy is another.
  const carol = open(id, { user: "carol", storage })
  assert.deepEqual((await until(carol, "it is read", s => s.loaded)).selections.price, undefined)
  await carol.close()
})

test("what another process has picked offline and kept in files travels later", async t => {
  const id = await host(dev)
  const files = path.join(folder, "files")
  for (const picked of ["first", "second"]) {
    await promisify(execFile)(process.execPath, [fileURLToPath(new URL("offline.js", import.meta.url)), files, id, picked])
  }
  const alice = join(t, dev, id, "al/ice", { storage: new NodeFSStorageAdapter(files) })
  const bob = join(t, dev, id, "bob")
  await until(bob, "bob has it", () => value(bob, "price") === "second")
  assert.deepEqual(bob.getState().contested, [])
  await agreed(alice, bob)
})

test("storage that fails costs nothing but what it would have kept", async t => {
  const id = await host(dev)
  class Broken extends Memory {
    override async save(): Promise<void> {
      throw new Error("there is no room")
    }
  }
  const alice = join(t, dev, id, "alice", { storage: new Broken() })
  await arrived(alice)
  await alice.pick("price", 1)
  const state = await until(alice, "it is saved", s => s.saved && s.selections.price)
  assert.equal(state.kept, false)

  const torn = new Memory()
  const away = open(id, { user: "bob", storage: torn })
  await away.pick("date", "1 Dec")
  assert.ok(away.getState().kept)
  await away.close()
  const [chunk] = (await torn.loadRange([])).filter(({ key }) => key.includes("chunk"))
  await torn.save([...chunk!.key.slice(0, -1), "torn"], chunk!.data!.slice(0, -3))
  const bob = join(t, dev, id, "bob", { storage: torn })
  await until(alice, "the other chunk travels", () => value(alice, "date") === "1 Dec")
  await agreed(alice, bob)
})

test("many picks are joined into one", async () => {
  const storage = new Memory()
  const id = newId()
  const alice = open(id, { user: "alice", storage })
  for (let n = 0; n < 100; n++) await alice.pick("price", n)
  await alice.close()
  assert.ok((await storage.loadRange([])).length < 40)
  const again = open(id, { user: "alice", storage })
  await until(again, "it is read", s => s.loaded)
  assert.equal(value(again, "price"), 99)
  assert.equal(again.history().length, 100)
  await again.close()
})

test("a token is asked for at each connect, and says who one is", async t => {
  const id = newId()
  await host(strict, {}, id, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  let asked = 0
  const alice = open(id, { server: strict.url, token: async () => token("alice", { jti: String(++asked) }) })
  t.after(() => alice.close())
  await arrived(alice)
  assert.equal(alice.getState().me.user, "alice")
  assert.equal(asked, 1)
  await alice.pick("price", 1)
  await strict.kill()
  await until(alice, "it is lost", s => s.connection.state === "reconnecting")
  await strict.start()
  await until(alice, "alice is back", s => s.connection.state === "online" && s.saved)
  assert.ok(asked > 1)
})

test("a token that expires is followed by another", async t => {
  const id = newId()
  await host(strict, {}, id, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  let asked = 0
  const alice = open(id, { server: strict.url, token: () => token("alice", { seconds: asked++ === 0 ? 2 : 60, jti: String(asked) }) })
  t.after(() => alice.close())
  await arrived(alice)
  const codes = new Set<number | null>()
  alice.subscribe(() => codes.add(alice.getState().connection.code))
  await until(alice, "another is asked for", s => asked > 1 && s.connection.state === "online")
  assert.ok(codes.has(4501))
})

test("a refused token stops it, until asked to try again or there is another", async t => {
  const id = newId()
  await host(strict, {}, id, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  const bad = `${token("alice").slice(0, -3)}AAA`
  const alice = open(id, { server: strict.url, token: bad })
  t.after(() => alice.close())
  const refused = await until(alice, "it is refused", s => s.connection.state === "refused")
  assert.equal(refused.connection.code, 4401)
  assert.ok(refused.connection.reason)
  assert.equal(refused.connection.nextTry, null)
  assert.equal(refused.readiness.why?.code, "refused")
  await alice.pick("price", 1) // all the same
  alice.reconnect()
  assert.equal(alice.getState().connection.state, "connecting")
  await until(alice, "it is refused again", s => s.connection.state === "refused")
  await assert.rejects(alice.ready())

  let good = false
  const bob = open(id, { server: strict.url, token: () => (good ? token("bob") : `${token("bob").slice(0, -3)}AAA`) })
  t.after(() => bob.close())
  await until(bob, "it is refused", s => s.connection.state === "refused")
  good = true
  await until(bob, "the next token is taken", s => s.connection.state === "online")
})

test("a token of somebody else is not used", async t => {
  const id = newId()
  await host(strict, {}, id, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  const alice = open(id, { server: strict.url, user: "alice", token: () => token("bob") })
  t.after(() => alice.close())
  const state = await until(alice, "it fails", s => s.connection.tries > 0)
  assert.match(state.connection.reason!, /bob, and not of alice/)
})

test("where nothing listens, tries are further and further apart", async t => {
  const alice = open(newId(), { server: "ws://127.0.0.1:1", user: "alice" })
  t.after(() => alice.close())
  const state = await until(alice, "two tries failed", s => s.connection.tries >= 2 && s.connection.nextTry)
  assert.equal(state.connection.state, "reconnecting")
  alice.reconnect()
  assert.equal(alice.getState().connection.nextTry, null)
})
