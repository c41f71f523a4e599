// The hooks in a page, in whichever React is imported.
import assert from "node:assert/strict"
import { test } from "node:test"
import { JSDOM } from "jsdom"

const page = new JSDOM("<!doctype html><body></body>", { url: "http://localhost/" })
for (const name of ["window", "document", "navigator"] as const) {
  Object.defineProperty(globalThis, name, { value: page.window[name], configurable: true })
}

const { createElement: h, StrictMode, version } = await import("react")
const { createRoot } = await import("react-dom/client")
const { renderToString } = await import("react-dom/server")
const { useConnection, useField, useHistory, useParticipants, useReadiness, useSharedConflictResolution, useTransaction } =
  await import("../react/index.js")
const { open } = await import("../client/index.js")
const { agreed, arrived, host, join, newId, seen, until, value } = await import("./room.js")
const { useServer } = await import("./server.js")
const { keys, spoiled, token } = await import("./tokens.js")

type Shared = import("../react/index.js").SharedConflictResolution
type Options = import("../react/index.js").TransactionOptions
type Element = Parameters<ReturnType<typeof createRoot>["render"]>[0]

const server = useServer()
const strict = useServer("--keys", keys)

test(`this is React ${process.env.REACT}`, () => assert.equal(version.split(".")[0], process.env.REACT))

// show renders an element until the test ends.
function show(t: import("node:test").TestContext, element: Element) {
  const root = createRoot(document.body.appendChild(document.createElement("div")))
  root.render(element)
  let shown = true
  const unmount = () => {
    if (shown) root.unmount()
    shown = false
  }
  t.after(unmount)
  return { render: (next: Element) => root.render(next), unmount }
}

