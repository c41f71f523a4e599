package transaction_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

var (
	alice = transaction.Author{User: "alice", Role: transaction.Party}
	host  = transaction.Author{User: "hanna", Role: transaction.Host}
)

// Objects of the genesis.
var (
	fieldsMap     = crdt.OpID{Counter: 3, Actor: transaction.GenesisActor}
	selectionsMap = crdt.OpID{Counter: 4, Actor: transaction.GenesisActor}
)

// scene is a transaction with the field "price" by hanna and a pick of it by
// alice, whose values are text objects, as JavaScript makes them.
type scene struct {
	*replica
	field, label, options, option, source crdt.OpID // of hanna's field
	pick, by, value, item                 crdt.OpID // of alice's pick; value is a list
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{replica: newReplica("t", 0, "reader")}
	s.take(t, transaction.Genesis("t"), host)
	s.take(t, s.build(t, "hanna's actor", func(b *crdt.Builder) {
		s.field = b.Make(fieldsMap, "price", crdt.MakeMap)
		s.label = text(b, s.field, "label", "Price")
		b.Put(s.field, "required", crdt.Bool(true))
		s.options = b.Make(s.field, "options", crdt.MakeMap)
		s.option = b.Make(s.options, "a", crdt.MakeMap)
		b.Put(s.option, "value", crdt.Int(100))
		s.source = text(b, s.option, "source", "x.pdf")
	}), host)
	s.take(t, s.build(t, "alice's actor", func(b *crdt.Builder) {
		s.pick = b.Make(selectionsMap, "price", crdt.MakeMap)
		s.by = text(b, s.pick, "by", "alice")
		s.value = b.Make(s.pick, "value", crdt.MakeList)
		s.item = b.Insert(s.value, crdt.OpID{}, crdt.Int(1))
		b.Put(s.pick, "at", crdt.Int(5))
	}), alice)
	return s
}

// text puts a text object.
func text(b *crdt.Builder, object crdt.OpID, key, s string, pred ...crdt.OpID) crdt.OpID {
	made := b.Make(object, key, crdt.MakeText, pred...)
	last := crdt.OpID{}
	for _, r := range s {
		last = b.Insert(made, last, crdt.Text(string(r)))
	}
	return made
}

