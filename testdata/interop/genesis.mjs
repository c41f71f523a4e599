// The first change of a transaction's document, as any replica makes it without
// asking anybody: always the same bytes for the same transaction. Its
// counterpart in Go is crdt/transaction/genesis.go.
import * as A from "@automerge/automerge"
import { stringifyAutomergeUrl } from "@automerge/automerge-repo/slim"

export const schema = "parley/1"

// "parley/1 genesis" in ASCII.
const actor = "7061726c65792f312067656e65736973"

const namespace = Uint8Array.from("6d477204aff44124a0809205b639d762".match(/../g), byte => parseInt(byte, 16))

// genesis returns a document that holds the change and nothing else.
export const genesis = transaction => A.change(A.init({ actor }), { message: schema, time: 0 }, doc => {
  doc.schema = new A.ImmutableString(schema)
  doc.transaction = new A.ImmutableString(transaction)
  doc.fields = {}
  doc.selections = {}
})

// documentBytes returns the UUID, version 5, that names a transaction's document.
export const documentBytes = async transaction => {
  const name = new TextEncoder().encode("conflict-resolution:" + transaction)
  const hash = await crypto.subtle.digest("SHA-1", new Uint8Array([...namespace, ...name]))
  const bytes = new Uint8Array(hash).slice(0, 16)
  bytes[6] = (bytes[6] & 0x0f) | 0x50
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  return bytes
}

// documentUrl returns the document's automerge-repo URL.
export const documentUrl = async transaction =>
  stringifyAutomergeUrl({ documentId: await documentBytes(transaction) })
