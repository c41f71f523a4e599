// People who pick, dispute, settle and agree.
import assert from "node:assert/strict"
import { test } from "node:test"
import { documentUrl, NotReadyError, PickError, type Value } from "../client/index.js"
import { agreed, arrived, fields, host, join, newId, seen, until, value } from "./room.js"
import { useServer } from "./server.js"

const server = useServer()

test("two parties pick apart, settle, and agree", async t => {
  const id = await host(server, { parties: ["alice", "bob"] })
  const [alice, bob] = [join(t, server, id, "alice", { name: "Alice" }), join(t, server, id, "bob")]
  await arrived(alice, bob)
  await until(alice, "both are here", s => s.participants.length === 2)
  assert.equal(alice.getState().me.name, "Alice")
  assert.deepEqual(alice.getState().needed, ["alice", "bob"])
  assert.deepEqual(alice.getState().missing, ["price"])
  assert.deepEqual(alice.getState().fields.map(f => f.name), Object.keys(fields))
  assert.equal(alice.getState().readiness.why?.code, "incomplete")

  // In one go, so that neither knows of the other's.
  const [pickOfAlice] = await Promise.all([alice.pickOption("price", "a"), bob.pick("price", 110)])
  await agreed(alice, bob)
  await until(alice, "it is contested", s => s.contested.includes("price"))
  const disputed = alice.getState().selections.price!
  assert.deepEqual(disputed, bob.getState().selections.price)
  assert.deepEqual(disputed.picks.map(p => p.by).sort(), ["alice", "bob"])
  assert.equal(disputed.picks.find(p => p.by === "alice")!.option, "a")
  assert.equal(alice.getState().readiness.why?.code, "contested")
  await assert.rejects(alice.ready(), (e: NotReadyError) => e.code === "contested" && e.fields[0] === "price")
  assert.equal(alice.getState().readiness.refused?.code, "contested")

  await bob.pick("price", 105)
  await agreed(alice, bob)
  assert.equal(value(alice, "price"), 105)
  assert.deepEqual(alice.getState().contested, [])

  await alice.ready(alice.getState())
  assert.ok(alice.getState().readiness.ready)
  await until(bob, "bob sees alice ready", s => seen(s, "alice")?.ready)
  await bob.pick("date", "1 Dec")
  const lapsed = await until(alice, "alice's readiness lapses", s => s.lapses.length > 0)
  assert.equal(lapsed.lapses.length, 1)
  assert.equal(lapsed.lapses[0]!.user, "alice")
  assert.deepEqual([lapsed.lapses[0]!.because?.field, lapsed.lapses[0]!.because?.user], ["date", "bob"])
  assert.ok(!lapsed.readiness.ready)

  await agreed(alice, bob)
  await Promise.all([alice.ready(), bob.ready()])
  const resolved = await until(alice, "they have agreed", s => s.resolution)
  assert.deepEqual(resolved.resolution!.parties, ["alice", "bob"])
  assert.deepEqual(resolved.resolution!.heads, resolved.heads)
  assert.equal(resolved.resolutions.length, 1)
  assert.ok(resolved.resolution!.checkpoint.length > 0)

  const history = alice.history().filter(e => e.kind === "picked")
  assert.deepEqual(history, bob.history().filter(e => e.kind === "picked"))
  assert.deepEqual(history.map(e => e.pick!.value).sort(), [100, 105, 110, "1 Dec"].sort())
  assert.deepEqual([...new Set(alice.history().map(e => e.kind))].sort(), ["field-set", "picked"])
  const then = alice.at([pickOfAlice])!
  assert.equal(then.selections.price!.winner.value, 100)
  assert.deepEqual(then.contested, [])
  assert.equal(alice.at(["0".repeat(64)]), undefined)
  assert.deepEqual(alice.at(disputedHeads(alice, bob))?.contested, ["price"])
})

// The two first picks.
function disputedHeads(...[alice]: [ReturnType<typeof join>, ...unknown[]]): string[] {
  return alice.history().filter(e => e.kind === "picked").slice(0, 2).map(e => e.change)
}

test("picks in one go are one change, and ready goes with them", async t => {
  const id = await host(server, { parties: ["alice"] })
  const alice = join(t, server, id, "alice")
  await arrived(alice)
  const changes = Promise.all([alice.pick("price", 1), alice.pick("price", 2), alice.pick("date", { day: 1, of: ["Dec"] })])
  const done = alice.ready()
  assert.equal(new Set(await changes).size, 1)
  await done
  const state = await until(alice, "agreed alone", s => s.resolution)
  assert.equal(state.selections.price!.winner.value, 2)
  assert.deepEqual(state.selections.date!.winner.value, { day: 1, of: ["Dec"] })
  assert.equal(alice.history().filter(e => e.kind === "picked").length, 2)
})

