package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"parley/crdt"
	"parley/server"
	"parley/server/compact"
	"parley/server/store"
	"parley/server/store/postgres"
	"parley/server/web"
	"parley/sync/session"
	"parley/sync/wire"
)

// drainWithin is how long clients get to hear that they should come back.
const drainWithin = 10 * time.Second

// maxHeader is how long a request's address and headers may be: a token, and ?at=
// with as many heads as a document may have. They are kept before anything is known
// of who sends them.
const maxHeader = 160 << 10

// serveCmd runs the server until SIGTERM or SIGINT.
type serveCmd struct {
	Listen         string        `help:"Address to listen on; port 0 picks a free one." default:"127.0.0.1:8080" env:"PARLEY_LISTEN"`
	Data           string        `help:"Folder for the database, and for the key that the server signs with; made if missing." default:"parley-data" env:"PARLEY_DATA" type:"path"`
	Store          string        `help:"PostgreSQL database that several servers share (postgres://USER:PASSWORD@HOST/DATABASE), instead of one in --data." env:"PARLEY_STORE" placeholder:"URL"`
	Identity       identityFlags `embed:"" group:"Identity"`
	Dev            bool          `help:"Believe what clients say of themselves (?user=&name=&role=), on loopback only." env:"PARLEY_DEV"`
	PlainDocuments bool          `help:"Relay and store any Automerge document." env:"PARLEY_PLAIN_DOCUMENTS"`
	PeerID         string        `help:"How the server calls itself to clients." env:"PARLEY_PEER_ID" placeholder:"ID"`
	Ping           time.Duration `help:"Time between pings; silence from one to the next ends a connection." default:"5s" env:"PARLEY_PING"`
	Grace          time.Duration `help:"How long a user who lost the connection may take to come back and have never left." default:"8s" env:"PARLEY_GRACE"`
	Idle           time.Duration `help:"How long a document that nobody has open stays in memory." default:"10s" env:"PARLEY_IDLE"`
	DebugListen    string        `help:"Serve /metrics and Go's profiles (/debug/pprof/) on this address, on loopback only." env:"PARLEY_DEBUG_LISTEN" placeholder:"HOST:PORT"`
	MetricsPublic  bool          `help:"Answer /metrics to everybody who can reach --listen, not only to this machine." env:"PARLEY_METRICS_PUBLIC"`
	Log            string        `help:"Least severe messages to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" env:"PARLEY_LOG"`
	Limits         limitFlags    `embed:"" group:"Limits"`
	Quotas         quotaFlags    `embed:"" group:"Quotas of a user and of an address (0: none; with --dev there is none that is not set)"`
}

// limitFlags bound what one client may cost.
type limitFlags struct {
	MaxFrame     int  `help:"Longest frame, in bytes." default:"16777216" env:"PARLEY_MAX_FRAME"`
	MaxChange    int  `help:"Largest change, inflated, in bytes." default:"4194304" env:"PARLEY_MAX_CHANGE"`
	MaxOps       int  `help:"Most operations in one change." default:"20000" env:"PARLEY_MAX_OPS"`
	MaxDocument  int  `help:"Largest document: the sum of its changes, in bytes." default:"67108864" env:"PARLEY_MAX_DOCUMENT"`
	MaxDocuments *int `help:"Most documents that one connection may open. Default 1024, with --dev 65536." env:"PARLEY_MAX_DOCUMENTS" placeholder:"N"`
}

func (l limitFlags) session(dev bool) session.Limits {
	documents := 1024
	if dev { // who measures a server drives many documents over one connection
		documents = 1 << 16
	}
	set(&documents, l.MaxDocuments)
	return session.Limits{
		Frame:     l.MaxFrame,
		JoinFrame: min(l.MaxFrame, 64<<10),
		Documents: documents,
		Change:    crdt.Limits{ChangeBytes: l.MaxChange, Ops: l.MaxOps, DocumentBytes: l.MaxDocument},
	}
}

