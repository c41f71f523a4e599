// What the state shows, from what is known.
import type { Roster } from "./messages.js"
import { sameHeads } from "./document.js"
import type { Readiness as Confirmed } from "./readiness.js"
import type {
  Connection, Lapse, Me, Readiness, Refusal, Rejection, Resolution, Role, State, View, Why,
} from "./state.js"

export interface Known {
  readonly id: string
  readonly view: View
  readonly loaded: boolean
  readonly kept: boolean
  readonly user: string
  readonly name: string
  readonly role: Role | null
  readonly roster: Roster | undefined
  readonly names: Readonly<Record<string, string>>
  /** Other parties who were ever here. */
  readonly parties: ReadonlySet<string>
  readonly readiness: Confirmed
  readonly refused: Refusal | null
  readonly lapses: readonly Lapse[]
  readonly rejections: readonly Rejection[]
  readonly resolutions: readonly Resolution[]
  readonly connection: Connection
  readonly pending: number
  readonly roundTrip: number | null
}

export function stateOf(known: Known): State {
  const { id, view, loaded, kept, roster, lapses, rejections, resolutions, connection, pending, roundTrip, names } = known
  const me = meOf(known)
  const current = roster !== undefined && sameHeads(roster.heads, view.heads)
  return Object.freeze({
    ...view,
    id, loaded, kept, me, names, lapses, rejections, resolutions, connection, pending, roundTrip,
    participants: roster?.participants ?? none,
    needed: roster?.needed ?? none,
    quorum: roster?.quorum ?? 0,
    policy: roster?.policy ?? "reopen",
    readiness: readinessOf(known, me, current),
    resolution: (current && roster.resolution) || resolutions.findLast(r => sameHeads([...r.heads].sort(), view.heads)) || null,
    saved: loaded && pending === 0,
    stalled: (connection.state === "online" && roster?.stalled) ?? false,
    otherPartyDisconnected: [...known.parties].some(
      party => roster?.participants.find(p => p.user === party)?.state !== "online"
    ),
  })
}

const none: readonly never[] = Object.freeze([])

function meOf({ user, name, role, roster }: Known): Me {
  const participant = roster?.participants.find(p => p.user === user) ?? null
  return Object.freeze({ user, name: participant?.name || name, role: participant?.role ?? role, participant })
}

function readinessOf(known: Known, me: Me, current: boolean): Readiness {
  const { readiness, view } = known
  const confirmed = readiness.confirmed !== undefined && sameHeads(readiness.confirmed, view.heads)
  const elsewhere = current && !readiness.takenBack && me.participant?.ready === true // in another tab
  const why = whyNot(known, me)
  return Object.freeze({
    ready: confirmed || elsewhere, pending: readiness.pending, can: why === null, why, refused: known.refused,
  })
}

function whyNot({ loaded, view, connection, roster }: Known, me: Me): Why | null {
  const because = (code: Why["code"], message: string, fields: readonly string[] = none) => Object.freeze({ code, message, fields })
  if (!loaded) return because("loading", "the transaction is being opened")
  if (connection.state === "refused") return because("refused", connection.reason ?? "the server refuses the connection")
  if (connection.state !== "online") return because("offline", "there is no connection to the server")
  if (connection.unavailable) return because("no-transaction", "the server has no such transaction yet")
  if (!roster) return because("loading", "the server has not said yet who is here")
  const party = me.role === "party" || (me.role === "host" && roster.needed.includes(me.user))
  if (!party) return because("not-a-party", "only parties confirm")
  if (view.contested.length > 0) return because("contested", "several values are picked: pick one of them first", view.contested)
  if (view.missing.length > 0) return because("incomplete", "nothing is picked yet for what is required", view.missing)
  return null
}

/** unchanged returns next with all that is as it was in last the same objects; last itself if that is all. */
export function unchanged(last: State, next: State): State {
  const result: Record<string, unknown> = {}
  let changed = false
  for (const [key, value] of Object.entries(next)) {
    const before = (last as unknown as Record<string, unknown>)[key]
    const same = value === before || (!ofView.has(key) && equal(value, before))
    result[key] = same ? before : value
    changed ||= result[key] !== before
  }
  return changed ? (Object.freeze(result) as unknown as State) : last
}

// What is large, and kept the same where it is made.
const ofView: ReadonlySet<string> = new Set<keyof State>(["fields", "selections", "names"])

const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
