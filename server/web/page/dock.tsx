// The bar at the lower edge: whether one is ready, why one cannot be, and what was
// agreed; or which moment of the past is shown.
import type { State, Transaction } from "../client"
import { lapseText } from "./news"
import { mayHave } from "./record"
import { refusalOf, sentence } from "./refusal"
import { momentText, type Moment } from "./timeline"
import { few, labelOf, list, timeText, who } from "./words"

interface Props {
  tx: Transaction
  state: State
  show(field: string): void
  download(): void
}

export function Dock({ tx, state, show, download }: Props) {
  const said = sayDock(state)
  return (
    <section class={`dock ${state.resolution ? "agreed" : state.readiness.ready ? "ready" : ""}`} aria-label="Agreement" tabIndex={-1}>
      <div class="words">
        <p class="title">{said.title}</p>
        <p class="detail" id="why">
          {said.detail}
          {said.field !== null && <> <button type="button" class="link" onClick={() => show(said.field!)}>Show it</button></>}
        </p>
      </div>
      {state.resolution
        ? mayHave(state) && <button type="button" class="strong" onClick={download}>Download the record</button>
        : <ReadyButton tx={tx} state={state} show={show} />}
    </section>
  )
}

function ReadyButton({ tx, state, show }: Pick<Props, "tx" | "state" | "show">) {
  const { ready, pending, can, why } = state.readiness
  if (why?.code === "not-a-party" || state.fields.length === 0) return null
  const press = () => {
    if (ready || pending) return tx.unready()
    if (!can) return why?.fields[0] === undefined ? undefined : show(why.fields[0])
    tx.ready(state).catch(() => {}) // the state says why not
  }
  return (
    <button
      type="button" class="strong ready-button" aria-pressed={ready} aria-disabled={!can && !ready && !pending} aria-describedby="why"
      onClick={press}
    >
      {ready ? "✓ You are ready" : pending ? "Confirming…" : "I am ready"}
    </button>
  )
}

interface Said {
  title: string
  detail: string
  field: string | null // where to look
}

function sayDock(state: State): Said {
  const { resolution, readiness, me, policy } = state
  const { refused } = readiness
  if (resolution) {
    return {
      title: `Agreed by ${list(resolution.parties.map(p => who(state, p)))}`,
      detail: `Exactly what is shown, at ${timeText(resolution.at)}. ` +
        (policy === "lock" ? "It is final: only a host can open it again." : "Any change opens it again."),
      field: null,
    }
  }
  if (readiness.why?.code === "refused") {
    const { title, text } = refusalOf(state.connection.reason)
    return { title, detail: text, field: null }
  }
  if (state.fields.length === 0) return { title: "There is nothing to confirm yet", detail: "", field: null }
  const title = waiting(state)
  const lapsed = me.participant?.lapsed ?? null
  if (readiness.ready) return { title, detail: "You confirmed exactly what is shown. Press again to take that back.", field: null }
  if (readiness.pending) return { title, detail: "The server has not answered yet.", field: null }
  if (lapsed && readiness.why?.code !== "offline") {
    const why = readiness.why ? ` ${whyText(state)}` : ""
    return { title, detail: lapseText(state, me.user, lapsed) + why, field: lapsed.field }
  }
  if (refused) return { title, detail: sentence(refused.message), field: refused.fields[0] ?? null }
  if (readiness.why) return { title, detail: whyText(state), field: readiness.why.fields[0] ?? null }
  return { title, detail: "Ready means: exactly what is shown now, and nothing else.", field: null }
}

// whyText says why one cannot be ready, and what to do about it.
function whyText(state: State): string {
  const { code, message, fields } = state.readiness.why!
  const labels = few(fields, name => labelOf(state, name))
  switch (code) {
    case "contested":
      return `${labels} ${fields.length === 1 ? "is" : "are"} contested: pick one of the values first.`
    case "incomplete":
      return `Nothing is picked yet for ${labels}.`
    case "offline":
      return "You can confirm when the server can be reached. What you pick is kept until then."
    case "not-a-party":
      return `You are here as ${state.me.role ?? "nobody"}: only parties confirm.`
    case "loading":
      return "The server has not said yet who is here."
    default:
      return sentence(message)
  }
}

// waiting says how many are ready for what is shown, and for whom they wait. What was
// picked here and is not on the server yet, nobody is ready for.
function waiting(state: State): string {
  const { needed, quorum, participants, pending } = state
  const isReady = (user: string) => pending === 0 && participants.some(p => p.user === user && p.ready)
  const ready = needed.filter(isReady).length
  const others = needed.filter(user => !isReady(user)).map(user => who(state, user))
  if (participants.length === 0 && needed.length === 0) return "Waiting for the server"
  if (needed.length === 0) return "Nobody has to be ready yet"
  if (needed.length < quorum) others.push("another party")
  if (others.length === 0) return `${ready} of ${quorum} ready`
  return `${ready} of ${quorum} ready, waiting for ${list(others, quorum < needed.length ? "or" : "and")}`
}

/** PastDock says which moment is shown. */
export function PastDock({ state, moments, at, go }: { state: State; moments: readonly Moment[]; at: number; go(to: number | null): void }) {
  const moment = moments[at]!
  return (
    <section class="dock past" aria-label="The moment shown" tabIndex={-1}>
      <div class="words">
        <p class="title">{moment.agreed ? "As it was agreed" : "As it was"}, {timeText(moment.at)}</p>
        <p class="detail">{momentText(state, moment)}.</p>
      </div>
      <div class="steps">
        <button type="button" aria-label="The step before" disabled={at === 0} onClick={() => go(at - 1)}>‹</button>
        <button type="button" aria-label="The step after" onClick={() => go(at + 1 < moments.length - 1 ? at + 1 : null)}>›</button>
        <button type="button" class="strong" onClick={() => go(null)}>Back to now</button>
      </div>
    </section>
  )
}