test("withdrawing, and what cannot be picked", async t => {
  const id = await host(server)
  const alice = join(t, server, id, "alice")
  await arrived(alice)
  await alice.pickOption("price", "b")
  await alice.withdraw("price")
  assert.deepEqual(alice.getState().missing, ["price"])
  assert.deepEqual(alice.history().map(e => e.kind).slice(-2), ["picked", "withdrawn"])
  assert.equal(alice.history().at(-1)!.user, "alice")
  assert.throws(() => alice.withdraw("price"), PickError)
  assert.throws(() => alice.pickOption("price", "c"), PickError)
  assert.throws(() => alice.pick("", 1), PickError)
  assert.throws(() => alice.pick("price", "x".repeat(70_000)), PickError)
  assert.throws(() => alice.pick("price", undefined as never), PickError)
  const vera = join(t, server, id, "vera", { role: "viewer" })
  await arrived(vera)
  assert.throws(() => vera.pick("price", 1), (e: PickError) => e.code === "read-only")
  assert.equal(vera.getState().readiness.why?.code, "not-a-party")
})

test("what is shown are the same objects until they change", async t => {
  const id = await host(server)
  const [alice, bob] = [join(t, server, id, "alice"), join(t, server, id, "bob")]
  await arrived(alice, bob)
  await alice.pick("price", 1)
  await agreed(alice, bob)
  const before = await until(alice, "both are here", s => s.participants.length === 2)
  assert.equal(alice.getState(), before)
  assert.ok(Object.isFrozen(before) && Object.isFrozen(before.selections.price!.winner))
  bob.focus("price")
  const after = await until(alice, "bob is at a field", s => seen(s, "bob")?.focus === "price")
  assert.notEqual(after, before)
  assert.equal(after.selections, before.selections)
  assert.equal(after.fields, before.fields)
})

test("who comes, goes and is lost", async t => {
  const id = await host(server)
  const [alice, bob] = [join(t, server, id, "alice"), join(t, server, id, "bob")]
  await arrived(alice, bob)
  const again = join(t, server, id, "bob")
  const two = await until(alice, "bob is here once, with two tabs", s => seen(s, "bob")?.connections === 2)
  assert.equal(two.participants.length, 2)
  assert.ok(!two.otherPartyDisconnected)
  assert.ok((await until(alice, "the round trip is known", s => s.roundTrip !== null)).roundTrip! < 5_000)
  await again.close()
  await until(alice, "one tab is closed", s => seen(s, "bob")?.connections === 1)
  bob.leave()
  await until(alice, "bob has left", s => !seen(s, "bob") && s.otherPartyDisconnected)
  assert.equal((await until(bob, "bob knows it", s => !s.me.participant)).me.role, "party")
  bob.focus("price")
  await until(alice, "bob is back", s => seen(s, "bob") && !s.otherPartyDisconnected)
  await bob.close()
  await until(alice, "bob has gone at once", s => !seen(s, "bob"))
  assert.equal(bob.getState().connection.state, "offline")
})

test("what is picked comes back as it was, now and in the history", async t => {
  const id = await host(server)
  const [alice, bob] = [join(t, server, id, "alice"), join(t, server, id, "bob")]
  await arrived(alice, bob)
  const values: Value[] = [
    null, true, 0, -1, 1.5, 2 ** 40, "", "text", "ünï \u{1f600}", [], {}, [1, [2, "3"], null], { a: { b: [{ c: null }] }, "": "x" },
  ]
  for (const picked of values) await alice.pick("date", picked)
  await agreed(alice, bob)
  const picks = bob.history().filter(e => e.kind === "picked")
  assert.deepEqual(picks.map(e => e.pick!.value), values)
  assert.deepEqual(picks.map(e => [e.pick!.by, e.pick!.option, e.at === e.pick!.at]), values.map(() => ["alice", null, true]))
  assert.deepEqual(bob.history(), alice.history())
  for (const { change, pick } of picks) assert.deepEqual(bob.at([change])!.selections.date!.winner, pick)
})

test("the document is the server's", async t => {
  const id = newId()
  const answer = await fetch(`${server.url.replace(/^ws/, "http")}/v1/transactions?user=holly&role=host`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id, fields: {} }),
  })
  assert.equal(((await answer.json()) as { url: string }).url, documentUrl(id))
  assert.equal(join(t, server, id, "alice").url, documentUrl(id))
})
