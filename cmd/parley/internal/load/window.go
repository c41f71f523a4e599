package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Window measures the picks that are due in it, also when they are
// acknowledged after its end. The methods of a nil window do nothing: that is
// one of warming up.
type Window struct {
	mu    sync.Mutex
	begin time.Time
	total [numMeasures]*hdrhistogram.Histogram
	// second is of what happened since the last point of the timeline.
	second   [numMeasures]*hdrhistogram.Histogram
	due      int // in that second
	Counts   Counts
	Timeline []Point
}

// Counts are of picks that were due in a window.
type Counts struct {
	Due          int64 `json:"due"`
	NotMade      int64 `json:"notMade"` // too many of the person's waited, or this process could not keep up
	Acknowledged int64 `json:"acknowledged"`
	Refused      int64 `json:"refused"`
	Seen         int64 `json:"seen"` // arrivals at other people
	ColdDue      int64 `json:"coldDue"`
	ColdJoins    int64 `json:"coldJoins"` // that have read everything
}

// Measure is what a latency is of. All count from when it was due.
type Measure int

// The measures.
const (
	Acknowledged Measure = iota // until the author was told that the pick is on disk
	Seen                        // until another person had it
	Cold                        // until a fresh client had the whole transaction
	Behind                      // until the pick was made: how late this process was
	numMeasures
)

// Histograms hold 1 µs to 10 min, with three digits.
const (
	lowest  = 1
	highest = int64(10 * time.Minute / time.Microsecond)
	digits  = 3
)

func newWindow(begin time.Time) *Window {
	w := &Window{begin: begin}
	for i := range w.total {
		w.total[i] = hdrhistogram.New(lowest, highest, digits)
		w.second[i] = hdrhistogram.New(lowest, highest, digits)
	}
	return w
}

// Point is a second of a window, by when things happened.
type Point struct {
	At           float64 `json:"at"`           // seconds since it began
	Due          float64 `json:"due"`          // picks per second
	Acknowledged float64 `json:"acknowledged"` // likewise
	Ack          Latency `json:"ack"`
	Seen         Latency `json:"seen"`
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return Latency{
		Count: h.TotalCount(), P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)),
		P99: ms(h.ValueAtQuantile(99)), Max: ms(h.Max()),
	}
}

// Latency returns what was measured so far.
func (w *Window) Latency(m Measure) Latency {
	w.mu.Lock()
	defer w.mu.Unlock()
	return latencyOf(w.total[m])
}

// Result returns the counts and the timeline so far.
func (w *Window) Result() (Counts, []Point) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Counts, append([]Point(nil), w.Timeline...)
}

// point ends a second.
func (w *Window) point(now time.Time, took time.Duration) Point {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := Point{
		At: now.Sub(w.begin).Seconds(), Due: float64(w.due) / took.Seconds(),
		Ack: latencyOf(w.second[Acknowledged]), Seen: latencyOf(w.second[Seen]),
	}
	p.Acknowledged = float64(p.Ack.Count) / took.Seconds()
	for _, h := range w.second {
		h.Reset()
	}
	w.due = 0
	w.Timeline = append(w.Timeline, p)
	return p
}

func (w *Window) note(m Measure, d time.Duration, count func(*Counts)) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	us := min(max(d.Microseconds(), lowest), highest)
	_ = w.total[m].RecordValue(us) // it is in range
	_ = w.second[m].RecordValue(us)
	count(&w.Counts)
}

func (w *Window) made(late time.Duration) {
	w.note(Behind, late, func(c *Counts) { c.Due++; w.due++ })
}

func (w *Window) acknowledged(d time.Duration) {
	w.note(Acknowledged, d, func(c *Counts) { c.Acknowledged++ })
}

func (w *Window) saw(d time.Duration) { w.note(Seen, d, func(c *Counts) { c.Seen++ }) }

func (w *Window) joined(d time.Duration) { w.note(Cold, d, func(c *Counts) { c.ColdJoins++ }) }

// skip counts a pick that was due and not made.
func (w *Window) skip() {
	w.count(func(c *Counts) { c.Due, c.NotMade, w.due = c.Due+1, c.NotMade+1, w.due+1 })
}

func (w *Window) refuse() { w.count(func(c *Counts) { c.Refused++ }) }

func (w *Window) joining() { w.count(func(c *Counts) { c.ColdDue++ }) }

func (w *Window) count(count func(*Counts)) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	count(&w.Counts)
}
