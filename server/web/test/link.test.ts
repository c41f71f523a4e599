// The connection by the clock: when a silent server is given up, and what is not.
import assert from "node:assert/strict"
import { mock, test, type TestContext } from "node:test"
import { cbor } from "@automerge/automerge-repo/slim"
import { tokenSource } from "../client/identity.js"
import { Link } from "../client/link.js"
import type { Connection } from "../client/state.js"
import { WindowWatch } from "../client/window.js"

// Socket is a server that says what a test has it say.
class Socket {
  static newest: Socket
  readyState = 1
  bufferedAmount = 0
  onopen = () => {}
  onmessage: (event: { data: unknown }) => void = () => {}
  onclose: (event: { code: number; reason: string }) => void = () => {}
  constructor(readonly url: string) {
    Socket.newest = this
  }
  send(): void {}
  close(): void {
    this.readyState = 3
  }
  say(frame: object): void {
    this.onmessage({ data: new Uint8Array(cbor.encode(frame)) })
  }
}

// connect makes a link that has just been let in, and a clock for it.
async function connect(t: TestContext, token: () => Promise<string | undefined> = async () => undefined) {
  mock.timers.enable({ apis: ["setTimeout", "Date"] })
  t.after(() => mock.timers.reset())
  const seen = { pings: 0, replaced: 0, status: {} as Omit<Connection, "unavailable"> }
  const link = new Link({
    peerId: () => "us", token, freshTokens: false, url: () => "ws://server", WebSocket: Socket as never, log: () => {},
    ping: () => seen.pings++, onStatus: status => (seen.status = status), onJoined: () => {}, onFrame: () => {}, onLost: () => {},
    onReplaced: () => seen.replaced++,
  })
  t.after(() => link.close())
  link.start()
  await settle()
  return { link, seen, socket: Socket.newest }
}

const settle = () => new Promise(resolve => setImmediate(resolve))
const welcome = { type: "peer", senderId: "server" }
const pong = { type: "ephemeral", senderId: "server" }

test("who was replaced by an older try of its own tries again, as another peer", async t => {
  const { seen, socket } = await connect(t)
  socket.say(welcome)
  socket.onclose({ code: 4409, reason: "this peer id has joined on a newer connection" })
  assert.equal(seen.replaced, 1)
  assert.equal(seen.status.state, "reconnecting")
})

test("a server that goes silent is given up within 30 s", async t => {
  const { seen, socket } = await connect(t)
  socket.say(welcome)
  assert.equal(seen.status.state, "online")
  assert.equal(seen.pings, 1)
  socket.say(pong)
  mock.timers.tick(14_999)
  assert.equal(seen.pings, 1)
  mock.timers.tick(1)
  assert.equal(seen.pings, 2) // it died just after the pong
  mock.timers.tick(14_999)
  assert.equal(seen.status.state, "online")
  mock.timers.tick(1)
  assert.equal(seen.status.state, "reconnecting")
  assert.equal(seen.status.reason, "the server does not answer")
})

test("within 5 s while it matters", async t => {
  const { link, seen, socket } = await connect(t)
  socket.say(welcome)
  socket.say(pong)
  mock.timers.tick(1_000)
  link.hurry(true)
  assert.equal(seen.pings, 2)
  socket.say(pong)
  mock.timers.tick(2_500)
  assert.equal(seen.pings, 3)
  mock.timers.tick(2_499)
  assert.equal(seen.status.state, "online")
  mock.timers.tick(1)
  assert.equal(seen.status.state, "reconnecting")
})

test("picks one after another do not cost a ping each", async t => {
  const { link, seen, socket } = await connect(t)
  socket.say(welcome)
  socket.say(pong)
  for (let i = 0; i < 100; i++) {
    link.hurry(true)
    mock.timers.tick(50)
    socket.say(pong)
    link.hurry(false)
    mock.timers.tick(50)
  }
  assert.ok(seen.pings <= 10, `${seen.pings} pings in 10 s`)
  assert.equal(seen.status.state, "online")
})

test("a network that is said to be gone is asked at once, and has 5 s", async t => {
  const { link, seen, socket } = await connect(t)
  socket.say(welcome)
  socket.say(pong)
  link.doubt()
  assert.equal(seen.pings, 2)
  socket.say(pong)
  mock.timers.tick(5_000)
  assert.equal(seen.status.state, "online") // it was not gone
  link.doubt()
  mock.timers.tick(4_999)
  assert.equal(seen.status.state, "online")
  mock.timers.tick(1)
  assert.equal(seen.status.state, "reconnecting")
})

test("a line on which much is being sent is not dead", async t => {
  const { link, seen, socket } = await connect(t)
  socket.say(welcome)
  socket.say(pong)
  socket.bufferedAmount = 1_000_000
  link.hurry(true)
  for (let left = 800_000; left > 0; left -= 200_000) {
    socket.bufferedAmount = left
    mock.timers.tick(2_500)
    assert.equal(seen.status.state, "online")
  }
  mock.timers.tick(2_500) // nothing went out since
  assert.equal(seen.status.state, "reconnecting")
})

test("a token that never comes is given up after 10 s, and asked for again later and later", async t => {
  let asked = 0
  const never = tokenSource({ token: () => { asked++; return new Promise<string>(() => {}) } })
  const { seen } = await connect(t, never)
  mock.timers.tick(9_999)
  await settle()
  assert.deepEqual([asked, seen.status.state], [1, "connecting"])
  mock.timers.tick(1)
  await settle()
  assert.equal(seen.status.state, "reconnecting")
  assert.equal(seen.status.reason, "no token came within 10 s")
  let last = 0
  for (let tries = 2; tries < 8; tries++) {
    const wait = seen.status.nextTry! - Date.now()
    assert.ok(wait > last / 2 && wait <= 10_000)
    last = wait
    mock.timers.tick(wait)
    await settle()
    assert.equal(asked, tries)
    mock.timers.tick(10_000)
    await settle()
    assert.equal(seen.status.tries, tries)
  }
})

test("what gets a token may throw, and may be late", async t => {
  mock.timers.enable({ apis: ["setTimeout"] })
  t.after(() => mock.timers.reset())
  await assert.rejects(tokenSource({ token: () => { throw new Error("no") } })(), /no/)
  assert.equal(await tokenSource({ token: () => "ours" })(), "ours")
  assert.equal(await tokenSource({ token: "ours" })(), "ours")
  assert.equal(await tokenSource({})(), undefined)
})

test("the window says when the network is gone, also to a page that nobody sees", t => {
  const [window, document] = [new EventTarget(), Object.assign(new EventTarget(), { visibilityState: "hidden" })]
  Object.assign(globalThis, { window, document })
  t.after(() => {
    for (const name of ["window", "document"]) Reflect.deleteProperty(globalThis, name)
  })
  const heard: string[] = []
  const watch = new WindowWatch(() => heard.push("awake"), () => heard.push("doubt"))
  watch.begin()
  window.dispatchEvent(new Event("online"))
  window.dispatchEvent(new Event("offline"))
  assert.deepEqual(heard, ["doubt"])
  document.visibilityState = "visible"
  window.dispatchEvent(new Event("online"))
  watch.end()
  window.dispatchEvent(new Event("offline"))
  assert.deepEqual(heard, ["doubt", "awake"])
})
