// A transaction between JavaScript clients of automerge-repo and parley's own
// commands: the same winner and the same conflict everywhere, and changes that
// are refused, each with its code.
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after } from "node:test"
import * as A from "@automerge/automerge"
import { client, quiet, saved, scenario, until } from "./client.mjs"
import { documentUrl } from "./genesis.mjs"
import { useServer } from "./server.mjs"

const server = useServer()
const ours = process.env.PARLEY_BIN && process.env.PARLEY_SERVER_JS !== "1" && server.restartable
const skip = ours ? false : "it needs PARLEY_BIN, and a server that is parley"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "parley-interop-replica-"))
after(() => fs.rmSync(folder, { recursive: true, force: true }))

// parley runs a command and returns its exit code and what it printed.
const parley = (args, input = "") =>
  new Promise(resolve => {
    const child = execFile(process.env.PARLEY_BIN, [...args, "--server", server.url], (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr })
    )
    child.stdin.on("error", () => {}) // most commands do not read, and may have ended
    child.stdin.end(input)
  })

const fields = {
  price: { label: "Price", required: true, options: { a: { value: 100, source: "seller.pdf" } } },
  date: { label: "Date", required: false, options: {} },
}

let transactions = 0

// open makes a transaction and returns its id and URL.
async function open() {
  const id = `deal-${process.pid}-${++transactions}`
  const { code, stderr } = await parley(["open", id, "--fields", "-", "--user", "holly"], JSON.stringify({ fields }))
  assert.equal(code, 0, stderr)
  return { id, url: await documentUrl(id) }
}

const show = async id => JSON.parse((await parley(["show", id, "--json"])).stdout)

// join opens a document as a user, and hears what the server rejects.
async function join(t, url, user, role = "party") {
  const c = client(t, server, { url: `${server.url}?user=${user}&role=${role}` })
  const handle = await c.find(url)
  await saved(c, handle)
  const rejected = []
  handle.on("ephemeral-message", ({ message }) => message?.parley?.t === "rejected" && rejected.push(message.parley))
  return { ...c, handle, rejected }
}

const newPick = (by, value) => ({ value, by, at: Date.now() })
const pick = (handle, field, by, value) => handle.change(doc => (doc.selections[field] = newPick(by, value)))

// conflict lists who picked what for a field, the winner first.
function conflict(doc, field) {
  const rivals = Object.values(A.getConflicts(doc.selections, field) ?? {})
  const winner = doc.selections[field]
  const text = p => `${p.value} by ${p.by}`
  return [text(winner), ...rivals.map(text).filter(other => other !== text(winner)).sort()]
}

const conflictOf = field => field.picks.map(p => `${p.value} by ${p.by}`)

scenario("picks made apart: the same winner and the same conflict everywhere", { skip }, async t => {
  const { id, url } = await open()
  const alice = await join(t, url, "alice")
  const bob = ["--user", "bob", "--replica", folder]
  assert.equal((await parley(["show", id, ...bob])).code, 0)
  alice.adapter.goOffline()
  pick(alice.handle, "price", "alice", 100)
  const kept = await parley(["pick", id, "price", "120", "--offline", ...bob])
  assert.equal(kept.code, 4, kept.stderr)

  alice.adapter.goOnline()
  await saved(alice, alice.handle)
  assert.equal((await parley(["show", id, ...bob])).code, 0) // brings the pick there
  await until("alice sees both picks", () => conflict(alice.handle.doc(), "price").length === 2)
  const carol = await join(t, url, "carol")
  const [atServer, atBob] = [await show(id), JSON.parse((await parley(["show", id, "--json", ...bob])).stdout)]
  const want = conflict(alice.handle.doc(), "price")
  assert.deepEqual([...want].sort(), ["100 by alice", "120 by bob"])
  assert.deepEqual(conflict(carol.handle.doc(), "price"), want)
  assert.deepEqual(conflictOf(atServer.fields.price), want)
  assert.deepEqual(conflictOf(atBob.fields.price), want)
  assert.deepEqual(atServer.contested, ["price"])

  pick(alice.handle, "price", "alice", 110)
  await saved(alice, alice.handle)
  const settled = await show(id)
  assert.deepEqual(settled.contested, [])
  assert.deepEqual(conflictOf(settled.fields.price), ["110 by alice"])
  await until("carol sees it settled", () => carol.handle.doc().selections.price.value === 110)
  assert.equal(A.getConflicts(carol.handle.doc().selections, "price"), undefined)
})

const refusals = {
  "not-author": handle => pick(handle, "price", "bob", 1),
  "not-host": handle => handle.change(doc => (doc.fields.price.label = "Mine")),
  "pick-edited": handle => handle.change(doc => (doc.selections.price.value = 1)),
  "foreign-actor": (handle, { actor }) =>
    handle.update(doc => {
      const other = A.clone(doc, { actor })
      return A.merge(doc, A.change(other, d => (d.selections.price = newPick("mallory", 1))))
    }),
  path: handle => handle.change(doc => (doc.extra = 1)),
}

for (const [code, change] of Object.entries(refusals)) {
  scenario(`a change refused as ${code} reaches nobody, and its author goes on`, { skip }, async t => {
    const { id, url } = await open()
    const bob = await join(t, url, "bob")
    pick(bob.handle, "price", "bob", 120)
    await saved(bob, bob.handle)
    const mallory = await join(t, url, "mallory")
    const before = (await show(id)).heads
    let frames = 0
    mallory.adapter.on("message", () => frames++)

    change(mallory.handle, { actor: A.getActorId(bob.handle.doc()) })
    const heard = await until("the rejection", () => mallory.rejected[0])
    assert.equal(heard.code, code)
    assert.match(heard.message, /\w+ \w+/)
    assert.deepEqual(heard.changes, A.getHeads(mallory.handle.doc()))
    await quiet(() => frames)
    assert.ok(frames < 20, `${frames} frames for one refused change`)
    assert.equal(mallory.rejected.length, 1)
    assert.ok(mallory.adapter.connected)
    assert.deepEqual((await show(id)).heads, before)
    assert.equal(bob.rejected.length, 0)

    // Others go on, and so does mallory, with a fresh copy: the old one keeps
    // what was refused, and could not even read what another writes as its actor.
    await mallory.close()
    pick(bob.handle, "date", "bob", "1 Dec")
    await saved(bob, bob.handle)
    const again = await join(t, url, "mallory")
    pick(again.handle, "price", "mallory", 130)
    await saved(again, again.handle)
    await until("bob sees it", () => bob.handle.doc().selections.price.value === 130)
    assert.equal(bob.handle.doc().extra, undefined)
    assert.deepEqual(conflictOf((await show(id)).fields.price), ["130 by mallory"])
  })
}
