package forge

import (
	"slices"
	"strings"
)

// sortFrames orders the last n cases by name: they were added from a map.
func sortFrames(l *frameList, n int) {
	slices.SortStableFunc(l.cases[len(l.cases)-n:], func(a, b FrameCase) int { return strings.Compare(a.Name, b.Name) })
}

// A wrongValue is an encoded value, with its kind.
type wrongValue struct {
	kind  string
	bytes []byte
}

var wrongValues = []wrongValue{
	{"null", cborNull}, {"undefined", cborUndefined}, {"bool", cborTrue}, {"uint", cborHead(majorUint, 7)},
	{"negative", []byte{0x26}}, {"float", []byte{0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}}, {"text", cborText("text")},
	{"bytes", cborBytes([]byte("bytes"))}, {"array", cborArray(cborText("a"), cborNull)}, {"map", cborMap(pair{"a", cborNull})},
	{"date", append(cborHead(majorTag, 1), 1)}, {"bignum", append(cborHead(majorTag, 2), cborBytes(slicesRepeat(0xff, 9))...)},
}

// rightKinds says which kinds of wrongValues a field may have: with these it is
// not a case. Null and undefined may stand for an absent field where one may be
// absent; which of them a reader takes is its choice.
var rightKinds = map[string]string{
	"type": "", "senderId": "text", "targetId": "text null undefined", "documentId": "",
	"data": "bytes", "count": "uint float", "sessionId": "text", "newHeads": "",
	"peerMetadata": "map null undefined", "supportedProtocolVersions": "null undefined",
	"add": "null undefined array", "remove": "null undefined array",
}

// shapes gives every field of every message every wrong type, and leaves it out.
func (l *frameList) shapes() {
	const class = "wrong type"
	for _, typ := range frameTypes {
		for _, p := range clientFrames[typ] {
			right := strings.Fields(rightKinds[p.key])
			for _, v := range wrongValues {
				want := WrongShape
				switch {
				case p.key == "type" && v.kind == "text":
					want = Ignored
				case p.key == "documentId" && v.kind == "text":
					want = BadDocumentID
				case p.key == "documentId" && v.kind == "bytes", p.key == "newHeads" && v.kind == "map", v.kind == "date", v.kind == "bignum",
					p.key == "targetId":
					want = AnyFrame
				case slices.Contains(right, v.kind):
					continue
				}
				l.place(typ, want, class, typ+" with "+p.key+" "+v.kind, with(typ, p.key, v.bytes))
			}
		}
	}
	const missing = "missing field"
	for _, typ := range frameTypes {
		for _, p := range clientFrames[typ] {
			want := WrongShape
			switch p.key {
			case "targetId", "peerMetadata", "supportedProtocolVersions", "add", "remove":
				want = AnyFrame
			}
			l.place(typ, want, missing, typ+" without "+p.key, with(typ, p.key, []byte(nil)))
		}
	}
	l.joined(WrongShape, class, "sync with empty data", with("sync", "data", cborBytes(nil)))
	l.joined(WrongShape, class, "request with empty data", with("request", "data", cborBytes(nil)))
	l.joined(WrongShape, class, "sync with an empty sender", with("sync", "senderId", cborText("")))
	l.joined(WrongShape, class, "ephemeral with a negative float for count", with("ephemeral", "count", []byte{0xfb, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0}))
	l.joined(WrongShape, class, "ephemeral with NaN for count", with("ephemeral", "count", []byte{0xf9, 0x7e, 0x00}))
	l.joined(AnyFrame, class, "ephemeral with the last count", with("ephemeral", "count", cborHead(majorUint, 1<<63)))
	l.joined(AnyFrame, class, "sync with an unknown field", cborMap(append(slices.Clone(clientFrames["sync"]), pair{"unknown", cborMap()})...))
	l.joined(Ignored, class, "message of an unknown type", cborMap(documentFrame("subduction-connection", pair{"data", cborBytes([]byte{1})})...))
	l.joined(WrongShape, class, "message of an empty type", cborMap(documentFrame("")...))
}

// place puts join first in a connection, and other messages after joining.
func (l *frameList) place(typ string, want FrameWant, class, name string, frame []byte) {
	l.cases = append(l.cases, FrameCase{Class: class, Name: name, Joined: typ != "join", Input: Blob{Head: frame}, Want: want})
}

