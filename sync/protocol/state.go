// Package protocol is Automerge's sync protocol for one document and one peer:
// messages, their bytes, and the machine that decides what to send. It speaks
// to any Automerge peer, old (automerge-go of 2023) or new (JavaScript 3.5).
//
// It applies no change and does no IO: whoever drives it decodes a message,
// checks its changes and makes them durable, gives the message to Receive and
// sends what Generate returns. It is pure; session and client packages import
// it. The protocol is that of Automerge's sync.rs and of arXiv:2012.00472; see
// Generate for where the decisions differ.
package protocol

import (
	"bytes"
	"slices"

	"parley/crdt"
)

// State is what we know of one peer's copy of one document. The zero value is
// that of a new connection. Fields have the names that Automerge gives them;
// their slices are not to be modified.
type State struct {
	SharedHeads       []crdt.Hash  // both have these and all they depend on; sorted
	LastSentHeads     []crdt.Hash  // our heads in the last message
	TheirHeads        []crdt.Hash  // in the peer's last message; sorted
	TheirNeed         []crdt.Hash  // kept only until it is known exactly what the peer has
	TheirHave         []Have       // likewise
	TheirCapabilities Capabilities // as last sent; nil: never
	HaveResponded     bool         // the peer has had a message from us
	// InFlight: our last message was cut at Options.MaxBytes and the peer has
	// not answered it. Nothing is sent until it does or our heads move: a peer that had
	// all of that already has nothing to answer.
	InFlight bool

	lastSentNeed []crdt.Hash
	heard        bool        // the peer has sent a message
	settled      bool        // we know exactly what the peer has of what is durable here:
	theirs       []crdt.Hash // these, and all they depend on
	toldReadOnly bool
	resetSent    bool // for the LastSync that we do not know
	// resetInFlight: the reset is not answered. Nothing is sent until it is or
	// our heads move; old peers do not always answer.
	resetInFlight bool
	resends       int // how often we forgot what we had sent, since the peer was last in step

	// What we sent and the peer's heads do not show yet: all that sentHeads
	// depend on, themselves included, and the changes with the indices sent
	// (ascending). Both are cut with each message from the peer.
	sentHeads []crdt.Hash
	sent      []int
}

// maxResends bounds how often a peer that seems to have lost what we sent gets
// it again, so that one which cannot keep it causes no endless exchange.
const maxResends = 3

// Receive takes note of the peer's message. Its changes have been dealt with:
// they are durable in g, or held, or refused (see Options). The state keeps
// m.Heads and m.Need, but nothing of the bytes that m was decoded from.
func (s *State) Receive(g *crdt.Graph, m *Message) {
	answered := s.InFlight
	s.InFlight, s.resetInFlight = false, false
	s.heard = true
	s.settled = false
	s.TheirHeads = sorted(m.Heads)
	s.TheirNeed = sorted(m.Need)
	s.TheirHave = m.Have
	if m.Capabilities != nil {
		s.noteCapabilities(m.Capabilities)
	}
	if s.lostOurs(g, m, answered) {
		s.forgetSent()
	}
	s.settle(g, nil)
	if !s.settled {
		s.TheirHave = cloneHaves(m.Have)
		s.noteKnown(g)
	}
}

// sorted returns hs in ascending order and without repeats, as honest peers
// send them.
func sorted(hs []crdt.Hash) []crdt.Hash {
	for i := 1; i < len(hs); i++ {
		if hs[i-1].Compare(hs[i]) >= 0 {
			return crdt.SortHashes(slices.Clone(hs))
		}
	}
	return hs
}

// cloneHaves copies what is part of a received frame.
func cloneHaves(haves []Have) []Have {
	haves = slices.Clone(haves)
	for i := range haves {
		haves[i].Bloom = bytes.Clone(haves[i].Bloom)
	}
	return haves
}

func (s *State) noteCapabilities(c Capabilities) {
	if !bytes.Equal(c, s.TheirCapabilities) || s.TheirCapabilities == nil {
		s.TheirCapabilities = slices.Clone(c)
	}
}

// lostOurs says whether the peer does not have what we sent: it says so, it has
// nothing at all, it knows nothing of what we took to be shared, or it asks for
// something that it was sent in full.
func (s *State) lostOurs(g *crdt.Graph, m *Message, answered bool) bool {
	if len(s.sentHeads) == 0 && len(s.sent) == 0 {
		return false
	}
	if m.Capabilities.Flags()&SyncReset != 0 || len(m.Heads) == 0 || m.isReset() {
		return true
	}
	return !answered && len(s.sentHeads) > 0 && slices.ContainsFunc(m.Need, g.Has) && len(g.Missing(m.Heads)) == 0
}

