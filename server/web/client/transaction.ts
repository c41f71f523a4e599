// A transaction as a browser has it: a copy of the document that can be picked on
// at any time, a connection that brings it in step with the server's, and the
// state that both make together.
import * as A from "@automerge/automerge/slim"
import type { StorageAdapterInterface } from "@automerge/automerge-repo/slim"
import { v4 as uuid } from "uuid"
import { checkId, checkName, documentUrl, pickOf, sameHeads, type Edit } from "./document.js"
import { Link, type Frame } from "./link.js"
import { decode, encode, freeze, type Down, type Rejected, type Roster, type Up } from "./messages.js"
import { Readiness, type Surroundings } from "./readiness.js"
import { apiRequest, subjectOf, tokenSource, urlFor, type Identity } from "./identity.js"
import {
  NotReadyError, PickError, type Because, type Connection, type Event, type Lapse, type Refusal, type Rejection,
  type Resolution, type Role, type State, type Transaction, type Value, type View,
} from "./state.js"
import { Replica } from "./replica.js"
import { stateOf, unchanged } from "./show.js"
import { adapterFor, lastUser, Store } from "./storage.js"
import { nothing } from "./view.js"
import { WindowWatch } from "./window.js"

const maxKept = 100 // lapses, rejections and resolutions that a state holds
const closeWithin = 1_000 // ms that close waits for the server to have everything
const agreementsWithin = 10_000 // ms that asking for earlier agreements may take
const remindAfter = 3_000 // ms a server has to answer a confirmation, until it is said again

export interface OpenOptions extends Identity {
  /** Where the server is: ws, wss, http or https. Without one the transaction stays offline. */
  readonly server?: string | undefined
  /**
   * Where the transaction is kept between visits: by default in IndexedDB where
   * there is one. With "memory" what the server does not have is gone with the tab.
   */
  readonly storage?: "indexeddb" | "memory" | StorageAdapterInterface | undefined
  /** Writes what happens to the console. Otherwise nothing is written. */
  readonly debug?: boolean | undefined
  /** What opens WebSockets, where it is not the global one. */
  readonly WebSocket?: (new (url: string) => WebSocket) | undefined
}

/**
 * open opens a transaction, which can be picked on at once, also one that was never
 * seen and without a connection. Automerge's wasm must be initialised, or be about to.
 */
export function open(transactionId: string, options: OpenOptions = {}): Transaction {
  const transaction = prepare(transactionId, options)
  transaction.begin()
  return transaction
}

/** prepare makes a transaction that does nothing and shows nothing until begin is called. */
export function prepare(transactionId: string, options: OpenOptions): Transaction & { begin(): void } {
  checkId(transactionId)
  return new OpenTransaction(transactionId, options)
}

const nobodys: Readonly<Record<string, string>> = Object.freeze({})

const nobody = () => new PickError("not-author", "say who you are: a pick needs a user")

interface QueuedEdit {
  readonly edit: Edit
  resolve(change: string): void
  reject(why: unknown): void
}

const newPeerId = () => `parley-web-${uuid()}`

class OpenTransaction implements Transaction {
  readonly id: string
  readonly url: string
  #documentId: string
  #options: OpenOptions
  #log: (...what: unknown[]) => void
  #listeners = new Set<() => void>()
  #loading: Promise<void> | undefined
  #closing: Promise<void> | undefined

  // who we are
  #user = ""
  #role: Role | null // as the server said last, also when the user has left
  #token: () => Promise<string | undefined>
  #bearer: string | undefined // the token of this connection

  // the document
  #replica: Replica | undefined
  #adapter: StorageAdapterInterface | undefined
  #queue: QueuedEdit[] = []

  // the connection
  #link: Link | undefined
  #status: Omit<Connection, "unavailable"> = { state: "offline", nextTry: null, tries: 0, reason: null, code: null }
  #unavailable = false
  #serverId: string | undefined
  #sync: A.SyncState | undefined // of this connection
  #serverHeads: readonly string[] | undefined // as it said on this connection
  #peerId = newPeerId()
  #session = uuid()
  #said = 0
  #pinged = new Map<number, number>()
  #roundTrip: number | null = null

  // the people
  #roster: Roster | undefined
  #heardRoster = false // on this connection
  #parties = new Set<string>()
  #readiness = new Readiness()
  #refused: Refusal | null = null
  #focus: string | null = null
  #lapses: readonly Lapse[] = []
  #rejections: readonly Rejection[] = []
  #resolutions: readonly Resolution[] = []
  #agreementsKnown = false // all until the last roster
  #counts = { lapses: 0, rejections: 0 }

