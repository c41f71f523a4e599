// What is shown in place of a transaction.
import type { ComponentChildren } from "preact"

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
        <button type="submit">Open</button>
      </form>
    </Letter>
  )
}
