package protocol

import (
	"slices"

	"parley/crdt"
)

// outgoing is what a message brings the peer.
type outgoing struct {
	snapshot *crdt.Snapshot // first, if not nil
	changes  []int          // then these, ascending
	all      bool           // with it the peer has all that is durable
	cut      bool           // there is more, which waits for the peer's answer
}

func (o *outgoing) empty() bool { return o.snapshot == nil && len(o.changes) == 0 }

// chunks returns the outgoing bytes and how the message must carry them.
func (o *outgoing) chunks(g *crdt.Graph) (Version, [][]byte) {
	if o.empty() {
		return V1, nil
	}
	chunks := make([][]byte, 0, len(o.changes)+1)
	version := V1
	if o.snapshot != nil {
		chunks = append(chunks, o.snapshot.Data)
		version = V2
	}
	for _, i := range o.changes {
		chunks = append(chunks, g.ChunkAt(i))
	}
	return version, chunks
}

// collect decides what to send.
func (s *State) collect(g *crdt.Graph, opt Options) outgoing {
	if !s.heard || s.TheirCapabilities.Flags()&ReadOnly != 0 {
		return outgoing{}
	}
	maxBytes := opt.MaxBytes
	if maxBytes == 0 {
		maxBytes = defaultMaxBytes
	}
	changes := s.lacking(g)
	out := outgoing{changes: changes, all: s.settled}
	// A snapshot that did not arrive is not tried again: Automerge ignores what
	// it cannot load.
	snapshots := s.resends == 0 && s.TheirCapabilities.ReadsV2()
	if snap := opt.Snapshot; snapshots && snap != nil && shorter(g, snap, changes, maxBytes) {
		out.snapshot = snap
		out.changes = intersect(changes, g.AppendSince(nil, snap.Heads))
		maxBytes -= len(snap.Data)
	}
	out.cutAt(g, maxBytes)
	return out
}

// shorter says whether the snapshot should stand for most of the changes: it
// is of our history and fits, these are more than a third of the document, and
// they have more bytes.
func shorter(g *crdt.Graph, snap *crdt.Snapshot, changes []int, maxBytes int) bool {
	if len(changes) <= g.Durable()/3 || len(snap.Data) > maxBytes || len(g.Missing(snap.Heads)) > 0 {
		return false
	}
	size := 0
	for _, i := range changes {
		size += len(g.ChunkAt(i))
	}
	return len(snap.Data) < size
}

// cutAt leaves the rest for later. What is cut off depends on what is sent,
// never the other way round. Unless a snapshot goes before, one change is sent
// whatever its size.
func (o *outgoing) cutAt(g *crdt.Graph, maxBytes int) {
	size := 0
	for n, i := range o.changes {
		size += len(g.ChunkAt(i))
		if size > maxBytes && (n > 0 || o.snapshot != nil) {
			o.changes = o.changes[:n]
			o.all, o.cut = false, true
			return
		}
	}
}

// lacking returns the durable changes that the peer has not and was not sent,
// as far as we can tell; if it is settled, exactly.
func (s *State) lacking(g *crdt.Graph) []int {
	if s.settled {
		return s.unsent(g.AppendSince(nil, s.theirs, s.sentHeads))
	}
	changes := g.AppendSince(nil, s.TheirHeads, s.theirLastSync(g), s.sentHeads)
	return s.unsent(s.notInFilters(g, changes))
}

// unsent filters changes in place.
func (s *State) unsent(changes []int) []int {
	if len(s.sent) == 0 {
		return changes
	}
	return slices.DeleteFunc(changes, func(i int) bool { return contains(s.sent, i) })
}

// notInFilters keeps the changes that are in none of the peer's filters, those
// that depend on one of these (the filter was wrong then), and those that the
// peer asks for by name. A peer that sends no filters wants only the last.
func (s *State) notInFilters(g *crdt.Graph, changes []int) []int {
	var filters [][]byte
	for _, h := range s.TheirHave {
		filters = append(filters, h.Bloom.bits())
	}
	var kept []int
	for _, i := range changes {
		h := g.HashAt(i)
		inOne := len(filters) == 0 || slices.ContainsFunc(filters, func(bits []byte) bool { return bloomContains(bits, h) })
		onKept := func(d int32) bool { return contains(kept, int(d)) }
		if !inOne || len(filters) > 0 && slices.ContainsFunc(g.DepsOf(i), onKept) || containsHash(s.TheirNeed, h) {
			kept = append(kept, i)
		}
	}
	return kept
}

func intersect(a, b []int) []int {
	return slices.DeleteFunc(a, func(i int) bool { return !contains(b, i) })
}
