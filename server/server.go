package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/semaphore"

	"parley/crdt"
	"parley/server/compact"
	"parley/server/store"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// Server is a sync server over one store.
type Server struct {
	// static
	opt        Options
	store      *store.Store
	log        *slog.Logger
	connConfig session.ConnConfig
	docConfig  session.DocumentConfig
	compactor  *compact.Worker // nil: no snapshots
	unsnapped  chan *document  // wait for a snapshot

	docs    registry
	peers   peers
	turns   *semaphore.Weighted // requests that take as long as a history is
	unread  *semaphore.Weighted // bytes of records that are being sent
	revoked revocations
	quotas  *quotas

	// Of other servers, if the store is shared.
	nodes      *nodes
	neighbours *neighbours
	publisher  *publisher
	others     atomic.Int64 // how many live

	counters counters
	started  time.Time
	metrics  http.Handler

	lastConn atomic.Uint64
	draining atomic.Bool
	stalled  atomic.Bool // as documents were last told
	serving  tally       // connections
	running  tally       // documents that are stepping, and pings
	stop     context.CancelFunc
	stopped  sync.WaitGroup // the heart and the compactor
}

// New returns a server over st, which stays the caller's to close after
// [Server.Shutdown].
func New(st *store.Store, opt Options) (*Server, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure the server: %w", err)
	}
	storage := wire.StorageID(st.StorageID())
	if opt.PeerID == "" {
		opt.PeerID = wire.PeerID("parley-" + storage[:8])
	}
	s := &Server{
		opt: opt, store: st, log: opt.Logger, started: time.Now(),
		connConfig: session.ConnConfig{Self: opt.PeerID, Storage: storage, Limits: opt.Limits},
		docConfig: session.DocumentConfig{
			Self: opt.PeerID, Storage: storage, PlainDocuments: opt.PlainDocuments, Limits: opt.Limits,
			Presence: presence.Config{Grace: opt.Grace, Node: presence.Node(st.Node())},
		},
		unsnapped: make(chan *document, maxWaitForSnapshot),
		turns:     semaphore.NewWeighted(maxTurns),
		unread:    semaphore.NewWeighted(maxUnread),
		quotas:    newQuotas(opt.Quotas),
		peers:     peers{conns: make(map[session.ConnID]*conn), byID: make(map[wire.PeerID]*conn)},
	}
	s.docs = registry{srv: s, docs: make(map[crdt.DocumentID]*document)}
	s.nodes = &nodes{srv: s, compare: make(chan struct{}, 1), revoked: make(chan struct{}, 1)}
	s.neighbours = &neighbours{srv: s, wake: make(chan struct{}, 1)}
	s.publisher = newPublisher(s)
	s.counters.synced = newSynced()
	s.metrics = s.newMetrics()
	if err := errors.Join(s.hearRevocations(context.Background()), s.neighbours.begin(context.Background())); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.stopped.Go(func() { s.beat(ctx) })
	s.store.OnStall(s.noteStall) // its end is noted at a beat
	s.follow(ctx)
	if len(opt.CompactCommand) > 0 {
		s.compactor = compact.New(compact.Options{Command: opt.CompactCommand, Logger: opt.Logger})
		s.stopped.Go(func() { s.compactAll(ctx) })
	}
	return s, nil
}

// Handler serves WebSocket connections on / and /sync, transactions on
// /v1/transactions, /healthz, /readyz and /metrics, and the pages for browsers.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.front)
	mux.HandleFunc("GET /sync", s.sync)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /metrics", s.showMetrics)
	mux.HandleFunc("POST /v1/transactions", s.createTransaction)
	mux.HandleFunc("GET /v1/transactions/{id}", s.showTransaction)
	mux.HandleFunc("GET /v1/transactions/{id}/history", s.showHistory)
	mux.HandleFunc("GET /v1/transactions/{id}/export", s.export)
	mux.HandleFunc("GET /v1/transactions/{id}/checkpoint", s.checkpoint)
	mux.HandleFunc("GET /v1/transactions/{id}/proof/inclusion", s.proveInclusion)
	mux.HandleFunc("GET /v1/transactions/{id}/proof/consistency", s.proveConsistency)
	mux.HandleFunc("GET /v1/key", s.showKey)
	mux.HandleFunc("POST /v1/revocations", s.revoke)
	mux.HandleFunc("GET /v1/revocations", s.showRevocations)
	if s.opt.Pages != nil {
		for _, path := range []string{"/t/{id}", "/assets/{file}", "/worker.js"} {
			mux.HandleFunc("GET "+path, s.page)
		}
	}
	return mux
}

