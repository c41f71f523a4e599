package load

import (
	"context"
	"fmt"
	"time"
)

// Step is one load that a search has tried.
type Step struct {
	Picks        float64 `json:"picks"`     // of each person in a minute
	PerSecond    float64 `json:"perSecond"` // of all
	Counts       Counts  `json:"counts"`
	Acknowledged Latency `json:"acknowledged"`
	Seen         Latency `json:"seen"`
	Behind       Latency `json:"behind"`
	Holds        bool    `json:"holds"`
	Why          string  `json:"why,omitempty"` // it does not
	// Generator: it is this process that could not keep up, not the server.
	Generator bool `json:"generator,omitempty"`
}

// The bounds of a search.
const (
	maxDoublings = 24
	maxHalvings  = 4
	precision    = 1.1 // of the lowest load that failed to the highest that held
	settleWithin = 20 * time.Second
)

// Search looks for the highest load that holds, from start on: it doubles until
// one does not, and bisects between the last two. If start does not hold, it
// halves first. It ends early with an error of try's. It returns 0 if none held.
func Search(start float64, try func(load float64) (holds bool, err error)) (best float64, err error) {
	low, high := 0.0, 0.0
	next := start
	for n := 0; n < maxDoublings+maxHalvings; n++ {
		holds, err := try(next)
		if err != nil {
			return low, err
		}
		if holds {
			low = next
		} else {
			high = next
		}
		switch {
		case high == 0 && n < maxDoublings:
			next = 2 * low
		case low == 0 && n < maxHalvings:
			next = high / 2
		case low == 0 || high == 0 || high/low <= precision:
			return low, nil
		default:
			next = (low + high) / 2
		}
	}
	return low, nil
}

// Try measures one load of a search: whether 99 of 100 picks are acknowledged, and
// reach each other person, within a bound.
func (c *Crowd) Try(ctx context.Context, pace Pace, under, warmup, duration time.Duration, tell func(Point)) Step {
	w, _ := c.Measure(ctx, pace, warmup, duration, tell)
	unsaid := c.Settle(ctx, w, settleWithin)
	counts, _ := w.Result()
	s := Step{
		Picks: pace.Picks, PerSecond: c.PerSecond(pace), Counts: counts,
		Acknowledged: w.Latency(Acknowledged), Seen: w.Latency(Seen), Behind: w.Latency(Behind),
	}
	bound := float64(under) / float64(time.Millisecond)
	switch {
	case s.Behind.P99 > bound/2 || counts.NotMade > 0 && unsaid == 0:
		s.Why, s.Generator = fmt.Sprintf("this process is late itself: %.0f ms", s.Behind.P99), true
	case unsaid > 0:
		s.Why = fmt.Sprintf("%d picks were not acknowledged in %v", unsaid, settleWithin)
	case counts.Acknowledged == 0:
		s.Why = "no pick was acknowledged"
	case counts.Refused > 0:
		s.Why = fmt.Sprintf("%d picks were refused", counts.Refused)
	case s.Acknowledged.P99 > bound:
		s.Why = fmt.Sprintf("acknowledged after %.0f ms", s.Acknowledged.P99)
	case s.Seen.P99 > bound:
		s.Why = fmt.Sprintf("seen after %.0f ms", s.Seen.P99)
	default:
		s.Holds = true
	}
	return s
}