func (s *State) forgetSent() {
	if s.resends == maxResends {
		return
	}
	s.resends++
	s.sentHeads, s.sent = nil, nil
	s.HaveResponded = false
}

// settle notices when the peer's heads say exactly what it has. From then on
// its filters and wishes are not needed.
func (s *State) settle(g *crdt.Graph, depsOf func(crdt.Hash) []crdt.Hash) {
	if s.settled || !s.heard {
		return
	}
	theirs, ok := frontier(g, s.TheirHeads, depsOf)
	if !ok {
		return
	}
	s.settled = true
	s.resetSent = false
	s.TheirNeed, s.TheirHave = nil, nil
	if slices.Equal(s.TheirHeads, g.Heads()) {
		s.TheirHeads = g.Heads() // let go of the message's copy
		theirs = g.Heads()
		s.sentHeads, s.sent = nil, nil
		s.resends = 0
	} else {
		s.cutSent(g, theirs)
	}
	s.theirs = theirs
	s.SharedHeads = theirs
}

// frontier returns the durable changes that are among heads or, behind changes
// whose deps depsOf knows, nearest to them: with their ancestors they are all
// the durable changes that a peer with these heads has. It fails if there is a
// change that nobody knows.
func frontier(g *crdt.Graph, heads []crdt.Hash, depsOf func(crdt.Hash) []crdt.Hash) ([]crdt.Hash, bool) {
	outside := g.Missing(heads)
	if len(outside) == 0 {
		return heads, true
	}
	if depsOf == nil {
		return nil, false
	}
	found := durable(g, heads)
	seen := make(map[crdt.Hash]bool)
	for len(outside) > 0 {
		h := outside[len(outside)-1]
		outside = outside[:len(outside)-1]
		if seen[h] {
			continue
		}
		seen[h] = true
		deps := depsOf(h)
		if deps == nil {
			return nil, false
		}
		found = append(found, durable(g, deps)...)
		outside = append(outside, g.Missing(deps)...)
	}
	return crdt.SortHashes(found), true
}

// noteKnown learns what it can from a message whose heads we do not all have.
func (s *State) noteKnown(g *crdt.Graph) {
	known := durable(g, s.TheirHeads)
	lacking := g.AppendSince(nil, known)
	for _, h := range s.SharedHeads {
		if i, ok := g.Index(h); ok && contains(lacking, i) {
			known = append(known, h)
		}
	}
	s.SharedHeads = crdt.SortHashes(known)
	s.cutSent(g, s.TheirHeads, s.theirLastSync(g))
}

// cutSent drops from what was sent all that the peer is now known to have.
func (s *State) cutSent(g *crdt.Graph, has ...[]crdt.Hash) {
	if len(s.sentHeads) == 0 && len(s.sent) == 0 {
		return
	}
	lacking := g.AppendSince(nil, has...)
	var heads []crdt.Hash
	for _, h := range s.sentHeads {
		if i, ok := g.Index(h); ok && contains(lacking, i) {
			heads = append(heads, h)
		}
	}
	s.sentHeads = heads
	s.sent = slices.DeleteFunc(s.sent, func(i int) bool { return !contains(lacking, i) })
}

func contains(ascending []int, i int) bool {
	_, ok := slices.BinarySearch(ascending, i)
	return ok
}

func durable(g *crdt.Graph, hs []crdt.Hash) []crdt.Hash {
	var known []crdt.Hash
	for _, h := range hs {
		if g.Has(h) {
			known = append(known, h)
		}
	}
	return known
}

// theirLastSync returns what the peer's filters begin at, as far as we know it.
func (s *State) theirLastSync(g *crdt.Graph) []crdt.Hash {
	var hs []crdt.Hash
	for _, h := range s.TheirHave {
		hs = append(hs, durable(g, h.LastSync)...)
	}
	return hs
}

// stateType is the first byte of an encoded state.
const stateType = 0x43

// Encode returns what is worth keeping for the next connection to the same
// peer, as Automerge encodes it: the shared heads.
func (s *State) Encode() []byte {
	return appendHashes([]byte{stateType}, s.SharedHeads)
}

// Restore returns the state of a new connection to a peer whose state was
// encoded. The error is an *Error. What the heads name may have been lost since
// on either side.
func Restore(b []byte) (*State, error) {
	r := reader{b: b, lim: Limits{}.withDefaults()}
	if len(b) == 0 || b[0] != stateType {
		return nil, &Error{Code: CodeVersion, Reason: "not an encoded sync state"}
	}
	r.b = b[1:]
	heads := r.hashes("shared heads")
	if r.err == nil && len(r.b) > 0 {
		r.fail(CodeTrailing, "%d bytes after an encoded sync state", len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	return &State{SharedHeads: sorted(heads)}, nil
}
