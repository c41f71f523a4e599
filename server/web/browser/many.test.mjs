// A transaction of hundreds of fields is there in a moment, and the page can be used
// while the rest of it is drawn.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Stage } from "./stage.mjs"

const stage = new Stage()

const count = 500
const tries = 3 // what is slow is slow each time; the machine may be busy

/** What the page's main thread may take, in ms on the processor: for all, and for one task. */
const most = { opening: { all: 2000, one: 500 }, picking: { all: 400, one: 60 } }

const name = n => `term-${String(n).padStart(3, "0")}`

const fields = Object.fromEntries(Array.from({ length: count }, (_, n) => [name(n), {
  label: `Term ${n}`, required: n === count - 1, options: { a: { value: 2 * n, source: "page 1" }, b: { value: 2 * n + 1, source: "page 2" } },
}]))

const drawn = n => document.getElementsByClassName("field").length >= n

/** opened waits until somebody's page has all fields. */
async function opened(person, id) {
  await person.tab(person.address(id))
  await person.page.waitForFunction(drawn, count, { polling: 100 })
  await person.saved()
}

/** press picks as a user does, and waits until it is shown and saved. */
async function press(person, field, value) {
  await person.page.evaluate(card => document.querySelector(card).click(), person.card(field, value))
  await person.page.waitForFunction(card => document.querySelector(card).ariaPressed === "true", person.card(field, value))
  await person.saved()
}

test(`${count} fields are shown, and picked on, in a moment`, async t => {
  const id = await stage.server.transaction({ fields })
  for (let left = tries; ; left--) {
    const alice = await stage.person(t, `alice${left}`)
    const opening = await stage.traced(() => opened(alice, id))
    const picking = await stage.traced(() => press(alice, name(left), 2 * left))
    const good = [judge(t, "opening", opening), judge(t, "picking", picking)].every(Boolean)
    await alice.context.close()
    if (good) break
    assert.ok(left > 1, "it took longer each time")
  }
})

/** judge says whether tasks took no longer than they may. */
function judge(t, what, tasks) {
  const all = tasks.reduce((sum, ms) => sum + ms, 0)
  t.diagnostic(`${what}: ${all.toFixed()} ms, the longest tasks ${tasks.slice(0, 5).map(ms => ms.toFixed()).join(", ")}`)
  assert.ok(tasks.length > 10, "there is a trace")
  return all <= most[what].all && tasks[0] <= most[what].one
}

test("what is not drawn or laid out yet is there for paper, for the keyboard, and for who is led to it", async t => {
  const id = await stage.server.transaction({ fields })
  const alice = await stage.person(t, "alice")
  await alice.context.addInitScript(printAtFirst)
  await alice.open(id)
  const [before, printed] = await alice.page.evaluate(() => window.printed)
  assert.ok(before < count, `${before} fields were drawn in one go`)
  assert.equal(printed, count)

  const [first, second] = [alice.card(name(300), 600), alice.card(name(300), 601)]
  await alice.page.focus(first)
  await alice.page.keyboard.press("Enter")
  await alice.sees(name(300), "600", "You")
  await alice.page.keyboard.press("Tab")
  await alice.page.waitForFunction(card => document.activeElement === document.querySelector(card), second)
  await alice.page.waitForFunction(inSight, second)

  await alice.page.click(".dock .link")
  const last = `[data-field=${name(count - 1)}] h2`
  await alice.page.waitForFunction(heading => document.activeElement === document.querySelector(heading), last)
  await alice.page.waitForFunction(inSight, last)
})

// printAtFirst prints as soon as there is a field, and notes how many there were and are then.
function printAtFirst() {
  window.printed = new Promise(done => {
    new MutationObserver((_, observer) => {
      const before = document.getElementsByClassName("field").length
      if (before === 0) return
      observer.disconnect()
      dispatchEvent(new Event("beforeprint"))
      queueMicrotask(() => done([before, document.getElementsByClassName("field").length]))
    }).observe(document, { subtree: true, childList: true })
  })
}

function inSight(selector) {
  const { top, bottom } = document.querySelector(selector).getBoundingClientRect()
  return top >= 0 && bottom <= document.querySelector(".dock").getBoundingClientRect().top
}
