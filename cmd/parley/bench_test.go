package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley/internal/load"
	"parley/server/servertest"
)

// bench runs parley bench --json against a server and returns what it reports.
func bench(t *testing.T, url string, wantExit int, args ...string) *benchReport {
	t.Helper()
	var out, errs strings.Builder
	code := run(append([]string{"bench", "--json", "--server", url}, args...), streams{strings.NewReader(""), &out, &errs})
	if code != wantExit {
		t.Fatalf("exit %d, want %d: %s%s", code, wantExit, out.String(), errs.String())
	}
	r := &benchReport{}
	dec := json.NewDecoder(strings.NewReader(out.String()))
	dec.DisallowUnknownFields()
	check(t, dec.Decode(r))
	return r
}

// small is a load that any machine carries.
var small = []string{"--transactions", "2", "--people", "3", "--picks", "120", "--fields", "3", "--warmup", "500ms", "--duration", "2s"}

// Every pick is accounted for: due, acknowledged, seen by each other person, and
// found in the end.
func checkAccounts(t *testing.T, r *benchReport) {
	t.Helper()
	p := r.Picks
	if p.Due == 0 || p.Acknowledged != p.Due || p.NotMade+p.Refused+p.Unacknowledged != 0 {
		t.Errorf("not every pick was acknowledged: %+v", p)
	}
	if p.Seen != p.ToSee || p.ToSee != p.Acknowledged*int64(r.Plan.People-1) {
		t.Errorf("not every pick was seen by everybody: %+v", p)
	}
	if r.Latency.Acknowledged.Count != p.Acknowledged || r.Latency.Seen.Count != p.Seen {
		t.Errorf("the latencies are not of all of %+v: %+v", p, r.Latency)
	}
	if v := r.Verdict; v.Lost != 0 || v.Unchecked != 0 || v.Checked != r.Plan.Transactions {
		t.Errorf("in the end: %+v", v)
	}
	if r.Acknowledged < p.Acknowledged || len(r.Refusals) > 0 {
		t.Errorf("%d acknowledged, refused: %+v", r.Acknowledged, r.Refusals)
	}
}

func TestBenchAccountsForEveryPick(t *testing.T) {
	p := serve(t, t.TempDir())
	plot := filepath.Join(t.TempDir(), "over-time.svg")
	r := bench(t, p.url, exitOK, append([]string{"--plot", plot}, small...)...)
	checkAccounts(t, r)
	// Six people who pick twice a second at even intervals, for two seconds.
	if r.Picks.Due != 24 {
		t.Errorf("%d picks were due, want 24", r.Picks.Due)
	}
	if r.PersonBytes > 100_000 {
		t.Errorf("a person takes %d bytes, want less than 100 kB", r.PersonBytes)
	}
	if len(r.Timeline) == 0 || r.Connections != (benchLinks{}) {
		t.Errorf("timeline %v, connections %+v", r.Timeline, r.Connections)
	}
	checkSVG(t, plot, "2 transactions of 3 people")
}

func TestBenchOverLinksThatFlap(t *testing.T) {
	p := serve(t, t.TempDir())
	r := bench(t, p.url, exitOK, append([]string{"--flap", "120"}, small...)...)
	checkAccounts(t, r)
	if r.Connections.Cut == 0 || r.Connections.Reconnects == 0 {
		t.Errorf("nothing was cut: %+v", r.Connections)
	}
}

func TestBenchWithColdJoins(t *testing.T) {
	p := serve(t, t.TempDir())
	r := bench(t, p.url, exitOK, append([]string{"--cold", "900"}, small...)...)
	checkAccounts(t, r)
	if r.Picks.ColdJoins == 0 || r.Picks.ColdJoins != r.Picks.ColdDue || r.Latency.Cold.Count != r.Picks.ColdJoins {
		t.Errorf("cold joins: %+v, %+v", r.Picks, r.Latency.Cold)
	}
}

// What the server refuses is counted, and whoever was refused begins anew.
func TestBenchCountsRefusals(t *testing.T) {
	p := serve(t, t.TempDir(), "--max-document", "3000")
	r := bench(t, p.url, exitOK, small...)
	if n := r.Picks; n.Refused == 0 || n.Acknowledged == 0 || n.Acknowledged+n.Refused+n.NotMade != n.Due || n.Unacknowledged != 0 {
		t.Errorf("the picks are not all accounted for: %+v", n)
	}
	if len(r.Refusals) == 0 || r.Refusals[0].Code != "document-too-large" || r.Verdict.Lost != 0 {
		t.Errorf("refused: %+v, in the end: %+v", r.Refusals, r.Verdict)
	}
}

