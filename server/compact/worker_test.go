package compact

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parley/crdt"
	"parley/crdt/historytest"
)

// The test program is its own child: an argument that is one of these makes it
// serve, or misbehave, instead of testing.
var modes = map[string]func(args []string) error{
	"serve": func([]string) error { return Serve(os.Stdin, os.Stdout) },
	// Takes everything and never answers.
	"hang": func([]string) error { _, err := io.Copy(io.Discard, os.Stdin); return err },
	// Dies by a signal in the middle of the first request.
	"die":     func([]string) error { return onRequest(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }) },
	"refuse":  func([]string) error { return errors.New("not today") },
	"garbage": func([]string) error { return onRequest(func() { fmt.Println("a line that some library printed") }) },
	"huge": func([]string) error {
		return onRequest(func() { _, _ = os.Stdout.Write([]byte{0xff, 0xff, 0xff, 0xff}) })
	},
	"cut":     func([]string) error { return onRequest(func() { _, _ = os.Stdout.Write([]byte{0, 0, 1, 0, 0xa0}) }) },
	"no item": func([]string) error { return onRequest(func() { _ = writeFrame(os.Stdout, []byte("\xff")) }) },
	"nothing": func([]string) error { return onRequest(func() { _ = writeFrame(os.Stdout, []byte("\xa0")) }) },
	"secret": func([]string) error {
		return onRequest(func() {
			fmt.Fprint(os.Stderr, "thread panicked at 'the secret price', automerge/src/types.rs:274:18\n")
			os.Exit(2)
		})
	},
	"parent": parent,
	"hold":   hold,
}

// onRequest reads the setup and one request, and then does what it is told.
func onRequest(f func()) error {
	in := bufio.NewReader(os.Stdin)
	for range 2 {
		if _, err := readFrame(in); err != nil {
			return err
		}
	}
	f()
	return nil
}

// parent is a server that waits for an answer that does not come.
func parent(args []string) error {
	w := New(Options{Command: []string{os.Args[0], "hold", args[0]}})
	defer w.Close()
	_, err := w.Materialize(context.Background(), nil, nil)
	return err
}

// hold is a child whose life shows in a connection, and that does not see its
// input end.
func hold(args []string) error {
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "%d\n", os.Getppid()); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && modes[os.Args[1]] != nil {
		if err := modes[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// logs lets a test wait for what a worker says.
type logs struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
	more  chan struct{} // has something when there are new lines
}

func newLogs() *logs { return &logs{Handler: slog.DiscardHandler, more: make(chan struct{}, 1)} }

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return nil
}

func (l *logs) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// wait returns when n lines have the part.
func (l *logs) wait(t *testing.T, part string, n int) {
	t.Helper()
	for l.count(part) < n {
		select {
		case <-l.more:
		case <-t.Context().Done():
			t.Fatalf("no %d lines with %q; there are %q", n, part, l.lines)
		}
	}
}

func newWorker(t *testing.T, opt Options, mode ...string) (*Worker, *logs) {
	t.Helper()
	l := newLogs()
	opt.Command, opt.Logger = append([]string{os.Args[0]}, mode...), slog.New(l)
	w := New(opt)
	t.Cleanup(w.Close)
	return w, l
}

func history() (chunks [][]byte, heads []crdt.Hash) {
	h := historytest.Random(1, 3, 40)
	for _, head := range h.Heads() {
		heads = append(heads, head)
	}
	return h.Chunks(), heads
}

// works checks that the worker gives right answers.
func works(t *testing.T, w *Worker) {
	t.Helper()
	chunks, heads := history()
	snapshot, err := w.Compact(t.Context(), nil, chunks, heads)
	if err != nil {
		t.Fatal(err)
	}
	want, err := crdt.Compact(nil, chunks, heads)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(snapshot.Heads, want.Heads) || snapshot.Changes != want.Changes || !slices.Equal(snapshot.Data, want.Data) {
		t.Errorf("the snapshot has %d changes, %d bytes and the heads %v; want %d, %d, %v", snapshot.Changes, len(snapshot.Data), snapshot.Heads, want.Changes, len(want.Data), want.Heads)
	}
	json, err := w.Materialize(t.Context(), &snapshot, chunks[30:])
	if err != nil {
		t.Fatal(err)
	}
	wantJSON, err := crdt.Materialize(nil, chunks)
	if err != nil {
		t.Fatal(err)
	}
	if string(json) != string(wantJSON) {
		t.Errorf("the document is\n%s, want\n%s", json, wantJSON)
	}
}

