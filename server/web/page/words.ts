// How values, times and people are put into words.
import type { Event, Field, Pick, State, Value, View } from "../client"

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 20, useGrouping: "min2" as unknown as boolean })

// Texts that would look like a value of another kind, and are not it.
const misleading = /^(?:-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?|yes|no|nothing|true|false|null|an empty list|an empty object|)$/i

// What is written from the right, and must not move what stands beside it.
const rightToLeft = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/

// Characters that show nothing, or turn round what follows: people would agree on
// something other than they see.
const unseen = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g

const shown = (text: string): string =>
  text.replace(unseen, char => `[U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`)

/** plain is what somebody wrote, for a sentence: nothing in it acts on what is around it. */
export function plain(text: string): string {
  const safe = shown(text)
  return rightToLeft.test(safe) ? `\u2068${safe}\u2069` : safe
}

/** valueText is a value in one line. Digits are grouped, and nothing else is changed. */
export function valueText(value: Value): string {
  if (value === null) return "nothing"
  if (value === true) return "yes"
  if (value === false) return "no"
  if (typeof value === "number") return numbers.format(value)
  if (typeof value === "string") return misleading.test(value) ? `“${value}”` : plain(value)
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : value.map(valueText).join(", ")
  const entries = Object.entries(value)
  return entries.length === 0 ? "an empty object" : entries.map(([key, v]) => `${plain(key)}: ${valueText(v)}`).join("; ")
}

// How many characters of a value a sentence has room for.
const room = 60

/** saidText is a value in a sentence: texts of several words in quotes, and no more of it than there is room. */
export function saidText(value: Value): string {
  const text = valueText(value)
  const chars = [...text]
  const short = chars.length > room ? `${chars.slice(0, room).join("").trimEnd()}…` : text
  return typeof value === "string" && /\s/.test(value) && !text.startsWith("“") ? `“${short}”` : short
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

/** dayText is a date and a time, always both. */
export const dayText = (at: Date): string => `${date.format(at)}, ${clock.format(at)}`

/** spanText is a time that something takes, from ms. */
export const spanText = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`)

// Names are remembered: who has left is still named.
const names = new Map<string, string>()
let changes = 0

export function rememberNames(state: State): void {
  for (const [user, name] of Object.entries(state.names)) remember(user, name)
  remember(state.me.user, state.me.name)
}

function remember(user: string, name: string): void {
  if (user === "" || name === "" || names.get(user) === name) return
  names.set(user, name)
  changes++
}

/** knownNames is another number whenever somebody is called otherwise than before. */
export const knownNames = (): number => changes

export const nameOf = (user: string): string => plain(names.get(user) ?? (user || "somebody"))

/** who is a person to me: "you", or the name. */
export const who = (state: { me: State["me"] }, user: string): string => (user !== "" && user === state.me.user ? "you" : nameOf(user))

export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

// How many things are named before the rest are counted.
const named = 3

/** few is list of what there is to say of things, shortened if there are many. */
export function few<T>(things: readonly T[], text: (thing: T) => string): string {
  if (things.length <= named + 1) return list(things.map(text))
  return list([...things.slice(0, named).map(text), `${things.length - named} more`])
}

/** list is "a", "a and b", "a, b and c". */
export function list(texts: readonly string[], and = "and"): string {
  if (texts.length < 2) return texts[0] ?? ""
  return `${texts.slice(0, -1).join(", ")} ${and} ${texts[texts.length - 1]}`
}

const byName = new WeakMap<readonly Field[], ReadonlyMap<string, Field>>()

/** labelOf is how a field is called. It is asked for each of many, and so are fields. */
export function labelOf({ fields }: View, name: string): string {
  const found = byName.get(fields) ?? new Map(fields.map(f => [f.name, f]))
  byName.set(fields, found)
  return plain(found.get(name)?.label || name)
}

/** eventsText is what one change did. */
export function eventsText(state: State, events: readonly Event[]): string {
  const written = events.filter(e => e.kind === "field-set")
  if (written.length < 2 || written.length < events.length) return some(events, e => eventText(state, e))
  return `${written[0]!.user ? capital(who(state, written[0]!.user)) : "The host"} wrote ${few(written, e => labelOf(state, e.field))}`
}

function some<T>(things: readonly T[], sentence: (thing: T) => string): string {
  const said = things.slice(0, named + 1).map(sentence)
  return (said.length < things.length ? [...said, `${things.length - said.length} more`] : said).join(". ")
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

const pickText = (pick: Pick | null): string => (pick ? saidText(pick.value) : "a value")

/** Each person has a colour, the same on every screen. */
export function tint(user: string): string {
  let sum = 0
  for (const c of user) sum = (sum * 31 + c.codePointAt(0)!) >>> 0
  return `tint${sum % 6}`
}
