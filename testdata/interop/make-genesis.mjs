// Prints the golden file of crdt/transaction: for some transaction ids the first
// change as @automerge/automerge makes it, and what automerge-repo calls the
// document.
//
//	node make-genesis.mjs > ../genesis/genesis.json
import * as A from "@automerge/automerge"
import { parseAutomergeUrl } from "@automerge/automerge-repo/slim"
import { documentUrl, genesis } from "./genesis.mjs"

const ids = ["a", "-", "42", "deal-2024.10", "A.z_9~-", "~".repeat(127), "x".repeat(128), "0123456789abcdef".repeat(8)]

const golden = []
for (const transaction of ids) {
  const chunk = A.getLastLocalChange(genesis(transaction))
  const url = await documentUrl(transaction)
  golden.push({
    transaction,
    chunk: Buffer.from(chunk).toString("hex"),
    hash: A.decodeChange(chunk).hash,
    documentId: parseAutomergeUrl(url).documentId, // throws if it takes no such URL
    url,
  })
}
console.log(JSON.stringify(golden, null, 1))