  #reminder: ReturnType<typeof setTimeout> | undefined
  #asking: AbortController | undefined // for earlier agreements

  #window = new WindowWatch(() => this.#link?.awake(), () => this.#link?.doubt())
  #state: State

  constructor(id: string, options: OpenOptions) {
    this.id = id
    this.#options = options
    this.url = documentUrl(id)
    this.#documentId = this.url.replace(/^automerge:/, "")
    this.#log = options.debug ? (...what) => console.debug("parley", id, ...what) : () => {}
    this.#token = tokenSource(options)
    this.#role = options.role ?? null
    this.#user = options.user ?? (typeof options.token === "string" ? subjectOf(options.token) : "")
    if (options.server !== undefined) this.#link = this.#newLink(options.server)
    if (this.#link) this.#status = { ...this.#status, state: "connecting" }
    this.#state = this.#show()
  }

  begin(): void {
    this.#window.begin()
    this.#begin().catch(error => this.#fail(error))
  }

  getState(): State {
    return this.#state
  }

  subscribe(listener: () => void): () => void {
    const own = () => listener() // the same function may subscribe twice
    this.#listeners.add(own)
    return () => void this.#listeners.delete(own)
  }

  pick(field: string, value: Value, option?: string): Promise<string> {
    return this.#edit(pickOf(field, value, option, Date.now()))
  }

  pickOption(field: string, option: string): Promise<string> {
    const found = this.#view.fields.find(f => f.name === field)?.options.find(o => o.name === option)
    if (!found) throw new PickError("option", `field ${JSON.stringify(field)} has no option ${JSON.stringify(option)}`)
    return this.pick(field, found.value, option)
  }

  withdraw(field: string): Promise<string> {
    checkName(field)
    const queued = this.#queue.findLast(q => q.edit.field === field)
    const picked = queued ? !("withdraw" in queued.edit) : field in this.#view.selections
    if (!picked && this.#replica) throw new PickError("nothing-picked", `nothing is picked for ${JSON.stringify(field)}`)
    return this.#edit({ field, withdraw: true, at: Date.now() })
  }

  ready(shown?: View | readonly string[]): Promise<void> {
    if (shown === undefined) this.#makeQueued()
    const heads = shown === undefined ? this.#view.heads : "heads" in shown ? shown.heads : shown
    const done = this.#confirm([...heads].sort())
    done.catch((why: unknown) => {
      if (why instanceof NotReadyError && why.code !== "overtaken") {
        this.#refused = { code: why.code, message: why.message, fields: why.fields }
      }
      this.#update()
    })
    return done
  }

  #confirm(heads: readonly string[]): Promise<void> {
    this.#refused = null
    if (heads.length === 0) return Promise.reject(new NotReadyError("stale", "there is nothing to confirm yet"))
    if (this.#status.state === "offline" || this.#status.state === "refused") {
      return Promise.reject(new NotReadyError("offline", "there is no connection to the server"))
    }
    if (this.#unavailable && this.#pending === 0) {
      return Promise.reject(new NotReadyError("no-transaction", "the server has no such transaction yet"))
    }
    const done = this.#readiness.want(heads)
    this.#update()
    return done
  }

  unready(): void {
    this.#refused = null
    this.#readiness.takeBack()
    this.#update()
  }

  focus(field: string | null): void {
    if (this.#focus === field) return
    this.#focus = field
    this.#say({ t: "focus", field })
  }

  leave(): void {
    this.#focus = null
    this.#readiness.end(new NotReadyError("overtaken", "the user has left"))
    this.#say({ t: "leave" })
    this.#update()
  }

  reconnect(): void {
    this.#link?.reconnect()
    this.#link?.awake()
  }

  history(): readonly Event[] {
    return this.#replica?.history() ?? []
  }

  at(heads: readonly string[]): View | undefined {
    return this.#replica?.at(heads)
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#end())
  }

  async #end(): Promise<void> {
    this.#makeQueued()
    if (this.#link?.joined && this.#pending > 0) await this.#savedWithin(closeWithin)
    this.#link?.close()
    this.#asking?.abort()
    this.#window.end()
    for (const { reject } of this.#queue.splice(0)) reject(new Error("the transaction was closed"))
    this.#readiness.giveUp(new NotReadyError("closed", "the transaction was closed"))
    this.#update()
    await this.#replica?.settled()
    this.#listeners.clear()
  }

  #savedWithin(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer)
        stop()
        resolve()
      }
      const timer = setTimeout(done, ms)
      const stop = this.subscribe(() => (this.#state.saved || !this.#link?.joined) && done())
    })
  }

  // Beginning: who we are, then what is kept here, then the connection.

  async #begin(): Promise<void> {
    this.#adapter = adapterFor(this.#options.storage)
    await A.wasmInitialized()
    if (this.#user === "" && this.#options.token) await this.#askWho()
    else await this.#load()
    if (!this.#closing) this.#link?.start()
  }

  // askWho asks for a token, which says who we are; or else who was here last.
  async #askWho(): Promise<void> {
    const ask = this.#token
    try {
      const first = await ask()
      this.#user = subjectOf(first)
      let fresh = true // for the first connect
      this.#token = () => {
        if (!fresh) return ask()
        fresh = false
        return Promise.resolve(first)
      }
    } catch (error) {
      this.#log("there is no token yet", error)
      if (this.#adapter) this.#user = await lastUser(this.#adapter, this.#documentId).catch(() => "")
      if (this.#user === "") return
    }
    await this.#load()
  }

  async #tokenOfOurs(): Promise<string | undefined> {
    const token = await this.#token()
    const subject = subjectOf(token)
    if (!this.#replica) {
      this.#user = subject
      await this.#load()
    }
    if (subject !== "" && this.#user !== "" && subject !== this.#user) {
      throw new Error(`the token is of ${subject}, and not of ${this.#user}, who works here`)
    }
    this.#bearer = token
    return token
  }

  #load(): Promise<void> {
    return (this.#loading ??= this.#read())
  }

  async #read(): Promise<void> {
    const store = this.#adapter && new Store(this.#adapter, this.#documentId, this.#user)
    this.#replica = await Replica.open(this.id, this.#user, store, this.#log, () => this.#update())
    this.#makeQueued()
    this.#update()
  }

