package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-sqlite3"

	"parley/crdt"
	"parley/server/store"
	"parley/server/store/storetest"
)

// TestResolutionFailure fails every step of storing a resolution, before it is
// done or after, for reasons that pass: it is kept, tried again, and there once.
func TestResolutionFailure(t *testing.T) {
	for _, step := range []string{"BEGIN", "INSERT INTO change", "INSERT INTO resolution", "COMMIT"} {
		for _, persisted := range []bool{false, true} {
			for _, reason := range []sqlite3.ErrNo{sqlite3.ErrFull, sqlite3.ErrIoErr} {
				t.Run(fmt.Sprintf("%s/persisted=%t/%v", step, persisted, reason), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testResolutionFailure(t, step, fault{sqlite3.Error{Code: reason}, persisted}) })
				})
			}
		}
	}
}

func testResolutionFailure(t *testing.T, step string, ft fault) {
	s, f, _ := faulty(t, store.Options{})
	doc, a := storetest.Document(1), storetest.Changes(0, 3)
	before, r := storetest.Resolution(0, 1, "before"), storetest.Resolution(0, 2, "after")
	storetest.MustResolve(t, s, doc, before, a[0])
	left := 3
	f.set(func(query string) fault {
		if left > 0 && strings.HasPrefix(query, step) {
			left--
			return ft
		}
		return fault{}
	})
	var o outcomes
	s.Append(store.Batch{Document: doc, Changes: a[1:2], Resolution: r, Done: o.done("resolution")})
	began := time.Now()
	synctest.Wait()
	mustBeStalled(t, s, ft.err.(sqlite3.Error).Code, began)
	o.check(t) // nobody hears of it yet
	o.add(s, "change", doc, a[2])
	time.Sleep(time.Minute)
	synctest.Wait()
	if o.check(t, "resolution", "change"); errors.Join(o.err("resolution"), o.err("change")) != nil || left > 0 {
		t.Fatalf("told %v and %v, %d failures were left", o.err("resolution"), o.err("change"), left)
	}
	storetest.MustHaveResolved(t, s, doc, before, r)
	storetest.MustHold(t, s, doc, a...)
	mustBeSound(t, s)
}

// TestResolutionOnAFullDisk has SQLite itself find no room, for what is long.
func TestResolutionOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := &faults{}
		s := open(t, dir, store.Options{}.WithConnect(f.connect))
		doc := storetest.Document(1)
		storetest.MustPut(t, s, doc, storetest.Change(1, 200))
		full := true
		f.set(func(query string) fault {
			if full && strings.HasPrefix(query, "INSERT INTO resolution") {
				return fault{err: sqlite3.Error{Code: sqlite3.ErrFull}}
			}
			return fault{}
		})
		r := storetest.Resolution(0, 1, strings.Repeat("x", 100_000))
		var o outcomes
		s.Append(store.Batch{Document: doc, Resolution: r, Done: o.done("r")})
		time.Sleep(time.Hour)
		synctest.Wait()
		o.check(t)
		if n := s.Stats().PendingBytes; n < 100_000 {
			t.Errorf("%d bytes are counted as waiting", n)
		}
		f.set(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		o.check(t, "r")
		storetest.MustHaveResolved(t, s, doc, r)
		if n := s.Stats().PendingBytes; n != 0 {
			t.Errorf("%d bytes are counted as waiting", n)
		}
	})
}

// TestResolutionOfABrokenChain is not stored: the changes that it is over are not
// there.
func TestResolutionOfABrokenChain(t *testing.T) {
	s, f, _ := faulty(t, store.Options{})
	doc := storetest.Document(1)
	f.set(func(query string) fault {
		if strings.HasPrefix(query, "INSERT INTO change") {
			return fault{err: sqlite3.Error{Code: sqlite3.ErrConstraint}}
		}
		return fault{}
	})
	var o outcomes
	var chain store.Chain
	hold := holdCommitter(s)
	s.Append(store.Batch{Document: doc, Changes: storetest.Changes(0, 1), Chain: &chain, Done: o.done("change")})
	s.Append(store.Batch{Document: doc, Resolution: storetest.Resolution(0, 1, "r"), Chain: &chain, Done: o.done("r")})
	hold()
	storetest.MustPut(t, s, doc)
	o.check(t, "change", "r")
	if err := o.err("r"); !errors.Is(err, store.ErrChainBroken) {
		t.Errorf("told %v", err)
	}
	storetest.MustHaveResolved(t, s, doc)
}

// TestResolutionsAreNotAltered by a person with a shell.
func TestResolutionsAreNotAltered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	doc, r := storetest.Document(1), storetest.Resolution(0, 2, "r")
	storetest.MustResolve(t, s, doc, r)
	for _, script := range []string{
		"DELETE FROM resolution", "UPDATE resolution SET data = x'00'", "UPDATE resolution SET n = n + 1", "UPDATE resolution SET heads = zeroblob(32)",
		"INSERT INTO resolution (document, n, heads, data) VALUES (1, 2, x'', x'')",
		"INSERT INTO resolution (document, n, heads, data) VALUES (1, 2, zeroblob(33), x'')",
		"INSERT INTO resolution (document, n, heads, data) VALUES (1, 0, zeroblob(32), x'')",
	} {
		if err := shell(t, dir, script); err == nil {
			t.Errorf("%s: done", script)
		}
	}
	for _, script := range []string{ // passed over, as the server's own repetitions are
		"INSERT INTO resolution (document, n, heads, data) SELECT 1, 2, heads, x'' FROM resolution",
		"INSERT OR REPLACE INTO resolution (document, n, heads, data) SELECT 1, 2, heads, x'' FROM resolution",
		"INSERT OR REPLACE INTO resolution (document, n, heads, data) VALUES (1, 1, zeroblob(32), x'')",
	} {
		mustShell(t, dir, script)
	}
	storetest.MustHaveResolved(t, s, doc, r)
}

// TestResolutionsComeAfterTheirChanges loads while both are written: there is no
// resolution without what it is over.
func TestResolutionsComeAfterTheirChanges(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	doc, written := storetest.Document(1), make(chan struct{})
	go func() {
		defer close(written)
		for i := range 300 {
			c := storetest.Change(i, 200)
			s.Append(store.Batch{Document: doc, Changes: []store.Change{c}})
			s.Append(store.Batch{Document: doc, Resolution: &store.Resolution{Heads: []crdt.Hash{c.Hash}, Data: []byte("r")}})
		}
		_ = storetest.Put(s, doc)
	}()
	for ended := false; !ended; {
		select {
		case <-written:
			ended = true
		default:
		}
		st, err := s.Load(t.Context(), doc)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Resolutions) > len(st.Hashes) {
			t.Fatalf("%d resolutions of %d changes", len(st.Resolutions), len(st.Hashes))
		}
		for i, r := range st.Resolutions {
			if r.Heads[0] != st.Hashes[i] {
				t.Fatalf("resolution %d is over another change", i)
			}
		}
	}
}
