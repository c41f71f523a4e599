// What a client keeps between visits: the changes of a transaction, one user's
// apart from another's, and which of them the server is known to have.
import type { StorageAdapterInterface, StorageKey } from "@automerge/automerge-repo/slim"
import { IndexedDBStorageAdapter } from "@automerge/automerge-repo-storage-indexeddb"
import { v4 as uuid } from "uuid"

const maxChunks = 32 // read or written until they are joined into one

/** adapterFor returns the adapter that an option names; undefined keeps nothing. */
export function adapterFor(
  storage: "indexeddb" | "memory" | StorageAdapterInterface | undefined
): StorageAdapterInterface | undefined {
  if (typeof storage === "object") return storage
  if (storage === "memory") return undefined
  if (typeof indexedDB === "undefined") {
    if (storage === "indexeddb") throw new Error("there is no IndexedDB here: give storage an adapter, or \"memory\"")
    return undefined
  }
  return new IndexedDBStorageAdapter("parley", "transactions")
}

/** The user who worked on a transaction here last; "" if nobody did. */
export async function lastUser(adapter: StorageAdapterInterface, documentId: string): Promise<string> {
  const kept = await adapter.load([documentId, "user"])
  return kept ? new TextDecoder().decode(kept) : ""
}

/**
 * Store keeps one user's copy of a document as chunks that Automerge reads in any
 * order. Several tabs may write to it: each removes only what it has read or written.
 */
export class Store {
  #adapter: StorageAdapterInterface
  #documentId: string
  #user: string
  #chunks: StorageKey[] = []
  #work: Promise<unknown> = Promise.resolve()

  constructor(adapter: StorageAdapterInterface, documentId: string, user: string) {
    this.#adapter = adapter
    this.#documentId = documentId
    this.#user = user
  }

  #key(...rest: string[]): StorageKey {
    return [this.#documentId, `user-${encodeURIComponent(this.#user)}`, ...rest]
  }

  /** load reads the chunks, the heads that the server was known to have, and the names of people. */
  async load(): Promise<{ chunks: Uint8Array[]; known: string[]; names: Record<string, string> }> {
    await this.#adapter.save([this.#documentId, "user"], new TextEncoder().encode(this.#user))
    const chunks = (await this.#adapter.loadRange(this.#key("chunk"))).filter(chunk => chunk.data)
    this.#chunks = chunks.map(chunk => chunk.key)
    const known = await this.#adapter.load(this.#key("known"))
    const names = await this.#adapter.load(this.#key("names"))
    return {
      chunks: chunks.map(chunk => chunk.data!),
      known: known ? (JSON.parse(new TextDecoder().decode(known)) as string[]) : [],
      names: names ? (JSON.parse(new TextDecoder().decode(names)) as Record<string, string>) : {},
    }
  }

  /** append keeps changes that are not kept yet; snapshot returns all of them. */
  append(chunk: Uint8Array, snapshot: () => Uint8Array): Promise<void> {
    return this.#next(() => (this.#chunks.length < maxChunks ? this.#write(chunk) : this.#replace(snapshot())))
  }

  /** replace keeps a document instead of everything that was read or written. */
  replace(document: Uint8Array): Promise<void> {
    return this.#next(() => this.#replace(document))
  }

  /** know keeps which heads the server has. */
  know(heads: readonly string[]): Promise<void> {
    return this.#next(() => this.#adapter.save(this.#key("known"), new TextEncoder().encode(JSON.stringify(heads))))
  }

  /** name keeps by which names users are known. */
  name(names: Readonly<Record<string, string>>): Promise<void> {
    return this.#next(() => this.#adapter.save(this.#key("names"), new TextEncoder().encode(JSON.stringify(names))))
  }

  /** settled resolves when everything that was asked for is done or has failed. */
  async settled(): Promise<void> {
    await this.#work
  }

  #next<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#work.then(step)
    this.#work = done.catch(() => {})
    return done
  }

  async #write(chunk: Uint8Array): Promise<void> {
    const key = this.#key("chunk", uuid())
    await this.#adapter.save(key, chunk)
    this.#chunks.push(key)
  }

  // The new is written before the old is removed: a crash between leaves both.
  async #replace(document: Uint8Array): Promise<void> {
    const old = this.#chunks
    this.#chunks = []
    await this.#write(document)
    for (const key of old) await this.#adapter.remove(key)
  }
}
