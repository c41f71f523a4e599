package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"parley/crdt"
	"parley/server"
	"parley/server/servertest"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/session"
	"parley/sync/wire"
)

// series are those of a scrape, by name and labels as Prometheus writes them.
type series map[string]float64

func (r *running) scrape() series {
	r.t.Helper()
	status, body := r.get("/metrics")
	if status != http.StatusOK {
		r.t.Fatalf("/metrics: %d %s", status, body)
	}
	all := make(series)
	for line := range strings.Lines(body) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "#") {
			continue
		}
		name, text, ok := cut(line)
		if !ok {
			r.t.Fatalf("not a sample: %q", line)
		}
		all[name] = must(strconv.ParseFloat(text, 64))
	}
	return all
}

// cut divides at the last space.
func cut(line string) (before, after string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return line, "", false
	}
	return line[:i], line[i+1:], true
}

// awaitMetrics waits until these series have these values.
func (r *running) awaitMetrics(ctx context.Context, want series) {
	r.t.Helper()
	for {
		var wrong []string
		got := r.scrape()
		for name, v := range want {
			if is, ok := got[name]; !ok || is != v {
				wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", name, is, v))
			}
		}
		if len(wrong) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			slices.Sort(wrong)
			r.t.Fatalf("%s", strings.Join(wrong, "\n"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// soon is how long numbers may take to be right.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// counted is a client that counts what it sends and reads, and does nothing else.
type counted struct {
	t        testing.TB
	ws       *websocket.Conn
	id       wire.PeerID
	out, in  int // bytes
	received []wire.Message
}

func (r *running) counted(ctx context.Context, id wire.PeerID) *counted {
	r.t.Helper()
	ws, _, err := websocket.Dial(ctx, r.url, nil)
	check(r.t, err)
	r.t.Cleanup(func() { _ = ws.CloseNow() })
	c := &counted{t: r.t, ws: ws, id: id}
	c.send(ctx, &wire.Join{SenderID: id, Versions: []string{wire.ProtocolVersion}})
	c.receive(ctx)
	return c
}

func (c *counted) send(ctx context.Context, m wire.Message) {
	c.t.Helper()
	frame := wire.Append(nil, m)
	c.out += len(frame)
	check(c.t, c.ws.Write(ctx, websocket.MessageBinary, frame))
}

func (c *counted) receive(ctx context.Context) {
	c.t.Helper()
	_, frame, err := c.ws.Read(ctx)
	check(c.t, err)
	c.in += len(frame)
	c.received = append(c.received, must(wire.Decode(frame, wire.Limits{})))
}

// request asks for a document that nobody has.
func (c *counted) request(ctx context.Context, id crdt.DocumentID) {
	c.t.Helper()
	var state protocol.State
	m, _ := state.Generate(new(crdt.Graph), protocol.Options{})
	c.send(ctx, &wire.Request{SenderID: c.id, TargetID: "server", DocumentID: id, Data: m.Append(nil)})
	c.receive(ctx) // that it is unavailable
}

func TestMetricsCountFrames(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob := r.counted(ctx, "alice"), r.counted(ctx, "bob")
	alice.request(ctx, id)
	bob.request(ctx, id)
	for n := range 3 {
		alice.send(ctx, &wire.Ephemeral{
			SenderID: "alice", TargetID: "server", DocumentID: id, Count: uint64(n + 1), SessionID: "s", Data: []byte{0xf6},
		})
		bob.receive(ctx)
	}
	traffic := series{
		`parley_frames_received_total{kind="sync"}`:      2,
		`parley_frames_received_total{kind="ephemeral"}`: 3,
		`parley_frames_received_total{kind="other"}`:     2,
		`parley_frames_sent_total{kind="sync"}`:          0,
		`parley_frames_sent_total{kind="ephemeral"}`:     3,
		`parley_frames_sent_total{kind="other"}`:         4,
		`parley_received_bytes_total`:                    float64(alice.out + bob.out),
		`parley_sent_bytes_total`:                        float64(alice.in + bob.in),
		`parley_ephemeral_dropped_total`:                 0,
		`parley_joins_total`:                             2,
		`parley_connections_total`:                       2,
	}
	now := maps.Clone(traffic)
	maps.Copy(now, series{
		`parley_connections`:            2,
		`parley_documents`:              1,
		`parley_documents_opened_total`: 1,
	})
	r.awaitMetrics(soon(t), now)

	bye := &wire.Leave{SenderID: "alice"}
	alice.send(ctx, bye)
	_ = bob.ws.CloseNow()
	traffic[`parley_frames_received_total{kind="other"}`]++
	traffic[`parley_received_bytes_total`] += float64(len(wire.Append(nil, bye)))
	maps.Copy(traffic, series{ // what they did stays counted
		`parley_connections`:                            0,
		`parley_connections_ended_total{reason="left"}`: 1,
		`parley_connections_ended_total{reason="gone"}`: 1,
	})
	r.awaitMetrics(soon(t), traffic)
}

func TestMetricsCountChanges(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Ping: 20 * time.Millisecond, IdleAfter: time.Millisecond})
	c := r.dial(ctx, "alice")
	d := r.open(ctx, c, servertest.NewDocumentID())
	check(t, d.Unavailable(ctx, 1))
	for i := range 3 {
		check(t, d.Acknowledged(ctx, must(d.Set(ctx, "a", int64(i)))))
	}
	r.awaitMetrics(soon(t), series{
		`parley_changes_accepted_total`:              3,
		`parley_sync_duration_seconds_count`:         3,
		`parley_store_commit_changes_sum`:            3,
		`parley_store_commit_changes_count`:          3,
		`parley_store_commit_duration_seconds_count`: 3,
		`parley_store_commit_retries_total`:          0,
		`parley_store_pending_bytes`:                 0,
		`parley_store_stalled`:                       0,
	})
	got := r.scrape()
	for _, name := range []string{"parley_sync_duration_seconds_sum", "parley_store_database_bytes", "parley_store_wal_bytes"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if s := got["parley_sync_duration_seconds_sum"]; s < got["parley_store_commit_duration_seconds_sum"] || s > 30 {
		t.Errorf("synced in %v s, committed in %v s", s, got["parley_store_commit_duration_seconds_sum"])
	}
	c.CloseNow()
	r.awaitMetrics(soon(t), series{
		`parley_documents`: 0, `parley_documents_opened_total`: 1,
		`parley_documents_evicted_total{reason="idle"}`: 1, `parley_documents_evicted_total{reason="failed"}`: 0,
	})
}

func TestMetricsCountPeople(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity, Grace: time.Hour})
	here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice", "bob")
	r.readyFor(ctx, here["alice"])
	r.awaitMetrics(soon(t), series{
		`parley_participants{state="online"}`: 2, `parley_participants{state="reconnecting"}`: 0,
		`parley_participants_ready`: 1, `parley_lapses_total`: 0, `parley_resolutions_total`: 0,
	})
	h := must(here["bob"].Pick(ctx, "price", "120"))
	check(t, here["alice"].Doc.Has(ctx, h))
	r.awaitMetrics(soon(t), series{`parley_participants_ready`: 0, `parley_lapses_total`: 1})
	r.agree(ctx, here)
	here["bob"].CloseNow()
	r.awaitMetrics(soon(t), series{
		`parley_participants{state="online"}`: 1, `parley_participants{state="reconnecting"}`: 1,
		`parley_participants_ready`: 2, `parley_lapses_total`: 1, `parley_resolutions_total`: 1,
	})
}

// Who was in a document that is dropped from memory is not counted for ever.
func TestMetricsOfADocumentThatFails(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	here := r.agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice", "bob")
	r.readyFor(ctx, here["alice"])
	r.awaitMetrics(soon(t), series{`parley_participants{state="online"}`: 2, `parley_participants_ready`: 1})
	check(t, r.store.Close()) // what comes now is not stored
	must(here["bob"].Pick(ctx, "price", "120"))
	r.awaitMetrics(soon(t), series{
		`parley_participants{state="online"}`: 0, `parley_participants{state="reconnecting"}`: 0, `parley_participants_ready`: 0,
		`parley_lapses_total`: 0, `parley_documents`: 0, `parley_documents_evicted_total{reason="failed"}`: 1,
		`parley_connections_ended_total{reason="internal"}`: 2, `parley_connections`: 0,
	})
}

func TestMetricsCountRefusals(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	r.sale("sale", "")
	mallory := r.enter(ctx, "sale", servertest.Visitor{User: "mallory"})
	mallory.Impersonate(mallory.Actor(), "alice")
	h := must(mallory.Pick(ctx, "price", "1"))
	check(t, mallory.Wait(ctx, "the refusal", func() bool { return mallory.RefusedLocked(h, "not-author") }))
	r.awaitMetrics(soon(t), series{
		`parley_changes_refused_total{code="not-author"}`: 1, `parley_changes_refused_total{code="other"}`: 0,
	})
	_ = mallory.Write(ctx, websocket.MessageText, []byte("hello"))
	r.awaitMetrics(soon(t), series{`parley_connections_ended_total{reason="bad_frame"}`: 1})
}

func TestMetricsCountWhatQuotasRefuse(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity, Quotas: server.Quotas{UserConns: 1}})
	r.sale("sale", "")
	r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
	second := must(servertest.Connect(ctx, r.url+"/?user=alice"))
	defer second.CloseNow()
	if code := must(second.Ended(ctx)); session.CloseCode(code) != session.CloseTooMany {
		t.Errorf("closed with %d", code)
	}
	r.awaitMetrics(soon(t), series{
		`parley_quota_refusals_total{quota="user_connections"}`: 1,
		`parley_connections_ended_total{reason="too_many"}`:     1,
		`parley_joins_total`: 1,
	})
}

