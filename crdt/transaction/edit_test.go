package transaction_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

func begun(t testing.TB) *replica {
	t.Helper()
	r := newReplica("t", 0, "actor")
	r.take(t, transaction.Genesis("t"), host)
	return r
}

func (r *replica) edit(t testing.TB, edit func(*transaction.Edit) error) {
	t.Helper()
	e := r.state.Edit(r.actor, "hanna", time.UnixMilli(1_700_000_000_123))
	if err := edit(e); err != nil {
		t.Fatal(err)
	}
	c, err := e.Change()
	if err != nil {
		t.Fatal(err)
	}
	r.take(t, c, host)
}

// A value comes back as it was given, but for spaces and the order of keys.
func TestPickKeepsValues(t *testing.T) {
	for in, want := range map[string]string{
		"null": "null", "true": "true", ` "a<b>" `: `"a<b>"`, "9223372036854775807": "9223372036854775807",
		"-9223372036854775808": "-9223372036854775808", "18446744073709551615": "18446744073709551615",
		"0.1": "0.1", "1e3": "1000", "1e400": "", "": "", "{": "", "1 2": "", "nul": "",
		`{"b":[1,{"":[]}],"a":"\ud83d\ude00"}`: `{"a":"😀","b":[1,{"":[]}]}`,
	} {
		r := begun(t)
		e := r.state.Edit(r.actor, "hanna", time.UnixMilli(1))
		err := e.Pick("f", json.RawMessage(in), "")
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken for a value", in)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := e.Change()
		if err != nil {
			t.Fatal(err)
		}
		r.take(t, c, host)
		if sel, _ := r.state.Selection("f"); string(sel.Winner().Value) != want {
			t.Errorf("%s comes back as %s", in, sel.Winner().Value)
		}
	}
}

func TestEditsOfOneChange(t *testing.T) {
	r := begun(t)
	r.edit(t, func(e *transaction.Edit) error {
		return errors.Join(e.Pick("a", []byte("1"), ""), e.Pick("b", []byte("2"), "x"), e.Pick("a", []byte("3"), ""))
	})
	sel, _ := r.state.Selection("a")
	if len(sel.Picks) != 1 || string(sel.Winner().Value) != "3" || sel.Winner().At != 1_700_000_000_123 || sel.Winner().By != "hanna" {
		t.Errorf("picked twice: %+v", sel)
	}
	if h := r.state.History(); len(h) != 2 || len(h[0].Superseded)+len(h[1].Superseded) > 0 {
		t.Errorf("two fields were picked, for the first time: %+v", h)
	}
	r.edit(t, func(e *transaction.Edit) error { return errors.Join(e.Pick("c", []byte("1"), ""), e.Withdraw("c")) })
	if h := r.state.History(); len(h) != 2 {
		t.Errorf("a pick that was withdrawn at once is an event: %+v", h)
	}
	r.edit(t, func(e *transaction.Edit) error {
		return errors.Join(e.Withdraw("a"), e.Withdraw("b"), e.Pick("b", []byte("4"), ""))
	})
	if _, ok := r.state.Selection("a"); ok {
		t.Error("a withdrawn pick is there")
	}
	h := r.state.History()
	if len(h) != 4 || h[2].Kind != transaction.Withdrawn || h[3].Kind != transaction.Picked || len(h[3].Superseded) != 1 {
		t.Errorf("history %+v", h)
	}
	e := r.state.Edit(r.actor, "hanna", time.UnixMilli(1))
	if err := e.Withdraw("a"); !errors.Is(err, transaction.ErrNothingPicked) {
		t.Errorf("withdrawn twice: %v", err)
	}
	if _, err := e.Change(); !errors.Is(err, transaction.ErrNothingToDo) {
		t.Errorf("a change of nothing: %v", err)
	}
}

