// What was done to a transaction, as the changes of its document tell.
import * as A from "@automerge/automerge/slim"
import { changesSince, compareOps, type Doc } from "./document.js"
import type { Event } from "./state.js"
import { engineOf, pickFrom, placeOf, type Touched } from "./view.js"

const maxTouching = 100 // changes whose parts are worth looking up; more touched everything

/** What one change did. */
interface Deed {
  readonly events: readonly Event[] // of nobody yet
  readonly touched: Touched | undefined // it cannot be told
}

/**
 * History reads each change once, and tells what changes did in an order that is the
 * same on every replica. Of several operations on a field in one change only the last counts.
 */
export class History {
  #deeds = new Map<string, Deed>() // by change
  #authors = new Map<string, string>() // by actor
  #signedBy = 0 // how many authors were known when all was made
  #heads: readonly string[] = []
  #all: readonly Event[] = Object.freeze([])

  /** all returns everything that led to heads, the document's: the same list while they are the same. */
  all(doc: Doc, heads: readonly string[]): readonly Event[] {
    if (heads === this.#heads) return this.#all
    const fresh = this.of(doc, changesSince(doc, this.#heads))
    const before = this.#signedBy === this.#authors.size ? this.#all : this.#all.map(event => this.#signed(event))
    this.#heads = heads
    this.#signedBy = this.#authors.size
    if (fresh.length > 0 || before !== this.#all) this.#all = Object.freeze(merged(before, fresh))
    return this.#all
  }

  /** of returns what some changes did. */
  of(doc: Doc, hashes: readonly string[]): Event[] {
    const events = hashes.flatMap(hash => this.#deed(doc, hash).events)
    for (const { op, pick } of events) if (pick && !this.#authors.has(actorOf(op))) this.#authors.set(actorOf(op), pick.by)
    return events.map(event => this.#signed(event)).sort(byOp)
  }

  /** touched returns what some changes did something to; undefined if that may be everything. */
  touched(doc: Doc, hashes: readonly string[]): Touched | undefined {
    if (hashes.length > maxTouching) return undefined
    const all = { fields: new Set<string>(), selections: new Set<string>() }
    for (const hash of hashes) {
      const { touched } = this.#deed(doc, hash)
      if (!touched) return undefined
      for (const name of touched.fields) all.fields.add(name)
      for (const name of touched.selections) all.selections.add(name)
    }
    return all
  }

  /** forget makes all begin anew, when changes are gone from the document. */
  forget(): void {
    this.#heads = []
    this.#all = Object.freeze([])
  }

  #deed(doc: Doc, hash: string): Deed {
    let deed = this.#deeds.get(hash)
    if (!deed) this.#deeds.set(hash, (deed = deedOf(doc, A.inspectChange(doc, hash)!)))
    return deed
  }

  // signed says whose an event is. An author is known only from the first pick on.
  #signed(event: Event): Event {
    const user = this.#authors.get(actorOf(event.op)) ?? ""
    return user === event.user ? event : Object.freeze({ ...event, user })
  }
}

const actorOf = (op: string) => op.slice(op.indexOf("@") + 1)
const byOp = (a: Event, b: Event) => compareOps(a.op, b.op)

// merged puts sorted events into sorted ones; most are later than those.
function merged(before: readonly Event[], fresh: readonly Event[]): Event[] {
  let end = before.length
  while (fresh.length > 0 && end > 0 && byOp(before[end - 1]!, fresh[0]!) > 0) end--
  return [...before.slice(0, end), ...[...before.slice(end), ...fresh].sort(byOp)]
}

function deedOf(doc: Doc, change: A.DecodedChange): Deed {
  const engine = engineOf(doc)
  const then = [change.hash!]
  const last = new Map<string, Event>()
  const fieldOfObject = new Map<string, string>() // of what is known to be a part of a field
  const picks = new PicksOfChange()
  const touched = { fields: new Set<string>(), selections: new Set<string>() }
  let told = true
  change.ops.forEach((op, i) => {
    const id = `${change.startOp + i}@${change.actor}`
    const base = { pick: null, user: "", at: change.time * 1000, change: change.hash!, op: id }
    if (picks.take(id, op)) return
    const inField = fieldOfObject.get(op.obj)
    const place = inField === undefined ? placeOf(engine, op, then) : { map: "fields" as const, name: inField, whole: false }
    if (place) touched[place.map].add(place.name)
    else told &&= op.obj === "_root" // as in the first change, which is there from the beginning
    if (place?.map === "selections" && place.whole) {
      if (op.action !== "del") picks.begin(id)
      last.set(`s ${place.name}`, { ...base, field: place.name, kind: op.action === "del" ? "withdrawn" : "picked" })
    } else if (place?.map === "fields") {
      const removed = place.whole && op.action === "del"
      last.set(`f ${place.name}`, { ...base, field: place.name, kind: removed ? "field-removed" : "field-set" })
      fieldOfObject.set(id, place.name)
    }
  })
  const events = [...last.values()].map(event => {
    if (event.kind !== "picked") return Object.freeze(event)
    const pick = pickFrom(event.op, picks.parts(event.op) ?? engine.materialize(event.op, then))
    return Object.freeze({ ...event, pick, at: pick.at })
  })
  return { events, touched: told ? touched : undefined }
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