  #fail(error: unknown): void {
    this.#log("cannot open the transaction", error)
    const reason = error instanceof Error ? error.message : String(error)
    this.#status = { ...this.#status, state: "offline", reason }
    for (const { reject } of this.#queue.splice(0)) reject(error)
    this.#update()
  }

  // Editing.

  #edit(edit: Edit): Promise<string> {
    if (this.#closing) throw new PickError("closed", "the transaction was closed")
    const role = this.#state.me.role
    if (role === "viewer" || role === "auditor") {
      throw new PickError("read-only", "viewers and auditors may read the transaction but not change it")
    }
    if (this.#replica && this.#user === "") throw nobody()
    const done = new Promise<string>((resolve, reject) => {
      this.#queue.push({ edit, resolve, reject })
      if (this.#queue.length === 1) queueMicrotask(() => this.#makeQueued())
    })
    done.catch(() => {}) // who does not wait for it sees it in the state
    return done
  }

  // makeQueued makes one change of the picks that wait, the last for each field.
  #makeQueued(): void {
    if (!this.#replica || this.#queue.length === 0) return
    const queue = this.#queue.splice(0)
    const edits = new Map(queue.map(({ edit }) => [edit.field, edit]))
    try {
      if (this.#user === "") throw nobody()
      const { change, kept } = this.#replica.edit([...edits.values()])
      void kept.then(() => queue.forEach(({ resolve }) => resolve(change)))
    } catch (error) {
      queue.forEach(({ reject }) => reject(error))
    }
    this.#update()
  }

  get #view(): View {
    return this.#replica?.view ?? nothing
  }

  get #pending(): number {
    return this.#replica?.unsaved.length ?? 0
  }

  // The conversation with the server.

  #newLink(server: string): Link {
    const url = urlFor(server, this.#options)
    return new Link({
      peerId: () => this.#peerId,
      onReplaced: () => (this.#peerId = newPeerId()),
      token: () => this.#tokenOfOurs(),
      freshTokens: typeof this.#options.token === "function",
      url,
      WebSocket: this.#options.WebSocket ?? globalThis.WebSocket,
      log: this.#log,
      ping: () => this.#ping(),
      onStatus: status => {
        this.#status = status
        // What was picked of a transaction that was never seen makes it, when it has come there.
        if (status.state === "online") this.#unavailable ||= this.#pending > 0 && this.#replica!.unheard
        if (status.state === "refused" || status.state === "offline") {
          this.#readiness.giveUp(new NotReadyError("offline", status.reason ?? "there is no connection to the server"))
        }
        this.#update()
      },
      onJoined: serverId => this.#joined(serverId),
      onFrame: frame => this.#hear(frame),
      onLost: () => {
        this.#serverHeads = this.#serverId = this.#sync = undefined
        this.#heardRoster = false
        this.#roundTrip = null
        this.#pinged.clear()
      },
    })
  }

  #joined(serverId: string): void {
    this.#serverId = serverId
    this.#sync = this.#replica!.begin()
    this.#readiness.begin()
    this.#pump()
    if (this.#focus !== null) this.#say({ t: "focus", field: this.#focus })
    this.#update()
  }

  #hear(frame: Frame): void {
    if (frame.documentId !== this.#documentId || frame.senderId !== this.#serverId) return
    if (frame.type === "doc-unavailable") this.#unavailable = true
    if (frame.type === "sync" || frame.type === "request") this.#receive(frame.data as Uint8Array)
    if (frame.type === "ephemeral") this.#heed(decode(frame.data as Uint8Array))
    this.#update()
  }

  #receive(data: Uint8Array): void {
    const [sync, heads] = this.#replica!.hear(this.#sync!, data)
    this.#sync = sync
    this.#serverHeads = heads
    if (heads.length > 0) this.#unavailable = false
  }

  #pump(): void {
    if (!this.#sync || !this.#replica) return
    const [sync, message] = this.#replica.say(this.#sync)
    this.#sync = sync
    if (message) this.#send(this.#replica.asks ? "request" : "sync", message)
  }

  #send(type: string, data: Uint8Array, more: object = {}): void {
    this.#link?.send({ type, senderId: this.#peerId, targetId: this.#serverId, documentId: this.#documentId, data, ...more })
  }

