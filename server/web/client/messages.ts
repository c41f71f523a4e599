// Parley's own messages, as sync/PROTOCOL.md has them. What comes in is taken as
// it is written there: only its kind and the shape of what would break us is checked.
import { cbor } from "@automerge/automerge-repo/slim"
import type { Because, Participant, Resolution } from "./state.js"

/** What a client says. */
export type Up =
  | { t: "ready"; heads: readonly string[] }
  | { t: "unready" }
  | { t: "focus"; field: string | null }
  | { t: "ping"; n: number }
  | { t: "roster" }
  | { t: "leave" }

export interface Roster {
  t: "roster"
  rev: number
  heads: string[]
  participants: Participant[]
  needed: string[]
  quorum: number
  policy: "reopen" | "lock"
  contested: string[]
  missing: string[]
  resolution: Resolution | null
  stalled?: true
}

export interface Lapsed {
  t: "lapsed"
  user: string
  because: Because
}

export interface Rejected {
  t: "rejected"
  of?: string
  changes: string[]
  heads?: string[]
  fields?: string[]
  code: string
  message: string
}

/** What the server says. */
export type Down = Roster | Lapsed | Rejected | { t: "resolved"; resolution: Resolution } | { t: "pong"; n: number }

const kinds = ["roster", "lapsed", "rejected", "resolved", "pong"]

/** encode returns the data of an ephemeral frame. */
export const encode = (message: Up): Uint8Array => cbor.encode({ parley: message })

/** decode reads the data of an ephemeral frame; undefined for kinds that we do not know. */
export function decode(data: Uint8Array): Down | undefined {
  const message = (cbor.decode(data) as { parley?: Down } | null)?.parley
  return message && kinds.includes(message.t) ? freeze(message) : undefined
}

/** freeze makes what was decoded immutable, with all that is in it. */
export function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value
  Object.values(value).forEach(freeze)
  return Object.freeze(value)
}
