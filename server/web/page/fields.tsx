// The fields of a transaction. There may be thousands, and most changes are about one.
import type { VNode } from "preact"
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks"
import type { Field, State, View } from "../client"
import { FieldSection, type Hands } from "./field"
import { knownNames } from "./words"

interface Props {
  state: State
  view: View // as of now, or as it was
  hands: Hands | null
  sought: Sought | null
}

/** A field that somebody wants to be led to, a new one each time. */
export interface Sought {
  readonly field: string
}

export function Fields(props: Props) {
  const { state, view } = props
  const fields = useMemo(() => fieldsOf(view), [view.fields, view.selections])
  const drawn = useDrawn(fields.length)
  const sections = useSections(props, fields, drawn)
  useSought(props.sought, drawn)
  if (!state.loaded) return <p class="empty">Opening the transaction…</p>
  if (fields.length === 0) return <p class="empty">{emptyText(state)}</p>
  return <>{sections}</>
}

function emptyText(state: State): string {
  if (state.connection.state === "connecting") return "Opening the transaction…"
  if (state.connection.state !== "online") return "Nothing of this transaction is on this device yet. It appears when the server can be reached."
  return "There is nothing to agree on yet: a host has to write the fields. They appear here by themselves."
}

/** fieldsOf adds to the fields of the host those for which somebody picked all the same. */
function fieldsOf(view: View): readonly Field[] {
  const named = new Set(view.fields.map(f => f.name))
  const strays = Object.keys(view.selections).filter(name => !named.has(name))
  return strays.length === 0 ? view.fields : [...view.fields, ...strays.map(stray)]
}

const strays = new Map<string, Field>()

// stray is the same for the same name, as what the host wrote is.
function stray(name: string): Field {
  const field = strays.get(name) ?? { name, label: name, required: false, options: [] }
  strays.set(name, field)
  return field
}

// How many fields are drawn in one go: more than most transactions have, and few
// enough for the page to answer meanwhile.
const slice = 50

// useDrawn says how many fields are drawn: the first at once, the others slice by
// slice, with time for everything else between them. On paper they all are.
function useDrawn(all: number): number {
  const [drawn, draw] = useState(slice)
  useLayoutEffect(() => {
    if (drawn >= all) return
    const timer = setTimeout(() => draw(drawn + slice))
    return () => clearTimeout(timer)
  }, [drawn, all])
  useLayoutEffect(() => {
    const drawAll = () => draw(Infinity)
    addEventListener("beforeprint", drawAll)
    return () => removeEventListener("beforeprint", drawAll)
  }, [])
  return drawn
}

/** A section that was drawn, and of what. */
interface Drawn {
  readonly section: VNode
  readonly of: readonly unknown[]
}

// useSections draws fields, and again only those about which something has changed.
function useSections({ state, view, hands }: Props, fields: readonly Field[], drawn: number): readonly VNode[] {
  const last = useRef<ReadonlyMap<string, Drawn>>(new Map())
  return useMemo(() => {
    const others = othersOf(state, hands)
    const draw = (field: Field): Drawn => {
      const here = others.get(field.name)
      const of = [field, view.selections[field.name], here?.join(), state.me.user, hands, knownNames()]
      const before = last.current.get(field.name)
      if (before && of.every((part, i) => part === before.of[i])) return before
      return { of, section: <FieldSection key={field.name} state={state} view={view} field={field} here={here ?? nobody} hands={hands} /> }
    }
    const now = new Map(fields.slice(0, drawn).map(field => [field.name, draw(field)]))
    last.current = now
    return [...now.values()].map(({ section }) => section)
  }, [fields, view.selections, drawn, state.participants, state.me.user, hands, knownNames()])
}

const nobody: readonly string[] = []

// othersOf says who is at which field besides me, for who may do something about it.
function othersOf({ participants, me }: State, hands: Hands | null): Map<string, string[]> {
  const others = new Map<string, string[]>()
  for (const { focus, user } of hands ? participants : []) {
    if (focus !== null && user !== me.user) others.set(focus, [...(others.get(focus) ?? []), user])
  }
  return others
}

// useSought leads to what is sought as soon as it is drawn.
function useSought(sought: Sought | null, drawn: number): void {
  const found = useRef<Sought | null>(null)
  useLayoutEffect(() => {
    if (sought && sought !== found.current && show(sought.field)) found.current = sought
  }, [sought, drawn])
}

// show leads to a field, for the keyboard too, if it is there.
function show(field: string): boolean {
  const heading = document.getElementById(`label ${field}`)
  if (!heading) return false
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches
  heading.scrollIntoView({ block: "center", behavior: still ? "instant" : "smooth" })
  heading.focus({ preventScroll: true })
  return true
}
