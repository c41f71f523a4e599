package postgres

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/crdt"
	"parley/server/store"
)

func docID(i int) crdt.DocumentID { return crdt.DocumentID([]byte(fmt.Sprintf("document%08d", i))) }

// TestNotices: what a commit tells is what is read of it, in few notifications that
// PostgreSQL takes.
func TestNotices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &plan{spots: make(map[crdt.DocumentID]*spot)}
		for i := range rapid.IntRange(0, 300).Draw(t, "documents") {
			s := &spot{key: int64(i), was: store.Version{Changes: i}, is: store.Version{Changes: i}}
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				s.is.Changes++
				size := rapid.SampledFrom([]int{0, 60, 200, 2000, 7000}).Draw(t, "size")
				s.news = append(s.news, store.Change{User: fmt.Sprint("user", i), Chunk: bytes.Repeat([]byte{byte(size)}, size)})
			}
			if rapid.IntRange(0, 9).Draw(t, "settings") == 0 {
				s.is.Settings++
			}
			p.spots[docID(i)] = s
		}
		if rapid.Bool().Draw(t, "revoked") {
			p.revocations = []*store.Revocation{{User: "u"}}
		}
		node := store.Node{1, 2, 3}
		payloads := p.notices(node)
		var got []store.News
		revoked := false
		for _, payload := range payloads {
			if len(payload) >= 8000 {
				t.Fatalf("a notification of %d bytes", len(payload))
			}
			n, err := readNotice(payload)
			if err != nil || n.node != node {
				t.Fatalf("of node %v: %v", n.node, err)
			}
			got, revoked = append(got, n.news...), revoked || n.revoked
		}
		if len(payloads) > maxNotices+4 || revoked != (len(p.revocations) > 0) {
			t.Fatalf("%d notifications, revoked %v", len(payloads), revoked)
		}
		for _, n := range got {
			s := p.spots[n.Document]
			delete(p.spots, n.Document)
			if s == nil || n.Version != s.is {
				t.Fatalf("news of %s at %v", n.Document, n.Version)
			}
			whole := slices.EqualFunc(n.Changes, s.news, func(a, b store.Change) bool { return a.User == b.User && bytes.Equal(a.Chunk, b.Chunk) })
			if n.Changes != nil && !whole {
				t.Fatalf("news of %s tell other changes", n.Document)
			}
		}
		for id, s := range p.spots {
			if s.is != s.was {
				t.Fatalf("nothing is told of %s", id)
			}
		}
	})
}

// TestNoticesOfPresence: what is published is told, whole or that there is more, and
// what is relayed if it fits.
func TestNoticesOfPresence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := store.Node{1, 2, 3}
		sizes := rapid.SampledFrom([]int{-1, 0, 1, 300, 5700, 5800, 5801, 20_000})
		var presences []*store.Presence
		var relayed []store.Relayed
		for i := range rapid.IntRange(0, 40).Draw(t, "presences") {
			p := store.Presence{Document: docID(i), Node: node, Seq: uint64(i + 1)}
			if size := sizes.Draw(t, "size"); size >= 0 {
				p.Data = bytes.Repeat([]byte{byte(i)}, size)
			}
			presences = append(presences, &p)
		}
		for i := range rapid.IntRange(0, 10).Draw(t, "relayed") {
			relayed = append(relayed, store.Relayed{Document: docID(i), Data: make([]byte, max(0, sizes.Draw(t, "length")))})
		}
		var got []heardPresence
		var passed []store.Relayed
		for _, payload := range append(presenceNotices(node, presences), relayNotices(node, relayed)...) {
			if len(payload) >= 8000 {
				t.Fatalf("a notification of %d bytes", len(payload))
			}
			n, err := readNotice(payload)
			if err != nil || n.node != node || len(n.news) > 0 || n.revoked {
				t.Fatalf("%+v, %v", n, err)
			}
			got, passed = append(got, n.presences...), append(passed, n.relayed...)
		}
		if len(got) != len(presences) {
			t.Fatalf("%d presences, want %d", len(got), len(presences))
		}
		for i, p := range presences {
			switch g := got[i]; {
			case g.Document != p.Document || g.Node != node || g.Seq != p.Seq:
				t.Fatalf("presence %d is %+v", i, g)
			case !g.whole && (len(p.Data) < 300 || g.Data != nil), g.whole && (!bytes.Equal(g.Data, p.Data) || (g.Data == nil) != (p.Data == nil)):
				t.Fatalf("presence %d of %d bytes is told with %d, whole: %v", i, len(p.Data), len(g.Data), g.whole)
			}
		}
		relayed = slices.DeleteFunc(relayed, func(r store.Relayed) bool { return len(r.Data) > store.MaxRelayed })
		if !slices.EqualFunc(passed, relayed, func(a, b store.Relayed) bool { return a.Document == b.Document && bytes.Equal(a.Data, b.Data) }) {
			t.Fatalf("%d messages, want %d", len(passed), len(relayed))
		}
	})
}

// FuzzReadNotice: whatever is in a notification does no harm.
func FuzzReadNotice(f *testing.F) {
	s := &spot{is: store.Version{Changes: 1}, news: []store.Change{{User: "u", Chunk: []byte("chunk")}}}
	w := noticeWriter{}
	w.add(appendNews(nil, docID(1), s, true))
	w.add([]byte{entryRevoked})
	f.Add(w.end()[0])
	f.Add(presenceNotices(store.Node{1}, []*store.Presence{{Document: docID(1), Seq: 3, Data: []byte("d")}, {Document: docID(2), Seq: 4}})[0])
	f.Add(relayNotices(store.Node{1}, []store.Relayed{{Document: docID(1), Data: []byte("m")}})[0])
	f.Add(base64.RawStdEncoding.EncodeToString([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0}))
	f.Add("not base64!")
	f.Fuzz(func(t *testing.T, payload string) {
		n, err := readNotice(payload)
		if err != nil {
			return
		}
		for _, news := range n.news {
			if news.Version.Changes < 0 {
				t.Error("a version below zero")
			}
		}
	})
}

func TestNoticeOfAnotherVersion(t *testing.T) {
	w := noticeWriter{}
	w.add([]byte{entryRevoked})
	b, err := base64.RawStdEncoding.DecodeString(w.end()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]byte{
		append([]byte{2}, b[1:]...), append(slices.Clone(b), 9), b[:5], append(slices.Clone(b), entryDocument, 1),
		append(slices.Clone(b), entryPresence, 1), append(slices.Clone(b), entryRelayed, 1),
	} {
		if _, err := readNotice(base64.RawStdEncoding.EncodeToString(wrong)); err == nil {
			t.Errorf("%v was read", wrong)
		}
	}
}
