// Connections, tabs and servers come and go; nothing is lost, and nobody appears twice.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Stage } from "./stage.mjs"

const stage = new Stage()

test("what is picked offline outlives a reload, and is merged", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await alice.kept()
  await alice.context.setOffline(true)
  await alice.pick("price", "398,500")
  await alice.type("remarks", "typed on a train")
  await alice.see("[data-saved=false]")
  await alice.page.reload()
  await alice.sees("price", "398,500", "You")
  await alice.sees("remarks", "typed on a train", "You")
  await alice.see('.connection.bad:has-text("2 changes kept here, not on the server")')
  await alice.says("You can confirm when the server can be reached")
  await bob.type("fixtures", "none")
  await bob.saved()
  await alice.context.setOffline(false)
  await alice.saved()
  for (const person of [alice, bob]) {
    await person.sees("price", "398,500", person === alice ? "You" : "Alice")
    await person.sees("remarks", "typed on a train", person === alice ? "You" : "Alice")
    await person.sees("fixtures", "none", person === bob ? "You" : "Bob")
  }
})

test("that the network is gone is told soon, and what is not on the server", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await alice.pick("price", "398,500")
  await alice.saved()
  const began = Date.now()
  await alice.context.setOffline(true)
  await alice.see('.connection:has-text("Is the network gone?")')
  await alice.pick("price", "412,000")
  await alice.see('.connection:has-text("1 change kept here, not on the server")')
  await alice.see('.connection.bad:has-text("Offline")')
  t.diagnostic(`offline is shown after ${Date.now() - began} ms`)
  await alice.says("You can confirm when the server can be reached")
  await alice.context.setOffline(false)
  await alice.saved()
  await bob.sees("price", "412,000", "Alice")
})

test("the network of this machine is gone, and the server on it is not", async t => {
  const id = await stage.server.transaction()
  const alice = await stage.person(t, "alice")
  await alice.open(id)
  await alice.page.evaluate(() => dispatchEvent(new Event("offline")))
  await alice.see('.connection:has-text("Is the network gone?")')
  await alice.see('.connection.good:has-text("Saved")')
})

test("who has left is still called by name", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await bob.pick("price", "398,500")
  await alice.sees("price", "398,500", "Bob")
  await alice.kept()
  await bob.page.close()
  await alice.see('.person.absent[data-user=bob] .name:text-is("Bob")')
  await alice.page.reload()
  await alice.see('.person.absent[data-user=bob] .name:text-is("Bob")')
  await alice.sees("price", "398,500", "Bob")
})

test("a transaction that was open once opens without a network, in a new tab, and without a server", async t => {
  const id = await stage.server.transaction()
  const alice = await stage.person(t, "alice")
  await alice.open(id)
  await alice.pick("price", "412,000")
  await alice.saved()
  await alice.kept()
  await alice.page.close()
  await stage.server.kill()
  try {
    await alice.tab(alice.address(id))
    await alice.sees("price", "412,000", "You")
    await alice.pick("price", "398,500")
    await alice.see("[data-saved=false]")
  } finally {
    await stage.server.start()
  }
  await alice.saved()
})

test("who closes the tab and opens it again within the grace was never away", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await bob.pick("price", "398,500")
  await alice.sees("price", "398,500", "Bob")
  await bob.ready()
  await alice.see(".person.ready[data-user=bob]")
  const states = await alice.watch("bob")
  await bob.page.close()
  await alice.see(".person.reconnecting[data-user=bob]")
  await bob.open(id)
  await alice.see(".person.online.ready[data-user=bob]")
  await bob.see(".ready-button[aria-pressed=true]")
  assert.deepEqual(await states(), ["online", "reconnecting", "online"])
})

test("one person in three tabs is one participant", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  const states = await alice.watch("bob")
  const first = bob.page
  await bob.open(id)
  const second = bob.page
  await bob.open(id)
  await bob.pick("price", "398,500")
  await alice.sees("price", "398,500", "Bob")
  for (const page of [first, second]) await page.waitForSelector('.card.picked:has-text("398,500")')
  await bob.ready()
  for (const page of [first, second]) await page.waitForSelector(".ready-button[aria-pressed=true]")
  assert.equal(await alice.page.locator(".person").count(), 2)
  await Promise.all([first.close(), second.close()])
  await bob.type("remarks", "still here")
  await alice.sees("remarks", "still here", "Bob")
  assert.deepEqual(await states(), ["online"])
})

test("the server crashes: everybody comes back, and nothing is lost", async t => {
  const id = await stage.server.transaction()
  const [alice, bob] = await stage.two(t, id)
  await alice.pick("price", "398,500")
  await bob.sees("price", "398,500", "Alice")
  await alice.saved()
  await stage.server.kill()
  for (const person of [alice, bob]) await person.see("[data-state=reconnecting]")
  await alice.type("remarks", "by Alice, while it was down")
  await bob.type("fixtures", "by Bob, while it was down")
  await stage.server.start()
  for (const person of [alice, bob]) {
    await person.saved()
    await person.see('[data-field=price] .card.picked:has-text("398,500")')
    await person.see('[data-field=remarks] .card.picked:has-text("while it was down")')
    await person.see('[data-field=fixtures] .card.picked:has-text("while it was down")')
    await person.see(".person.online[data-user=alice]")
    await person.see(".person.online[data-user=bob]")
    assert.equal(await person.page.locator(".person").count(), 2)
  }
  await alice.ready()
  await bob.ready()
  await alice.see(".dock.agreed")
})
