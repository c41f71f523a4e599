package store_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/server/store"
	"parley/server/store/storetest"
)

// cpuTime is what the process has used, in user mode and in the kernel.
func cpuTime(b *testing.B) (user, kernel time.Duration) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
}

// BenchmarkAppend appends changes of 200 bytes, one a batch; each writer has its
// own document and waits for its last change before the next. What the kernel uses
// is mostly the sync, once a transaction.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, b.TempDir(), store.Options{})
			made := storetest.Changes(0, b.N)
			var all sync.WaitGroup
			user, kernel := cpuTime(b)
			b.ResetTimer()
			for w := range writers {
				all.Go(func() {
					done := make(chan error, 1)
					for i := w; i < len(made); i += writers {
						s.Append(store.Batch{Document: storetest.Document(w), Changes: made[i : i+1], Done: func(err error) { done <- err }})
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			userEnd, kernelEnd := cpuTime(b)
			n := float64(b.N)
			b.ReportMetric(n/b.Elapsed().Seconds(), "changes/s")
			b.ReportMetric(float64((userEnd-user).Nanoseconds())/1e3/n, "user-µs/change")
			b.ReportMetric(float64((kernelEnd-kernel).Nanoseconds())/1e3/n, "kernel-µs/change")
			b.ReportMetric(n/float64(s.Stats().Transactions), "changes/commit")
		})
	}
}

// BenchmarkLoad loads a document whose changes were committed in turn with those
// of nine others.
func BenchmarkLoad(b *testing.B) {
	for _, of := range []struct{ n, packed int }{{500, 0}, {500, 400}, {10_000, 0}, {10_000, 8000}} {
		n := of.n
		b.Run(fmt.Sprintf("changes=%d/packed=%d", n, of.packed), func(b *testing.B) {
			s := open(b, b.TempDir(), store.Options{})
			const step = 50
			for at := 0; at < n; at += step {
				for d := range 10 {
					storetest.MustPut(b, s, storetest.Document(d), storetest.Changes(d*n+at, step)...)
				}
			}
			if of.packed > 0 {
				all := storetest.Changes(3*n, of.packed)
				if err := s.PutPack(b.Context(), storetest.Document(3), storetest.PackOf(all...)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			user, kernel := cpuTime(b)
			for b.Loop() {
				st, err := s.Load(context.Background(), storetest.Document(3))
				if err != nil || len(st.Chunks) != n {
					b.Fatal(err, len(st.Chunks))
				}
			}
			userEnd, kernelEnd := cpuTime(b)
			b.ReportMetric(float64((userEnd-user+kernelEnd-kernel).Nanoseconds())/1e6/float64(b.N), "cpu-ms/op")
			if err := s.Close(); err != nil { // moves the log into the database
				b.Fatal(err)
			}
			b.ReportMetric(float64(s.Stats().DatabaseBytes)/float64(10*n), "database-B/change")
		})
	}
}
