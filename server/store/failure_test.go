package store_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-sqlite3"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/storetest"
)

// outcomes keeps how batches ended, in that order.
type outcomes struct {
	mu    sync.Mutex
	names []string
	errs  map[string]error
	twice []string
}

func (o *outcomes) done(name string) func(error) {
	return func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.errs == nil {
			o.errs = make(map[string]error)
		}
		if _, ok := o.errs[name]; ok {
			o.twice = append(o.twice, name)
		}
		o.names, o.errs[name] = append(o.names, name), err
	}
}

func (o *outcomes) check(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.names, want) || len(o.twice) > 0 {
		t.Fatalf("Done was called for %v (twice for %v), want %v", o.names, o.twice, want)
	}
}

func (o *outcomes) err(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.errs[name]
}

func (o *outcomes) add(s *store.Store, name string, doc crdt.DocumentID, list ...store.Change) {
	s.Append(store.Batch{Document: doc, Changes: list, Done: o.done(name)})
}

// faulty opens a store in a bubble of fake time, where the committer is idle.
func faulty(t *testing.T, opt store.Options) (*store.Store, *faults, *bytes.Buffer) {
	t.Helper()
	f, log := &faults{}, &bytes.Buffer{}
	opt.Logger = slog.New(slog.NewTextHandler(log, nil))
	s := open(t, t.TempDir(), opt.WithConnect(f.connect))
	return s, f, log
}

// mustBeSound checks the whole file.
func mustBeSound(t *testing.T, s *store.Store) {
	t.Helper()
	r, err := store.Read(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if wrong, err := r.Integrity(context.Background(), false); err != nil || len(wrong) > 0 {
		t.Error(wrong, err)
	}
}

// steps are all that a transaction does, in the words that begin its statements.
var steps = []string{"BEGIN", "SELECT key", "INSERT INTO document", "INSERT INTO change", "COMMIT"}

// TestPassingFailure fails every step of a transaction, before it is done or
// after, for every reason that may pass, once or several times, and once more
// with the reopening failing too. Nothing is acknowledged early, and then
// everything once, in order.
func TestPassingFailure(t *testing.T) {
	reasons := []sqlite3.ErrNo{sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrBusy}
	for i, step := range append(steps, "open") {
		for _, persisted := range []bool{false, true} {
			if persisted && (step == "open" || strings.HasPrefix(step, "SELECT")) {
				continue // the same as not done
			}
			for _, times := range []int{1, 4} {
				reason := reasons[(i+times)%len(reasons)]
				t.Run(fmt.Sprintf("%s/persisted=%t/times=%d", step, persisted, times), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testPassing(t, step, reason, persisted, times) })
				})
			}
		}
	}
}

func testPassing(t *testing.T, step string, reason sqlite3.ErrNo, persisted bool, times int) {
	ft := fault{sqlite3.Error{Code: reason}, persisted}
	s, f, log := faulty(t, store.Options{})
	a, b := storetest.Changes(0, 3), storetest.Changes(100, 2)
	storetest.MustPut(t, s, storetest.Document(1), a[0])
	left, first := times, step == "open" // a connection is opened after a failure alone
	f.set(func(query string) fault {
		if first && query == "COMMIT" {
			first = false
			return fault{err: ft.err}
		}
		if left > 0 && strings.HasPrefix(query, step) {
			left--
			return ft
		}
		return fault{}
	})
	var o outcomes
	o.add(s, "a", storetest.Document(1), a[1:]...)
	o.add(s, "b", storetest.Document(2), b...)
	began := time.Now()
	synctest.Wait()
	mustBeStalled(t, s, reason, began)
	time.Sleep(time.Minute) // tries go on meanwhile
	synctest.Wait()
	if o.check(t, "a", "b"); errors.Join(o.err("a"), o.err("b")) != nil || left > 0 {
		t.Fatalf("Done was told %v and %v, %d failures were left", o.err("a"), o.err("b"), left)
	}
	if err := s.Status(); err != nil {
		t.Error(err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("logged %d lines, want one at the failure and one at the recovery:\n%s", lines, log)
	}
	storetest.MustHold(t, s, storetest.Document(1), a...)
	storetest.MustHold(t, s, storetest.Document(2), b...)
	storetest.MustPut(t, s, storetest.Document(1), storetest.Change(9, 200))
	mustBeSound(t, s)
}

// says reports whether it was SQLite that failed, for this reason.
func says(err error, reason sqlite3.ErrNo) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == reason
}

