// Prints transactions as clients of @automerge/automerge write them: a few
// users pick, withdraw and, if they are hosts, define fields, and merge now and
// then.
//
//	node make-transactions.mjs SEED TRANSACTIONS STEPS
//
// A line is one transaction as JSON: its id, its changes in causal order with
// their authors, and what picksOf says of the whole. The same arguments give the
// same histories.
import * as A from "@automerge/automerge"
import { genesis } from "./genesis.mjs"
import { picksOf } from "./picks-of.mjs"

const [seed = 1, transactions = 10, steps = 30] = process.argv.slice(2).map(Number)

// mulberry32
const random = state => () => {
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const names = ["price", "date", "Währung", "日本", "a b \"c\"", "😀", "constructor", "k".repeat(256)]

class Transaction {
  constructor(seed) {
    this.random = random(seed)
    this.id = `js-${seed}`
    this.authors = new Map()
    const base = genesis(this.id)
    this.replicas = Array.from({ length: 3 + this.int(6) }, (_, i) => ({
      user: `user${i}`,
      role: i < 2 ? "host" : "party",
      doc: A.clone(base, { actor: this.hex(15) + i.toString(16).padStart(2, "0") }),
    }))
  }

  int(n) { return Math.floor(this.random() * n) }
  pick(list) { return list[this.int(list.length)] }
  hex(n) { return Array.from({ length: n }, () => this.int(256).toString(16).padStart(2, "0")).join("") }

  // string is a plain string, which becomes a text object, or a scalar one.
  string(s) { return this.int(2) ? s : new A.ImmutableString(s) }

  value(depth = 0) {
    const kinds = [
      () => null,
      () => true,
      () => false,
      () => this.int(1000),
      () => -this.int(2 ** 31),
      () => this.random() * 1e6,
      () => NaN,
      () => new A.Int(-this.int(2 ** 31) * 2 ** 20),
      () => new A.Uint(this.int(2 ** 31) * 2 ** 20),
      () => new A.Float64(this.int(10)),
      () => new A.Counter(this.int(9)),
      () => new Date(this.int(2 ** 31) * 1000),
      () => Uint8Array.from({ length: this.int(20) }, () => this.int(256)),
      () => "",
      () => this.string("of text, Ünïcode 日本 😀 e\u0301"),
      () => (depth > 2 ? [] : Array.from({ length: this.int(4) }, () => this.value(depth + 1))),
      () => (depth > 2 ? {} : Object.fromEntries(this.keys().map(k => [k, this.value(depth + 1)]))),
    ]
    return this.pick(kinds)()
  }

  keys() { return Array.from({ length: this.int(4) }, () => this.pick(["", "a", "b", "日本"])) }

  newPick(user) {
    const at = 1700000000000 + this.int(1e9)
    const p = { value: this.value(), by: this.string(user), at: this.pick([at, at, new Date(at)]) }
    if (this.int(3) === 0) p.option = this.string(this.pick(["a", "ü"]))
    return p
  }

  field() {
    const options = {}
    for (let n = this.int(3); n > 0; n--) options[this.pick(names)] = this.option()
    return { label: this.string(`Label ${this.int(9)}`), required: this.int(2) === 0, options }
  }

  option() { return { value: this.value(), source: this.string("seller.pdf") } }

  // edit makes one edit that the schema allows.
  edit(d, { user, role }) {
    const f = this.pick(names)
    const picks = [
      () => (d.selections[f] = this.newPick(user)),
      () => (d.selections[f] = this.newPick(user)),
      () => delete d.selections[f],
      () => {
        d.selections[f] = this.newPick(user)
        d.selections[f] = this.newPick(user)
      },
      () => {
        d.selections[f] = this.newPick(user)
        delete d.selections[f]
        if (this.int(2)) d.selections[f] = this.newPick(user)
      },
      () => this.edited(d, f, user),
    ]
    const fields = [
      () => (d.fields[f] = this.field()),
      () => delete d.fields[f],
      () => d.fields[f] && (d.fields[f].label = this.string("Renamed")),
      () => d.fields[f] && (d.fields[f].required = this.int(2) === 0),
      () => d.fields[f] && (d.fields[f].options[this.pick(names)] = this.option()),
      () => d.fields[f] && (d.fields[f].options = {}),
      () => {
        const option = Object.values(d.fields[f]?.options ?? {})[0]
        if (option) option.value = this.value()
        if (option) option.source = this.string("buyer.pdf")
      },
      () => {
        const key = Object.keys(d.fields[f]?.options ?? {})[0]
        if (key !== undefined) delete d.fields[f].options[key]
      },
    ]
    this.pick(role === "host" ? [...picks, ...fields] : picks)()
  }

  // edited picks, and edits the pick before anybody has seen it.
  edited(d, f, user) {
    const later = this.newPick(user)
    d.selections[f] = { by: user, at: 1, value: this.pick(["some text", [1, "two", new A.Counter(3)]]) }
    const path = ["selections", f, "value"]
    if (typeof d.selections[f].value === "string") {
      A.splice(d, path, 2, 3, "ß😀")
      A.mark(d, path, { start: 0, end: 2, expand: "both" }, "bold", true)
      A.splice(d, path, 0, 1, "")
    } else {
      d.selections[f].value[2].increment(4)
      d.selections[f].value.splice(this.int(2), 1, "in", { x: [] })
      d.selections[f].value.push(null)
    }
    // Only in an assignment of its own does the library take these for numbers.
    d.selections[f].at = this.pick([later.at, new A.Uint(1700000000000), new A.Float64(1700000000000)])
    if (this.int(2)) d.selections[f].value = later.value
  }

  step() {
    const r = this.pick(this.replicas)
    if (this.int(3) === 0) {
      r.doc = A.merge(r.doc, this.pick(this.replicas.filter(other => other !== r)).doc)
      return
    }
    const before = A.getHeads(r.doc).join()
    r.doc = A.change(r.doc, { time: 1700000000 + this.int(1e6) }, d => {
      for (let n = 1 + this.int(3); n > 0; n--) this.edit(d, r)
    })
    if (A.getHeads(r.doc).join() !== before) this.authors.set(A.getHeads(r.doc)[0], { user: r.user, role: r.role })
  }

  print() {
    let all = A.clone(this.replicas[0].doc)
    for (const r of this.replicas.slice(1)) all = A.merge(all, r.doc)
    // A document that changes were merged into may show a pick that was
    // withdrawn where an older one is live again: 3.5 does not tell itself of
    // that. Loaded anew it is right.
    all = A.load(A.save(all))
    const changes = A.getAllChanges(all).map(chunk => ({
      chunk: Buffer.from(chunk).toString("base64"),
      ...this.authors.get(A.decodeChange(chunk).hash),
    }))
    console.log(`{"transaction":${JSON.stringify(this.id)},"changes":${JSON.stringify(changes)},"whole":${picksOf(all)}}`)
  }
}

for (let i = 0; i < transactions; i++) {
  const t = new Transaction(seed * 100000 + i)
  for (let n = 0; n < steps; n++) t.step()
  t.print()
}
