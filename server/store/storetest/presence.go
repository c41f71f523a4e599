package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/server/store"
)

// long is a lease that lasts for any test.
const long = time.Minute

// MustBeat prolongs the lease for longer than the test takes.
func MustBeat(t testing.TB, s Store) store.Beat {
	t.Helper()
	return mustBeat(t, s, long)
}

func mustBeat(t testing.TB, s Store, lease time.Duration) store.Beat {
	t.Helper()
	before := time.Now()
	b, err := s.Beat(t.Context(), lease)
	if err != nil {
		t.Fatalf("beat: %v", err)
	}
	if counted := s.Counted(); counted.Before(before.Add(lease)) || counted.After(time.Now().Add(lease)) {
		t.Errorf("others count on a lease of %v for %v", lease, counted.Sub(before))
	}
	return b
}

// MustPublish publishes what has a document and data, and returns it with its numbers.
func MustPublish(t testing.TB, s Store, list ...store.Presence) []store.Presence {
	t.Helper()
	come, err := s.Publish(t.Context(), list, nil)
	if err != nil || len(come) != len(list) {
		t.Fatalf("published of %d documents, want %d: %v", len(come), len(list), err)
	}
	return list
}

// MustBePresent fails the test unless a store sees exactly this of documents.
func MustBePresent(t testing.TB, s Store, docs []crdt.DocumentID, want ...store.Presence) {
	t.Helper()
	for _, brief := range []bool{false, true} {
		got, _, err := s.Present(t.Context(), docs, brief)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b store.Presence) int { return int(a.Seq) - int(b.Seq) })
		if !slices.EqualFunc(got, want, func(a, b store.Presence) bool {
			return a.Document == b.Document && a.Node == b.Node && a.Seq == b.Seq && (brief || string(a.Data) == string(b.Data))
		}) {
			t.Errorf("present are %v, want %v", got, want)
		}
	}
}

func said(doc int, data string) store.Presence {
	return store.Presence{Document: Document(doc), Data: []byte(data)}
}

// testPresence: what a node publishes the others see, the newest of it, and no more
// when nobody is there.
func testPresence(t *testing.T, p Place) {
	s := openAll(t, p, 2)
	docs := []crdt.DocumentID{Document(1), Document(2), Document(3)}
	if _, err := s[0].Publish(t.Context(), []store.Presence{said(1, "early")}, nil); !errors.Is(err, store.ErrNoLease) {
		t.Errorf("published before the first beat: %v", err)
	}
	for i := range s {
		if b := MustBeat(t, s[i]); !b.Fresh || b.Forgotten || len(b.Nodes) != i {
			t.Errorf("the first beat hears %+v", b)
		}
	}
	if b := MustBeat(t, s[0]); b.Fresh || !slices.Equal(b.Nodes, []store.Node{s[1].Node()}) || s[0].Node() == s[1].Node() {
		t.Errorf("a beat hears %+v", b)
	}
	first := MustPublish(t, s[0], said(1, "one"), said(2, "two"), said(3, ""))
	MustBePresent(t, s[1], docs, first...)
	MustBePresent(t, s[1], docs[:1], first[0])
	MustBePresent(t, s[0], docs)
	if list, nodes, err := s[0].Present(t.Context(), docs, false); err != nil || list != nil || len(nodes) != 2 || !slices.Contains(nodes, store.Living{Node: s[0].Node(), Begun: s[0].Lease()}) || !slices.Contains(nodes, store.Living{Node: s[1].Node(), Begun: s[1].Lease()}) {
		t.Errorf("nobody else says anything, and there are %v of %v, %v", list, nodes, err)
	}
	other := MustPublish(t, s[1], said(1, "other"))
	MustBePresent(t, s[0], docs, other...)
	second := MustPublish(t, s[0], store.Presence{Document: Document(1)}, said(2, string(make([]byte, 20_000))), store.Presence{Document: Document(9)})
	if first[2].Seq >= second[0].Seq {
		t.Errorf("number %d is used again, after %d", second[0].Seq, first[2].Seq)
	}
	MustBePresent(t, s[1], docs, first[2], second[1])
	if b := MustBeat(t, s[0]); b.Fresh {
		t.Error("what was published is forgotten")
	}
	MustBePresent(t, s[1], docs, first[2], second[1])
	if _, err := s[0].Publish(t.Context(), nil, nil); err != nil {
		t.Errorf("publish nothing: %v", err)
	}
}