// Setting fields to what they are is no change; only what differs is written.
func TestSetFieldsAgain(t *testing.T) {
	r := begun(t)
	fields := map[string]transaction.Field{
		"a": {Label: "A", Options: map[string]transaction.Option{"x": {Value: []byte(`{"b": 1.50, "a": [2]}`), Source: "s"}}},
		"b": {Label: "B", Required: true},
	}
	set := func(e *transaction.Edit) error { return e.SetFields(fields) }
	r.edit(t, set)
	e := r.state.Edit(r.actor, "hanna", time.UnixMilli(1))
	if err := set(e); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Change(); !errors.Is(err, transaction.ErrNothingToDo) {
		t.Errorf("the same again: %v", err)
	}
	fields["b"] = transaction.Field{Label: "C"}
	r.edit(t, set)
	if h := r.state.History(); len(h) != 3 || h[2].Field != "b" || h[2].Kind != transaction.FieldSet {
		t.Errorf("history %+v", h)
	}
	if f, ok := r.state.Field("b"); !ok || f.Label != "C" || f.Required || len(r.state.Missing()) != 0 {
		t.Errorf("b is %+v", f)
	}
	if f, _ := r.state.Field("a"); string(f.Options["x"].Value) != `{"a":[2],"b":1.5}` {
		t.Errorf("a is %+v", f)
	}
}

// Setting a field that two hosts wrote at once settles it, whatever it is set to.
func TestSetFieldsSettles(t *testing.T) {
	r := begun(t)
	other := newReplica("t", 1, "other actor")
	other.take(t, r.all[0], host)
	field := map[string]transaction.Field{"a": {Label: "A"}}
	for _, one := range []*replica{r, other} {
		one.edit(t, func(e *transaction.Edit) error { return e.SetFields(field) })
	}
	r.take(t, other.all[1], host)
	r.edit(t, func(e *transaction.Edit) error { return e.SetFields(field) })
	r.edit(t, func(e *transaction.Edit) error {
		if e.RemoveField("a") && !e.RemoveField("a") {
			return nil
		}
		return errors.New("a field is there once")
	})
	if _, ok := r.state.Field("a"); ok {
		t.Error("a removed field is there")
	}
}

func TestAsOfUnknownHeads(t *testing.T) {
	r := begun(t)
	if _, err := r.state.AsOf([]crdt.Hash{{1}}); err == nil {
		t.Error("there is a state as of a change that is not there")
	}
	if then, err := r.state.AsOf(nil); err != nil || then.Len() != 0 {
		t.Errorf("as of nothing: %v, %v", then, err)
	}
}

