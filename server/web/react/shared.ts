// Transactions that components share: opened when the first of them looks, closed
// when the last has gone. Rendering opens nothing, so that it may be done twice, be
// thrown away, or be done on a server.
import type { StorageAdapterInterface } from "@automerge/automerge-repo/slim"
import { subjectOf } from "../client/identity.js"
import type { Transaction, State, Value, View } from "../client/state.js"
import { prepare, type OpenOptions } from "../client/transaction.js"

// What goes and comes back within this many ms, as in StrictMode, stays open.
const linger = 250

interface Entry {
  readonly transaction: ReturnType<typeof prepare>
  /** The options of who looked last: a new token is used at the next connect. */
  options: OpenOptions
  holders: number
  closing: ReturnType<typeof setTimeout> | undefined
}

const entries = new Map<string, Entry>()

const adapters = new WeakMap<StorageAdapterInterface, number>()
let adaptersSeen = 0

function nameOf(storage: OpenOptions["storage"]): string | number {
  if (typeof storage !== "object") return storage ?? ""
  let n = adapters.get(storage)
  if (n === undefined) adapters.set(storage, (n = ++adaptersSeen))
  return n
}

/** keyOf names what must be another transaction if it changes. */
export function keyOf(id: string, { server, user, name, role, token, storage }: OpenOptions): string {
  const bearer = typeof token === "string" ? subjectOf(token) : typeof token
  return JSON.stringify([id, server, user, name, role, bearer, nameOf(storage)])
}

function enter(key: string, id: string, options: OpenOptions): Entry {
  const entry: Entry = { transaction: prepare(id, lasting(options, () => entry.options)), options, holders: 0, closing: undefined }
  entries.set(key, entry)
  entry.transaction.begin()
  return entry
}

// lasting returns options whose token is the newest that was given.
function lasting(options: OpenOptions, newest: () => OpenOptions): OpenOptions {
  if (options.token === undefined) return options
  const user = options.user ?? (typeof options.token === "string" ? subjectOf(options.token) || undefined : undefined)
  const token = () => {
    const { token } = newest()
    return typeof token === "function" ? token() : (token ?? "")
  }
  return { ...options, user, token }
}

/** Shared is a component's hold on a transaction. Its methods need no `this`. */
export class Shared implements Transaction {
  readonly id: string
  readonly url: string
  readonly key: string
  options: OpenOptions // of the last render that was committed
  #entry: Entry | undefined
  #before: Transaction
  #holds = 0

  constructor(id: string, options: OpenOptions) {
    this.id = id
    this.options = options
    this.key = keyOf(id, options)
    this.#before = prepare(id, options)
    this.url = this.#before.url
  }

  get #transaction(): Transaction {
    return this.#entry?.transaction ?? this.#before
  }

  /** hold opens the transaction, until the function that it returns is called. */
  hold = (): (() => void) => {
    if (this.#holds++ === 0) {
      const entry = (this.#entry = entries.get(this.key) ?? enter(this.key, this.id, this.options))
      entry.holders++
      clearTimeout(entry.closing)
    }
    let held = true
    return () => {
      if (held && --this.#holds === 0) this.#letGo()
      held = false
    }
  }

  /** use takes the options of the newest render. */
  use = (options: OpenOptions): void => {
    this.options = options
    if (this.#entry) this.#entry.options = options
  }

  #letGo(): void {
    const entry = this.#entry!
    if (--entry.holders > 0) return
    entry.closing = setTimeout(() => {
      entries.delete(this.key)
      void entry.transaction.close()
    }, linger)
  }

  getState = (): State => this.#transaction.getState()

  subscribe = (listener: () => void): (() => void) => {
    const letGo = this.hold()
    const stop = this.#transaction.subscribe(listener)
    return () => {
      stop()
      letGo()
    }
  }

  pick = (field: string, value: Value, option?: string) => this.#open.pick(field, value, option)
  pickOption = (field: string, option: string) => this.#open.pickOption(field, option)
  withdraw = (field: string) => this.#open.withdraw(field)
  ready = (shown?: View | readonly string[]) => this.#open.ready(shown)
  unready = () => this.#open.unready()
  focus = (field: string | null) => this.#open.focus(field)
  leave = () => this.#open.leave()
  reconnect = () => this.#open.reconnect()
  history = () => this.#transaction.history()
  at = (heads: readonly string[]) => this.#transaction.at(heads)
  close = () => this.#transaction.close()

  // An effect of a child may be here before our own: what it does opens the transaction.
  get #open(): Transaction {
    if (!this.#entry || entries.get(this.key) !== this.#entry) setTimeout(this.hold(), linger)
    return this.#transaction
  }
}
