// A server that wants tokens: two people settle with the links that they were sent,
// and nobody else learns what is in them.
import assert from "node:assert/strict"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after, test } from "node:test"
import { parley, scan, Stage } from "./stage.mjs"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "parley-keys-"))
const key = path.join(folder, "key.pem")
parley("token", "--new-key", key)

const stage = new Stage("--keys", `${key}.jwks.json`)
after(() => fs.rmSync(folder, { recursive: true, force: true }))

/** tokenFor makes the token of a user, for all transactions unless it is said otherwise. */
function tokenFor(user, role = "party", { transactions = "*", ttl = "1h", by = key } = {}) {
  const name = user[0].toUpperCase() + user.slice(1)
  return parley("token", "--key", by, "--user", user, "--name", name, "--role", role, "--transactions", transactions, "--ttl", ttl).trim()
}

const transaction = settings => stage.server.transaction({ token: tokenFor("holly", "host"), ...settings })

/** enter opens a transaction with a token, in a tab of its own. */
async function enter(person, id, token) {
  await person.tab(`${stage.server.url}/t/${id}?token=${token}`)
}

test("two people settle with their links, and what is in these stays with them", async t => {
  const id = await transaction()
  const [alice, bob] = [await stage.person(t, "alice"), await stage.person(t, "bob")]
  const tokens = [tokenFor("alice"), tokenFor("bob")]
  const seen = []
  alice.context.on("request", request => seen.push(request.headers().referer ?? ""))
  alice.context.on("console", message => seen.push(message.text()))
  await Promise.all([enter(alice, id, tokens[0]), enter(bob, id, tokens[1])])
  await Promise.all([alice.saved(), bob.saved()])
  await alice.pick("price", "398,500")
  await bob.sees("price", "398,500", "Alice")
  await alice.saved()
  await alice.kept()
  await alice.page.reload()
  await alice.sees("price", "398,500", "You")
  await alice.ready()
  await bob.ready()
  for (const person of [alice, bob]) await person.see(".dock.agreed")
  await bob.says("Agreed by Alice and you")
  const [download] = await Promise.all([alice.page.waitForEvent("download"), alice.page.click(".dock .strong")])
  assert.equal(download.suggestedFilename(), `${id}.zip`)

  assert.equal(alice.page.url(), `${stage.server.url}/t/${id}`)
  const kept = await alice.page.evaluate(async () => {
    const names = await caches.keys()
    const urls = await Promise.all(names.map(async name => (await (await caches.open(name)).keys()).map(r => r.url)))
    return urls.flat().join()
  })
  const dom = await alice.page.evaluate(() => document.documentElement.outerHTML + document.title + document.referrer)
  const secret = tokens[0].slice(-20)
  for (const [where, text] of Object.entries({ "the server's log": stage.server.log, "the cache": kept, "the page": dom, "a referrer or the console": seen.join() })) {
    assert.ok(!text.includes(secret), `the token is in ${where}`)
  }
  assert.ok(!kept.includes("token"), `an address with a token is in the cache: ${kept}`)
})

test("a link expires while the page is open: it says so, and a new link loses nothing", async t => {
  const id = await transaction()
  const [alice, bob] = [await stage.person(t, "alice"), await stage.person(t, "bob")]
  await Promise.all([enter(alice, id, tokenFor("alice")), enter(bob, id, tokenFor("bob"))])
  await bob.saved()
  await alice.saved()
  await alice.kept()
  await enter(alice, id, tokenFor("alice", "party", { ttl: "10s" }))
  await alice.saved()
  await alice.pick("price", "412,000")
  await alice.see("[data-state=refused]")
  await alice.says("Your link has expired")
  await alice.says("Ask whoever sent it for a new one")
  await alice.pick("price", "398,500")
  await alice.type("remarks", "after it had expired")
  await alice.see('.connection:has-text("2 changes kept here, not on the server")')
  await alice.page.reload()
  await alice.says("Your link has expired")
  await alice.sees("remarks", "after it had expired", "You")
  await scan(alice, "expired")
  await enter(alice, id, tokenFor("alice"))
  await alice.saved()
  await alice.sees("price", "398,500", "You")
  await bob.sees("price", "398,500", "Alice")
  await bob.sees("remarks", "after it had expired", "Alice")
})

test("viewers and auditors look on, and auditors take the record along", async t => {
  const id = await transaction({ parties: ["alice"] })
  const people = await Promise.all(["alice", "vera", "otto"].map(user => stage.person(t, user)))
  const [alice, vera, otto] = people
  const roles = ["party", "viewer", "auditor"]
  await Promise.all(people.map((person, i) => enter(person, id, tokenFor(person.user, roles[i]))))
  await alice.saved()
  await alice.pick("price", "398,500")
  for (const [person, role] of [[vera, "viewer"], [otto, "auditor"]]) {
    await person.sees("price", "398,500", "Alice")
    await person.says(`You are here as ${role}: only parties confirm.`)
    assert.equal(await person.page.locator("main button, main input, .dock button").count(), 0)
  }
  assert.equal(await vera.page.locator(".record button").count(), 0)
  await vera.see('.record:has-text("Parties, hosts and auditors may have the record")')
  await alice.ready()
  await otto.see(".dock.agreed")
  const [zip, pub] = [path.join(folder, "record.zip"), path.join(folder, "parley.pub")]
  const [record] = await Promise.all([otto.page.waitForEvent("download"), otto.page.click(".dock .strong")])
  await record.saveAs(zip)
  const [saved] = await Promise.all([otto.page.waitForEvent("download"), otto.page.click("text=Save the key")])
  await saved.saveAs(pub)
  assert.match(parley("verify", zip, "--key", pub), /the record holds/)
})

test("a link that is no good is refused in a clear sentence", async t => {
  const id = await transaction()
  const other = path.join(folder, "other.pem")
  parley("token", "--new-key", other)
  const alice = await stage.person(t, "alice")
  for (const [token, title] of [
    ["nonsense", "This link is not complete"],
    [tokenFor("alice", "party", { by: other }), "This link is not valid here"],
    [tokenFor("alice", "party", { transactions: "another" }), `There is no “${id}” here`],
  ]) {
    await enter(alice, id, token)
    await alice.see(`h1:has-text("${title}")`)
    assert.equal(await alice.page.locator(".field, .ready-button").count(), 0)
    assert.ok(!alice.page.url().includes("token"))
  }
  await enter(alice, id, "nonsense")
  await alice.see("[data-code=malformed-token]")
  await scan(alice, "refused-link")
  await alice.tab(`${stage.server.url}/t/${id}`)
  await alice.see("h1:has-text('needs the link')")
  await alice.tab(`${stage.server.url}/`)
  await alice.see("#go")
  await scan(alice, "about")
})
