// What happened between two states, in sentences for who does not see it.
import type { State } from "../client"
import { refusalOf } from "./refusal"
import { capital, labelOf, list, nameOf, saidText, who } from "./words"

/** newsOf tells what others did, and what became of what I did. */
export function newsOf(before: State, now: State): string[] {
  if (!before.loaded || !now.loaded) return []
  return [
    ...agreement(before, now), ...readiness(before, now), ...picks(before, now), ...people(before, now), ...connection(before, now),
  ]
}

function agreement(before: State, now: State): string[] {
  if (now.resolution === null || before.resolution?.n === now.resolution.n) return []
  return [`Agreed by ${list(now.resolution.parties.map(p => who(now, p)))}.`]
}

function readiness(before: State, now: State): string[] {
  const told: string[] = []
  const last = before.lapses.at(-1)?.n ?? 0
  for (const lapse of now.lapses) if (lapse.n > last) told.push(lapseText(now, lapse.user, lapse.because))
  for (const p of now.participants) {
    const was = before.participants.find(b => b.user === p.user)
    if (p.ready && was && !was.ready && p.user !== now.me.user) told.push(`${nameOf(p.user)} is ready.`)
  }
  if (now.readiness.ready && !before.readiness.ready && !now.resolution) told.push("You are ready.")
  return told
}

/** lapseText says whose change to what made somebody not ready. */
export function lapseText(state: State, user: string, because: { field: string | null; user: string } | null): string {
  const mine = user === state.me.user
  const not = mine ? "You are not ready any more" : `${nameOf(user)} is not ready any more`
  if (because === null) return `${not}: the transaction has changed.`
  const what = because.field === null ? "the transaction" : labelOf(state, because.field)
  return `${not}: ${who(state, because.user)} changed ${what}.`
}

function picks(before: State, now: State): string[] {
  const told: string[] = []
  for (const [field, selection] of Object.entries(now.selections)) {
    const was = before.selections[field]
    if (selection === was) continue
    const label = labelOf(now, field)
    if (selection.contested && !was?.contested) told.push(`${label} is contested: pick one of the values to settle it.`)
    else if (selection.winner.id !== was?.winner.id && selection.winner.by !== now.me.user) {
      told.push(`${capital(nameOf(selection.winner.by))} picked ${saidText(selection.winner.value)} for ${label}.`)
    }
    if (!selection.contested && was?.contested) told.push(`${label} is settled.`)
  }
  for (const field of Object.keys(before.selections)) {
    if (!(field in now.selections)) told.push(`Nothing is picked for ${labelOf(now, field)} any more.`)
  }
  return told
}

function people(before: State, now: State): string[] {
  if (before.connection.state !== "online" || now.connection.state !== "online") return []
  const told: string[] = []
  for (const p of now.participants) {
    const was = before.participants.find(b => b.user === p.user)
    if (p.user === now.me.user) continue
    if (!was) told.push(`${nameOf(p.user)} is here.`)
    else if (was.state !== p.state) told.push(`${nameOf(p.user)} is ${p.state === "online" ? "back" : "reconnecting"}.`)
  }
  for (const was of before.participants) {
    if (was.user !== now.me.user && !now.participants.some(p => p.user === was.user)) told.push(`${nameOf(was.user)} has left.`)
  }
  return told
}

function connection(before: State, now: State): string[] {
  const [was, is] = [before.connection.state, now.connection.state]
  if (was === is) return []
  if (was === "online" && is !== "refused") return ["The connection is lost. What you pick is kept on this device."]
  if (is === "online") return ["Connected."]
  if (is !== "refused") return []
  const { title, text } = refusalOf(now.connection.reason)
  return [`${title}. ${text}`]
}
