package forge

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// A Writer is one actor's replica: it makes honest changes and takes in those
// of others. It knows which operations are live where, which is all that
// predecessors need; it has no idea of a document's value.
type Writer struct {
	Actor   string
	seq     uint64
	maxOp   uint64
	heads   []Hash
	live    map[slot][]liveOp
	objects map[ID]uint64 // action that made it
	elems   map[ID][]ID   // of lists and texts, in order of arrival
}

// A slot is where an operation puts its value: a key of a map, or an element.
type slot struct {
	object ID
	key    string
	elem   ID
}

type liveOp struct {
	id      ID
	counter bool
}

// NewWriter starts an empty replica.
func NewWriter(actor string) *Writer {
	return &Writer{
		Actor: actor, live: map[slot][]liveOp{},
		objects: map[ID]uint64{{}: ActionMakeMap}, elems: map[ID][]ID{},
	}
}

// Change makes one change of what edit does.
func (w *Writer) Change(edit func(e *Edit)) *Change {
	e := &Edit{w: w, c: &Change{
		Deps: slices.Clone(w.heads), Actor: w.Actor, Seq: w.seq + 1, StartOp: w.maxOp + 1,
	}}
	edit(e)
	w.finish(e.c, e.c.Hash())
	return e.c
}

// Apply takes in changes of other writers, in causal order.
func (w *Writer) Apply(cs ...*Change) {
	for _, c := range cs {
		w.apply(c, c.Hash())
	}
}

func (w *Writer) apply(c *Change, hash Hash) {
	for i := range c.Ops {
		w.applyOp(c.OpID(i), &c.Ops[i])
	}
	w.finish(c, hash)
}

func (w *Writer) finish(c *Change, hash Hash) {
	if c.Actor == w.Actor {
		w.seq = c.Seq
	}
	w.maxOp = max(w.maxOp, c.StartOp+uint64(len(c.Ops))-1)
	w.heads = slices.DeleteFunc(w.heads, func(h Hash) bool { return slices.Contains(c.Deps, h) })
	w.heads = append(w.heads, hash)
	slices.SortFunc(w.heads, func(a, b Hash) int { return slices.Compare(a[:], b[:]) })
}

func (o *Op) slot(id ID) slot {
	s := slot{object: o.Object, elem: o.Elem}
	if o.Key != nil {
		s.key = *o.Key
	}
	if o.Insert {
		s.elem = id
	}
	return s
}

func (w *Writer) applyOp(id ID, o *Op) {
	s := o.slot(id)
	if o.Action != ActionIncrement {
		w.live[s] = slices.DeleteFunc(w.live[s], func(l liveOp) bool { return slices.Contains(o.Pred, l.id) })
	}
	switch o.Action {
	case ActionDelete, ActionIncrement:
		return
	case ActionMakeMap, ActionMakeList, ActionMakeText, ActionMakeTable:
		w.objects[id] = o.Action
	}
	if o.Action != ActionMark { // a mark is no value: nothing ever replaces it
		w.live[s] = append(w.live[s], liveOp{id, o.Value.Type == TypeCounter})
	}
	if o.Insert {
		w.elems[o.Object] = append(w.elems[o.Object], id)
	}
}

// An Edit is a change in the making. Its methods return the id of the operation
// they add.
type Edit struct {
	w *Writer
	c *Change
}

// Root is the root map.
var Root ID

// Head is the place before a list's first element.
var Head ID

// Put sets a map's key.
func (e *Edit) Put(object ID, key string, v Value) ID {
	return e.add(Op{Object: object, Key: &key, Action: ActionPut, Value: v})
}

// Make sets a map's key to a new object.
func (e *Edit) Make(object ID, key string, action uint64) ID {
	return e.add(Op{Object: object, Key: &key, Action: action})
}

// Delete takes away what a map's key holds.
func (e *Edit) Delete(object ID, key string) ID {
	return e.add(Op{Object: object, Key: &key, Action: ActionDelete})
}

// Increment adds n to the counters that a map's key holds.
func (e *Edit) Increment(object ID, key string, n int64) ID {
	return e.add(Op{Object: object, Key: &key, Action: ActionIncrement, Value: Int(n)})
}

// Insert puts a new element behind after.
func (e *Edit) Insert(list, after ID, v Value) ID {
	return e.add(Op{Object: list, Elem: after, Insert: true, Action: ActionPut, Value: v})
}

// InsertMake puts a new element that is an object behind after.
func (e *Edit) InsertMake(list, after ID, action uint64) ID {
	return e.add(Op{Object: list, Elem: after, Insert: true, Action: action})
}

// Set replaces the value of an element.
func (e *Edit) Set(list, elem ID, v Value) ID {
	return e.add(Op{Object: list, Elem: elem, Action: ActionPut, Value: v})
}

// Remove deletes an element.
func (e *Edit) Remove(list, elem ID) ID {
	return e.add(Op{Object: list, Elem: elem, Action: ActionDelete})
}

// Mark spans the mark name over what stands between two elements of a text, of
// which from stands before to.
func (e *Edit) Mark(text, from, to ID, name string, v Value, expand bool) {
	e.add(Op{Object: text, Elem: from, Insert: true, Action: ActionMark, Value: v, Mark: &name, Expand: expand})
	e.add(Op{Object: text, Elem: to, Insert: true, Action: ActionMark, Expand: expand})
}

// At sets the change's time, message and extra bytes.
func (e *Edit) At(seconds int64, message string, extra []byte) {
	e.c.Time, e.c.Message, e.c.Extra = seconds, message, extra
}

