// Reads one JSON array of base64 chunks a line and answers each with the
// document they make, in the JSON that crdt.Materialize writes. The answer to an
// empty line is the change, in hexadecimal, that this library makes of one edit.
import { createInterface } from "node:readline"
import * as A from "@automerge/automerge"
import { toJSON } from "./plain.mjs"

const oneEdit = () => {
  let doc = A.init({ actor: "0102" })
  doc = A.change(doc, { message: "m", time: 1 }, d => { d.a = new A.ImmutableString("b") })
  return Buffer.from(A.getLastLocalChange(doc)).toString("hex")
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "") {
    console.log(oneEdit())
    continue
  }
  const chunks = JSON.parse(line).map(c => new Uint8Array(Buffer.from(c, "base64")))
  const [doc] = A.applyChanges(A.init(), chunks)
  console.log(toJSON(doc))
}
