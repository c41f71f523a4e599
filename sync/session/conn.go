package session

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// maxEphemeralSessions is how many sessions of one peer a connection keeps
// counts for. A client process has one; more come only from restarts behind a
// connection that outlives them.
const maxEphemeralSessions = 8

// ConnConfig is what the connections of a server have in common.
type ConnConfig struct {
	// Self is the server's peer id; Storage names its store.
	Self    wire.PeerID
	Storage wire.StorageID
	Limits  Limits // with defaults set
}

// Conn is the machine of one connection: the handshake, and the reading of
// frames into inputs for documents.
type Conn struct {
	cfg    *ConnConfig
	id     ConnID
	person presence.Person
	access *Access // nil: everything

	peer      Peer // zero until the join
	joined    bool
	documents map[crdt.DocumentID]struct{}
	counts    []sessionCount // ephemeral de-duplication, oldest first
	remotes   map[wire.StorageID]struct{}
	denied    map[crdt.DocumentID]struct{} // of which the client was told
}

type sessionCount struct {
	session wire.SessionID
	count   uint64
}

// NewConn returns the machine of a connection that has just been accepted from
// a person.
func NewConn(id ConnID, person presence.Person, cfg *ConnConfig) *Conn {
	return &Conn{cfg: cfg, id: id, person: person}
}

// Event is what one frame comes to: [Joined], [Deliver], [Subscribe], [Reply],
// [Close], or nil for a frame that is to be ignored.
type Event interface{ event() }

// Joined says that the handshake is done. The shell registers the peer,
// replaces an older connection of the same peer id, then sends Reply.
type Joined struct {
	Peer  Peer
	Reply []byte
}

// Deliver hands Input to the machine of Document.
type Deliver struct {
	Document crdt.DocumentID
	Input    Input
	// Subscriptions goes to the document before Input. It is nil unless this
	// connection opens the document now and has subscribed to remote heads.
	Subscriptions *SubscribeInput
	// Size is about what Input takes in memory, in bytes.
	Size int
}

// Subscribe hands Input to every document that this connection has open, and
// to those it opens later.
type Subscribe struct{ Input SubscribeInput }

// Reply is a frame to send back at once, and what follows it, if it is not nil.
type Reply struct{ Frame, Next []byte }

// Close ends the connection: send Frame, if there is one, then close with Code.
type Close struct {
	Code   CloseCode
	Reason string
	Frame  []byte
	// Goodbye: the client took leave. The documents are told so in [GoneInput].
	Goodbye bool
}

func (Joined) event()    {}
func (Deliver) event()   {}
func (Subscribe) event() {}
func (Reply) event()     {}
func (Close) event()     {}

// Joined says whether the client has said who it is.
func (c *Conn) Joined() bool { return c.joined }

// Peer returns who joined, or the zero Peer before that.
func (c *Conn) Peer() Peer { return c.peer }

// MaxFrame is the length in bytes that the next frame may have.
func (c *Conn) MaxFrame() int {
	if !c.joined {
		return c.cfg.Limits.JoinFrame
	}
	return c.cfg.Limits.Frame
}

// Receive reads one binary frame. It keeps no reference into it.
func (c *Conn) Receive(frame []byte) Event {
	ev := c.receive(frame)
	if d, ok := ev.(Deliver); ok {
		d.Size += len(frame)
		return d
	}
	return ev
}

func (c *Conn) receive(frame []byte) Event {
	m, err := wire.Decode(frame, wire.Limits{Frame: c.cfg.Limits.Frame})
	if err != nil {
		return c.undecodable(err)
	}
	if join, ok := m.(*wire.Join); ok {
		return c.join(join)
	}
	if !c.joined {
		return c.refuse(CloseBadFrame, "the first frame must be a join")
	}
	switch m := m.(type) {
	case *wire.Request:
		return c.sync(m.SenderID, m.DocumentID, m.Data, true)
	case *wire.Sync:
		return c.sync(m.SenderID, m.DocumentID, m.Data, false)
	case *wire.DocUnavailable:
		return c.deliver(m.SenderID, m.DocumentID, &UnavailableInput{From: c.peer})
	case *wire.Ephemeral:
		return c.ephemeral(m)
	case *wire.RemoteSubscriptionChange:
		return c.subscribe(m)
	case *wire.RemoteHeadsChanged:
		return c.deliver(m.SenderID, m.DocumentID, &RemoteHeadsInput{From: c.peer, Heads: m.NewHeads})
	case *wire.Leave:
		return Close{Code: CloseNormal, Reason: "goodbye", Goodbye: true}
	}
	return nil // error, peer and unknown types say nothing to a server
}

