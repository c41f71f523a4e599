package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"parley/server/audit"
	"parley/server/identity"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// Options configure a [Server]. Zero fields take the documented defaults.
type Options struct {
	// PeerID is how the server calls itself on the wire (default
	// "parley-" and the first characters of the store's id).
	PeerID wire.PeerID
	// PlainDocuments admits documents that are not transactions.
	PlainDocuments bool
	// Origins are of browser pages that may connect, besides those served under the
	// request's own host: hosts, or scheme://host, with * for any part.
	Origins []string
	// Identify says who makes a request. Its error is told to the client: an
	// [*identity.Refusal] with its code. Default: nobody has a name, everybody may
	// open everything, and nobody may write to transactions.
	Identify func(*http.Request) (Identity, error)
	// Key signs agreements and records. Nil: nothing is signed.
	Key *audit.Key
	// Limits bound what one client may cost.
	Limits session.Limits
	// Quotas bound what one user and one address may take (default: nothing is
	// bounded, which is for development).
	Quotas Quotas
	// Ping is the time between pings; a client that has given no sign of life
	// from one to the next is dropped (default 5 s).
	Ping time.Duration
	// JoinWithin is how long a new connection may take to join (default 10 s).
	JoinWithin time.Duration
	// Grace is how long a user whose last connection was lost may take to come back
	// and have never left a transaction (default 8 s).
	Grace time.Duration
	// IdleAfter is how long a document that nobody has open stays in memory
	// (default 10 s).
	IdleAfter time.Duration
	// Pages answers browsers, on /, /t/, /assets/ and /worker.js. Nil: there is no
	// page.
	Pages http.Handler
	// CompactCommand starts the process that makes snapshots. Empty: none are
	// made, and cold clients get every change instead.
	CompactCommand []string
	// Now is the clock (default time.Now). What takes its time is measured with the
	// monotonic reading of it, so that setting the clock moves only what is on a
	// calendar: tokens, revocations, and when something came.
	Now func() time.Time
	// Version is that of the program, for /metrics.
	Version string
	// MetricsForAll answers /metrics to everybody. By default it is for those on
	// this machine.
	MetricsForAll bool
	// Logger takes what operators should know (default: discarded).
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	o.Limits = o.Limits.WithDefaults()
	for _, d := range []struct {
		name  string
		field *time.Duration
		value time.Duration
	}{
		{"Ping", &o.Ping, 5 * time.Second},
		{"JoinWithin", &o.JoinWithin, 10 * time.Second},
		{"Grace", &o.Grace, presence.DefaultGrace},
		{"IdleAfter", &o.IdleAfter, 10 * time.Second},
	} {
		if *d.field < 0 {
			return o, fmt.Errorf("option %s: %v is negative", d.name, *d.field)
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Limits.JoinFrame > o.Limits.Frame {
		return o, errors.New("option Limits: the first frame may not be longer than later ones")
	}
	if o.Identify == nil {
		o.Identify = func(*http.Request) (Identity, error) { return Identity{Scope: identity.All()}, nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
