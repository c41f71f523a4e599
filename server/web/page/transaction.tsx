// The page of one transaction: it opens it as the address says, and shows it.
import { render } from "preact"
import { App } from "./app"
import { connect } from "./connect"
import { readIdentity } from "./identity"
import { Letter, NameForm, NoName } from "./letter"

const root = document.querySelector<HTMLElement>("#page")!
const who = readIdentity()
document.title = `${who.transaction} · Parley`

// keepPage comes after the transaction: what people wait for goes first.
function keepPage(): void {
  if (!("serviceWorker" in navigator)) return
  navigator.serviceWorker.register("/worker.js").catch((error: unknown) => {
    console.warn("This page will not open without a network:", error)
  })
}

// What the server takes for the id of a transaction.
const isId = /^[A-Za-z0-9._~-]{1,128}$/

if (!isId.test(who.transaction)) {
  document.title = "Parley"
  root.replaceChildren()
  render(<NoName transaction={who.transaction} />, root)
} else if (who.token === null && who.user === null) {
  root.replaceChildren()
  render(who.dev ? <NameForm transaction={who.transaction} /> : <Letter title="This page needs the link that you were sent">
    <p>The link holds a token that says who you are. This one has none, or the tab that had it was closed: open your link again.</p>
  </Letter>, root)
} else {
  connect(who).then(
    tx => {
      root.replaceChildren()
      render(<App tx={tx} identity={who} />, root)
      keepPage()
    },
    (error: unknown) => {
      root.replaceChildren()
      render(<Letter title="The transaction cannot be opened"><p>{error instanceof Error ? error.message : String(error)}</p></Letter>, root)
    }
  )
}
