// Package compact calls Automerge's engine in a child process: crdt.Compact and
// crdt.Materialize for servers. The engine is native code that aborts, hangs or
// takes gigabytes on input that the gate should not have let through; here that
// costs one request its answer and never the server its life.
//
// It decides nothing: when to compact and what to keep is the caller's affair.
// Package server and cmd/parley may import it; the latter runs [Serve] as the
// child.
package compact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"parley/crdt"
)

var (
	// ErrClosed is returned for requests to a worker that is closed or closes
	// before the answer.
	ErrClosed = errors.New("compact: the worker is closed")
	// ErrTimeout is returned when the child took longer than Options.Timeout.
	ErrTimeout = errors.New("compact: the engine took too long and was killed")
	// ErrCrashed is returned when the child died, could not be started or gave an
	// answer that is none.
	ErrCrashed = errors.New("compact: the engine's process failed")
	// ErrRefused is returned when the engine, or the check of its work, said no;
	// it will again for the same input.
	ErrRefused = errors.New("compact: the engine refused")
)

// DefaultTimeout allows for a child that gives way to a busy server: it has a tenth of
// a processor then.
const DefaultTimeout = 3 * time.Minute

// Options of a worker. Zero values stand for the defaults.
type Options struct {
	Command     []string      // the child's argv: this program and what makes it call Serve. Required
	Timeout     time.Duration // for a request, from when its turn comes; default [DefaultTimeout]
	IdleAfter   time.Duration // the child is stopped after so long without a request; default 1 minute
	MemoryLimit int64         // bytes the child may map beyond what it starts with (Linux); default 2 GiB, negative: none
	Logger      *slog.Logger  // starts, stops and failures; default none
}

func (o Options) withDefaults() Options {
	if len(o.Command) == 0 {
		panic("compact: Options.Command is empty")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.IdleAfter == 0 {
		o.IdleAfter = time.Minute
	}
	if o.MemoryLimit == 0 {
		o.MemoryLimit = 2 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Worker has one child at most, started when a request needs it, and gives it
// one request at a time; others wait. Its methods may be called concurrently.
type Worker struct {
	opt   Options
	calls chan call       // unbuffered: what waits, waits in its caller
	life  context.Context // ends with Close
	close context.CancelFunc
	ended sync.WaitGroup // run

	// Owned by run.
	child *child // nil: none is running
	idle  *time.Timer
}

type call struct {
	ctx   context.Context
	ask   request
	reply chan<- reply // has room for it
}

type reply struct {
	answer answer
	err    error
}

// New returns a worker that must be closed. No child runs yet.
func New(opt Options) *Worker {
	w := &Worker{opt: opt.withDefaults(), calls: make(chan call)}
	w.life, w.close = context.WithCancel(context.Background())
	w.idle = time.NewTimer(w.opt.IdleAfter)
	w.ended.Go(w.run)
	return w
}

// Close stops the child, in the middle of a request if need be, and waits until
// it is gone. It may be called more than once.
func (w *Worker) Close() {
	w.close()
	w.ended.Wait()
}

// Compact is [crdt.Compact] in the child. When ctx ends before the answer, the
// child is killed. Errors wrap one of this package's, or are ctx's.
func (w *Worker) Compact(ctx context.Context, prev *crdt.Snapshot, chunks [][]byte, heads []crdt.Hash) (crdt.Snapshot, error) {
	a, err := w.do(ctx, request{Op: opCompact, Snapshot: prev, Chunks: chunks, Heads: heads})
	if err != nil {
		return crdt.Snapshot{}, err
	}
	if !slices.Equal(a.Snapshot.Heads, crdt.SortHashes(slices.Clone(heads))) || len(a.Snapshot.Data) == 0 {
		return crdt.Snapshot{}, fmt.Errorf("%w: it answered with the snapshot of something else", ErrCrashed)
	}
	return a.Snapshot, nil
}

// Materialize is [crdt.Materialize] in the child, under the same conditions.
func (w *Worker) Materialize(ctx context.Context, prev *crdt.Snapshot, chunks [][]byte) ([]byte, error) {
	a, err := w.do(ctx, request{Op: opMaterialize, Snapshot: prev, Chunks: chunks})
	if err != nil {
		return nil, err
	}
	if len(a.JSON) == 0 {
		return nil, fmt.Errorf("%w: it answered without a document", ErrCrashed)
	}
	return a.JSON, nil
}

func (w *Worker) do(ctx context.Context, ask request) (answer, error) {
	replies := make(chan reply, 1)
	select {
	case w.calls <- call{ctx, ask, replies}:
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case <-w.life.Done():
		return answer{}, ErrClosed
	}
	r := <-replies // run answers whatever it took, and in bounded time
	if r.err != nil {
		return answer{}, r.err
	}
	if r.answer.Error != "" {
		return answer{}, fmt.Errorf("%w: %s", ErrRefused, printable(r.answer.Error))
	}
	return r.answer, nil
}

// run owns the child. It ends after Close.
func (w *Worker) run() {
	// A child asks Linux to be killed with its parent, and by parent Linux means
	// the thread that started it: that thread must be this one, and stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer w.idle.Stop()
	defer w.stop("closed")
	for {
		var gone <-chan struct{}
		if w.child != nil {
			gone = w.child.exited
		}
		select {
		case c := <-w.calls:
			a, err := w.serve(c)
			c.reply <- reply{a, err}
			w.idle.Reset(w.opt.IdleAfter)
		case <-gone:
			w.stop("it ended by itself")
		case <-w.idle.C:
			w.stop("idle")
		case <-w.life.Done():
			return
		}
	}
}

// serve gives a call to the child. After an error of the child's there is no
// child any more.
func (w *Worker) serve(c call) (answer, error) {
	if err := c.ctx.Err(); err != nil {
		return answer{}, err
	}
	if n := c.ask.size(); n > maxFrame {
		return answer{}, fmt.Errorf("%w: %w", ErrRefused, tooLarge(n))
	}
	frame, err := encode(c.ask)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, w.opt.Timeout, ErrTimeout)
	defer stop()
	defer context.AfterFunc(w.life, func() { cancel(ErrClosed) })()
	if err := w.start(); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrCrashed, err)
	}
	a, err := w.child.do(ctx, frame)
	if err == nil {
		return a, nil
	}
	why := w.child.end()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else {
		err = fmt.Errorf("%w: %w (%s)", ErrCrashed, err, why)
	}
	w.stop("it failed", slog.Any("error", err))
	return answer{}, err
}

func (w *Worker) start() (err error) {
	if w.child != nil {
		return nil
	}
	if w.child, err = start(w.opt.Command, w.opt.MemoryLimit); err != nil {
		return err
	}
	w.opt.Logger.Debug("compaction process started", "pid", w.child.cmd.Process.Pid)
	return nil
}

// stop ends the child, if there is one. Only a failure is worth an operator's
// attention.
func (w *Worker) stop(reason string, attrs ...any) {
	if w.child == nil {
		return
	}
	why := w.child.end()
	level := slog.LevelDebug
	if reason != "idle" && reason != "closed" {
		level = slog.LevelWarn
	}
	attrs = append(attrs, "pid", w.child.cmd.Process.Pid, "reason", reason, "process", why)
	w.child = nil
	w.opt.Logger.Log(context.Background(), level, "compaction process stopped", attrs...)
}
