// Who is here, who is ready for what, and what they agree on, between plain
// clients of automerge-repo: sync/PROTOCOL.md, tried out.
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { setImmediate } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as A from "@automerge/automerge"
import { cbor, parseAutomergeUrl } from "@automerge/automerge-repo"
import { client, joined, quiet, scenario, until } from "./client.mjs"
import { documentUrl } from "./genesis.mjs"
import { Proxy } from "./proxy.mjs"
import { Raw } from "./raw.mjs"
import {
  agreed, as, get, heads, join, lapses, open, pick, picked, pongs, post, readied, ready, rejections, resolutions, roster,
  rosters, say, seen,
} from "./room.mjs"
import { useServer } from "./server.mjs"

const grace = 2_000 // ms
const server = useServer("--grace", `${grace}ms`)
const ours = process.env.PARLEY_BIN && process.env.PARLEY_SERVER_JS !== "1" && server.restartable
const skip = ours ? false : "it needs PARLEY_BIN, and a server that is parley"
const people = (name, run) => scenario(name, { skip }, run)

// gather opens one transaction as several parties.
async function gather(t, users, settings) {
  const deal = await open(server, settings)
  const all = []
  for (const user of users) all.push(await join(t, server, deal, user))
  await agreed(...all)
  return [deal, ...all]
}

// refused waits for a refusal that has not been looked at before, and takes it.
async function refused(person, code) {
  const heard = await until(`${person.user} is refused`, () => rejections(person)[0])
  person.said.splice(person.said.indexOf(heard), 1)
  assert.equal(heard.code, code, heard.message)
  assert.match(heard.message, /\w+ \w+/)
  return heard
}

// answered waits until the server has dealt with what somebody said before.
let pings = 0
async function answered(person) {
  const n = ++pings
  say(person, { t: "ping", n })
  await until("the server answers", () => pongs(person).some(p => p.n === n))
}

// passed lets a time pass that is too short for a timer, and different things happen in it.
async function passed(ms) {
  for (const end = performance.now() + ms; performance.now() < end; ) await setImmediate()
}

people("the roster comes to who listens only after find", async t => {
  const deal = await open(server)
  for (let i = 0; i < 20; i++) {
    const c = client(t, server, { url: as(server, `user-${i}`, { name: "Somebody" }) })
    await joined(c)
    const handle = await c.repo.find(deal.url)
    await setImmediate()
    const heard = []
    handle.on("ephemeral-message", ({ message }) => heard.push(message.parley))
    const told = await until("the roster", () => heard.find(m => m.t === "roster"))
    assert.deepEqual(told.heads, A.getHeads(handle.doc()))
    const me = told.participants.find(p => p.user === `user-${i}`)
    assert.deepEqual(
      { ...me, since: 0, rtt: null },
      {
        user: `user-${i}`, name: "Somebody", role: "party", state: "online", connections: 1,
        ready: false, focus: null, since: 0, rtt: null, lapsed: null,
      }
    )
    assert.ok(Math.abs(me.since - Date.now()) < 5_000)
    assert.deepEqual([told.missing, told.contested, told.policy, told.resolution], [["price"], [], "reopen", null])
    await c.close()
  }
})

people("who is ready is seen, and a change ends it with its field, its user and its hash", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  ready(alice)
  await until("bob sees alice ready", () => seen(bob, "alice").ready)
  assert.equal(seen(bob, "bob").ready, false)

  await picked(bob, "date", "1 Dec", alice)
  const because = { field: "date", user: "bob", change: heads(bob)[0] }
  for (const person of [alice, bob]) {
    await until("the lapse is told", () => lapses(person).length > 0)
    assert.deepEqual(lapses(person), [{ t: "lapsed", user: "alice", because }])
    assert.equal(seen(person, "alice").ready, false)
    assert.deepEqual(seen(person, "alice").lapsed, because)
  }
  ready(alice)
  await until("bob sees alice ready again", () => seen(bob, "alice").ready)
  assert.equal(seen(bob, "alice").lapsed, null)

  say(alice, { t: "unready" })
  await until("bob sees alice unready", () => !seen(bob, "alice").ready)
  assert.equal(seen(bob, "alice").lapsed, null)
  assert.equal(lapses(bob).length, 1)
})

