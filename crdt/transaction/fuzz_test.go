package transaction_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"parley/crdt"
	"parley/crdt/internal/forge"
	"parley/crdt/transaction"
)

// program makes a change of bytes: each few of them are an operation, on an
// object of the scene or one just made, at a key that means something there.
type program struct {
	data []byte
	b    *crdt.Builder
	made []crdt.OpID         // objects
	live map[place]crdt.OpID // what stands where
	puts []crdt.OpID         // operations of any place
	last crdt.OpID           // element inserted last
}

type place struct {
	object crdt.OpID
	key    string
}

func (p *program) next(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	v := int(p.data[0]) % n
	p.data = p.data[1:]
	return v
}

func (p *program) run() {
	keys := []string{
		"value", "by", "at", "option", "label", "required", "options", "source", "price", "new", "fields", "selections", "schema", "", "__proto__",
	}
	values := []crdt.Value{
		crdt.Text("alice"), crdt.Text("hanna"), crdt.Int(5), crdt.Null(), crdt.Bool(true), crdt.Float(5), crdt.Timestamp(5),
		crdt.Bytes([]byte("x")), crdt.Uint(1 << 63), crdt.Int(-1), crdt.Float(0.5), crdt.Text(""),
	}
	for len(p.data) > 0 {
		object, key, v := p.made[p.next(len(p.made))], keys[p.next(len(keys))], values[p.next(len(values))]
		kind := p.next(10)
		if kind >= 8 {
			object = selectionsMap
		}
		var pred []crdt.OpID
		if before, ok := p.live[place{object, key}]; ok {
			pred = append(pred, before)
		}
		if p.next(16) == 1 {
			pred = append(pred, p.puts[p.next(len(p.puts))])
		}
		var op crdt.OpID
		switch kind {
		case 0, 1:
			op = p.b.Put(object, key, v, pred...)
		case 2:
			p.b.Delete(object, key, pred...)
			delete(p.live, place{object, key})
			continue
		case 3:
			p.last = p.b.Insert(object, p.last, v)
			continue
		case 8, 9: // a whole pick, which what follows may bend
			op = p.b.Make(selectionsMap, key, crdt.MakeMap, pred...)
			p.b.Put(op, "by", values[kind-8])
			p.b.Put(op, "at", crdt.Int(5))
			value := p.b.Make(op, "value", []crdt.Action{crdt.MakeMap, crdt.MakeText, crdt.MakeList}[p.next(3)])
			p.made = append(p.made, op, value)
		case 4:
			p.last = p.b.InsertObject(object, p.last, crdt.MakeMap)
			p.made = append(p.made, p.last)
			continue
		default:
			op = p.b.Make(object, key, []crdt.Action{crdt.MakeMap, crdt.MakeText, crdt.MakeList}[kind-5], pred...)
			p.made = append(p.made, op)
		}
		p.live[place{object, key}] = op
		p.puts = append(p.puts, op)
	}
}

// FuzzCheck tries changes made of bytes, and changes mutated at random. None
// makes Check or Apply panic. What passes says of a party's picks only what that
// party may say, and is read as the engine reads it.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{2, 9, 0, 0, 5, 9, 0, 0, 0, 0, 9, 1, 0, 0, 0, 9, 2, 2, 0, 0}, uint64(0), false)
	f.Add([]byte{1, 9, 0, 0, 5, 9, 4, 0, 0, 0, 9, 5, 4, 0, 0, 9, 6, 0, 0, 5}, uint64(0), true)
	f.Add([]byte{2, 8, 0, 1, 1, 2, 6, 0, 2, 0, 0}, uint64(7), false)
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, byHost bool) {
		if len(data) > 600 {
			return
		}
		author := alice
		if byHost {
			author = host
		}
		s := newScene(t)
		if c := programmed(s, data, author); c != nil {
			tryChange(t, s, c, author)
		}
		s = newScene(t)
		base := s.all[len(s.all)-1]
		mutant := forge.NewMutator(seed).Chunk(base.Chunk())
		if c, err := crdt.DecodeChange(mutant, crdt.Limits{}); err == nil {
			tryChange(t, s, c, author)
		}
	})
}