// A server that wants tokens: one is made for each, or all use a host's.
func TestBenchWithTokens(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	tool(t, exitOK, "token", "--new-key", key)
	p := serve(t, filepath.Join(dir, "data"), "--keys", key+".jwks.json")
	checkAccounts(t, bench(t, p.url, exitOK, append([]string{"--key", key}, small...)...))

	token := func(role string) string {
		out, _ := tool(t, exitOK, "token", "--key", key, "--user", "holly", "--role", role, "--transactions", "*")
		return strings.TrimSpace(out)
	}
	checkAccounts(t, bench(t, p.url, exitOK, append([]string{"--token", token("host")}, small...)...))
	_, said := tool(t, exitRefused, append([]string{"bench", "--server", p.url, "--token", token("party")}, small...)...)
	if !strings.Contains(said, "--token must be a host's") {
		t.Errorf("a party's token: %s", said)
	}
	_, said = tool(t, exitRefused, append([]string{"bench", "--server", p.url}, small...)...)
	if !strings.Contains(said, "wants --key") {
		t.Errorf("no token: %s", said)
	}
}

// tool runs a command in this process and returns what it printed.
func tool(t *testing.T, wantExit int, args ...string) (out, said string) {
	t.Helper()
	var o, e strings.Builder
	if code := run(args, streams{strings.NewReader(""), &o, &e}); code != wantExit {
		t.Fatalf("parley %s: exit %d, want %d: %s%s", args[0], code, wantExit, o.String(), e.String())
	}
	return o.String(), e.String()
}

// What the server says no to names the flag that allows more.
func TestBenchNamesTheQuota(t *testing.T) {
	p := serve(t, t.TempDir(), "--max-address-conns", "2")
	_, said := tool(t, exitRefused, append([]string{"bench", "--server", p.url}, small...)...)
	if !strings.Contains(said, "--max-address-conns") {
		t.Errorf("it says: %s", said)
	}
}

// The server reads so many frames of a user in a second and no more, and each pick
// is a frame: what people may do is known exactly.
func TestBenchFindsWhatAServerCarries(t *testing.T) {
	p := serve(t, t.TempDir(), "--max-user-frames", "20", "--max-user-burst", "10")
	plot := filepath.Join(t.TempDir(), "over-load.svg")
	r := bench(t, p.url, exitOK, "--find", "--under", "1s", "--transactions", "2", "--people", "1", "--picks", "600",
		"--warmup", "0s", "--duration", "1s", "--plot", plot)
	// Who sends more than 50 in a second, of which 30 are read in it, waits for another.
	if each := r.Find.Best / 2; each < 10 || each > 51 {
		t.Errorf("it found %v picks a second of each, and 20 frames are read: %+v", each, r.Find)
	}
	if r.Verdict.Lost != 0 || r.Verdict.Checked != 2 {
		t.Errorf("in the end: %+v", r.Verdict)
	}
	checkSVG(t, plot, "hold with p99 under")
}

// Behind a slow line no load holds that is bounded by less than the line takes.
func TestBenchFindsNothingBehindASlowLine(t *testing.T) {
	p := serve(t, t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	proxy := servertest.NewProxy(l, strings.TrimPrefix(p.url, "ws://"))
	defer proxy.Close()
	const delay = 100 * time.Millisecond // in each direction
	proxy.Delay(delay)
	r := bench(t, proxy.URL(), exitFailure, "--find", "--under", "150ms", "--transactions", "1", "--people", "2", "--picks", "240",
		"--warmup", "0s", "--duration", "1s")
	if r.Find.Best != 0 || len(r.Find.Steps) < 2 {
		t.Errorf("it found %+v", r.Find)
	}
	for _, s := range r.Find.Steps {
		if s.Holds || s.Acknowledged.Count > 0 && s.Acknowledged.P50 < 2*float64(delay/time.Millisecond)*0.99 {
			t.Errorf("the line takes %v and back: %+v", delay, s)
		}
	}
}

// forgetful passes for a server that acknowledges picks and has lost them when
// somebody reads them: who reads is sent to another server, in which the
// transactions are made, and nothing is picked.
func forgetful(t *testing.T) string {
	to := func(p *process) *httputil.ReverseProxy {
		u, err := url.Parse("http://" + strings.TrimPrefix(p.url, "ws://"))
		check(t, err)
		return httputil.NewSingleHostReverseProxy(u)
	}
	has, lacks := to(serve(t, t.TempDir())), to(serve(t, t.TempDir()))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			body, _ := io.ReadAll(r.Body)
			again := r.Clone(r.Context())
			r.Body, again.Body = io.NopCloser(bytes.NewReader(body)), io.NopCloser(bytes.NewReader(body))
			lacks.ServeHTTP(httptest.NewRecorder(), again)
			has.ServeHTTP(w, r)
		case r.URL.Query().Get("role") == "viewer":
			lacks.ServeHTTP(w, r)
		default:
			has.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.CloseClientConnections)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

func TestBenchNoticesWhatIsLost(t *testing.T) {
	at := forgetful(t)
	r := bench(t, at, exitLost, small...)
	if r.Verdict.Lost == 0 || int64(r.Verdict.Lost) != r.Acknowledged || len(r.Verdict.LostIn) != 2 {
		t.Errorf("%d were acknowledged: %+v", r.Acknowledged, r.Verdict)
	}
	out, said := tool(t, exitLost, append([]string{"bench", "--server", at}, small...)...)
	if !strings.Contains(said, "acknowledged are lost, in bench-") || !strings.Contains(out, "lost ") {
		t.Errorf("it says: %s%s", out, said)
	}
}

// started is a parley bench in a process of its own.
type started struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	said *lineWaiter
}

