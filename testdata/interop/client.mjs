// Real automerge-repo clients, and what a test needs to wait for them.
import { test } from "node:test"
import { WebSocket } from "ws"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"

export { random } from "./random.mjs"

const retryInterval = 250 // ms between a client's attempts to connect; 5,000 by default
const patience = 20_000 // ms until a test gives up waiting

// scenario is a test that ends, one way or the other.
export function scenario(name, options, run = options) {
  test(name, { timeout: 60_000, ...(options === run ? {} : options) }, run)
}

// until waits for check to return something true, and returns it.
export async function until(what, check, deadline = patience) {
  const end = Date.now() + deadline
  for (;;) {
    const found = await check()
    if (found) return found
    if (Date.now() > end) throw new Error(`not within ${deadline} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

// quiet waits until a count has not changed for a while.
export async function quiet(count) {
  let [last, since] = [count(), Date.now()]
  await until("the exchange ends", () => {
    if (count() !== last) [last, since] = [count(), Date.now()]
    return Date.now() - since > 300
  })
}

// Adapter is automerge-repo's, less what makes it throw where nobody can catch
// it: errors of a socket whose server was killed, and sending while the socket
// closes. Later versions of the package do neither. It can go offline too.
export class Adapter extends WebSocketClientAdapter {
  #offline = false
  #identity

  constructor(url) {
    super(url, retryInterval)
    this.onError = () => {}
  }

  connect(peerId, metadata) {
    this.#identity = [peerId, metadata]
    if (!this.#offline) super.connect(peerId, metadata)
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) super.send(message)
  }

  disconnect() {
    if (!this.socket) return
    this.socket.addEventListener("error", () => {}) // it throws if it was still connecting
    super.disconnect()
  }

  get connected() {
    return this.socket?.readyState === WebSocket.OPEN
  }

  goOffline() {
    this.#offline = true
    this.disconnect()
  }

  goOnline() {
    this.#offline = false
    this.connect(...this.#identity)
  }
}

// client starts a Repo that is shut down with the test.
export function client(t, server, { url = server.url, ...config } = {}) {
  const adapter = new Adapter(url)
  const repo = new Repo({ network: [adapter], ...config })
  const close = async () => {
    adapter.goOffline()
    await repo.flush().catch(() => {})
  }
  t.after(close)
  return {
    repo,
    adapter,
    close,
    find: async url => {
      await joined({ repo }) // a client not joined within a second takes all documents for unavailable
      return find(repo, url)
    },
  }
}

export function clients(t, server, n) {
  return Array.from({ length: n }, () => client(t, server))
}

// find is repo.find with the tests' patience instead of its minute.
export function find(repo, url, deadline = patience) {
  return repo.find(url, { signal: AbortSignal.timeout(deadline) })
}

// joined waits for the server's answer to join, and returns the server's peer id.
export function joined({ repo }) {
  return until("the server answers join", () => repo.peers[0])
}

const heads = handle => [...handle.heads()].sort().join()

// converged waits for handles of one document to have the same heads.
export async function converged(handles, deadline) {
  await until("the clients have the same heads", () => new Set(handles.map(heads)).size === 1, deadline)
}

// acknowledged returns the heads that the server has said it has, as URL heads.
// It knows them when the connection has gone, too.
export function acknowledged({ repo }, handle) {
  const [server] = Object.values(repo.peerMetadataByPeerId)
  return server?.storageId && handle.getSyncInfo(server.storageId)?.lastHeads
}

// saved waits for the server to acknowledge all that a handle has.
export function saved(aClient, handle, deadline) {
  return until(
    "the server has all changes",
    () => [...(acknowledged(aClient, handle) ?? [])].sort().join() === heads(handle),
    deadline
  )
}