people("what is contested is refused to both, and to nobody when one has picked", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  alice.adapter.goOffline()
  bob.adapter.goOffline()
  pick(alice, "date", "1 Dec")
  pick(bob, "date", "2 Dec")
  alice.adapter.goOnline()
  bob.adapter.goOnline()
  await until("both picks are everywhere", () => [alice, bob].every(p => roster(p).contested.length === 1))
  await agreed(alice, bob)
  for (const person of [alice, bob]) {
    ready(person)
    const heard = await refused(person, "contested")
    assert.deepEqual([heard.of, heard.changes, heard.fields], ["ready", [], ["date"]])
    assert.deepEqual([...heard.heads].sort(), [...heads(person)].sort())
    assert.equal(heads(person).length, 2)
  }
  await picked(bob, "date", "2 Dec", alice)
  ready(alice)
  assert.deepEqual((await refused(alice, "incomplete")).fields, ["price"]) // what is contested comes first
  await picked(bob, "price", 110, alice)
  await readied(alice, bob)
})

people("ready is refused as stale, incomplete, or of somebody who is no party", async t => {
  const deal = await open(server)
  const alice = await join(t, server, deal, "alice")
  await agreed(alice)
  ready(alice)
  assert.deepEqual((await refused(alice, "incomplete")).fields, ["price"])
  const before = heads(alice)
  await picked(alice, "price", 100)
  say(alice, { t: "ready", heads: before })
  assert.deepEqual((await refused(alice, "stale")).heads, before)
  say(alice, { t: "ready", heads: [...heads(alice), ...before] })
  await refused(alice, "stale")
  for (const role of ["viewer", "auditor", "host"]) {
    const other = await join(t, server, deal, `the ${role}`, { role })
    await agreed(other)
    ready(other)
    await refused(other, "not-a-party")
    say(other, { t: "ready", heads: before }) // the role is looked at first
    await refused(other, "not-a-party")
  }
  const nobody = await join(t, server, deal, "", { url: server.url })
  assert.equal(seen(nobody, ""), undefined)
  ready(nobody)
  await refused(nobody, "not-a-party")
  assert.ok(roster(alice).participants.every(p => !p.ready))
})

