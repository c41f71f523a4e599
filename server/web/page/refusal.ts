// Why the server does not let somebody in, and how to go on, in words.
import type { State } from "../client"
import { capital } from "./words"

export interface Refusal {
  /** The server's code, "" if it gave none. */
  readonly code: string
  readonly title: string
  readonly text: string
}

const again = "Open it again, whole, or ask whoever sent it for a new one."

const known: Readonly<Record<string, readonly [title: string, text: string]>> = {
  "no-token": ["This page needs the link that you were sent", "The link holds a token that says who you are. Open your link again."],
  "token-expired": ["Your link has expired", "Ask whoever sent it for a new one, and open that in this browser. What you picked is kept on this device until then."],
  "token-outdated": ["Your link was replaced by a newer one", "Open the newest link that you were sent, in this browser. What you picked is kept on this device until then."],
  revoked: ["Your link was taken back", "Ask whoever sent it. What you picked is kept on this device."],
  "not-yet-valid": ["Your link is not valid yet", "Try again later. If you should be let in by now, see whether the clock of this device is right."],
  "malformed-token": ["This link is not complete", `A part of it was lost on the way. ${again}`],
  "bad-signature": ["This link is not valid here", `It was changed on the way, or is for another server. ${again}`],
  "unknown-key": ["This link is not valid here", `It is for another server, or too old. ${again}`],
  "wrong-issuer": ["This link is not valid here", `It is for another server. ${again}`],
  "wrong-audience": ["This link is not valid here", `It is for another server. ${again}`],
}

/** refusalOf says why the server refuses, by the code that its reason begins with. */
export function refusalOf(reason: string | null): Refusal {
  const [, code = "", rest = reason ?? ""] = /^([a-z]+(?:-[a-z]+)*): (.*)$/s.exec(reason ?? "") ?? []
  const [title, text] = known[code] ?? ["The server does not let you in", rest ? sentence(rest) : "It does not say why."]
  return { code, title, text }
}

export const sentence = (text: string): string => capital(/[.!?]$/.test(text) ? text : `${text}.`)

/** nothingHere says that there is nothing to show of a transaction, on this device either. */
export const nothingHere = ({ fields, selections }: State): boolean => fields.length === 0 && Object.keys(selections).length === 0
