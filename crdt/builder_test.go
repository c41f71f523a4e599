package crdt

import (
	"math"
	"slices"
	"testing"
)

// builtHeader is that of an actor's first change in a new document.
func builtHeader() Header {
	return Header{Actor: "builder", Seq: 1, StartOp: 1, Time: 7, Message: "built"}
}

func TestBuilderMakesEveryValue(t *testing.T) {
	b := NewBuilder(builtHeader())
	root := OpID{}
	for key, v := range map[string]Value{
		"null": Null(), "true": Bool(true), "false": Bool(false), "int": Int(math.MinInt64), "uint": Uint(math.MaxUint64),
		"float": Float(-0.5), "text": Text("ü"), "bytes": Bytes([]byte{0xff}), "time": Timestamp(-1),
	} {
		b.Put(root, key, v)
	}
	list := b.Make(root, "list", MakeList)
	last := b.Insert(list, OpID{}, Int(1))
	inner := b.InsertObject(list, last, MakeMap)
	b.Put(inner, "x", Int(3))
	b.Insert(list, OpID{}, Int(0))
	text := b.Make(root, "word", MakeText)
	b.Insert(text, b.Insert(text, OpID{}, Text("a")), Text("b"))
	b.Delete(root, "gone", b.Put(root, "gone", Null()))
	c, err := b.Change(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if c.NumOps() != b.Len() || c.Time != 7 || c.Message != "built" {
		t.Errorf("built %+v", c)
	}
	json, err := Materialize(nil, [][]byte{c.Chunk()})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"bytes":"/w==","false":false,"float":-0.5,"int":-9223372036854775808,"list":[0,1,{"x":3}],"null":null,` +
		`"text":"ü","time":"1969-12-31T23:59:59.999Z","true":true,"uint":18446744073709551615,"word":"ab"}`
	if string(json) != want {
		t.Errorf("the engine reads\n%s, want\n%s", json, want)
	}
}

// Actors are numbered by their bytes, and predecessors ordered by counter and
// then actor, in whatever order the caller names them.
func TestBuilderOrdersReferences(t *testing.T) {
	ids := []OpID{{Counter: 2, Actor: "a"}, {Counter: 1, Actor: "c"}, {Counter: 2, Actor: "z"}, {Counter: 2, Actor: "builder"}}
	h := builtHeader()
	h.StartOp, h.Seq = 3, 2
	b := NewBuilder(h)
	b.Put(OpID{}, "k", Int(1), ids...)
	c, err := b.Change(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []ActorID{"builder", "a", "c", "z"}; !slices.Equal(c.Actors, want) {
		t.Errorf("actors %q, want %q", c.Actors, want)
	}
	var got []OpID
	for _, p := range c.Ops[0].Pred {
		got = append(got, c.ID(p))
	}
	if want := []OpID{ids[1], ids[0], ids[3], ids[2]}; !slices.Equal(got, want) {
		t.Errorf("predecessors %v, want %v", got, want)
	}
}

func TestBuilderRefuses(t *testing.T) {
	b := NewBuilder(builtHeader())
	b.Delete(OpID{}, "k")
	if _, err := b.Change(Limits{}); err == nil || err.(*Refusal).Code != CodePreds {
		t.Errorf("a delete of nothing: %v", err)
	}
}
