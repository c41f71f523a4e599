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

type Shared = import("../react/index.js").SharedConflictResolution
type Options = import("../react/index.js").TransactionOptions
type Element = Parameters<ReturnType<typeof createRoot>["render"]>[0]

const server = useServer()

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
