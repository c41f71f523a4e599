package server

import (
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many requests for metrics are answered at once.
const maxScrapes = 4

// newMetrics returns what answers /metrics. The registry is the server's own: two
// in one process do not meet.
func (s *Server) newMetrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collector{s}, s.store, s.counters.synced,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// Metrics returns a handler that answers everybody with the metrics, for a listener
// that only operators reach. [Server.Handler] has them too, for those who may.
func (s *Server) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		readBy(w, 0)
		s.metrics.ServeHTTP(w, r)
	})
}

// showMetrics answers those on this machine, and others if that was said.
func (s *Server) showMetrics(w http.ResponseWriter, r *http.Request) {
	if !s.opt.MetricsForAll && !fromHere(r) {
		plain(w, http.StatusForbidden, "metrics are for this machine: read them from 127.0.0.1 and not through a proxy, "+
			"or from the address that the server was given with --debug-listen, or start it with --metrics-public")
		return
	}
	s.Metrics().ServeHTTP(w, r)
}

// fromHere reports whether somebody on this machine asks. A proxy here that asks
// for somebody else gives itself away by the name it was asked for, or by a header.
func fromHere(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	named, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !named.IsLoopback()) {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// collector looks at a server when somebody asks. Nothing is kept for it.
type collector struct{ s *Server }

// newDesc describes a metric with at most one label.
func newDesc(name, help string, label ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, label, nil)
}

var (
	descBuild    = newDesc("parley_build_info", "1, for this program.", "version", "goversion")
	descConns    = newDesc("parley_connections", "Connections now.")
	descAccepted = newDesc("parley_connections_total", "Connections that were accepted, those among them that were turned away at once.")
	descJoins    = newDesc("parley_joins_total", "Connections that have joined.")
	descEnded    = newDesc("parley_connections_ended_total", "Connections that ended, by why.", "reason")

	descDocs    = newDesc("parley_documents", "Documents in memory now.")
	descOpened  = newDesc("parley_documents_opened_total", "Documents that came into memory.")
	descDropped = newDesc("parley_documents_evicted_total", "Documents that left memory: idle, or failed to be read or stored.", "reason")

	descReceived      = newDesc("parley_frames_received_total", "Frames from clients.", "kind")
	descSent          = newDesc("parley_frames_sent_total", "Frames to clients.", "kind")
	descReceivedBytes = newDesc("parley_received_bytes_total", "Bytes of the frames from clients.")
	descSentBytes     = newDesc("parley_sent_bytes_total", "Bytes of the frames to clients.")
	descLost          = newDesc("parley_ephemeral_dropped_total", "Ephemeral frames that were not sent because their client is slow.")
	descRefused       = newDesc("parley_changes_refused_total", "Changes that were refused, by the code that their sender was told.", "code")

	descPeople      = newDesc("parley_participants", "Participants of all transactions now, a user counted in each.", "state")
	descReady       = newDesc("parley_participants_ready", "Participants who are ready now.")
	descLapses      = newDesc("parley_lapses_total", "Times that somebody's readiness lapsed because of a change.")
	descResolutions = newDesc("parley_resolutions_total", "Agreements.")

	descOthers    = newDesc("parley_other_servers", "Other servers over the same database that live.")
	descPublished = newDesc("parley_presence_published_total", "Tries to tell the other servers who is in a transaction by this one, by how they ended.", "result")
	descRetried   = newDesc("parley_resolutions_retried_total", "Agreements that were not stored because who is present on other servers had changed.")
	descRelayed   = newDesc("parley_relayed_total", "Ephemeral messages of clients to and from other servers, by what became of them.", "result")

	descSnapshots = newDesc("parley_snapshots_total", "Snapshots, by how it ended.", "result")
	descQuotas    = newDesc("parley_quota_refusals_total", "Connections and requests that were refused because a quota was used up, by which.", "quota")
	descSlowed    = newDesc("parley_frames_slowed_total", "Frames that were read later because their user sends too fast.")
	descTokens    = newDesc("parley_tokens_refused_total", "Connections whose token was no good, or is none any more, by why.", "reason")
	descPeerIDs   = newDesc("parley_peer_ids_refused_total", "Connections with a peer id of somebody else's.")
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descBuild, descConns, descAccepted, descJoins, descEnded, descDocs, descOpened, descDropped,
		descReceived, descSent, descReceivedBytes, descSentBytes, descLost, descRefused,
		descPeople, descReady, descLapses, descResolutions, descOthers, descPublished, descRetried, descRelayed,
		descSnapshots, descQuotas, descSlowed, descTokens, descPeerIDs,
	} {
		ch <- d
	}
}