// front answers browsers that people look at with the page, and everything else
// as /sync does.
func (s *Server) front(w http.ResponseWriter, r *http.Request) {
	looking := r.Header.Get("Upgrade") == "" && strings.Contains(r.Header.Get("Accept"), "text/html")
	if s.opt.Pages != nil && looking {
		s.page(w, r)
		return
	}
	s.sync(w, r)
}

// pageBytes is how long what a page is made of may be, for who reads it slowly: the
// engine, inflated.
const pageBytes = 4 << 20

// page answers with a page, or with what one loads.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	readBy(w, pageBytes)
	s.opt.Pages.ServeHTTP(w, r)
}

func (s *Server) sync(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		s.explain(w, r)
		return
	}
	if !s.serving.begin() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "this server is shutting down: try again", http.StatusServiceUnavailable)
		return
	}
	var pings pingPace
	ws, err := websocket.Accept(smallBuffers{w}, r, &websocket.AcceptOptions{
		OriginPatterns:  s.opt.Origins,
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  pings.wait,
	})
	if err != nil {
		s.serving.end()
		s.log.Debug("no WebSocket", "err", err)
		return
	}
	address := addressOf(r.RemoteAddr)
	refusal := s.quotas.arrive(address, time.Now())
	var who Identity
	if refusal == nil {
		who, refusal = s.know(r)
	}
	c := newConn(s, session.ConnID(s.lastConn.Add(1)), who, ws, linkOf(r))
	// The handler's goroutine keeps the request and the HTTP connection's buffers:
	// it must not be the one that waits for the client.
	go s.host(c, refusal, func() {
		s.quotas.depart(address)
		s.serving.end()
	})
}

// host runs a connection, which is there to be turned away if refusal is not nil,
// and calls done when it has ended.
func (s *Server) host(c *conn, refusal error, done func()) {
	s.peers.add(c)
	if s.draining.Load() { // Shutdown may have missed it
		c.end(restarting)
	}
	if refusal == nil {
		refusal = s.welcome(c)
	}
	if refusal != nil { // accepted first: a refused upgrade kills some clients
		s.turnAway(c, refusal)
		c.serve(done)
		return
	}
	c.serve(func() {
		s.quotas.leave(c.who.User)
		done()
	})
}

var restarting = session.Close{Code: session.CloseRestarting, Reason: "the server is restarting: come back"}

// OpenDocuments returns how many documents are in memory.
func (s *Server) OpenDocuments() int { return s.docs.count() }

// settleWithin is how long a shutdown waits for the disk when no connection is
// left.
const settleWithin = 5 * time.Second

// Shutdown tells every client to come back, and waits until their connections
// have ended and everything accepted is on disk or refused. When ctx ends
// first, what remains is cut. New connections are refused from the start.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.serving.close()
	for _, c := range s.peers.all() {
		c.end(restarting)
	}
	err := s.serving.wait(ctx)
	if err != nil {
		err = fmt.Errorf("shut down: connections were cut: %w", err)
	}
	for _, c := range s.peers.all() {
		_ = c.ws.CloseNow()
	}
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	err = errors.Join(err, s.settle(settling))
	if err := s.handOver(settling); err != nil { // they see it by the lease
		s.log.Warn("other servers were not told who may come back", "err", err)
	}
	s.stop()
	s.stopped.Wait()
	if s.compactor != nil {
		s.compactor.Close()
	}
	return errors.Join(err, s.running.wait(settling))
}

// handOver waits until other servers know who was here and may come back to one of
// them.
func (s *Server) handOver(ctx context.Context) error {
	for s.publisher.isBusy() {
		if err := s.publisher.flush(ctx); err != nil {
			return err
		}
		if err := s.running.wait(ctx); err != nil { // there may be more to say
			return err
		}
	}
	return nil
}

// settle waits until every connection is gone, every document has stepped what
// was posted to it, and the disk has what they accepted.
func (s *Server) settle(ctx context.Context) error {
	settled := make(chan struct{})
	err := s.serving.wait(ctx)
	if err == nil {
		err = s.running.wait(ctx)
	}
	if err == nil {
		s.store.Append(store.Batch{Done: func(error) { close(settled) }})
		select {
		case <-settled:
			err = s.running.wait(ctx) // what the last commits made documents do
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("shut down: changes that nobody was told of may not be on disk: %w", err)
	}
	return nil
}
