// The document of a transaction, schema parley/1: its name, its first change, and
// what is in it. Nothing here waits, or keeps anything.
import * as A from "@automerge/automerge/slim"
import { stringifyAutomergeUrl, type AutomergeUrl, type BinaryDocumentId } from "@automerge/automerge-repo/slim"
import { v5 as uuidV5 } from "uuid"
import { PickError, type Event, type Field, type Pick, type Selection, type Value, type View } from "./state.js"

const schema = "parley/1"
const namespace = "6d477204-aff4-4124-a080-9205b639d762"

// "parley/1 genesis" in ASCII.
const genesisActor = "7061726c65792f312067656e65736973"

// The genesis makes the maps "fields" and "selections" with its 3rd and 4th operation.
const fieldsId = `3@${genesisActor}`
const selectionsId = `4@${genesisActor}`

const maxName = 256 // bytes
const maxValue = 64 << 10 // bytes, as JSON

/** The document as Automerge has it. */
export type Doc = A.Doc<Content>

interface Content {
  schema: unknown
  transaction: unknown
  fields: Record<string, unknown>
  selections: Record<string, unknown>
}

/** checkId throws for what is no transaction's id. */
export function checkId(id: string): void {
  if (!/^[A-Za-z0-9._~-]{1,128}$/.test(id)) {
    throw new Error(`${JSON.stringify(id)} is no id of a transaction: 1 to 128 of A-Z a-z 0-9 . _ ~ -`)
  }
}

/** documentUrl returns the automerge-repo URL of a transaction's document. */
export function documentUrl(id: string): AutomergeUrl {
  const bytes = uuidV5(`conflict-resolution:${id}`, namespace, new Uint8Array(16)) as Uint8Array
  return stringifyAutomergeUrl({ documentId: bytes as BinaryDocumentId })
}

/** genesis returns the first change of a transaction: everywhere the same bytes. */
export function genesis(id: string): A.Change {
  const doc = A.change(A.init<Content>({ actor: genesisActor }), { message: schema, time: 0 }, doc => {
    doc.schema = new A.ImmutableString(schema)
    doc.transaction = new A.ImmutableString(id)
    doc.fields = {}
    doc.selections = {}
  })
  const change = A.getLastLocalChange(doc)
  A.free(doc)
  if (!change) throw new Error("the first change was not made")
  return change
}

/** build returns a document of these changes, on which a new actor works. */
export function build(changes: A.Change[]): Doc {
  const [doc] = A.applyChanges(A.init<Content>(), changes)
  return doc
}

/** An edit of one field: a pick, or taking back what is picked. */
export type Edit =
  | { readonly field: string; readonly value: Value; readonly option: string | null; readonly at: number }
  | { readonly field: string; readonly withdraw: true; readonly at: number }

/** edited makes one change of edits; the document is as it was if none does anything. */
export function edited(doc: Doc, by: string, edits: readonly Edit[]): Doc {
  const at = Math.max(...edits.map(e => e.at))
  return A.change(doc, { time: Math.floor(at / 1000) }, draft => {
    for (const edit of edits) {
      if ("withdraw" in edit) {
        if (edit.field in draft.selections) delete draft.selections[edit.field]
        continue
      }
      draft.selections[edit.field] = {
        value: scalars(edit.value),
        by: new A.ImmutableString(by),
        at: edit.at,
        ...(edit.option !== null && { option: new A.ImmutableString(edit.option) }),
      }
    }
  })
}

/** pickOf returns a pick that servers take, its value a copy; or throws a PickError. */
export function pickOf(field: string, value: Value, option: string | undefined, at: number): Edit {
  checkName(field)
  if (option !== undefined) checkName(option)
  const text = JSON.stringify(value) as string | undefined
  if (text === undefined) throw new PickError("pick", "a pick needs a value: null, true, false, a number, text, a list or an object")
  if (bytes(text) > maxValue) throw new PickError("too-large", "the value is larger than 64 KiB")
  return { field, value: JSON.parse(text) as Value, option: option ?? null, at }
}

export function checkName(name: string): void {
  if (name === "" || bytes(name) > maxName || name === "__proto__") {
    throw new PickError("name", "the name of a field or option is empty, longer than 256 bytes, or __proto__")
  }
}

const bytes = (text: string) => new TextEncoder().encode(text).length

// Texts go in as one value each: nobody edits them letter by letter.
function scalars(value: Value): unknown {
  if (typeof value === "string") return new A.ImmutableString(value)
  if (value === null || typeof value !== "object") return value
  if (Array.isArray(value)) return value.map(scalars)
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, scalars(v as Value)]))
}

