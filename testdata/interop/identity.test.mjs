// Who may do what: readers, and a server that wants tokens. The clients are
// automerge-repo's own, which know nothing of either.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after } from "node:test"
import * as A from "@automerge/automerge"
import { client, find, quiet, saved, scenario, until } from "./client.mjs"
import { documentUrl } from "./genesis.mjs"
import { Raw } from "./raw.mjs"
import { join, open } from "./room.mjs"
import { useServer } from "./server.mjs"

const ours = process.env.PARLEY_BIN && process.env.PARLEY_SERVER_JS !== "1" && process.env.PARLEY_URL === undefined
const skip = ours ? false : "it needs PARLEY_BIN, and a server that is parley"

const dev = useServer()

const pick = ({ handle, user }, field, value) =>
  handle.change(doc => (doc.selections[field] = { value, by: user, at: Date.now() }))

const value = ({ handle }, field) => handle.doc().selections[field]?.value

for (const role of ["viewer", "auditor"]) {
  scenario(`a ${role} sees everything, changes nothing, and the exchange ends`, { skip }, async t => {
    const tx = await open(dev)
    const alice = await join(t, dev, tx, "alice")
    const vera = await join(t, dev, tx, "vera", { role })
    pick(alice, "price", 100)
    await until("vera sees a pick", () => value(vera, "price") === 100)

    let frames = 0
    vera.adapter.on("message", () => frames++)
    const rejected = () => vera.said.filter(m => m.t === "rejected")
    for (const attempt of [1, 2, 3]) {
      pick(vera, "price", attempt)
      await until("it is rejected", () => rejected().length === attempt)
      assert.equal(rejected()[attempt - 1].code, "read-only")
      assert.deepEqual(rejected()[attempt - 1].changes, A.getHeads(vera.handle.doc()))
      await quiet(() => frames)
    }
    assert.ok(frames < 30, `${frames} frames for three picks`)
    assert.equal(value(alice, "price"), 100)

    // What others do reaches her, beside what she keeps for herself.
    for (const date of ["1 Dec", "2 Dec", "3 Dec"]) {
      pick(alice, "date", date)
      await until("vera sees a later pick", () => value(vera, "date") === date)
    }
    await quiet(() => frames)
    assert.ok(frames < 60, `${frames} frames for three picks of hers and three of others`)
    assert.ok(vera.adapter.connected)
    assert.equal(rejected().length, 3)

    // With what she keeps she comes back, is told again, and still sees the rest.
    vera.adapter.goOffline()
    pick(alice, "price", 120)
    await saved(alice, alice.handle)
    vera.adapter.goOnline()
    pick(alice, "date", "4 Dec")
    await until("vera sees what came meanwhile, and after", () => value(vera, "date") === "4 Dec")
    await until("she is told again", () => rejected().length > 3)
    const before = frames
    await quiet(() => frames)
    assert.ok(frames - before < 20, `${frames - before} frames after she came back`)
  })
}

const folder = ours ? fs.mkdtempSync(path.join(os.tmpdir(), "parley-interop-keys-")) : ""
after(() => folder && fs.rmSync(folder, { recursive: true, force: true }))

const parley = (...args) => execFileSync(process.env.PARLEY_BIN, args, { encoding: "utf8" }).trim()

const key = path.join(folder, "key.pem")
if (ours) parley("token", "--new-key", key)

const server = ours ? useServer("--keys", `${key}.jwks.json`) : undefined

const token = (user, role, transactions) =>
  parley("token", "--key", key, "--user", user, "--role", role, "--transactions", transactions)

const withToken = (t, ...grant) => client(t, server, { url: `${server.url}?token=${token(...grant)}` })

scenario("a token opens its transaction, and no other", { skip }, async t => {
  for (const id of ["mine", "theirs"]) {
    const fields = path.join(folder, "fields.json")
    fs.writeFileSync(fields, JSON.stringify({ fields: { price: { label: "Price", required: true, options: {} } } }))
    parley("open", id, "--fields", fields, "--server", server.url, "--token", token("holly", "host", "*"))
  }
  const alice = withToken(t, "alice", "party", "mine")
  alice.handle = await alice.find(await documentUrl("mine"))
  alice.user = "alice"
  pick(alice, "price", 100)
  await saved(alice, alice.handle)

  await assert.rejects(alice.find(await documentUrl("theirs")), /unavailable/)
  const plain = alice.repo.create({ a: 1 })
  const bob = withToken(t, "bob", "party", "mine,theirs")
  bob.handle = await bob.find(await documentUrl("mine"))
  assert.equal(value(bob, "price"), 100)
  await assert.rejects(bob.find(plain.url), /unavailable/)
  assert.ok(alice.adapter.connected)

  // Who has none is told why, and closed with a code that says stop; a real client
  // outlives it.
  const nobody = client(t, server)
  const raw = await Raw.connect(t, server)
  await raw.ended()
  assert.equal(raw.closeCode, 4401)
  assert.match(raw.received[0].message, /^no-token: /)
  await assert.rejects(find(nobody.repo, await documentUrl("mine"), 1000))
  assert.equal(nobody.repo.peers.length, 0)
})
