// Where there is an IndexedDB, transactions are kept in it.
import "fake-indexeddb/auto"
import assert from "node:assert/strict"
import { test } from "node:test"
import { open, type PickError } from "../client/index.js"
import { newId, until, value } from "./room.js"

const jwt = (sub: string) => `e30.${Buffer.from(JSON.stringify({ sub })).toString("base64url")}.e30`

test("what is picked is there on the next visit, also before there is a token", async () => {
  const id = newId()
  const alice = open(id, { token: async () => jwt("älice") })
  await alice.pick("price", 1)
  assert.ok(alice.getState().kept)
  assert.equal(alice.getState().connection.state, "offline")
  await alice.close()

  const offline = () => Promise.reject(new Error("no network"))
  const again = open(id, { server: "ws://127.0.0.1:1", token: offline })
  const state = await until(again, "it is read", s => s.loaded)
  assert.equal(state.me.user, "älice")
  assert.equal(value(again, "price"), 1)
  assert.deepEqual([state.saved, state.pending], [false, 1])
  await again.pick("price", 2)
  await until(again, "it says why there is no connection", s => s.connection.reason === "no network")
  await again.close()

  const bob = open(id, { user: "bob" })
  assert.equal((await until(bob, "it is read", s => s.loaded)).selections.price, undefined)
  await bob.close()

  const memory = open(id, { user: "älice", storage: "memory" })
  const forgetful = await until(memory, "it is open", s => s.loaded)
  assert.deepEqual([forgetful.kept, forgetful.selections.price], [false, undefined])
  await memory.close()
})

test("without a token nobody knows who it is", async () => {
  let give: (token: string) => void = () => {}
  const later = new Promise<string>(resolve => (give = resolve))
  const alice = open(newId(), { token: () => later })
  const picked = alice.pick("price", 1) // kept until it is known who picks
  assert.equal(alice.getState().pending, 0) // nothing is shown of it yet
  give(jwt("alice"))
  await picked
  assert.equal(alice.getState().selections.price!.winner.by, "alice")
  await alice.close()
})

test("nobody picks in no name", async () => {
  const anybody = open(newId(), {})
  await assert.rejects(anybody.pick("price", 1), (e: PickError) => e.code === "not-author")
  assert.throws(() => anybody.pick("price", 1), (e: PickError) => e.code === "not-author")
  assert.deepEqual(Object.keys(anybody.getState().selections), [])
  await anybody.close()
})

test("ids are checked at once", () => {
  assert.throws(() => open("no spaces", {}))
  assert.throws(() => open("deal", { server: "ftp://example.org" }))
})
