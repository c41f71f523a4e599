// A user's copy of a transaction's document: what is kept of it here, and what of
// it the server is known to have. It sends nothing.
import * as A from "@automerge/automerge/slim"
import { build, changesSince, edited, genesis, hasAll, headsOf, sameHeads, withDependents, type Doc, type Edit } from "./document.js"
import { History } from "./history.js"
import { PickError, type Because, type Event, type View } from "./state.js"
import type { Store } from "./storage.js"
import { viewAfter, viewAt, viewOf } from "./view.js"

const maxNames = 1_000 // of users; the longest known go first
const maxRemade = 3 // times that a change is made again which is refused for what it builds on

type Log = (...what: unknown[]) => void

/** What of the document was refused, and what was lost with it. */
export interface RolledBack {
  readonly changes: readonly string[]
  readonly lost: readonly Event[]
  readonly others: readonly string[]
}

export class Replica {
  readonly user: string
  #doc: Doc
  #view: View
  #genesis: string
  #serverHasIt = false // the transaction, as it said in this conversation
  #said: readonly string[] | undefined // the heads that it has, as it last said in it
  #own = new Set<string>() // changes that were made here
  #names: Readonly<Record<string, string>> = Object.freeze({})
  #log: Log
  #onNotKept: () => void
  #store: Store | undefined
  #stored: A.Heads = []
  #known: string[] = [] // changes that the server has, with all that they build on
  #noted: readonly string[] = [] // what the store was last told of that
  #unsaved: readonly string[] = []
  #remade = new Map<string, number>()
  #history = new History()

  private constructor(id: string, user: string, log: Log, onNotKept: () => void) {
    const first = genesis(id)
    this.user = user
    this.#genesis = A.decodeChange(first).hash!
    this.#log = log
    this.#onNotKept = onNotKept
    this.#doc = build([first])
    this.#view = viewOf(this.#doc)
  }

  /** open reads what is kept; a transaction that was never seen begins with what everybody knows of it. */
  static async open(id: string, user: string, store: Store | undefined, log: Log, onNotKept: () => void): Promise<Replica> {
    const replica = new Replica(id, user, log, onNotKept)
    replica.#store = store
    await replica.#write(kept => replica.#read(kept))
    return replica
  }