// gate is a line on which nothing arrives while it is shut.
type gate struct {
	net.Conn
	open <-chan struct{}
}

func (g gate) Read(p []byte) (int, error) {
	<-g.open
	return g.Conn.Read(p)
}

// What a client that does not read has not got in the end was dropped, and counted.
func TestMetricsCountWhatIsDropped(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Ping: time.Hour})
	id := servertest.NewDocumentID()
	open := make(chan struct{}, 1<<20)
	for range 1 << 10 {
		open <- struct{}{} // for the join
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return gate{c, open}, err
	}}
	bob := must(servertest.ConnectVia(ctx, r.url, &http.Client{Transport: transport}))
	t.Cleanup(bob.CloseNow)
	check(t, bob.Join(ctx, "bob"))
	check(t, r.open(ctx, bob, id).Unavailable(ctx, 1))
	for range len(open) { // now it is shut, but for the read that is under way
		<-open
	}

	alice := r.dial(ctx, "alice")
	check(t, r.open(ctx, alice, id).Unavailable(ctx, 1))
	const frames = 200
	for n := range frames {
		check(t, alice.Send(ctx, &wire.Ephemeral{
			SenderID: "alice", TargetID: "server", DocumentID: id, Count: uint64(n + 1), SessionID: "s",
			Data: must(cborText(strings.Repeat("x", 60_000))),
		}))
	}
	r.awaitMetrics(soon(t), series{`parley_frames_received_total{kind="ephemeral"}`: frames})
	var dropped float64
	for dropped == 0 || dropped != r.scrape()["parley_ephemeral_dropped_total"] {
		check(t, ctx.Err())
		dropped = r.scrape()["parley_ephemeral_dropped_total"]
		time.Sleep(50 * time.Millisecond)
	}
	close(open)
	check(t, bob.Wait(ctx, "the last frame", func() bool {
		m := bob.EphemeralLocked()
		return len(m) > 0 && m[len(m)-1].Count == frames
	}))
	got := len(bob.Ephemeral())
	if dropped == 0 || float64(got)+dropped != frames {
		t.Errorf("%d sent, %d arrived, %v dropped", frames, got, dropped)
	}
	r.awaitMetrics(soon(t), series{`parley_frames_sent_total{kind="ephemeral"}`: float64(got)})
	bob.CloseNow()
	r.awaitMetrics(soon(t), series{`parley_connections`: 1, `parley_ephemeral_dropped_total`: dropped})
}

