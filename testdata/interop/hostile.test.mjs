// Whatever a peer sends, the server lives and goes on serving others. Each case
// runs beside two clients that must not notice.
import assert from "node:assert/strict"
import * as Automerge from "@automerge/automerge"
import { cbor, generateAutomergeUrl, parseAutomergeUrl } from "@automerge/automerge-repo"
import { client, clients, saved, scenario, until } from "./client.mjs"
import { Raw } from "./raw.mjs"
import { useServer } from "./server.mjs"

const server = useServer()

// witnesses start two clients on one document, and return a proof to be called
// after the attack: they still have their connections, they converge, and a new
// client is served.
async function witnesses(t) {
  const all = clients(t, server, 2)
  const handle = all[0].repo.create({ n: 0 })
  await saved(all[0], handle)
  const other = await all[1].find(handle.url)
  const sockets = all.map(c => c.adapter.socket)
  return async () => {
    server.assertRunning()
    handle.change(doc => (doc.n += 1))
    await until("the witnesses converge", () => other.doc().n === handle.doc().n)
    assert.ok(all.every((c, i) => c.adapter.connected && c.adapter.socket === sockets[i]), "a witness lost its connection")
    const late = await client(t, server).find(handle.url)
    assert.equal(late.doc().n, handle.doc().n)
    server.assertRunning()
  }
}

function attack(name, run) {
  scenario(`${name}: the server lives and serves`, async t => {
    try {
      const prove = await witnesses(t)
      await run(t)
      await prove()
    } catch (error) {
      await server.kill() // the next case is to meet a server that is well
      throw error
    }
  })
}

const hex = text => Buffer.from(text.replaceAll(" ", ""), "hex")
const { documentId } = parseAutomergeUrl(generateAutomergeUrl())
const [, someSync] = Automerge.generateSyncMessage(Automerge.from({ a: 1 }), Automerge.initSyncState())
const [, emptySync] = Automerge.generateSyncMessage(Automerge.init(), Automerge.initSyncState())
const well = { type: "sync", senderId: "x", targetId: "y", documentId, data: someSync }

const malformed = {
  "a text frame": "hello",
  "a text frame of JSON": JSON.stringify({ type: "join", senderId: "x" }),
  "an empty frame": hex(""),
  "random bytes": hex("c328a0a1e28228a1f0288cbc9f"),
  "truncated CBOR": cbor.encode(well).subarray(0, 40),
  "bytes after the CBOR": Buffer.concat([cbor.encode(well), hex("00")]),
  "deep nesting of lists": Buffer.alloc(200_000, 0x81),
  "deep nesting of maps": Buffer.from("a16161".repeat(100_000), "hex"),
  "deep nesting of tags": Buffer.alloc(200_000, 0xc1),
  "a huge claimed length of bytes": hex("5b 7fffffffffffffff 00"),
  "a huge claimed length of text": hex("7a ffffffff 61"),
  "a huge claimed list": hex("9b 00ffffffffffffff"),
  "a huge claimed map": hex("ba ffffffff"),
  "an indefinite length": hex("bf 6474797065 6473796e63 ff"),
  "a key twice": hex("a2 6474797065 6473796e63 6474797065 646a6f696e"),
  "CBOR null": hex("f6"),
  "CBOR undefined": hex("f7"),
  "a number": hex("182a"),
  "a string": cbor.encode("join"),
  "a list": cbor.encode([well]),
  "an empty map": cbor.encode({}),
  "a key that is a number": cbor.encode(new Map([[1, 2]])),
}

for (const [name, frame] of Object.entries(malformed)) {
  attack(`${name}, before and after join`, async t => {
    const before = await Raw.connect(t, server)
    before.sendBytes(frame)
    await before.settled()
    server.assertRunning()
    const after = await Raw.join(t, server)
    after.sendBytes(frame)
    await after.settled()
  })
}

const wrongTypes = {
  "no type": { type: undefined },
  "type null": { type: null },
  "type a map": { type: {} },
  "unknown type": { type: "novel" },
  "senderId null": { senderId: null },
  "senderId a number": { senderId: 7 },
  "senderId a map": { senderId: { a: 1 } },
  "senderId of a prototype": { senderId: "__proto__" },
  "senderId of 1 MiB": { senderId: "x".repeat(1 << 20) },
  "targetId a list": { targetId: [] },
  "documentId null": { documentId: null },
  "documentId a number": { documentId: 1 },
  "documentId too short": { documentId: new Uint8Array(3) },
  "documentId a path": { documentId: "../../../../etc/passwd" },
  "documentId empty": { documentId: "" },
  "documentId of 1 MiB": { documentId: "1".repeat(1 << 20) },
  "data null": { data: null },
  "data text": { data: "text" },
  "data a number": { data: 1 },
  "data empty": { data: new Uint8Array() },
  "data random": { data: new Uint8Array([0x42, 1, 2, 3, 250, 251]) },
  "data of an unknown version": { data: new Uint8Array([0xff, 0, 0, 0, 0]) },
  "data that claims 2^60 heads": { data: new Uint8Array([0x42, 255, 255, 255, 255, 255, 255, 255, 255, 15]) },
  "data truncated": { data: someSync.subarray(0, someSync.length - 3) },
  "request without data": { type: "request", data: undefined },
  "request with random data": { type: "request", data: new Uint8Array(100).fill(0x42) },
  "doc-unavailable for no document": { type: "doc-unavailable", documentId: undefined },
  "ephemeral without count": { type: "ephemeral", sessionId: "s" },
  "ephemeral with a count of text": { type: "ephemeral", sessionId: "s", count: "1" },
  "ephemeral with a negative count": { type: "ephemeral", sessionId: "s", count: -1 },
  "ephemeral with data that is no CBOR": { type: "ephemeral", sessionId: "s", count: 1, data: new Uint8Array([0xff]) },
  "subscription of a number": { type: "remote-subscription-change", add: 1 },
  "subscription of numbers": { type: "remote-subscription-change", add: [1, null, {}] },
  "subscription to 100,000 stores": { type: "remote-subscription-change", add: Array.from({ length: 100_000 }, String) },
  "newHeads null": { type: "remote-heads-changed", newHeads: null },
  "newHeads with null": { type: "remote-heads-changed", newHeads: { store: null } },
  "newHeads with heads of numbers": { type: "remote-heads-changed", newHeads: { store: { heads: [1], timestamp: "now" } } },
  "error from a client": { type: "error", message: 1 },
  "peer from a client": { type: "peer", peerMetadata: 1, selectedProtocolVersion: {} },
  "leave": { type: "leave" },
}