func mustBeStalled(t *testing.T, s *store.Store, reason sqlite3.ErrNo, began time.Time) {
	t.Helper()
	var stall *store.StalledError
	if err := s.Status(); !errors.As(err, &stall) || !says(err, reason) || !stall.Since.Equal(began) {
		t.Fatalf("the status is %v, want %v since %s", err, reason, began)
	}
}

// TestPauses reads the pauses between tries off the fake clock.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faulty(t, store.Options{})
		began := time.Now()
		var at []time.Duration
		f.set(func(query string) fault {
			if query != "COMMIT" {
				return fault{}
			}
			if at = append(at, time.Since(began)/time.Millisecond); len(at) == 8 {
				return fault{}
			}
			return fault{err: sqlite3.Error{Code: sqlite3.ErrFull}}
		})
		storetest.MustPut(t, s, storetest.Document(1), storetest.Change(1, 200))
		if want := []time.Duration{0, 100, 300, 700, 1500, 3100, 5100, 7100}; !slices.Equal(at, want) {
			t.Errorf("tried at %d ms, want %d", at, want)
		}
		if f.opened != 8 {
			t.Errorf("%d connections were opened, want a fresh one for each of the 8 tries", f.opened)
		}
		if st := s.Stats(); st.Retries != 7 || st.Transactions != 1 || st.Changes != 1 || st.PendingBytes != 0 {
			t.Errorf("the counts are %+v", st)
		}
	})
}

// TestLastingFailure fails one of three batches that share a transaction, for a
// reason that will not pass, at every step: it alone is told so.
func TestLastingFailure(t *testing.T) {
	for _, step := range steps[1:] {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/persisted=%t", step, persisted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testLasting(t, step, persisted) })
			})
		}
	}
}

func testLasting(t *testing.T, step string, persisted bool) {
	s, f, log := faulty(t, store.Options{})
	guilty := sqlite3.Error{Code: sqlite3.ErrConstraint}
	hold := holdCommitter(s)
	// The statements of the second of three documents, together and then alone.
	seen := 0
	f.set(func(query string) fault {
		if !strings.HasPrefix(query, step) {
			return fault{}
		}
		seen++
		if step == "COMMIT" && (seen == 1 || seen == 3) || step != "COMMIT" && (seen == 2 || seen == 4) {
			return fault{guilty, persisted}
		}
		return fault{}
	})
	var o outcomes
	for i, name := range []string{"a", "b", "c"} {
		o.add(s, name, storetest.Document(i), storetest.Change(i, 200))
	}
	hold()
	synctest.Wait()
	o.check(t, "a", "b", "c")
	if o.err("a") != nil || o.err("c") != nil || !errors.Is(o.err("b"), guilty) {
		t.Fatalf("Done was told %v, %v, %v", o.err("a"), o.err("b"), o.err("c"))
	}
	if s.Status() != nil || log.Len() > 0 {
		t.Errorf("the status is %v, logged:\n%s", s.Status(), log)
	}
	f.set(nil)
	storetest.MustHold(t, s, storetest.Document(0), storetest.Change(0, 200))
	storetest.MustHold(t, s, storetest.Document(2), storetest.Change(2, 200))
	storetest.MustPut(t, s, storetest.Document(1), storetest.Change(1, 200)) // sent again
	storetest.MustHold(t, s, storetest.Document(1), storetest.Change(1, 200))
	mustBeSound(t, s)
}

// holdCommitter keeps the committer busy until the returned function is called, so
// that batches gather.
func holdCommitter(s *store.Store) (release func()) {
	in, out := make(chan struct{}), make(chan struct{})
	s.Append(store.Batch{Done: func(error) { close(in); <-out }})
	<-in
	return func() { close(out) }
}

