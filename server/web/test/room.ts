// Transactions on a server, and people in them.
import assert from "node:assert/strict"
import fs from "node:fs"
import { createRequire } from "node:module"
import { after, type TestContext } from "node:test"
import { initializeWasm } from "@automerge/automerge/slim"
import type { Chunk, StorageAdapterInterface, StorageKey } from "@automerge/automerge-repo/slim"
import { WebSocket } from "ws"
import { open, type OpenOptions, type State, type Transaction } from "../client/index.js"
import type { Server } from "./server.js"

const patience = 15_000 // ms until a test gives up waiting

await initializeWasm(fs.readFileSync(createRequire(import.meta.url).resolve("@automerge/automerge/automerge.wasm")))

// What a browser has.
Object.assign(globalThis, { WebSocket })

// Nothing in the library writes to the console, in any test.
const noise: unknown[][] = []
for (const method of ["log", "info", "warn", "error", "debug", "trace"] as const) {
  console[method] = (...what: unknown[]) => void noise.push([method, ...what])
}
after(() => assert.deepEqual(noise, []))

export const fields = {
  date: { label: "Date", required: false, options: {} },
  price: {
    label: "Price",
    required: true,
    options: { a: { value: 100, source: "seller.pdf" }, b: { value: 120, source: "buyer.pdf" } },
  },
}

let transactions = 0

export const newId = () => `web-${process.pid}-${++transactions}`

/** host opens a transaction, or changes it, as its host does; it returns the id. */
export async function host(server: Server, settings: object = {}, id = newId(), headers = {}): Promise<string> {
  const answer = await fetch(`${server.url.replace(/^ws/, "http")}/v1/transactions?user=holly&role=host`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify({ id, fields, ...settings }),
  })
  assert.ok(answer.ok, await answer.text())
  return id
}

/** join opens a transaction as a user, until the test ends. */
export function join(t: TestContext, server: Server, id: string, user: string, options: OpenOptions = {}): Transaction {
  const opened = open(id, { server: server.url, user, role: "party", ...options })
  t.after(() => opened.close())
  return opened
}

/** until waits for a state of which check is true, which may look at others' too. */
export function until(transaction: Transaction, what: string, check: (state: State) => unknown, others: Transaction[] = []): Promise<State> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const state = transaction.getState()
      if (!check(state)) return
      stop()
      clearTimeout(timer)
      resolve(state)
    }
    const stops = [transaction, ...others].map(t => t.subscribe(look))
    const stop = () => stops.forEach(stop => stop())
    const timer = setTimeout(() => {
      stop()
      reject(new Error(`not within ${patience} ms: ${what}; ${JSON.stringify(transaction.getState())}`))
    }, patience)
    look()
  })
}

const online = (s: State) => s.connection.state === "online" && s.participants.some(p => p.user === s.me.user)

export const arrived = (...people: Transaction[]) =>
  Promise.all(people.map(person => until(person, "is here and in step", s => online(s) && s.saved && s.fields.length > 0)))

/** agreed waits until all show the same and know that the server has it. */
export const agreed = async (...people: Transaction[]): Promise<void> => {
  const heads = () => people.map(p => p.getState().heads.join())
  await Promise.all(
    people.map(person => until(person, "all show the same", s => s.saved && new Set(heads()).size === 1, people))
  )
  if (new Set(heads()).size !== 1) await agreed(...people)
}

export const value = (transaction: Transaction, field: string) => transaction.getState().selections[field]?.winner.value

export const seen = (state: State, user: string) => state.participants.find(p => p.user === user)

/** Memory is storage that outlives the transactions that are opened on it. */
export class Memory implements StorageAdapterInterface {
  #kept = new Map<string, { key: StorageKey; data: Uint8Array }>()

  async load(key: StorageKey) {
    return this.#kept.get(JSON.stringify(key))?.data
  }
  async save(key: StorageKey, data: Uint8Array) {
    this.#kept.set(JSON.stringify(key), { key, data: data.slice() })
  }
  async remove(key: StorageKey) {
    this.#kept.delete(JSON.stringify(key))
  }
  async loadRange(prefix: StorageKey): Promise<Chunk[]> {
    return [...this.#kept.values()].filter(({ key }) => prefix.every((part, i) => key[i] === part))
  }
  async removeRange(prefix: StorageKey) {
    for (const { key } of await this.loadRange(prefix)) await this.remove(key)
  }
}
