package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley/internal/load"
)

// crowdOn puts people on a server, who go on when it is another process at the same
// address.
func crowdOn(t *testing.T, ctx context.Context, p *process, transactions, people int) *load.Crowd {
	t.Helper()
	target := &load.Target{Servers: []string{p.url}, Admit: func(w load.Who) (load.Pass, error) { return load.Pass{User: w.Name}, nil }}
	crowd, err := load.Open(ctx, target, load.Plan{Transactions: transactions, People: people, Fields: 3}, func(load.Stands) {})
	check(t, err)
	t.Cleanup(crowd.Close)
	return crowd
}

// TestFaultHerd restarts the server under clients that pick, by a kill and by a
// signal to end. All come back at once, which costs the server little, and nothing
// that was acknowledged is lost. In a long run there are 500 of them.
func TestFaultHerd(t *testing.T) {
	const people = 5
	// Each costs 12 ms with the race detector. How soon they are back is measured, and
	// depends on what else the machine does.
	const maxEach, toStart = 50 * time.Millisecond, 3 * time.Second
	transactions := longer(20, 100)
	ctx := within(t, 3*time.Minute)
	data := t.TempDir()
	p := serve(t, data)
	address := strings.TrimPrefix(p.url, "ws://")
	crowd := crowdOn(t, ctx, p, transactions, people)
	for _, end := range longer([]os.Signal{os.Kill}, []os.Signal{os.Kill, os.Interrupt, os.Kill, os.Interrupt}) {
		picking, stop := context.WithCancel(ctx)
		picked := make(chan struct{})
		go func() {
			defer close(picked)
			crowd.Measure(picking, load.Pace{Picks: 6}, 0, time.Minute, func(load.Point) {})
		}()
		was := crowd.Stands()
		poll(t, ctx, "people to pick", func() bool { return crowd.Stands().Acknowledged > was.Acknowledged+20 })
		if err := p.end(end); err != nil && end == os.Interrupt {
			t.Errorf("it ended with %v: %s", err, p.output())
		}
		since := time.Now()
		p = serve(t, data, "--listen", address)
		poll(t, ctx, "everybody to be back", func() bool { return connections(t, p) == transactions*people })
		took, cpu := time.Since(since), p.cpu()
		t.Logf("after %v: %d clients are back within %v, which took %v of a processor", end, transactions*people, took.Round(10*time.Millisecond), cpu)
		if limit := toStart + time.Duration(transactions*people)*maxEach; cpu > limit {
			t.Errorf("that is more than %v of a processor", limit)
		}
		stop()
		<-picked
		poll(t, ctx, "everything to be acknowledged", func() bool { return crowd.Stands().Waiting == 0 })
	}
	if verdict := crowd.Verify(ctx); verdict.Lost > 0 || verdict.Checked != transactions {
		t.Errorf("in the end: %+v", verdict)
	}
	n := crowd.Stands()
	t.Logf("%d picks, %d acknowledged, none lost", n.Picks, n.Acknowledged)
	if n.Acknowledged == 0 || n.Refused > 0 {
		t.Errorf("%+v", n)
	}
}

// connections are how many clients the server has now.
func connections(t *testing.T, p *process) int {
	t.Helper()
	text, err := p.request(http.MethodGet, "/metrics", "")
	check(t, err)
	_, rest, _ := strings.Cut(string(text), "\nparley_connections ")
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(value)
	check(t, err)
	return n
}

// cpu is how long the process has run on a processor.
func (p *process) cpu() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ, on all that Go knows
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "stat"))
	check(p.t, err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	check(p.t, err)
	system, err := strconv.Atoi(fields[12])
	check(p.t, err)
	return time.Duration(user+system) * tick
}
