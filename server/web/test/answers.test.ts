// What the server does not say: answers that are lost, transactions that are not
// there; and what is known though nobody here heard it.
import assert from "node:assert/strict"
import { test } from "node:test"
import { cbor } from "@automerge/automerge-repo/slim"
import { WebSocket } from "ws"
import { open, type NotReadyError, type OpenOptions } from "../client/index.js"
import { decode, type Down } from "../client/messages.js"
import { Readiness, type Surroundings } from "../client/readiness.js"
import { agreed, arrived, host, join, Memory, newId, seen, until, value } from "./room.js"
import { useServer } from "./server.js"

const server = useServer()

// there says whether the server has a transaction.
async function there(id: string): Promise<boolean> {
  const { status } = await fetch(`${server.url.replace(/^ws/, "http")}/v1/transactions/${id}?user=holly&role=host`)
  assert.ok(status === 200 || status === 404, `the status is ${status}`)
  return status === 200
}

// lossy makes WebSockets on which messages of ours that a test names do not arrive.
function lossy(lost: (message: Down) => boolean): NonNullable<OpenOptions["WebSocket"]> {
  return function (url: string) {
    const socket = new WebSocket(url)
    return new Proxy(socket, {
      get: (_, name) => {
        const got: unknown = Reflect.get(socket, name)
        return typeof got === "function" ? got.bind(socket) : got
      },
      set: (_, name, heard) => Reflect.set(socket, name, name !== "onmessage" ? heard : (event: { data: ArrayBuffer }) => {
        const frame = cbor.decode(new Uint8Array(event.data)) as { type: string; data: Uint8Array }
        const message = frame.type === "ephemeral" ? decode(frame.data) : undefined
        if (!message || !lost(message)) heard(event)
      }),
    })
  } as never
}

test("who only looks makes no transaction", async t => {
  const id = newId()
  const alice = join(t, server, id, "alice")
  const state = await until(alice, "the server has none", s => s.connection.unavailable)
  assert.deepEqual([state.connection.state, state.saved, state.readiness.why?.code], ["online", true, "no-transaction"])
  alice.focus("price")
  await assert.rejects(alice.ready(), (e: NotReadyError) => e.code === "no-transaction")
  alice.reconnect()
  const bob = join(t, server, id, "bob") // somebody else, with the same mistake
  await until(bob, "the server has none", s => s.connection.unavailable)
  assert.ok(!(await there(id)))
  assert.ok(alice.getState().connection.unavailable)
  await host(server, {}, id)
  await arrived(alice, bob)
  assert.ok(!alice.getState().connection.unavailable)
})

test("a transaction without fields opens", async t => {
  const id = await host(server, { fields: {} })
  const alice = join(t, server, id, "alice")
  const state = await until(alice, "alice is here", s => s.participants.length === 1)
  assert.deepEqual([state.connection.unavailable, state.heads.length, state.saved], [false, 1, true])
  await alice.pick("price", 1)
  await until(alice, "it is saved", s => s.saved)
})

test("what was picked offline goes up, and until then the transaction is not there", async t => {
  const id = newId()
  const storage = new Memory()
  const away = open(id, { user: "alice", storage })
  await away.pick("price", 1)
  await away.close()
  const alice = open(id, { server: server.url, user: "alice", role: "party", storage })
  t.after(() => alice.close())
  const states: string[] = []
  alice.subscribe(() => {
    const { connection, saved } = alice.getState()
    if (connection.state === "online") states.push(`${connection.unavailable ? "unavailable" : "there"}${saved ? ", saved" : ""}`)
  })
  await until(alice, "it is saved", s => s.connection.state === "online" && s.saved)
  assert.ok(await there(id))
  assert.equal(states[0], "unavailable", states.join("; "))
  assert.ok(states.indexOf("unavailable, saved") < 0)
  assert.ok(!alice.getState().connection.unavailable)
})

test("a confirmation whose answer is lost is said again", async t => {
  const id = await host(server, { parties: ["alice", "bob"] })
  const lost: string[] = []
  const lose = (message: Down) => {
    const answers = message.t === "rejected" || (message.t === "roster" && message.participants.some(p => p.user === "alice" && p.ready))
    if (!answers || lost.includes(message.t)) return false
    lost.push(message.t)
    return true
  }
  const alice = join(t, server, id, "alice", { WebSocket: lossy(lose) })
  const bob = join(t, server, id, "bob")
  await arrived(alice, bob)
  await assert.rejects(alice.ready(), (e: NotReadyError) => e.code === "incomplete")
  await alice.pick("price", 1)
  await alice.ready()
  assert.deepEqual(lost, ["rejected", "roster"])
  await until(bob, "the server has it", s => seen(s, "alice")?.ready)
})

test("a confirmation that is never answered is given up, and taken back", async () => {
  const readiness = new Readiness()
  const around: Surroundings = { user: "alice", inStep: true, heads: ["a"], causeSince: () => null, contains: () => false }
  readiness.begin()
  const done = readiness.want(["a"])
  readiness.tend(around)
  assert.deepEqual(readiness.next(), [{ t: "ready", heads: ["a"] }])
  for (let n = 0; n < 5; n++) {
    readiness.remind()
    assert.deepEqual(readiness.next(), [{ t: "ready", heads: ["a"] }, { t: "roster" }])
    assert.ok(readiness.pending)
  }
  readiness.remind()
  await assert.rejects(done, (e: NotReadyError) => e.code === "unanswered")
  assert.deepEqual([readiness.pending, readiness.next()], [false, [{ t: "unready" }]])

  // What never gets so far as to be asked is given up, too.
  const never = readiness.want(["b"])
  for (let n = 0; n < 21; n++) readiness.remind()
  await assert.rejects(never, (e: NotReadyError) => e.code === "unanswered")
  assert.deepEqual(readiness.next().filter(m => m.t === "ready"), [])
})

test("names are known without a connection, also of who has left", async t => {
  const id = await host(server)
  const storage = new Memory()
  const alice = join(t, server, id, "alice", { name: "Alice", storage })
  const bob = join(t, server, id, "bob", { name: "Bob" })
  await arrived(alice, bob)
  await bob.pick("price", 1)
  await until(alice, "bob is here", s => s.names.bob === "Bob" && value(alice, "price") === 1)
  await bob.close()
  await until(alice, "bob has left", s => !seen(s, "bob"))
  const { names } = alice.getState()
  assert.deepEqual(names, { alice: "Alice", bob: "Bob" })
  await alice.close()
  const away = open(id, { user: "alice", storage })
  t.after(() => away.close())
  assert.deepEqual((await until(away, "it is read", s => s.loaded)).names, names)
})

test("agreements from before are known", async t => {
  const id = await host(server, { parties: ["alice"] })
  const alice = join(t, server, id, "alice")
  await arrived(alice)
  for (const price of [1, 2]) {
    await alice.pick("price", price)
    await alice.ready()
    await until(alice, "it is agreed", s => s.resolutions.length === price)
  }
  await alice.pick("price", 3)
  const bob = join(t, server, id, "bob")
  const state = await until(bob, "bob knows of both", s => s.resolutions.length === 2)
  assert.deepEqual(state.resolutions, alice.getState().resolutions)
  assert.ok(Object.isFrozen(state.resolutions[0]!.heads))
  await agreed(alice, bob)
  assert.equal(bob.getState().resolution, null)
  assert.equal(bob.at(state.resolutions[0]!.heads)!.selections.price!.winner.value, 1)
})
