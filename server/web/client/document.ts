// The document of a transaction, schema parley/1: its name, its first change, and
// how it is changed. What is in it, view.ts and history.ts say.
import * as A from "@automerge/automerge/slim"
import { stringifyAutomergeUrl, type AutomergeUrl, type BinaryDocumentId } from "@automerge/automerge-repo/slim"
import { v5 as uuidV5 } from "uuid"
import { PickError, type Value } from "./state.js"

const schema = "parley/1"
const namespace = "6d477204-aff4-4124-a080-9205b639d762"

// "parley/1 genesis" in ASCII.
const genesisActor = "7061726c65792f312067656e65736973"

// The genesis makes the maps "fields" and "selections" with its 3rd and 4th operation.
export const fieldsId = `3@${genesisActor}`
export const selectionsId = `4@${genesisActor}`

const maxName = 256 // bytes
const maxValue = 64 << 10 // bytes, as JSON

/** The document as Automerge has it: to be read in its engine, since the object itself stays empty. */
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
  const [doc] = A.applyChanges(unmirrored(), changes)
  return doc
}

// unmirrored returns an empty document of which Automerge keeps no object in step.
// That takes longer than all the rest, and nobody reads it. The engine notes after
// each change how far the object is said to be.
function unmirrored(): Doc {
  const doc = A.init<Content>()
  const engine = A.getBackend(doc)
  const { applyChanges, loadIncremental, receiveSyncMessage, commit } = engine
  const noted = <In extends unknown[], Out>(act: (...input: In) => Out) => (...input: In): Out => {
    const done = act.apply(engine, input)
    engine.updateDiffCursor()
    return done
  }
  Object.assign(engine, {
    applyChanges: noted(applyChanges), loadIncremental: noted(loadIncremental),
    receiveSyncMessage: noted(receiveSyncMessage), commit: noted(commit),
  })
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

export const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** headsOf returns a document's heads, sorted: Automerge promises no order. */
export const headsOf = (doc: Doc): readonly string[] => Object.freeze([...A.getHeads(doc)].sort())

export const sameHeads = (a: readonly string[], b: readonly string[]) =>
  a.length === b.length && a.every((head, i) => head === b[i])

/** compareOps orders operation ids as Automerge does: by counter, then by actor. */
export function compareOps(a: string, b: string): number {
  const [counterA, actorA] = a.split("@") as [string, string]
  const [counterB, actorB] = b.split("@") as [string, string]
  return Number(counterA) - Number(counterB) || byName(actorA, actorB)
}

/** hasAll says whether changes are in a document. */
export function hasAll(doc: Doc, hashes: readonly string[]): boolean {
  const engine = A.getBackend(doc)
  return hashes.every(hash => engine.getChangeMetaByHash(hash) !== null) // without their bytes, as A.hasHeads has them
}

/** changesSince lists the hashes of what came after heads, all of them if there are none. */
export const changesSince = (doc: Doc, heads: readonly string[]): string[] =>
  A.getChangesMetaSince(doc, [...heads]).map(meta => meta.hash)

/** withDependents returns the hashes of changes, and of all that were built on them. */
export function withDependents(doc: Doc, hashes: Iterable<string>): Set<string> {
  const gone = new Set(hashes)
  for (const meta of A.getChangesMetaSince(doc, [])) {
    if (meta.deps.some(dep => gone.has(dep))) gone.add(meta.hash)
  }
  return gone
}