func TestWorks(t *testing.T) {
	w, logs := newWorker(t, Options{}, "serve")
	works(t, w)
	works(t, w)
	if n := logs.count("process started"); n != 1 {
		t.Errorf("%d processes were started, want 1", n)
	}
	if json, err := w.Materialize(t.Context(), nil, nil); err != nil || string(json) != "{}" {
		t.Errorf("the empty document is %s, %v", json, err)
	}
}

func TestConcurrentRequests(t *testing.T) {
	w, _ := newWorker(t, Options{}, "serve")
	chunks, heads := history()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := w.Compact(t.Context(), nil, chunks, heads); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// What the engine refuses costs the process nothing.
func TestRefused(t *testing.T) {
	w, logs := newWorker(t, Options{}, "serve")
	chunks, heads := history()
	for name, ask := range map[string]func() error{
		"garbage":          func() error { _, err := w.Compact(t.Context(), nil, [][]byte{[]byte("garbage")}, heads); return err },
		"a missing change": func() error { _, err := w.Materialize(t.Context(), nil, chunks[1:]); return err },
		"wrong heads":      func() error { _, err := w.Compact(t.Context(), nil, chunks[:39], heads); return err },
	} {
		if err := ask(); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: the error is %v, want one that is ErrRefused", name, err)
		}
	}
	works(t, w)
	if n := logs.count("process started"); n != 1 {
		t.Errorf("%d processes were started, want 1", n)
	}
}

// aborting is a snapshot with an action that the engine does not know, as a
// damaged file might hold it. In a change the engine would notice.
func aborting(t *testing.T) *crdt.Snapshot {
	t.Helper()
	chunk := historytest.Raw{Key: "k", Action: 1}.Chunk()
	s, err := crdt.Compact(nil, [][]byte{chunk}, []crdt.Hash{sha256.Sum256(chunk[8:])})
	if err != nil {
		t.Fatal(err)
	}
	s.Data[len(s.Data)-6] = 9 // the action's column ends there
	sum := sha256.Sum256(s.Data[8:])
	copy(s.Data[4:], sum[:4])
	return &s
}

func TestEngineAborts(t *testing.T) {
	w, logs := newWorker(t, Options{}, "serve")
	works(t, w)
	_, err := w.Materialize(t.Context(), aborting(t), nil)
	if !errors.Is(err, ErrCrashed) {
		t.Fatalf("the error is %v, want one that is ErrCrashed", err)
	}
	if !strings.Contains(err.Error(), "types.rs:") {
		t.Errorf("the error %q does not say where the engine panicked", err)
	}
	works(t, w)
	if n := logs.count("process started"); n != 2 {
		t.Errorf("%d processes were started, want 2", n)
	}
	if n := logs.count("WARN compaction process stopped"); n != 1 {
		t.Errorf("%d failures were logged, want 1", n)
	}
}

// A run of 100,000 operations on one key keeps the engine busy for minutes.
func TestEngineHangs(t *testing.T) {
	w, _ := newWorker(t, Options{Timeout: 200 * time.Millisecond}, "serve")
	_, err := w.Materialize(t.Context(), nil, [][]byte{historytest.Raw{Key: "k", Action: 1, Repeat: 100_000}.Chunk()})
	if !errors.Is(err, ErrTimeout) {
		t.Fatalf("the error is %v, want ErrTimeout", err)
	}
	w.opt.Timeout = time.Minute // read when the next request is taken
	if json, err := w.Materialize(t.Context(), nil, nil); err != nil || string(json) != "{}" {
		t.Errorf("after it the empty document is %s, %v", json, err)
	}
}

func TestEngineTakesTooMuchMemory(t *testing.T) {
	w, _ := newWorker(t, Options{MemoryLimit: 32 << 20}, "serve")
	works(t, w)
	large := historytest.Raw{Key: "k", Action: 1, Type: 6, Value: []byte(strings.Repeat("large ", 4<<20))}.Chunk()
	if _, err := w.Materialize(t.Context(), nil, [][]byte{large}); !errors.Is(err, ErrCrashed) {
		t.Fatalf("the error is %v, want one that is ErrCrashed", err)
	}
	works(t, w)
}

func TestRequestTooLarge(t *testing.T) {
	w, logs := newWorker(t, Options{}, "serve")
	mib := make([]byte, 1<<20)
	if _, err := w.Materialize(t.Context(), nil, slices.Repeat([][]byte{mib}, maxFrame>>20+1)); !errors.Is(err, ErrRefused) {
		t.Errorf("the error is %v, want one that is ErrRefused", err)
	}
	if n := logs.count("process started"); n != 0 {
		t.Errorf("%d processes were started, want none", n)
	}
}

