package postgres

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"parley/crdt"
	"parley/server/store"
)

// newsVersion is the first byte of what nodes tell each other. One that does not
// know it compares everything instead.
const newsVersion = 1

const (
	// maxNotice is how many bytes a notification holds before they are written in
	// base64: PostgreSQL takes less than 8,000.
	maxNotice = 5900
	// maxNotices is how many notifications of one commit hold changes; what is beyond
	// that is only pointed to.
	maxNotices = 16
)

// The kinds of entries in a notification.
const (
	entryDocument = 1 // id, version, number of changes, and of each the user and the chunk
	entryRevoked  = 2
	entryPresence = 3 // id, number, how it is told, and the data if it is
	entryRelayed  = 4 // id, data
	entryBegun    = 5 // a node is there that was not before
)

// How presence is told.
const (
	presenceGone  = 0 // nobody is there
	presenceWhole = 1 // the data follows
	presenceLong  = 2 // it is too long
)

var errNews = errors.New("a notification that this version cannot read")

// notices returns the notifications of a commit: few, each of several documents.
func (p *plan) notices(node store.Node) (payloads []string) {
	w := noticeWriter{node: node}
	var moved []crdt.DocumentID
	for id, s := range p.spots {
		if s.is != s.was {
			moved = append(moved, id)
		}
	}
	slices.SortFunc(moved, func(a, b crdt.DocumentID) int { return cmp.Compare(p.spots[a].key, p.spots[b].key) })
	for _, id := range moved {
		w.add(appendNews(nil, id, p.spots[id], len(w.payloads) < maxNotices))
	}
	if len(p.revocations) > 0 {
		w.add([]byte{entryRevoked})
	}
	return w.end()
}

// appendNews appends the entry of a document, with its changes if they are all that
// is new and fit.
func appendNews(b []byte, id crdt.DocumentID, s *spot, whole bool) []byte {
	size := 0
	for i := range s.news {
		size += len(s.news[i].Chunk) + len(s.news[i].User) + 2*binary.MaxVarintLen32
	}
	whole = whole && s.is.Settings == s.was.Settings && s.is.Resolutions == s.was.Resolutions && size < maxNotice-128
	b = append(append(b, entryDocument), id[:]...)
	for _, n := range []int{s.is.Changes, s.is.Settings, s.is.Resolutions} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	if !whole {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(s.news)))
	for i := range s.news {
		b = appendBytes(appendBytes(b, []byte(s.news[i].User)), s.news[i].Chunk)
	}
	return b
}

func appendBytes(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// presenceNotices returns the notifications of what a node publishes.
func presenceNotices(node store.Node, presences []*store.Presence) []string {
	w := noticeWriter{node: node}
	for _, p := range presences {
		entry := binary.AppendUvarint(append([]byte{entryPresence}, p.Document[:]...), p.Seq)
		switch {
		case p.Data == nil:
			entry = append(entry, presenceGone)
		case len(p.Data) < maxNotice-128 && len(w.payloads) < maxNotices:
			entry = appendBytes(append(entry, presenceWhole), p.Data)
		default:
			entry = append(entry, presenceLong)
		}
		w.add(entry)
	}
	return w.end()
}

// relayNotices returns the notifications of messages for others.
func relayNotices(node store.Node, relayed []store.Relayed) []string {
	w := noticeWriter{node: node}
	for i := range relayed {
		if r := &relayed[i]; len(r.Data) <= store.MaxRelayed {
			w.add(appendBytes(append([]byte{entryRelayed}, r.Document[:]...), r.Data))
		}
	}
	return w.end()
}

// begunNotice tells others that a node has a lease.
func begunNotice(node store.Node) string {
	w := noticeWriter{node: node}
	w.add([]byte{entryBegun})
	return w.end()[0]
}

// noticeWriter fills one notification after the other.
type noticeWriter struct {
	node     store.Node
	payloads []string
	rest     []byte
}

func (w *noticeWriter) add(entry []byte) {
	if len(w.rest)+len(entry) > maxNotice {
		w.flush()
	}
	if len(w.rest) == 0 {
		w.rest = append(append(w.rest, newsVersion), w.node[:]...)
	}
	w.rest = append(w.rest, entry...)
}

func (w *noticeWriter) flush() {
	if len(w.rest) > 0 {
		w.payloads = append(w.payloads, base64.RawStdEncoding.EncodeToString(w.rest))
		w.rest = w.rest[:0]
	}
}

func (w *noticeWriter) end() []string {
	w.flush()
	return w.payloads
}

// notice is a notification as it is read.
type notice struct {
	node      store.Node
	news      []store.News
	revoked   bool
	begun     bool
	presences []heardPresence
	relayed   []store.Relayed
}

type heardPresence struct {
	store.Presence
	whole bool
}

func readNotice(payload string) (n notice, err error) {
	b, err := base64.RawStdEncoding.DecodeString(payload)
	if err != nil || len(b) < 1+len(n.node) || b[0] != newsVersion {
		return n, errNews
	}
	r := noticeReader{rest: b[1:]}
	copy(n.node[:], r.take(len(n.node)))
	for len(r.rest) > 0 && !r.broken {
		switch r.take(1)[0] {
		case entryDocument:
			n.news = append(n.news, r.news())
		case entryRevoked:
			n.revoked = true
		case entryPresence:
			n.presences = append(n.presences, r.presence(n.node))
		case entryRelayed:
			n.relayed = append(n.relayed, r.relayed())
		case entryBegun:
			n.begun = true
		default:
			return n, errNews
		}
	}
	if r.broken {
		return n, errNews
	}
	return n, nil
}

type noticeReader struct {
	rest   []byte
	broken bool
}

func (r *noticeReader) take(n int) []byte {
	if n > len(r.rest) {
		r.broken, r.rest = true, nil
		return make([]byte, min(n, 64))
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *noticeReader) number() int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > 1<<40 {
		r.broken, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return int(v)
}

func (r *noticeReader) bytes() []byte { return r.take(r.number()) }

func (r *noticeReader) news() (n store.News) {
	copy(n.Document[:], r.take(len(n.Document)))
	n.Version = store.Version{Changes: r.number(), Settings: r.number(), Resolutions: r.number()}
	for count := r.number(); count > 0 && !r.broken; count-- {
		user := string(r.bytes())
		n.Changes = append(n.Changes, store.Change{User: user, Chunk: r.bytes()})
	}
	return n
}

func (r *noticeReader) presence(node store.Node) (p heardPresence) {
	p.Node, p.whole = node, true
	copy(p.Document[:], r.take(len(p.Document)))
	p.Seq = uint64(r.number())
	switch r.take(1)[0] {
	case presenceGone:
	case presenceWhole:
		p.Data = append([]byte{}, r.bytes()...)
	default:
		p.whole = false
	}
	return p
}

func (r *noticeReader) relayed() (m store.Relayed) {
	copy(m.Document[:], r.take(len(m.Document)))
	m.Data = r.bytes()
	return m
}
