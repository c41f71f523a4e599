import * as A from "@automerge/automerge"
import { toJSON } from "./plain.mjs"

// picksOf describes a transaction's document as a line of JSON.
//
// getConflicts answers only where there is more than one value; a pick without
// a rival is described by its operation id all the same.
export const picksOf = doc => {
  const picks = {}
  for (const field of Object.keys(doc.selections)) {
    const rivals = A.getConflicts(doc.selections, field)
    picks[field] = { winner: A.getObjectId(doc.selections[field]), picks: rivals ?? { [A.getObjectId(doc.selections[field])]: doc.selections[field] } }
  }
  return toJSON({ document: doc, picks })
}