people("ready on the same heads they have agreed, once, until somebody changes something", async t => {
  const [deal, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  const agreedOn = heads(alice)
  await readied(alice, bob)
  for (const person of [alice, bob]) {
    const { resolution } = await until("the resolution", () => resolutions(person)[0])
    assert.deepEqual(
      { ...resolution, at: 0, checkpoint: "" },
      { n: 1, heads: agreedOn, parties: ["alice", "bob"], quorum: 2, at: 0, checkpoint: "" }
    )
    assert.match(resolution.checkpoint, new RegExp(`\\nheads ${agreedOn.join(",")}\\n[^]*\\n\\n— parley-`))
    await until("the roster has it", () => roster(person).resolution)
    assert.deepEqual(roster(person).resolution, resolution)
    assert.deepEqual(await get(server, deal).then(d => [d.resolution, d.resolutions]), [resolution, [resolution]])
  }
  ready(alice)
  say(bob, { t: "unready" })
  await until("bob is unready", () => !seen(alice, "bob").ready)
  await readied(bob, alice)
  for (const person of [alice, bob]) {
    await answered(person)
    assert.equal(resolutions(person).length, 1)
  }

  await picked(bob, "price", 105, alice)
  await until("it is open again", () => [alice, bob].every(p => roster(p).resolution === null))
  const reopened = await get(server, deal)
  assert.equal(reopened.resolution, null)
  assert.equal(reopened.resolutions.length, 1)
  await readied(bob, alice)
  await until("the second resolution", () => [alice, bob].every(p => resolutions(p).length === 2))
  assert.deepEqual((await get(server, deal)).resolutions.map(r => [r.n, r.heads.join()]), [
    [1, agreedOn.join()],
    [2, heads(bob).join()],
  ])
})

people("whose agreement is needed: parties by name, a quorum of them, a host by name", async t => {
  const [deal, alice, bob] = await gather(t, ["alice", "bob"], { parties: ["alice", "holly"] })
  await picked(alice, "price", 100, bob)
  assert.deepEqual([roster(alice).needed, roster(alice).quorum], [["alice", "holly"], 2])
  await readied(bob, alice)
  await answered(bob)
  assert.equal(roster(alice).resolution, null)
  const holly = await join(t, server, deal, "holly", { role: "host" })
  ready(holly)
  await until("alice and holly agree", () => resolutions(bob).length === 1)
  assert.deepEqual(resolutions(bob)[0].resolution.parties, ["alice", "holly"])

  await picked(bob, "price", 110, alice, holly)
  await readied(bob, alice)
  await post(server, { id: deal.id, parties: ["alice", "bob", "carol", "holly"], quorum: 2 })
  await until("what is needed now is there already", () => resolutions(bob).length === 2)
  assert.deepEqual(resolutions(bob)[1].resolution.parties, ["alice", "bob"])
  await until("the roster says so", () => roster(bob).needed.length === 4)
  assert.deepEqual([roster(bob).needed, roster(bob).quorum], [["alice", "bob", "carol", "holly"], 2])
})

people("one party alone agrees with nobody", async t => {
  const [, alice] = await gather(t, ["alice"])
  await picked(alice, "price", 100)
  await readied(alice)
  await answered(alice)
  assert.deepEqual([roster(alice).needed, roster(alice).quorum, roster(alice).resolution], [["alice"], 2, null])
})

people("a locked agreement refuses changes, until a host opens it", async t => {
  const [deal, alice, bob] = await gather(t, ["alice", "bob"], { policy: "lock" })
  await picked(alice, "price", 100, bob)
  await readied(alice, bob)
  await until("they have agreed", () => [alice, bob].every(p => roster(p).resolution))
  const { resolution } = roster(alice)
  let frames = 0
  bob.adapter.on("message", () => frames++)

  pick(bob, "price", 90)
  const mine = heads(bob)
  const heard = await refused(bob, "sealed")
  assert.deepEqual(heard.changes, mine)
  assert.equal(heard.of, undefined)
  await quiet(() => frames)
  assert.ok(frames < 20, `${frames} frames for one refused change`)
  assert.equal(rejections(bob).length, 0)
  assert.ok(bob.adapter.connected)
  assert.equal((await post(server, { id: deal.id, fields: { more: { label: "More", required: false, options: {} } } }, 422)).code, "sealed")
  assert.deepEqual((await get(server, deal)).resolution, resolution)
  assert.equal(alice.handle.doc().selections.price.value, 100)
  assert.ok(seen(alice, "alice").ready && seen(alice, "bob").ready)

  await post(server, { id: deal.id, policy: "reopen" })
  await picked(alice, "price", 95)
  await until("it is open again", () => roster(alice).resolution === null)
  assert.equal(roster(alice).policy, "reopen")
})

people("heads as Automerge has them, and as automerge-repo has them", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  const forms = [heads(alice), alice.handle.heads()]
  assert.notDeepEqual(...forms)
  for (const form of forms) {
    say(alice, { t: "ready", heads: form })
    await until("alice is ready", () => seen(bob, "alice").ready)
    say(alice, { t: "unready" })
    await until("alice is not", () => !seen(bob, "alice").ready)
  }
})