func (e *Edit) add(o Op) ID {
	id := e.c.OpID(len(e.c.Ops))
	if !o.Insert {
		for _, l := range e.w.live[o.slot(id)] {
			if o.Action != ActionIncrement || l.counter {
				o.Pred = append(o.Pred, l.id)
			}
		}
		slices.SortFunc(o.Pred, ID.compare)
	}
	e.c.Ops = append(e.c.Ops, o)
	e.w.applyOp(id, &o)
	return id
}

// History makes a random honest history: so many changes of up to so many
// operations each, by writers that now and then take in each other's, in an
// order in which a document can accept them. It depends on rng alone.
func History(rng *rand.Rand, changes, ops int) []*Change {
	cs, _ := hashedHistory(rng, changes, ops)
	return cs
}

// hashedHistory is [History] with the changes' hashes.
func hashedHistory(rng *rand.Rand, changes, ops int) (cs []*Change, hashes []Hash) {
	writers := make([]*Writer, 2+rng.IntN(2))
	has := make([][]bool, len(writers)) // which changes each writer has
	for i := range writers {
		writers[i] = NewWriter(fmt.Sprintf("writer-%c-%08x", 'a'+rune(len(writers)-i), rng.Uint32()))
		has[i] = make([]bool, changes)
	}
	for len(cs) < changes {
		i := rng.IntN(len(writers))
		w := writers[i]
		if len(cs) == 1 || rng.IntN(3) == 0 {
			for j, c := range cs {
				if !has[i][j] {
					w.apply(c, hashes[j])
					has[i][j] = true
				}
			}
		}
		has[i][len(cs)] = true
		cs = append(cs, w.Change(func(e *Edit) { e.random(rng, 1+rng.IntN(ops)) }))
		hashes = append(hashes, w.heads[0]) // its own change depends on all others
	}
	return cs, hashes
}

// random adds n operations of all kinds.
func (e *Edit) random(rng *rand.Rand, n int) {
	if rng.IntN(4) == 0 {
		e.At(1_700_000_000+rng.Int64N(1_000_000), "change "+string(rune('a'+rng.IntN(26))), nil)
	}
	for len(e.c.Ops) < n {
		object, action := e.randomObject(rng)
		if action == ActionMakeMap || action == ActionMakeTable {
			e.randomInMap(rng, object)
			continue
		}
		e.randomInList(rng, object, action)
	}
}

func (e *Edit) randomObject(rng *rand.Rand) (ID, uint64) {
	ids := make([]ID, 0, len(e.w.objects))
	for id := range e.w.objects {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ID.compare)
	id := ids[rng.IntN(len(ids))]
	return id, e.w.objects[id]
}

var randomKeys = []string{"a", "b", "counter", "list", "text", "ключ", ""}

func (e *Edit) randomInMap(rng *rand.Rand, object ID) {
	key := randomKeys[rng.IntN(len(randomKeys))]
	live := e.w.live[slot{object: object, key: key}]
	switch pick := rng.IntN(12); {
	case pick < 2 && len(live) > 0:
		e.Delete(object, key)
	case pick < 5 && slices.ContainsFunc(live, func(l liveOp) bool { return l.counter }):
		e.Increment(object, key, rng.Int64N(200)-100)
	case pick < 8:
		e.Make(object, key, []uint64{ActionMakeMap, ActionMakeList, ActionMakeText}[rng.IntN(3)])
	default:
		e.Put(object, key, randomValue(rng))
	}
}

func (e *Edit) randomInList(rng *rand.Rand, list ID, action uint64) {
	elems := e.w.elems[list]
	after := Head
	if len(elems) > 0 && rng.IntN(8) > 0 {
		after = elems[rng.IntN(len(elems))]
	}
	switch pick := rng.IntN(10); {
	case pick < 2 && !after.IsZero() && len(e.w.live[slot{object: list, elem: after}]) > 0:
		e.Remove(list, after)
	case pick < 4 && !after.IsZero() && len(e.w.live[slot{object: list, elem: after}]) > 0:
		e.Set(list, after, randomValue(rng))
	case pick == 4 && action == ActionMakeText && len(elems) > 1:
		e.randomMark(rng, list, after)
	case pick == 5:
		e.InsertMake(list, after, ActionMakeMap)
	case action == ActionMakeText:
		for _, r := range "word"[:1+rng.IntN(4)] {
			after = e.Insert(list, after, Text(string(r)))
		}
	default:
		e.Insert(list, after, randomValue(rng))
	}
}

// randomMark spans a mark over what stands before an element, or over a new one
// behind it: a mark must begin before it ends, and a writer knows no order but that.
func (e *Edit) randomMark(rng *rand.Rand, text, elem ID) {
	from := Head
	if rng.IntN(2) == 0 || elem.IsZero() {
		from, elem = elem, e.Insert(text, elem, Text("m"))
	}
	e.Mark(text, from, elem, "bold", Value{Type: TypeTrue}, rng.IntN(2) == 0)
}

func randomValue(rng *rand.Rand) Value {
	switch rng.IntN(10) {
	case 0:
		return Value{}
	case 1:
		return Value{Type: TypeTrue}
	case 2:
		return Uint(rng.Uint64())
	case 3:
		return Int(rng.Int64() - rng.Int64())
	case 4:
		return Float(rng.NormFloat64())
	case 5:
		return Bytes([]byte{0, 1, byte(rng.IntN(256))})
	case 6, 7:
		return Counter(rng.Int64N(100))
	case 8:
		return Value{TypeTimestamp, Sleb(rng.Int64N(1 << 40))}
	default:
		return Text("value " + string(rune('a'+rng.IntN(26))))
	}
}