// lineWaiter tells when a word was written.
type lineWaiter struct {
	text strings.Builder
	word string
	seen chan struct{}
}

func (w *lineWaiter) Write(b []byte) (int, error) {
	w.text.Write(b)
	if w.word != "" && strings.Contains(w.text.String(), w.word) {
		w.word = ""
		close(w.seen)
	}
	return len(b), nil
}

func startBench(t *testing.T, word string, env []string, args ...string) *started {
	s := &started{cmd: exec.Command(os.Args[0], append([]string{"bench"}, args...)...), said: &lineWaiter{word: word, seen: make(chan struct{})}}
	s.cmd.Env = append(append(os.Environ(), asBinary+"=1"), env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, s.said
	check(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

// Interrupted, it prints what it has measured, and looks for what was acknowledged.
func TestBenchInterrupted(t *testing.T) {
	p := serve(t, t.TempDir())
	s := startBench(t, "measuring", nil, "--server", p.url, "--transactions", "2", "--people", "2", "--picks", "240", "--warmup", "0s", "--duration", "10m")
	select {
	case <-s.said.seen:
	case <-time.After(time.Minute):
		t.Fatal("it does not measure")
	}
	check(t, s.cmd.Process.Signal(os.Interrupt))
	var exit *exec.ExitError
	if err := s.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("it ended with %v: %s", err, s.said.text.String())
	}
	for _, want := range []string{"acknowledged", "seen by another", "lost          none: fresh clients found all"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("%q is not in what it prints: %s", want, s.out.String())
		}
	}
}

// Without a server it starts one, measures what that uses, and leaves nothing.
func TestBenchStartsAServer(t *testing.T) {
	tmp := t.TempDir()
	s := startBench(t, "", []string{"TMPDIR=" + tmp, "PARLEY_KEYS=nowhere"}, append([]string{"--json"}, small...)...)
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, s.said.text.String())
	}
	r := &benchReport{}
	check(t, json.Unmarshal(s.out.Bytes(), r))
	checkAccounts(t, r)
	if !r.Own || runtime.GOOS == "linux" && (r.Process == nil || r.Process.RSSBytes == 0) {
		t.Errorf("own: %v, %+v", r.Own, r.Process)
	}
	left, err := os.ReadDir(tmp)
	check(t, err)
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "parley-bench") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestBenchUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--server nonsense", "want a URL"},
		{"--server ws://h/?token=x", "leave out what is behind the ?"},
		{"--transactions 0", "want 1 at least"},
		{"--transactions 1000 --people 1000", "100000 people in all at most"},
		{"--picks 0", "--picks"},
		{"--picks NaN", "--picks"},
		{"--flap -1", "--flap"},
		{"--fields 5001", "--fields"},
		{"--duration 1ms", "--duration"},
		{"--under 0s", "--under"},
		{"--key k --token t --server ws://h", "leave one of them out"},
		{"--server ws://h --token t", "no token that says who"},
		{"--server ws://h --key nowhere.pem", "--key"},
	} {
		_, said := tool(t, exitUsage, append([]string{"bench"}, strings.Fields(c.args)...)...)
		if !strings.Contains(said, c.want) {
			t.Errorf("%s: %s", c.args, said)
		}
	}
	_, said := tool(t, exitFailure, "bench", "--server", "ws://127.0.0.1:1")
	if !strings.Contains(said, "is parley serve running there?") {
		t.Errorf("no server: %s", said)
	}
}

