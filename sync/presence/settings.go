package presence

import (
	"slices"

	"parley/crdt"
)

// Settings are what a transaction is created with besides its fields: who must
// agree, and what an agreement does.
type Settings struct {
	Parties []string `json:"parties"` // the users who must agree, sorted; empty: the parties present
	Quorum  int      `json:"quorum"`  // how many of them must; 0: all
	Policy  Policy   `json:"policy"`  // what becomes of changes after an agreement
}

// Policy says what becomes of changes after an agreement.
type Policy string

// The policies.
const (
	Reopen Policy = "reopen" // they open the transaction again
	Lock   Policy = "lock"   // they are refused
)

// leastParties is how many must agree where nobody was named.
const leastParties = 2

// Resolution is an agreement: the parties in it were all ready for exactly its
// heads. There is at most one for any heads. It is written to disk before
// anybody hears of it, and never altered.
type Resolution struct {
	N       int         // counts the transaction's resolutions from 1
	Heads   []crdt.Hash // sorted
	Parties []string    // who was ready, of those who were needed; sorted
	Quorum  int         // how many had to be
	At      int64       // milliseconds since 1970 by the server's clock
	// Checkpoint is the server's signed word on all of this and on the log of the
	// document's receipts up to it (server/audit), "" from a server that signs
	// nothing. Who keeps it can prove later what was agreed on.
	Checkpoint string
}

// Over reports whether it is the agreement over these heads, which are sorted.
func (r *Resolution) Over(heads []crdt.Hash) bool {
	return r != nil && slices.Equal(r.Heads, heads)
}