people("a second tab is the same participant", async t => {
  const [deal, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  await readied(alice)
  const { since } = await until("bob sees it", () => seen(bob, "alice")?.ready && seen(bob, "alice"))
  const tab = await join(t, server, deal, "alice")
  await until("alice has two connections", () => seen(bob, "alice").connections === 2)
  assert.deepEqual(roster(bob).participants.map(p => p.user), ["alice", "bob"])
  assert.equal(seen(bob, "alice").since, since)
  assert.ok(seen(tab, "alice").ready)
  say(tab, { t: "unready" })
  await until("alice is unready, from any tab", () => !seen(alice, "alice").ready)
  await readied(alice)
  alice.adapter.goOffline()
  await until("one is left", () => seen(bob, "alice").connections === 1)
  await new Promise(resolve => setTimeout(resolve, 1.5 * grace)) // nobody is to leave
  assert.deepEqual([seen(bob, "alice").state, seen(bob, "alice").ready], ["online", true])
})

people("back within the grace one has never left; after it one has", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  await readied(alice)
  const { since } = await until("bob sees it", () => seen(bob, "alice")?.ready && seen(bob, "alice"))
  const from = rosters(bob).length
  for (let i = 0; i < 3; i++) {
    alice.adapter.goOffline()
    await until("alice is reconnecting", () => seen(bob, "alice").state === "reconnecting")
    assert.deepEqual([seen(bob, "alice").connections, seen(bob, "alice").ready], [0, true])
    alice.adapter.goOnline()
    await until("alice is back", () => seen(bob, "alice").state === "online")
  }
  for (const told of rosters(bob).slice(from)) {
    const [hers, ...more] = told.participants.filter(p => p.user === "alice")
    assert.deepEqual([hers.ready, hers.since, more.length], [true, since, 0])
  }
  alice.adapter.goOffline()
  const away = Date.now()
  await until("alice has left", () => !seen(bob, "alice"))
  const took = Date.now() - away
  assert.ok(took > grace - 200 && took < grace + 1_500, `she left after ${took} ms`)
  alice.adapter.goOnline()
  await until("alice is here again", () => seen(bob, "alice"))
  assert.equal(seen(bob, "alice").ready, false)
  assert.ok(seen(bob, "alice").since > since)
})

people("back on a new link while the old one looks alive: the same participant, online all along", async t => {
  const [deal, bob] = await gather(t, ["bob"])
  const proxy = await Proxy.start(t, server.url)
  const peerId = `alice-${deal.id}`
  await join(t, server, deal, "alice", { url: as(proxy, "alice"), repo: { peerId } })
  await until("bob sees alice", () => seen(bob, "alice"))
  proxy.goSilent()
  const from = rosters(bob).length
  await join(t, server, deal, "alice", { repo: { peerId } })
  await answered(bob)
  for (const told of rosters(bob).slice(from)) {
    assert.deepEqual(told.participants.filter(p => p.user === "alice").map(p => [p.state, p.connections]), [["online", 1]])
  }
})

people("a dead link is found by the server's pings, and its user leaves when the grace is over", async t => {
  const [deal, bob] = await gather(t, ["bob"])
  const proxy = await Proxy.start(t, server.url)
  const alice = await join(t, server, deal, "alice", { url: as(proxy, "alice") })
  await until("bob sees alice", () => seen(bob, "alice"))
  proxy.goSilent()
  alice.adapter.goOffline() // which nobody hears of
  const since = Date.now()
  await until("alice is reconnecting", () => seen(bob, "alice").state === "reconnecting")
  const took = Date.now() - since
  assert.ok(took < 11_500, `it took ${took} ms`)
  await until("alice has left", () => !seen(bob, "alice"))
})

people("who takes leave is gone at once, and is back with the next thing to say", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  await readied(alice)
  await until("bob sees it", () => seen(bob, "alice")?.ready)
  const from = rosters(bob).length
  const since = Date.now()
  say(alice, { t: "leave" })
  await until("alice has left", () => !seen(bob, "alice"))
  assert.ok(Date.now() - since < grace / 2)
  assert.ok(rosters(bob).slice(from).every(told => told.participants.every(p => p.state === "online")))
  await until("alice still listens", () => roster(alice).participants.map(p => p.user).join() === "bob")
  say(alice, { t: "focus", field: "price" })
  await until("alice is back", () => seen(bob, "alice")?.focus === "price")
  assert.equal(seen(bob, "alice").ready, false)
})

people("a leave frame ends the connection without a grace", async t => {
  const [, bob] = await gather(t, ["bob"])
  const raw = await Raw.join(t, { url: as(server, "alice") })
  raw.request(bob.handle.documentId)
  await until("bob sees alice", () => seen(bob, "alice"))
  const from = rosters(bob).length
  raw.send({ type: "leave" })
  await raw.ended()
  assert.equal(raw.closeCode, 1000)
  await until("alice has left", () => !seen(bob, "alice"))
  assert.ok(rosters(bob).slice(from).every(told => told.participants.every(p => p.state === "online")))
})

