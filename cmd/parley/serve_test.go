package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/crdt"
	"parley/server/servertest"
	"parley/sync/session"
)

// process is a real parley serve.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	url string // ws://

	mu  sync.Mutex
	log strings.Builder // what it printed

	read chan struct{} // closed when its output has ended
}

var listening = regexp.MustCompile(`listening on http://([0-9.:]+)`)

// serve starts the binary on a free port, or on the one in args, and waits
// until it listens. Without --keys among args it believes everyone.
func serve(t *testing.T, data string, args ...string) *process {
	t.Helper()
	p := newProcess(t, data, args...)
	if !p.start() {
		t.Fatalf("the server did not start: %s", p.output())
	}
	return p
}

func newProcess(t *testing.T, data string, args ...string) *process {
	if !slices.Contains(args, "--keys") {
		args = append([]string{"--dev"}, args...)
	}
	p := &process{t: t, read: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{
		"serve", "--plain-documents", "--listen", "127.0.0.1:0", "--data", data,
	}, args...)...)
	p.cmd.Env = append(os.Environ(), asBinary+"=1")
	return p
}

// start reports whether the server listens; if not, it has ended.
func (p *process) start() bool {
	p.t.Helper()
	out, err := p.cmd.StderrPipe()
	check(p.t, err)
	check(p.t, p.cmd.Start())
	p.t.Cleanup(func() { _ = p.kill() })
	address := make(chan string, 1)
	go p.follow(out, address)
	select {
	case a := <-address:
		p.url = "ws://" + a
		return true
	case <-p.read:
		return false
	}
}

func (p *process) follow(out io.Reader, address chan<- string) {
	defer close(p.read)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			address <- m[1]
		}
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// end sends a signal and waits for the process.
func (p *process) end(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	<-p.read
	return p.cmd.Wait()
}

func (p *process) kill() error { return p.end(syscall.SIGKILL) }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServeDrainsOnSIGTERM(t *testing.T) {
	ctx := within(t, 30*time.Second)
	p := serve(t, t.TempDir())
	c, err := servertest.Dial(ctx, p.url, "alice")
	check(t, err)
	defer c.CloseNow()
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("parley serve: %v: %s", err, p.output())
	}
	code, err := c.Ended(ctx)
	check(t, err)
	if code != websocket.StatusCode(session.CloseRestarting) {
		t.Errorf("the client's connection ended with %d", code)
	}
}

func TestOneServerPerFolder(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir)
	second := exec.Command(os.Args[0], "serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir)
	second.Env = append(os.Environ(), asBinary+"=1")
	out, err := second.CombinedOutput()
	if err == nil || second.ProcessState.ExitCode() != exitFailure {
		t.Fatalf("a second server on the same folder: %v", err)
	}
	if text := strings.TrimSpace(string(out)); strings.Contains(text, "\n") || !strings.Contains(text, dir) {
		t.Errorf("it said: %q, want one line that names the folder", text)
	}
}

func TestThePortIsTaken(t *testing.T) {
	p := serve(t, t.TempDir())
	second := exec.Command(os.Args[0], "serve", "--dev", "--listen", strings.TrimPrefix(p.url, "ws://"), "--data", t.TempDir())
	second.Env = append(os.Environ(), asBinary+"=1")
	out, _ := second.CombinedOutput()
	if second.ProcessState.ExitCode() != exitFailure || !strings.Contains(string(out), "--listen picks another port") {
		t.Errorf("exit %d: %s", second.ProcessState.ExitCode(), out)
	}
}

// The sample that make run opens is one that the server takes.
func TestTheSampleOpens(t *testing.T) {
	p := serve(t, t.TempDir())
	var out, errs strings.Builder
	code := run([]string{
		"open", "sample", "--fields", "../../testdata/sample.json", "--server", p.url, "--user", "host", "--role", "host",
	}, streams{strings.NewReader(""), &out, &errs})
	if code != exitOK || !strings.Contains(out.String(), "sample created: 4 fields") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
}

// A page from elsewhere must not get into a server that believes everyone, neither
// as what it is nor under a name that it made lead here.
func TestPagesFromElsewhere(t *testing.T) {
	p := serve(t, t.TempDir())
	port := p.url[strings.LastIndex(p.url, ":"):]
	for _, c := range []struct {
		origin, host string
		status       int
	}{
		{"", "", http.StatusSwitchingProtocols},
		{"http://localhost:5173", "", http.StatusSwitchingProtocols},
		{"http://127.0.0.1", "localhost" + port, http.StatusSwitchingProtocols},
		{"http://[::1]:3000", "[::1]" + port, http.StatusSwitchingProtocols},
		{"https://evil.example", "", http.StatusForbidden},
		{"http://localhost.evil.example", "", http.StatusForbidden},
		{"null", "", http.StatusForbidden},
		{"http://evil.example" + port, "evil.example" + port, http.StatusMisdirectedRequest},
		{"", "evil.example", http.StatusMisdirectedRequest},
	} {
		opt := &websocket.DialOptions{Host: c.host, HTTPHeader: http.Header{}}
		if c.origin != "" {
			opt.HTTPHeader.Set("Origin", c.origin)
		}
		ws, resp, err := websocket.Dial(t.Context(), p.url+"/?user=holly&role=host", opt)
		if err == nil {
			_ = ws.CloseNow()
		}
		if resp == nil || resp.StatusCode != c.status {
			t.Errorf("origin %q, host %q: %v", c.origin, c.host, err)
		}
	}
}

// Who is not known yet may take little memory, and all that an honest request needs.
func TestLongHeaders(t *testing.T) {
	p := serve(t, t.TempDir())
	for length, want := range map[int]int{
		2000 * len(crdt.Hash{}) * 2: http.StatusNotFound, // as many heads as there may be
		256 << 10:                   http.StatusRequestHeaderFieldsTooLarge,
	} {
		req, err := http.NewRequest("GET", "http"+strings.TrimPrefix(p.url, "ws")+"/none", nil)
		check(t, err)
		req.Header.Set("Long", strings.Repeat("x", length))
		res, err := http.DefaultClient.Do(req)
		check(t, err)
		check(t, res.Body.Close())
		if res.StatusCode != want {
			t.Errorf("%d bytes: %s, want %d", length, res.Status, want)
		}
	}
}