// TestChain has a batch fail on which another builds. The other must not be
// stored, whether it waited already or came later; documents beside it are not
// touched, and with a fresh chain the document goes on.
func TestChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faulty(t, store.Options{})
		guilty := sqlite3.Error{Code: sqlite3.ErrConstraint}
		a, other := storetest.Changes(0, 3), storetest.Changes(100, 1)
		var o outcomes
		var chain store.Chain
		add := func(name string, chain *store.Chain, c store.Change) {
			s.Append(store.Batch{Document: storetest.Document(1), Changes: []store.Change{c}, Chain: chain, Done: o.done(name)})
		}
		hold := holdCommitter(s)
		fails := 2 // together, and alone
		f.set(func(query string) fault {
			if strings.HasPrefix(query, "INSERT INTO change") && fails > 0 {
				fails--
				return fault{err: guilty}
			}
			return fault{}
		})
		add("first", &chain, a[0])
		add("waited", &chain, a[1])
		o.add(s, "other", storetest.Document(2), other...)
		hold()
		synctest.Wait()
		add("late", &chain, a[2])
		add("fresh", new(store.Chain), a[0])
		synctest.Wait()
		o.check(t, "first", "waited", "other", "late", "fresh")
		for name, want := range map[string]error{"first": guilty, "waited": store.ErrChainBroken, "late": store.ErrChainBroken} {
			if !errors.Is(o.err(name), want) || !errors.Is(o.err(name), guilty) {
				t.Errorf("%s was told %v, want %v", name, o.err(name), want)
			}
		}
		if err := errors.Join(o.err("other"), o.err("fresh")); err != nil {
			t.Error(err)
		}
		storetest.MustHold(t, s, storetest.Document(1), a[0])
		storetest.MustHold(t, s, storetest.Document(2), other...)
	})
}

// TestOverload fills what may wait while the disk is full. More is refused at
// once; what waits is stored when the disk has room again.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faulty(t, store.Options{MaxPending: 2000})
		full := true
		f.set(func(query string) fault {
			if full && query == "COMMIT" {
				return fault{err: sqlite3.Error{Code: sqlite3.ErrFull}}
			}
			return fault{}
		})
		var o outcomes
		a := storetest.Changes(0, 5)
		big := storetest.Change(50, 5000) // more than the bound, but it finds nothing waiting
		o.add(s, "big", storetest.Document(1), big)
		synctest.Wait()
		var chain store.Chain
		for i, name := range []string{"refused", "too"} {
			s.Append(store.Batch{Document: storetest.Document(2), Changes: a[i : i+1], Chain: &chain, Done: o.done(name)})
		}
		synctest.Wait() // no time passes: the refusals do not wait for the next try
		o.check(t, "refused", "too")
		if !errors.Is(o.err("refused"), store.ErrOverloaded) || !errors.Is(o.err("too"), store.ErrOverloaded) {
			t.Fatalf("refused with %v and %v", o.err("refused"), o.err("too"))
		}
		if err := s.PutSnapshot(t.Context(), storetest.Document(1), crdt.Snapshot{}); !says(err, sqlite3.ErrFull) {
			t.Errorf("a snapshot on a full disk: %v", err)
		}
		f.set(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		o.check(t, "refused", "too", "big")
		storetest.MustPut(t, s, storetest.Document(2), a...)
		storetest.MustHold(t, s, storetest.Document(1), big)
		storetest.MustHold(t, s, storetest.Document(2), a...)
		if n := s.Stats().PendingBytes; n != 0 {
			t.Errorf("%d bytes are still counted as waiting", n)
		}
	})
}

