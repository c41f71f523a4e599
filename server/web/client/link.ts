// A connection to the server that is made again whenever it is lost. It carries
// frames of automerge-repo's protocol and decides nothing about what is in them.
import { cbor } from "@automerge/automerge-repo/slim"
import type { Connection } from "./state.js"

/** A frame, as its CBOR says. */
export interface Frame {
  readonly type: string
  readonly [key: string]: unknown
}

const firstRetry = 250 // ms; the first try comes no later than this
const lastRetry = 10_000 // ms; no wait is longer
const stableAfter = 1_000 // ms a connection must last for the next loss to count as a first one
const joinWithin = 10_000 // ms a server has to let us in
const urgentBeat = 2_500 // ms between pings while a dead server must be noticed within 5 s
const calmBeat = 15_000 // ms, for 30 s
const doubtBeat = 5_000 // ms a server has to answer when the network is said to be gone

const connecting = 0 // WebSocket.CONNECTING
const open = 1 // WebSocket.OPEN

const unauthorized = 4401
const tokenExpired = 4501
// The peer id has joined on a newer connection. Nobody else has ours: it was a connection
// that was given up, of which the server heard late.
const replaced = 4409

/** A token that is no good, for a reason that asking again may end. */
interface Refusal {
  readonly token: string | undefined
}

export interface LinkOptions {
  /** peerId is asked at each connect, and after onReplaced is another. */
  readonly peerId: () => string
  /** token is asked before each connect. */
  readonly token: () => Promise<string | undefined>
  /** Whether another call of token may give another one. */
  readonly freshTokens: boolean
  /** url returns where to connect with a token. */
  readonly url: (token: string | undefined) => string
  readonly WebSocket: new (url: string) => WebSocket
  readonly log: (...what: unknown[]) => void
  /** ping asks the server for a sign of life. */
  readonly ping: () => void
  readonly onStatus: (status: Omit<Connection, "unavailable">) => void
  readonly onJoined: (serverId: string) => void
  readonly onFrame: (frame: Frame) => void
  readonly onLost: () => void
  readonly onReplaced: () => void
}

const idle: Omit<Connection, "unavailable"> = { state: "connecting", nextTry: null, tries: 0, reason: null, code: null }

/** Link keeps one WebSocket at a time; start begins, close ends it for good. */
export class Link {
  #options: LinkOptions
  #status = idle
  #socket: WebSocket | undefined
  #attempt = 0 // names the newest try: what older ones bring is not heard
  #joinedAt: number | undefined
  #failures = 0
  #lastError: string | undefined
  #refusal: Refusal | undefined
  #retry: ReturnType<typeof setTimeout> | undefined
  #joinTimer: ReturnType<typeof setTimeout> | undefined
  #beat: ReturnType<typeof setTimeout> | undefined
  #urgent = false
  #silent = false // nothing came since the last ping
  #due = 0 // when something must have come
  #unsent = 0 // bytes that were waiting to be sent then
  #closed = false

  constructor(options: LinkOptions) {
    this.#options = options
  }

  get joined(): boolean {
    return this.#joinedAt !== undefined
  }

  start(): void {
    this.#status = idle
    this.#options.onStatus(idle)
    void this.#connect()
  }

