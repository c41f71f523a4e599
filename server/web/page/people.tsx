// Who is here, and how it stands with the server.
import { useEffect, useState } from "preact/hooks"
import type { Participant, State, Transaction } from "../client"
import { refusalOf } from "./refusal"
import { labelOf, nameOf, spanText, tint } from "./words"

// letterOf is the first letter of a name, without what keeps its direction to itself.
const letterOf = (name: string): string => [...name.replace(/^\u2068/, "")][0]?.toUpperCase() ?? "?"

/** Initial stands for a person beside what the person does. */
export function Initial({ user }: { user: string }) {
  if (user === "") return <span class="initial nobody" aria-hidden="true">·</span>
  return <span class={`initial ${tint(user)}`} aria-hidden="true">{letterOf(nameOf(user))}</span>
}

// How many people are shown at least when there are many; the rest can be asked for.
const atLeast = 4

/** A person of the strip: who is here, or should be. */
interface Person {
  readonly user: string
  readonly participant: Participant | undefined
}

// peopleOf are me, those who must agree, and the others.
function peopleOf({ participants, needed, me }: State): Person[] {
  const users = new Set([...(me.user ? [me.user] : []), ...needed, ...participants.map(p => p.user)])
  return [...users].map(user => ({ user, participant: participants.find(p => p.user === user) }))
}

export function People({ state }: { state: State }) {
  const [all, setAll] = useState(false)
  const people = peopleOf(state)
  const first = Math.max(atLeast, state.needed.length + 1)
  const folded = people.length > first + 2
  const shown = folded && !all ? people.slice(0, first) : people
  return (
    <section class="people" aria-label="Who is here">
      {/* It may scroll, and the keyboard must get there. */}
      <ul tabIndex={0}>
        {shown.map(p => <PersonItem key={p.user} state={state} person={p} />)}
        {folded && (
          <li class="more">
            <button type="button" class="link" aria-expanded={all} onClick={() => setAll(!all)}>{all ? "Show fewer" : `and ${people.length - shown.length} more`}</button>
          </li>
        )}
      </ul>
    </section>
  )
}

function PersonItem({ state, person: { user, participant } }: { state: State; person: Person }) {
  const mine = user === state.me.user
  const standing = participant ? `${participant.state} ${participant.ready && state.pending === 0 ? "ready" : ""}` : "absent"
  const away = mine ? "not connected" : "not here"
  return (
    <li class={`person ${standing}`} data-user={user}>
      <Initial user={user} />
      <span class="called"><span class="name" title={nameOf(user)}>{nameOf(user)}</span>{mine && <span class="quiet"> (you)</span>}</span>
      <span class="doing">{participant ? doing(state, participant) : away}</span>
    </li>
  )
}

function doing(state: State, p: Participant): string {
  if (p.ready && state.pending > 0) return "ready before this"
  if (p.state === "reconnecting") return p.ready ? "ready, reconnecting" : "reconnecting"
  if (p.ready) return "ready"
  if (p.focus !== null) return `at ${labelOf(state, p.focus)}`
  return p.role === "party" ? "looking" : p.role
}

/** Connection says what is true of it now, and of what was picked here. */
export function Connection({ tx, state }: { tx: Transaction; state: State }) {
  const { connection } = state
  const seconds = useSeconds(connection.state === "reconnecting" ? connection.nextTry : null)
  const { title, detail, mood } = words(state, seconds, useDoubt(tx))
  const retry = connection.state === "reconnecting" || connection.state === "refused"
  return (
    <section class={`connection ${mood}`} aria-label="Connection" data-state={connection.state} data-saved={state.saved}>
      <p class="title"><span class="dot" aria-hidden="true" />{title}</p>
      <p class="detail">{detail}</p>
      <button type="button" class={`link ${retry ? "" : "away"}`} onClick={() => tx.reconnect()} disabled={!retry}>Try now</button>
    </section>
  )
}

function words(state: State, seconds: number | null, doubt: boolean): { title: string; detail: string; mood: string } {
  const { connection, saved } = state
  const kept = keptText(state)
  switch (connection.state) {
    case "online":
      if (connection.unavailable) return { title: "Connected", detail: "waiting for the transaction", mood: "waiting" }
      if (doubt) return { title: "Is the network gone?", detail: saved ? "asking the server" : kept, mood: "waiting unsure" }
      if (state.stalled) return { title: "The server cannot save now", detail: stalledText(state), mood: "bad" }
      if (!saved) return { title: "Saving…", detail: `${changes(state)} on the way, kept here`, mood: "waiting" }
      return { title: picks(state) ? "Saved" : "Connected", detail: distance(state), mood: "good" }
    case "connecting":
      return { title: "Connecting…", detail: kept, mood: "waiting" }
    case "reconnecting":
      return { title: seconds === null ? "Offline, trying again…" : `Offline, next try in ${seconds} s`, detail: kept, mood: "bad" }
    case "refused":
      return { title: refusalOf(connection.reason).title, detail: kept, mood: "bad" }
    case "offline":
      return { title: "Offline", detail: kept, mood: "bad" }
  }
}

const picks = ({ me }: State) => me.role === "party" || me.role === "host"

const changes = ({ pending }: State) => `${pending} ${pending === 1 ? "change" : "changes"}`

// keptText says where what was picked here is, as long as the server does not have it.
function keptText(state: State): string {
  if (state.pending === 0) return "nothing is waiting to be sent"
  return `${changes(state)} kept ${state.kept ? "here" : "in this tab only"}, not on the server`
}

function stalledText(state: State): string {
  if (state.pending === 0) return picks(state) ? "what you pick is kept here until it can" : "you see what it has"
  return `${changes(state)} kept ${state.kept ? "here" : "in this tab only"} until it can`
}

function distance(state: State): string {
  const { roundTrip } = state
  if (!picks(state)) return roundTrip === null ? "you see what the server has" : `the server is ${spanText(roundTrip)} away`
  return roundTrip === null ? "on the server" : `on the server, ${spanText(roundTrip)} away`
}

// How long the client takes to find out whether the server still answers, in ms, and
// a little more.
const certain = 4000

// useDoubt is true from when the browser says that it has no network until the
// connection has shown whether that concerns it: a server on this machine is still there.
function useDoubt(tx: Transaction): boolean {
  const [doubt, setDoubt] = useState(false)
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>
    const lost = () => {
      setDoubt(true)
      tx.reconnect() // asks for a sign of life
      clearTimeout(timer)
      timer = setTimeout(() => setDoubt(false), certain)
    }
    const back = () => setDoubt(false)
    addEventListener("offline", lost)
    addEventListener("online", back)
    return () => {
      clearTimeout(timer)
      removeEventListener("offline", lost)
      removeEventListener("online", back)
    }
  }, [tx])
  return doubt
}

// useSeconds counts down to a time, null if there is none or it has come.
function useSeconds(until: number | null): number | null {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    if (until === null) return
    setNow(Date.now())
    const timer = setInterval(() => setNow(Date.now()), 1000)
    return () => clearInterval(timer)
  }, [until])
  if (until === null) return null
  const left = Math.ceil((until - now) / 1000)
  return left > 0 ? left : null
}