// TestOvertaken fills the disk under a batch, and has another of its chain refused:
// whoever is told so loads the document again. What was not on disk then never gets
// there, or the document would not be what is in memory.
func TestOvertaken(t *testing.T) {
	for _, others := range []int{0, 1} {
		t.Run(fmt.Sprintf("others=%d", others), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, f, _ := faulty(t, store.Options{MaxPending: 2000})
				release := holdCommitter(s)
				f.set(func(query string) fault {
					if query == "COMMIT" {
						return fault{err: sqlite3.Error{Code: sqlite3.ErrFull}}
					}
					return fault{}
				})
				var o outcomes
				var chain store.Chain
				a, b := storetest.Changes(0, 2), storetest.Changes(1, 1)
				if others > 0 {
					o.add(s, "other", storetest.Document(2), b...)
				}
				s.Append(store.Batch{Document: storetest.Document(1), Changes: a[:1], Chain: &chain, Done: o.done("first")})
				release()
				synctest.Wait()
				big := storetest.Change(50, 5000)
				s.Append(store.Batch{Document: storetest.Document(1), Changes: []store.Change{big}, Chain: &chain, Done: o.done("refused")})
				synctest.Wait()
				o.check(t, "refused")
				f.set(nil)
				time.Sleep(time.Second)
				synctest.Wait()
				if !errors.Is(o.err("first"), store.ErrChainBroken) || !errors.Is(o.err("refused"), store.ErrOverloaded) {
					t.Errorf("it ended with %v, and %v", o.err("first"), o.err("refused"))
				}
				storetest.MustHold(t, s, storetest.Document(1))
				storetest.MustHold(t, s, storetest.Document(2), b[:others]...)
				if st := s.Stats(); st.PendingBytes != 0 || s.Status() != nil {
					t.Errorf("%d bytes are still counted as waiting; the status is %v", st.PendingBytes, s.Status())
				}
			})
		})
	}
}

// TestCloseWhileStalled tries once more, and says what was lost if that fails:
// then also what waited behind, which builds on it.
func TestCloseWhileStalled(t *testing.T) {
	for _, recovers := range []bool{false, true} {
		t.Run(fmt.Sprintf("recovers=%t", recovers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, dir := &faults{}, t.TempDir()
				s, err := store.Open(dir, store.Options{}.WithConnect(f.connect))
				if err != nil {
					t.Fatal(err)
				}
				full := sqlite3.Error{Code: sqlite3.ErrFull}
				left := 2 // the first try and, at closing, the last; a later one would succeed
				f.set(func(query string) fault {
					if query == "COMMIT" && left > 0 {
						left--
						return fault{err: full}
					}
					return fault{}
				})
				var o outcomes
				a := storetest.Changes(0, 2)
				o.add(s, "a", storetest.Document(1), a[0])
				synctest.Wait()
				o.add(s, "b", storetest.Document(1), a[1])
				want := a[:0]
				if recovers {
					f.set(nil)
					want = a
				}
				err = s.Close()
				o.check(t, "a", "b")
				for _, e := range []error{err, o.err("a"), o.err("b")} {
					if recovers != (e == nil) || !recovers && !errors.Is(e, full) {
						t.Errorf("told %v", e)
					}
				}
				storetest.MustHold(t, open(t, dir, store.Options{}), storetest.Document(1), want...)
			})
		})
	}
}

// TestPackFailure: whoever stores a pack hears of it, and the one before stays.
func TestPackFailure(t *testing.T) {
	s, f, _ := faulty(t, store.Options{})
	doc, a := storetest.Document(1), storetest.Changes(0, 4)
	storetest.MustPut(t, s, doc, a[:3]...)
	if err := s.PutPack(t.Context(), doc, storetest.PackOf(a[:2]...)); err != nil {
		t.Fatal(err)
	}
	full := sqlite3.Error{Code: sqlite3.ErrFull}
	f.set(func(query string) fault {
		if strings.HasPrefix(query, "INSERT INTO pack") {
			return fault{full, false}
		}
		return fault{}
	})
	if err := s.PutPack(t.Context(), doc, storetest.PackOf(a[:3]...)); !errors.Is(err, full) {
		t.Fatalf("told %v", err)
	}
	f.set(nil)
	storetest.MustPut(t, s, doc, a[3])
	storetest.MustHold(t, s, doc, a...)
}

