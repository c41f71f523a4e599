package crdt

import "hash/maphash"

// places finds changes in a graph by their hash: a table of open addresses that
// holds the changes' indices alone, since the hashes are in the graph. What a
// stranger can choose of a hash does not say where in the table it comes.
type places struct {
	seed  maphash.Seed
	slots []int32 // 1 + an index; 0: free. As many as a power of two, or none
	used  int
}

// find returns the index of the change with a hash.
func (p *places) find(nodes []node, h Hash) (i int32, ok bool) {
	if p.used == 0 {
		return 0, false
	}
	for at := p.slot(h); p.slots[at] != 0; at = p.next(at) {
		if i := p.slots[at] - 1; nodes[i].hash == h {
			return i, true
		}
	}
	return 0, false
}

// add notes the last of nodes, whose hash is not there yet.
func (p *places) add(nodes []node) {
	if p.used >= len(p.slots)/4*3 {
		p.make(2*len(p.slots), nodes[:len(nodes)-1])
	}
	p.put(nodes[len(nodes)-1].hash, int32(len(nodes)-1))
}

// make makes the table anew, of at least so many slots, for all of nodes.
func (p *places) make(slots int, nodes []node) {
	size := 8
	for size < slots || size/4*3 <= len(nodes) {
		size *= 2
	}
	if p.slots == nil {
		p.seed = maphash.MakeSeed()
	}
	p.slots, p.used = make([]int32, size), 0
	for i := range nodes {
		p.put(nodes[i].hash, int32(i))
	}
}

func (p *places) put(h Hash, i int32) {
	at := p.slot(h)
	for p.slots[at] != 0 {
		at = p.next(at)
	}
	p.slots[at] = i + 1
	p.used++
}

// slot is where a hash is looked for first.
func (p *places) slot(h Hash) int {
	return int(maphash.Bytes(p.seed, h[:]) & uint64(len(p.slots)-1))
}

func (p *places) next(at int) int { return (at + 1) & (len(p.slots) - 1) }
