package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/storetest"
)

const (
	killRounds    = 20 // PARLEY_KILL_ROUNDS sets another number
	killDocuments = 8
	killWriters   = 16
)

func killChange(seed int) store.Change {
	size := 200
	if seed%200 == 0 {
		size = 200_000
	}
	return storetest.Change(seed, size)
}

// killResolution is over every tenth change.
func killResolution(seed int) *store.Resolution {
	if seed/killWriters%10 != 0 {
		return nil
	}
	return &store.Resolution{Heads: []crdt.Hash{killChange(seed).Hash}, Data: fmt.Append(nil, seed)}
}

// childWrites appends without end and prints the number of each change, once it is
// acknowledged. It also stores snapshots. It only ends by a signal.
func childWrites(dir, from string) int {
	base, err := strconv.Atoi(from)
	if err != nil {
		return fail(err)
	}
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return fail(err)
	}
	var all sync.WaitGroup
	for w := range killWriters {
		doc := storetest.Document(w % killDocuments)
		all.Go(func() {
			done := make(chan error, 1)
			for i := 0; ; i++ {
				seed := base + i*killWriters + w
				s.Append(store.Batch{Document: doc, Changes: []store.Change{killChange(seed)}, Resolution: killResolution(seed), Done: func(err error) {
					if err == nil { // printed before the next commit begins
						_, err = fmt.Fprintln(os.Stdout, seed)
					}
					done <- err
				}})
				if err := <-done; err != nil {
					os.Exit(fail(err))
				}
				if i%50 == 0 {
					if err := s.PutSnapshot(context.Background(), doc, crdt.Snapshot{Changes: 1, Data: bytes.Repeat([]byte{byte(w)}, 50_000)}); err != nil {
						os.Exit(fail(err))
					}
				}
			}
		})
	}
	all.Wait()
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKill kills a process that writes, again and again, and finds all that it
// acknowledged. The page cache outlives the process: this says nothing of power
// cuts.
func TestKill(t *testing.T) {
	rounds := killRounds
	if env := os.Getenv("PARLEY_KILL_ROUNDS"); env != "" {
		n, err := strconv.Atoi(env)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	dir := t.TempDir()
	var acked []int
	for round := range rounds {
		got := writeAndKill(t, dir, round*1_000_000)
		if len(got) == 0 {
			t.Fatalf("round %d acknowledged nothing", round)
		}
		acked = append(acked, got...)
		s := open(t, dir, store.Options{})
		mustHaveAll(t, s, acked)
		mustBeSound(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes were acknowledged in %d rounds, all are there", len(acked), rounds)
}

// writeAndKill returns what the process acknowledged before it was killed: at once
// after a random number of acknowledgements, while it goes on.
func writeAndKill(t *testing.T, dir string, base int) (acked []int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], dir, strconv.Itoa(base))
	cmd.Env = append(os.Environ(), childEnv+"=write")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	enough := 1 + rand.IntN(400)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // a last line without its end was not read by anybody
		}
		if err != nil {
			t.Fatal(err)
		}
		seed, err := strconv.Atoi(line[:len(line)-1])
		if err != nil {
			t.Fatal(err)
		}
		if acked = append(acked, seed); len(acked) == enough {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the process ended by itself: %v: %s", err, &stderr)
	}
	return acked
}

func mustHaveAll(t *testing.T, s *store.Store, acked []int) {
	t.Helper()
	have := make(map[crdt.Hash][]byte)
	resolved := make(map[crdt.Hash]string)
	for d := range killDocuments {
		st, err := s.Load(t.Context(), storetest.Document(d))
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range st.Hashes {
			if _, twice := have[h]; twice {
				t.Fatalf("change %s is stored twice", h)
			}
			have[h] = st.Chunks[i]
		}
		for _, r := range st.Resolutions {
			if _, ok := have[r.Heads[0]]; !ok {
				t.Fatalf("resolution %s is over a change that is not there", r.Data)
			}
			resolved[r.Heads[0]] = string(r.Data)
		}
	}
	for _, seed := range acked {
		want := killChange(seed)
		if !bytes.Equal(have[want.Hash], want.Chunk) {
			t.Fatalf("change %d was acknowledged and is not there", seed)
		}
		if r := killResolution(seed); r != nil && resolved[want.Hash] != string(r.Data) {
			t.Fatalf("the resolution over change %d was acknowledged and is not there", seed)
		}
	}
}

// TestFileSizeLimit has the kernel refuse to write, as a failing disk does.
func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], dir)
	cmd.Env = append(os.Environ(), childEnv+"=limit")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := open(t, dir, store.Options{})
	storetest.MustHold(t, s, storetest.Document(1), storetest.Changes(0, limitChanges)...)
	mustBeSound(t, s)
}

const limitChanges = 100

// childMeetsLimit appends until its files may not grow further, sees the store
// stall, lifts the limit, and sees everything acknowledged.
func childMeetsLimit(dir string) int {
	signal.Ignore(syscall.SIGXFSZ) // writing then fails instead of killing us
	log := make(logged, 2)
	s, err := store.Open(dir, store.Options{Logger: slog.New(log)})
	if err != nil {
		return fail(err)
	}
	lift, err := limitFiles(50_000)
	if err != nil {
		return fail(err)
	}
	acks := make(chan error, limitChanges)
	told, stalled := 0, false
	for _, c := range storetest.Changes(0, limitChanges) {
		s.Append(store.Batch{Document: storetest.Document(1), Changes: []store.Change{c}, Done: func(err error) { acks <- err }})
		if stalled {
			continue
		}
		select {
		case ack := <-acks:
			told, err = told+1, errors.Join(err, ack)
		case <-log:
			stalled = true
		}
	}
	if status := s.Status(); !stalled || status == nil {
		return fail(fmt.Errorf("the limit was not noticed: stalled %t, status %v, %+v", stalled, status, s.Stats()))
	}
	if err := lift(); err != nil {
		return fail(err)
	}
	<-log // it commits again
	if err := errors.Join(s.Status(), s.Close()); err != nil {
		return fail(err)
	}
	for range limitChanges - told {
		err = errors.Join(err, <-acks)
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// limitFiles lets no file of this process grow beyond so many bytes.
func limitFiles(size uint64) (lift func() error, err error) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return nil, err
	}
	err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: old.Max})
	return func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old) }, err
}

// logged is a log whose lines only count.
type logged chan struct{}

func (l logged) Enabled(context.Context, slog.Level) bool  { return true }
func (l logged) Handle(context.Context, slog.Record) error { l <- struct{}{}; return nil }
func (l logged) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l logged) WithGroup(string) slog.Handler             { return l }
