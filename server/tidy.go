package server

import (
	"runtime/debug"
	"runtime/metrics"
)

const (
	// calmAllocs is how many bytes a server may allocate from one beat to the next
	// and still have time to spare.
	calmAllocs = 1 << 20
	// tidyDebris is how much must have been allocated since the last tidying for
	// the next to be worth it, besides a quarter of what is in use.
	tidyDebris = 8 << 20
	// calmBeats is how many beats in a row must have been calm.
	calmBeats = 4
)

// tidier gives memory back to the system when there is time for it. Go's collector
// runs when the heap has doubled, however long ago it was last needed: what a busy
// hour has left stays for the night otherwise.
type tidier struct {
	samples [2]metrics.Sample
	allocs  uint64 // at the last beat
	tidied  uint64 // allocs, when memory was last given back
	debris  uint64 // freed since then by other than the collector
	calm    int    // beats
	tidy    func()
}

// newTidier returns one that has also what others keep at hand given back.
func newTidier(others func()) *tidier {
	t := &tidier{tidy: func() {
		others()
		debug.FreeOSMemory()
	}}
	t.samples[0].Name = "/gc/heap/allocs:bytes"
	t.samples[1].Name = "/gc/heap/live:bytes"
	return t
}

// beat is called a few times a second.
func (t *tidier) beat() {
	metrics.Read(t.samples[:])
	t.weigh(t.samples[0].Value.Uint64(), t.samples[1].Value.Uint64())
}

// freed notes that the collector will find so much that is needed no more, soon: what
// it is of is being put away.
func (t *tidier) freed(bytes uint64) {
	t.debris += bytes
	if bytes > calmAllocs {
		t.calm = 0
	}
}

// weigh decides whether to tidy, with so many bytes allocated since the start, and
// so many in use.
func (t *tidier) weigh(allocs, live uint64) {
	t.calm++
	if allocs-t.allocs > calmAllocs {
		t.calm = 0
	}
	t.allocs = allocs
	if t.calm >= calmBeats && allocs-t.tidied+t.debris > tidyDebris+live/4 {
		t.tidied, t.debris = allocs, 0
		t.tidy()
	}
}
