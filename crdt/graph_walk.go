package crdt

import (
	"math"
	"slices"
)

// The two colours of a walk, added to Graph.epoch.
const (
	ours    = 0 // reached from a head
	theirs  = 1 // reached from what the peer has; covers ours
	colours = 2
)

// Since returns the indices of the durable changes that are neither in have
// nor ancestors of one that is, ascending. Hashes that were not accepted are
// ignored.
//
// It walks down from the newest change and stops as soon as nothing is left
// that only we have: the cost is the number of changes newer than the oldest
// one at which our history and theirs part, whatever the document's length.
func (g *Graph) Since(have []Hash) []int { return g.AppendSince(nil, have) }

// AppendSince appends to dst what Since returns for the lists of have together.
func (g *Graph) AppendSince(dst []int, have ...[]Hash) []int {
	w := walk{links: g.links, epoch: g.nextEpoch()}
	top := g.durable
	for _, hs := range have {
		for _, h := range hs {
			if i, ok := g.find(h); ok {
				w.reachTheirs(i)
				top = max(top, int(i)+1)
			}
		}
	}
	for _, i := range g.headNodes {
		w.reachOurs(i)
	}
	begin := len(dst)
	for i := top - 1; w.onlyOurs > 0; i-- {
		switch w.links[i].mark {
		case w.epoch + theirs:
			for _, d := range g.DepsOf(i) {
				w.reachTheirs(d)
			}
		case w.epoch + ours:
			w.onlyOurs--
			dst = append(dst, i)
			for _, d := range g.DepsOf(i) {
				w.reachOurs(d)
			}
		}
	}
	slices.Reverse(dst[begin:])
	return dst
}

// nextEpoch invalidates the marks of all earlier walks.
func (g *Graph) nextEpoch() uint32 {
	if g.epoch > math.MaxUint32-2*colours {
		for i := range g.links {
			g.links[i].mark = 0
		}
		g.epoch = 0
	}
	g.epoch += colours
	return g.epoch
}

// walk colours the nodes that it has reached and counts those, not yet
// visited, that were reached from our heads alone.
type walk struct {
	links    []link
	epoch    uint32
	onlyOurs int
}

func (w *walk) reachOurs(i int32) {
	if w.links[i].mark < w.epoch {
		w.links[i].mark = w.epoch + ours
		w.onlyOurs++
	}
}

func (w *walk) reachTheirs(i int32) {
	if w.links[i].mark == w.epoch+ours {
		w.onlyOurs--
	}
	w.links[i].mark = w.epoch + theirs
}