// plain is the way back.
function plain(value: unknown): Value {
  if (value === null || typeof value === "boolean") return value
  if (typeof value === "string" || typeof value === "number") return value
  if (typeof value === "bigint") return Number(value)
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Uint8Array) return btoa(String.fromCharCode(...value))
  if (A.isImmutableString(value)) return value.toString()
  if (A.isCounter(value)) return value.value
  if (Array.isArray(value)) return Object.freeze(value.map(plain))
  if (typeof value !== "object") return null
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, v]) => [key, plain(v)])))
}

const text = (value: unknown): string => (value === undefined || value === null ? "" : String(plain(value)))
const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** headsOf returns a document's heads, sorted: Automerge promises no order. */
export const headsOf = (doc: Doc): readonly string[] => Object.freeze([...A.getHeads(doc)].sort())

export const sameHeads = (a: readonly string[], b: readonly string[]) =>
  a.length === b.length && a.every((head, i) => head === b[i])

/** viewOf reads what a document says; what is as it was in last are the same objects. */
export function viewOf(doc: Doc, last?: View): View {
  const before = new Map(last?.fields.map(field => [field.name, field]))
  const fields = Object.keys(doc.fields ?? {}).sort(byName).map(name => reuse(before.get(name), fieldOf(name, doc.fields[name])))
  const selections = Object.create(null) as Record<string, Selection>
  for (const field of Object.keys(doc.selections ?? {}).sort(byName)) {
    selections[field] = reuse(last?.selections[field], selectionOf(doc, field))
  }
  return Object.freeze({
    heads: headsOf(doc),
    fields: Object.freeze(fields),
    selections: Object.freeze(selections),
    contested: Object.freeze(Object.keys(selections).filter(field => selections[field]!.contested)),
    missing: Object.freeze(fields.filter(f => f.required && !(f.name in selections)).map(f => f.name)),
  })
}

const reuse = <T>(before: T | undefined, now: T): T =>
  before !== undefined && JSON.stringify(before) === JSON.stringify(now) ? before : now

/**
 * viewAt reads what a document said at heads; undefined if they are not there. It
 * makes the document of then: Automerge's view of the past knows no conflicts.
 */
export function viewAt(doc: Doc, heads: readonly string[]): View | undefined {
  if (heads.length === 0 || !heads.every(head => /^[0-9a-f]{64}$/.test(head)) || !A.hasHeads(doc, [...heads])) return undefined
  const later = new Set(changesSince(doc, heads))
  const then = build(A.getAllChanges(doc).filter(change => !later.has(A.decodeChange(change).hash!)))
  const view = viewOf(then)
  A.free(then)
  return view
}

function fieldOf(name: string, raw: unknown): Field {
  const { label, required, options } = (raw ?? {}) as Record<string, unknown>
  return Object.freeze({
    name,
    label: text(label),
    required: required === true,
    options: Object.freeze(
      Object.entries((options ?? {}) as Record<string, Record<string, unknown>>)
        .sort(([a], [b]) => byName(a, b))
        .map(([name, option]) => Object.freeze({ name, value: plain(option.value ?? null), source: text(option.source) }))
    ),
  })
}

function selectionOf(doc: Doc, field: string): Selection {
  const winning = A.getObjectId(doc.selections[field]) ?? ""
  const winner = pickFrom(winning, doc.selections[field])
  const rivals = Object.entries(A.getConflicts(doc.selections, field) ?? {})
    .filter(([id]) => id !== winning)
    .map(([id, raw]) => pickFrom(id, raw))
    .sort((a, b) => -compareOps(a.id, b.id))
  return Object.freeze({ field, winner, picks: Object.freeze([winner, ...rivals]), contested: rivals.length > 0 })
}

function pickFrom(id: string, raw: unknown): Pick {
  const { value, by, at, option } = (raw ?? {}) as Record<string, unknown>
  return Object.freeze({
    id,
    value: plain(value ?? null),
    by: text(by),
    at: at instanceof Date ? at.getTime() : Number(at ?? 0),
    option: option === undefined || option === null ? null : text(option),
  })
}

/** compareOps orders operation ids as Automerge does: by counter, then by actor. */
export function compareOps(a: string, b: string): number {
  const [counterA, actorA] = a.split("@") as [string, string]
  const [counterB, actorB] = b.split("@") as [string, string]
  return Number(counterA) - Number(counterB) || byName(actorA, actorB)
}

/** What changes did, by their hashes, so that each is read once. */
export type EventCache = Map<string, readonly Event[]>

