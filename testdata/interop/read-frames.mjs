// Reads frames, one in hexadecimal a line on stdin, as automerge-repo's clients
// read them, and writes for each a line of JSON.
import readline from "node:readline"
import { cbor } from "@automerge/automerge-repo"
import { describe } from "./describe.mjs"

for await (const line of readline.createInterface({ input: process.stdin })) {
  let read
  try {
    read = describe(cbor.decode(new Uint8Array(Buffer.from(line, "hex"))))
  } catch (error) {
    read = { error: error.message }
  }
  console.log(JSON.stringify(read))
}
