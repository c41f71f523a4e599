package forge

import (
	"encoding/binary"
	"math"
	"strings"
)

// What frames are between: the joined client, and the server's name for itself
// (which a server ignores). DocumentText is a valid document id.
const (
	ClientPeer   = "forge-client"
	ServerPeer   = "forge-server"
	DocumentText = "4NMNnkMhL8jXrdJ9jamS58PAVdXu"
)

// A FrameWant is what a reader of frames must make of a frame.
type FrameWant string

// The fates of frames.
const (
	Undecodable   FrameWant = "undecodable" // not one CBOR item
	WrongShape    FrameWant = "shape"       // CBOR, but no such message
	BadDocumentID FrameWant = "document-id" // a message, but for its document id
	Oversize      FrameWant = "oversize"    // over the default limits
	Ignored       FrameWant = "ignored"     // of an unknown type
	Decodable     FrameWant = "decodable"   // well-formed: wrong only where it comes
	AnyFrame      FrameWant = "any"         // the reader's choice, as long as it costs little
)

// A FrameCase is a hostile WebSocket frame.
type FrameCase struct {
	Class, Name string
	Text        bool // a text frame, not a binary one
	Joined      bool // comes after join and peer, else first
	Input       Blob
	Want        FrameWant
}

// The CBOR major types.
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
)

