// The page as such: what it costs, what it keeps secret, and whether everybody can
// read and use it.
import assert from "node:assert/strict"
import fs from "node:fs"
import path from "node:path"
import { createRequire } from "node:module"
import os from "node:os"
import { test } from "node:test"
import { parley, Server, Stage } from "./stage.mjs"

const stage = new Stage()
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

/** Bytes over the wire that the first visit may cost. */
const budget = 1_600_000

test("the first visit is not expensive", async t => {
  const id = await stage.server.transaction()
  const alice = await stage.person(t, "alice")
  const finished = []
  alice.context.on("requestfinished", request => finished.push(request))
  await alice.open(id)
  let bytes = 0
  for (const request of finished) {
    if (request.serviceWorker()) continue // what it keeps comes from the browser's cache
    const { responseBodySize, responseHeadersSize } = await request.sizes()
    bytes += responseBodySize + responseHeadersSize
  }
  t.diagnostic(`${bytes} bytes in ${finished.length} requests`)
  assert.ok(bytes > 500_000 && bytes < budget, `${bytes} bytes`)
})

test("the start page makes a sample and opens it as two people", async t => {
  const alice = await stage.person(t, "alice")
  await alice.tab(`${stage.server.url}/`)
  const [first] = await Promise.all([alice.context.waitForEvent("page"), alice.page.click("#alice")])
  const [second] = await Promise.all([alice.context.waitForEvent("page"), alice.page.click("#bob")])
  for (const tab of [first, second]) await tab.waitForSelector("[data-field=price]")
  await first.click('[data-field=price] button.card >> nth=0')
  await second.waitForSelector('[data-field=price] .card.picked:has-text("Alice picked this")')
  await first.waitForSelector("[data-saved=true]")
  await alice.page.click("#fresh")
  await alice.see("#said:has-text('a new sample')")
  assert.match(await alice.page.getAttribute("#alice", "href"), /\/t\/sample-.+\?user=alice/)
})

test("nothing moves while others pick", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await bob.page.evaluate(() => {
    window.shifts = []
    const elsewhere = node => node?.nodeType === Node.ELEMENT_NODE && !node.closest(".timeline ol, .dock .detail")
    const moved = source => (elsewhere(source.node) ? [source.node.outerHTML.slice(0, 100)] : [])
    new PerformanceObserver(seen => seen.getEntries().forEach(e => window.shifts.push(...e.sources.flatMap(moved))))
      .observe({ type: "layout-shift" })
  })
  await alice.pick("price", "398,500")
  await bob.sees("price", "398,500", "Alice")
  await alice.ready()
  await bob.see(".person.ready[data-user=alice]")
  await bob.ready()
  await bob.see(".dock.agreed")
  await alice.page.click("[data-field=price] .standing .link")
  await bob.gone(".dock.agreed")
  // The history moves down for what is new in it, and what follows a sentence with it.
  assert.deepEqual(await bob.page.evaluate(() => window.shifts), [])
})

// Only colours differ between the schemes.
const rules = { light: undefined, dark: ["color-contrast"] }

