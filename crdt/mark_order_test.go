package crdt_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"parley/crdt"
	"parley/crdt/internal/forge"
)

// text is a text that several wrote at once, in stretches and in single
// characters.
type text struct {
	writers []*forge.Writer
	changes []*forge.Change
	has     [][]bool // which changes each writer has
	object  forge.ID
	chars   []forge.ID
}

func newText(rng *rand.Rand) *text {
	x := &text{}
	for _, actor := range []string{"writer b", "writer a", "writer c"} {
		x.writers, x.has = append(x.writers, forge.NewWriter(actor)), append(x.has, nil)
	}
	x.change(0, func(e *forge.Edit) { x.object = e.Make(forge.Root, "text", forge.ActionMakeText) })
	x.sync(1)
	x.sync(2)
	for range 12 {
		w := rng.IntN(len(x.writers))
		if rng.IntN(3) == 0 {
			x.sync(w)
		}
		x.change(w, func(e *forge.Edit) {
			at := x.anyChar(rng, w)
			for range 1 + rng.IntN(5) {
				next := e.Insert(x.object, at, forge.Text("x"))
				x.chars = append(x.chars, next)
				if rng.IntN(4) > 0 {
					at = next
				}
			}
		})
	}
	return x
}

func (x *text) change(w int, edit func(*forge.Edit)) *forge.Change {
	c := x.writers[w].Change(edit)
	x.changes = append(x.changes, c)
	for len(x.has[w]) < len(x.changes)-1 {
		x.has[w] = append(x.has[w], false)
	}
	x.has[w] = append(x.has[w], true)
	return c
}

func (x *text) sync(w int) {
	for i, c := range x.changes {
		if i >= len(x.has[w]) || !x.has[w][i] {
			x.writers[w].Apply(c)
		}
	}
	x.has[w] = slices.Repeat([]bool{true}, len(x.changes))
}

// anyChar is a character that a writer knows, or the head.
func (x *text) anyChar(rng *rand.Rand, w int) forge.ID {
	var known []forge.ID
	for i, c := range x.changes {
		for j, o := range c.Ops {
			if o.Insert && i < len(x.has[w]) && x.has[w][i] {
				known = append(known, c.OpID(j))
			}
		}
	}
	return append(known, forge.Head)[rng.IntN(len(known)+1)]
}

// TestMarksBeginBeforeTheyEnd puts marks between any two characters of a text. The
// gate takes those of which the beginning stands before the end, and no others,
// with tables that have grown and with new ones.
func TestMarksBeginBeforeTheyEnd(t *testing.T) {
	taken, refused := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		x := newText(rng)
		var setup [][]byte
		for _, c := range x.changes {
			setup = append(setup, c.Chunk())
		}
		d := setUp(t, setup)
		for range 30 {
			marked := *x
			w := forge.NewWriter("marker")
			w.Apply(x.changes...)
			c := w.Change(func(e *forge.Edit) {
				all := append(slices.Clone(x.chars), forge.Head)
				if rng.IntN(2) == 0 { // and some of its own
					for range 3 {
						all = append(all, e.Insert(x.object, all[rng.IntN(len(all))], forge.Text("y")))
					}
				}
				e.Mark(x.object, all[rng.IntN(len(all))], all[rng.IntN(len(all))], "bold", forge.Value{Type: forge.TypeTrue}, false)
			})
			marked.changes = append(slices.Clone(x.changes), c)
			want := beginsFirst(t, marked.changes, x.object)
			if rng.IntN(4) == 0 {
				d.DropTables()
			}
			o := give(d, c.Chunk())
			if got := o.Status == crdt.Accepted; got != want {
				t.Fatalf("seed %d: status %d (%v), but that it begins before it ends is %v", seed, o.Status, o.Refusal, want)
			}
			if o.Status == crdt.Accepted {
				taken++
				d = setUp(t, setup)
			} else {
				refused++
			}
		}
	}
	if taken < 200 || refused < 200 {
		t.Errorf("%d marks were taken and %d refused: too few", taken, refused)
	}
}

// beginsFirst says whether the mark of the last change begins before it ends.
func beginsFirst(t *testing.T, changes []*forge.Change, object forge.ID) bool {
	t.Helper()
	var cs []*crdt.Change
	for _, c := range changes {
		change, err := crdt.DecodeChange(c.Chunk(), crdt.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, change)
	}
	last := cs[len(cs)-1]
	order := newNaive(cs).order(crdt.OpID{Counter: object.Counter, Actor: crdt.ActorID(object.Actor)})
	begin, end := last.ID(last.OpRef(len(last.Ops)-2)), last.ID(last.OpRef(len(last.Ops)-1))
	return slices.Index(order, begin) < slices.Index(order, end)
}

// TestManyMarksAreBounded: a change whose marks would take long to put in order is
// refused, and quickly.
func TestManyMarksAreBounded(t *testing.T) {
	a, b := forge.NewWriter("writer a"), forge.NewWriter("writer b")
	d := crdt.NewDocument(crdt.Limits{})
	add := func(c *forge.Change) crdt.Outcome { return give(d, c.Chunk()) }
	var object, at forge.ID
	first := a.Change(func(e *forge.Edit) { object = e.Make(forge.Root, "text", forge.ActionMakeText) })
	b.Apply(first)
	add(first)
	long := a.Change(func(e *forge.Edit) {
		for range 5000 { // each a stretch of its own
			at = e.Insert(object, at, forge.Text("x"))
			e.Insert(object, forge.Head, forge.Text("y"))
		}
	})
	b.Apply(long)
	if o := add(long); o.Status != crdt.Accepted {
		t.Fatalf("%+v", o)
	}
	marks := b.Change(func(e *forge.Edit) {
		for range 1000 {
			e.Mark(object, forge.Head, at, "bold", forge.Value{Type: forge.TypeTrue}, false)
		}
	})
	if o := add(marks); o.Status != crdt.Refused || o.Refusal.Code != crdt.CodeMark {
		t.Errorf("%+v", o)
	}
}
