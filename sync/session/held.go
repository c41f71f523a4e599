package session

import (
	"slices"
	"time"

	"parley/crdt"
)

// heldFor is how long a change waits for its dependencies. They come in the
// next round trip or, from a client that is half gone, never.
const heldFor = time.Minute

const (
	// maxRefused is how many refused changes of a peer a document remembers,
	// newest kept.
	maxRefused = 1024
	// maxRefusedDeps bounds what is kept of one of them.
	maxRefusedDeps = 16
)

// heldChange is a change whose dependencies are not here yet. It is kept as
// bytes: decoded, its operations can take a thousand times as much.
type heldChange struct {
	peer    *peer
	hash    crdt.Hash
	deps    []crdt.Hash
	chunk   []byte
	missing []crdt.Hash // the first is waited for, the others have not been looked at since
	at      time.Time
}

// cost is about what a held change takes in memory, in bytes.
func (h *heldChange) cost() int {
	return 256 + len(h.chunk) + (len(h.deps)+len(h.missing))*len(crdt.Hash{})
}

// heldChanges keeps held changes under the first dependency that each lacks.
// The zero value is empty.
type heldChanges struct {
	byMissing map[crdt.Hash][]heldChange
	deps      map[crdt.Hash][]crdt.Hash // of the held changes themselves
	usage     map[ConnID]heldUsage
	oldest    time.Time // no held change is older; zero when there is none
}

type heldUsage struct{ changes, bytes int }

func (hs *heldChanges) count(conn ConnID) int { return hs.usage[conn].changes }
func (hs *heldChanges) bytes(conn ConnID) int { return hs.usage[conn].bytes }

func (hs *heldChanges) add(h heldChange, out []Output) []Output {
	if hs.has(h.hash) {
		return out
	}
	if hs.byMissing == nil {
		hs.byMissing = make(map[crdt.Hash][]heldChange)
		hs.deps = make(map[crdt.Hash][]crdt.Hash)
		hs.usage = make(map[ConnID]heldUsage)
	}
	if len(hs.byMissing) == 0 {
		hs.oldest = h.at
	}
	hs.byMissing[h.missing[0]] = append(hs.byMissing[h.missing[0]], h)
	hs.deps[h.hash] = known(h.deps)
	return hs.account(h, +1, out)
}

func (hs *heldChanges) has(h crdt.Hash) bool {
	_, ok := hs.deps[h]
	return ok
}

// missing returns what the changes of conn wait for, sorted. Nobody else is
// asked for it: a client cannot make others talk.
func (hs *heldChanges) missing(conn ConnID) []crdt.Hash {
	if hs.usage[conn].changes == 0 {
		return nil
	}
	var hashes []crdt.Hash
	for missing, waiting := range hs.byMissing {
		if slices.ContainsFunc(waiting, func(h heldChange) bool { return h.peer.Conn == conn }) {
			hashes = append(hashes, missing)
		}
	}
	return crdt.SortHashes(hashes)
}

// release removes and returns what waited for hash.
func (hs *heldChanges) release(hash crdt.Hash, out []Output) ([]heldChange, []Output) {
	freed, ok := hs.byMissing[hash]
	if !ok {
		return nil, out
	}
	delete(hs.byMissing, hash)
	for _, h := range freed {
		out = hs.account(h, -1, out)
	}
	return freed, out
}

// wake returns when something has waited too long, zero if nothing waits.
func (hs *heldChanges) wake() time.Time {
	if len(hs.byMissing) == 0 {
		return time.Time{}
	}
	return hs.oldest.Add(heldFor)
}

// expire drops what has waited too long.
func (hs *heldChanges) expire(now time.Time, out []Output) []Output {
	if len(hs.byMissing) == 0 || now.Sub(hs.oldest) < heldFor {
		return out
	}
	hs.oldest = now
	return hs.filter(func(h heldChange) bool {
		old := now.Sub(h.at) >= heldFor
		if !old && h.at.Before(hs.oldest) {
			hs.oldest = h.at
		}
		return old
	}, out)
}

// drop forgets what conn sent: it will send it again when it returns.
func (hs *heldChanges) drop(conn ConnID, out []Output) []Output {
	if hs.usage[conn].changes == 0 {
		return out
	}
	return hs.filter(func(h heldChange) bool { return h.peer.Conn == conn }, out)
}

func (hs *heldChanges) filter(remove func(heldChange) bool, out []Output) []Output {
	for missing, waiting := range hs.byMissing {
		kept := slices.DeleteFunc(waiting, func(h heldChange) bool {
			if !remove(h) {
				return false
			}
			out = hs.account(h, -1, out)
			return true
		})
		if len(kept) == 0 {
			delete(hs.byMissing, missing)
			continue
		}
		hs.byMissing[missing] = kept
	}
	return out
}

func (hs *heldChanges) account(h heldChange, sign int, out []Output) []Output {
	conn, bytes := h.peer.Conn, sign*h.cost()
	if sign < 0 {
		delete(hs.deps, h.hash)
	}
	u := hs.usage[conn]
	u.changes += sign
	u.bytes += bytes
	if u.changes == 0 {
		delete(hs.usage, conn)
	} else {
		hs.usage[conn] = u
	}
	return append(out, Held{Conn: conn, Bytes: bytes})
}

// refusedChanges remembers the newest changes that were refused from one peer,
// and what they depend on. What one peer may not bring another may, so nobody
// else is judged by it. The zero value is empty.
type refusedChanges struct {
	deps map[crdt.Hash][]crdt.Hash // nil: unknown
	ring []crdt.Hash
	next int
	// forgot: there were more than can be remembered. Since then the peer is
	// asked for nothing, or it would be asked for what it was refused.
	forgot bool
}

func (r *refusedChanges) has(h crdt.Hash) bool {
	_, ok := r.deps[h]
	return ok
}

func (r *refusedChanges) add(h crdt.Hash, deps []crdt.Hash) {
	if len(deps) > maxRefusedDeps {
		deps = nil // rather than keep them: its peer's Bloom filter has to do
	}
	if was, ok := r.deps[h]; ok {
		if was == nil { // it was named then, and is sent now
			r.deps[h] = deps
		}
		return
	}
	if r.deps == nil {
		r.deps = make(map[crdt.Hash][]crdt.Hash)
	}
	r.deps[h] = deps
	if len(r.ring) < maxRefused {
		r.ring = append(r.ring, h)
		return
	}
	r.forgot = true
	delete(r.deps, r.ring[r.next])
	r.ring[r.next] = h
	r.next = (r.next + 1) % maxRefused
}