// TestCheckMeetsEverything makes sure that changes made of bytes reach what the
// fuzz target is for: most codes, and changes that pass.
func TestCheckMeetsEverything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[crdt.Code]int{}
	for i := range 2_000 {
		author := []transaction.Author{alice, host}[i%2]
		data := make([]byte, 1+rnd.IntN(60))
		for j := range data {
			data[j] = byte(rnd.Uint32())
		}
		s := newScene(t)
		if c := programmed(s, data, author); c != nil && c.NumOps() > 0 {
			seen[tryChange(t, s, c, author)]++
		}
	}
	t.Log(seen)
	for _, code := range []crdt.Code{
		"", transaction.CodePath, transaction.CodePick, transaction.CodePickEdited, transaction.CodeNotHost,
		transaction.CodeField, transaction.CodeFieldEdited, transaction.CodeName, transaction.CodeNotAuthor,
	} {
		if seen[code] == 0 {
			t.Errorf("no change was refused as %q", code)
		}
	}
}

// programmed makes an author's next change of bytes, nil if they make none.
func programmed(s *scene, data []byte, author transaction.Author) *crdt.Change {
	g := &s.gate.Graph
	actor := crdt.ActorID(author.User + "'s actor")
	b := crdt.NewBuilder(crdt.Header{Deps: g.Tips(), Actor: actor, Seq: g.Seq(actor) + 1, StartOp: g.MaxOp() + 1})
	p := program{
		data: data, b: b,
		made: []crdt.OpID{{}, fieldsMap, selectionsMap, s.field, s.label, s.options, s.option, s.source, s.pick, s.by, s.value},
		live: map[place]crdt.OpID{
			{selectionsMap, "price"}: s.pick, {fieldsMap, "price"}: s.field, {s.field, "label"}: s.label, {s.field, "options"}: s.options,
			{s.pick, "by"}: s.by, {s.pick, "value"}: s.value, {s.option, "source"}: s.source,
			{crdt.OpID{}, "fields"}: fieldsMap, {crdt.OpID{}, "selections"}: selectionsMap,
		},
		puts: []crdt.OpID{s.pick, s.field, s.label, s.options, s.option, s.source, s.by, s.value, fieldsMap, selectionsMap},
	}
	p.run()
	c, err := b.Change(crdt.Limits{})
	if err != nil {
		return nil
	}
	return c
}

// tryChange gives a change to a scene, and returns the code with which it was
// refused, "other" if the gate did.
func tryChange(t *testing.T, s *scene, c *crdt.Change, author transaction.Author) crdt.Code {
	t.Helper()
	before := s.state.Fields()
	refusal := s.state.Check(c, author, nobody)
	if refusal != nil && (transaction.Sentence(refusal.Code) == "" || refusal.Change != c.Hash) {
		t.Fatalf("the refusal says %+v", refusal)
	}
	if s.gate.Add(c).Status != crdt.Accepted {
		return "other"
	}
	if err := s.state.Apply(c); err != nil {
		t.Fatal(err)
	}
	s.all = append(s.all, c)
	json := s.state.JSON() // also of what was refused: it must not panic
	s.state.History()
	s.state.Missing()
	if refusal != nil {
		return refusal.Code
	}
	theirs, err := crdt.Materialize(nil, s.chunks())
	if err != nil {
		t.Fatal(err)
	}
	if string(json) != string(theirs) {
		t.Fatalf("we read\n%s, the engine\n%s", json, theirs)
	}
	if author.Role == transaction.Party && !reflect.DeepEqual(s.state.Fields(), before) {
		t.Fatalf("a party made the fields %v", s.state.Fields())
	}
	for _, sel := range s.state.Selections() {
		for _, p := range sel.Picks {
			if p.Change == c.Hash && p.By != author.User {
				t.Fatalf("%s picks in the name of %q", author.User, p.By)
			}
		}
	}
	return ""
}
