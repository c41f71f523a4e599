// A peer that speaks frames, for saying what no client would.
import { once } from "node:events"
import { WebSocket } from "ws"
import * as Automerge from "@automerge/automerge"
import { cbor } from "@automerge/automerge-repo"
import { until } from "./client.mjs"

let peers = 0

export class Raw {
  peerId = `raw-${process.pid}-${++peers}`
  received = [] // messages, decoded as a client does
  closed = false
  closeCode

  static async connect(t, server) {
    const raw = new Raw()
    raw.socket = new WebSocket(server.url)
    raw.socket.on("message", bytes => raw.received.push(cbor.decode(bytes)))
    raw.socket.on("error", () => {})
    raw.socket.on("close", code => {
      raw.closed = true
      raw.closeCode = code
    })
    t.after(() => raw.socket.terminate())
    await once(raw.socket, "open")
    return raw
  }

  static async join(t, server) {
    const raw = await Raw.connect(t, server)
    raw.send({ type: "join", senderId: raw.peerId, peerMetadata: {}, supportedProtocolVersions: ["1"] })
    const peer = await raw.receive("peer")
    raw.serverId = peer.senderId
    return raw
  }

  // send fills in the ids that a message needs.
  send(message) {
    this.sendBytes(cbor.encode({ senderId: this.peerId, targetId: this.serverId, ...message }))
  }

  // request asks for a document, as one who has nothing of it.
  request(documentId) {
    const [, data] = Automerge.generateSyncMessage(Automerge.init(), Automerge.initSyncState())
    this.send({ type: "request", documentId, data })
  }

  // offer sends changes in a sync message.
  offer(documentId, changes, fields) {
    const message = { heads: [], need: [], have: [], changes, ...fields }
    this.send({ type: "sync", documentId, data: Automerge.encodeSyncMessage(message) })
  }

  // sendBytes sends a binary frame, or a text frame if given a string.
  sendBytes(bytes) {
    if (!this.closed) this.socket.send(bytes)
  }

  // receive waits for the first message of a type that matches, and takes it.
  async receive(type, where = () => true, deadline) {
    const index = await until(
      `a message of type ${type}`,
      () => 1 + this.received.findIndex(m => m.type === type && where(m)),
      deadline
    )
    return this.received.splice(index - 1, 1)[0]
  }

  ended() {
    return until("the server closes the connection", () => this.closed)
  }

  // settled waits until the server has dealt with what was sent: it has
  // answered a ping sent after that, or closed the connection.
  async settled() {
    let answered = false
    this.socket.once("pong", () => (answered = true))
    if (!this.closed) this.socket.ping()
    await until("the server answers a ping or closes", () => answered || this.closed)
  }
}
