package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// distributions are those of commits: the committer puts in, anybody looks.
type distributions struct {
	changes, seconds prometheus.Histogram
}

func newDistributions() distributions {
	return distributions{
		changes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_store_commit_changes",
			Help:    "Changes that one commit put on disk together.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13), // to 4096
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_store_commit_duration_seconds",
			Help:    "How long one commit took, with its sync to disk. Failed tries are not among them.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15), // to 4.1 s
		}),
	}
}

// committed takes note of a commit that has just ended.
func (d distributions) committed(changes int, began time.Time) {
	d.seconds.Observe(time.Since(began).Seconds())
	d.changes.Observe(float64(changes))
}

var (
	descChanges  = prometheus.NewDesc("parley_changes_accepted_total", "Changes that were put on disk.", nil, nil)
	descRetries  = prometheus.NewDesc("parley_store_commit_retries_total", "Tries to commit that failed and are made again.", nil, nil)
	descPending  = prometheus.NewDesc("parley_store_pending_bytes", "What waits for the disk takes so much memory.", nil, nil)
	descStalled  = prometheus.NewDesc("parley_store_stalled", "1 while nothing can be committed, so that nothing is acknowledged.", nil, nil)
	descDatabase = prometheus.NewDesc("parley_store_database_bytes", "Size of the database's file.", nil, nil)
	descWAL      = prometheus.NewDesc("parley_store_wal_bytes", "Size of the database's write-ahead log, which is used again rather than cut.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (s *Store) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descChanges, descRetries, descPending, descStalled, descDatabase, descWAL} {
		ch <- d
	}
	s.committer.commits.changes.Describe(ch)
	s.committer.commits.seconds.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	st := s.Stats()
	stalled := 0.0
	if s.Status() != nil {
		stalled = 1
	}
	ch <- prometheus.MustNewConstMetric(descChanges, prometheus.CounterValue, float64(st.Changes))
	ch <- prometheus.MustNewConstMetric(descRetries, prometheus.CounterValue, float64(st.Retries))
	ch <- prometheus.MustNewConstMetric(descPending, prometheus.GaugeValue, float64(st.PendingBytes))
	ch <- prometheus.MustNewConstMetric(descStalled, prometheus.GaugeValue, stalled)
	if s.backend == nil { // a database server has metrics of its own
		ch <- prometheus.MustNewConstMetric(descDatabase, prometheus.GaugeValue, float64(st.DatabaseBytes))
		ch <- prometheus.MustNewConstMetric(descWAL, prometheus.GaugeValue, float64(st.WALBytes))
	}
	s.committer.commits.changes.Collect(ch)
	s.committer.commits.seconds.Collect(ch)
}
