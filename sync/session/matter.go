package session

import (
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// CodePlainDocument refuses what is no transaction where only those are kept.
const CodePlainDocument crdt.Code = "plain-document"

// matter is what a document is about. Its first change tells: a transaction
// begins with its genesis, every other document is plain.
type matter struct {
	kind  matterKind
	id    transaction.ID
	state *transaction.State      // nil until it is needed
	kept  *transaction.State      // as some durable changes make it; nil until it is needed
	owner map[crdt.ActorID]string // who first used each actor
}

type matterKind int

const (
	matterUnknown matterKind = iota // there is no change yet
	matterPlain
	matterTransaction
)

// recognise learns from what is stored.
func (m *matter) recognise(d *Document) {
	g := d.Graph()
	m.owner = make(map[crdt.ActorID]string)
	if g.Len() == 0 {
		return
	}
	m.kind = matterPlain
	if g.ActorAt(0) != transaction.GenesisActor {
		return // without decoding what it begins with
	}
	if first, err := crdt.DecodeChange(g.ChunkAt(0), d.cfg.Limits.Change); err == nil {
		m.learn(d, first)
	}
	for i := range g.Len() {
		m.own(g.ActorAt(i), d.users[i])
	}
}

// learn tells what a document is from its first change.
func (m *matter) learn(d *Document, first *crdt.Change) {
	m.kind = matterPlain
	if id, ok := transaction.OfGenesis(first); ok && id.Document() == d.id {
		m.kind, m.id = matterTransaction, id
	}
}

// own binds an actor of a transaction to the first user who used it.
func (m *matter) own(a crdt.ActorID, user string) {
	if m.kind != matterTransaction || user == "" || a == transaction.GenesisActor {
		return
	}
	if _, bound := m.owner[a]; !bound {
		m.owner[a] = user
	}
}

// check is the part of the gate that knows what the document is about. The
// change has passed all the rest of it.
func (m *matter) check(d *Document, c *crdt.Change, from Peer) *crdt.Refusal {
	switch m.kind {
	case matterUnknown:
		if id, ok := transaction.OfGenesis(c); ok && id.Document() == d.id {
			return nil // it is nobody's, and every replica has it
		}
		return m.checkPlain(d, c, from)
	case matterPlain:
		return m.checkPlain(d, c, from)
	default:
		if d.isSealed() {
			return &crdt.Refusal{Code: presence.CodeSealed, Change: c.Hash, Reason: presence.SealedSentence}
		}
		state, err := m.transaction(d)
		if err != nil {
			return &crdt.Refusal{Code: transaction.CodeGenesis, Change: c.Hash, Reason: err.Error()}
		}
		return state.Check(c, from.Person.Author(), func(a crdt.ActorID) string { return m.owner[a] })
	}
}

func (m *matter) checkPlain(d *Document, c *crdt.Change, from Peer) *crdt.Refusal {
	switch {
	case !d.cfg.PlainDocuments:
		return &crdt.Refusal{Code: CodePlainDocument, Change: c.Hash,
			Reason: "this server keeps transactions only, and the document does not begin as one"}
	case from.TransactionsOnly:
		return &crdt.Refusal{Code: CodeNotAllowed, Change: c.Hash,
			Reason: "your token is for a transaction, and the document does not begin as one"}
	case from.mayOnlyRead():
		return &crdt.Refusal{Code: transaction.CodeReadOnly, Change: c.Hash,
			Reason: "viewers and auditors may read the document but not change it"}
	}
	return nil
}

// accepted takes note of a change that was appended to the graph.
func (d *Document) accepted(c *crdt.Change, from Delivery) {
	m := &d.matter
	if m.kind == matterUnknown {
		m.learn(d, c)
	}
	d.users = append(d.users, from.User)
	d.unkept = append(d.unkept, from)
	m.own(c.Actor, from.User)
	if m.kind == matterTransaction && m.state != nil {
		if err := m.state.Apply(c); err != nil {
			m.state = nil // it is read again when it is needed
		}
	}
}

// transaction returns the state that all accepted changes make.
func (m *matter) transaction(d *Document) (*transaction.State, error) {
	if m.state == nil {
		state, err := transaction.Load(m.id, d.Graph())
		if err != nil {
			return nil, err
		}
		m.state = state
	}
	return m.state, nil
}

// durable returns the state that the durable changes make. It costs as much as
// applying those that have become so since it was asked last.
func (m *matter) durable(d *Document) (*transaction.State, error) {
	if d.Settled() {
		return m.transaction(d)
	}
	if m.kept == nil {
		m.kept = transaction.Of(m.id, d.Graph())
	}
	if err := m.kept.Follow(d.Graph().Durable()); err != nil {
		m.kept = nil
		return nil, err
	}
	return m.kept, nil
}

// Durable returns what the document's durable changes say of the transaction that
// it is, nil if it is none. It is for reading.
func (d *Document) Durable() (*transaction.State, error) {
	if d.matter.kind != matterTransaction {
		return nil, nil
	}
	return d.matter.durable(d)
}

// Transaction returns what the document's changes say of the transaction that
// it is, durable or not; nil if it is none.
func (d *Document) Transaction() (*transaction.State, error) {
	if d.matter.kind != matterTransaction {
		return nil, nil
	}
	return d.matter.transaction(d)
}

// Write adds changes that the server makes in author's name. What the shell has
// to do is appended to out; the changes are durable when the graph is, up to
// its length now.
func (d *Document) Write(now time.Time, author transaction.Author, changes []*crdt.Change, out []Output) ([]Output, *crdt.Refusal) {
	first := d.Graph().Len()
	from := Peer{Person: presence.Person{User: author.User, Role: author.Role}}
	var refusal *crdt.Refusal
	for _, c := range changes {
		result := d.doc.AddIf(c, func(c *crdt.Change) *crdt.Refusal { return d.matter.check(d, c, from) })
		if result.Status == crdt.Accepted {
			d.accepted(c, Delivery{User: author.User, Role: author.Role, At: now})
			var ready []admission
			ready, out = d.release(c.Hash, out)
			for _, a := range ready {
				out = d.admit(now, a.peer, Decoded{Change: a.change}, out)
			}
		}
		if result.Status == crdt.Refused {
			refusal = result.Refusal
			break
		}
	}
	if n := d.Graph().Len(); n > first {
		out = append(out, Commit{first, n})
	}
	return d.tellRefusals(out), refusal
}
