// What a document says, now or at some heads.
import * as A from "@automerge/automerge/slim"
import { byName, compareOps, fieldsId, hasAll, headsOf, sameHeads, selectionsId, type Doc } from "./document.js"
import type { Field, Pick, Selection, Value, View } from "./state.js"

/**
 * Where a document is read: in the engine, and not in the object that Automerge keeps
 * in step with it. After some merges that object still has picks that were taken back
 * (Automerge 3.5), and it knows no conflicts of the past.
 */
export type Engine = ReturnType<typeof A.getBackend>

export const engineOf = (doc: Doc): Engine => A.getBackend(doc)

const many = 50 // fields, of which it is worth reading all there are

export const nothing: View = Object.freeze({
  heads: Object.freeze([]), fields: Object.freeze([]), selections: Object.freeze(Object.create(null)),
  contested: Object.freeze([]), missing: Object.freeze([]),
})

/** viewOf reads what a document says; what is as it was in last are the same objects. */
export const viewOf = (doc: Doc, last: View = nothing): View => viewWith(engineOf(doc), headsOf(doc), last)

/** viewAfter is viewOf a document that was last and in which this was touched since: it reads nothing else. */
export const viewAfter = (doc: Doc, last: View, touched: Touched | undefined): View =>
  viewWith(engineOf(doc), headsOf(doc), last, touched)

/** viewAt reads what a document said at heads, as viewOf does; undefined if they are not there. */
export function viewAt(doc: Doc, heads: readonly string[], last: View = nothing): View | undefined {
  if (heads.length === 0 || !heads.every(head => /^[0-9a-f]{64}$/.test(head)) || !hasAll(doc, heads)) return undefined
  const at = newest(doc, heads)
  return viewWith(engineOf(doc), at, last, undefined, [...at])
}

// newest leaves out heads that others of them build on.
function newest(doc: Doc, heads: readonly string[]): readonly string[] {
  const past = new Set<string>()
  const wanted = new Set(heads)
  for (const { hash, deps } of A.getChangesMetaSince(doc, []).reverse()) {
    if (wanted.has(hash) || past.has(hash)) deps.forEach(dep => past.add(dep))
  }
  return Object.freeze([...wanted].filter(head => !past.has(head)).sort())
}

/** What changes did something to, by name. */
export interface Touched {
  readonly fields: ReadonlySet<string>
  readonly selections: ReadonlySet<string>
}

/** Where an operation is: in which of the document's maps, at whose part of it, and whether it is about all of that. */
export interface Place {
  readonly map: "fields" | "selections"
  readonly name: string
  readonly whole: boolean
}

/** placeOf finds an operation's place, in the document of heads or of now; undefined if it is none of these. */
export function placeOf(engine: Engine, op: A.DecodedChange["ops"][number], heads?: A.Heads): Place | undefined {
  if (op.obj === selectionsId) return { map: "selections", name: op.key, whole: true }
  if (op.obj === fieldsId) return { map: "fields", name: op.key, whole: true }
  if (op.obj === "_root") return undefined
  const [map, name] = engine.objInfo(op.obj, heads).path ?? []
  return (map === "fields" || map === "selections") && name !== undefined ? { map, name: String(name), whole: false } : undefined
}

// viewWith reads what was touched, or everything, at heads if they are given.
function viewWith(engine: Engine, heads: readonly string[], last: View, touched?: Touched, at?: A.Heads): View {
  const fieldNames = touched?.fields ?? new Set([...last.fields.map(f => f.name), ...engine.keys(fieldsId, at)])
  const selectionNames = touched?.selections ?? new Set([...Object.keys(last.selections), ...engine.keys(selectionsId, at)])
  const all = fieldNames.size > many ? allFields(engine, at) : undefined
  const fields = fieldsAfter(last.fields, fieldNames, name => (all ? all.get(name) : fieldOf(engine, name, at)))
  const selections = selectionsAfter(last.selections, selectionNames, name => selectionOf(engine, name, at))
  const same = fields === last.fields && selections === last.selections
  return Object.freeze({
    heads: sameHeads(heads, last.heads) ? last.heads : heads,
    fields,
    selections,
    contested: same ? last.contested : names(Object.values(selections).filter(s => s.contested).map(s => s.field), last.contested),
    missing: same ? last.missing : names(fields.filter(f => f.required && !(f.name in selections)).map(f => f.name), last.missing),
  })
}