// sample is a look at a server, on its way to whoever asked.
type sample chan<- prometheus.Metric

func (m sample) counter(d *prometheus.Desc, n uint64, label ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label...)
}

func (m sample) gauge(d *prometheus.Desc, n int64, label ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label...)
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := sample(ch)
	m.gauge(descBuild, 1, c.s.opt.Version, runtime.Version())
	c.connections(m)
	c.documents(m)
	c.people(m)
	c.limits(m)
}

func (c collector) connections(m sample) {
	conns, past := c.s.peers.look()
	sum := &past.traffic
	for _, conn := range conns { // who has gone meanwhile is counted here, once
		sum.in.add(&conn.traffic.in)
		sum.out.add(&conn.traffic.out)
		past.dropped += conn.out.drops()
	}
	m.gauge(descConns, int64(len(conns)))
	m.counter(descAccepted, past.accepted)
	m.counter(descJoins, c.s.counters.joins.Load())
	for i, n := range past.ended {
		m.counter(descEnded, n, endNames[i])
	}
	for i, kind := range frameKinds {
		m.counter(descReceived, sum.in.frames[i].Load(), kind)
		m.counter(descSent, sum.out.frames[i].Load(), kind)
	}
	m.counter(descReceivedBytes, sum.in.bytes.Load())
	m.counter(descSentBytes, sum.out.bytes.Load())
	m.counter(descLost, past.dropped)
}

func (c collector) documents(m sample) {
	open, opened, evicted, failed := c.s.docs.counts()
	m.gauge(descDocs, int64(open))
	m.counter(descOpened, opened)
	m.counter(descDropped, evicted, "idle")
	m.counter(descDropped, failed, "failed")
	for i := range c.s.counters.refused {
		code := "other"
		if i < len(refusalCodes) {
			code = string(refusalCodes[i])
		}
		m.counter(descRefused, c.s.counters.refused[i].Load(), code)
	}
	m.counter(descSnapshots, c.s.counters.snapshotsMade.Load(), "made")
	m.counter(descSnapshots, c.s.counters.snapshotsFailed.Load(), "failed")
}

func (c collector) people(m sample) {
	n := &c.s.counters
	m.gauge(descPeople, n.online.Load(), "online")
	m.gauge(descPeople, n.reconnecting.Load(), "reconnecting")
	m.gauge(descReady, n.ready.Load())
	m.counter(descLapses, n.lapses.Load())
	m.counter(descResolutions, n.resolutions.Load())
	m.gauge(descOthers, c.s.others.Load())
	m.counter(descPublished, n.published.Load(), "stored")
	m.counter(descPublished, n.publishFailed.Load(), "failed")
	m.counter(descRetried, n.sealsRefused.Load())
	m.counter(descRelayed, n.relayedSent.Load(), "sent")
	m.counter(descRelayed, n.relayedReceived.Load(), "received")
	m.counter(descRelayed, n.relayedDropped.Load(), "dropped")
	m.counter(descRelayed, n.relayedTooLong.Load(), "too_long")
}

func (c collector) limits(m sample) {
	n := c.s.Counts()
	m.counter(descQuotas, n.UserConnsOver, "user_connections")
	m.counter(descQuotas, n.AddressesOver, "address")
	m.counter(descQuotas, n.ConnsOverFrames, "frames")
	m.counter(descQuotas, n.RequestsOver, "requests")
	m.counter(descSlowed, n.FramesSlowed)
	m.counter(descTokens, n.TokensRefused, "invalid")
	m.counter(descTokens, n.TokensRevoked, "revoked")
	m.counter(descTokens, n.TokensExpired, "expired")
	m.counter(descPeerIDs, n.PeerIDsRefused)
}