// ReceiveText answers a text frame, which the protocol does not have.
func (c *Conn) ReceiveText() Event {
	return c.refuse(CloseBadFrame, "text frames are not part of the protocol: send CBOR in binary frames")
}

// JoinTimeout answers the silence of a client that does not join.
func (c *Conn) JoinTimeout() Close {
	return c.refuse(CloseJoinTimeout, "no join frame came in time")
}

func (c *Conn) undecodable(err error) Event {
	var bad *wire.Error
	if c.joined && errors.As(err, &bad) && bad.Kind == wire.KindDocument {
		// Such a document cannot exist here. Said so, the client's find ends.
		return Reply{Frame: wire.Append(nil, &wire.DocUnavailable{
			SenderID: c.cfg.Self, TargetID: c.peer.ID, DocumentText: bad.DocumentText,
		})}
	}
	return c.refuse(CloseBadFrame, err.Error())
}

func (c *Conn) join(m *wire.Join) Event {
	switch {
	case c.joined:
		return c.refuse(CloseBadFrame, "this connection has joined already")
	case len(m.Versions) > 0 && !slices.Contains(m.Versions, wire.ProtocolVersion):
		c.peer.ID = m.SenderID // the error frame is addressed to it
		return c.refuse(CloseVersion, fmt.Sprintf("unsupported protocol version: this server speaks %q", wire.ProtocolVersion))
	case m.SenderID == c.cfg.Self:
		return c.refuse(CloseBadFrame, "the peer id is this server's own: choose another")
	}
	c.joined = true
	c.peer = Peer{Conn: c.id, ID: m.SenderID, Person: c.person, TransactionsOnly: c.access != nil}
	if !m.Metadata.IsEphemeral {
		c.peer.Storage = m.Metadata.StorageID
	}
	return Joined{Peer: c.peer, Reply: wire.Append(nil, &wire.Peer{
		SenderID: c.cfg.Self,
		TargetID: c.peer.ID,
		Metadata: wire.Metadata{StorageID: c.cfg.Storage},
		Version:  wire.ProtocolVersion,
	})}
}

func (c *Conn) sync(sender wire.PeerID, doc crdt.DocumentID, data []byte, request bool) Event {
	if sender != c.peer.ID {
		return nil
	}
	if !c.covers(doc) {
		return c.deny(doc)
	}
	in, refusal := decodeSync(data, c.cfg.Limits)
	if refusal != nil {
		return c.refuse(refusal.code, refusal.reason)
	}
	in.From, in.Request = c.peer, request
	ev := c.deliver(sender, doc, in)
	if d, ok := ev.(Deliver); ok {
		d.Size = in.size
		return d
	}
	return ev
}

// deliver checks what holds for every message about a document.
func (c *Conn) deliver(sender wire.PeerID, doc crdt.DocumentID, in Input) Event {
	if sender != c.peer.ID {
		return nil // not said by whom it claims: no answer for the spoofer
	}
	if !c.covers(doc) {
		return nil
	}
	if _, open := c.documents[doc]; open {
		return Deliver{Document: doc, Input: in}
	}
	if len(c.documents) >= c.cfg.Limits.Documents {
		return c.refuse(CloseTooLarge, fmt.Sprintf("more than %d documents on one connection: open another", c.cfg.Limits.Documents))
	}
	if c.documents == nil {
		c.documents = make(map[crdt.DocumentID]struct{})
	}
	c.documents[doc] = struct{}{}
	return Deliver{Document: doc, Input: in, Subscriptions: c.subscriptions()}
}

// ephemeral admits what this peer itself wrote, once. Clients echo what they
// receive to all their peers; an echo bears its author's id and ends here.
func (c *Conn) ephemeral(m *wire.Ephemeral) Event {
	if m.SenderID != c.peer.ID || !c.fresh(m.SessionID, m.Count) {
		return nil
	}
	if !c.covers(m.DocumentID) {
		return c.deny(m.DocumentID)
	}
	if len(m.Data) > c.cfg.Limits.Ephemeral {
		return Reply{Frame: c.errorFrame(fmt.Sprintf("ephemeral messages may have at most %d bytes", c.cfg.Limits.Ephemeral))}
	}
	m.Data = slices.Clone(m.Data)
	return c.deliver(m.SenderID, m.DocumentID, &EphemeralInput{From: c.peer, Message: *m})
}

