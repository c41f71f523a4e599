// Changes that the server refuses leave the document, and nothing else does.
import assert from "node:assert/strict"
import { test } from "node:test"
import { open, type Value } from "../client/index.js"
import { agreed, arrived, host, join, Memory, until, value } from "./room.js"
import { useServer } from "./server.js"

const server = useServer()

// deeper than a server takes
const deep = () => {
  let nested: Value = 1
  for (let n = 0; n < 80; n++) nested = { n: nested }
  return nested
}

test("a refused pick is rolled back, and what was built on it is made again", async t => {
  const id = await host(server)
  const storage = new Memory()
  const [alice, bob] = [join(t, server, id, "alice", { storage }), join(t, server, id, "bob")]
  await arrived(alice, bob)
  await alice.pick("price", 100)
  await agreed(alice, bob)
  const bad = await alice.pick("price", deep())
  await alice.pick("date", "1 Dec")
  const state = await until(alice, "it is rejected", s => s.rejections.length > 0)
  const [rejection] = state.rejections
  assert.deepEqual(rejection!.changes, [bad])
  assert.ok(rejection!.code && rejection!.message)
  assert.deepEqual(rejection!.lost.map(e => [e.kind, e.field]), [["picked", "price"]])
  await until(bob, "bob has what was built on it", () => value(bob, "date") === "1 Dec")
  await agreed(alice, bob)
  assert.equal(value(alice, "price"), 100)
  assert.equal(value(alice, "date"), "1 Dec")
  assert.equal(alice.getState().rejections.length, 1)
  await alice.ready()

  await alice.close()
  const again = open(id, { user: "alice", storage })
  await until(again, "it is read", s => s.loaded)
  assert.equal(value(again, "price"), 100)
  assert.ok(!again.history().some(e => e.change === bad))
  await again.close()
})

test("what is picked too late in a locked transaction is rolled back", async t => {
  const id = await host(server, { policy: "lock", parties: ["bob"] })
  const storage = new Memory()
  const away = open(id, { user: "alice", storage })
  const late = await away.pick("price", 1)
  await away.close()
  const bob = join(t, server, id, "bob")
  await arrived(bob)
  await bob.pick("price", 2)
  await bob.ready()
  await until(bob, "it is agreed", s => s.resolution)
  const alice = join(t, server, id, "alice", { storage })
  const state = await until(alice, "it is rejected", s => s.rejections.length > 0 && s.saved && s.resolution)
  assert.equal(state.rejections[0]!.code, "sealed")
  assert.deepEqual(state.rejections[0]!.changes, [late])
  assert.equal(value(alice, "price"), 2)
  assert.deepEqual(state.contested, [])
})

test("what a viewer has picked is rolled back", async t => {
  const id = await host(server)
  const vera = open(id, { server: `${server.url}?role=viewer`, user: "vera" })
  t.after(() => vera.close())
  void vera.pick("price", 1) // before anybody said what vera is
  void vera.pick("date", 1)
  const state = await until(vera, "it is rejected", s => s.rejections.length > 0 && s.fields.length > 0 && s.saved)
  assert.equal(state.rejections[0]!.code, "read-only")
  assert.equal(state.rejections[0]!.lost.length, 2)
  assert.deepEqual(Object.keys(state.selections), [])
})

test("a transaction that is not there yet is there as soon as it is", async t => {
  const id = `not-yet-${process.pid}`
  const alice = join(t, server, id, "alice")
  await alice.pick("price", 3)
  await until(alice, "the server is there", s => s.connection.state === "online")
  await host(server, {}, id)
  await arrived(alice)
  assert.equal(value(alice, "price"), 3)
})
