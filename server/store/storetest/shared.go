package storetest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"parley/crdt"
	"parley/server/store"
)

// RunShared tests stores of which several have one place open at once.
func RunShared(t *testing.T, fresh func(testing.TB) Place) {
	for name, test := range map[string]func(*testing.T, Place){
		"behind":      testBehind,
		"chain":       testBehindChain,
		"newer":       testNewer,
		"writers":     testWriters,
		"line":        testLine,
		"resolutions": testResolvedOnce,
		"revocations": testRevokedBySeveral,
		"presence":    testPresence,
		"leases":      testLeases,
		"reliance":    testReliance,
		"race":        testPublishedWhileSealed,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func openAll(t *testing.T, p Place, n int) (stores []Store) {
	for range n {
		stores = append(stores, p.Open(t))
	}
	return stores
}

func at(changes, settings, resolutions int) *store.Version {
	return &store.Version{Changes: changes, Settings: settings, Resolutions: resolutions}
}

// testBehind: what was built on an earlier version is left out, alone.
func testBehind(t *testing.T, p Place) {
	s := openAll(t, p, 2)
	a := Changes(0, 9)
	MustAppend(t, s[0], store.Batch{Document: Document(1), Base: at(0, 0, 0), Changes: a[:2]})
	MustAppend(t, s[1], store.Batch{Document: Document(1), Base: at(2, 0, 0), Changes: a[2:3], Settings: []byte("s")})
	r, other := Resolution(0, 1, "one"), Resolution(0, 1, "other")
	MustAppend(t, s[1], store.Batch{Document: Document(1), Base: at(3, 1, 0), Resolution: r})
	for name, b := range map[string]store.Batch{
		"changes":         {Base: at(2, 1, 1), Changes: a[4:5]},
		"changes ahead":   {Base: at(4, 1, 1), Changes: a[4:5]},
		"part of it":      {Base: at(2, 1, 1), Changes: a[2:4]},
		"elsewhere":       {Base: at(1, 0, 0), Changes: a[2:3]},
		"old settings":    {Base: at(3, 0, 1), Changes: a[4:5]},
		"settings":        {Base: at(3, 0, 1), Settings: []byte("t")},
		"old resolutions": {Base: at(3, 1, 0), Changes: a[4:5]},
		"resolution":      {Base: at(3, 1, 0), Resolution: other},
		"late resolution": {Base: at(2, 1, 1), Resolution: Resolution(2, 1, "late")},
	} {
		b.Document = Document(1)
		beside := make(chan error, 1)
		s[0].Append(store.Batch{Document: Document(2), Changes: a[:1], Done: func(err error) { beside <- err }})
		if err := Append(s[0], b); !errors.Is(err, store.ErrBehind) {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-beside; err != nil {
			t.Errorf("beside %s: %v", name, err)
		}
	}
	for name, b := range map[string]store.Batch{ // the answer was lost, and it is tried again
		"changes":    {Base: at(0, 0, 0), Changes: a[:2]},
		"both":       {Base: at(2, 0, 0), Changes: a[2:3], Settings: []byte("s")},
		"resolution": {Base: at(3, 1, 0), Resolution: r},
	} {
		b.Document = Document(1)
		if err := Append(s[0], b); err != nil {
			t.Errorf("%s again: %v", name, err)
		}
	}
	for _, s := range s {
		MustHold(t, s, Document(1), a[:3]...)
		MustHaveResolved(t, s, Document(1), r)
		if st, err := s.Load(t.Context(), Document(1)); err != nil || st.Version != *at(3, 1, 1) || string(st.Settings) != "s" {
			t.Errorf("it is at %+v with %q, %v", st.Version, st.Settings, err)
		}
	}
}

// testBehindChain: what builds on a batch that was left out is left out too, even
// if it finds as many changes as it expects.
func testBehindChain(t *testing.T, p Place) {
	s := openAll(t, p, 2)
	a := Changes(0, 9)
	MustPut(t, s[0], Document(1), a[:2]...)
	chain := &store.Chain{}
	var errs []error
	done := make(chan struct{})
	s[1].Append(store.Batch{Document: Document(1), Base: at(1, 0, 0), Changes: a[5:6], Chain: chain, Done: func(err error) { errs = append(errs, err) }})
	s[1].Append(store.Batch{Document: Document(1), Base: at(2, 0, 0), Changes: a[6:7], Chain: chain, Done: func(err error) { errs = append(errs, err) }})
	s[1].Append(store.Batch{Document: Document(1), Chain: chain, Done: func(err error) { errs = append(errs, err); close(done) }}) // a barrier
	<-done
	for i, err := range errs {
		if !errors.Is(err, store.ErrBehind) || i > 0 && !errors.Is(err, store.ErrChainBroken) {
			t.Errorf("batch %d is left out with %v", i, err)
		}
	}
	MustHold(t, s[0], Document(1), a[:2]...)
}

// testNewer: a store finds what another has appended.
func testNewer(t *testing.T, p Place) {
	s := openAll(t, p, 2)
	a := Changes(0, 5)
	MustPut(t, s[0], Document(1), a[:2]...)
	MustAppend(t, s[0], store.Batch{Document: Document(1), Settings: []byte("s")})
	before, err := s[1].Load(t.Context(), Document(1))
	if err != nil || before.Version != *at(2, 1, 0) {
		t.Fatalf("it is at %+v, %v", before.Version, err)
	}
	if st, err := s[1].Newer(t.Context(), Document(1), before.Version); err != nil || len(st.Hashes) > 0 || st.Settings != nil || st.Version != before.Version {
		t.Errorf("nothing is newer, and it is %+v, %v", st, err)
	}
	MustPut(t, s[0], Document(1), a[2:]...)
	r := Resolution(0, 1, "r")
	MustResolve(t, s[0], Document(1), r)
	st, err := s[1].Newer(t.Context(), Document(1), before.Version)
	if err != nil {
		t.Fatal(err)
	}
	same(t, st, 2, a[2:])
	sameResolutions(t, st.Resolutions, []*store.Resolution{r})
	if st.Settings != nil || st.Version != *at(5, 1, 1) {
		t.Errorf("settings %q, at %+v", st.Settings, st.Version)
	}
	MustAppend(t, s[0], store.Batch{Document: Document(1), Settings: []byte("t")})
	if st, err = s[1].Newer(t.Context(), Document(1), st.Version); err != nil || string(st.Settings) != "t" || len(st.Hashes)+len(st.Resolutions) > 0 {
		t.Errorf("newer is %+v, %v", st, err)
	}
}

// testWriters: several stores append to the same documents, some of it the same
// changes. Each is there once, and all see one order of them.
func testWriters(t *testing.T, p Place) {
	const stores, documents, each = 4, 3, 60
	all := openAll(t, p, stores)
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			for k := range each {
				for d := range documents {
					doc := Document((d + i) % documents) // in another order than the others
					own, common := Change(1000*(i+1)+k, 100), Change(k, 100)
					if k%4 == 3 { // with others in one commit
						s.Append(store.Batch{Document: doc, Changes: []store.Change{own, common}})
						continue
					}
					if err := Put(s, doc, common, own); err != nil {
						t.Errorf("append: %v", err)
						return
					}
				}
			}
			if err := Put(s, Document(0)); err != nil { // all that was before
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for d := range documents {
		first, err := all[0].Load(t.Context(), Document(d))
		if err != nil {
			t.Fatal(err)
		}
		if want := each * (stores + 1); len(first.Hashes) != want || first.Version.Changes != want {
			t.Errorf("%d changes at %+v, want %d", len(first.Hashes), first.Version, want)
		}
		for _, s := range all[1:] {
			if got, err := s.Load(t.Context(), Document(d)); err != nil || !slices.Equal(got.Hashes, first.Hashes) {
				t.Errorf("another store reads another order, %v", err)
			}
		}
	}
}

// placed makes a change that says after how many it was made.
func placed(writer, base int) store.Change {
	c := Change(writer<<20|base, 100)
	c.At = int64(base)
	c.User = fmt.Sprint(writer)
	return c
}

// testLine: with a base, each change stands exactly where its writer took it to be,
// and none is lost.
func testLine(t *testing.T, p Place) {
	const stores, documents, each = 3, 2, 40
	all := openAll(t, p, stores)
	var wg sync.WaitGroup
	var behind atomic.Int64
	for i, s := range all {
		for d := range documents {
			wg.Go(func() {
				base := store.Version{}
				for k := 0; k < each; {
					c := placed(i+1, base.Changes)
					err := Append(s, store.Batch{Document: Document(d), Base: &base, Changes: []store.Change{c}})
					if err == nil {
						base = store.Version{Changes: base.Changes + 1}
						k++
						continue
					}
					st, loadErr := s.Newer(t.Context(), Document(d), base)
					if !errors.Is(err, store.ErrBehind) || loadErr != nil || st.Version.Changes == base.Changes {
						t.Errorf("after %d changes: %v, %v", base.Changes, err, loadErr)
						return
					}
					behind.Add(1)
					base = st.Version
				}
			})
		}
	}
	wg.Wait()
	for d := range documents {
		got, err := all[0].Receipts(t.Context(), Document(d), stores*each+1)
		if err != nil || len(got) != stores*each {
			t.Fatalf("%d changes, %v; want %d", len(got), err, stores*each)
		}
		for n, r := range got {
			if r.At != int64(n) {
				t.Errorf("change %d was made after %d", n, r.At)
			}
		}
	}
	t.Logf("%d times a writer was behind", behind.Load())
}

// testResolvedOnce: several stores resolve the same heads, thousands of times, and
// one of them does.
func testResolvedOnce(t *testing.T, p Place) {
	const stores, documents, rounds = 3, 400, 5
	all := openAll(t, p, stores)
	heads := func(round int) []crdt.Hash {
		var h crdt.Hash
		binary.BigEndian.PutUint64(h[:], uint64(round+1))
		return []crdt.Hash{h}
	}
	var won [stores]atomic.Int64
	for round := range rounds {
		var wg sync.WaitGroup
		for i, s := range all {
			wg.Add(documents)
			go func() {
				for k := range documents {
					d := (k + i*documents/stores) % documents
					r := &store.Resolution{Heads: heads(round), Data: fmt.Appendf(nil, "by %d", i)}
					s.Append(store.Batch{Document: Document(d), Base: at(0, 0, round), Resolution: r, Done: func(err error) {
						defer wg.Done()
						switch {
						case err == nil:
							won[i].Add(1)
						case !errors.Is(err, store.ErrBehind):
							t.Errorf("resolve: %v", err)
						}
					}})
				}
			}()
		}
		wg.Wait()
	}
	var winners int64
	for i := range won {
		winners += won[i].Load()
	}
	if winners != documents*rounds {
		t.Errorf("%d were told that they resolved, want %d", winners, documents*rounds)
	}
	for d := range documents {
		st, err := all[d%stores].Load(t.Context(), Document(d))
		if err != nil || len(st.Resolutions) != rounds {
			t.Fatalf("document %d has %d resolutions, %v; want %d", d, len(st.Resolutions), err, rounds)
		}
		for round, r := range st.Resolutions {
			if !slices.Equal(r.Heads, heads(round)) {
				t.Errorf("resolution %d of document %d is over %v", round, d, r.Heads)
			}
		}
	}
}

// testRevokedBySeveral: all see the revocations of all, in one order.
func testRevokedBySeveral(t *testing.T, p Place) {
	const stores, each = 3, 20
	all := openAll(t, p, stores)
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			for k := range each {
				r := &store.Revocation{User: fmt.Sprintf("%d of %d", k, i), At: int64(k), By: "host"}
				if err := Append(s, store.Batch{Revocation: r}); err != nil {
					t.Errorf("revoke: %v", err)
				}
			}
		})
	}
	wg.Wait()
	first, err := all[0].Revocations(t.Context(), 0)
	if err != nil || len(first) != stores*each {
		t.Fatalf("%d revocations, %v", len(first), err)
	}
	for _, s := range all[1:] {
		if list, err := s.Revocations(t.Context(), 0); err != nil || !slices.Equal(list, first) {
			t.Errorf("another store reads another list, %v", err)
		}
	}
	sorted := slices.SortedFunc(slices.Values(first), func(a, b store.Revocation) int { return cmp.Compare(a.User, b.User) })
	if len(slices.CompactFunc(sorted, func(a, b store.Revocation) bool { return a.User == b.User })) != stores*each {
		t.Error("one is there twice")
	}
}