func cborText(s string) ([]byte, error) {
	return append([]byte{0x7a, byte(len(s) >> 24), byte(len(s) >> 16), byte(len(s) >> 8), byte(len(s))}, s...), nil
}

// No series comes from a client: there are as many after all kinds of them.
func TestMetricsAreClosed(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity, Version: "v1.2.3"})
	ours := func() (names []string) {
		for name := range r.scrape() {
			if strings.HasPrefix(name, "parley_") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	before := ours()
	here := r.agreedSale(ctx, `"parties": ["alice-secret", "bob-secret"]`, "alice-secret", "bob-secret")
	r.agree(ctx, here)
	d := r.open(ctx, r.dial(ctx, "peer-secret"), servertest.NewDocumentID())
	check(t, d.Acknowledged(ctx, must(d.Set(ctx, "key-secret", "value-secret"))))
	check(t, r.dial(ctx, "other-secret").Write(ctx, websocket.MessageBinary, []byte("frame-secret")))
	r.awaitMetrics(soon(t), series{`parley_connections_ended_total{reason="bad_frame"}`: 1})
	after := ours()
	if !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	labels := map[string]bool{"reason": true, "kind": true, "code": true, "state": true, "result": true, "quota": true, "le": true, "version": true, "goversion": true}
	value := regexp.MustCompile(`^([a-z0-9._-]+|\+Inf)$`)
	for _, name := range after {
		for _, m := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(name, -1) {
			if !labels[m[1]] || !value.MatchString(m[2]) || strings.Contains(m[2], "secret") {
				t.Errorf("label %s=%q", m[1], m[2])
			}
		}
	}
	if _, body := r.get("/metrics"); strings.Contains(body, "secret") || strings.Contains(body, d.ID.String()) {
		t.Error("a client's words are in it")
	}
}

// Every code with which a change can be refused has a series of its own.
func TestMetricsKnowAllRefusals(t *testing.T) {
	got := start(t, server.Options{}).scrape()
	codes := []string{string(presence.CodeSealed), string(session.CodeDependsOnRefused), string(session.CodePlainDocument)}
	for _, dir := range []string{"../crdt", "../crdt/transaction"} {
		codes = append(codes, constants(t, dir)...)
	}
	for _, code := range codes {
		if _, ok := got[`parley_changes_refused_total{code="`+code+`"}`]; !ok {
			t.Errorf("no series of %q", code)
		}
	}
	n := 0
	for name := range got {
		if strings.HasPrefix(name, "parley_changes_refused_total") {
			n++
		}
	}
	if slices.Sort(codes); n != len(slices.Compact(codes))+1 {
		t.Errorf("%d series for %d codes and others", n, len(codes))
	}
}

// constants returns the values of a package's constants of type Code.
func constants(t *testing.T, dir string) (values []string) {
	t.Helper()
	fset := token.NewFileSet()
	for _, path := range must(fs.Glob(os.DirFS(dir), "*.go")) {
		f, err := parser.ParseFile(fset, dir+"/"+path, nil, parser.SkipObjectResolution)
		check(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || spec.Type == nil || len(spec.Values) != 1 {
				return true
			}
			name := ""
			switch typ := spec.Type.(type) {
			case *ast.Ident:
				name = typ.Name
			case *ast.SelectorExpr:
				name = typ.Sel.Name
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && name == "Code" {
				values = append(values, must(strconv.Unquote(lit.Value)))
			}
			return true
		})
	}
	if len(values) < 10 {
		t.Fatalf("only %d codes in %s", len(values), dir)
	}
	return values
}

func TestMetricsAreForThisMachine(t *testing.T) {
	r := start(t, server.Options{})
	public, err := server.New(r.store, server.Options{MetricsForAll: true})
	check(t, err)
	defer func() { check(t, public.Shutdown(context.Background())) }()
	for _, c := range []struct {
		name, peer, host string
		header           string
		here             bool
	}{
		{"here", "127.0.0.1:5000", "127.0.0.1:8080", "", true},
		{"here by name", "127.0.0.1:5000", "localhost:8080", "", true},
		{"here by IPv6", "[::1]:5000", "[::1]:8080", "", true},
		{"here without a port", "[::ffff:127.0.0.1]:5000", "[::1]", "", true},
		{"elsewhere", "192.0.2.1:5000", "127.0.0.1:8080", "", false},
		{"elsewhere by IPv6", "[2001:db8::1]:5000", "[::1]:8080", "", false},
		{"a proxy that passes the name on", "127.0.0.1:5000", "parley.example.com", "", false},
		{"a proxy that says for whom", "127.0.0.1:5000", "127.0.0.1:8080", "X-Forwarded-For", false},
		{"a proxy that says so otherwise", "127.0.0.1:5000", "127.0.0.1:8080", "Forwarded", false},
		{"no address", "@", "localhost", "", false},
	} {
		req := httptest.NewRequest("GET", "/metrics", nil)
		req.RemoteAddr, req.Host = c.peer, c.host
		if c.header != "" {
			req.Header.Set(c.header, "192.0.2.1")
		}
		answer := func(h http.Handler) (int, string) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			return w.Code, w.Body.String()
		}
		switch status, body := answer(r.srv.Handler()); {
		case c.here && status != http.StatusOK:
			t.Errorf("%s: %d", c.name, status)
		case !c.here && (status != http.StatusForbidden || !strings.Contains(body, "--debug-listen") || strings.Contains(body, "parley_")):
			t.Errorf("%s: %d %s", c.name, status, body)
		}
		for _, h := range []http.Handler{public.Handler(), r.srv.Metrics()} {
			if status, _ := answer(h); status != http.StatusOK {
				t.Errorf("%s, where it is for all: %d", c.name, status)
			}
		}
	}
}

