package server

import "time"

// CompareEvery makes servers that start from now on compare what they have with what
// is stored as often, until restore is called.
func CompareEvery(d time.Duration) (restore func()) {
	was := compareEvery
	compareEvery = d
	return func() { compareEvery = was }
}

// Leases makes servers that start from now on prolong leases that often, which last so
// long, until restore is called.
func Leases(every, length time.Duration) (restore func()) {
	beat, lease, seal := beatEvery, leaseFor, sealWithin
	beatEvery, leaseFor, sealWithin = every, length, length/3
	return func() { beatEvery, leaseFor, sealWithin = beat, lease, seal }
}
