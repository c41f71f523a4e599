package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// debugServer serves Go's profiles under /debug/pprof/, what the process spends
// its time and memory on, and the metrics under /metrics, for whoever has an account
// on this machine.
type debugServer struct{ hs *http.Server }

// startDebug listens on address, which must be on loopback; "" is for nothing.
func startDebug(address string, metrics http.Handler, log *slog.Logger) (debugServer, error) {
	if address == "" {
		return debugServer{}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return debugServer{}, fmt.Errorf("--debug-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /metrics", metrics)
	hs := &http.Server{
		Handler:           loopbackOnly(mux),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := hs.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("profiles and metrics are not served any more", "err", err)
		}
	}()
	log.Info("profiles on http://" + listener.Addr().String() + "/debug/pprof/")
	return debugServer{hs}, nil
}

// close ends it, and whatever profile is being taken.
func (d debugServer) close() error {
	if d.hs == nil {
		return nil
	}
	return d.hs.Close()
}
