// The record to take away, and how to check it.
import type { State } from "../client"
import { request, type Identity } from "./identity"
import { refusalOf } from "./refusal"

/** mayHave says who may have the record. */
export const mayHave = ({ me }: State) => me.role === "party" || me.role === "host" || me.role === "auditor"

interface Props {
  state: State
  id: string
  past: boolean
  download(): void
  saveKey(): void
}

export function Record({ state, id, past, download, saveKey }: Props) {
  return (
    <section class="record" aria-labelledby="record">
      <h2 id="record">Record</h2>
      {mayHave(state)
        ? <>
            <p>One file with every pick, who made it and when, and what was agreed. It proves itself without this server.</p>
            <p class="actions">
              <button type="button" onClick={download}>{past ? "Download it as of then" : "Download the record"}</button>
              <button type="button" class="quiet" onClick={saveKey}>Save the key</button>
            </p>
            <p>To verify it, on any machine:</p>
            <pre tabIndex={0} aria-label="The command that verifies the record">parley verify {id}.zip --key parley.pub</pre>
            <p class="quiet">The record is worth as much as the way by which you got the key: ask whoever runs the server for it, too, and compare.</p>
          </>
        : <p class="quiet">Parties, hosts and auditors may have the record.</p>}
    </section>
  )
}

/** save lets the browser keep what a request answers with, or throws what people should know. */
export async function save(who: Identity, path: string, name: string): Promise<void> {
  const answer = await request(who, path).catch(() => {
    throw new Error("The server cannot be reached: the record comes from there. Try again when you are connected.")
  })
  if (!answer.ok) throw new Error(await problem(answer))
  const link = document.createElement("a")
  link.href = URL.createObjectURL(await answer.blob())
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

async function problem(answer: Response): Promise<string> {
  try {
    const { code, detail, title } = (await answer.json()) as { code?: string; detail?: string; title?: string }
    if (answer.status === 401) {
      const refusal = refusalOf(`${code}: ${detail ?? title ?? ""}`)
      return `${refusal.title}. ${refusal.text}`
    }
    return detail ?? title ?? answer.statusText
  } catch {
    return `The server answers ${answer.status}.`
  }
}
