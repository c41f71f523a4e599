// What is shown in place of a transaction.
import type { ComponentChildren } from "preact"
import { useState } from "preact/hooks"
import sample from "../../../testdata/sample.json"
import type { State, Transaction } from "../client"
import type { Identity } from "./identity"
import { refusalOf } from "./refusal"

export function Letter({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <main class="letter">
      <p class="mark">Parley</p>
      <h1>{title}</h1>
      {children}
    </main>
  )
}

/** NameForm asks who one is, for servers that believe it. */
export function NameForm({ transaction }: { transaction: string }) {
  return (
    <Letter title="Who are you?">
      <p>This server runs with <code>--dev</code> and believes you. Open <b>{transaction}</b> as:</p>
      <form onSubmit={event => {
        event.preventDefault()
        const name = String(new FormData(event.currentTarget).get("name")).trim()
        if (name) location.search = `?user=${encodeURIComponent(name.toLowerCase())}&name=${encodeURIComponent(name)}`
      }}>
        <label>Name <input name="name" required autocomplete="off" /></label>
        <button type="submit" class="strong">Open</button>
      </form>
    </Letter>
  )
}

/** NoName is for addresses that no transaction can have. */
export function NoName({ transaction }: { transaction: string }) {
  const title = transaction === "" ? "Which transaction?" : `“${transaction}” is no transaction`
  return (
    <Letter title={title}>
      <p>The page of a transaction is <code>/t/</code> and its name: up to 128 letters a to z, digits, and <code>. _ ~ -</code></p>
      <p>Look at the address, or open the link that you were sent again.</p>
      <p class="actions"><a class="button" href="/">Go to the start page</a></p>
    </Letter>
  )
}

/** Missing says that the server has no such transaction; it gives way when there is one. */
export function Missing({ identity }: { identity: Identity }) {
  const id = identity.transaction
  return (
    <Letter title={`There is no “${id}” here`}>
      <p>
        This server has no transaction of that name{identity.dev ? "" : ", or your link is not for it"}. Is the
        address right? Nothing was made by opening it.
      </p>
      {identity.dev
        ? <Make id={id} />
        : <p>Open the link that you were sent again, or ask whoever sent it.</p>}
      <p class="quiet">If somebody makes it meanwhile, it appears here by itself.</p>
    </Letter>
  )
}

// Make makes the transaction, as a host would; servers in development let everybody.
function Make({ id }: { id: string }) {
  const [said, say] = useState("")
  const make = async () => {
    const answer = await fetch("/v1/transactions?user=host&role=host", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ id, fields: sample.fields }),
    })
    if (!answer.ok) throw new Error(`The server answers ${answer.status}.`)
    location.reload()
  }
  return (
    <>
      <p class="actions">
        <a class="button strong" href="/">Go to the start page</a>
        <button type="button" id="make" onClick={() => make().catch((error: unknown) => say(`It could not be made. ${String(error)}`))}>
          Make it, with the fields of the sample
        </button>
      </p>
      <p role="status">{said}</p>
    </>
  )
}

/** Refused says why the server lets nobody in with this link. */
export function Refused({ tx, state }: { tx: Transaction; state: State }) {
  const { code, title, text } = refusalOf(state.connection.reason)
  return (
    <Letter title={title}>
      <p role="alert" data-state="refused" data-code={code}>{text}</p>
      <p class="actions"><button type="button" onClick={() => tx.reconnect()}>Try again</button></p>
    </Letter>
  )
}
