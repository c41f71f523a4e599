// Prints changes made by @automerge/automerge from random histories, for the
// tests of package crdt.
//
//	node make-changes.mjs SEED DOCUMENTS STEPS
//
// Each document is edited STEPS times by a few replicas that now and then
// merge. A line is one of
//
//	doc NAME         a document begins
//	change BASE64    its changes, each after those that it depends on; then those
//	                 that their authors had encoded in other bytes, if any
//
// The same arguments give the same histories; actors' ids of isolated changes
// (changeAt) and of documents with an author are chosen by the library.
import * as A from "@automerge/automerge"

const [seed = 1, documents = 10, steps = 100] = process.argv.slice(2).map(Number)

// mulberry32
function random(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

class History {
  constructor(seed) {
    this.random = random(seed)
    this.local = new Set() // changes as their authors encoded them
    this.past = [] // heads of earlier states
    this.int = (n) => Math.floor(this.random() * n)
    this.pick = (xs) => xs[this.int(xs.length)]
    const bytes = this.pick([1, 4, 16, 16, 16, 32, 128])
    const actor = (i) => (i.toString(16).padStart(2, "0") + this.hex(bytes)).slice(0, 2 * bytes)
    const base = A.change(A.init({ actor: actor(1) }), { time: 1700000000 }, (d) => {
      d.map = {}
      d.list = []
      d.text = "it begins 😀"
      d.counters = { n: new A.Counter(3) }
    })
    this.replicas = [base]
    for (let i = 2; i <= 4; i++) {
      const options = { actor: actor(i + 9) }
      if (this.int(3) === 0) options.author = this.hex(this.pick([0, 1, 20, 32]))
      this.replicas.push(A.merge(A.init(options), base))
    }
  }

  hex(n) {
    let s = ""
    for (let i = 0; i < n; i++) s += this.int(256).toString(16).padStart(2, "0")
    return s
  }

  words(n) {
    const words = ["agree", "price", "Ünïcode", "日本", "😀👍🏽", "a", "\n", "e\u0301"]
    return Array.from({ length: n }, () => this.pick(words)).join(" ")
  }

  value(depth = 0) {
    const kinds = [
      () => null,
      () => true,
      () => false,
      () => this.int(100),
      () => -this.int(2 ** 31),
      () => this.random() * 1e9,
      () => NaN,
      () => new A.Int(-this.int(2 ** 31) * 2 ** 20),
      () => new A.Uint(this.int(2 ** 31) * 2 ** 20),
      () => new A.Float64(this.int(10)),
      () => Number.MAX_SAFE_INTEGER,
      () => new Date(this.int(2 ** 31) * 1000 - 2 ** 40),
      () => Uint8Array.from({ length: this.int(40) }, () => this.int(256)),
      () => new A.ImmutableString(this.words(this.int(5))),
      () => "",
      () => this.words(this.int(8)),
      () => (depth > 2 ? [] : Array.from({ length: this.int(4) }, () => this.value(depth + 1))),
      () => (depth > 2 ? {} : Object.fromEntries(this.keys().map((k) => [k, this.value(depth + 1)]))),
    ]
    return this.pick(kinds)()
  }

  keys() {
    return Array.from({ length: this.int(4) }, () => this.key())
  }

  key() {
    return this.pick(["a", "b", "c", "", "日本", "k".repeat(70), "x" + this.int(8)])
  }

  // edit makes one random edit inside a change function.
  edit(d) {
    const text = ["text"]
    const length = d.text.length
    const at = () => this.int(length + 1)
    const edits = [
      () => (d.map[this.key()] = this.value()),
      () => (d.map[this.key()] = this.value()),
      () => delete d.map[this.key()],
      () => {
        const k = this.key()
        delete d.map[k]
        d.map[k] = this.int(9)
        d.map[k] = this.int(9)
      },
      () => d.list.push(this.value()),
      () => d.list.splice(this.int(d.list.length + 1), this.int(3), this.value(), this.value()),
      () => d.list.length && (d.list[this.int(d.list.length)] = this.value()),
      () => d.list.length && d.list.splice(this.int(d.list.length), 1 + this.int(4)),
      () => d.counters.n.increment(this.int(100)),
      () => d.counters.n.decrement(this.int(2 ** 30)),
      () => (d.counters.n = new A.Counter(-this.int(50))),
      () => A.splice(d, text, at(), 0, this.words(1 + this.int(3))),
      () => A.splice(d, text, this.int(length), Math.min(3, length), this.words(this.int(2))),
      () => A.splice(d, text, at(), 0, this.words(1 + this.int(this.pick([9, 9, 9, 500])))),
      () => (d.map.paste = this.words(this.int(300))),
      () => length > 3000 && A.splice(d, text, this.int(100), 2500, ""),
      () => length > 20 && A.splice(d, text, this.int(length - 20), this.int(20), ""),
      () => A.updateText(d, text, d.text.slice(0, 40) + this.words(3)),
      () => {
        const start = this.int(length)
        const end = start + 1 + this.int(length - start)
        const expand = this.pick(["none", "before", "after", "both"])
        if (end > start) A.mark(d, text, { start, end, expand }, this.pick(["bold", "link", "c"]), this.mark())
      },
      () => length > 3 && A.unmark(d, text, { start: 1, end: 1 + this.int(length - 1) + 1 }, "bold"),
      () => A.splitBlock(d, text, at(), { type: this.pick(["p", "h1"]), parents: ["ul"], attrs: { n: 1 } }),
      () => this.nested(d),
    ]
    this.pick(edits)()
  }

  mark() {
    return this.pick([true, false, "http://example.org", 3, 1.5, null])
  }

  // nested edits an object made in this change or an earlier one.
  nested(d) {
    const inner = d.map.inner ?? (d.map.inner = { rows: [], title: "t" })
    if (!inner.rows) return
    inner.rows.push({ id: this.int(1000), cells: [1, 2, { deep: this.words(2) }] })
    const last = inner.rows[inner.rows.length - 1]
    last.cells[0] = this.int(9)
    if (last.cells.length > 1) last.cells.splice(1, 1)
    if (inner.rows.length > 6) inner.rows.splice(0, 3)
  }

  step() {
    const i = this.int(this.replicas.length)
    const options = { time: this.pick([0, 1700000000 + this.int(1e6), -5]) }
    if (this.int(4) === 0) options.message = this.words(1 + this.int(3))
    let doc = this.replicas[i]
    try {
      switch (this.int(12)) {
        case 0:
          doc = A.merge(doc, this.replicas[(i + 1 + this.int(this.replicas.length - 1)) % this.replicas.length])
          break
        case 1:
          doc = A.emptyChange(doc, options)
          break
        case 2: {
          // On a state before an actor's empty change the library writes what it
          // cannot read again: sequence numbers that no dependency orders.
          const last = A.getLastLocalChange(doc)
          const past = this.past.filter((heads) => A.hasHeads(doc, heads))
          if (past.length === 0 || !last || A.decodeChange(last).ops.length === 0) break
          doc = A.changeAt(doc, this.pick(past), options, (d) => {
            d.map[this.key()] = this.value()
            A.splice(d, ["text"], this.int(9), 0, "past")
          }).newDoc
          break
        }
        case 3:
          doc = A.load(A.save(doc), { actor: A.getActorId(doc) })
          break
        default:
          doc = A.change(doc, options, (d) => {
            for (let n = 1 + this.int(3); n > 0; n--) this.edit(d)
          })
      }
    } catch (err) {
      // The library throws in some histories. Such a step does not count, and
      // a copy of another replica goes on in the place of this one.
      this.replicas[i] = this.failed(err, A.clone(this.replicas[(i + 1) % this.replicas.length], { actor: this.hex(16) }))
      return
    }
    this.replicas[i] = doc
    const last = A.getLastLocalChange(doc)
    if (last) this.local.add(Buffer.from(last).toString("base64"))
    if (this.int(4) === 0) this.past.push(A.getHeads(doc))
  }

  failed(err, doc) {
    if (process.env.VERBOSE) console.error(String(err).slice(0, 300))
    return doc
  }

  print(name) {
    let all = this.replicas[0]
    for (const replica of this.replicas.slice(1)) {
      const copy = A.clone(all)
      try {
        all = A.merge(all, replica)
      } catch (err) {
        all = this.failed(err, copy) // as in step
      }
    }
    console.log(`doc ${name}`)
    for (const change of A.getAllChanges(all)) {
      const base64 = Buffer.from(change).toString("base64")
      this.local.delete(base64)
      console.log(`change ${base64}`)
    }
    // What is left was encoded anew when it came out of a document.
    for (const base64 of this.local) console.log(`change ${base64}`)
  }
}

for (let i = 0; i < documents; i++) {
  const history = new History(seed * 1000 + i)
  for (let n = 0; n < steps; n++) history.step()
  history.print(`${seed}-${i}`)
}
