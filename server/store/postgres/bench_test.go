package postgres_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/storetest"
)

// BenchmarkAppend appends changes of 200 bytes, one a batch, as SQLite's benchmark
// does. The database's own work is counted apart.
func BenchmarkAppend(b *testing.B) {
	pg := pgtest.Start(b, pgtest.Options{Durable: true})
	for _, writers := range []int{1, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, pg.Database(b))
			made := storetest.Changes(0, b.N)
			var all sync.WaitGroup
			own, database := cpuTime(b), pg.CPU(b)
			b.ResetTimer()
			for w := range writers {
				all.Go(func() {
					done := make(chan error, 1)
					base := store.Version{}
					for i := w; i < len(made); i += writers {
						at := base
						s.Append(store.Batch{Document: storetest.Document(w), Base: &at, Changes: made[i : i+1], Done: func(err error) { done <- err }})
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
						base.Changes++
					}
				})
			}
			all.Wait()
			b.StopTimer()
			n := float64(b.N)
			b.ReportMetric(n/b.Elapsed().Seconds(), "changes/s")
			b.ReportMetric(float64((cpuTime(b)-own).Nanoseconds())/1e3/n, "own-µs/change")
			b.ReportMetric(float64((pg.CPU(b)-database).Nanoseconds())/1e3/n, "database-µs/change")
			b.ReportMetric(n/float64(s.Stats().Transactions), "changes/commit")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