// sampleReport is a report with everything in it.
func sampleReport() *benchReport {
	latency := func(p50 float64) load.Latency {
		return load.Latency{Count: 1000, P50: p50, P90: 2 * p50, P99: 4 * p50, Max: 8 * p50}
	}
	r := &benchReport{
		Server: "ws://127.0.0.1:8080", Own: true,
		Plan: benchPlan{Transactions: 10, People: 4, Picks: 12, Fields: 10, Flap: 1, Cold: 60, PerSecond: 8, WarmupSeconds: 3, Seconds: 30},
		Picks: benchPicks{
			Counts:         load.Counts{Due: 250, NotMade: 1, Acknowledged: 240, Refused: 5, Seen: 719, ColdDue: 30, ColdJoins: 29},
			Unacknowledged: 4, ToSee: 720,
		},
		PerSecond:   8,
		Latency:     benchLatencies{latency(2.5), latency(3), latency(20), latency(0.1)},
		Connections: benchLinks{Cut: 20, Reconnects: 19, Lost: 1},
		Refusals:    []load.Refusal{{Code: "connecting-too-fast", Message: "your address opens connections too fast", Count: 3, Flag: load.Flag("connecting-too-fast")}},
		Troubles:    []load.Trouble{{Text: "the connection ended", Count: 1}},
		Verdict:     load.Verdict{Checked: 10, Lost: 1, LostIn: []string{"bench-1-1"}},
		Process:     &benchProcess{CPUSeconds: 1.5, CPUPerPickMS: 6.25, CPUShare: 0.05, RSSBytes: 45_000_000, PeakRSSBytes: 50_000_000, SecondsOfThat: 30},
		PersonBytes: 29_000, Acknowledged: 264,
	}
	for at := range 30 {
		r.Timeline = append(r.Timeline, load.Point{
			At: float64(at + 1), Due: 8, Acknowledged: 8 - float64(at%3)/2, Ack: latency(2.5 + float64(at%5)), Seen: latency(3 + float64(at%7)),
		})
	}
	return r
}

func sampleSearch() *benchReport {
	r := sampleReport()
	r.Timeline = r.Timeline[:0]
	r.Find = &benchFind{UnderMS: 250, Best: 1200, Picks: 1800}
	for _, s := range []load.Step{
		{Picks: 300, PerSecond: 200, Holds: true, Acknowledged: load.Latency{Count: 1600, P50: 3, P90: 5, P99: 9, Max: 20}},
		{Picks: 600, PerSecond: 400, Holds: true, Acknowledged: load.Latency{Count: 3200, P50: 3, P90: 6, P99: 14, Max: 31}},
		{Picks: 1200, PerSecond: 800, Holds: true, Acknowledged: load.Latency{Count: 6400, P50: 5, P90: 20, P99: 60, Max: 90}},
		{Picks: 2400, PerSecond: 1600, Why: "acknowledged after 2100 ms", Acknowledged: load.Latency{Count: 12000, P50: 700, P90: 1800, P99: 2100, Max: 2300}},
		{Picks: 1800, PerSecond: 1200, Holds: true, Acknowledged: load.Latency{Count: 9600, P50: 14, P90: 80, P99: 180, Max: 260}},
	} {
		s.Seen = s.Acknowledged
		s.Seen.P99 *= 1.2
		r.Find.Steps = append(r.Find.Steps, s)
	}
	return r
}

// What machines read, and what people read, stays as it is. Make it anew with
// go test -run TestBenchGolden -update.
func TestBenchGolden(t *testing.T) {
	for name, r := range map[string]*benchReport{"report": sampleReport(), "search": sampleSearch()} {
		r.Timeline = r.Timeline[:min(2, len(r.Timeline))]
		var table, machine bytes.Buffer
		check(t, r.table(&table))
		enc := json.NewEncoder(&machine)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		check(t, enc.Encode(r))
		goldenFile(t, name+".txt", table.Bytes())
		goldenFile(t, name+".json", machine.Bytes())
	}
}

func goldenFile(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "bench", name)
	if *update {
		check(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is now\n%s\nwant\n%s", path, got, want)
	}
}

// checkSVG reads a plot, which must be SVG and say something.
func checkSVG(t *testing.T, path, says string) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	var text strings.Builder
	root, paths := "", 0
	for dec := xml.NewDecoder(f); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			if root == "" {
				root = token.Name.Local
			}
			if token.Name.Local == "path" {
				paths++
			}
		case xml.CharData:
			text.Write(token)
		}
	}
	if root != "svg" || paths == 0 || !strings.Contains(text.String(), says) {
		t.Errorf("%s is %q with %d paths, and %q is not in %q", path, root, paths, says, text.String())
	}
}

func TestBenchPlots(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		r    *benchReport
		says string
	}{
		"time.svg": {sampleReport(), "seen by another, p99"}, "load.svg": {sampleSearch(), "1200 picks/s hold"}, "empty.svg": {&benchReport{}, "latency, ms"},
	} {
		path := filepath.Join(dir, name)
		check(t, drawBench(path, c.r))
		checkSVG(t, path, c.says)
	}
}