// build makes an actor's next change on all that the scene holds.
func (s *scene) build(t testing.TB, actor crdt.ActorID, edit func(*crdt.Builder)) *crdt.Change {
	t.Helper()
	g := &s.gate.Graph
	b := crdt.NewBuilder(crdt.Header{Deps: g.Tips(), Actor: actor, Seq: g.Seq(actor) + 1, StartOp: g.MaxOp() + 1})
	edit(b)
	c, err := b.Change(crdt.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put makes a pick of which parts may be bent.
func put(b *crdt.Builder, field string, v crdt.Value, by string) crdt.OpID {
	pick := b.Make(selectionsMap, field, crdt.MakeMap)
	b.Put(pick, "value", v)
	b.Put(pick, "by", crdt.Text(by))
	b.Put(pick, "at", crdt.Int(5))
	return pick
}

func TestRefusals(t *testing.T) {
	type row struct {
		name   string
		author transaction.Author
		code   crdt.Code // "" passes
		edit   func(*scene, *crdt.Builder)
	}
	pickOf := func(edit func(b *crdt.Builder, pick crdt.OpID)) func(*scene, *crdt.Builder) {
		return func(_ *scene, b *crdt.Builder) { edit(b, put(b, "new", crdt.Int(1), "alice")) }
	}
	bare := func(keys ...string) func(*scene, *crdt.Builder) {
		return func(_ *scene, b *crdt.Builder) {
			pick := b.Make(selectionsMap, "new", crdt.MakeMap)
			for _, key := range keys {
				v := map[string]crdt.Value{"by": crdt.Text("alice"), "at": crdt.Int(1)}[key]
				b.Put(pick, key, v)
			}
		}
	}
	at := func(v crdt.Value) func(*scene, *crdt.Builder) {
		return func(_ *scene, b *crdt.Builder) {
			pick := b.Make(selectionsMap, "new", crdt.MakeMap)
			b.Put(pick, "at", v)
			b.Put(pick, "by", crdt.Text("alice"))
			b.Put(pick, "value", crdt.Null())
		}
	}
	named := func(name string) func(*scene, *crdt.Builder) {
		return func(_ *scene, b *crdt.Builder) { put(b, name, crdt.Int(1), "alice") }
	}
	root := crdt.OpID{}
	for _, tt := range []row{
		{"a pick", alice, "", named("new")},
		{"a pick by a host", host, "", func(_ *scene, b *crdt.Builder) { put(b, "new", crdt.Int(1), "hanna") }},
		{"a pick over another", alice, "", func(s *scene, b *crdt.Builder) {
			pick := b.Make(selectionsMap, "price", crdt.MakeMap, s.pick)
			b.Put(pick, "value", crdt.Null())
			text(b, pick, "by", "alice")
			b.Put(pick, "at", crdt.Timestamp(5))
			text(b, pick, "option", "a")
		}},
		{"a withdrawal", alice, "", func(s *scene, b *crdt.Builder) { b.Delete(selectionsMap, "price", s.pick) }},
		{"nothing", alice, "", func(*scene, *crdt.Builder) {}},
		{"a whole float", alice, "", at(crdt.Float(5))},
		{"an unsigned time", alice, "", at(crdt.Uint(5))},
		{"a name at its limit", alice, "", named(strings.Repeat("ü", 128))},
		{"a value at its limit", alice, "", func(_ *scene, b *crdt.Builder) {
			put(b, "new", crdt.Text(strings.Repeat("x", transaction.MaxValueBytes-2)), "alice")
		}},
		{"half a pick, and then a whole one", alice, "", func(_ *scene, b *crdt.Builder) {
			pick := b.Make(selectionsMap, "new", crdt.MakeMap, b.Make(selectionsMap, "new", crdt.MakeMap))
			b.Put(pick, "value", crdt.Null())
			b.Put(pick, "by", crdt.Text("alice"))
			b.Put(pick, "at", crdt.Int(1))
		}},
		{"half a field, and then a whole one", host, "", func(_ *scene, b *crdt.Builder) {
			field := b.Make(fieldsMap, "new", crdt.MakeMap, b.Make(fieldsMap, "new", crdt.MakeMap))
			b.Put(field, "label", crdt.Text(""))
			b.Put(field, "required", crdt.Bool(false))
			b.Make(field, "options", crdt.MakeMap)
		}},
		{"an option of a field", host, "", func(s *scene, b *crdt.Builder) {
			o := b.Make(s.options, "b", crdt.MakeMap)
			b.Put(o, "value", crdt.Float(1))
			b.Put(o, "source", crdt.Text(""))
		}},
		{"another label", host, "", func(s *scene, b *crdt.Builder) { b.Put(s.field, "label", crdt.Text("x"), s.label) }},
		{"an option deleted", host, "", func(s *scene, b *crdt.Builder) { b.Delete(s.options, "a", s.option) }},
		{"a field deleted", host, "", func(s *scene, b *crdt.Builder) { b.Delete(fieldsMap, "price", s.field) }},

		{"a viewer", transaction.Author{User: "alice", Role: transaction.Viewer}, transaction.CodeReadOnly, named("new")},
		{"an auditor", transaction.Author{User: "alice", Role: transaction.Auditor}, transaction.CodeReadOnly, named("new")},
		{"no role", transaction.Author{User: "alice"}, transaction.CodeReadOnly, named("new")},
		{"a key of the root", alice, transaction.CodePath, func(_ *scene, b *crdt.Builder) { b.Put(root, "extra", crdt.Null()) }},
		{"other fields", host, transaction.CodePath, func(_ *scene, b *crdt.Builder) { b.Make(root, "fields", crdt.MakeMap, fieldsMap) }},
		{"no selections", host, transaction.CodePath, func(_ *scene, b *crdt.Builder) { b.Delete(root, "selections", selectionsMap) }},
		{"another's name", alice, transaction.CodeNotAuthor, func(_ *scene, b *crdt.Builder) { put(b, "new", crdt.Int(1), "bob") }},
		{"no name", alice, transaction.CodeNotAuthor, func(_ *scene, b *crdt.Builder) { put(b, "new", crdt.Int(1), "") }},
		{"another's name after one's own", alice, transaction.CodeNotAuthor, pickOf(func(b *crdt.Builder, pick crdt.OpID) {
			next := b.Make(selectionsMap, "new", crdt.MakeMap, pick)
			b.Put(next, "value", crdt.Null())
			text(b, next, "by", "bob")
			b.Put(next, "at", crdt.Int(1))
		})},
		{"a scalar for a pick", alice, transaction.CodePick, func(_ *scene, b *crdt.Builder) { b.Put(selectionsMap, "new", crdt.Int(1)) }},
		{"a list for a pick", alice, transaction.CodePick, func(_ *scene, b *crdt.Builder) { b.Make(selectionsMap, "new", crdt.MakeList) }},
		{"no value", alice, transaction.CodePick, bare("by", "at")},
		{"no by", alice, transaction.CodePick, bare("value", "at")},
		{"no at", alice, transaction.CodePick, bare("value", "by")},
		{"a key too many", alice, transaction.CodePick, pickOf(func(b *crdt.Builder, pick crdt.OpID) { b.Put(pick, "note", crdt.Null()) })},
		{"a number for an option", alice, transaction.CodePick, pickOf(func(b *crdt.Builder, pick crdt.OpID) { b.Put(pick, "option", crdt.Int(1)) })},
		{"a text for a time", alice, transaction.CodePick, at(crdt.Text("5"))},
		{"half a millisecond", alice, transaction.CodePick, at(crdt.Float(5.5))},
		{"before 1970", alice, transaction.CodePick, at(crdt.Int(-1))},
		{"a time out of range", alice, transaction.CodePick, at(crdt.Uint(1 << 63))},
		{"an empty option", alice, transaction.CodeName, pickOf(func(b *crdt.Builder, pick crdt.OpID) { b.Put(pick, "option", crdt.Text("")) })},
		{"no field", alice, transaction.CodeName, named("")},
		{"a name too long", alice, transaction.CodeName, named(strings.Repeat("x", 257))},
		{"__proto__", alice, transaction.CodeName, named("__proto__")},
		{"__proto__ in a value", alice, transaction.CodeName, func(_ *scene, b *crdt.Builder) {
			pick := b.Make(selectionsMap, "new", crdt.MakeMap)
			b.Make(b.Make(pick, "value", crdt.MakeMap), "__proto__", crdt.MakeMap)
		}},
		{"a key of a list", alice, transaction.CodePath, func(_ *scene, b *crdt.Builder) {
			pick := b.Make(selectionsMap, "new", crdt.MakeMap)
			b.Put(b.Make(pick, "value", crdt.MakeList), "key", crdt.Int(1))
		}},
		{"a value too deep", alice, crdt.CodeDepth, func(_ *scene, b *crdt.Builder) {
			object := b.Make(selectionsMap, "new", crdt.MakeMap)
			for range transaction.MaxDepth + 1 {
				object = b.Make(object, "value", crdt.MakeMap)
			}
		}},
		{"a value too large", alice, transaction.CodeSize, func(_ *scene, b *crdt.Builder) {
			put(b, "new", crdt.Text(strings.Repeat("x", transaction.MaxValueBytes)), "alice")
		}},
		{"a pick's value replaced", alice, transaction.CodePickEdited, func(s *scene, b *crdt.Builder) { b.Put(s.pick, "value", crdt.Int(2), s.value) }},
		{"a pick's option added", alice, transaction.CodePickEdited, func(s *scene, b *crdt.Builder) { b.Put(s.pick, "option", crdt.Text("a")) }},
		{"a pick's list edited", alice, transaction.CodePickEdited, func(s *scene, b *crdt.Builder) { b.Insert(s.value, s.item, crdt.Int(2)) }},
		{"a pick's text edited", alice, transaction.CodePickEdited, func(s *scene, b *crdt.Builder) { b.Insert(s.by, crdt.OpID{}, crdt.Text("m")) }},
		{"a field by a party", alice, transaction.CodeNotHost, func(_ *scene, b *crdt.Builder) { b.Make(fieldsMap, "new", crdt.MakeMap) }},
		{"a field deleted by a party", alice, transaction.CodeNotHost, func(s *scene, b *crdt.Builder) { b.Delete(fieldsMap, "price", s.field) }},
		{"an option by a party", alice, transaction.CodeNotHost, func(s *scene, b *crdt.Builder) { b.Make(s.options, "b", crdt.MakeMap) }},
		{"a label by a party", alice, transaction.CodeNotHost, func(s *scene, b *crdt.Builder) { b.Put(s.field, "label", crdt.Text("x"), s.label) }},
		{"an empty field", host, transaction.CodeField, func(_ *scene, b *crdt.Builder) { b.Make(fieldsMap, "new", crdt.MakeMap) }},
		{"an empty option", host, transaction.CodeField, func(s *scene, b *crdt.Builder) { b.Make(s.options, "b", crdt.MakeMap) }},
		{"a scalar for a field", host, transaction.CodeField, func(_ *scene, b *crdt.Builder) { b.Put(fieldsMap, "new", crdt.Int(1)) }},
		{"a number for a label", host, transaction.CodeField, func(s *scene, b *crdt.Builder) { b.Put(s.field, "label", crdt.Int(1), s.label) }},
		{"no label any more", host, transaction.CodeField, func(s *scene, b *crdt.Builder) { b.Delete(s.field, "label", s.label) }},
		{"a key too many in a field", host, transaction.CodeField, func(s *scene, b *crdt.Builder) { b.Put(s.field, "colour", crdt.Int(1)) }},
		{"a key too many in an option", host, transaction.CodeField, func(s *scene, b *crdt.Builder) { b.Put(s.option, "colour", crdt.Int(1)) }},
		{"a label edited", host, transaction.CodeFieldEdited, func(s *scene, b *crdt.Builder) { b.Insert(s.label, crdt.OpID{}, crdt.Text("x")) }},
		{"a source edited", host, transaction.CodeFieldEdited, func(s *scene, b *crdt.Builder) { b.Insert(s.source, crdt.OpID{}, crdt.Text("x")) }},
		{"a label too long", host, transaction.CodeSize, func(s *scene, b *crdt.Builder) {
			b.Put(s.field, "label", crdt.Text(strings.Repeat("x", transaction.MaxTextBytes)), s.label)
		}},
		{"an option without a name", host, transaction.CodeName, func(s *scene, b *crdt.Builder) { b.Make(s.options, "", crdt.MakeMap) }},
		{"too many options", host, transaction.CodeTooMany, func(s *scene, b *crdt.Builder) {
			for i := range transaction.MaxOptions {
				o := b.Make(s.options, fmt.Sprint(i), crdt.MakeMap)
				b.Put(o, "value", crdt.Null())
				b.Put(o, "source", crdt.Text(""))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			actor := crdt.ActorID(tt.author.User + "'s actor")
			c := s.build(t, actor, func(b *crdt.Builder) { tt.edit(s, b) })
			before := string(s.state.JSON())
			checkCode(t, s.state.Check(c, tt.author, nobody), c, tt.code)
			if string(s.state.JSON()) != before {
				t.Error("Check has changed the state")
			}
			if tt.code == "" {
				s.take(t, c, tt.author)
			}
		})
	}
}

func checkCode(t *testing.T, r *crdt.Refusal, c *crdt.Change, want crdt.Code) {
	t.Helper()
	switch {
	case want == "" && r != nil:
		t.Errorf("refused: %s: %v", r.Code, r)
	case want == "":
	case r == nil:
		t.Errorf("it passes, want %s", want)
	case r.Code != want:
		t.Errorf("refused as %s, want %s: %v", r.Code, want, r)
	case r.Change != c.Hash || !strings.HasPrefix(r.Reason, transaction.Sentence(want)) || transaction.Sentence(want) == "":
		t.Errorf("the refusal says %+v", r)
	}
}

func TestActorsBelongToUsers(t *testing.T) {
	s := newScene(t)
	owner := func(a crdt.ActorID) string {
		return map[crdt.ActorID]string{"alice's actor": "alice", "hanna's actor": "hanna"}[a]
	}
	pick := func(user string) func(*crdt.Builder) {
		return func(b *crdt.Builder) { put(b, "new", crdt.Int(1), user) }
	}
	bob := transaction.Author{User: "bob", Role: transaction.Party}
	for _, tt := range []struct {
		actor  crdt.ActorID
		author transaction.Author
		code   crdt.Code
	}{
		{"alice's actor", alice, ""},
		{"a new one", bob, ""},
		{"alice's actor", bob, transaction.CodeForeignActor},
		{transaction.GenesisActor, host, transaction.CodeForeignActor},
	} {
		c := s.build(t, tt.actor, pick(tt.author.User))
		checkCode(t, s.state.Check(c, tt.author, owner), c, tt.code)
	}
}

func TestGenesisComesFirst(t *testing.T) {
	s := transaction.New("t")
	for _, id := range []transaction.ID{"u", "T"} {
		c := transaction.Genesis(id)
		checkCode(t, s.Check(c, host, nobody), c, transaction.CodeGenesis)
		if err := s.Apply(c); err == nil {
			t.Errorf("the genesis of %s was applied to t", id)
		}
	}
	if _, err := s.Edit("a", "alice", time.UnixMilli(1)).Change(); !errors.Is(err, transaction.ErrNoGenesis) {
		t.Errorf("an edit of nothing: %v", err)
	}
	if s.JSON() == nil || len(s.Selections()) > 0 || len(s.Missing()) > 0 || len(s.Fields()) > 0 {
		t.Error("an empty transaction holds something")
	}
	first := transaction.Genesis("t")
	viewer := transaction.Author{User: "v", Role: transaction.Viewer}
	checkCode(t, s.Check(first, viewer, nobody), first, "")
	if err := s.Apply(first); err != nil {
		t.Fatal(err)
	}
	checkCode(t, s.Check(first, viewer, nobody), first, "")
	second := transaction.Genesis("u")
	checkCode(t, s.Check(second, host, nobody), second, transaction.CodeGenesis)
}

func TestTooManyFields(t *testing.T) {
	s := newReplica("t", 0, "a")
	s.take(t, transaction.Genesis("t"), host)
	for full := false; !full; {
		e := s.state.Edit("a", "hanna", time.UnixMilli(1))
		for i := range 1000 {
			if err := e.Pick(fmt.Sprint(s.state.Len(), " ", i), json.RawMessage("1"), ""); err != nil {
				t.Fatal(err)
			}
		}
		full = len(s.state.Selections()) == transaction.MaxFields
		c, err := e.Change()
		if !full {
			s.take(t, c, host)
			continue
		}
		if r := new(crdt.Refusal); !errors.As(err, &r) || r.Code != transaction.CodeTooMany {
			t.Errorf("%d picks and 1000 more: %v", transaction.MaxFields, err)
		}
	}
}

// TestTooManyFieldsInAnotherOrder: what was accepted somewhere counts everywhere,
// though there it comes before the withdrawal that made room for it.
func TestTooManyFieldsInAnotherOrder(t *testing.T) {
	s, other := newReplica("t", 0, "a"), newReplica("t", 0, "b")
	both := func(c *crdt.Change) {
		s.take(t, c, host)
		other.take(t, c, host)
	}
	both(transaction.Genesis("t"))
	edit := func(actor crdt.ActorID, do func(e *transaction.Edit) error) *crdt.Change {
		t.Helper()
		e := s.state.Edit(actor, "hanna", time.UnixMilli(1))
		if err := do(e); err != nil {
			t.Fatal(err)
		}
		c, err := e.Change()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	fill := func(n int) *crdt.Change {
		return edit("a", func(e *transaction.Edit) (err error) {
			for i := range n {
				err = errors.Join(err, e.Pick(fmt.Sprint(s.state.Len(), " ", i), json.RawMessage("1"), ""))
			}
			return err
		})
	}
	for range transaction.MaxFields/1000 - 1 {
		both(fill(1000))
	}
	both(fill(999))
	last := edit("b", func(e *transaction.Edit) error { return e.Pick("the last", json.RawMessage("1"), "") })
	beside := edit("a", func(e *transaction.Edit) error { return e.Pick("beside", json.RawMessage("1"), "") })
	s.take(t, last, host)
	other.take(t, last, host)
	room := edit("b", func(e *transaction.Edit) error { return e.Withdraw("the last") })
	s.take(t, room, host)
	s.take(t, beside, host)

	if r := other.state.Check(beside, host, nobody); r == nil || r.Code != transaction.CodeTooMany {
		t.Errorf("one too many: %v", r)
	}
	for _, c := range []*crdt.Change{beside, room} {
		if err := other.state.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := string(other.state.JSON()), string(s.state.JSON()); got != want {
		t.Error("the order of the changes makes a difference")
	}
	if n := len(s.state.Selections()); n != transaction.MaxFields {
		t.Errorf("%d picks", n)
	}
}
