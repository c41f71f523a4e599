package protocol

import (
	"slices"

	"parley/crdt"
)

// Options say what Generate may send. They may differ from call to call.
type Options struct {
	// Snapshot is sent instead of most changes to a peer that lacks them and
	// reads V2, if that is shorter. Nil: changes only.
	Snapshot *crdt.Snapshot
	// Refused says which changes were refused from this peer: they are never
	// asked for. What one peer may not write another may bring, so a refusal for
	// the sender's sake counts for its connection only.
	Refused func(crdt.Hash) bool
	// Held says which changes wait for others, and Missing which others those
	// are: they are asked for.
	Held    func(crdt.Hash) bool
	Missing []crdt.Hash
	// Deps returns what a refused or held change depends on, not nil even if it
	// is nothing; nil for changes that it does not know. With it, what a peer
	// lacks that has refused changes is known exactly; without, its Bloom filter
	// has to do, which old peers do not always recover from.
	Deps func(crdt.Hash) []crdt.Hash
	// ReadOnly tells the peer that we take no changes from it, and asks for
	// none. There is no way back: it makes the peer write V2, in which its
	// changes cannot be taken. To let it write, begin a new connection.
	ReadOnly bool
	// MaxBytes cuts a message that would have more bytes of changes. The rest
	// follows when the peer has answered. A single change or a snapshot may be
	// longer. Default 8 MiB.
	MaxBytes int
}

const defaultMaxBytes = 8 << 20

// Generate returns the message that the peer should have now, with all durable
// changes that it lacks; false, if it needs none. A returned message must
// reach the peer, in order, or the connection must end.
//
// It decides as Automerge's generate_sync_message does, with these exceptions.
//
// Once we know all of the peer's heads, we know exactly what it lacks and
// consult no Bloom filter. If a message brings it all of that, we say that
// we are in sync at our heads, instead of describing with a filter what it just
// got.
//
// Nothing is repeated. Automerge answers every message as long as the heads
// differ, which never ends if one side refuses a change of the other. We speak
// if there are changes to send, or if our heads or what we need are not what we
// last said. Since the transport loses nothing, the peer then knows all that
// we could tell it.
func (s *State) Generate(g *crdt.Graph, opt Options) (*Message, bool) {
	s.settle(g, opt.Deps)
	sayReadOnly := opt.ReadOnly && !s.toldReadOnly
	sameHeads := s.HaveResponded && !sayReadOnly && slices.Equal(s.LastSentHeads, g.Heads())
	if (s.InFlight || s.resetInFlight) && sameHeads {
		return nil, false
	}
	if sameHeads && s.settled && slices.Equal(s.TheirHeads, g.Heads()) && len(opt.Missing) == 0 {
		return nil, false // in step: the common case is the cheapest
	}
	if s.lastSyncUnknown(g, opt) && !s.resetSent {
		return s.reset(g, opt), true
	}
	need := s.need(g, opt)
	out := s.collect(g, opt)
	if sameHeads && out.empty() && subset(need, s.lastSentNeed) {
		return nil, false
	}
	return s.send(g, opt, need, out), true
}

func (s *State) send(g *crdt.Graph, opt Options, need []crdt.Hash, out outgoing) *Message {
	m := s.message(g, opt)
	m.Need = need
	m.Have = []Have{s.have(g, out.all)}
	m.Version, m.Changes = out.chunks(g)
	s.lastSentNeed = need
	s.noteSent(g, out)
	return m
}

// message returns an empty message that is about to be sent.
func (s *State) message(g *crdt.Graph, opt Options) *Message {
	m := &Message{Version: V1, Heads: g.Heads()}
	if opt.ReadOnly {
		m.Capabilities = readOnlyCapabilities
	}
	s.toldReadOnly = opt.ReadOnly
	s.HaveResponded = true
	s.LastSentHeads = g.Heads()
	return m
}

// lastSyncUnknown says whether the peer's filter begins at something that we
// know nothing of, so that it does not say what the peer has.
func (s *State) lastSyncUnknown(g *crdt.Graph, opt Options) bool {
	if len(s.TheirHave) == 0 {
		return false
	}
	return slices.ContainsFunc(s.TheirHave[0].LastSync, func(h crdt.Hash) bool { return opt.unknown(g, h) })
}

// unknown says whether h was neither accepted nor refused, and is not held.
func (o *Options) unknown(g *crdt.Graph, h crdt.Hash) bool {
	return !g.Accepted(h) && (o.Refused == nil || !o.Refused(h)) && (o.Held == nil || !o.Held(h))
}

// reset returns the message that makes the peer describe itself, and send what
// it has, as if we had never met.
func (s *State) reset(g *crdt.Graph, opt Options) *Message {
	m := s.message(g, opt)
	m.Have = []Have{{}}
	s.lastSentNeed = nil
	s.resetSent, s.resetInFlight = true, true
	return m
}

// need returns the changes to ask for by name: heads of the peer that we know
// nothing of, and what held changes wait for.
func (s *State) need(g *crdt.Graph, opt Options) []crdt.Hash {
	if opt.ReadOnly || s.settled && len(opt.Missing) == 0 {
		return nil
	}
	var need []crdt.Hash
	add := func(h crdt.Hash) {
		if opt.unknown(g, h) {
			need = append(need, h)
		}
	}
	for _, h := range s.TheirHeads {
		add(h)
	}
	for _, h := range opt.Missing {
		add(h)
	}
	return crdt.SortHashes(need)
}

// subset says whether all of hs are in of; both are sorted, since the peer
// decides how many there are.
func subset(hs, of []crdt.Hash) bool {
	return !slices.ContainsFunc(hs, func(h crdt.Hash) bool { return !containsHash(of, h) })
}

func containsHash(sorted []crdt.Hash, h crdt.Hash) bool {
	_, ok := slices.BinarySearchFunc(sorted, h, crdt.Hash.Compare)
	return ok
}

// have describes what we have. If the peer gets all that it lacks, the
// description is our heads.
func (s *State) have(g *crdt.Graph, all bool) Have {
	if all {
		return Have{LastSync: g.Heads()}
	}
	shared := s.SharedHeads
	if len(g.Missing(shared)) > 0 { // restored, and lost since
		shared = durable(g, shared)
	}
	return Have{LastSync: shared, Bloom: MakeBloom(g, g.AppendSince(nil, shared))}
}

// noteSent takes note of what goes out, so that it does not go out again.
func (s *State) noteSent(g *crdt.Graph, out outgoing) {
	s.InFlight = out.cut
	if out.all {
		s.sentHeads, s.sent = g.Heads(), nil
		if slices.Equal(s.TheirHeads, g.Heads()) {
			s.sentHeads = nil
		}
		return
	}
	if out.snapshot != nil {
		s.sentHeads = slices.Concat(s.sentHeads, out.snapshot.Heads)
	}
	if len(out.changes) > 0 {
		s.sent = append(s.sent, out.changes...)
		slices.Sort(s.sent)
	}
}