// testLeases: who does not prolong its lease is not counted on, and begins anew.
func testLeases(t *testing.T, p Place) {
	const short = 100 * time.Millisecond
	s := openAll(t, p, 2)
	docs := []crdt.DocumentID{Document(1)}
	MustBeat(t, s[1])
	mustBeat(t, s[0], short)
	early := MustPublish(t, s[0], said(1, "one"))
	for len(MustBeat(t, s[1]).Nodes) > 0 {
		time.Sleep(short / 10)
	}
	MustBePresent(t, s[1], docs)
	MustPublish(t, s[0], said(1, "late")) // nobody counts on it
	MustBePresent(t, s[1], docs)
	if b := MustBeat(t, s[0]); !b.Fresh {
		t.Error("the lease had ended, and what was published is there still")
	}
	MustBePresent(t, s[1], docs)
	if b := MustBeat(t, s[1]); !slices.Equal(b.Nodes, []store.Node{s[0].Node()}) {
		t.Errorf("the other is not back: %+v", b)
	}
	again := MustPublish(t, s[0], said(1, "again"))
	MustBePresent(t, s[1], docs, again...)
	_, nodes, err := s[1].Present(t.Context(), docs, true)
	nodes = slices.DeleteFunc(nodes, func(n store.Living) bool { return n.Node == s[1].Node() })
	if err != nil || len(nodes) != 1 || nodes[0].Begun <= early[0].Seq || nodes[0].Begun >= again[0].Seq {
		t.Errorf("after number %d the lease began at %v, %v", early[0].Seq, nodes, err)
	}
}

// testReliance: a resolution is refused if other nodes have published anything but
// what it relies on.
func testReliance(t *testing.T, p Place) {
	s := openAll(t, p, 3)
	doc := Document(1)
	for _, s := range s[:2] {
		MustBeat(t, s)
	}
	mustBeat(t, s[2], time.Millisecond)
	MustPut(t, s[1], Document(2), Changes(0, 3)...)
	both := []store.Presence{said(1, "a"), said(2, "elsewhere")}
	come, err := s[0].Publish(t.Context(), both, nil)
	if err != nil || len(come) != 2 || come[Document(1)] != *at(0, 0, 0) || come[Document(2)] != *at(3, 0, 0) {
		t.Errorf("published where the documents are at %v, %v", come, err)
	}
	a := both[0]
	own := MustPublish(t, s[1], said(1, "own"))[0]
	expired := MustPublish(t, s[2], said(1, "expired"))[0]
	time.Sleep(10 * time.Millisecond)
	is, lease := store.Version{}, s[1].Lease()
	seal := func(relies map[store.Node]uint64) error {
		base, chain := is, &store.Chain{}
		beside := make(chan error, 2)
		s[1].Append(store.Batch{Document: Document(3), Changes: Changes(is.Resolutions, 1), Done: func(err error) { beside <- err }})
		err := Append(s[1], store.Batch{Document: doc, Base: &base, Chain: chain, Relies: relies, Lease: lease, Resolution: Resolution(is.Resolutions, 1, "r")})
		if err == nil {
			is.Resolutions++
		}
		s[1].Append(store.Batch{Document: doc, Chain: chain, Done: func(err error) { beside <- err }})
		if alone, behind := <-beside, <-beside; alone != nil || (behind == nil) != (err == nil) {
			t.Errorf("beside it %v, behind it %v", alone, behind)
		}
		return err
	}
	for name, relies := range map[string]map[store.Node]uint64{
		"on nobody":    {},
		"on older":     {a.Node: a.Seq - 1},
		"on newer":     {a.Node: a.Seq + 1},
		"on itself":    {a.Node: a.Seq, own.Node: own.Seq},
		"on the gone":  {a.Node: a.Seq, expired.Node: expired.Seq},
		"on a strange": {a.Node: a.Seq, store.Node{9}: 1},
	} {
		if err := seal(relies); !errors.Is(err, store.ErrPresence) {
			t.Errorf("it relies %s: %v", name, err)
		}
	}
	lease++
	if err := seal(map[store.Node]uint64{a.Node: a.Seq}); !errors.Is(err, store.ErrPresence) {
		t.Errorf("it was made under another lease: %v", err)
	}
	lease--
	MustHaveResolved(t, s[0], doc)
	if err := seal(map[store.Node]uint64{a.Node: a.Seq}); err != nil {
		t.Errorf("it relies on what is so: %v", err)
	}
	if err := seal(nil); err != nil {
		t.Errorf("nobody asks: %v", err)
	}
	again := store.Batch{Document: doc, Base: &store.Version{}, Relies: map[store.Node]uint64{}, Resolution: Resolution(0, 1, "r")}
	if err := Append(s[1], again); err != nil {
		t.Errorf("what is done was refused: %v", err)
	}
	MustPublish(t, s[0], store.Presence{Document: doc})
	if err := seal(map[store.Node]uint64{a.Node: a.Seq}); !errors.Is(err, store.ErrPresence) {
		t.Errorf("it relies on one who has left: %v", err)
	}
	if err := seal(map[store.Node]uint64{}); err != nil {
		t.Errorf("nobody is there: %v", err)
	}
	MustHaveResolved(t, s[0], doc, Resolution(0, 1, "r"), Resolution(1, 1, "r"), Resolution(2, 1, "r"))
	late := store.Batch{Document: doc, Base: &is, Relies: map[store.Node]uint64{own.Node: own.Seq}, Resolution: Resolution(3, 1, "r")}
	if err := Append(s[2], late); !errors.Is(err, store.ErrPresence) || !errors.Is(err, store.ErrNoLease) {
		t.Errorf("sealed by who has no lease: %v", err)
	}
}