func (c *Conn) fresh(session wire.SessionID, count uint64) bool {
	i := slices.IndexFunc(c.counts, func(s sessionCount) bool { return s.session == session })
	if i >= 0 {
		if count <= c.counts[i].count {
			return false
		}
		c.counts[i].count = count
		return true
	}
	if len(c.counts) == maxEphemeralSessions {
		c.counts = slices.Delete(c.counts, 0, 1)
	}
	c.counts = append(c.counts, sessionCount{session, count})
	return true
}

func (c *Conn) subscribe(m *wire.RemoteSubscriptionChange) Event {
	if m.SenderID != c.peer.ID {
		return nil
	}
	for _, store := range m.Remove {
		delete(c.remotes, store)
	}
	for _, store := range m.Add {
		if len(c.remotes) >= maxSubscriptions {
			break
		}
		if c.remotes == nil {
			c.remotes = make(map[wire.StorageID]struct{})
		}
		c.remotes[store] = struct{}{}
	}
	return Subscribe{SubscribeInput{From: c.peer, Add: m.Add, Remove: m.Remove}}
}

// subscriptions is what a document that is opened now has to know.
func (c *Conn) subscriptions() *SubscribeInput {
	if len(c.remotes) == 0 {
		return nil
	}
	return &SubscribeInput{From: c.peer, Add: slices.Sorted(maps.Keys(c.remotes))}
}

// refuse makes the error frame that automerge-repo's clients log, and the close
// that follows it.
func (c *Conn) refuse(code CloseCode, reason string) Close {
	return Close{Code: code, Reason: reason, Frame: c.errorFrame(reason)}
}

func (c *Conn) errorFrame(message string) []byte {
	return wire.Append(nil, &wire.ProtocolError{SenderID: c.cfg.Self, TargetID: c.peer.ID, Message: message})
}

// refused says why a frame ends the connection.
type refused struct {
	code   CloseCode
	reason string
}

// decodeSync reads a sync message and the changes it holds. A change that the
// gate refuses but whose hash can be trusted is kept, to be refused by name; a
// change that cannot be read at all ends the connection, since nothing that
// follows it could be told apart from it.
func decodeSync(data []byte, lim Limits) (*SyncInput, *refused) {
	m, err := protocol.Decode(data, protocol.Limits{})
	if err != nil {
		return nil, &refused{CloseBadFrame, err.Error()}
	}
	in := &SyncInput{Message: m, Changes: make([]Decoded, 0, len(m.Changes))}
	ops := 0
	for _, chunk := range m.Changes {
		d := decodeChange(slices.Clone(chunk), lim.Change)
		if d.Refusal != nil && d.Refusal.Change == (crdt.Hash{}) {
			return nil, &refused{CloseBadChange, d.Refusal.Error()}
		}
		if d.Change != nil {
			ops += d.Change.NumOps()
			in.size += d.Change.Size() + d.Change.NumOps()*opCost
		}
		if ops > lim.MessageOps {
			return nil, &refused{CloseTooLarge, fmt.Sprintf("more than %d operations in one message: send fewer changes at a time", lim.MessageOps)}
		}
		if in.size-ops*opCost > lim.MessageBytes {
			return nil, &refused{CloseTooLarge, fmt.Sprintf("more than %d bytes of changes in one message, inflated: send fewer at a time", lim.MessageBytes)}
		}
		in.Changes = append(in.Changes, d)
	}
	m.Changes = nil // in.Changes stand for them
	detach(m)
	return in, nil
}

// opCost is about what a decoded operation takes in memory, in bytes.
const opCost = 104

// detach copies what of a message aliases the frame, which its reader uses again.
func detach(m *protocol.Message) {
	for i := range m.Have {
		m.Have[i].Bloom = slices.Clone(m.Have[i].Bloom)
	}
	m.Capabilities = slices.Clone(m.Capabilities)
}

func decodeChange(chunk []byte, lim crdt.Limits) Decoded {
	change, err := crdt.DecodeChange(chunk, lim)
	var refusal *crdt.Refusal
	if !errors.As(err, &refusal) {
		return Decoded{Change: change}
	}
	d := Decoded{Refusal: refusal}
	if refusal.Change == (crdt.Hash{}) {
		return d // not to be looked into any further: it may be a bomb
	}
	if header, err := crdt.DecodeHeader(chunk); err == nil {
		d.Deps = known(header.Deps)
	}
	return d
}
