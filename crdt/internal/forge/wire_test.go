package forge_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/crdt/internal/forge"
	"parley/sync/wire"
)

// frameBases are what frames are mutated from: of every type, and two with sync
// messages that have everything in them.
var frameBases = append(forge.Frames(),
	forge.FrameOf("sync", messageBases[0]), forge.FrameOf("request", messageBases[1]), forge.FrameOf("sync", messageBases[3]),
)

// FuzzFrameProgram mutates an honest frame by a program. Nothing panics, what is
// refused is refused with a reason, and what is read is what another reader
// reads.
func FuzzFrameProgram(f *testing.F) {
	addPrograms(f, len(frameBases))
	f.Fuzz(func(t *testing.T, base byte, program []byte) {
		if len(program) > maxProgram {
			return
		}
		checkFrame(t, forge.NewProgram(program).Frame(frameBases[int(base)%len(frameBases)]))
	})
}

// TestMutatedFrames is FuzzFrameProgram with so many mutants, the same each time.
func TestMutatedFrames(t *testing.T) {
	read, refused := 0, map[wire.Kind]int{}
	for seed := range uint64(10_000) {
		err := checkFrame(t, forge.NewMutator(seed).Frame(frameBases[seed%uint64(len(frameBases))]))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if err == nil {
			read++
			continue
		}
		refused[err.Kind]++
	}
	t.Logf("%d were read, refused %v", read, refused)
	for kind := wire.KindEncoding; kind <= wire.KindDocument; kind++ {
		if read < 500 || refused[kind] < 50 {
			t.Errorf("%d frames were read and %d refused as %s: too few", read, refused[kind], kind)
		}
	}
}

// readAll reads whatever is CBOR, for comparison.
var readAll = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxNestedLevels: 64, DupMapKey: cbor.DupMapKeyEnforcedAPF, UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// checkFrame decodes a frame and checks what it can of the answer, which is nil
// or why the frame was refused.
func checkFrame(t *testing.T, frame []byte) *wire.Error {
	t.Helper()
	before := bytes.Clone(frame)
	m, err := wire.Decode(frame, wire.Limits{})
	if !bytes.Equal(frame, before) {
		t.Errorf("% x was changed", before)
	}
	if err != nil {
		refused, ok := err.(*wire.Error)
		if !ok || refused.Reason == "" || m != nil {
			t.Fatalf("% x: message %v, error %#v", frame, m, err)
		}
		return refused
	}
	var other map[string]cbor.RawMessage
	err = readAll.Unmarshal(frame, &other)
	if err != nil && strings.Contains(err.Error(), "tag number") {
		return nil // it looks into tags of fields that nobody reads
	}
	if err != nil {
		t.Errorf("% x is read as %+v, but by another reader: %v", frame, m, err)
	}
	checkFields(t, m, other)
	if _, unknown := m.(*wire.Unknown); !unknown {
		again, err := wire.Decode(wire.Append(nil, m), wire.Limits{})
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("% x is read as %+v, written and read as %+v: %v", frame, m, again, err)
		}
	}
	return nil
}

// checkFields compares what a frame was read as with what another reader found
// in it.
func checkFields(t *testing.T, m wire.Message, other map[string]cbor.RawMessage) {
	t.Helper()
	found := func(name string) (value any) {
		if raw, ok := other[name]; ok {
			if err := readAll.Unmarshal(raw, &value); err != nil {
				t.Errorf("%s of %s: %v", name, m.Type(), err)
			}
		}
		return value
	}
	want := func(name string, got any) {
		value := found(name)
		if value == nil {
			value = ""
		}
		if tag, ok := value.(cbor.Tag); ok && tag.Number == 64 {
			value = tag.Content
		}
		if id, ok := value.([]byte); ok && name == "documentId" {
			value = crdt.DocumentID(id).String()
		}
		if !reflect.DeepEqual(got, value) {
			t.Errorf("%s: %s is %v, another reader found %v", m.Type(), name, got, value)
		}
	}
	want("type", string(m.Type()))
	content := func(sender, target wire.PeerID, id crdt.DocumentID) {
		want("senderId", string(sender))
		want("targetId", string(target))
		want("documentId", id.String())
	}
	switch m := m.(type) {
	case *wire.Sync:
		content(m.SenderID, m.TargetID, m.DocumentID)
		want("data", m.Data)
	case *wire.Request:
		content(m.SenderID, m.TargetID, m.DocumentID)
		want("data", m.Data)
	case *wire.Ephemeral:
		content(m.SenderID, m.TargetID, m.DocumentID)
		want("data", m.Data)
		want("sessionId", string(m.SessionID))
		if n, ok := asFloat(found("count")); !ok || n != float64(m.Count) {
			t.Errorf("count is %d, another reader found %v", m.Count, found("count"))
		}
	case *wire.DocUnavailable:
		content(m.SenderID, m.TargetID, m.DocumentID)
	case *wire.RemoteHeadsChanged:
		content(m.SenderID, m.TargetID, m.DocumentID)
		if heads, ok := found("newHeads").(map[any]any); !ok || len(heads) != len(m.NewHeads) {
			t.Errorf("%d stores have heads, another reader found %v", len(m.NewHeads), found("newHeads"))
		}
	case *wire.Join:
		want("senderId", string(m.SenderID))
	case *wire.Leave:
		want("senderId", string(m.SenderID))
	}
}

func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case uint64:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, v == math.Trunc(v)
	}
	return 0, false
}
