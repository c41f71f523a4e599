package compact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
)

// A frame is a length of 4 bytes, big-endian, and a CBOR item of that length:
// setup first, then request and answer by turns.

// maxFrame bounds requests and answers: four times the size of a document.
const maxFrame = 256 << 20

// setup is what a child is told once.
type setup struct {
	Memory int64 // bytes it may map beyond what it has; negative: no limit
}

type request struct {
	Op       string
	Snapshot *crdt.Snapshot
	Chunks   [][]byte
	Heads    []crdt.Hash
}

// size is about what the request takes as a frame, and no more than that.
func (r request) size() int {
	n := len(r.Heads) * len(crdt.Hash{})
	if r.Snapshot != nil {
		n += len(r.Snapshot.Data)
	}
	for _, c := range r.Chunks {
		n += len(c)
	}
	return n
}

// What a request asks for.
const (
	opCompact     = "compact"
	opMaterialize = "materialize"
)

// answer holds an error or what the request's Op makes.
type answer struct {
	Error    string
	Snapshot crdt.Snapshot
	JSON     []byte
}

var decoding = func() cbor.DecMode {
	// The frame bounds everything: no element is smaller than a byte.
	mode, err := cbor.DecOptions{MaxArrayElements: 1<<31 - 1}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

func encode(v any) ([]byte, error) {
	b, err := cbor.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > maxFrame {
		return nil, tooLarge(len(b))
	}
	return b, nil
}

func tooLarge(n int) error {
	return fmt.Errorf("%d bytes are more than the %d that the engine's process takes or gives", n, maxFrame)
}

func decode(b []byte, v any) error { return decoding.Unmarshal(b, v) }

func writeFrame(w io.Writer, frame []byte) error {
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(frame)))); err != nil {
		return err
	}
	_, err := w.Write(frame)
	return err
}

// readFrame returns io.EOF if there is no further frame. It takes memory for
// what arrives, not for what is announced.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes, want at most %d", n, maxFrame)
	}
	var frame bytes.Buffer
	if _, err := io.CopyN(&frame, r, int64(n)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return frame.Bytes(), nil
}
