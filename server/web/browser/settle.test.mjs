// Two people settle a sale, as people do.
import assert from "node:assert/strict"
import fs from "node:fs"
import path from "node:path"
import { test } from "node:test"
import { parley, parleyRuns, Stage } from "./stage.mjs"

const stage = new Stage()

test("two people pick, confirm, lapse, agree, and take the record home", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)

  await alice.says("Nothing is picked yet for Price")
  await alice.pick("price", "398,500")
  await bob.sees("price", "398,500", "Alice")
  await bob.type("remarks", "the boiler stays")
  await alice.sees("remarks", "the boiler stays", "Bob")

  await alice.ready()
  await bob.see(".person.ready[data-user=alice]")
  await bob.pick("price", "412,000")
  await alice.says("You are not ready any more: Bob changed Price.")
  await alice.sees("price", "412,000", "Bob")
  await alice.see('#news:has-text("Bob changed Price")', { state: "attached" })

  await alice.ready()
  await bob.ready()
  for (const person of [alice, bob]) await person.see(".dock.agreed")
  await bob.says("Agreed by Alice and you")

  await t.test("the record is verified", async t => {
    const [download] = await Promise.all([alice.page.waitForEvent("download"), alice.page.click(".dock .strong")])
    assert.equal(download.suggestedFilename(), `${id}.zip`)
    const [key] = await Promise.all([alice.page.waitForEvent("download"), alice.page.click("text=Save the key")])
    assert.equal(key.suggestedFilename(), "parley.pub")
    const folder = fs.mkdtempSync(path.join(stage.server.data, "record-"))
    const [zip, pub] = [path.join(folder, "record.zip"), path.join(folder, "parley.pub")]
    await download.saveAs(zip)
    await key.saveAs(pub)
    const said = parley("verify", zip, "--key", pub)
    assert.match(said, /the record holds/)
    assert.match(said, /agreed by alice and bob/)
    const bytes = fs.readFileSync(zip)
    bytes[bytes.length >> 1] ^= 1
    fs.writeFileSync(zip, bytes)
    assert.notEqual((await parleyRuns("verify", zip, "--key", pub)).code, 0)
  })

  await t.test("a change opens it again", async () => {
    await bob.page.click('[data-field=remarks] .standing .link')
    await alice.gone(".dock.agreed")
    await alice.says("Bob changed Remarks")
  })
})

test("what two pick without seeing each other is contested until one settles it", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  stage.server.freeze()
  await alice.pick("price", "398,500")
  await bob.type("price", "405000")
  await bob.sees("price", "405,000", "You")
  await alice.sees("price", "398,500", "You")
  await alice.see("[data-saved=false]")
  stage.server.thaw()
  for (const person of [alice, bob]) {
    await person.see(".contested[data-field=price]")
    await person.says("Price is contested")
    assert.equal(await person.page.locator("[data-field=price] .card.picked").count(), 2)
    assert.equal(await person.page.getAttribute(".ready-button", "aria-disabled"), "true")
  }
  await alice.see('#news:has-text("contested")', { state: "attached" })
  await bob.pick("price", "398,500")
  for (const person of [alice, bob]) await person.gone(".contested")
  await alice.sees("price", "398,500", "Bob")
  await alice.see(".ready-button[aria-disabled=false]")
})

test("a viewer sees it live, and can change nothing", async t => {
  const id = await stage.server.transaction({ parties: ["alice"] })
  const alice = await stage.person(t, "alice")
  const vera = await stage.person(t, "vera", { role: "viewer" })
  await Promise.all([alice.open(id), vera.open(id)])
  await alice.pick("price", "398,500")
  await vera.sees("price", "398,500", "Alice")
  await vera.says("only parties confirm")
  await alice.ready()
  await vera.says("Agreed by Alice")
  assert.equal(await vera.page.locator("main button, main input, .dock button").count(), 0)
  assert.equal(await vera.page.locator("text=Download the record").count(), 0)
})

