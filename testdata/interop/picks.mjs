// Reads one JSON array of base64 chunks a line, the changes of a transaction,
// and answers each with what the library makes of them: the document, and for
// each field that is picked the winner and all live picks by operation id.
import { createInterface } from "node:readline"
import * as A from "@automerge/automerge"
import { picksOf } from "./picks-of.mjs"

for await (const line of createInterface({ input: process.stdin })) {
  const chunks = JSON.parse(line).map(c => new Uint8Array(Buffer.from(c, "base64")))
  const [doc] = A.applyChanges(A.init(), chunks)
  console.log(picksOf(doc))
}
