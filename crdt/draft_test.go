package crdt

import (
	"slices"
	"testing"

	"parley/crdt/internal/columnar"
	"parley/crdt/internal/forge"
)

// draft is a change in the making: tests bend it and then encode it. Its
// checksum is always right.
type draft struct {
	deps    []Hash
	actor   ActorID
	seq     uint64
	startOp uint64
	time    int64
	message string
	others  []ActorID
	cols    [numColumns][]byte
	extra   []byte
}

// newDraft encodes a change's parts as Automerge does.
func newDraft(c *Change) *draft {
	return &draft{
		deps: slices.Clone(c.Deps), actor: c.Actor, seq: c.Seq, startOp: c.StartOp, time: c.Time,
		message: c.Message, others: slices.Clone(c.Actors[1:]), cols: encodeOps(c.Ops), extra: c.Extra,
	}
}

func (d *draft) body() []byte {
	h := Header{Deps: d.deps, Actor: d.actor, Seq: d.seq, StartOp: d.startOp, Time: d.time, Message: d.message}
	return append(appendBody(nil, h, d.others, d.cols), d.extra...)
}

func (d *draft) chunk() []byte { return frame(typeChange, d.body()) }

// decode encodes and decodes a draft that must pass.
func (d *draft) decode(t testing.TB) *Change {
	t.Helper()
	c, err := DecodeChange(d.chunk(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// frame makes a chunk of a body.
func frame(kind byte, body []byte) []byte {
	chunk := chunkOf(body)
	if kind != typeDeflated {
		chunk[chunkTypeAt] = kind
		return chunk
	}
	deflated := forge.Deflate(body)
	head := columnar.AppendUint(append(chunk[:chunkTypeAt:chunkTypeAt], typeDeflated), uint64(len(deflated)))
	return append(head, deflated...)
}

// checkRoundTrip checks that a change, encoded again, is the same bytes.
func checkRoundTrip(t testing.TB, c *Change) {
	t.Helper()
	d := decoder{lim: Limits{}.withDefaults()}
	body, r := d.open(&Change{}, c.Chunk())
	if r != nil {
		t.Fatal(r)
	}
	if again := newDraft(c).body(); string(again) != body {
		t.Fatalf("change %s, encoded again, differs:\n%x\n%x", c.Hash, body, again)
	}
}