people("who waits for a transaction hears the roster when it is there", async t => {
  const id = `later-${process.pid}`
  const { documentId } = parseAutomergeUrl(await documentUrl(id))
  const raw = await Raw.join(t, { url: as(server, "alice") })
  const ours = () => raw.received.filter(m => m.type === "ephemeral").map(m => cbor.decode(m.data).parley)
  raw.request(documentId)
  await raw.receive("doc-unavailable")
  raw.send({ type: "ephemeral", documentId, count: 1, sessionId: "s", data: cbor.encode({ parley: { t: "ping", n: 1 } }) })
  const refusal = await until("an answer", () => ours()[0])
  assert.deepEqual([refusal.t, refusal.code], ["rejected", "no-transaction"])
  await post(server, { id }, 201)
  const told = await until("the roster", () => ours()[1])
  assert.deepEqual([told.t, told.participants.map(p => p.user)], ["roster", ["alice"]])
})

people("a restart brings nobody back who has gone, and keeps what was agreed", async t => {
  const [deal, alice, bob] = await gather(t, ["alice", "bob"])
  await picked(alice, "price", 100, bob)
  await readied(alice, bob)
  const { resolution } = await until("they have agreed", () => resolutions(bob)[0])
  await alice.close()
  const from = rosters(bob).length
  await server.stop()
  await server.start()
  await until("bob is back", () => rosters(bob).length > from)
  await agreed(bob)
  // Servers that share a database tell those that go on whom they waited for, and what was
  // confirmed: alice until her grace is over, and bob has never left.
  if (server.several) await until("alice has left", () => roster(bob).participants.length === 1)
  assert.deepEqual(roster(bob).participants.map(p => [p.user, p.ready]), [["bob", server.several]])
  assert.deepEqual(roster(bob).resolution, resolution)
  const again = await join(t, server, deal, "alice")
  await agreed(again, bob)
  await readied(again, bob)
  await answered(bob)
  assert.equal(resolutions(bob).length, 1)
  assert.deepEqual((await get(server, deal)).resolutions, [resolution])
})

people("a ping is answered with its number", async t => {
  const [, alice] = await gather(t, ["alice"])
  const numbers = [0, 7, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]
  for (const n of numbers) say(alice, { t: "ping", n })
  say(alice, { t: "ping" })
  await until("all are answered", () => pongs(alice).length === numbers.length + 1)
  assert.deepEqual(pongs(alice).map(p => p.n), [...numbers, 0])
})

people("the roster comes when it is asked for", async t => {
  const [, alice] = await gather(t, ["alice"])
  await answered(alice)
  const before = rosters(alice).length
  say(alice, { t: "roster" })
  await until("the roster", () => rosters(alice).length > before)
})

const wrong = {
  "of an unknown kind": [{ t: "reddy" }, "reddy"],
  "of the server's kinds": [{ t: "resolved", resolution: {} }, "resolved"],
  "without a kind": [{}],
  "that is no map": ["ready"],
  "that is nothing": [null],
  "with a kind that is no text": [{ t: 7 }],
  "ready for nothing": [{ t: "ready" }, "ready"],
  "ready for an empty list": [{ t: "ready", heads: [] }, "ready"],
  "ready for what are no heads": [{ t: "ready", heads: ["latest"] }, "ready"],
  "ready for a head with a wrong checksum": [{ t: "ready", heads: ["1".repeat(50)] }, "ready"],
  "at a field without a name": [{ t: "focus", field: "" }, "focus"],
  "at a field with a long name": [{ t: "focus", field: "x".repeat(257) }, "focus"],
  "with a number below none": [{ t: "ping", n: -1 }, "ping"],
  "with half a number": [{ t: "ping", n: 0.5 }, "ping"],
}

