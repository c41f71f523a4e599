package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"parley/server/servertest"
)

func TestProfiles(t *testing.T) {
	p := serve(t, t.TempDir(), "--debug-listen", "127.0.0.1:0")
	m := regexp.MustCompile(`profiles on (http://\S+)"`).FindStringSubmatch(p.output())
	if m == nil {
		t.Fatalf("no address of the profiles: %s", p.output())
	}
	res, err := http.Get(m[1] + "goroutine?debug=1")
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	if res.StatusCode != http.StatusOK || !strings.Contains(string(body), "server.(*Server).beat") {
		t.Errorf("%s: %.200s", res.Status, body)
	}
	metrics, err := http.Get(strings.TrimSuffix(m[1], "debug/pprof/") + "metrics")
	check(t, err)
	defer metrics.Body.Close()
	body, err = io.ReadAll(metrics.Body)
	check(t, err)
	if metrics.StatusCode != http.StatusOK || !strings.Contains(string(body), "\nparley_connections 0\n") || !strings.Contains(string(body), "parley_build_info{goversion=") {
		t.Errorf("metrics: %s: %.200s", metrics.Status, body)
	}
	other, err := http.NewRequest("GET", m[1], nil)
	check(t, err)
	other.Host = "example.com"
	res, err = http.DefaultClient.Do(other)
	check(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("under another name: %s", res.Status)
	}
}

func TestThePortOfTheProfilesIsTaken(t *testing.T) {
	p := serve(t, t.TempDir())
	var out, errs strings.Builder
	code := run([]string{
		"serve", "--dev", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--debug-listen", strings.TrimPrefix(p.url, "ws://"),
	}, streams{strings.NewReader(""), &out, &errs})
	if code != exitFailure || !strings.Contains(errs.String(), "--debug-listen") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

// A document that goes idle gets a snapshot, from the binary's own other process.
func TestSnapshotsAreCounted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p := serve(t, t.TempDir(), "--idle", "10ms", "--ping", "200ms")
	c, err := servertest.Dial(ctx, p.url, "")
	check(t, err)
	d, err := c.Open(ctx, servertest.NewDocumentID())
	check(t, err)
	for i := range 20 {
		h, err := d.Set(ctx, "a", int64(i))
		check(t, err)
		check(t, d.Acknowledged(ctx, h))
	}
	c.CloseNow()
	for {
		res, err := http.Get("http" + strings.TrimPrefix(p.url, "ws") + "/metrics")
		check(t, err)
		body, err := io.ReadAll(res.Body)
		check(t, err)
		check(t, res.Body.Close())
		if strings.Contains(string(body), "parley_snapshots_total{result=\"made\"} 1\n") && strings.Contains(string(body), "\nparley_documents 0\n") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no snapshot: %s", body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