  async #read(store: Store): Promise<void> {
    const { chunks, known, names } = await store.load()
    for (const chunk of chunks) this.#load(chunk)
    this.#stored = A.getHeads(this.#doc)
    this.#view = viewOf(this.#doc)
    this.#names = Object.freeze({ ...names, ...this.#names })
    this.#noted = known
    this.learn(known)
  }

  // load adds what was kept; a chunk that cannot be read costs no other.
  #load(chunk: Uint8Array): void {
    try {
      this.#doc = A.loadIncremental(this.#doc, chunk)
    } catch (error) {
      this.#log("cannot read what was kept", error)
    }
  }

  get view(): View {
    return this.#view
  }

  /** Whether what is here outlives the tab. */
  get kept(): boolean {
    return this.#store !== undefined
  }

  /** Changes that the server is not known to have. */
  get unsaved(): readonly string[] {
    return this.#unsaved
  }

  /** edit makes one change; `kept` resolves when it is on disk, if there is storage that works. */
  edit(edits: readonly Edit[]): { change: string; kept: Promise<void> } {
    this.#doc = edited(this.#doc, this.user, edits)
    if (sameHeads(headsOf(this.#doc), this.#view.heads)) {
      throw new PickError("nothing-picked", "nothing was picked that could be taken back")
    }
    const change = A.getHeads(this.#doc)[0]!
    this.#own.add(change)
    this.#unsaved = [...this.#unsaved, change]
    return { change, kept: this.#keep([change]) }
  }

  /**
   * Whether the server is only asked: it is not known to have the transaction, and
   * nothing is here but what everybody knows of any, whose name may be mistyped.
   */
  get asks(): boolean {
    return !this.#serverHasIt && sameHeads(this.#view.heads, [this.#genesis])
  }

  /** The server was never known to have anything that was done to it. */
  get unheard(): boolean {
    return this.#known.every(change => change === this.#genesis)
  }

  /** begin begins a conversation with the server. */
  begin(): A.SyncState {
    this.#serverHasIt = false
    this.#said = undefined
    return A.initSyncState()
  }

  /** say returns what the server should hear now, null if nothing. */
  say(sync: A.SyncState): [A.SyncState, A.SyncMessage | null] {
    if (!this.asks) return A.generateSyncMessage(this.#doc, sync)
    // To have the first change would be to make the transaction there.
    const empty = A.init()
    const said = A.generateSyncMessage(empty, sync)
    A.free(empty)
    return said
  }

  /** hear takes what the server says, and returns the heads that it has. */
  hear(sync: A.SyncState, data: Uint8Array): [A.SyncState, readonly string[]] {
    const before = this.#view.heads
    const { heads } = A.decodeSyncMessage(data)
    this.#serverHasIt = heads.length > 0
    this.#said = heads
    const [doc, next] = A.receiveSyncMessage(this.#doc, sync, data)
    this.#doc = doc
    // Its heads are all that it has, also if it once had more: it may come back from a backup.
    if (this.has(heads)) this.#known = [...heads]
    if (sameHeads(headsOf(doc), before)) {
      this.learn(heads)
    } else {
      const changes = changesSince(doc, before)
      void this.#keep(changes)
      this.learn([...changes, ...heads])
    }
    return [next, heads]
  }

  /** learn takes note of changes that the server has. */
  learn(changes: readonly string[]): void {
    this.#known = [...new Set([...this.#known, ...changes.filter(change => this.has([change]))])]
    this.#unsaved = changesSince(this.#doc, this.#known).filter(change => change !== this.#genesis)
    if (this.#unsaved.length > 0) return
    const heads = A.getHeads(this.#doc)
    this.#known = heads
    if (sameHeads(heads, this.#noted)) return
    this.#noted = heads
    void this.#write(store => store.know(heads))
  }

  has(heads: readonly string[]): boolean {
    return hasAll(this.#doc, heads)
  }

  /** contains says whether a change is part of what is at heads. */
  contains(heads: readonly string[], change: string): boolean {
    return this.has([...heads, change]) && !changesSince(this.#doc, heads).includes(change)
  }

  /** causeSince finds the first change after heads that did something to a field. */
  causeSince(heads: readonly string[]): Because | null {
    if (!this.has(heads)) return null
    const [first] = this.#history.of(this.#doc, changesSince(this.#doc, heads))
    return first ? { field: first.field, user: first.user, change: first.change } : null
  }

  /** The names of users who are here, or were. */
  get names(): Readonly<Record<string, string>> {
    return this.#names
  }

  /** meet takes note of people's names. */
  meet(people: readonly { readonly user: string; readonly name: string }[]): void {
    const fresh = people.filter(({ user, name }) => name !== "" && this.#names[user] !== name)
    if (fresh.length === 0) return
    const entries = Object.entries(this.#names).filter(([user]) => !fresh.some(p => p.user === user))
    const names = Object.fromEntries([...entries, ...fresh.map(p => [p.user, p.name])].slice(-maxNames)) as Record<string, string>
    this.#names = Object.freeze(names)
    void this.#write(store => store.name(names))
  }

  history(): readonly Event[] {
    return this.#history.all(this.#doc, this.#view.heads)
  }

  at(heads: readonly string[]): View | undefined {
    return viewAt(this.#doc, heads, this.#view)
  }

  /**
   * rollBack makes the document again without changes that the server refused with a
   * code, and makes what the user built on them again, as new changes of a new actor.
   * What others did comes back with them. It returns undefined if none of them is here.
   */
  rollBack(changes: readonly string[], code: string): RolledBack | undefined {
    const old = this.#doc
    if (this.#said) { // It may have lost what it had in earlier conversations: it does not refuse what it has.
      this.#known = this.#said.filter(change => this.has([change]))
      this.learn([])
    }
    const refused = changes.filter(change => this.#unsaved.includes(change))
    if (refused.length === 0) return undefined
    const gone = withDependents(old, refused)
    const events = this.#history.of(old, changesSince(old, []).filter(change => gone.has(change)))
    this.#history.forget()
    this.#doc = build(A.getAllChanges(old).filter(change => !gone.has(A.decodeChange(change).hash!)))
    const isOwn = (e: Event) => this.#own.has(e.change) || (e.user !== "" && e.user === this.user)
    const own = events.filter(isOwn)
    const lost = this.#remake(own, overtaken(own, viewOf(old)), new Set(refused), code)
    const others = [...new Set(events.filter(e => !isOwn(e)).map(e => e.change))]
    A.free(old)
    this.#view = viewOf(this.#doc, this.#view)
    this.#stored = A.getHeads(this.#doc)
    this.#known = this.#known.filter(change => this.has([change]))
    this.learn([])
    const whole = A.save(this.#doc)
    void this.#write(store => store.replace(whole))
    return { changes: Object.freeze(refused), lost: Object.freeze(lost), others: Object.freeze(others) }
  }

  // remake makes the user's changes again, each from its events, and returns those that are lost.
  #remake(events: readonly Event[], overtaken: ReadonlySet<string>, refused: ReadonlySet<string>, code: string): Event[] {
    const lost: Event[] = []
    const remade = new Map<string, number>()
    // The user may make none, if it is the user's that was refused so.
    const mayMake = (code !== "read-only" && code !== "not-author") || !events.some(e => refused.has(e.change))
    for (const change of new Set(events.map(e => e.change))) {
      const own = events.filter(e => e.change === change)
      const tries = (this.#remade.get(change) ?? 0) + (refused.has(change) ? 1 : 0)
      const mayPass = !refused.has(change) || (code === "depends-on-refused" && tries <= maxRemade)
      const standing = own.filter(e => refused.has(change) || !overtaken.has(e.field))
      if (standing.length === 0) continue
      const edits = standing.flatMap(event => redo(event, viewOf(this.#doc)))
      if (!mayMake || !mayPass || edits.length === 0) {
        lost.push(...own)
        continue
      }
      this.#doc = edited(this.#doc, this.user, edits)
      const [again] = A.getHeads(this.#doc)
      this.#own.add(again!)
      remade.set(again!, tries)
    }
    this.#remade = remade
    return lost
  }

  /** settled resolves when everything is written. */
  async settled(): Promise<void> {
    await this.#store?.settled()
  }

  // keep shows and stores the changes that are new in the document.
  #keep(changes: readonly string[]): Promise<void> {
    const isFirst = this.#view.fields.length === 0 // then all is to be read, whatever was touched
    this.#view = viewAfter(this.#doc, this.#view, isFirst ? undefined : this.#history.touched(this.#doc, changes))
    const chunk = A.saveSince(this.#doc, this.#stored)
    this.#stored = A.getHeads(this.#doc)
    return this.#write(store => store.append(chunk, () => A.save(this.#doc)))
  }

  async #write(step: (store: Store) => Promise<void>): Promise<void> {
    try {
      if (this.#store) await step(this.#store)
    } catch (error) {
      this.#notKept(error)
    }
  }

  // notKept goes on without storage, as where a browser has none for us.
  #notKept(error: unknown): void {
    this.#log("nothing can be kept here", error)
    this.#store = undefined
    this.#onNotKept()
  }
}

// redo returns the edit that does again what an event did, if there is one.
function redo(event: Event, view: View): Edit[] {
  const { kind, field, pick, at } = event
  if (kind === "picked" && pick) return [{ field, value: pick.value, option: pick.option, at: pick.at }]
  if (kind === "withdrawn" && field in view.selections) return [{ field, withdraw: true, at }]
  return []
}

// overtaken returns the fields in which others had the last word, all of which is
// gone. It comes back with them; what the user had done before must not come after it.
function overtaken(own: readonly Event[], before: View): Set<string> {
  const last = new Map(own.map(e => [e.field, e]))
  const stands = (e: Event) => {
    const picks = before.selections[e.field]?.picks ?? []
    return e.kind === "picked" ? picks.some(p => p.id === e.op) : picks.length === 0
  }
  return new Set([...last.values()].filter(e => !stands(e)).map(e => e.field))
}