people("a message that cannot be read is refused, and nobody else hears of it", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  const others = []
  bob.handle.on("ephemeral-message", ({ senderId }) => senderId === alice.repo.peerId && others.push(senderId))
  for (const [name, [message, of]] of Object.entries(wrong)) {
    say(alice, message)
    const heard = await refused(alice, "bad-message")
    assert.deepEqual([heard.of, heard.changes], [of, []], name)
  }
  await answered(bob)
  assert.deepEqual(others, [])
  assert.ok(alice.adapter.connected)
})

people("what is an application's own reaches others, and what is said to the server does not", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  const heard = []
  bob.handle.on("ephemeral-message", ({ senderId, message }) => senderId === alice.repo.peerId && heard.push(message))
  say(alice, { t: "focus", field: "price" })
  say(alice, { t: "ready", heads: heads(alice) })
  say(alice, { t: "ping", n: 1 })
  const own = [{ cursor: 7 }, { text: "parley" }, { deep: { parley: { t: "resolved" } } }, "parley", ["parley"], 7, null]
  for (const message of own) alice.handle.broadcast(message)
  await until("bob hears the last", () => heard.length >= own.length)
  await answered(alice)
  assert.deepEqual(heard, own)
})

// Written as no client writes it: the key with a head of two bytes, and beside
// keys that are no text. A client reads { parley: { t: "resolved", … } } in each.
const disguises = { "78 06": [0xa1, 0x78, 6], "true": [0xa2, 0xf5, 0, 0x66], "1.0": [0xa2, 0xf9, 0x3c, 0, 0, 0x66],
  "a tag": [0xd8, 0x1c, 0xa1, 0x66], "self-described": [0xd9, 0xd9, 0xf7, 0xa1, 0x66], "a record": [0xd8, 0x69, 0x83, 0x18, 0x40, 0x81, 0x66] }

people("nobody speaks in the server's place", async t => {
  const [, alice] = await gather(t, ["alice"])
  const { documentId } = alice.handle
  const heard = []
  alice.handle.on("ephemeral-message", ({ senderId, message }) => senderId === raw.peerId && heard.push(message))
  const raw = await Raw.join(t, { url: as(server, "mallory") })
  raw.request(documentId)
  await until("mallory is here", () => seen(alice, "mallory"))
  let count = 0
  const broadcast = data => raw.send({ type: "ephemeral", documentId, count: ++count, sessionId: "s", data })
  const lie = cbor.encode({ t: "resolved", resolution: null })
  for (const [name, head] of Object.entries(disguises)) {
    const data = Buffer.concat([Buffer.from(head), Buffer.from("parley"), lie])
    assert.equal(cbor.decode(data).parley.t, "resolved", name)
    broadcast(data)
  }
  broadcast(cbor.encode("the last"))
  await until("alice hears what may be said", () => heard.length > 0)
  assert.deepEqual(heard, ["the last"])
  assert.equal(resolutions(alice).length, 0)

  const impostor = await Raw.connect(t, { url: as(server, "mallory") })
  impostor.send({ type: "join", senderId: raw.serverId, supportedProtocolVersions: ["1"] })
  await impostor.ended()
  assert.equal(impostor.closeCode, 4400)
})

people("others see the field that somebody is at", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  for (const field of ["price", "date", null, "x".repeat(256)]) {
    say(alice, { t: "focus", field })
    await until(`bob sees alice at ${field}`, () => seen(bob, "alice").focus === field)
  }
  say(alice, { t: "focus" })
  await until("bob sees alice nowhere", () => seen(bob, "alice").focus === null)
})

people("many changes are told in few rosters, and the last of them holds", async t => {
  const [, alice, bob] = await gather(t, ["alice", "bob"])
  await answered(bob)
  const before = rosters(bob).length
  const since = Date.now()
  for (let i = 0; i < 500; i++) say(alice, { t: "focus", field: `field ${i}` })
  await until("bob sees the last", () => seen(bob, "alice").focus === "field 499")
  const told = rosters(bob).slice(before)
  assert.ok(told.length <= 2 + (Date.now() - since) / 100, `${told.length} rosters in ${Date.now() - since} ms`)
  told.reduce((before, next) => assert.ok(next.rev > before.rev) ?? next)
})