// eventually waits until check is true, of what was rendered.
async function eventually(what: string, check: () => unknown): Promise<void> {
  const end = Date.now() + 15_000
  while (!check()) {
    if (Date.now() > end) throw new Error(`not within 15 s: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

// Everything is in a component that hands what its last render got to the test.
function probe() {
  const last = { renders: 0 } as { renders: number } & Shared
  const Probe = (options: Options) => {
    Object.assign(last, useSharedConflictResolution(options), { renders: last.renders + 1 })
    return h("p", null, String(last.sharedSelections.price ?? "nothing"))
  }
  return { last, Probe }
}

const as = (user: string, transactionId: string): Options => ({ transactionId, server: server.url, user, role: "party" })

test("the old hook's shape, in StrictMode", async t => {
  const id = await host(server, { parties: ["alice", "bob"] })
  const bob = join(t, server, id, "bob")
  const { last, Probe } = probe()
  const { unmount } = show(t, h(StrictMode, null, h(Probe, as("alice", id))))
  await arrived(bob)
  await eventually("both are here", () => last.isConnected && last.participants?.length === 2)
  const { selectField, transaction } = last
  const here = await until(bob, "bob sees alice", s => seen(s, "alice"))
  assert.equal(seen(here, "alice")!.connections, 1)

  selectField("price", 100)
  await until(bob, "bob sees the pick", () => value(bob, "price") === 100)
  await eventually("it is shown", () => last.sharedSelections.price === 100)
  await bob.pick("price", 110)
  await eventually("bob's is shown", () => document.body.textContent!.includes("110"))
  await agreed(bob)
  await eventually("it can be confirmed", () => last.state.readiness.can && last.state.saved)
  last.setReady(true)
  await until(bob, "bob sees alice ready", s => seen(s, "alice")?.ready)
  last.setReady(false)
  await until(bob, "and not ready", s => seen(s, "alice")?.ready === false)
  assert.ok(!last.otherPartyDisconnected)
  bob.leave()
  await eventually("bob has left", () => last.otherPartyDisconnected)
  assert.equal(last.selectField, selectField)
  assert.equal(last.transaction, transaction)
  unmount()
  await until(bob, "alice is gone without a grace", s => !seen(s, "alice"))
})

test("components share one connection, and render for what they read", async t => {
  const id = await host(server)
  const bob = join(t, server, id, "bob")
  const renders = { price: 0, date: 0 }
  const got = {} as Record<string, any>
  const Field = ({ name, options }: { name: "price" | "date"; options: Options }) => {
    const transaction = useTransaction(options)
    renders[name]++
    got[name] = useField(transaction, name)
    return h("p", null, String(got[name].selection?.winner.value))
  }
  const People = ({ options }: { options: Options }) => {
    const transaction = useTransaction(options)
    Object.assign(got, {
      people: useParticipants(transaction), ready: useReadiness(transaction),
      connection: useConnection(transaction), history: useHistory(transaction),
    })
    return null
  }
  const App = () => {
    const options = { ...as("alice", id), token: undefined } // new in each render
    return h("div", null, h(Field, { name: "price", options }), h(Field, { name: "date", options }), h(People, { options }))
  }
  show(t, h(App))
  await arrived(bob)
  await eventually("it is all here", () => got.connection?.isConnected && got.people.participants.length === 2 && got.price.field)
  const here = await until(bob, "bob sees alice", s => seen(s, "alice"))
  assert.equal(seen(here, "alice")!.connections, 1)
  assert.equal(got.ready.why.code, "incomplete")
  await agreed(bob)

  const before = renders.date
  await bob.pickOption("price", "a")
  await eventually("bob's pick is shown", () => got.price.selection?.winner.by === "bob" && got.history.at(-1).field === "price")
  assert.equal(renders.date, before)
  await got.date.pick("1 Dec")
  await eventually("alice's pick is everywhere", () => value(bob, "date") === "1 Dec" && got.connection.saved)
  got.date.focus()
  await until(bob, "bob sees where alice is", s => seen(s, "alice")?.focus === "date")
  bob.focus("price")
  await eventually("alice sees where bob is", () => got.price.others[0]?.user === "bob")
  await agreed(bob)
  await got.ready.confirm()
  await eventually("alice is ready", () => got.ready.ready)
  await bob.pick("price", 2)
  await eventually("a change undoes it", () => !got.ready.ready && got.ready.lapses.length === 1)
})

test("another transaction is another", async t => {
  const [one, two] = [await host(server), await host(server)]
  const [bobOne, bobTwo] = [join(t, server, one, "bob"), join(t, server, two, "bob")]
  await arrived(bobOne, bobTwo)
  const { last, Probe } = probe()
  const { render } = show(t, h(Probe, as("alice", one)))
  await until(bobOne, "alice is here", s => seen(s, "alice"))
  last.selectField("price", 1)
  await until(bobOne, "she picks here", () => value(bobOne, "price") === 1)
  render(h(Probe, as("alice", two)))
  await until(bobTwo, "alice is there", s => seen(s, "alice"))
  await until(bobOne, "and no longer here", s => !seen(s, "alice"))
  assert.deepEqual(last.sharedSelections, {})
  last.selectField("price", 2)
  await until(bobTwo, "she picks there", () => value(bobTwo, "price") === 2)
  assert.equal(value(bobOne, "price"), 1)
})

test("in StrictMode, too, another transaction is another, and nothing of the first is left", async t => {
  const [one, two] = [await host(server), await host(server)]
  const [bobOne, bobTwo] = [join(t, server, one, "bob"), join(t, server, two, "bob")]
  await arrived(bobOne, bobTwo)
  const { last, Probe } = probe()
  const { render, unmount } = show(t, h(StrictMode, null, h(Probe, as("alice", one))))
  await until(bobOne, "alice is here", s => seen(s, "alice"))
  const { selectField: pickInOne } = last
  for (const id of [two, one, two]) render(h(StrictMode, null, h(Probe, as("alice", id))))
  const there = await until(bobTwo, "alice is there", s => seen(s, "alice"))
  assert.equal(seen(there, "alice")!.connections, 1)
  await until(bobOne, "and no longer here", s => !seen(s, "alice"))
  assert.notEqual(last.selectField, pickInOne)
  await eventually("it is the other", () => last.state.id === two && last.isConnected)
  last.selectField("price", 2)
  await until(bobTwo, "she picks there", () => value(bobTwo, "price") === 2)
  assert.equal(value(bobOne, "price"), undefined)
  unmount()
  await until(bobTwo, "alice is gone", s => !seen(s, "alice"))
})

test("picks of one event are one change, and what a render shows is what is confirmed", async t => {
  const id = await host(server, { parties: ["alice", "bob"] })
  const bob = join(t, server, id, "bob")
  const { last, Probe } = probe()
  show(t, h(StrictMode, null, h(Probe, as("alice", id))))
  await arrived(bob)
  await eventually("alice is here", () => last.isConnected && last.participants.length === 2)
  last.selectField("price", 1)
  last.selectField("date", "1 Dec")
  last.selectField("price", 2)
  await until(bob, "bob has it", () => value(bob, "price") === 2 && value(bob, "date") === "1 Dec")
  const picks = bob.history().filter(e => e.kind === "picked")
  assert.deepEqual(picks.map(e => [e.field, e.pick!.value]).sort(), [["date", "1 Dec"], ["price", 2]])
  assert.equal(new Set(picks.map(e => e.change)).size, 1)
  await eventually("it can be confirmed", () => last.state.readiness.can && last.state.saved)

  const { setReady } = last // of a render that bob's pick makes an old one
  await bob.pick("price", 3)
  await eventually("bob's pick is shown", () => last.sharedSelections.price === 3 && last.state.saved)
  setReady(true)
  await eventually("what was shown then is refused", () => last.state.readiness.refused?.code === "stale")
  assert.notEqual(last.setReady, setReady)
  last.setReady(true)
  await until(bob, "what is shown now is confirmed", s => seen(s, "alice")?.ready)
})

// connections hands what useConnection says to the test.
function connections() {
  const got = {} as import("../react/index.js").ConnectionHook & { renders: number }
  const Look = (options: Options) => {
    Object.assign(got, useConnection(useTransaction(options)), { renders: (got.renders ?? 0) + 1 })
    return null
  }
  return { got, Look }
}

test("a token function may be another in each render: the newest is asked", async t => {
  const id = newId()
  await host(strict, {}, id, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  const { got, Look } = connections()
  const asked: number[] = []
  const App = ({ n }: { n: number }) =>
    h(Look, { transactionId: id, server: strict.url, token: () => { asked.push(n); return token("alice", { jti: String(n) }) } })
  const { render } = show(t, h(StrictMode, null, h(App, { n: 1 })))
  await eventually("alice is in", () => got.isConnected)
  const once = asked.length
  assert.deepEqual([...new Set(asked)], [1])
  const { renders } = got
  render(h(StrictMode, null, h(App, { n: 2 })))
  await eventually("it is rendered again", () => got.renders > renders)
  assert.ok(got.isConnected && asked.length === once, "the connection stays")
  await strict.kill()
  await eventually("it is lost", () => got.state === "reconnecting" && got.reason)
  await strict.start()
  got.reconnect()
  await eventually("alice is back", () => got.isConnected)
  assert.deepEqual([...new Set(asked.slice(once))], [2])
})

test("what the server refuses, and what it does not have, is seen", async t => {
  const id = newId()
  await host(strict, {}, id, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  const { got, Look } = connections()
  const shown = (bearer: string) => h(StrictMode, null, h(Look, { transactionId: id, server: strict.url, token: bearer }))
  const { render } = show(t, shown(spoiled(token("alice"))))
  await eventually("the token is refused", () => got.state === "refused")
  assert.deepEqual([got.code, got.isConnected], [4401, false])
  assert.ok(got.reason)
  render(shown(token("alice")))
  await eventually("the next one is taken", () => got.isConnected && got.saved && got.code === null)

  const none = newId()
  render(h(StrictMode, null, h(Look, { transactionId: none, server: strict.url, token: () => token("alice") })))
  await eventually("the server has no such transaction", () => got.isConnected && got.unavailable)
  await host(strict, {}, none, { Authorization: `Bearer ${token("holly", { role: "host" })}` })
  await eventually("now it has", () => got.isConnected && !got.unavailable && got.saved)
})

test("rendering on a server opens nothing", () => {
  const { last, Probe } = probe()
  assert.equal(renderToString(h(Probe, { ...as("alice", newId()), storage: "indexeddb" })), "<p>nothing</p>")
  assert.equal(last.state.connection.state, "connecting")
  assert.equal(last.state.loaded, false)
})

test("a tab with what the server does not have is not closed without a warning", async t => {
  const closes = () => page.window.dispatchEvent(new page.window.Event("beforeunload", { cancelable: true }))
  const id = await host(server)
  const alice = open(id, { user: "alice" })
  await until(alice, "it is open", s => s.loaded)
  assert.ok(closes())
  await alice.pick("price", 1)
  assert.ok(!closes(), "it warns")
  await alice.close()
  assert.ok(closes())
  const bob = join(t, server, id, "bob")
  await arrived(bob)
  await bob.pick("price", 1)
  await until(bob, "it is saved", s => s.saved)
  assert.ok(closes())
})

test("who looks again does not wait for the next try", async t => {
  for (const [target, event] of [[window, "focus"], [window, "online"], [document, "visibilitychange"]] as const) {
    const alice = open(newId(), { server: "ws://127.0.0.1:1", user: "alice" })
    t.after(() => alice.close())
    await until(alice, "it waits", s => s.connection.tries > 0 && s.connection.nextTry)
    target.dispatchEvent(new page.window.Event(event))
    assert.equal(alice.getState().connection.nextTry, null, event)
    await alice.close()
  }
})
