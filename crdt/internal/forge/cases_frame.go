package forge

import (
	"bytes"
	"math"
)

// huge are numbers that nothing may be sized by.
var huge = []uint64{1_000_000, 1 << 31, 1 << 32, 1 << 40, 1 << 62, 1 << 63, math.MaxUint64}

// tooLong is a number of more than 64 bits.
var tooLong = append(bytes.Repeat([]byte{0xff}, 10), 0x7f)

func (l *caseList) framing() {
	const class = "framing"
	s := newScene()
	honest := s.next().Layout()
	chunk := honest.Chunk()
	l.refuse(BadFraming, class, "no bytes", nil)
	l.refuse(BadFraming, class, "a byte", []byte{0x85})
	l.refuse(BadFraming, class, "magic alone", magic)
	l.refuse(BadFraming, class, "text", []byte("this is not a change"))
	l.layout(BadFraming, class, "wrong magic", func(l *Layout) { l.Magic = []byte{0x85, 0x6f, 0x4a, 0x84} })
	l.refuse(BadFraming, class, "cut short everywhere", chunk)
	l.last().Each = Truncated
	for _, n := range huge {
		l.layout(BadFraming, class, "length "+hexName(n), func(l *Layout) { l.Length = Uleb(n) })
	}
	size := uint64(len(honest.Body()))
	l.layout(BadFraming, class, "length one too small", func(l *Layout) { l.Length = Uleb(size - 1) })
	l.layout(BadFraming, class, "length one too large", func(l *Layout) { l.Length = Uleb(size + 1) })
	l.layout(BadFraming, class, "length zero", func(l *Layout) { l.Length = Uleb(0) })
	l.layout(BadFraming, class, "length overlong", func(l *Layout) { l.Length = Overlong(Uleb(size), 2) })
	l.layout(BadFraming, class, "length of 77 bits", func(l *Layout) { l.Length = tooLong })
	l.layout(BadFraming, class, "a byte behind", func(l *Layout) { l.Trailing = []byte{0} })
	l.layout(BadFraming, class, "itself again behind", func(l *Layout) { l.Trailing = chunk })
	l.refuse(BadFraming, class, "setup and next concatenated", bytes.Join(append(s.setup, chunk), nil))
	l.refuse(BadFraming, class, "no body", Frame(TypeChange, nil))
	l.refuse(BadFraming, class, "a chunk as body", Frame(TypeChange, chunk))

	const typed = "chunk type"
	l.refuse(BadFraming, typed, "empty document", Frame(TypeDocument, make([]byte, 4)))
	l.refuse(BadFraming, typed, "bundle", Frame(TypeBundle, make([]byte, 4)))
	for _, typ := range []byte{TypeDocument, TypeBundle, 4, 0x7f, 0x80, 0xff} {
		l.layout(BadFraming, typed, "change as type "+hexName(uint64(typ)), func(l *Layout) { l.Type = typ })
	}

	const sum = "checksum"
	l.layout(BadChecksum, sum, "zero checksum", func(l *Layout) { l.Checksum = make([]byte, 4) })
	l.layout(BadChecksum, sum, "checksum of another change", func(l *Layout) { l.Checksum = s.setup[0][4:8] })
	small := s.only(func(e *Edit) { e.Put(Root, "k", Int(7)) })
	l.after(s, BadChecksum, sum, "every bit flipped", small.Chunk())
	l.last().Each = Flipped
}

func (l *caseList) deflate() {
	const class = "deflate"
	with := func(name string, wrong func(l *Layout, stream []byte)) {
		l.layout(BadInflate, class, name, func(l *Layout) {
			l.Type = TypeDeflated
			wrong(l, Deflate(l.Body()))
		})
	}
	with("bytes behind the stream", func(l *Layout, z []byte) { l.Stream = append(z, 0, 0, 0) })
	with("a second stream behind", func(l *Layout, z []byte) { l.Stream = append(z, z...) })
	with("a byte cut off", func(l *Layout, z []byte) { l.Stream = z[:len(z)-1] })
	with("half", func(l *Layout, z []byte) { l.Stream = z[:len(z)/2] })
	with("no stream", func(l *Layout, _ []byte) { l.Stream = []byte{} })
	with("not deflated", func(l *Layout, _ []byte) { l.Stream = l.Body() })
	with("reserved block type", func(l *Layout, _ []byte) { l.Stream = []byte{0x07} })
	with("distance before the start", func(l *Layout, _ []byte) { l.Stream = []byte{0x4b, 0x04, 0xa2, 0x00} })
	with("deflated twice", func(l *Layout, z []byte) { l.Stream = Deflate(z) })
	with("inflates to nothing", func(l *Layout, _ []byte) { l.Stream = Deflate(nil) })
	with("wrong checksum", func(l *Layout, _ []byte) { l.Checksum = make([]byte, 4) })
	l.last().Reason = BadChecksum
	l.refuse(BadFraming, class, "stream in an uncompressed chunk", deflatedAsPlain())
	l.layout(BadInflate, class, "stream cut short everywhere", func(l *Layout) { l.Type = TypeDeflated })
	l.last().Each = Truncated

	s := newScene()
	big := s.only(func(e *Edit) { e.Put(Root, "big", Bytes([]byte{0})) })
	l.blob(s, "deflate bomb", "512 MB of one honest value", ValueBomb(big, 512<<20))
	for _, mb := range []int{5, 64} {
		name := decimal(mb) + " MB of "
		l.blob(s, "deflate bomb", name+"one honest value", ValueBomb(big, mb<<20))
		l.blob(s, "deflate bomb", name+"extra bytes", ExtraBomb(big, mb<<20))
		l.blob(s, "deflate bomb", name+"zeros for a body", bombOf(nil, mb<<20, nil))
	}
}

func (l *caseList) blob(s *scene, class, name string, b Blob) {
	l.cases = append(l.cases, Case{
		Class: class, Name: name, Setup: s.setup, Inputs: []Blob{b}, Want: Refused, Reason: OverLimit,
	})
}

// deflatedAsPlain is a chunk whose type says that it is not deflated, and whose
// body is.
func deflatedAsPlain() []byte {
	return Frame(TypeChange, Deflate(newScene().next().Layout().Body()))
}
