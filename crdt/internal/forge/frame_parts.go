package forge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

var errFrame = errors.New("not one CBOR item of definite length")

// A cborItem is a CBOR item in its parts. A map's items are its keys and values
// in turn, a tag's item is what it marks.
type cborItem struct {
	major byte
	width byte   // the head's low five bits: how the number is written
	arg   uint64 // of an integer, a tag, a simple value or a float
	data  []byte // of a string
	items []*cborItem

	raw []byte // not nil: stands in place of all that
}

// maxCBORDepth bounds what is taken apart: it is what tests made.
const maxCBORDepth = 64

// dissectCBOR takes the first item of b apart and returns what follows it.
func dissectCBOR(b []byte, depth int) (*cborItem, []byte, error) {
	if len(b) == 0 || depth > maxCBORDepth {
		return nil, nil, errFrame
	}
	it := &cborItem{major: b[0] >> 5, width: b[0] & 31}
	b = b[1:]
	switch size := 1 << (it.width - 24); {
	case it.width < 24:
		it.arg = uint64(it.width)
	case it.width > 27 || len(b) < size:
		return nil, nil, errFrame
	default:
		var number [8]byte
		copy(number[8-size:], b)
		it.arg, b = binary.BigEndian.Uint64(number[:]), b[size:]
	}
	n := uint64(0)
	switch it.major {
	case majorBytes, majorText:
		if it.arg > uint64(len(b)) {
			return nil, nil, errFrame
		}
		it.data, b = b[:it.arg:it.arg], b[it.arg:]
	case majorArray:
		n = it.arg
	case majorMap:
		n = 2 * it.arg
	case majorTag:
		n = 1
	}
	for ; n > 0; n-- {
		child, rest, err := dissectCBOR(b, depth+1)
		if err != nil {
			return nil, nil, err
		}
		it.items, b = append(it.items, child), rest
	}
	return it, b, nil
}

// append appends the item, with the lengths that its parts have now.
func (it *cborItem) append(b []byte) []byte {
	if it.raw != nil {
		return append(b, it.raw...)
	}
	arg := it.arg
	switch it.major {
	case majorBytes, majorText:
		arg = uint64(len(it.data))
	case majorArray:
		arg = uint64(len(it.items))
	case majorMap:
		arg = uint64(len(it.items) / 2)
	}
	b = append(appendHead(b, it.major, it.width, arg), it.data...)
	for _, child := range it.items {
		b = child.append(b)
	}
	return b
}

// appendHead writes a head as wide as width says, or as wide as it must be.
func appendHead(b []byte, major, width byte, arg uint64) []byte {
	least := cborHead(major, arg)
	if width < 24 || width > 27 || len(least) > 1+1<<(width-24) {
		return append(b, least...)
	}
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], arg)
	return append(append(b, major<<5|width), number[8-1<<(width-24):]...)
}

// all returns the item and every one within it.
func (it *cborItem) all() []*cborItem {
	out := []*cborItem{it}
	for _, child := range it.items {
		out = append(out, child.all()...)
	}
	return out
}

// field is a map's value, nil if it has no such key.
func (it *cborItem) field(name string) *cborItem {
	for i := 0; it.major == majorMap && i+1 < len(it.items); i += 2 {
		if key := it.items[i]; key.major == majorText && string(key.data) == name {
			return it.items[i+1]
		}
	}
	return nil
}

// Frames are the honest frames that a client sends, of every type.
func Frames() [][]byte {
	var out [][]byte
	for _, typ := range frameTypes {
		out = append(out, cborMap(clientFrames[typ]...))
	}
	return out
}

// FrameOf is an honest frame of the client's: sync or request, with a message.
func FrameOf(typ string, message []byte) []byte { return with(typ, "data", cborBytes(message)) }

// Frame mutates a frame, or the sync message in it; what is no CBOR is mutated
// as bytes.
func (m *Mutator) Frame(frame []byte) []byte {
	top, rest, err := dissectCBOR(bytes.Clone(frame), 0)
	if err != nil || len(rest) > 0 {
		return m.bytes(bytes.Clone(frame))
	}
	for range 1 + m.rng.IntN(3) {
		m.item(top)
	}
	b := top.append(nil)
	if m.rng.IntN(20) == 19 {
		return m.bytes(b)
	}
	return b
}

// item changes one item somewhere in a frame.
func (m *Mutator) item(top *cborItem) {
	rng := m.rng
	if data := top.field("data"); data != nil && rng.IntN(3) == 0 {
		data.data = m.Message(data.data)
		return
	}
	it := pick(rng, top.all())
	switch rng.IntN(12) {
	case 0: // something else
		*it = cborItem{raw: pick(rng, wrongValues).bytes}
	case 1: // as honest clients do not write it
		it.width = 24 + byte(rng.IntN(4))
	case 2: // a length that is not there
		it.raw = cborHead(it.major, uint64(pick(rng, interesting)))
	case 3: // in pieces, or without a length
		m.indefinite(it)
	case 4:
		inner := *it
		*it = cborItem{major: majorTag, width: 24, arg: pick(rng, []uint64{0, 1, 2, 24, 64, 55799}), items: []*cborItem{&inner}}
	case 5:
		if it.major == majorText {
			it.data = []byte(pick(rng, frameNames))
		}
	case 6:
		it.arg = uint64(pick(rng, interesting))
	case 7:
		if len(it.data) < 4096 {
			it.data = slices.Repeat(it.data, 1+rng.IntN(40))
		}
	default:
		m.children(it)
	}
}

// frameNames are what texts in frames may be.
var frameNames = append([]string{
	"", "type", "senderId", "targetId", "documentId", "data", "count", "sessionId", "peerMetadata", "supportedProtocolVersions",
	"newHeads", "heads", "timestamp", "add", "remove", "storageId", "isEphemeral", ClientPeer, ServerPeer, DocumentText, "\xff", "error", "peer", "message",
}, frameTypes...)

func (m *Mutator) indefinite(it *cborItem) {
	const indefinite, end = 31, 0xff
	b := []byte{it.major<<5 | indefinite}
	switch it.major {
	case majorBytes, majorText:
		i := m.rng.IntN(len(it.data) + 1)
		for _, piece := range [][]byte{it.data[:i], it.data[i:]} {
			b = append(append(b, cborHead(it.major, uint64(len(piece)))...), piece...)
		}
	case majorArray, majorMap:
		for _, child := range it.items {
			b = child.append(b)
		}
	default:
		return
	}
	it.raw = append(b, end)
}

// children changes what an item holds: entries of a map, elements, or bytes.
func (m *Mutator) children(it *cborItem) {
	rng := m.rng
	size := 1
	if it.major == majorMap {
		size = 2
	}
	n := len(it.items) / size
	if n == 0 {
		it.data = m.bytes(it.data)
		return
	}
	i, j := size*rng.IntN(n), size*rng.IntN(n)
	switch rng.IntN(4) {
	case 0:
		it.items = slices.Delete(it.items, i, i+size)
	case 1:
		it.items = slices.Insert(it.items, j, slices.Clone(it.items[i:i+size])...)
	case 2:
		it.items[i], it.items[j] = it.items[j], it.items[i]
	default: // an entry that stands elsewhere, or a key alone
		it.items[i+size-1] = it.items[j]
	}
}
