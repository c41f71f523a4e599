package server

import "time"

// CompareEvery makes servers that start from now on compare what they have with what
// is stored as often, until restore is called.
func CompareEvery(d time.Duration) (restore func()) {
	was := compareEvery
	compareEvery = d
	return func() { compareEvery = was }
}
