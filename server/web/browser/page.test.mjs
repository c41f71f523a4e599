// The page as such: what it costs, what it keeps secret, and whether everybody can
// read and use it.
import assert from "node:assert/strict"
import { test } from "node:test"
import { scan, Stage } from "./stage.mjs"

const stage = new Stage()

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

for (const colorScheme of ["light", "dark"]) {
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

test("an address that was mistyped says so, and makes nothing", async t => {
  const [here, missing] = [await stage.server.transaction(), "slae-1"]
  const alice = await stage.person(t, "alice")
  await alice.tab(alice.address(missing))
  await alice.see(`h1:has-text("There is no “${missing}” here")`)
  assert.equal(await alice.page.locator(".field, .ready-button, .own").count(), 0, "nothing invites to pick")
  await scan(alice, "missing")
  const answer = await fetch(`${stage.server.url}/v1/transactions/${missing}?user=holly&role=host`)
  assert.equal(answer.status, 404, "it was made by opening it")
  await alice.page.click("#make")
  await alice.saved()
  await alice.see("[data-field=price]")
  await alice.tab(`${stage.server.url}/t/${here}/x?user=alice`)
  await alice.see(`h1:has-text("“${here}/x” is no transaction")`)
  await alice.page.click("text=Go to the start page")
  await alice.see("#alice")
})

test("who waits for a transaction sees it when it is made", async t => {
  const alice = await stage.person(t, "alice")
  await alice.tab(alice.address("sale-late"))
  await alice.see('h1:has-text("There is no “sale-late” here")')
  await stage.server.transaction({ id: "sale-late" })
  await alice.see("[data-field=price]")
})

test("a transaction without fields has nothing to confirm", async t => {
  const id = await stage.server.transaction({ fields: {} })
  const alice = await stage.person(t, "alice")
  await alice.tab(alice.address(id))
  await alice.see('.empty:has-text("a host has to write the fields")')
  await alice.says("There is nothing to confirm yet")
  assert.equal(await alice.page.locator(".ready-button").count(), 0)
  await stage.server.transaction({ id, fields: undefined })
  await alice.see("[data-field=price]")
  await alice.see(".ready-button")
})

test("hundreds of fields leave room for one", async t => {
  const one = i => [`f${i}`, { label: `A rather long name of the field that is number ${i}`, required: true, options: {} }]
  const id = await stage.server.transaction({ fields: Object.fromEntries(Array.from({ length: 200 }, (_, i) => one(i))) })
  const alice = await stage.person(t, "alice", { viewport: { width: 360, height: 740 } })
  await alice.open(id)
  await alice.says("and 197 more")
  await alice.see('.moment:has-text("and 197 more")')
  const dock = await alice.page.locator(".dock").boundingBox()
  const strip = await alice.page.locator(".strip").boundingBox()
  assert.ok(dock.height + strip.height < 370, `${dock.height} and ${strip.height} of 740 pixels are taken`)
  await alice.page.click("text=Show it")
  await alice.see("[data-field=f0] h2:focus")
})

const odd = {
  text: { label: "x".repeat(300), required: false, options: { long: { value: "y".repeat(2000), source: "z".repeat(300) } } },
  alike: { label: "Alike", required: false, options: { number: { value: 100 }, text: { value: "100" }, yes: { value: true }, word: { value: "yes" }, none: { value: "" } } },
  shape: { label: "Shape", required: false, options: { list: { value: ["one"] }, word: { value: "one" }, object: { value: {} }, deep: { value: { a: [1, { b: null }] } }, big: { value: 1e21 } } },
  turned: { label: "السعر 👩🏽‍⚖️", required: false, options: { hidden: { value: "\u202egpj.exe" }, hebrew: { value: "שלום 123" }, code: { value: "<img src=x onerror=alert(1)>" } } },
}

test("values of all kinds are told apart, and break nothing", async t => {
  const fields = structuredClone(odd)
  for (const field of Object.values(fields)) for (const option of Object.values(field.options)) option.source ??= "a letter"
  const id = await stage.server.transaction({ fields })
  const alice = await stage.person(t, "alice", { viewport: { width: 360, height: 740 } })
  await alice.open(id)
  const shown = await alice.page.$$eval("button.card", cards => cards.map(c => c.dataset.field ?? c.querySelector(".value").innerText))
  for (const value of ["100", "“100”", "yes", "“yes”", "“”", "one", "an empty object", "[U+202E]gpj.exe", "<img src=x onerror=alert(1)>"]) {
    assert.ok(shown.includes(value), `${value} is not among ${shown.slice(1).join(" | ")}`)
  }
  assert.equal(await alice.page.locator("[data-field=shape] .item").count(), 1, "a list of one is a list")
  const wide = await alice.page.evaluate(() => document.documentElement.scrollWidth > innerWidth)
  assert.equal(wide, false, "a phone scrolls in one direction only")
  await scan(alice, "odd")
})

test("on paper there is what was agreed, and nothing to press", async t => {
  const id = await stage.server.transaction({ parties: ["alice"] })
  const alice = await stage.person(t, "alice", { colorScheme: "dark" })
  await alice.open(id)
  await alice.pick("price", "398,500")
  await alice.ready()
  await alice.see(".dock.agreed")
  await alice.page.emulateMedia({ media: "print" })
  for (const hidden of [".own", ".dock button", ".standing .link", ".record", "input[type=range]"]) {
    assert.equal(await alice.page.locator(hidden).first().isVisible(), false, `${hidden} is on paper`)
  }
  assert.ok(await alice.page.isVisible('.dock .title:has-text("Agreed by you")'))
  assert.match(await alice.page.innerText(".paper"), /As it was on \d+ \w+ \d{4}, .* “you” are Alice/)
  const ground = await alice.page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  assert.equal(ground, "rgb(255, 255, 255)")
})
