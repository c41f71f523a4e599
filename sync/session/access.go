package session

import (
	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/wire"
)

// CodeNotAllowed refuses a document that the client's token is not for.
const CodeNotAllowed crdt.Code = "not-allowed"

// NotAllowedSentence says so.
const NotAllowedSentence = "your token does not open this transaction: ask for one that does"

// Access says which documents a connection may open, if not all. Plain documents
// are never among them: they belong to nobody.
type Access struct {
	// Covers must be pure.
	Covers func(crdt.DocumentID) bool
	// Session must be new: it names the connection in messages of ours.
	Session wire.SessionID
}

// Restrict limits a connection that has not joined yet.
func (c *Conn) Restrict(to Access) { c.access = &to }

func (c *Conn) covers(doc crdt.DocumentID) bool { return c.access == nil || c.access.Covers(doc) }

// deny answers a message about a document that is not for this client as if there
// were none, which is all that the protocol has, and says why, once.
func (c *Conn) deny(doc crdt.DocumentID) Event {
	reply := Reply{Frame: wire.Append(nil, &wire.DocUnavailable{
		SenderID: c.cfg.Self, TargetID: c.peer.ID, DocumentID: doc,
	})}
	if _, told := c.denied[doc]; told || len(c.denied) >= c.cfg.Limits.Documents {
		return reply
	}
	if c.denied == nil {
		c.denied = make(map[crdt.DocumentID]struct{})
	}
	c.denied[doc] = struct{}{}
	why := presence.Rejected{Code: CodeNotAllowed, Message: NotAllowedSentence}
	reply.Next = wire.Append(nil, &wire.Ephemeral{
		SenderID: c.cfg.Self, TargetID: c.peer.ID, DocumentID: doc,
		Count: uint64(len(c.denied)), SessionID: c.access.Session, Data: why.Encode(),
	})
	return reply
}

// readOnly reports whether a peer may only read: its client is told so, and sends
// no changes. A document without any is an exception: its first change, which
// every replica has, is taken from anybody.
func (d *Document) readOnly(p *peer) bool { return p.mayOnlyRead() && d.matter.kind != matterUnknown }

func (p *Peer) mayOnlyRead() bool {
	return p.Person.Role == transaction.Viewer || p.Person.Role == transaction.Auditor
}

// refuseUnsent refuses what a peer that may only read has made nevertheless. It
// does not send that, so that only its heads are known.
func (d *Document) refuseUnsent(p *peer, heads []crdt.Hash, out []Output) []Output {
	if !d.readOnly(p) {
		return out
	}
	for _, h := range heads {
		if !d.Graph().Accepted(h) && !p.refused.has(h) && !d.held.has(h) {
			out = d.refuse(p, readOnlyRefusal(h), nil, out)
		}
	}
	return out
}

func readOnlyRefusal(h crdt.Hash) *crdt.Refusal {
	return &crdt.Refusal{Code: transaction.CodeReadOnly, Change: h, Reason: transaction.Sentence(transaction.CodeReadOnly)}
}