func TestMetricsLint(t *testing.T) {
	_, body := start(t, server.Options{}).get("/metrics")
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(body))
	check(t, err)
	if len(families) < 40 {
		t.Errorf("%d metrics", len(families))
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	readme := string(must(os.ReadFile("metrics/README.md")))
	for name := range families {
		if strings.HasPrefix(name, "parley_") && !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("%s is not in metrics/README.md", name)
		}
	}
	for _, name := range regexp.MustCompile(`parley_\w+`).FindAllString(readme, -1) {
		if families[strings.TrimSuffix(name, "_bucket")] == nil {
			t.Errorf("metrics/README.md speaks of %s", name)
		}
	}
}

// panel is what matters of one on the board.
type panel struct {
	Title   string
	Type    string
	Panels  []panel
	Targets []struct{ Expr string }
	GridPos struct{ X, Y, W, H int }
}

// Every expression on the board is about metrics that there are, and every metric of
// ours is on it.
func TestBoard(t *testing.T) {
	got := start(t, server.Options{}).scrape()
	var board struct {
		UID, Title string
		Panels     []panel
	}
	check(t, json.Unmarshal(must(os.ReadFile("metrics/board.json")), &board))
	exprs, shown := 0, ""
	name := regexp.MustCompile(`\b(?:parley|go|process)_\w+`)
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q: %d targets at %+v", p.Title, len(p.Targets), p.GridPos)
		}
		for _, target := range p.Targets {
			exprs++
			shown += target.Expr + "\n"
			metrics := name.FindAllString(target.Expr, -1)
			if len(metrics) == 0 || strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") {
				t.Errorf("%s: %s", p.Title, target.Expr)
			}
			for _, m := range metrics {
				if !got.has(m) {
					t.Errorf("%s: there is no %s", p.Title, m)
				}
			}
			if strings.Contains(target.Expr, "_total") && !strings.Contains(target.Expr, "rate(") && !strings.Contains(target.Expr, "increase(") {
				t.Errorf("%s: a bare counter: %s", p.Title, target.Expr)
			}
		}
	}
	for series := range got {
		m, _, _ := strings.Cut(series, "{")
		m = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(m, "")
		if strings.HasPrefix(m, "parley_") && !strings.Contains(shown, m) {
			t.Errorf("%s is not on the board", m)
		}
	}
	if board.UID == "" || board.Title == "" || exprs < 20 {
		t.Errorf("%q %q with %d expressions", board.UID, board.Title, exprs)
	}
}

func (s series) has(metric string) bool {
	for name := range s {
		if name == metric || strings.HasPrefix(name, metric+"{") {
			return true
		}
	}
	return false
}
