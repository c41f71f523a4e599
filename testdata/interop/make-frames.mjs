// Writes to stdout the frames in ../wire/frames.json: what automerge-repo's own
// client and server say to each other over a real WebSocket, and a few frames
// that cbor-x makes of messages which such a short talk does not bring about.
// Every source of chance is fixed, so that each run writes the same bytes.
//
//   node make-frames.mjs > ../wire/frames.json
import { once } from "node:events"
import { Encoder } from "cbor-x"
import { WebSocket, WebSocketServer } from "ws"
import * as Automerge from "@automerge/automerge"
import { Repo, cbor, parseAutomergeUrl, stringifyAutomergeUrl } from "@automerge/automerge-repo"
import { WebSocketClientAdapter, WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { describe } from "./describe.mjs"

Math.random = () => 0.123456789
Date.now = () => 1700000000000

const documentId = name => {
  const bytes = new Uint8Array(16)
  bytes.set(new TextEncoder().encode(name))
  return parseAutomergeUrl(stringifyAutomergeUrl(bytes)).documentId
}
const known = documentId("known")
const unknown = documentId("unknown")
const stored = Automerge.save(
  Automerge.change(Automerge.init("00112233445566778899aabbccddeeff"), { time: 1700000000 }, doc => {
    doc.title = "golden"
  })
)

// A store that holds nothing but its own id.
const emptyStore = id => ({
  load: async key => (key[0] === "storage-adapter-id" ? new TextEncoder().encode(id) : undefined),
  loadRange: async () => [],
  save: async () => {},
  remove: async () => {},
  removeRange: async () => {},
})

const talk = [] // {from: "client"|"server", bytes}
const waiting = []

function heard(from, bytes) {
  talk.push({ from, bytes: Buffer.from(bytes) })
  for (const check of [...waiting]) check()
}

// frame returns the first frame of a type from one side.
function frame(from, type, where = () => true) {
  const find = () =>
    talk.find(f => {
      if (f.from !== from) return false
      const message = cbor.decode(f.bytes)
      return message.type === type && where(message)
    })
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${type} from the ${from}`)), 10_000)
    const check = () => {
      const found = find()
      if (!found) return
      clearTimeout(timer)
      waiting.splice(waiting.indexOf(check), 1)
      resolve(found.bytes)
    }
    waiting.push(check)
    check()
  })
}

const wss = new WebSocketServer({ host: "127.0.0.1", port: 0 })
await once(wss, "listening")
wss.on("connection", socket => {
  socket.on("message", bytes => heard("client", bytes))
  const send = socket.send.bind(socket)
  socket.send = (bytes, ...rest) => {
    heard("server", bytes)
    send(bytes, ...rest)
  }
})
const url = `ws://127.0.0.1:${wss.address().port}`

new Repo({
  peerId: "storage-server-golden",
  network: [new WebSocketServerAdapter(wss)],
  storage: emptyStore("11111111-1111-4111-8111-111111111111"),
  sharePolicy: async () => false,
  enableRemoteHeadsGossiping: true,
})
const client = (name, storage) =>
  new Repo({
    peerId: name,
    network: [new WebSocketClientAdapter(url)],
    storage: storage && emptyStore(storage),
    enableRemoteHeadsGossiping: storage !== undefined,
  })

const frames = []
const add = (name, from, bytes) =>
  frames.push({ name, from, hex: Buffer.from(bytes).toString("hex"), reads: describe(cbor.decode(bytes)) })

const writer = client("peer-writer", "22222222-2222-4222-8222-222222222222")
add("join with a store", "client", await frame("client", "join"))
add("peer", "server", await frame("server", "peer"))
const handle = writer.import(stored, { docId: known })
add("first sync", "client", await frame("client", "sync"))
add("first sync of the server", "server", await frame("server", "sync"))
writer.find(unknown).catch(() => {})
add("request", "client", await frame("client", "request"))
add("doc-unavailable", "server", await frame("server", "doc-unavailable"))
handle.broadcast({ hello: "world" })
add("ephemeral", "client", await frame("client", "ephemeral"))

const reader = client("peer-reader", "33333333-3333-4333-8333-333333333333")
reader.subscribeToRemotes(["22222222-2222-4222-8222-222222222222"])
add("remote-subscription-change", "client", await frame("client", "remote-subscription-change"))
await reader.find(known)
add("remote-heads-changed", "server", await frame("server", "remote-heads-changed", m => m.documentId === known))

client("peer-plain")
add("join without a store", "client", await frame("client", "join", m => m.senderId === "peer-plain"))

const stranger = new WebSocket(url)
await once(stranger, "open")
stranger.send(cbor.encode({ type: "join", senderId: "peer-2", peerMetadata: {}, supportedProtocolVersions: ["2"] }))
add("error", "server", await frame("server", "error"))

// Made by hand, encoded by automerge-repo's own encoder.
const ids = { senderId: "peer-writer", targetId: "storage-server-golden" }
const data = new Uint8Array([0x42, 0, 0, 0, 0])
const made = (name, message, encode = cbor.encode) => add(name, "client", encode(message))
made("leave", { type: "leave", senderId: "peer-writer" })
made("join without metadata and versions", { type: "join", senderId: "peer-writer" })
made("fields in another order", { data, documentId: known, ...ids, type: "sync" })
made("unknown fields", { type: "sync", ...ids, documentId: known, data, extra: { deep: [1, [2, { three: null }]] }, at: new Date(0) })
made("remote-subscription-change, both ways", { type: "remote-subscription-change", ...ids, add: ["a", "b"], remove: ["c"] })
made("null for undefined", { type: "remote-subscription-change", ...ids, add: null, remove: undefined })
made("count of 32 bits", { type: "ephemeral", ...ids, documentId: known, count: 2 ** 32 - 1, sessionId: "s", data })
made("count above 32 bits", { type: "ephemeral", ...ids, documentId: known, count: 2 ** 32, sessionId: "s", data })
made("count as a float", { type: "ephemeral", ...ids, documentId: known, count: 2 ** 53 - 1, sessionId: "s", data })
made("empty error from samod", { type: "error", message: "no" })
made("data of 300 bytes", { type: "sync", ...ids, documentId: known, data: new Uint8Array(300).fill(7) })
made("tag 64 around data", { type: "sync", ...ids, documentId: known, data }, m =>
  new Encoder({ tagUint8Array: true, useRecords: false }).encode(m)
)
made("document id as bytes", { type: "sync", ...ids, documentId: parseAutomergeUrl("automerge:" + known).binaryDocumentId, data })
made("subduction-connection", { type: "subduction-connection", ...ids, data })

process.stdout.write("[\n" + frames.map(f => "  " + JSON.stringify(f)).join(",\n") + "\n]\n", () => process.exit(0))