  /** send hands over a frame; it is dropped where there is no connection to carry it. */
  send(frame: Frame): void {
    if (this.#socket?.readyState !== open) return
    // A copy: cbor-x's encoder goes on using the buffer that it answers from.
    this.#socket.send(new Uint8Array(cbor.encode(frame)))
  }

  /** hurry says whether a dead server must be noticed soon. */
  hurry(urgent: boolean): void {
    if (urgent === this.#urgent) return
    this.#urgent = urgent
    // What is due soon anyway is soon enough, and there is a pause after it.
    if (urgent && this.joined && this.#due > Date.now() + urgentBeat) this.#probe()
  }

  /** awake tries at once what else would be waited for: somebody looks, or the network is back. */
  awake(): void {
    if (this.#closed || this.#status.state === "refused") return
    if (this.joined) this.#probe(urgentBeat)
    else if (this.#retry !== undefined) this.#tryNow()
  }

  /** doubt asks at once for a sign of life: the network is said to be gone. */
  doubt(): void {
    if (this.joined) this.#probe(doubtBeat)
  }

  /** reconnect tries at once, also after a refusal. */
  reconnect(): void {
    if (this.#closed || this.joined || this.#status.state === "connecting") return
    this.#failures = 0
    this.#refusal = undefined
    this.#set({ ...idle })
    this.#tryNow()
  }

  /** drop ends the connection as if it had been lost. */
  drop(reason: string): void {
    this.#lost(reason, null)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.send({ type: "leave", senderId: this.#options.peerId() })
    this.#letGo()
    this.#set({ ...idle, state: "offline" })
  }

  #set(status: Omit<Connection, "unavailable">): void {
    this.#status = status
    this.#options.onStatus(status)
  }

  #tryNow(): void {
    clearTimeout(this.#retry)
    this.#retry = undefined
    if (this.#status.nextTry !== null) this.#set({ ...this.#status, nextTry: null })
    void this.#connect()
  }

  async #connect(): Promise<void> {
    this.#letGo()
    const attempt = ++this.#attempt
    const current = () => attempt === this.#attempt && !this.#closed
    let token: string | undefined
    try {
      token = await this.#options.token()
      if (!current()) return
      if (this.#refusal && this.#refusal.token === token) return this.#lost(this.#status.reason ?? "", this.#status.code)
      this.#open(token, current)
    } catch (error) {
      if (current()) this.#lost(error instanceof Error ? error.message : String(error), null)
    }
  }

  #open(token: string | undefined, current: () => boolean): void {
    const socket = new this.#options.WebSocket(this.#options.url(token))
    this.#socket = socket
    this.#lastError = undefined
    socket.binaryType = "arraybuffer"
    this.#joinTimer = setTimeout(() => current() && this.#lost("the server does not answer", null), joinWithin)
    socket.onopen = () => {
      if (!current()) return
      this.send({
        type: "join",
        senderId: this.#options.peerId(),
        peerMetadata: { isEphemeral: true },
        supportedProtocolVersions: ["1"],
      })
    }
    socket.onmessage = event => {
      if (current()) this.#hear(event.data)
    }
    socket.onerror = () => {} // close follows, and says more
    socket.onclose = event => {
      if (current()) this.#ended(event.code, event.reason, token)
    }
  }

  #hear(data: unknown): void {
    this.#silent = false
    let frame: Frame
    try {
      frame = cbor.decode(new Uint8Array(data as ArrayBuffer)) as Frame
      if (frame.type === "error") this.#lastError = String(frame.message)
      else if (frame.type !== "peer") this.#options.onFrame(frame)
    } catch (error) {
      this.#options.log("cannot read what the server sent", error)
      return this.#lost("the server sent what cannot be read", null)
    }
    if (frame.type !== "peer" || this.joined) return
    clearTimeout(this.#joinTimer)
    this.#joinedAt = Date.now()
    this.#refusal = undefined
    this.#set({ ...idle, state: "online" })
    this.#options.onJoined(String(frame.senderId))
    this.#probe()
  }

  #ended(code: number, reason: string, token: string | undefined): void {
    const why = this.#lastError ?? (reason || "the connection was lost")
    this.#options.log("disconnected", code, why)
    const final = code === 1000 || code === 1009 || (code >= 4400 && code <= 4499 && code !== replaced)
    if (code === replaced) this.#options.onReplaced()
    if (!final) return this.#lost(why, code, code === tokenExpired && this.#options.freshTokens)
    if (code === unauthorized && this.#options.freshTokens) {
      this.#refusal = { token }
      return this.#lost(why, code)
    }
    this.#forget()
    this.#set({ ...this.#status, state: "refused", nextTry: null, tries: this.#status.tries + 1, reason: why, code })
  }

  // lost plans the next try: after half to all of a ceiling that doubles, so that
  // the clients of a restarted server do not come back all at once.
  #lost(reason: string, code: number | null, atOnce = false): void {
    const lasted = this.#joinedAt === undefined ? undefined : Date.now() - this.#joinedAt
    if (lasted !== undefined && lasted >= stableAfter) this.#failures = 0
    this.#forget()
    const ceiling = Math.min(firstRetry * 2 ** this.#failures, lastRetry)
    const wait = atOnce && this.#failures === 0 ? 0 : ceiling / 2 + Math.random() * (ceiling / 2)
    this.#failures = Math.min(this.#failures + 1, 30)
    this.#retry = setTimeout(() => this.#tryNow(), wait)
    const tries = lasted === undefined ? this.#status.tries + 1 : 0
    this.#set({ state: this.#refusal ? "refused" : "reconnecting", nextTry: Date.now() + wait, tries, reason, code })
  }

  #forget(): void {
    const wasJoined = this.joined
    this.#letGo()
    if (wasJoined) this.#options.onLost()
  }

  // letGo ends the socket and everything that waits for it.
  #letGo(): void {
    this.#attempt++
    for (const timer of [this.#retry, this.#joinTimer, this.#beat]) clearTimeout(timer)
    this.#retry = this.#joinTimer = this.#beat = undefined
    this.#joinedAt = undefined
    const socket = this.#socket
    this.#socket = undefined
    if (socket && (socket.readyState === open || socket.readyState === connecting)) socket.close()
  }

  // probe pings, and takes the line for dead if nothing comes for a beat. A later
  // probe does not put off what an earlier one waits for.
  #probe(beat = this.#urgent ? urgentBeat : calmBeat): void {
    const due = Date.now() + beat
    if (this.#silent && this.#beat !== undefined && this.#due <= due) return
    clearTimeout(this.#beat)
    this.#silent = true
    this.#due = due
    this.#options.ping()
    this.#unsent = this.#socket!.bufferedAmount
    this.#beat = setTimeout(() => {
      this.#beat = undefined
      if (this.#silent && !this.#moves) this.#lost("the server does not answer", null)
      else this.#probe()
    }, beat)
  }

  // moves says whether what waits to be sent has become less: a ping waits behind it.
  get #moves(): boolean {
    const { bufferedAmount } = this.#socket!
    return bufferedAmount > 0 && bufferedAmount < this.#unsent
  }
}
