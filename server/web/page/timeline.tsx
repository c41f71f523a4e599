// Everything that was ever done and agreed, and a slider through it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { Event, Resolution, State, Transaction } from "../client"
import { Initial } from "./people"
import { eventsText, knownNames, list, timeText, who } from "./words"

/** A change or an agreement, and where in history it stands. */
export interface Moment {
  readonly key: string
  readonly at: number // ms by the author's clock, or the server's
  readonly user: string
  readonly events: readonly Event[]
  /** What was agreed then; null if it is a change. */
  readonly agreed: Resolution | null
  /** Changes that say how things stood then: the latest of each author before it, and it. */
  readonly heads: readonly string[]
}

// How many steps are listed; the slider reaches all.
const listed = 200

// How long changes are gathered before the history is read again, in ms: what is
// picked is shown before it.
const gather = 50

export function useMoments(tx: Transaction, state: State): readonly Moment[] {
  const [moments, setMoments] = useState<readonly Moment[]>([])
  const heads = state.heads.join()
  const { resolutions } = state
  useEffect(() => {
    const timer = setTimeout(() => setMoments(withAgreements(momentsOf(tx.history()), resolutions)), gather)
    return () => clearTimeout(timer)
  }, [tx, heads, resolutions])
  return moments
}

function momentsOf(events: readonly Event[]): Moment[] {
  const moments: Moment[] = []
  const latest = new Map<string, string>() // an actor's change
  let same: Event[] = []
  events.forEach((event, i) => {
    same.push(event)
    if (events[i + 1]?.change === event.change) return
    latest.set(event.op.split("@")[1]!, event.change)
    moments.push({ key: same[0]!.op, at: event.at, user: event.user, events: same, agreed: null, heads: [...latest.values()] })
    same = []
  })
  return moments
}

// withAgreements puts each agreement behind the last change that it is over.
function withAgreements(moments: readonly Moment[], resolutions: readonly Resolution[]): Moment[] {
  const result = [...moments]
  for (const agreed of [...resolutions].sort((a, b) => a.n - b.n)) {
    const last = result.findLastIndex(m => m.agreed === null && agreed.heads.includes(m.events[0]!.change))
    if (last < 0) continue // what it is over is not here yet
    let at = last + 1
    while (result[at]?.agreed) at++
    result.splice(at, 0, { key: `agreement ${agreed.n}`, at: agreed.at, user: "", events: [], agreed, heads: agreed.heads })
  }
  return result
}

/** momentText says what was done, or agreed. */
export function momentText(state: State, { agreed, events }: Moment): string {
  return agreed ? `Agreed by ${list(agreed.parties.map(p => who(state, p)))}` : eventsText(state, events)
}

export function Timeline({ state, moments, at, go }: { state: State; moments: readonly Moment[]; at: number | null; go(to: number | null): void }) {
  const last = moments.length - 1
  const shown = at ?? last
  const step = (to: number) => go(to >= last ? null : to)
  const first = Math.max(moments.length - listed, 0)
  // They are many, and made again only when something in them has changed.
  const steps = useMemo(() => moments.slice(first).map((m, n) => (
    <li key={m.key}>
      <button type="button" class={`moment ${m.agreed ? "agreement" : ""}`} aria-current={first + n === shown ? "step" : undefined} onClick={() => step(first + n)}>
        {m.agreed ? <span class="initial seal" aria-hidden="true">✓</span> : <Initial user={m.user} />}
        <span class="what">{momentText(state, m)}</span>
        <time dateTime={new Date(m.at).toISOString()}>{timeText(m.at)}</time>
      </button>
    </li>
  )).reverse(), [moments, shown, state.fields, state.me.user, knownNames()])
  const steplist = useRef<HTMLOListElement>(null)
  useEffect(() => {
    if (at !== null) keepInSight(steplist.current!)
  }, [at])
  return (
    <section class="timeline" aria-labelledby="history">
      <h2 id="history">History</h2>
      <input
        type="range" min={0} max={Math.max(last, 0)} step={1} value={Math.max(shown, 0)} aria-label="Moment of the history" disabled={last < 1}
        aria-valuetext={at === null ? "now" : `${timeText(moments[shown]!.at)}, ${momentText(state, moments[shown]!)}`}
        onInput={event => step(Number(event.currentTarget.value))}
      />
      <Marks moments={moments} />
      <ol reversed ref={steplist}>
        {last < 0 && <li class="quiet none">Nothing has happened yet.</li>}
        {steps}
      </ol>
      {first > 0 && <p class="quiet">The slider reaches the {first} steps before these.</p>}
    </section>
  )
}

// keepInSight scrolls a list to what is current in it, and nothing else.
function keepInSight(of: HTMLElement): void {
  const current = of.querySelector("[aria-current]")?.getBoundingClientRect()
  const around = of.getBoundingClientRect()
  if (!current) return
  if (current.top < around.top) of.scrollTop -= around.top - current.top
  if (current.bottom > around.bottom) of.scrollTop += current.bottom - around.bottom
}

// Marks are under the slider where there was an agreement. The list says the same.
function Marks({ moments }: { moments: readonly Moment[] }) {
  const last = moments.length - 1
  return (
    <svg class="marks" aria-hidden="true">
      {last > 0 && moments.map((m, i) => m.agreed && <circle key={m.key} cx={`${(100 * i) / last}%`} cy="4" r="3.5" />)}
    </svg>
  )
}
