// People in a transaction: plain automerge-repo clients that speak Parley's own
// messages, as sync/PROTOCOL.md has them.
import assert from "node:assert/strict"
import * as A from "@automerge/automerge"
import { client, joined, until } from "./client.mjs"

const fields = {
  price: { label: "Price", required: true, options: { a: { value: 100, source: "seller.pdf" } } },
  date: { label: "Date", required: false, options: {} },
}

const transactionsOf = server => `${server.url.replace(/^ws/, "http")}/v1/transactions`

let transactions = 0

// open makes a transaction as its host does, and returns its id and URL.
export async function open(server, settings = {}) {
  const id = `room-${process.pid}-${++transactions}`
  const { url } = await post(server, { id, fields, ...settings }, 201)
  return { id, url }
}

// post sends what a host wants of a transaction, and expects a status.
export async function post(server, body, status = 200) {
  const answer = await fetch(`${transactionsOf(server)}?user=holly&role=host`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  })
  const text = await answer.text()
  assert.equal(answer.status, status, text)
  return JSON.parse(text)
}

// get returns a transaction as the server shows it.
export async function get(server, { id }) {
  const answer = await fetch(`${transactionsOf(server)}/${id}`)
  assert.equal(answer.status, 200)
  return answer.json()
}

// as is the address at which a server in --dev takes somebody for a user.
export const as = (server, user, { role = "party", name = "" } = {}) =>
  `${server.url}?${new URLSearchParams({ user, role, name })}`

// join opens a transaction as a user, who is a party unless it is said otherwise.
export async function join(t, server, { url }, user, who = {}) {
  const c = client(t, server, { url: who.url ?? as(server, user, who), ...who.repo })
  const serverId = await joined(c)
  const handle = await c.find(url)
  const said = []
  handle.on("ephemeral-message", ({ senderId, message }) => {
    if (senderId === serverId && message?.parley) said.push(message.parley)
  })
  const person = { ...c, user, handle, said }
  await until(`${user} sees the roster`, () => roster(person))
  return person
}

const of = kind => ({ said }) => said.filter(m => m.t === kind)
export const [rosters, rejections, resolutions, lapses, pongs] =
  ["roster", "rejected", "resolved", "lapsed", "pong"].map(of)

// roster is the newest that somebody was told.
export const roster = person => rosters(person).at(-1)

// seen is what somebody was told last of a user; undefined if the user is not here.
export const seen = (person, user) => roster(person)?.participants.find(p => p.user === user)

// say sends one of Parley's messages.
export const say = ({ handle }, message) => handle.broadcast({ parley: message })

export const heads = ({ handle }) => A.getHeads(handle.doc())

export const ready = person => say(person, { t: "ready", heads: heads(person) })

export const pick = ({ handle, user }, field, value) =>
  handle.change(doc => (doc.selections[field] = { value, by: user, at: Date.now() }))

const same = (a, b) => [...a].sort().join() === [...b].sort().join()

// agreed waits until people have the same document, and know that it is the server's.
export const agreed = (...people) =>
  until("all have what the server has", () =>
    people.every(p => same(heads(p), heads(people[0])) && same(heads(p), roster(p).heads))
  )

// picked waits until a value is with the server and with everybody.
export async function picked(person, field, value, ...others) {
  pick(person, field, value)
  const [change] = heads(person)
  await until("the pick is everywhere", () =>
    [person, ...others].every(p => A.hasHeads(p.handle.doc(), [change]) && same(heads(p), roster(p).heads))
  )
}

// readied makes people ready one after the other, each seen by all of them.
export async function readied(...people) {
  for (const person of people) {
    ready(person)
    await until(`all see ${person.user} ready`, () => people.every(p => seen(p, person.user)?.ready))
  }
}
