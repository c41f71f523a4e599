// Who is here, and how it stands with the server.
import { useEffect, useState } from "preact/hooks"
import type { Participant, State, Transaction } from "../client"
import { labelOf, nameOf, tint } from "./words"

/** Initial stands for a person beside what the person does. */
export function Initial({ user }: { user: string }) {
  if (user === "") return <span class="initial nobody" aria-hidden="true">·</span>
  return <span class={`initial ${tint(user)}`} aria-hidden="true">{[...nameOf(user)][0]?.toUpperCase() ?? "?"}</span>
}

export function People({ state }: { state: State }) {
  const { participants, needed, me } = state
  const here = [...participants].sort((a, b) => Number(b.user === me.user) - Number(a.user === me.user))
  const absent = needed.filter(user => !participants.some(p => p.user === user))
  return (
    <section class="people" aria-label="Who is here">
      {/* On a phone it may scroll, and the keyboard must get there. */}
      <ul tabIndex={0}>
        {here.map(p => (
          <li key={p.user} class={`person ${p.state} ${p.ready && state.pending === 0 ? "ready" : ""}`} data-user={p.user}>
            <Initial user={p.user} />
            <span class="name">{nameOf(p.user)}{p.user === me.user && <span class="quiet"> (you)</span>}</span>
            <span class="doing">{doing(state, p)}</span>
          </li>
        ))}
        {absent.map(user => (
          <li key={user} class="person absent" data-user={user}>
            <Initial user={user} />
            <span class="name">{nameOf(user)}{user === me.user && <span class="quiet"> (you)</span>}</span>
            <span class="doing">{user === me.user ? "not connected" : "not here"}</span>
          </li>
        ))}
      </ul>
    </section>
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
  const { title, detail, mood } = words(state, seconds)
  const retry = connection.state === "reconnecting" || connection.state === "refused"
  return (
    <section class={`connection ${mood}`} aria-label="Connection" data-state={connection.state} data-saved={state.saved}>
      <p class="title"><span class="dot" aria-hidden="true" />{title}</p>
      <p class="detail">{detail}</p>
      <button type="button" class={`link ${retry ? "" : "away"}`} onClick={() => tx.reconnect()} disabled={!retry}>Try now</button>
    </section>
  )
}

function words(state: State, seconds: number | null): { title: string; detail: string; mood: string } {
  const { connection, pending, roundTrip, saved } = state
  const kept = pending > 0 ? `${pending === 1 ? "1 change is" : `${pending} changes are`} kept on this device` : "nothing is waiting to be sent"
  switch (connection.state) {
    case "online":
      if (connection.unavailable) return { title: "Connected", detail: "waiting for the transaction", mood: "waiting" }
      if (!saved) return { title: "Saving…", detail: kept, mood: "waiting" }
      return { title: "Saved", detail: roundTrip === null ? "on the server" : `on the server, ${Math.round(roundTrip)} ms away`, mood: "good" }
    case "connecting":
      return { title: "Connecting…", detail: kept, mood: "waiting" }
    case "reconnecting":
      return { title: seconds === null ? "Reconnecting…" : `Offline, trying again in ${seconds} s`, detail: kept, mood: "bad" }
    case "refused":
      return { title: "The server refuses", detail: connection.reason ?? "it does not say why", mood: "bad" }
    case "offline":
      return { title: "Offline", detail: kept, mood: "bad" }
  }
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
