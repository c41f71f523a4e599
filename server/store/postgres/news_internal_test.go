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
		node := nodeID{1, 2, 3}
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

// FuzzReadNotice: whatever is in a notification does no harm.
func FuzzReadNotice(f *testing.F) {
	s := &spot{is: store.Version{Changes: 1}, news: []store.Change{{User: "u", Chunk: []byte("chunk")}}}
	w := noticeWriter{}
	w.add(appendNews(nil, docID(1), s, true))
	w.add([]byte{entryRevoked})
	f.Add(w.end()[0])
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
	for _, wrong := range [][]byte{append([]byte{2}, b[1:]...), append(slices.Clone(b), 9), b[:5], append(slices.Clone(b), entryDocument, 1)} {
		if _, err := readNotice(base64.RawStdEncoding.EncodeToString(wrong)); err == nil {
			t.Errorf("%v was read", wrong)
		}
	}
}