test("the keyboard is enough", async t => {
  const id = await stage.server.transaction({ parties: ["alice"] })
  const alice = await stage.person(t, "alice")
  await alice.open(id)
  const { keyboard } = alice.page
  const reach = async selector => {
    for (let i = 0; i < 40; i++) {
      await keyboard.press("Tab")
      if (await alice.page.evaluate(s => document.activeElement?.matches(s), selector)) return
    }
    assert.fail(`${selector} is not reached by Tab`)
  }
  await reach(".skip")
  await keyboard.press("Enter")
  await reach(".ready-button")
  await alice.page.focus(".skip")
  await reach(alice.card("price", "398,500"))
  await keyboard.press("Enter")
  await alice.sees("price", "398,500", "You")
  await reach("[data-field=remarks] input")
  await alice.see('.person[data-user=alice]:has-text("at Remarks")')
  await keyboard.type("[1, 2]")
  await alice.see('[data-field=remarks] .source:has-text("a list of 2")')
  await keyboard.press("Enter")
  await alice.sees("remarks", "1", "You")
  await alice.see(".ready-button[aria-disabled=false]")
  await reach(".ready-button")
  await keyboard.press("Space")
  await alice.see(".dock.agreed")
  await keyboard.press("Shift+Tab")
})

test("the slider goes through the history and back", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await alice.pick("price", "398,500")
  await bob.sees("price", "398,500", "Alice")
  const length = () => Number(document.querySelector("input[type=range]")?.max ?? 0)
  const before = await alice.page.evaluate(length)
  await bob.pick("price", "412,000")
  await alice.sees("price", "412,000", "Bob")
  while ((await alice.page.evaluate(length)) <= before) await alice.page.waitForTimeout(20) // the history follows what is shown
  await alice.page.focus("input[type=range]")
  await alice.page.keyboard.press("ArrowLeft")
  await alice.says("As it was")
  await alice.sees("price", "398,500", "You")
  assert.equal(await alice.page.locator("main button").count(), 0, "the past cannot be changed")
  await bob.type("remarks", "as agreed")
  await alice.see('.moment:has-text("as agreed")')
  await alice.says("You picked 398,500 for Price")
  await alice.page.keyboard.press("ArrowLeft")
  await alice.see('[data-field=price]:has-text("Nothing is picked yet")')
  await alice.page.click("text=Back to now")
  await alice.sees("price", "412,000", "Bob")
  await alice.sees("remarks", "as agreed", "Bob")
})

test("agreements are in the history, and can be gone back to", async t => {
  const id = await stage.server.transaction({ parties: ["alice"] })
  const [alice, bob] = await stage.two(t, id)
  await alice.pick("price", "398,500")
  await alice.ready()
  await bob.see('.moment.agreement:has-text("Agreed by Alice")')
  await bob.pick("price", "412,000")
  await alice.sees("price", "412,000", "Bob")
  await alice.ready()
  for (const person of [alice, bob]) {
    await person.see(".dock.agreed")
    await person.see(".agreement >> nth=1")
    assert.equal(await person.page.locator(".marks circle").count(), 2)
  }
  await alice.page.click(".agreement >> nth=1")
  await alice.says("As it was agreed")
  await alice.sees("price", "398,500", "You")
  await alice.page.click("text=Back to now")
  await alice.sees("price", "412,000", "Bob")
  await alice.page.focus("input[type=range]")
  for (let i = 0; i < 2; i++) await alice.page.keyboard.press("ArrowLeft") // the pick after the first agreement, and it
  await alice.says("As it was agreed")
  await alice.page.reload()
  await alice.see(".agreement >> nth=1")
})

test("what the server refuses is undone, and said", async t => {
  const id = await stage.server.transaction({ parties: ["bob"], policy: "lock" })
  const [alice, bob] = await stage.two(t, id)
  await bob.pick("price", "412,000")
  await alice.sees("price", "412,000", "Bob")
  await alice.context.setOffline(true)
  await alice.pick("price", "398,500")
  await alice.see("[data-saved=false]")
  await bob.ready()
  await bob.says("It is final")
  assert.equal(await bob.page.locator("main button").count(), 0)
  await alice.context.setOffline(false)
  await alice.see('.notice[data-code=sealed]:has-text("You picked 398,500 for Price")')
  await alice.sees("price", "412,000", "Bob")
  await alice.picture("refused")
  await alice.page.click('.notice [aria-label="Dismiss"]')
  await alice.gone(".notice")
})
