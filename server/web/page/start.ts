// The front page of a --dev server: it makes a sample transaction, if there is
// none, and opens it as one of two people.

import sample from "../../../testdata/sample.json"

const said = document.querySelector<HTMLElement>("#said")!
const people = [...document.querySelectorAll<HTMLAnchorElement>("a[href^='/t/']")]

let id = "sample"

async function make(): Promise<void> {
  const answer = await fetch("/v1/transactions?user=host&role=host", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id, ...sample }),
  })
  if (!answer.ok) throw new Error((await answer.json()).detail ?? answer.statusText)
}

// Links open at once, as browsers want it of new tabs. The transaction is made
// when the page is shown, so that it is there by then.
const tell = (error: unknown) => {
  said.textContent = `The sample could not be made: ${error instanceof Error ? error.message : String(error)}`
}
const exists = () => fetch(`/v1/transactions/${id}?user=host&role=host`).then(answer => answer.ok)
exists().then(there => (there ? undefined : make())).catch(tell)

document.querySelector("#fresh")!.addEventListener("click", () => {
  id = `sample-${Date.now().toString(36)}`
  make().then(() => {
    for (const link of people) link.href = link.href.replace(/\/t\/[^?]*/, `/t/${id}`)
    said.textContent = `The links now open ${id}, a new sample that nobody has touched.`
  }, tell)
})

// The commands are for this server.
if (location.host !== "127.0.0.1:8080") document.querySelector("#server")!.textContent = ` \\\n    --server ws://${location.host}`
