package server

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/server/identity"
	"parley/server/servertest"
	"parley/server/store"
)

// A fault in the handling of a frame ends the connection that it came on, with
// nothing left of it, and nothing else.
func TestAFaultEndsOneConnection(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "data"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := New(st, Options{
		PlainDocuments: true,
		Identify:       func(*http.Request) (Identity, error) { return Identity{User: "alice", Scope: identity.All()}, nil },
		Logger:         slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(s.Handler())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client, err := servertest.Dial(ctx, "ws"+strings.TrimPrefix(hs.URL, "http")+"/sync", "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseNow()
	s.peers.all()[0].flow = nil // what the reader needs for the first document
	if _, err := client.Open(ctx, servertest.NewDocumentID()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ended(ctx); err != nil {
		t.Errorf("the connection goes on: %v", err)
	}
	if err := s.Shutdown(ctx); err != nil { // which waits for every connection
		t.Error(err)
	}
	if n := len(s.peers.all()); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if !strings.Contains(log.String(), "a fault of the server's ended a connection") {
		t.Errorf("logged: %s", log.String())
	}
	hs.Close()
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
