package server

import (
	"fmt"
	"net/http"

	"parley/sync/session"
)

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "ok")
}

// readyz says whether this server should be sent clients: it is not shutting
// down, and what it accepts reaches the disk.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		plain(w, http.StatusServiceUnavailable, "shutting down")
		return
	}
	if err := s.store.Status(); err != nil {
		plain(w, http.StatusServiceUnavailable, "changes are not stored, nothing is acknowledged: "+err.Error())
		return
	}
	if s.neighbours.cut.Load() {
		plain(w, http.StatusServiceUnavailable, "the database cannot be reached: nothing is acknowledged, and other servers take this one for dead")
		return
	}
	plain(w, http.StatusOK, "ready")
}

// noteStall tells the documents when nothing gets to the disk any more, or does again.
// What lasts for less than a beat may not be told.
func (s *Server) noteStall() {
	stalled := s.store.Status() != nil || s.neighbours.cut.Load()
	if s.stalled.CompareAndSwap(!stalled, stalled) {
		s.docs.tellAll(&session.StalledInput{Stalled: stalled})
	}
}

// explain answers a browser or curl on the address meant for sync clients.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Upgrade", "websocket")
	plain(w, http.StatusUpgradeRequired, fmt.Sprintf(
		"This is a Parley sync server. Connect an automerge-repo client:\n\n"+
			"    new Repo({ network: [new WebSocketClientAdapter(\"ws://%s\")] })", r.Host))
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	readBy(w, len(text))
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}
