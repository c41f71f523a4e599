// What went wrong, until it is read; and what happens, for who listens.
import { useEffect, useRef, useState } from "preact/hooks"
import type { Rejection, State } from "../client"
import { newsOf } from "./news"
import { sentence } from "./refusal"
import { eventText } from "./words"

/** A trouble of this page, rather than a refusal of the server. */
export interface Trouble {
  readonly n: number
  readonly text: string
}

export function Notices({ state, troubles, dismiss }: { state: State; troubles: readonly Trouble[]; dismiss(n: number): void }) {
  const [seen, setSeen] = useState<ReadonlySet<number>>(new Set())
  const rejections = state.rejections.filter(r => !seen.has(r.n))
  return (
    <div class="notices" role="alert">
      {rejections.map(r => (
        <Notice key={`r${r.n}`} code={r.code} done={() => setSeen(new Set([...seen, r.n]))}>
          {ofOthers(r) ?? <><b>The server refused what you did.</b> {sentence(r.message)}</>}
          {lost(state, r)}
        </Notice>
      ))}
      {troubles.map(t => <Notice key={`t${t.n}`} done={() => dismiss(t.n)}>{t.text}</Notice>)}
    </div>
  )
}

function ofOthers(r: Rejection) {
  if (r.others.length === 0 || r.lost.length > 0) return null
  return <><b>The server does not have all that others did here any more.</b> It is back when they open this page.</>
}

function lost(state: State, r: Rejection) {
  if (r.lost.length === 0) return null
  return <ul>{r.lost.map(event => <li key={event.op}>{eventText(state, event)}. It is undone here.</li>)}</ul>
}

function Notice({ children, code, done }: { children: preact.ComponentChildren; code?: string; done(): void }) {
  return (
    <div class="notice" data-code={code}>
      <div>{children}</div>
      <button type="button" aria-label="Dismiss" onClick={done}>×</button>
    </div>
  )
}

// How long news are gathered before they are said, in ms: screen readers drop what
// comes too fast.
const gather = 250

/** Announcer says to screen readers what the others see happen. */
export function Announcer({ state }: { state: State }) {
  const [said, say] = useState("")
  const before = useRef(state)
  const waiting = useRef<string[]>([])
  useEffect(() => {
    const news = newsOf(before.current, state)
    before.current = state
    if (news.length === 0) return
    waiting.current.push(...news)
    if (waiting.current.length > news.length) return // its timer runs
    setTimeout(() => say(waiting.current.splice(0).join(" ")), gather)
  }, [state])
  return <p class="unseen" role="status" aria-live="polite" id="news">{said}</p>
}