// ids are document ids that name no document.
func (l *frameList) ids() {
	const class = "document id"
	last := len(DocumentText) - 1
	for name, id := range map[string]string{
		"empty": "", "one character": "4", "wrong checksum": DocumentText[:last] + "v", "one short": DocumentText[:last], "one long": DocumentText + "1",
		"outside the alphabet": "0OIl" + DocumentText[4:], "with a scheme": "automerge:" + DocumentText, "a path": "../../../etc/passwd",
		"with a zero byte": DocumentText[:10] + "\x00" + DocumentText[11:], "a UUID": "3760df37-a4c6-4f66-9ecd-732039a9385d",
		"not UTF-8": "\xff\xfe" + DocumentText[2:], "2 kB": strings.Repeat("4", 2_000), "ones": strings.Repeat("1", 28), "quotes": `"><script>`,
	} {
		for _, typ := range []string{"request", "sync", "doc-unavailable", "ephemeral", "remote-heads-changed"} {
			want := BadDocumentID
			switch {
			case id == "":
				want = WrongShape
			case name == "not UTF-8" || len(id) > 1000:
				want = AnyFrame
			}
			l.joined(want, class, typ+" with id "+name, with(typ, "documentId", cborText(id)))
		}
	}
	sortFrames(l, 14*5)
}

// order are good messages at the wrong time, or from the wrong peer.
func (l *frameList) order() {
	const class = "order"
	for _, typ := range frameTypes {
		if typ != "join" {
			l.cases = append(l.cases, FrameCase{Class: class, Name: typ + " before join", Input: Blob{Head: with(typ, "", nil)}, Want: Decodable})
		}
	}
	l.joined(Decodable, class, "second join", with("join", "", nil))
	l.joined(Decodable, class, "second join as somebody else", with("join", "senderId", cborText("another")))
	for _, typ := range []string{"request", "sync", "ephemeral", "leave"} {
		l.joined(Decodable, class, typ+" from somebody else", with(typ, "senderId", cborText("another")))
		l.joined(Decodable, class, typ+" as the server", with(typ, "senderId", cborText(ServerPeer)))
	}
	versions := func(name string, v ...string) {
		var items [][]byte
		for _, s := range v {
			items = append(items, cborText(s))
		}
		l.cases = append(l.cases, FrameCase{Class: class, Name: "join with " + name, Input: Blob{Head: with("join", "supportedProtocolVersions", cborArray(items...))}, Want: Decodable})
	}
	versions("no versions")
	versions("version 2", "2")
	versions("a thousand versions", slices.Repeat([]string{"2"}, 1000)...)
}

// sizes are too much of what is allowed.
func (l *frameList) sizes() {
	const class = "oversize"
	blob := func(want FrameWant, joined bool, name string, head []byte, zeros int, tail []byte) {
		l.cases = append(l.cases, FrameCase{Class: class, Name: name, Joined: joined, Input: Blob{head, zeros, tail}, Want: want})
	}
	cut := func(typ, key string, major byte, n int) ([]byte, int) {
		frame := with(typ, key, cborHead(major, uint64(n)))
		return frame, n
	}
	// The last entry of sync and of ephemeral is data, so that zeros can follow.
	head, n := cut("sync", "data", majorBytes, 17<<20)
	blob(Oversize, true, "sync of 17 MiB", head, n, nil)
	head, n = cut("ephemeral", "data", majorBytes, 17<<20)
	blob(Oversize, true, "ephemeral of 17 MiB", head, n, nil)
	head, n = cut("ephemeral", "data", majorBytes, 2<<20)
	blob(AnyFrame, true, "ephemeral of 2 MiB", head, n, nil)
	blob(Oversize, false, "bytes of 100 MiB before join", cborHead(majorBytes, 100<<20), 100<<20, nil)
	long := cborMap(pair{"type", cborText("join")}, pair{"senderId", cborHead(majorText, 1<<20)})
	blob(Oversize, false, "join with a sender of 1 MiB of zeros", long, 1<<20, nil)
	array := cborMap(pair{"type", cborText("join")}, pair{"senderId", cborText(ClientPeer)}, pair{"supportedProtocolVersions", cborHead(majorArray, 1<<20)})
	blob(Oversize, false, "join with a million versions", array, 1<<20, nil)
	blob(AnyFrame, true, "array of a million zeros", cborHead(majorArray, 1<<20), 1<<20, nil)
	blob(AnyFrame, true, "map of half a million zeros", cborHead(majorMap, 1<<19), 1<<20, nil)
	add := cborMap(pair{"type", cborText("remote-subscription-change")}, pair{"senderId", cborText(ClientPeer)},
		pair{"targetId", cborText(ServerPeer)}, pair{"add", cborHead(majorArray, 1<<20)})
	blob(AnyFrame, true, "subscription to a million integers", add, 1<<20, nil)
}