/**
 * eventsOf tells what changes of a document did, in an order that is the same on
 * every replica. Of several operations on a field in one change only the last counts.
 */
export function eventsOf(doc: Doc, hashes: readonly string[], cache: EventCache = new Map()): Event[] {
  const events = hashes.flatMap(hash => {
    let known = cache.get(hash)
    if (!known) cache.set(hash, (known = eventsOfChange(doc, A.inspectChange(doc, hash)!)))
    return known
  })
  const authors = new Map<string, string>()
  for (const { op, pick } of events) if (pick) authors.set(actorOf(op), pick.by)
  return events
    .map(event => Object.freeze({ ...event, user: authors.get(actorOf(event.op)) ?? "" }))
    .sort((a, b) => compareOps(a.op, b.op))
}

const actorOf = (op: string) => op.slice(op.indexOf("@") + 1)

/** changesSince lists the hashes of what came after heads, all of them if there are none. */
export const changesSince = (doc: Doc, heads: readonly string[]): string[] =>
  A.getChangesMetaSince(doc, [...heads]).map(meta => meta.hash)

function eventsOfChange(doc: Doc, change: A.DecodedChange): Event[] {
  const last = new Map<string, Event>()
  const fieldOfObject = new Map<string, string>() // of what is known to be a part of a field
  const picks = new PicksOfChange()
  let then: Doc | undefined
  const view = () => (then ??= A.view(doc, [change.hash!]) as Doc)
  change.ops.forEach((op, i) => {
    const id = `${change.startOp + i}@${change.actor}`
    const base = { field: String(op.key), pick: null, user: "", at: change.time * 1000, change: change.hash!, op: id }
    const isDelete = op.action === "del"
    if (picks.take(id, op)) return
    if (op.obj === selectionsId) {
      if (!isDelete) picks.begin(id)
      last.set(`s ${op.key}`, { ...base, kind: isDelete ? "withdrawn" : "picked" })
    } else if (op.obj === fieldsId) {
      last.set(`f ${op.key}`, { ...base, kind: isDelete ? "field-removed" : "field-set" })
      fieldOfObject.set(id, base.field)
    } else {
      const field = fieldOfObject.get(op.obj) ?? fieldHolding(view(), op.obj)
      if (field === undefined) return
      fieldOfObject.set(id, field)
      last.set(`f ${field}`, { ...base, field, kind: "field-set" })
    }
  })
  return [...last.values()].map(event => {
    if (event.kind !== "picked") return event
    const pick = pickFrom(event.op, picks.parts(event.op) ?? view().selections[event.field])
    return { ...event, pick, at: pick.at }
  })
}

// PicksOfChange gathers what the operations of one change put into picks. For what
// is more than scalar values the document must be asked, which takes longer.
class PicksOfChange {
  #parts = new Map<string, Record<string, unknown>>() // by pick
  #pickOfObject = new Map<string, string>() // the objects in picks, and the picks
  #deep = new Set<string>() // picks with objects in them

  begin(id: string): void {
    this.#parts.set(id, {})
    this.#pickOfObject.set(id, id)
  }

  /** take reports whether an operation is a part of a pick. */
  take(id: string, op: A.DecodedChange["ops"][number]): boolean {
    const pick = this.#pickOfObject.get(op.obj)
    if (pick === undefined) return false
    const plainly = op.datatype !== "counter" && op.datatype !== "timestamp" && (op.value === null || typeof op.value !== "object")
    if (op.action === "set" && op.obj === pick && plainly) this.#parts.get(pick)![op.key] = op.value
    else {
      this.#deep.add(pick)
      this.#pickOfObject.set(id, pick)
    }
    return true
  }

  parts(pick: string): Record<string, unknown> | undefined {
    return this.#deep.has(pick) ? undefined : this.#parts.get(pick)
  }
}

// fieldHolding finds the field that an object is a part of, undefined for one in a pick.
function fieldHolding(doc: Doc, object: string): string | undefined {
  return Object.keys(doc.fields).find(name => holds(doc.fields[name], object))
}

const holds = (value: unknown, object: string): boolean =>
  typeof value === "object" && value !== null && !A.isImmutableString(value) &&
  (A.getObjectId(value) === object || Object.values(value).some(inner => holds(inner, object)))

/** withDependents returns the hashes of changes, and of all that were built on them. */
export function withDependents(doc: Doc, hashes: Iterable<string>): Set<string> {
  const gone = new Set(hashes)
  for (const meta of A.getChangesMetaSince(doc, [])) {
    if (meta.deps.some(dep => gone.has(dep))) gone.add(meta.hash)
  }
  return gone
}
