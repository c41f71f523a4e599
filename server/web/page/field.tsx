// One field: its options side by side, who picked what, and a value of one's own.
import { useState } from "preact/hooks"
import type { Field, Pick, Selection, State, Value, View } from "../client"
import { Initial } from "./people"
import { canonical, capital, kindOf, list, nameOf, plain, sameValue, timeText, typed, valueText, who } from "./words"

/** What one may do with a field; null if one may only look. */
export interface Hands {
  pick(field: string, value: Value): void
  pickOption(field: string, option: string): void
  withdraw(field: string): void
  focus(field: string | null): void
}

interface Props {
  state: State
  view: View // as of now, or as it was
  field: Field
  here: readonly string[] // other users
  hands: Hands | null
}

// How many characters are much for a heading, or for a card beside others.
const long = 60

export function FieldSection({ state, view, field, here, hands }: Props) {
  const selection = view.selections[field.name]
  const label = plain(field.label || field.name)
  const cards = cardsOf(field, selection)
  return (
    <section
      class={`field ${selection?.contested ? "contested" : ""}`} data-field={field.name} aria-labelledby={`label ${field.name}`}
      onFocusIn={() => hands?.focus(field.name)}
      onFocusOut={event => { if (!event.currentTarget.contains(event.relatedTarget as Node | null)) hands?.focus(null) }}
    >
      <header>
        <h2 id={`label ${field.name}`} class={label.length > long ? "long" : ""} dir="auto" tabIndex={-1}>{label}</h2>
        <span class="quiet">{field.required ? "required" : "optional"}</span>
        <span class="here">{here.map(user => <span key={user} class="at"><Initial user={user} />{nameOf(user)} is here</span>)}</span>
      </header>
      <Standing state={state} selection={selection} field={field} hands={hands} />
      <ul class="options" aria-label={`Values for ${label}`}>
        {cards.map(card => <Card key={card.key} state={state} selection={selection} field={field} card={card} hands={hands} />)}
        {hands && <li class="last"><Own label={label} first={cards.length === 0} pick={value => hands.pick(field.name, value)} /></li>}
      </ul>
    </section>
  )
}

// Standing is the line that says how it stands with the field. It is always there,
// so that nothing moves when it changes.
function Standing({ state, selection, field, hands }: { state: State; selection: Selection | undefined; field: Field; hands: Hands | null }) {
  return (
    <p class="standing">
      <span>{standing(state, selection, field)}</span>
      {hands && selection && <button type="button" class="link" onClick={() => hands.withdraw(field.name)} aria-label={`Clear ${field.label || field.name}`}>Clear</button>}
    </p>
  )
}

function standing(state: State, selection: Selection | undefined, field: Field): string {
  if (!selection) return field.options.length === 0 ? "Nothing is picked yet, and no values were offered" : "Nothing is picked yet"
  if (!selection.contested) {
    const { by, at } = selection.winner
    return `${capital(who(state, by))} picked this, ${timeText(at)}`
  }
  const people = [...new Set(selection.picks.map(p => p.by))]
  if (people.length === 1) return `${capital(who(state, people[0]!))} picked different values on two devices: pick one to settle it`
  return `${capital(list(people.map(p => who(state, p))))} picked without seeing each other’s: pick one to settle it`
}

interface CardOf {
  key: string
  value: Value
  source: string
  option: string | null
  picks: readonly Pick[]
}

/** cardsOf are the options, and then what was picked that is none of them. */
function cardsOf(field: Field, selection: Selection | undefined): CardOf[] {
  const left = [...(selection?.picks ?? [])]
  const take = (mine: (p: Pick) => boolean) => {
    const taken = left.filter(mine)
    for (const p of taken) left.splice(left.indexOf(p), 1)
    return taken
  }
  const cards: CardOf[] = field.options.map(o => ({
    key: `option ${o.name}`, value: o.value, source: plain(o.source || o.name), option: o.name,
    picks: take(p => p.option === o.name && sameValue(p.value, o.value)),
  }))
  while (left.length > 0) {
    const { value, by, option } = left[0]!
    cards.push({
      key: `own ${canonical(value)}`, value, option: null,
      source: option === null ? `a value of ${nameOf(by)}` : `${plain(option)}, as it was`,
      picks: take(p => sameValue(p.value, value)),
    })
  }
  return cards
}

function Card({ state, selection, field, card, hands }: {
  state: State; selection: Selection | undefined; field: Field; card: CardOf; hands: Hands | null
}) {
  const picked = card.picks.length > 0
  const settled = picked && !selection?.contested
  const content = (
    <>
      <span class="value"><ValueView value={card.value} /></span>
      <span class="source" dir="auto">{card.source}</span>
      <span class="pickers">{card.picks.map(p => (
        <span key={p.id} class="at"><Initial user={p.by} /><span>{capital(who(state, p.by))}<span class="did"> picked this</span></span></span>
      ))}</span>
    </>
  )
  const wide = typeof card.value === "string" && card.value.length > long ? "wide" : ""
  if (!hands) return <li class={wide}><div class={`card ${picked ? "picked" : ""}`}>{content}</div></li>
  // What is picked and settled is not picked again: that would undo confirmations for nothing.
  const press = () => {
    if (settled) return
    if (card.option === null) hands.pick(field.name, card.value)
    else hands.pickOption(field.name, card.option)
  }
  return (
    <li class={wide}>
      <button type="button" class={`card ${picked ? "picked" : ""}`} aria-pressed={settled} data-value={valueText(card.value)} onClick={press}>
        {content}
      </button>
    </li>
  )
}

// ValueView shows what a list or an object holds in lines, and everything else as it is.
function ValueView({ value }: { value: Value }) {
  if (Array.isArray(value) && value.length > 0) return <>{value.map((v, i) => <Line key={i} item text={valueText(v as Value)} />)}</>
  if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0) {
    return <>{Object.entries(value).map(([k, v]) => <Line key={k} text={`${plain(k)}: ${valueText(v as Value)}`} />)}</>
  }
  return <span class={typeof value === "string" && value.length > 24 ? "line long" : "line"} dir="auto">{valueText(value)}</span>
}

const Line = ({ text, item = false }: { text: string; item?: boolean }) => <span class={`line part ${item ? "item" : ""}`} dir="auto">{text}</span>

// Own is where one types a value that nobody has offered. It is no form: Chromium
// takes longer for each, the more there are.
function Own({ label, first, pick }: { label: string; first: boolean; pick: (value: Value) => void }) {
  const [text, setText] = useState("")
  const value = typed(text.trim())
  const empty = text.trim() === ""
  const submit = () => {
    if (empty) return
    pick(value)
    setText("")
  }
  return (
    <div class="own">
      <input
        aria-label={`${first ? "A" : "Another"} value for ${label}`} placeholder={first ? "type a value" : "or type another value"} value={text} autocomplete="off" spellcheck={false} dir="auto"
        enterKeyHint="go" onInput={event => setText(event.currentTarget.value)}
        onKeyDown={event => { if (event.key === "Enter" && !event.isComposing) submit() }}
      />
      <span class="source">{empty ? "" : kindOf(value)}</span>
      <button type="button" class={`small ${empty ? "away" : ""}`} disabled={empty} onClick={submit}>Pick it</button>
    </div>
  )
}
