// A transaction as a page.
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { State, Transaction } from "../client"
import { Dock, PastDock } from "./dock"
import type { Hands } from "./field"
import { Fields, type Sought } from "./fields"
import type { Identity } from "./identity"
import { Missing, Refused } from "./letter"
import { Announcer, Notices, type Trouble } from "./notices"
import { Connection, People } from "./people"
import { Record, save } from "./record"
import { nothingHere } from "./refusal"
import { Timeline, useMoments, type Moment } from "./timeline"
import { dayText, nameOf, rememberNames } from "./words"

function useTransaction(tx: Transaction): State {
  const [state, setState] = useState(tx.getState())
  useEffect(() => {
    const update = () => setState(tx.getState())
    update()
    return tx.subscribe(update)
  }, [tx])
  rememberNames(state)
  return state
}

export function App({ tx, identity }: { tx: Transaction; identity: Identity }) {
  const state = useTransaction(tx)
  const troubles = useTroubles()
  const moments = useMoments(tx, state)
  const [sought, seek] = useState<Sought | null>(null)
  const [wanted, setPast] = useState<Moment | null>(null)
  const found = moments.findIndex(m => m.key === wanted?.key)
  const [past, at] = found < 0 ? [null, null] : [wanted, found] // a moment may be gone that the server refused
  const go = (to: number | null) => setPast(to === null ? null : (moments[to] ?? null))
  const then = useMemo(() => (past === null ? undefined : tx.at(past.heads)), [tx, past])
  const hands = useHands(tx, state, then !== undefined, troubles.tell)
  const download = () => {
    const path = `/v1/transactions/${encodeURIComponent(tx.id)}/export` + (past ? `?at=${past.heads.join()}` : "")
    save(identity, path, `${tx.id}.zip`).catch(troubles.tell)
  }
  useTitle(state)
  if (state.loaded && nothingHere(state) && state.connection.unavailable) return <Missing identity={identity} />
  if (state.loaded && nothingHere(state) && state.connection.state === "refused") return <Refused tx={tx} state={state} />
  return (
    <>
      <div class={`sheet ${then ? "past" : ""}`}>
        <button type="button" class="skip" onClick={() => document.querySelector<HTMLElement>(".dock")?.focus()}>Skip the fields</button>
        <header class="head"><p class="mark">Parley</p><h1>{tx.id}</h1><Paper state={state} /></header>
        <div class="strip">
          <People state={state} />
          <Connection tx={tx} state={state} />
        </div>
        <div class="body">
          <main><Fields state={state} view={then ?? state} hands={hands} sought={sought} /></main>
          <aside aria-label="History and record">
            <Timeline state={state} moments={moments} at={at} go={go} />
            <Record state={state} id={tx.id} past={then !== undefined} download={download}
              saveKey={() => { save(identity, "/v1/key", "parley.pub").catch(troubles.tell) }} />
          </aside>
        </div>
      </div>
      {then && at !== null
        ? <PastDock state={state} moments={moments} at={at} go={go} />
        : <Dock tx={tx} state={state} show={field => seek({ field })} download={download} />}
      <Notices state={state} troubles={troubles.list} dismiss={troubles.dismiss} />
      <Announcer state={state} />
    </>
  )
}

// Paper says on paper what a screen need not: who is meant by you, and of which day it is.
function Paper({ state }: { state: State }) {
  const line = useRef<HTMLParagraphElement>(null)
  const name = state.me.user === "" ? "" : nameOf(state.me.user)
  useEffect(() => {
    const write = () => {
      line.current!.textContent = `As it was on ${dayText(new Date())}. A time without a date is of that day` + (name ? `, and “you” are ${name}.` : ".")
    }
    write()
    addEventListener("beforeprint", write)
    return () => removeEventListener("beforeprint", write)
  }, [name])
  return <p class="paper" ref={line} />
}

function useHands(tx: Transaction, state: State, past: boolean, tell: (error: unknown) => void): Hands | null {
  const { role } = state.me
  const final = state.policy === "lock" && state.resolution !== null
  const may = !past && !final && state.loaded && (role === "party" || role === "host")
  const hands = useMemo<Hands>(() => {
    // What is wrong with a pick is thrown at once, or comes later if it cannot be kept.
    const attempt = (act: () => Promise<string>) => {
      try {
        act().catch(tell)
      } catch (error) {
        tell(error)
      }
    }
    return {
      pick: (field, value) => attempt(() => tx.pick(field, value)),
      pickOption: (field, option) => attempt(() => tx.pickOption(field, option)),
      withdraw: field => attempt(() => tx.withdraw(field)),
      focus: field => tx.focus(field),
    }
  }, [tx])
  return may ? hands : null
}

let troubleCount = 0

function useTroubles() {
  const [list, setList] = useState<readonly Trouble[]>([])
  const tell = useMemo(() => (error: unknown) => {
    const text = error instanceof Error ? error.message : String(error)
    setList(list => [...list, { n: ++troubleCount, text: text.charAt(0).toUpperCase() + text.slice(1) }])
  }, [])
  return { list, tell, dismiss: (n: number) => setList(list => list.filter(t => t.n !== n)) }
}

function useTitle(state: State): void {
  const mark = state.resolution ? "✓ " : state.contested.length > 0 ? "! " : ""
  useEffect(() => {
    document.title = `${mark}${state.id} · Parley`
  }, [mark, state.id])
}
