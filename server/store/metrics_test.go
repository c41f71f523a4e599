package store_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/prometheus/client_golang/prometheus"

	"parley/server/store"
	"parley/server/store/storetest"
)

// measured is what a store tells Prometheus: the value of a metric, and how many
// commits and changes a distribution has.
func measured(t *testing.T, s *store.Store) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		if h := m.GetHistogram(); h != nil {
			values[f.GetName()] = float64(h.GetSampleCount())
			values[f.GetName()+"_sum"] = h.GetSampleSum()
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faulty(t, store.Options{})
		storetest.MustPut(t, s, storetest.Document(1), storetest.Changes(0, 3)...)
		f.set(func(query string) fault {
			if query != "COMMIT" {
				return fault{}
			}
			return fault{err: sqlite3.Error{Code: sqlite3.ErrFull}}
		})
		var o outcomes
		o.add(s, "a", storetest.Document(1), storetest.Change(9, 200))
		time.Sleep(350 * time.Millisecond) // tried at 0, 100 and 300 ms
		synctest.Wait()
		compare := func(when string, want map[string]float64) {
			got := measured(t, s)
			for _, size := range []string{"parley_store_database_bytes", "parley_store_wal_bytes"} {
				if got[size] <= 0 {
					t.Errorf("%s: %s is %v", when, size, got[size])
				}
				delete(got, size)
			}
			if got["parley_store_pending_bytes"] > 0 {
				got["parley_store_pending_bytes"] = 1
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		compare("stalled", map[string]float64{
			"parley_changes_accepted_total": 3, "parley_store_commit_changes": 1, "parley_store_commit_changes_sum": 3,
			"parley_store_commit_duration_seconds": 1, "parley_store_commit_duration_seconds_sum": 0,
			"parley_store_commit_retries_total": 3, "parley_store_pending_bytes": 1, "parley_store_stalled": 1,
		})
		f.set(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if o.check(t, "a"); o.err("a") != nil {
			t.Fatal(o.err("a"))
		}
		compare("after it", map[string]float64{
			"parley_changes_accepted_total": 4, "parley_store_commit_changes": 2, "parley_store_commit_changes_sum": 4,
			"parley_store_commit_duration_seconds": 2, "parley_store_commit_duration_seconds_sum": 0,
			"parley_store_commit_retries_total": 3, "parley_store_pending_bytes": 0, "parley_store_stalled": 0,
		})
	})
}
