// How values, times and people are put into words.
import type { Event, Pick, State, Value, View } from "../client"

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 20, useGrouping: "min2" as unknown as boolean })

/** valueText is a value in one line. Digits are grouped, and nothing else is changed. */
export function valueText(value: Value): string {
  if (value === null) return "nothing"
  if (value === true) return "yes"
  if (value === false) return "no"
  if (typeof value === "number") return numbers.format(value)
  if (typeof value === "string") return value === "" ? "“”" : value
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : value.map(valueText).join(", ")
  return Object.entries(value).map(([key, v]) => `${key}: ${valueText(v)}`).join("; ")
}

/** kindOf says what a value is, for who types one. */
export function kindOf(value: Value): string {
  if (value === null) return "nothing, on purpose"
  if (typeof value === "boolean") return value ? "yes" : "no"
  if (typeof value === "number") return `the number ${valueText(value)}`
  if (typeof value === "string") return "as text"
  return Array.isArray(value) ? `a list of ${value.length}` : "an object"
}

/** typed is what somebody typed: JSON, or else text, as parley pick has it. */
export function typed(text: string): Value {
  try {
    return JSON.parse(text) as Value
  } catch {
    return text
  }
}

export const sameValue = (a: Value, b: Value): boolean => canonical(a) === canonical(b)

/** canonical is a value's text, the same whatever the order of its keys. */
export function canonical(value: Value): string {
  return JSON.stringify(value, (_, v: unknown) =>
    v !== null && typeof v === "object" && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v)
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false })
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" })

/** timeText is a time of today, or a date and a time. */
export function timeText(at: number): string {
  const then = new Date(at)
  const today = then.toDateString() === new Date().toDateString()
  return today ? clock.format(then) : `${date.format(then)}, ${clock.format(then)}`
}

// Names are remembered for as long as the page is open: who has left is still named.
const names = new Map<string, string>()

export function rememberNames(state: State): void {
  for (const p of state.participants) if (p.name) names.set(p.user, p.name)
  if (state.me.user && state.me.name) names.set(state.me.user, state.me.name)
}

export const nameOf = (user: string): string => names.get(user) ?? (user || "somebody")

/** who is a person to me: "you", or the name. */
export const who = (state: { me: State["me"] }, user: string): string => (user !== "" && user === state.me.user ? "you" : nameOf(user))

export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

/** list is "a", "a and b", "a, b and c". */
export function list(texts: readonly string[], and = "and"): string {
  if (texts.length < 2) return texts[0] ?? ""
  return `${texts.slice(0, -1).join(", ")} ${and} ${texts[texts.length - 1]}`
}

export const labelOf = (view: View, name: string): string => view.fields.find(f => f.name === name)?.label || name

/** eventsText is what one change did. */
export function eventsText(state: State, events: readonly Event[]): string {
  const written = events.filter(e => e.kind === "field-set")
  if (written.length < 2 || written.length < events.length) return events.map(e => eventText(state, e)).join(". ")
  return `${written[0]!.user ? capital(who(state, written[0]!.user)) : "The host"} wrote ${list(written.map(e => labelOf(state, e.field)))}`
}

/** eventText is one step of the history. */
export function eventText(state: State, event: Event): string {
  const label = labelOf(state, event.field)
  const by = event.user ? capital(who(state, event.user)) : "The host"
  switch (event.kind) {
    case "picked":
      return `${by} picked ${pickText(event.pick)} for ${label}`
    case "withdrawn":
      return `${by} took back what was picked for ${label}`
    case "field-removed":
      return `${by} removed ${label}`
    case "field-set":
      return `${by} wrote ${label}`
  }
}

const pickText = (pick: Pick | null): string => (pick ? valueText(pick.value) : "a value")

/** Each person has a colour, the same on every screen. */
export function tint(user: string): string {
  let sum = 0
  for (const c of user) sum = (sum * 31 + c.codePointAt(0)!) >>> 0
  return `tint${sum % 6}`
}