// quotaFlags bound what one user and one address may take. A flag that is not set
// takes its default, which depends on --dev.
type quotaFlags struct {
	MaxUserFrames   *float64 `help:"Frames of a user per second, steadily. Default 50." env:"PARLEY_MAX_USER_FRAMES" placeholder:"N"`
	MaxUserBurst    *int     `help:"Frames of a user at once. Default 500." env:"PARLEY_MAX_USER_BURST" placeholder:"N"`
	MaxUserConns    *int     `help:"Connections of a user. Default 100." env:"PARLEY_MAX_USER_CONNS" placeholder:"N"`
	MaxAddressConns *int     `help:"Connections from an address. Default 1000." env:"PARLEY_MAX_ADDRESS_CONNS" placeholder:"N"`
	MaxAddressRate  *float64 `help:"New connections from an address per second. Default 50." env:"PARLEY_MAX_ADDRESS_RATE" placeholder:"N"`
	MaxAddressBurst *int     `help:"New connections from an address at once. Default 200." env:"PARLEY_MAX_ADDRESS_BURST" placeholder:"N"`
}

func (q quotaFlags) validate() error {
	for _, n := range []*int{q.MaxUserBurst, q.MaxUserConns, q.MaxAddressConns, q.MaxAddressBurst} {
		if n != nil && *n < 0 {
			return errors.New("quotas must not be negative; 0 is for none")
		}
	}
	for _, n := range []*float64{q.MaxUserFrames, q.MaxAddressRate} {
		if n != nil && !(*n >= 0) { // NaN neither
			return errors.New("quotas must not be negative; 0 is for none")
		}
	}
	return nil
}

func (q quotaFlags) quotas(dev bool) server.Quotas {
	quotas := server.DefaultQuotas()
	if dev {
		quotas.Frames, quotas.UserConns, quotas.AddressConns, quotas.NewConns = 0, 0, 0, 0
	}
	set(&quotas.Frames, q.MaxUserFrames)
	set(&quotas.FrameBurst, q.MaxUserBurst)
	set(&quotas.UserConns, q.MaxUserConns)
	set(&quotas.AddressConns, q.MaxAddressConns)
	set(&quotas.NewConns, q.MaxAddressRate)
	set(&quotas.NewConnBurst, q.MaxAddressBurst)
	return quotas
}

// set replaces a default by what a flag says.
func set[T any](value, flag *T) {
	if flag != nil {
		*value = *flag
	}
}

// Validate is called by kong after parsing.
func (c *serveCmd) Validate() error {
	switch {
	case !c.Dev && c.Identity.Keys == "":
		return errors.New("say how clients prove who they are: --keys FILE or URL of the keys that tokens are signed with (parley token --new-key FILE makes some), or --dev to believe everyone, on loopback only")
	case c.Dev && c.Identity.Keys != "":
		return errors.New("--dev believes everyone and --keys wants tokens: leave one of them out")
	}
	if c.Store != "" && !postgres.IsURL(c.Store) {
		return errors.New("--store: want postgres://USER:PASSWORD@HOST/DATABASE; a folder on this machine is --data")
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q: want HOST:PORT, such as 127.0.0.1:8080", c.Listen)
	}
	if c.Dev && !loopback(host) {
		return fmt.Errorf("--dev admits everyone and listens on loopback only: use --listen 127.0.0.1:PORT instead of %q", c.Listen)
	}
	if c.DebugListen != "" {
		host, _, err := net.SplitHostPort(c.DebugListen)
		if err != nil || !loopback(host) {
			return fmt.Errorf("--debug-listen %q: want HOST:PORT on loopback, such as 127.0.0.1:6060", c.DebugListen)
		}
	}
	for _, n := range []int{c.Limits.MaxFrame, c.Limits.MaxChange, c.Limits.MaxOps, c.Limits.MaxDocument} {
		if n <= 0 {
			return errors.New("limits must be positive")
		}
	}
	if n := c.Limits.MaxDocuments; n != nil && *n <= 0 {
		return errors.New("limits must be positive")
	}
	if err := c.Quotas.validate(); err != nil {
		return err
	}
	if c.Ping <= 0 || c.Idle <= 0 || c.Grace <= 0 || c.Identity.Leeway <= 0 {
		return errors.New("--ping, --idle, --grace and --leeway must be positive")
	}
	return nil
}