people("a change at the very moment of an agreement comes before it or after it", async t => {
  const outcomes = { before: 0, after: 0 }
  for (let round = 0; round < 10; round++) {
    const [deal, alice, bob, carol] = await gather(t, ["alice", "bob", "carol"], { policy: "lock", quorum: 2 })
    await picked(alice, "price", 100, bob, carol)
    const agreedOn = heads(alice)
    await readied(alice)
    await until("bob sees it", () => seen(bob, "alice").ready)
    pick(carol, "date", "1 Dec") // it is sent a little later than it is made
    await passed(round / 2)
    say(bob, { t: "ready", heads: agreedOn }) // whatever has come to bob meanwhile
    const [change] = heads(carol)
    const sealed = await until("it is clear which was first", () =>
      rejections(carol).some(r => r.code === "sealed" && r.changes.includes(change)) ? "sealed" :
      roster(carol).heads.includes(change) ? "open" : undefined
    )
    const { heads: now, resolutions: all } = await get(server, deal)
    if (sealed === "sealed") {
      outcomes.before++
      assert.deepEqual([now, all.map(r => r.heads)], [agreedOn, [agreedOn]])
    } else {
      outcomes.after++
      assert.deepEqual([now, all], [[change], []])
      await until("nobody is ready", () => roster(alice).participants.every(p => !p.ready))
      assert.ok(lapses(alice).some(l => l.user === "alice" && l.because.change === change))
    }
    await Promise.all([alice, bob, carol].map(p => p.close()))
  }
  t.diagnostic(`the agreement came first ${outcomes.before} times, the change ${outcomes.after} times`)
})

people("the program at the head of PROTOCOL.md runs as it stands", async t => {
  const here = fileURLToPath(new URL(".", import.meta.url))
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "parley-interop-protocol-"))
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }))
  fs.symlinkSync(path.join(here, "node_modules"), path.join(folder, "node_modules"))
  const [, program] = fs.readFileSync(path.join(here, "../../sync/PROTOCOL.md"), "utf8").match(/```js\n(.*?)```/s)
  const file = path.join(folder, "settle.mjs")
  fs.writeFileSync(file, program.replaceAll("127.0.0.1:8080", new URL(server.url).host))
  const { stdout } = await promisify(execFile)(process.execPath, [file])
  assert.match(stdout, /alice hears of the agreement of \[ 'alice', 'bob' \]/)
  assert.match(stdout, /focus: 'price'/)
})

scenario("an agreement that anybody was told of survives kill -9", { skip, timeout: 180_000 }, async t => {
  let told = 0
  for (let round = 0; round < 20; round++) {
    const [deal, alice, bob] = await gather(t, ["alice", "bob"])
    await picked(alice, "price", round, bob)
    const agreedOn = heads(alice)
    await readied(alice)
    ready(bob)
    await passed(round / 2)
    await server.kill()
    await until("both have noticed", () => !alice.adapter.connected && !bob.adapter.connected)
    const heard = [alice, bob].flatMap(p => [...resolutions(p), ...rosters(p)]).map(m => m.resolution).filter(r => r)
    for (const { said } of [alice, bob]) said.length = 0
    await server.start()
    const after = await get(server, deal)
    if (heard.length > 0) {
      told++
      assert.deepEqual(after.resolutions, [heard[0]])
      assert.deepEqual(after.resolution, heard[0])
    }
    assert.ok(after.resolutions.length <= 1)

    await until("both see both", () => [alice, bob].every(p => roster(p)?.participants.length === 2))
    await agreed(alice, bob)
    await readied(alice, bob)
    await until("they agree", () => [alice, bob].every(p => roster(p).resolution))
    const { resolutions: all } = await get(server, deal)
    assert.deepEqual(all.map(r => [r.n, r.heads.join()]), [[1, agreedOn.join()]])
    if (after.resolutions.length > 0) assert.deepEqual(all, after.resolutions)
    await Promise.all([alice.close(), bob.close()])
  }
  t.diagnostic(`${told} of 20 were told before the kill`)
})
