package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/server/store/postgres"
	"parley/server/store/storetest"
)

// crashDocuments are those that everybody writes to.
const crashDocuments = 3

// acknowledged is a change that its writer was told is on disk, and where.
type acknowledged struct {
	document, n int
	hash        crdt.Hash
}

// writeOn appends to the documents, one change after the other, each built on all
// before it, until stop is closed. It calls acked with each that is on disk.
func writeOn(s *store.Store, writer int, stop <-chan struct{}, acked func(acknowledged)) error {
	bases := make([]store.Version, crashDocuments)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		d := i % crashDocuments
		c := storetest.Change(writer<<20|i, 100+i%7*100)
		done := make(chan error, 1)
		s.Append(store.Batch{
			Document: storetest.Document(d), Base: &bases[d], Changes: []store.Change{c}, Done: func(err error) { done <- err },
		})
		var err error
		select {
		case err = <-done:
		case <-stop:
			return nil
		}
		if err == nil {
			bases[d].Changes++
			acked(acknowledged{d, bases[d].Changes, c.Hash})
			continue
		}
		if !errors.Is(err, store.ErrBehind) {
			return err
		}
		for {
			st, err := s.Newer(context.Background(), storetest.Document(d), bases[d])
			if err == nil {
				bases[d] = st.Version
				break
			}
			select {
			case <-stop:
				return nil
			case <-time.After(20 * time.Millisecond): // the database is away
			}
		}
	}
}

// ledger is what writers were told.
type ledger struct {
	mu    sync.Mutex
	acked []acknowledged
}

func (l *ledger) add(a acknowledged) {
	l.mu.Lock()
	l.acked = append(l.acked, a)
	l.mu.Unlock()
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// mustHoldAll fails the test unless every acknowledged change is where its writer
// was told, in lines without gaps.
func (l *ledger) mustHoldAll(t *testing.T, url string) {
	t.Helper()
	s := open(t, url)
	lines := make([]*store.Stored, crashDocuments)
	for d := range lines {
		st, err := s.Load(t.Context(), storetest.Document(d)) // fails if there is a gap
		if err != nil {
			t.Fatal(err)
		}
		lines[d] = st
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		if line := lines[a.document]; a.n > len(line.Hashes) || line.Hashes[a.n-1] != a.hash {
			t.Fatalf("document %d: change %d, which was acknowledged, is another or lost; there are %d", a.document, a.n, len(line.Hashes))
		}
	}
	t.Logf("%d acknowledged changes, of %d stored", len(l.acked), len(lines[0].Hashes)+len(lines[1].Hashes)+len(lines[2].Hashes))
}

// until waits for so many acknowledgements more.
func (l *ledger) until(t *testing.T, more int) {
	t.Helper()
	want := l.len() + more
	for deadline := time.Now().Add(30 * time.Second); l.len() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d changes were acknowledged, want %d", l.len(), want)
		}
	}
}

// crowd has two stores write while the test does its worst.
func crowd(t *testing.T, url string, worst func(l *ledger)) {
	l, stop := &ledger{}, make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		s := open(t, url)
		for k := range 2 {
			wg.Go(func() {
				if err := writeOn(s, 2*i+k+1, stop, l.add); err != nil {
					t.Error(err)
				}
			})
		}
	}
	l.until(t, 20)
	worst(l)
	l.until(t, 20)
	close(stop)
	wg.Wait()
	l.mustHoldAll(t, url)
}

func TestCrashes(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Durable: true})
	for name, test := range map[string]func(*testing.T, *pgtest.Server){
		"connections": testTerminated, "database": testDatabaseCrash, "node": testKilledNode,
	} {
		t.Run(name, func(t *testing.T) { test(t, pg) })
	}
}

// testTerminated has the database end the connections of those who write, at any
// moment.
func testTerminated(t *testing.T, pg *pgtest.Server) {
	url := pg.Database(t)
	crowd(t, url, func(l *ledger) {
		for range 12 {
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
			pg.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parley' AND datname = current_database()")
			if rand.IntN(4) == 0 {
				l.until(t, 3)
			}
		}
	})
}

// testDatabaseCrash kills the database, and starts it again.
func testDatabaseCrash(t *testing.T, pg *pgtest.Server) {
	url := pg.Database(t)
	crowd(t, url, func(l *ledger) {
		for range 2 {
			pg.Kill(t)
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			if err := pg.Restart(); err != nil {
				t.Fatal(err)
			}
			l.until(t, 10)
		}
	})
}

// testKilledNode kills processes that write, while others go on.
func testKilledNode(t *testing.T, pg *pgtest.Server) {
	url := pg.Database(t)
	crowd(t, url, func(l *ledger) {
		for round := range 4 {
			writeAndKill(t, url, 10+round, l)
		}
	})
}

// childWrites is a process that writes until it is killed, and prints what was
// acknowledged.
func childWrites(url, writer string) int {
	s, err := postgres.Open(context.Background(), url, store.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	first, err := strconv.Atoi(writer)
	if err == nil {
		err = writeOn(s, first, nil, func(a acknowledged) { fmt.Println(a.document, a.n, a.hash) })
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func writeAndKill(t *testing.T, url string, writer int, l *ledger) {
	t.Helper()
	child := exec.Command(os.Args[0], url, strconv.Itoa(writer))
	child.Env = append(os.Environ(), childEnv+"=write")
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { _ = child.Process.Kill() })
	acked := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var a acknowledged
		var hash string
		if _, err := fmt.Sscan(lines.Text(), &a.document, &a.n, &hash); err != nil {
			break // cut off
		}
		if a.hash, err = crdt.ParseHash(strings.TrimSpace(hash)); err != nil {
			break
		}
		l.add(a)
		if acked++; acked == 5 {
			time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, kill)
		}
	}
	kill()
	_ = child.Wait() // it was killed
	if acked == 0 {
		t.Error("a process was acknowledged nothing")
	}
}

// TestFrozenNode: a process that stops in the midst of a commit does not hold up
// the others for longer than the database allows.
func TestFrozenNode(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	s := open(t, url)
	a := storetest.Changes(0, 2)
	storetest.MustPut(t, s, storetest.Document(1), a[0])
	frozen, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.Close(context.Background()) }()
	for _, sql := range []string{"SET idle_in_transaction_session_timeout = '300ms'", "BEGIN", "SELECT FROM document FOR NO KEY UPDATE"} {
		if _, err := frozen.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	storetest.MustPut(t, s, storetest.Document(1), a[1])
	storetest.MustHold(t, s, storetest.Document(1), a...)
}
