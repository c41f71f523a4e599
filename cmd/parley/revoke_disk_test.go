package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestRevocationOnAFullDisk: who asked for it does not hear that it is stored; it is in
// force once it is, for those who are connected too.
func TestRevocationOnAFullDisk(t *testing.T) {
	ctx := within(t, time.Minute)
	p := serve(t, t.TempDir())
	eve, _, err := websocket.Dial(ctx, p.url+"?user=eve&role=party", nil)
	check(t, err)
	defer eve.CloseNow()
	check(t, p.limitFiles(0))
	impatient := http.Client{Timeout: time.Second}
	at := "http" + strings.TrimPrefix(p.url, "ws") + "/v1/revocations?user=hana&role=host"
	_, err = impatient.Post(at, "application/json", strings.NewReader(`{"user": "eve"}`))
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a revocation on a full disk ends with %v", err)
	}
	reading, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	closed := make(chan error, 1)
	go func() {
		_, _, err := eve.Read(ctx)
		for err == nil { // the error frame before the end
			_, _, err = eve.Read(ctx)
		}
		closed <- err
	}()
	select {
	case err := <-closed:
		t.Errorf("eve was revoked before it is stored: %v", err)
	case <-reading.Done():
	}
	check(t, p.limitFiles(^uint64(0)))
	if err := <-closed; websocket.CloseStatus(err) != 4403 {
		t.Errorf("eve's connection ended with %v", err)
	}
	impatient.CloseIdleConnections()
}
