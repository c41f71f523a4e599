package crdt

import "slices"

// past is the set of changes that a change was made after: its dependencies
// and all that those depend on.
type past struct {
	top    int32   // no change from this index on is in it, those before it are
	others []int32 // but these, ascending
}

// contains says whether the accepted change of index i is in the set.
func (p *past) contains(i int32) bool {
	if i >= p.top {
		return false
	}
	_, found := slices.BinarySearch(p.others, i)
	return !found
}

// pasts finds pasts. Most changes follow on all that was accepted, or on the
// change accepted before: neither needs a walk.
type pasts struct {
	last past // of the change accepted last, and itself
}

// of returns the past of a change whose dependencies were all accepted. It is
// valid until the next call.
func (s *pasts) of(g *Graph, deps []Hash) past {
	n := int32(len(g.nodes))
	if coversTips(g, deps) {
		return past{top: n}
	}
	if len(deps) == 1 && s.last.top > 0 && g.must(deps[0]) == s.last.top-1 {
		return s.last
	}
	return past{top: n, others: appendConcurrent(nil, g, deps)}
}

// accepted notes that the change with that past was appended to the graph.
func (s *pasts) accepted(g *Graph, p past) {
	n := int32(len(g.nodes))
	for i := p.top; i < n-1; i++ {
		p.others = append(p.others, i)
	}
	p.top = n
	s.last = p
}

// coversTips says whether deps holds every accepted change that has no child.
func coversTips(g *Graph, deps []Hash) bool {
	if len(g.tips) > len(deps) {
		return false
	}
	for _, t := range g.tips {
		if _, found := slices.BinarySearchFunc(deps, g.nodes[t].hash, Hash.Compare); !found {
			return false
		}
	}
	return true
}

// appendConcurrent appends the accepted changes that are neither in deps nor
// ancestors of one that is, ascending. Like [Graph.Since], it walks only as far
// down as the histories differ.
func appendConcurrent(dst []int32, g *Graph, deps []Hash) []int32 {
	w := walk{links: g.links, epoch: g.nextEpoch()}
	for _, h := range deps {
		w.reachTheirs(g.must(h))
	}
	for _, i := range g.tips {
		w.reachOurs(i)
	}
	begin := len(dst)
	for i := int32(len(g.nodes)) - 1; w.onlyOurs > 0; i-- {
		switch w.links[i].mark {
		case w.epoch + theirs:
			for _, d := range g.DepsOf(int(i)) {
				w.reachTheirs(d)
			}
		case w.epoch + ours:
			w.onlyOurs--
			dst = append(dst, i)
			for _, d := range g.DepsOf(int(i)) {
				w.reachOurs(d)
			}
		}
	}
	slices.Reverse(dst[begin:])
	return dst
}
