// What a replica shows, kept up by what changes touch, is what its document says.
import assert from "node:assert/strict"
import { test } from "node:test"
import * as A from "@automerge/automerge/slim"
import { build, changesSince, edited, genesis, type Doc, type Edit } from "../client/document.js"
import { History } from "../client/history.js"
import { Replica } from "../client/replica.js"
import { PickError, type Value, type View } from "../client/state.js"
import { viewAfter, viewAt, viewOf } from "../client/view.js"
import "./room.js"

// random is the same in each run: xorshift32.
function random(seed: number): (below: number) => number {
  return below => {
    seed ^= seed << 13
    seed ^= seed >>> 17
    seed ^= seed << 5
    return (seed >>> 0) % below
  }
}

const values: Value[] = [1, "two", [3, ["four"]], { five: { six: null } }, null]

// anEdit picks or takes back one of a few fields.
function anEdit(roll: (below: number) => number, step: number): Edit {
  const field = String.fromCharCode(97 + roll(4))
  if (roll(3) === 0) return { field, withdraw: true, at: step }
  return { field, value: values[roll(values.length)]!, option: roll(2) === 0 ? "a" : null, at: step }
}

// anotherField does what hosts do: whole fields, parts of them, and away with them.
function anotherField(doc: Doc, roll: (below: number) => number): Doc {
  return A.change(doc, { time: 0 }, draft => {
    const fields = draft.fields as Record<string, { label: unknown; required: boolean; options: Record<string, unknown> }>
    const name = String.fromCharCode(97 + roll(4))
    const has = name in fields
    const text = () => new A.ImmutableString(`text ${roll(100)}`)
    switch (has ? roll(4) : 0) {
      case 0:
        fields[name] = { label: text(), required: roll(2) === 0, options: { a: { value: roll(9), source: text() } } }
        break
      case 1:
        fields[name]!.required = roll(2) === 0
        break
      case 2:
        fields[name]!.options[`o${roll(3)}`] = { value: text(), source: text() }
        break
      default:
        delete fields[name]
    }
  })
}

// said compares views by what they say; a document made anew must say the same.
function said(doc: Doc): View {
  const fresh = build(A.getAllChanges(doc))
  const view = viewOf(fresh)
  A.free(fresh)
  return view
}

test("what changes touched is read again, and nothing else", () => {
  for (let seed = 1; seed <= 6; seed++) {
    const roll = random(seed)
    const first = build([genesis("x")])
    const docs = [0, 1, 2].map(() => build(A.getAllChanges(first)))
    const views = docs.map(doc => viewOf(doc))
    const histories = docs.map(() => new History())
    for (let step = 0; step < 60; step++) {
      const i = roll(docs.length)
      const before = docs[i]!
      const heads = A.getHeads(before)
      switch (roll(4)) {
        case 0:
          docs[i] = anotherField(before, roll)
          break
        case 1: {
          // Some of what another has, one by one or at once, as it comes.
          const other = docs[(i + 1 + roll(2)) % docs.length]!
          const missing = A.getAllChanges(other).filter(change => !A.hasHeads(before, [A.decodeChange(change).hash!]))
          const some = missing.slice(0, 1 + roll(missing.length + 1))
          const batches = roll(2) === 0 ? [some] : some.map(change => [change])
          docs[i] = batches.reduce((doc, changes) => A.applyChanges(doc, changes)[0], before)
          break
        }
        default:
          docs[i] = edited(before, `user${i}`, Array.from({ length: 1 + roll(2) }, () => anEdit(roll, step)))
      }
      const last = views[i]!
      const doc = docs[i]!
      const view = (views[i] = viewAfter(doc, last, histories[i]!.touched(doc, changesSince(doc, heads))))
      const where = `seed ${seed}, step ${step}`
      assert.deepEqual(view, said(doc), where)
      for (const [name, selection] of Object.entries(last.selections)) {
        if (JSON.stringify(selection) === JSON.stringify(view.selections[name])) assert.equal(view.selections[name], selection, where)
      }
      if (roll(3) > 0) continue // several changes at once are new to the history
      assert.deepEqual(histories[i]!.all(doc, view.heads), new History().all(doc, view.heads), where)
      const all = changesSince(doc, [])
      const then = [all[roll(all.length)]!, all[roll(all.length)]!]
      const later = new Set(changesSince(doc, then))
      const old = build(A.getAllChanges(doc).filter(change => !later.has(A.decodeChange(change).hash!)))
      assert.deepEqual(viewAt(doc, then), viewOf(old), where)
      A.free(old)
    }
    for (const doc of [first, ...docs]) A.free(doc)
  }
})

test("what is taken back is not shown, in whatever order the changes come", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const roll = random(seed)
    const docs = [0, 1, 2].map(() => build([genesis("x")]))
    for (let step = 0; step < 30; step++) {
      const i = roll(3)
      const other = docs[(i + 1 + roll(2)) % 3]!
      if (roll(3) > 0) docs[i] = edited(docs[i]!, "user", [{ ...anEdit(roll, step), field: "abc"[roll(2)]! }])
      else for (const change of A.getAllChanges(other)) docs[i] = A.applyChanges(docs[i]!, [change])[0]
      const truth = A.load<{ selections: object }>(A.save(docs[i]!))
      assert.deepEqual(Object.keys(viewOf(docs[i]!).selections), Object.keys(truth.selections).sort())
      A.free(truth)
    }
    docs.forEach(doc => A.free(doc))
  }
})

// converse lets two replicas talk until neither has anything to say, or for some words only.
function converse(one: Replica, other: Replica, words: number): void {
  let [ofOne, ofOther] = [A.initSyncState(), A.initSyncState()]
  let message: A.SyncMessage | null
  for (let silent = 0; words > 0 && silent < 2; words--) {
    ;[ofOne, message] = one.say(ofOne)
    if (message) [ofOther] = other.hear(ofOther, message)
    silent = message ? 0 : silent + 1
    ;[one, other, ofOne, ofOther] = [other, one, ofOther, ofOne]
  }
}

test("replicas show what their documents say, through merges and refusals", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const roll = random(seed)
    const open = (user: string) => Replica.open("x", user, undefined, () => {}, () => {})
    const replicas = await Promise.all(["alice", "bob", "carol"].map(open))
    for (let step = 0; step < 80; step++) {
      const replica = replicas[roll(3)]!
      switch (roll(5)) {
        case 0:
          converse(replica, replicas[(replicas.indexOf(replica) + 1 + roll(2)) % 3]!, roll(8))
          break
        case 1: {
          const { unsaved } = replica
          if (unsaved.length > 0) replica.rollBack([unsaved[roll(unsaved.length)]!], "pick")
          break
        }
        default:
          try {
            replica.edit([anEdit(roll, step)])
          } catch (error) {
            assert.ok(error instanceof PickError) // of taking back nothing
          }
      }
      const where = `seed ${seed}, step ${step}`
      const [view, events] = [replica.view, replica.history()]
      const fresh = await open("nobody")
      converse(fresh, replica, 20)
      assert.deepEqual(view, fresh.view, where)
      assert.deepEqual(events, fresh.history(), where)
      assert.equal(replica.history(), events, where)
    }
  }
})