for (const [name, fields] of Object.entries(wrongTypes)) {
  attack(name, async t => {
    const before = await Raw.connect(t, server)
    before.send({ ...well, ...fields })
    await before.settled()
    server.assertRunning()
    const raw = await Raw.join(t, server)
    raw.send({ ...well, senderId: raw.peerId, ...fields })
    await raw.settled()
  })
}

const joins = {
  "senderId missing": { senderId: undefined },
  "senderId empty": { senderId: "" },
  "senderId a number": { senderId: 1 },
  "peerMetadata a number": { peerMetadata: 1 },
  "peerMetadata with wrong types": { peerMetadata: { storageId: 5, isEphemeral: "x" } },
  "versions a number": { supportedProtocolVersions: 1 },
  "versions of numbers": { supportedProtocolVersions: [1, null] },
  "versions of 1,000,000": { supportedProtocolVersions: Array(1_000_000).fill("1") },
}

for (const [name, fields] of Object.entries(joins)) {
  attack(`join with ${name}`, async t => {
    const raw = await Raw.connect(t, server)
    raw.send({ type: "join", peerMetadata: {}, supportedProtocolVersions: ["1"], ...fields })
    await raw.settled()
  })
}

attack("join without metadata and versions, which is allowed", async t => {
  const raw = await Raw.connect(t, server)
  raw.send({ type: "join" })
  assert.equal((await raw.receive("peer")).selectedProtocolVersion, "1")
})

attack("join with an unsupported version, answered by error and a close", async t => {
  const raw = await Raw.connect(t, server)
  raw.send({ type: "join", peerMetadata: {}, supportedProtocolVersions: ["99"] })
  const error = await raw.receive("error")
  assert.equal(typeof error.message, "string")
  await raw.ended()
  assert.ok(!raw.received.some(m => m.type === "peer"))
})

attack("join twice", async t => {
  const raw = await Raw.join(t, server)
  raw.send({ type: "join", peerMetadata: {}, supportedProtocolVersions: ["1"] })
  await raw.settled()
})

attack("join in the server's own name", async t => {
  const { serverId } = await Raw.join(t, server)
  const raw = await Raw.connect(t, server)
  raw.peerId = serverId
  raw.send({ type: "join", peerMetadata: {}, supportedProtocolVersions: ["1"] })
  await raw.settled()
})

attack("messages before join", async t => {
  const raw = await Raw.connect(t, server)
  raw.send({ ...well, senderId: raw.peerId })
  raw.request(documentId)
  await raw.settled()
  assert.deepEqual(raw.received.filter(m => m.type !== "error"), [])
})

attack("messages in another peer's name", async t => {
  const raw = await Raw.join(t, server)
  raw.send({ ...well, senderId: "somebody-else" })
  raw.send({ type: "request", senderId: "somebody-else", documentId, data: someSync })
  await raw.settled()
})

attack("a frame of more than 16 MiB, which ends its connection", async t => {
  const raw = await Raw.join(t, server)
  raw.send({ ...well, senderId: raw.peerId, data: new Uint8Array((16 << 20) + 1) })
  await raw.ended()
})

attack("100 connections that say nothing", async t => {
  await Promise.all(Array.from({ length: 100 }, () => Raw.connect(t, server)))
})

attack("connections that go while they are answered", async t => {
  for (let i = 0; i < 50; i++) {
    const raw = await Raw.connect(t, server)
    raw.send({ type: "join", peerMetadata: {}, supportedProtocolVersions: ["1"] })
    raw.request(documentId)
    raw.socket.terminate()
  }
})

attack("10,000 frames in a rush", async t => {
  const raw = await Raw.join(t, server)
  const frame = cbor.encode({ ...well, type: "request", senderId: raw.peerId, data: emptySync })
  for (let i = 0; i < 10_000; i++) raw.sendBytes(frame)
  await raw.settled()
})
