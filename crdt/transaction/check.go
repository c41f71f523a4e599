package transaction

import "parley/crdt"

// Role is what a user may do in a transaction.
type Role string

// The roles.
const (
	Host    Role = "host"    // writes fields, and picks
	Party   Role = "party"   // picks
	Viewer  Role = "viewer"  // reads
	Auditor Role = "auditor" // reads, and exports the record
)

// Author is who sends a change, as the server knows it.
type Author struct {
	User string
	Role Role
}

// Check says whether a change may be applied now, nil if it may, and otherwise
// why not. Its dependencies were applied, and it passes crdt.Document.Add too.
// Owner returns the user who first used an actor, "" if nobody has.
//
// The genesis is taken from anybody: it is nobody's. A change that was applied
// is never refused.
func (s *State) Check(c *crdt.Change, author Author, owner func(crdt.ActorID) string) *crdt.Refusal {
	if s.Has(c.Hash) {
		return nil
	}
	if r := s.checkAuthor(c, author, owner); r != nil {
		r.Change = c.Hash
		return r
	}
	read := s.read(c, &author)
	if s.applied == 0 {
		read.refusal = nil // it is the genesis
	}
	if read.refusal == nil {
		s.checked = read.rec
	}
	return read.refusal
}

// checkAuthor checks what the header says.
func (s *State) checkAuthor(c *crdt.Change, author Author, owner func(crdt.ActorID) string) *crdt.Refusal {
	if s.applied == 0 || len(c.Deps) == 0 {
		if c.Hash == Genesis(s.id).Hash {
			return nil
		}
		return newRefusal(CodeGenesis, "")
	}
	if c.Actor == GenesisActor {
		return newRefusal(CodeForeignActor, "it makes the first change and no other")
	}
	if author.Role != Host && author.Role != Party {
		return newRefusal(CodeReadOnly, "")
	}
	if user := owner(c.Actor); user != "" && user != author.User {
		return newRefusal(CodeForeignActor, "")
	}
	return nil
}