// cborHead is an item's head, as short as it can be.
func cborHead(major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return []byte{m | byte(n)}
	case n <= math.MaxUint8:
		return []byte{m | 24, byte(n)}
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16([]byte{m | 25}, uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32([]byte{m | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{m | 27}, n)
}

func cborText(s string) []byte  { return append(cborHead(majorText, uint64(len(s))), s...) }
func cborBytes(b []byte) []byte { return append(cborHead(majorBytes, uint64(len(b))), b...) }

var (
	cborNull      = []byte{0xf6}
	cborUndefined = []byte{0xf7}
	cborTrue      = []byte{0xf5}
)

// A pair is a map's entry: a text key and an encoded value.
type pair struct {
	key   string
	value []byte
}

func cborMap(pairs ...pair) []byte {
	b := cborHead(majorMap, uint64(len(pairs)))
	for _, p := range pairs {
		b = append(append(b, cborText(p.key)...), p.value...)
	}
	return b
}

func cborArray(items ...[]byte) []byte {
	return append(cborHead(majorArray, uint64(len(items))), join(items...)...)
}

// The messages that clients send, honest.
var clientFrames = map[string][]pair{
	"join": {
		{"type", cborText("join")}, {"senderId", cborText(ClientPeer)},
		{"peerMetadata", cborMap(pair{"storageId", cborText("3760df37-a4c6-4f66-9ecd-732039a9385d")}, pair{"isEphemeral", []byte{0xf4}})},
		{"supportedProtocolVersions", cborArray(cborText("1"))},
	},
	"leave":           {{"type", cborText("leave")}, {"senderId", cborText(ClientPeer)}},
	"request":         documentFrame("request", pair{"data", cborBytes(NewSyncMessage(nil).Bytes())}),
	"sync":            documentFrame("sync", pair{"data", cborBytes(NewSyncMessage(nil).Bytes())}),
	"doc-unavailable": documentFrame("doc-unavailable"),
	"ephemeral": documentFrame("ephemeral",
		pair{"count", cborHead(majorUint, 1)}, pair{"sessionId", cborText("k3x9")}, pair{"data", cborBytes(cborMap())}),
	"remote-subscription-change": {
		{"type", cborText("remote-subscription-change")}, {"senderId", cborText(ClientPeer)}, {"targetId", cborText(ServerPeer)},
		{"add", cborArray(cborText("3760df37-a4c6-4f66-9ecd-732039a9385d"))}, {"remove", cborUndefined},
	},
	"remote-heads-changed": documentFrame("remote-heads-changed", pair{"newHeads", cborMap(
		pair{"3760df37-a4c6-4f66-9ecd-732039a9385d", cborMap(pair{"heads", cborArray()}, pair{"timestamp", cborHead(majorUint, 1)})},
	)}),
}

var frameTypes = []string{
	"join", "leave", "request", "sync", "doc-unavailable", "ephemeral",
	"remote-subscription-change", "remote-heads-changed",
}

func documentFrame(typ string, more ...pair) []pair {
	return append([]pair{
		{"type", cborText(typ)}, {"senderId", cborText(ClientPeer)}, {"targetId", cborText(ServerPeer)},
		{"documentId", cborText(DocumentText)},
	}, more...)
}

// with is the honest message of a type with one entry replaced, or, with a nil
// value, left out.
func with(typ, key string, value []byte) []byte {
	var out []pair
	for _, p := range clientFrames[typ] {
		if p.key == key {
			p.value = value
		}
		if p.value != nil {
			out = append(out, p)
		}
	}
	return cborMap(out...)
}

// FrameCases returns hostile frames.
func FrameCases() []FrameCase {
	l := &frameList{}
	l.cbor()
	l.lengths()
	l.shapes()
	l.ids()
	l.order()
	l.sizes()
	return l.cases
}

type frameList struct{ cases []FrameCase }

// add adds a frame twice: as the first of a connection, and after joining.
func (l *frameList) add(want FrameWant, class, name string, frame []byte) {
	for _, joined := range []bool{false, true} {
		l.cases = append(l.cases, FrameCase{Class: class, Name: name, Joined: joined, Input: Blob{Head: frame}, Want: want})
	}
}

func (l *frameList) joined(want FrameWant, class, name string, frame []byte) {
	l.cases = append(l.cases, FrameCase{Class: class, Name: name, Joined: true, Input: Blob{Head: frame}, Want: want})
}

func (l *frameList) cbor() {
	const class = "cbor"
	l.add(Undecodable, class, "no bytes", nil)
	for _, text := range []string{"", "hello", `{"type":"join"}`} {
		l.add(Undecodable, class, "text frame "+text, []byte(text))
		for i := range 2 {
			l.cases[len(l.cases)-1-i].Text = true
		}
	}
	sync := with("sync", "", nil)
	for i := 1; i < len(sync); i += 3 {
		l.joined(Undecodable, class, "sync cut at "+decimal(i), sync[:i])
	}
	for name, b := range map[string][]byte{
		"reserved head 28": {0x1c}, "reserved head 30": {0xbe}, "break alone": {0xff}, "simple value of two bytes below 32": {0xf8, 0x10},
		"indefinite integer": {0x1f}, "map that ends after a key": {0xa1, 0x61, 'a'}, "indefinite map without end": {0xbf, 0x61, 'a', 0x01},
		"indefinite map that ends after a key": {0xbf, 0x61, 'a', 0xff}, "nothing but tags": slicesRepeat(0xc1, 100),
	} {
		l.add(Undecodable, class, name, b)
	}
	sortFrames(l, 18)
	for name, b := range map[string][]byte{
		"null": cborNull, "undefined": cborUndefined, "true": cborTrue, "zero": {0}, "text": cborText("join"), "bytes": cborBytes(sync),
		"array": cborArray(cborText("type"), cborText("join")), "empty map": cborMap(), "empty array": cborArray(), "a float": {0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0},
		"map of integers": {0xa1, 0x01, 0x02}, "map with a null key": {0xa1, 0xf6, 0x02}, "map with a map for a key": {0xa1, 0xa0, 0x02},
	} {
		l.add(WrongShape, class, name, b)
	}
	sortFrames(l, 26)
	l.joined(AnyFrame, class, "message behind a tag", append(cborHead(majorTag, 55799), sync...))
	l.joined(AnyFrame, class, "bytes behind the message", append(with("sync", "", nil), 0xf6))
	l.joined(AnyFrame, class, "a message behind the message", append(with("sync", "", nil), sync...))
	l.joined(AnyFrame, class, "indefinite map", append(append([]byte{0xbf}, sync[1:]...), 0xff))
	l.joined(AnyFrame, class, "data in indefinite pieces", with("sync", "data", []byte{0x5f, 0x41, 0x42, 0x43, 0, 0, 0, 0xff}))
	l.joined(AnyFrame, class, "type twice", cborMap(append(documentFrame("sync", pair{"data", cborBytes([]byte{0x42, 0, 0, 0, 0})}), pair{"type", cborText("leave")})...))
	l.joined(AnyFrame, class, "a key that is not UTF-8", append(append(cborHead(majorMap, 1), cborText("\xff\xfe")...), 1))
	for _, depth := range []int{5, 30, 1000, 10_000} {
		want := AnyFrame
		if depth >= 1000 {
			want = Undecodable
		}
		for name, unit := range map[string]byte{"arrays": 0x81, "tags": 0xc6} {
			deep := append(slicesRepeat(unit, depth), 0)
			l.cases = append(l.cases, FrameCase{Class: class, Name: decimal(depth) + " nested " + name, Input: Blob{Head: deep}, Want: AnyFrame})
			l.joined(want, class, "sync with "+decimal(depth)+" nested "+name, with("sync", "data", deep))
		}
		sortFrames(l, 4)
	}
}

func slicesRepeat(b byte, n int) []byte { return []byte(strings.Repeat(string([]byte{b}), n)) }

// lengths claims what is not there.
func (l *frameList) lengths() {
	const class = "claimed length"
	for _, n := range huge {
		for name, major := range map[string]byte{"bytes": majorBytes, "text": majorText, "array": majorArray, "map": majorMap} {
			l.add(Undecodable, class, name+" of "+decimalU(n), cborHead(major, n))
			l.joined(Undecodable, class, "data is "+name+" of "+decimalU(n), with("sync", "data", cborHead(major, n)))
		}
		sortFrames(l, 12)
		l.add(Undecodable, class, "join with "+decimalU(n)+" versions", with("join", "supportedProtocolVersions", cborHead(majorArray, n)))
		l.joined(Undecodable, class, "remote heads of "+decimalU(n)+" stores", with("remote-heads-changed", "newHeads", cborHead(majorMap, n)))
	}
}