function names(now: string[], last: readonly string[]): readonly string[] {
  now.sort(byName)
  return sameHeads(now, last) ? last : Object.freeze(now)
}

function fieldsAfter(last: readonly Field[], touched: ReadonlySet<string>, read: (name: string) => Field | undefined): readonly Field[] {
  if (touched.size === 0) return last
  const fields = new Map(last.map(field => [field.name, field]))
  for (const name of touched) {
    const field = reuse(fields.get(name), read(name))
    if (field) fields.set(name, field)
    else fields.delete(name)
  }
  const now = [...fields.values()].sort((a, b) => byName(a.name, b.name))
  return now.length === last.length && now.every((field, i) => field === last[i]) ? last : Object.freeze(now)
}

function selectionsAfter(
  last: View["selections"], touched: ReadonlySet<string>, read: (name: string) => Selection | undefined
): View["selections"] {
  const now: Record<string, Selection> = Object.assign(Object.create(null), last)
  let changed = false
  for (const name of touched) {
    const selection = reuse(last[name], read(name))
    changed ||= selection !== last[name]
    if (selection) now[name] = selection
    else delete now[name]
  }
  if (!changed) return last
  const sorted: Record<string, Selection> = Object.create(null)
  for (const name of Object.keys(now).sort(byName)) sorted[name] = now[name]!
  return Object.freeze(sorted)
}

const reuse = <T>(before: T | undefined, now: T | undefined): T | undefined =>
  before !== undefined && JSON.stringify(before) === JSON.stringify(now) ? before : now

// allFields reads them at once, which takes a third of the time of reading each.
const allFields = (engine: Engine, at?: A.Heads): Map<string, Field> =>
  new Map(Object.entries(engine.materialize(fieldsId, at) as Record<string, unknown>).map(([name, raw]) => [name, fieldFrom(name, raw)]))

function fieldOf(engine: Engine, name: string, at?: A.Heads): Field | undefined {
  const found = engine.getWithType(fieldsId, name, at)
  return found ? fieldFrom(name, found[0] === "map" ? engine.materialize(found[1], at) : {}) : undefined
}

function fieldFrom(name: string, raw: unknown): Field {
  const { label, required, options } = isMap(raw) ? raw : {}
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

function selectionOf(engine: Engine, field: string, at?: A.Heads): Selection | undefined {
  const picks = engine.getAll(selectionsId, field, at)
    .map(found => pickFrom(String(found[2] ?? found[1]), found[0] === "map" ? engine.materialize(found[1], at) : {}))
    .sort((a, b) => -compareOps(a.id, b.id))
  const [winner] = picks
  return winner && Object.freeze({ field, winner, picks: Object.freeze(picks), contested: picks.length > 1 })
}

// isMap tells maps from lists, and from what one value is made of.
const isMap = (raw: unknown): raw is Record<string, unknown> =>
  typeof raw === "object" && raw !== null && Object.getPrototypeOf(raw) === Object.prototype

/** pickFrom reads a pick from the map that holds it. */
export function pickFrom(id: string, raw: unknown): Pick {
  const { value, by, at, option } = (raw ?? {}) as Record<string, unknown>
  return Object.freeze({
    id,
    value: plain(value ?? null),
    by: text(by),
    at: at instanceof Date ? at.getTime() : Number(at ?? 0),
    option: option === undefined || option === null ? null : text(option),
  })
}

const text = (value: unknown): string => (value === undefined || value === null ? "" : String(plain(value)))

// plain makes a value of what is in the document.
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