for (const colorScheme of Object.keys(rules)) {
  test(`everybody can read it, ${colorScheme}`, async t => {
    const id = await stage.server.transaction()
    const [alice, bob] = await stage.two(t, id, { colorScheme })
    await scan(alice, `${colorScheme} untouched`)
    await bob.type("remarks", "the boiler stays")
    stage.server.freeze()
    await alice.pick("price", "398,500")
    await bob.pick("price", "412,000")
    stage.server.thaw()
    await alice.see(".contested")
    await scan(alice, `${colorScheme} contested`)
    await alice.pick("price", "398,500")
    await bob.sees("price", "398,500", "Alice")
    await alice.ready()
    await scan(alice, `${colorScheme} ready`)
    await bob.type("fixtures", "none")
    await alice.says("Bob changed Fixtures included")
    await scan(alice, `${colorScheme} lapsed`)
    await alice.ready()
    await bob.ready()
    await alice.see(".dock.agreed")
    await scan(alice, `${colorScheme} agreed`)
    await alice.page.click(".moment >> nth=1")
    await alice.says("As it was")
    await scan(alice, `${colorScheme} past`)
    const vera = await stage.person(t, "vera", { role: "viewer", colorScheme, viewport: { width: 390, height: 844 } })
    await vera.open(id)
    await scan(vera, `${colorScheme} phone viewer`)
    await bob.page.setViewportSize({ width: 390, height: 844 })
    await scan(bob, `${colorScheme} phone`)
    const wide = await bob.page.evaluate(() => document.documentElement.scrollWidth > innerWidth)
    assert.equal(wide, false, "a phone scrolls in one direction only")
    await bob.context.setOffline(true)
    await bob.page.click("[data-field=remarks] .standing .link")
    await bob.see("[data-saved=false]")
    await scan(bob, `${colorScheme} offline`)
    await bob.context.setOffline(false)
    await vera.tab(`${stage.server.url}/`)
    await scan(vera, `${colorScheme} start`)
    await vera.tab(`${stage.server.url}/t/${id}`)
    await vera.see("form")
    await scan(vera, `${colorScheme} name`)
  })
}

// scan lets axe-core look at a page in all its rules, WCAG AA among them.
async function scan(person, name) {
  const only = rules[name.split(" ")[0]]
  await person.page.evaluate(() => Promise.all(document.getAnimations().map(a => a.finished)))
  await person.page.evaluate(axe)
  const { violations } = await person.page.evaluate(
    only => window.axe.run({ resultTypes: ["violations"], ...(only && { runOnly: only }) }), only)
  await person.picture(name.replaceAll(" ", "-"))
  const found = violations.map(v => `${v.id}: ${v.help}: ${v.nodes.map(n => n.html.slice(0, 120)).join(" | ")}`)
  assert.deepEqual(found, [], name)
}

test("a token opens it, is taken out of the address, and is in no log", async t => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "parley-keys-"))
  const key = path.join(folder, "key.pem")
  parley("token", "--new-key", key)
  const token = (user, role) => parley("token", "--key", key, "--user", user, "--role", role, "--transactions", "*").trim()
  const server = new Server("--keys", `${key}.jwks.json`)
  await server.start()
  t.after(async () => {
    await server.kill()
    for (const dir of [folder, server.data]) fs.rmSync(dir, { recursive: true, force: true })
  })
  const answer = await fetch(`${server.url}/v1/transactions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token("holly", "host")}` },
    body: JSON.stringify({ id: "deal", fields: { price: { label: "Price", required: true, options: {} } }, parties: ["alice"] }),
  })
  assert.equal(answer.status, 201)

  const alice = await stage.person(t, "alice")
  const hers = token("alice", "party")
  await alice.tab(`${server.url}/t/deal?token=${hers}`)
  await alice.saved()
  assert.equal(alice.page.url(), `${server.url}/t/deal`)
  await alice.type("price", "100")
  await alice.sees("price", "100", "You")
  await alice.saved()
  await alice.page.reload()
  await alice.sees("price", "100", "You")
  await alice.ready()
  await alice.see(".dock.agreed")
  const [download] = await Promise.all([alice.page.waitForEvent("download"), alice.page.click(".dock .strong")])
  assert.equal(download.suggestedFilename(), "deal.zip")

  await alice.tab(`${server.url}/t/deal`)
  await alice.see("h1:has-text('needs the link')")
  await alice.tab(`${server.url}/t/deal?token=nonsense`)
  await alice.see('[data-state=refused]:has-text("malformed-token")')
  await alice.tab(`${server.url}/`)
  await alice.see("#go")
  await scan(alice, "about")
  const kept = await alice.page.evaluate(async () => {
    const names = await caches.keys()
    const urls = await Promise.all(names.map(async name => (await (await caches.open(name)).keys()).map(r => r.url)))
    return urls.flat().join()
  })
  assert.ok(!server.log.includes(hers.slice(-20)), "the token is in the server's log")
  assert.ok(!kept.includes("token"), `the token is in the cache: ${kept}`)
})