func (c *serveCmd) Run(io streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log, err := newLogger(io, c.Log)
	if err != nil {
		return err
	}
	st, err := c.open(ctx, log)
	if err != nil {
		return err
	}
	if err := c.serve(ctx, stop, log, st); err != nil {
		err = errors.Join(err, st.Close())
		if c.Store == "" {
			err = wayBack(c.Data, err)
		}
		return err
	}
	return st.Close()
}

// open opens the store: in the data folder, or where --store says.
func (c *serveCmd) open(ctx context.Context, log *slog.Logger) (*store.Store, error) {
	opt := store.Options{Logger: log}
	if c.Store == "" {
		st, err := store.Open(c.Data, opt)
		return st, wayBack(c.Data, err)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil { // for the key
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	return postgres.Open(ctx, c.Store, opt)
}

// where says what open opens.
func (c *serveCmd) where() string {
	if c.Store != "" {
		return postgres.Place(c.Store)
	}
	return c.Data
}

func newLogger(io streams, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log: %v", err)
	}
	return slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: l})), nil
}

// serve runs the server over st until ctx ends, then drains: no new
// connections, clients told to come back, everything accepted committed. stop
// lets signals do again what they do by default.
func (c *serveCmd) serve(ctx context.Context, stop func(), log *slog.Logger, st *store.Store) error {
	key, err := agreedKey(ctx, c.Data, st)
	if err != nil {
		return err
	}
	warnOfKey(c.Data, log)
	refreshing, forget := context.WithCancel(context.Background())
	defer forget()
	identify, err := c.identify(refreshing, log)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary, to start the snapshot worker: %w", err)
	}
	pages, err := web.New(web.Built(), web.Options{Dev: c.Dev})
	if err != nil {
		log.Debug("browsers get no page", "err", err)
	}
	srv, err := server.New(st, server.Options{
		PeerID:         wire.PeerID(c.PeerID),
		PlainDocuments: c.PlainDocuments,
		Origins:        c.origins(),
		Identify:       identify,
		Key:            key,
		Limits:         c.Limits.session(c.Dev),
		Quotas:         c.Quotas.quotas(c.Dev),
		Ping:           c.Ping,
		Grace:          c.Grace,
		IdleAfter:      c.Idle,
		Pages:          pages,
		CompactCommand: []string{self, "compact-worker"},
		Version:        currentVersion().Version,
		MetricsForAll:  c.MetricsPublic,
		Logger:         log,
	})
	if err != nil {
		return err
	}
	debug, err := startDebug(c.DebugListen, srv.Metrics(), log)
	if err != nil {
		return errors.Join(err, srv.Shutdown(ctx))
	}
	defer debug.close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: is another server running there? --listen picks another port", err)
		}
		return errors.Join(err, srv.Shutdown(ctx))
	}
	handler := srv.Handler()
	if c.Dev {
		handler = loopbackOnly(handler)
	}
	hs := &http.Server{
		Handler:           handler,
		ConnContext:       server.ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute, // of WebSockets the server itself sees to it
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(server.Listener(listener)) }()
	log.Info("listening on http://"+listener.Addr().String(), "data", c.where(), "version", currentVersion().Version)

	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	stop() // a second signal ends the process at once
	log.Info("shutting down")
	drain, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	return errors.Join(err, srv.Shutdown(drain), hs.Shutdown(drain))
}

// origins are those of pages that may connect, besides the server's own.
func (c *serveCmd) origins() []string {
	if c.Dev && len(c.Identity.Origin) == 0 {
		return loopbackOrigins
	}
	return c.Identity.Origin
}

// compactWorkerCmd is the other end of server/compact.
type compactWorkerCmd struct{}

func (*compactWorkerCmd) Run(io streams) error { return compact.Serve(io.in, io.out) }