// published is what a node has published, and how many resolutions there were then.
type published struct {
	store.Presence
	resolutions int
}

// sealed is a resolution that was stored.
type sealed struct {
	document crdt.DocumentID
	by       store.Node
	n        int // counts the document's from 1
	relies   map[store.Node]uint64
}

// ledger is what was published and sealed.
type ledger struct {
	mu        sync.Mutex
	published map[crdt.DocumentID][]published
	sealed    []sealed
	refused   int
	leftOut   int // publications, because the document was being sealed
}

func (l *ledger) publish(list []store.Presence, come map[crdt.DocumentID]store.Version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range list {
		if at, stored := come[p.Document]; stored {
			l.published[p.Document] = append(l.published[p.Document], published{p, at.Resolutions})
		} else {
			l.leftOut++
		}
	}
}

func (l *ledger) seal(s sealed, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refused++
	} else {
		l.sealed = append(l.sealed, s)
	}
}

// check fails the test if a resolution was stored after something was published that it
// does not rely on.
func (l *ledger) check(t *testing.T, s sealed) {
	all := l.published[s.document]
	for _, p := range all {
		if p.resolutions >= s.n || p.Node == s.by {
			continue
		}
		seq, relied := s.relies[p.Node]
		if !relied && slices.ContainsFunc(all, func(later published) bool {
			return later.Node == p.Node && later.Seq >= p.Seq && later.Data == nil
		}) {
			continue // the node had said that nobody is there
		}
		if seq < p.Seq {
			t.Errorf("resolution %d relies on number %d of a node that had published %d when there were %d", s.n, seq, p.Seq, p.resolutions)
		}
	}
}

// testPublishedWhileSealed: nodes publish without end while others seal, thousands of
// times. No resolution is stored after something was published that it does not rely on.
func testPublishedWhileSealed(t *testing.T, p Place) {
	const documents, rounds = 8, 250
	s := openAll(t, p, 4)
	l := &ledger{published: make(map[crdt.DocumentID][]published)}
	stop := make(chan struct{})
	var publishing, sealing sync.WaitGroup
	MustBeat(t, s[3])
	for i, s := range s[:3] {
		MustBeat(t, s)
		publishing.Go(func() { l.publishOn(t, s, rand.New(rand.NewPCG(1, uint64(i))), documents, stop) })
	}
	for d := range documents {
		by := s[2+d%2] // one that publishes itself, and one that does not
		sealing.Go(func() { l.sealOn(t, by, Document(d), rounds) })
	}
	sealing.Wait()
	close(stop)
	publishing.Wait()
	for _, s := range l.sealed {
		l.check(t, s)
	}
	t.Logf("%d resolutions were stored, %d refused; %d publications were left out", len(l.sealed), l.refused, l.leftOut)
	if l.refused == 0 {
		t.Error("nothing was raced")
	}
}

// sealOn seals a document many times, each time by who was present just before.
func (l *ledger) sealOn(t *testing.T, by Store, doc crdt.DocumentID, rounds int) {
	for n := 0; n < rounds; {
		list, _, err := by.Present(t.Context(), []crdt.DocumentID{doc}, true)
		if err != nil {
			t.Error(err)
			return
		}
		now := sealed{document: doc, by: by.Node(), n: n + 1, relies: make(map[store.Node]uint64)}
		for _, p := range list {
			now.relies[p.Node] = p.Seq
		}
		err = Append(by, store.Batch{Document: doc, Base: at(0, 0, n), Relies: now.relies, Lease: by.Lease(), Resolution: Resolution(n, 1, "r")})
		switch {
		case err == nil:
			n++
		case !errors.Is(err, store.ErrPresence):
			t.Errorf("seal: %v", err)
			return
		}
		l.seal(now, err)
	}
}

// publishOn publishes of any documents until stop is closed.
func (l *ledger) publishOn(t *testing.T, s Store, r *rand.Rand, documents int, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(r.IntN(8)) * time.Millisecond):
		}
		var list []store.Presence
		for _, d := range r.Perm(documents)[:1+r.IntN(3)] {
			p := said(d, fmt.Sprint(n))
			if r.IntN(4) == 0 {
				p.Data = nil
			}
			list = append(list, p)
		}
		come, err := s.Publish(t.Context(), list, nil)
		if err != nil {
			t.Errorf("publish: %v", err)
			return
		}
		l.publish(list, come)
	}
}