func TestApplyInOrder(t *testing.T) {
	r := begun(t)
	r.edit(t, func(e *transaction.Edit) error { return e.Pick("a", []byte("1"), "") })
	r.edit(t, func(e *transaction.Edit) error { return e.Pick("a", []byte("2"), "") })
	s := transaction.New("t")
	if err := s.Apply(r.all[1]); err == nil {
		t.Error("a change was applied before the genesis")
	}
	for _, c := range []*crdt.Change{r.all[0], r.all[0], r.all[1], r.all[0]} {
		if err := s.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	if s.Len() != 2 {
		t.Errorf("%d changes, want 2", s.Len())
	}
	apart := transaction.New("t")
	if err := errors.Join(apart.Apply(r.all[0])); err != nil {
		t.Fatal(err)
	}
	if err := apart.Apply(r.all[2]); err == nil {
		t.Error("a change was applied before what it depends on")
	}
}

// Two states follow one graph, each as far as it was told; none takes a change before
// its turn, nor one that is another than the graph says.
func TestStatesOfOneGraph(t *testing.T) {
	r := begun(t)
	for _, v := range []string{"1", "2", "3"} {
		r.edit(t, func(e *transaction.Edit) error { return e.Pick("a", []byte(v), "") })
	}
	var chunks [][]byte
	for _, c := range r.all {
		chunks = append(chunks, c.Chunk())
	}
	doc := crdt.NewDocument(crdt.Limits{})
	if err := doc.Load(chunks...); err != nil {
		t.Fatal(err)
	}
	all, some := transaction.Of("t", &doc.Graph), transaction.Of("t", &doc.Graph)
	if err := errors.Join(all.Follow(4), some.Follow(2), some.Follow(1)); err != nil {
		t.Fatal(err)
	}
	winner := func(s *transaction.State) string {
		sel, _ := s.Selection("a")
		return string(sel.Winner().Value)
	}
	if all.Len() != 4 || winner(all) != "3" || some.Len() != 2 || winner(some) != "1" {
		t.Errorf("one has %d changes and %s, the other %d and %s", all.Len(), winner(all), some.Len(), winner(some))
	}
	if some.Has(r.all[2].Hash) || some.EventsOf(r.all[2].Hash) != nil || len(some.History()) != 1 || !slices.Equal(some.Heads(), []crdt.Hash{r.all[1].Hash}) {
		t.Error("it knows of a change that it has not applied")
	}
	if _, err := some.AsOf([]crdt.Hash{r.all[2].Hash}); err == nil {
		t.Error("it is read as of a change that it has not applied")
	}
	if err := some.Apply(r.all[3]); err == nil {
		t.Error("a change was applied before its turn")
	}
	other := begun(t)
	other.edit(t, func(e *transaction.Edit) error { return e.Pick("b", []byte("1"), "") })
	if err := some.Apply(other.all[1]); err == nil {
		t.Error("a change was applied that is not in the graph")
	}
	if err := some.Follow(4); err != nil || winner(some) != "3" {
		t.Errorf("it follows to %s, %v", winner(some), err)
	}

	var mixed crdt.Document // by an index that is not of its chunks
	hashes := []crdt.Hash{r.all[0].Hash, r.all[1].Hash, r.all[2].Hash, r.all[3].Hash}
	if err := mixed.LoadIndexed(doc.AppendIndex(nil), hashes, [][]byte{chunks[0], chunks[1], chunks[1], chunks[3]}); err != nil {
		t.Fatal(err)
	}
	if _, err := transaction.Load("t", &mixed.Graph); err == nil || !strings.Contains(err.Error(), "should be") {
		t.Errorf("a change in the place of another: %v", err)
	}
}

// A transaction of a size that people have fits into one change.
func TestManyFields(t *testing.T) {
	r := begun(t)
	fields := map[string]transaction.Field{}
	for i := range 200 {
		f := transaction.Field{Label: fmt.Sprint("Feld ", i), Required: true, Options: map[string]transaction.Option{}}
		for o := range 10 {
			f.Options[fmt.Sprint("ü", o)] = transaction.Option{Value: []byte(fmt.Sprint(o)), Source: "a.pdf"}
		}
		fields[fmt.Sprint("字", i)] = f
	}
	r.edit(t, func(e *transaction.Edit) error { return e.SetFields(fields) })
	if got := r.state.Fields(); !reflect.DeepEqual(got, fields) || len(r.state.Missing()) != 200 {
		t.Errorf("%d fields, %d missing", len(got), len(r.state.Missing()))
	}
}

// BenchmarkApply applies one pick to transactions of different lengths.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := transaction.New("t")
			apply(s, transaction.Genesis("t"))
			for i := range n {
				pick(s, "alice", fmt.Sprint(i%50), "1")
			}
			changes := make([]*crdt.Change, 0, 1000)
			more, err := s.AsOf(s.Heads())
			if err != nil {
				b.Fatal(err)
			}
			for i := range cap(changes) {
				changes = append(changes, pick(more, "alice", fmt.Sprint(i%50), "1"))
			}
			then := s
			i := math.MaxInt
			for b.Loop() {
				if i >= len(changes) {
					b.StopTimer()
					if then, err = s.AsOf(s.Heads()); err != nil {
						b.Fatal(err)
					}
					i = 0
					b.StartTimer()
				}
				if r := then.Check(changes[i], transaction.Author{User: "alice", Role: transaction.Party}, nobody); r != nil {
					b.Fatal(r)
				}
				apply(then, changes[i])
				i++
			}
		})
	}
}
