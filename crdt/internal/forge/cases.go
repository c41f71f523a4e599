package forge

import (
	"slices"
	"strings"
	"sync"
)

// A Want is what must become of an input.
type Want string

// The fates of inputs.
const (
	Refused  Want = "refused"  // with a reason, stored nowhere
	Held     Want = "held"     // honest, but what it depends on is unknown
	Accepted Want = "accepted" // odd, but honest
	Bounded  Want = "bounded"  // the reader's choice, as long as it costs little
)

// A Case is a kind of hostility, with the inputs that show it.
type Case struct {
	Class string // closed set: what the attack is about
	Name  string // unique
	// Setup are honest changes, in causal order, that must be accepted first.
	Setup [][]byte
	// Inputs are to be tried each alone, after the setup.
	Inputs []Blob
	// Each tells which inputs are meant besides: none, or those that
	// [Case.All] derives.
	Each   Derive
	Want   Want
	Reason Reason
}

// A Derive is a recipe for more inputs.
type Derive string

// The recipes.
const (
	Truncated Derive = "truncated" // the input cut short at every length, itself not
	Flipped   Derive = "flipped"   // the input with every single bit flipped, itself not
)

// A Reason tells broadly which rule an input breaks.
type Reason string

// The reasons.
const (
	BadFraming   Reason = "framing"   // magic, chunk type, length, trailing bytes
	BadChecksum  Reason = "checksum"  // bytes and checksum do not agree
	BadInflate   Reason = "inflate"   // the deflate stream is broken, or too much
	BadField     Reason = "field"     // deps, actor, seq, startOp, time, message, actor table
	BadColumn    Reason = "column"    // columns: which, their order, encoding, row count
	BadOperation Reason = "operation" // what an operation says
	BadHistory   Reason = "history"   // what does not fit the changes before it
	OverLimit    Reason = "limit"     // honest in form, but too much
	BadMessage   Reason = "message"   // a sync message's own form
)

// All returns every input of the case.
func (c *Case) All() [][]byte {
	var out [][]byte
	for _, in := range c.Inputs {
		b := in.Bytes()
		switch c.Each {
		case "":
			out = append(out, b)
		case Truncated:
			for n := range b {
				out = append(out, b[:n:n])
			}
		case Flipped:
			for bit := range len(b) * 8 {
				f := slices.Clone(b)
				f[bit/8] ^= 1 << (bit % 8)
				out = append(out, f)
			}
		}
	}
	return out
}

// Cases returns every hostile and every odd change there is a name for. The
// list is made once and shared: it must not be modified.
var Cases = sync.OnceValue(allCases)

func allCases() []Case {
	l := &caseList{}
	l.framing()
	l.deflate()
	l.fields()
	l.history()
	l.columns()
	l.encodings()
	l.bombs()
	l.operations()
	l.keys()
	l.values()
	l.preds()
	l.odd()
	l.later()
	return l.cases
}

type caseList struct{ cases []Case }

// refuse adds a case of changes that come after the common scene.
func (l *caseList) refuse(reason Reason, class, name string, chunks ...[]byte) {
	l.after(newScene(), reason, class, name, chunks...)
}

func (l *caseList) after(s *scene, reason Reason, class, name string, chunks ...[]byte) {
	c := Case{Class: class, Name: name, Setup: s.setup, Want: Refused, Reason: reason}
	for _, b := range chunks {
		c.Inputs = append(c.Inputs, Blob{Head: b})
	}
	l.cases = append(l.cases, c)
}

func (l *caseList) last() *Case { return &l.cases[len(l.cases)-1] }

// change adds a case whose change means the wrong thing, but is encoded well.
func (l *caseList) change(reason Reason, class, name string, wrong func(s *scene, c *Change)) {
	s := newScene()
	c := s.next()
	wrong(s, c)
	l.after(s, reason, class, name, c.Chunk())
}

// layout adds a case whose change has a wrong part.
func (l *caseList) layout(reason Reason, class, name string, wrong func(l *Layout)) {
	s := newScene()
	lay := s.next().Layout()
	wrong(lay)
	l.after(s, reason, class, name, lay.Chunk())
}

// The actors of the scene: what sorts first did not act first.
var (
	alice = strings.Repeat("\xaa", 16)
	bob   = strings.Repeat("\x0b", 16)
	carol = strings.Repeat("\xca", 16)
)

// A scene is a small document with one of everything, by two actors, and the
// first of them about to make another change.
type scene struct {
	setup   [][]byte
	alice   *Writer
	first   *Change
	second  *Change
	fields  ID // map
	list    ID // list of three
	text    ID // text of three
	price   ID // fields.price, by bob
	counter ID
	items   []ID // of list
	letters []ID // of text
}

func newScene() *scene {
	s := &scene{alice: NewWriter(alice)}
	s.first = s.alice.Change(func(e *Edit) {
		e.At(1_700_000_000, "scene", nil)
		e.Put(Root, "title", Text("scene"))
		s.fields = e.Make(Root, "fields", ActionMakeMap)
		s.list = e.Make(Root, "list", ActionMakeList)
		s.text = e.Make(Root, "text", ActionMakeText)
		s.counter = e.Put(Root, "counter", Counter(1))
		item, letter := Head, Head
		for i := range 3 {
			item = e.Insert(s.list, item, Int(int64(i)))
			s.items = append(s.items, item)
		}
		for _, r := range "abc" {
			letter = e.Insert(s.text, letter, Text(string(r)))
			s.letters = append(s.letters, letter)
		}
	})
	w := NewWriter(bob)
	w.Apply(s.first)
	s.second = w.Change(func(e *Edit) {
		e.At(1_700_000_050, "", nil)
		s.price = e.Put(s.fields, "price", Int(100))
		e.Increment(Root, "counter", 5)
		e.Put(Root, "bob", Text("was here"))
	})
	s.alice.Apply(s.second)
	s.setup = [][]byte{s.first.Chunk(), s.second.Chunk()}
	return s
}

// next is an honest change after the setup that uses every column: operation 0
// puts a map's key over bob's, 1 inserts into the list, 2 sets an element, 3
// and 4 mark the text, 5 puts a new key of the root.
func (s *scene) next() *Change {
	return s.alice.Change(func(e *Edit) {
		e.At(1_700_000_100, "next", nil)
		e.Put(s.fields, "price", Int(110))
		e.Insert(s.list, s.items[1], Text("item"))
		e.Set(s.list, s.items[0], Bytes([]byte{1, 2, 3}))
		e.Mark(s.text, s.letters[0], s.letters[2], "bold", Value{Type: TypeTrue}, true)
		e.Put(Root, "new", Float(1.5))
	})
}

// only is a change of one operation after the setup.
func (s *scene) only(edit func(e *Edit)) *Change { return s.alice.Change(edit) }
