// Everything that was ever done, and a slider through it.
import { useEffect, useState } from "preact/hooks"
import type { Event, State, Transaction } from "../client"
import { Initial } from "./people"
import { eventsText, timeText } from "./words"

/** A change, and where in history it stands. */
export interface Moment {
  readonly at: number // ms by the author's clock
  readonly user: string
  readonly events: readonly Event[]
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
  useEffect(() => {
    const timer = setTimeout(() => setMoments(momentsOf(tx.history())), gather)
    return () => clearTimeout(timer)
  }, [tx, heads])
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
    moments.push({ at: event.at, user: event.user, events: same, heads: [...latest.values()] })
    same = []
  })
  return moments
}

export function Timeline({ state, moments, at, go }: { state: State; moments: readonly Moment[]; at: number | null; go(to: number | null): void }) {
  const last = moments.length - 1
  const shown = at ?? last
  const text = (m: Moment) => eventsText(state, m.events)
  const step = (to: number) => go(to >= last ? null : to)
  return (
    <section class="timeline" aria-labelledby="history">
      <h2 id="history">History</h2>
      <input
        type="range" min={0} max={Math.max(last, 0)} step={1} value={Math.max(shown, 0)} aria-label="Moment of the history" disabled={last < 1}
        aria-valuetext={at === null ? "now" : `${timeText(moments[shown]!.at)}, ${text(moments[shown]!)}`}
        onInput={event => step(Number(event.currentTarget.value))}
      />
      <ol reversed>
        {last < 0 && <li class="quiet">Nothing has happened yet.</li>}
        {moments.map((m, i) => (
          <li key={m.events[0]!.op}>
            <button type="button" class="moment" aria-current={i === shown ? "step" : undefined} onClick={() => step(i)}>
              <Initial user={m.user} />
              <span class="what">{text(m)}</span>
              <time dateTime={new Date(m.at).toISOString()}>{timeText(m.at)}</time>
            </button>
          </li>
        )).slice(-listed).reverse()}
      </ol>
      {moments.length > listed && <p class="quiet">The slider reaches the {moments.length - listed} steps before these.</p>}
    </section>
  )
}