// A child that misbehaves costs the one request, and is gone afterwards.
func TestBadChildren(t *testing.T) {
	for mode, want := range map[string]string{
		"die":     "signal: killed",
		"refuse":  "exit status 1, 10 bytes on its standard error",
		"garbage": "want at most",
		"huge":    "want at most",
		"cut":     "unexpected EOF",
		"no item": "read the answer: cbor",
		"nothing": "without a document",
	} {
		w, logs := newWorker(t, Options{}, mode)
		for i := range 2 { // the next one gets a fresh child
			_, err := w.Materialize(t.Context(), nil, nil)
			if !errors.Is(err, ErrCrashed) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error is %v, want one that is ErrCrashed with %q in it", mode, err, want)
			}
			logs.wait(t, "process stopped", i+1)
		}
		w.Close()
	}
}

func TestWrongSnapshot(t *testing.T) {
	w, _ := newWorker(t, Options{}, "nothing")
	_, heads := history()
	if _, err := w.Compact(t.Context(), nil, nil, heads); !errors.Is(err, ErrCrashed) || !strings.Contains(err.Error(), "something else") {
		t.Errorf("the error is %v, want one that is ErrCrashed", err)
	}
}

func TestNoSuchCommand(t *testing.T) {
	w := New(Options{Command: []string{"/nonexistent/parley"}})
	defer w.Close()
	if _, err := w.Materialize(t.Context(), nil, nil); !errors.Is(err, ErrCrashed) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}

func TestLogsTellNoSecrets(t *testing.T) {
	w, logs := newWorker(t, Options{}, "secret")
	_, err := w.Materialize(t.Context(), nil, nil)
	logs.wait(t, "process stopped", 1)
	if all := fmt.Sprint(logs.lines, err); strings.Contains(all, "price") || !strings.Contains(all, "types.rs:274") {
		t.Errorf("logs and error are %s", all)
	}
}

func TestCancel(t *testing.T) {
	w, logs := newWorker(t, Options{}, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error)
	go func() {
		_, err := w.Materialize(ctx, nil, nil)
		answered <- err
	}()
	logs.wait(t, "process started", 1)
	// Somebody who waits for his turn need not wait.
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := w.Materialize(gone, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting ended with %v", err)
	}
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request ended with %v", err)
	}
}

func TestClose(t *testing.T) {
	w, logs := newWorker(t, Options{}, "hang")
	answered := make(chan error)
	go func() {
		_, err := w.Materialize(t.Context(), nil, nil)
		answered <- err
	}()
	logs.wait(t, "process started", 1)
	go w.Close()
	if err := <-answered; !errors.Is(err, ErrClosed) {
		t.Errorf("the request in hand ended with %v", err)
	}
	w.Close()
	if logs.count("process stopped") != 1 {
		t.Errorf("the process was not stopped: %q", logs.lines)
	}
	if _, err := w.Materialize(t.Context(), nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a request to a closed worker ended with %v", err)
	}
}

func TestIdle(t *testing.T) {
	w, logs := newWorker(t, Options{IdleAfter: time.Millisecond}, "serve")
	works(t, w)
	logs.wait(t, "reason=idle", 1)
	works(t, w)
	if logs.count("process started") < 2 || logs.count("WARN") > 0 {
		t.Errorf("the log is %q", logs.lines)
	}
}

func TestChildEndsByItself(t *testing.T) {
	w, logs := newWorker(t, Options{}, "serve")
	works(t, w)
	var pid int
	logs.mu.Lock()
	_, err := fmt.Sscanf(logs.lines[0], "DEBUG compaction process started pid=%d", &pid)
	logs.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	logs.wait(t, "it ended by itself", 1)
	works(t, w)
}

// When the server is killed, nothing is left behind.
func TestChildDiesWithParent(t *testing.T) {
	if processAttributes() == nil {
		t.Skip("only Linux kills a child that does not read with its parent")
	}
	socket := t.TempDir() + "/s"
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	server := exec.Command(os.Args[0], "parent", socket)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var pid int
	if _, err := fmt.Fscanln(conn, &pid); err != nil || pid != server.Process.Pid {
		t.Fatalf("the child's parent is %d (%v), want %d", pid, err, server.Process.Pid)
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	if _, err := io.Copy(io.Discard, conn); err != nil { // ends when the child does
		t.Error(err)
	}
}

// What the other process costs on top of crdt.Compact.
func BenchmarkCompact(b *testing.B) {
	w := New(Options{Command: []string{os.Args[0], "serve"}})
	defer w.Close()
	chunks, heads := history()
	for b.Loop() {
		if _, err := w.Compact(b.Context(), nil, chunks, heads); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		w := New(Options{Command: []string{os.Args[0], "serve"}})
		if _, err := w.Materialize(b.Context(), nil, nil); err != nil {
			b.Fatal(err)
		}
		w.Close()
	}
}
