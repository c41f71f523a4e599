package forge

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/automerge/automerge-go"
)

// load gives the engine all changes, and checks that the document that it saves
// can be loaded again.
func load(t *testing.T, changes []*Change) *automerge.Doc {
	t.Helper()
	var all []byte
	for _, c := range changes {
		all = append(all, c.Chunk()...)
	}
	doc, err := automerge.Load(all)
	if err != nil {
		t.Fatalf("the engine refuses an honest history: %v", err)
	}
	again, err := automerge.Load(doc.Save())
	if err != nil {
		t.Fatalf("the engine cannot load what it saved: %v", err)
	}
	got, err := again.Changes()
	if err != nil || len(got) != len(changes) {
		t.Fatalf("%d changes after saving (%v), want %d", len(got), err, len(changes))
	}
	return again
}

func TestHistoryIsHonest(t *testing.T) {
	for seed := range uint64(60) {
		changes := History(rand.New(rand.NewPCG(seed, 1)), 12, 20)
		doc := load(t, changes)
		saved, err := doc.Changes()
		if err != nil {
			t.Fatal(err)
		}
		byHash := map[string]*Change{}
		for _, c := range changes {
			h := c.Hash()
			byHash[automerge.ChangeHash(h).String()] = c
		}
		for _, s := range saved {
			c := byHash[s.Hash().String()]
			if c == nil {
				t.Fatalf("seed %d: the engine has a change %s that was not made", seed, s.Hash())
			}
			if !bytes.Equal(s.Save(), c.Chunk()) && s.Save()[8] == TypeChange {
				t.Errorf("seed %d: engine writes\n% x, forge\n% x", seed, s.Save(), c.Chunk())
			}
		}
	}
}

func TestParseReturnsWhatWasMade(t *testing.T) {
	for seed := range uint64(40) {
		for _, c := range History(rand.New(rand.NewPCG(seed, 2)), 6, 20) {
			back, err := Parse(c.Chunk())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(back.Chunk(), c.Chunk()) {
				t.Fatalf("seed %d: parsed and written again\n% x\nwas\n% x", seed, back.Chunk(), c.Chunk())
			}
			l := c.Layout()
			l.Type = TypeDeflated
			if back, err = Parse(l.Chunk()); err != nil || back.Hash() != c.Hash() {
				t.Fatalf("seed %d: deflated chunk: %v", seed, err)
			}
		}
	}
}

func TestZerosInflate(t *testing.T) {
	for _, n := range []int{1, 2, 257, 258, 259, 517, 1000, 5000, 1 << 20} {
		for _, head := range []string{"", "h", "head"} {
			got, err := io.ReadAll(flate.NewReader(bytes.NewReader(Zeros([]byte(head), n, []byte("tail")))))
			want := append(append([]byte(head), make([]byte, n)...), "tail"...)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d zeros: %v, %d bytes, want %d", n, err, len(got), len(want))
			}
		}
	}
}

func TestBombIsAnHonestChangeWhenSmall(t *testing.T) {
	c := NewWriter("actor").Change(func(e *Edit) { e.Put(Root, "big", Bytes([]byte{0})) })
	load(t, []*Change{c})
	for name, b := range map[string]Blob{"value": ValueBomb(c, 100_000), "extra": ExtraBomb(c, 100_000)} {
		chunk := b.Bytes()
		if len(chunk) > 500 {
			t.Errorf("%s: %d bytes", name, len(chunk))
		}
		doc, err := automerge.Load(chunk)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v, err := doc.RootMap().Get("big"); err != nil || name == "value" && len(v.Bytes()) != 100_000 {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}