// TestSnapshotFailure fails every step of storing a snapshot: the caller hears of
// it, the one before stays, and changes go on.
func TestSnapshotFailure(t *testing.T) {
	for _, step := range []string{"BEGIN", "INSERT INTO snapshot", "COMMIT"} {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/persisted=%t", step, persisted), func(t *testing.T) {
				s, f, _ := faulty(t, store.Options{})
				doc, a := storetest.Document(1), storetest.Changes(0, 4)
				storetest.MustPut(t, s, doc, a[:3]...)
				old, fresh := crdt.Snapshot{Changes: 1, Data: []byte("old")}, crdt.Snapshot{Changes: 3, Data: []byte("new")}
				if err := s.PutSnapshot(t.Context(), doc, old); err != nil {
					t.Fatal(err)
				}
				full := sqlite3.Error{Code: sqlite3.ErrFull}
				f.set(func(query string) fault {
					if strings.HasPrefix(query, step) {
						return fault{full, persisted}
					}
					return fault{}
				})
				if err := s.PutSnapshot(t.Context(), doc, fresh); !errors.Is(err, full) {
					t.Fatalf("told %v", err)
				}
				f.set(nil)
				storetest.MustPut(t, s, doc, a[3])
				storetest.MustHold(t, s, doc, a...)
				st, err := s.Load(t.Context(), doc)
				if err != nil {
					t.Fatal(err)
				}
				want := "old"
				if step == "COMMIT" && persisted {
					want = "new"
				}
				if string(st.Snapshot.Data) != want {
					t.Errorf("the snapshot is %q, want %q", st.Snapshot.Data, want)
				}
			})
		}
	}
}

// TestSnapshotGivesWay appends while a snapshot waits behind a busy committer: the
// changes are first. One whose caller has left is not stored.
func TestSnapshotGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := faulty(t, store.Options{})
		doc, a := storetest.Document(1), storetest.Changes(0, 5)
		storetest.MustPut(t, s, doc, a[0])
		hold := holdCommitter(s)
		var o outcomes
		var all sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() { o.done("left")(s.PutSnapshot(ctx, doc, crdt.Snapshot{Changes: 1, Data: []byte("left")})) })
		synctest.Wait()
		all.Go(func() {
			o.done("snapshot")(s.PutSnapshot(t.Context(), doc, crdt.Snapshot{Changes: 1, Data: []byte("kept")}))
		})
		cancel()
		synctest.Wait()
		o.add(s, "change", doc, a[1:]...)
		hold()
		all.Wait()
		o.check(t, "left", "change", "snapshot")
		if !errors.Is(o.err("left"), context.Canceled) || o.err("snapshot") != nil {
			t.Errorf("told %v and %v", o.err("left"), o.err("snapshot"))
		}
		st, err := s.Load(t.Context(), doc)
		if err != nil || string(st.Snapshot.Data) != "kept" {
			t.Errorf("loaded %+v, %v", st.Snapshot, err)
		}
	})
}

// TestRefusalsOfSQLite has SQLite itself refuse: no page may be added (a full
// disk), and nothing may be written (a folder that became read-only).
func TestRefusalsOfSQLite(t *testing.T) {
	for pragma, reason := range map[string]sqlite3.ErrNo{"PRAGMA max_page_count = 1": sqlite3.ErrFull, "PRAGMA query_only = 1": sqlite3.ErrReadonly} {
		t.Run(pragma, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRefusal(t, pragma, reason) })
		})
	}
}

func testRefusal(t *testing.T, pragma string, reason sqlite3.ErrNo) {
	f := &faults{}
	var limited atomic.Bool
	limit := func(c driver.Conn) error {
		_, err := c.(driver.ExecerContext).ExecContext(context.Background(), pragma, nil)
		return err
	}
	connect := func(dsn string) (driver.Conn, error) {
		c, err := f.connect(dsn)
		if err == nil && limited.Load() && strings.Contains(dsn, "_journal_mode") {
			err = limit(c)
		}
		return c, err
	}
	s := open(t, t.TempDir(), store.Options{}.WithConnect(connect))
	doc := storetest.Document(1)
	before, after := storetest.Change(1, 20_000), storetest.Change(2, 20_000)
	storetest.MustPut(t, s, doc, before)
	limited.Store(true) // the committer is idle
	if err := limit(f.writer); err != nil {
		t.Fatal(err)
	}
	var o outcomes
	began := time.Now()
	o.add(s, "after", doc, after)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	mustBeStalled(t, s, reason, began)
	o.check(t)
	storetest.MustHold(t, s, doc, before) // reading goes on
	limited.Store(false)
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if o.check(t, "after"); o.err("after") != nil || s.Status() != nil {
		t.Fatalf("told %v, the status is %v", o.err("after"), s.Status())
	}
	storetest.MustHold(t, s, doc, before, after)
	mustBeSound(t, s)
}