  #say(message: Up): void {
    if (!this.#link?.joined) return
    this.#send("ephemeral", encode(message), { sessionId: this.#session, count: ++this.#said })
  }

  #ping(): void {
    const n = this.#said
    this.#pinged.clear()
    this.#pinged.set(n, performance.now())
    this.#say({ t: "ping", n })
  }

  #heed(message: Down | undefined): void {
    switch (message?.t) {
      case "roster":
        return this.#takeRoster(message)
      case "lapsed":
        this.#noteLapse(message.user, message.because)
        if (message.user === this.#user) this.#readiness.takeLapse(message.because, this.#surroundings())
        return
      case "resolved":
        return this.#noteResolution(message.resolution)
      case "rejected":
        return this.#takeRejection(message)
      case "pong": {
        const sent = this.#pinged.get(message.n)
        if (sent !== undefined) this.#roundTrip = Math.round(performance.now() - sent)
        this.#pinged.delete(message.n)
      }
    }
  }

  #takeRoster(roster: Roster): void {
    const before = this.#roster?.heads
    this.#roster = roster
    this.#replica?.meet(roster.participants)
    if (!this.#heardRoster && !(this.#agreementsKnown && sameHeads(before!, roster.heads))) void this.#askAgreements()
    this.#heardRoster = true
    this.#role = roster.participants.find(p => p.user === this.#user)?.role ?? this.#role
    this.#unavailable = false
    for (const p of roster.participants) if (p.role === "party" && p.user !== this.#user) this.#parties.add(p.user)
    if (roster.resolution) this.#noteResolution(roster.resolution)
    this.#replica?.learn(roster.heads)
    const lapsed = this.#readiness.takeRoster(roster, this.#user)
    if (lapsed) this.#noteLapse(this.#user, lapsed.because)
  }

  // askAgreements asks for those that were made while nobody here heard it. Without
  // an answer there is one thing less to show.
  async #askAgreements(): Promise<void> {
    this.#agreementsKnown = false
    const asking = (this.#asking = new AbortController())
    const timer = setTimeout(() => asking.abort(), agreementsWithin)
    try {
      const request = apiRequest(this.#options.server!, { ...this.#options, user: this.#user }, this.id, this.#bearer)
      const answer = await fetch(request, { signal: asking.signal })
      if (!answer.ok) throw new Error(`the server answers ${answer.status}`)
      const { resolutions } = (await answer.json()) as { resolutions: Resolution[] }
      for (const resolution of resolutions.slice(-maxKept)) this.#noteResolution(freeze(resolution))
      this.#agreementsKnown = true
      this.#update()
    } catch (error) {
      this.#log("cannot ask for earlier agreements", error)
    } finally {
      clearTimeout(timer)
    }
  }

  #noteLapse(user: string, because: Because | null): void {
    if (because && this.#lapses.some(l => l.user === user && l.because?.change === because.change)) return
    this.#lapses = [...this.#lapses, Object.freeze({ n: ++this.#counts.lapses, user, because })].slice(-maxKept)
  }

  #noteResolution(resolution: Resolution): void {
    if (this.#resolutions.some(known => known.n === resolution.n)) return
    this.#resolutions = [...this.#resolutions, resolution].sort((a, b) => a.n - b.n).slice(-maxKept)
  }

  #takeRejection(rejected: Rejected): void {
    this.#log("refused", rejected.of ?? "changes", rejected.code, rejected.message)
    if (rejected.of === "ready") return this.#readiness.takeRefusal(rejected)
    if (rejected.of !== undefined) return
    if (rejected.changes.length > 0) return this.#rollBack(rejected)
    this.#unavailable = true
    this.#status = { ...this.#status, reason: rejected.message }
  }

  #rollBack({ code, message, changes }: Rejected): void {
    const rolledBack = this.#replica?.rollBack(changes, code)
    if (!rolledBack) return
    if (this.#sync) this.#sync = A.initSyncState()
    const rejection = Object.freeze({ n: ++this.#counts.rejections, code, message, ...rolledBack })
    this.#rejections = [...this.#rejections, rejection].slice(-maxKept)
  }

  // What is shown.

  #surroundings(): Surroundings {
    const replica = this.#replica
    return {
      user: this.#user,
      inStep: this.#isCurrent && this.#pending === 0,
      heads: this.#view.heads,
      contains: (heads, change) => replica?.contains(heads, change) ?? false,
      causeSince: heads => replica?.causeSince(heads) ?? null,
    }
  }

  // isCurrent says whether all that the server has is here. Until then a long frame may
  // be on its way, which no pong overtakes, and a silent line is not a dead one.
  get #isCurrent(): boolean {
    return this.#serverHeads !== undefined && (this.#replica?.has(this.#serverHeads) ?? false)
  }

  get #someoneReady(): boolean {
    const { pending, confirmed } = this.#readiness
    return pending || confirmed !== undefined || (this.#roster?.participants.some(p => p.ready) ?? false)
  }

  // update says what the server should hear now, and shows what there is.
  #update(): void {
    this.#pump()
    const lapsed = this.#readiness.tend(this.#surroundings())
    if (lapsed) this.#noteLapse(this.#user, lapsed.because)
    if (this.#sync) this.#readiness.next().forEach(message => this.#say(message))
    this.#link?.hurry(this.#isCurrent && (this.#someoneReady || this.#pending > 0))
    this.#watchAnswer()
    const state = unchanged(this.#state, this.#show())
    if (state === this.#state) return
    this.#state = state
    this.#window.warn(state.pending > 0 && !this.#closing)
    for (const listener of [...this.#listeners]) {
      try {
        listener()
      } catch (error) {
        queueMicrotask(() => { throw error })
      }
    }
  }

  // watchAnswer has the server reminded of what it does not answer.
  #watchAnswer(): void {
    const wanted = this.#sync !== undefined && this.#readiness.unanswered && !this.#closing
    if (wanted === (this.#reminder !== undefined)) return
    clearTimeout(this.#reminder)
    this.#reminder = wanted ? setTimeout(() => this.#remind(), remindAfter) : undefined
  }

  #remind(): void {
    this.#reminder = undefined
    this.#readiness.remind()
    this.#update()
  }

  #show(): State {
    return stateOf({
      id: this.id,
      view: this.#view,
      loaded: this.#replica !== undefined,
      kept: this.#replica?.kept ?? false,
      user: this.#user,
      name: this.#options.name ?? "",
      role: this.#role,
      roster: this.#roster,
      names: this.#replica?.names ?? nobodys,
      parties: this.#parties,
      readiness: this.#readiness,
      refused: this.#refused,
      lapses: this.#lapses,
      rejections: this.#rejections,
      resolutions: this.#resolutions,
      connection: { ...this.#status, unavailable: this.#unavailable },
      pending: this.#pending + this.#queue.length,
      roundTrip: this.#roundTrip,
    })
  }
}
