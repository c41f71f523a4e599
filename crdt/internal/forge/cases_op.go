package forge

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

func ptr(s string) *string { return &s }

// op adds a case whose change has one wrong operation: what edit makes of
// operation 0 of the scene's next change (fields.price over bob's), alone.
func (l *caseList) op(class, name string, wrong func(s *scene, o *Op)) {
	l.change(BadOperation, class, name, func(s *scene, c *Change) {
		c.Ops = c.Ops[:1]
		wrong(s, &c.Ops[0])
	})
}

// operations breaks actions and objects.
func (l *caseList) operations() {
	const action = "unknown action"
	for _, n := range append([]uint64{8, 9, 127, 255}, huge...) {
		l.op(action, "action "+decimalU(n), func(_ *scene, o *Op) { o.Action = n })
	}
	l.layout(BadOperation, action, "null action", func(l *Layout) {
		editRows(l, ColAction, func(rows [][]byte) { rows[0] = nil })
	})

	const object = "unknown object"
	for name, id := range map[string]ID{
		"of a known actor":          {9000, alice},
		"of an unknown actor":       {2, carol},
		"that is a value":           {1, alice},
		"that is the operation":     {20, alice},
		"made later in the change":  {21, alice},
		"beyond 32 bits":            {1 << 32, alice},
		"at the last counter":       {math.MaxUint64, alice},
		"that is a list element":    {6, alice},
		"with counter zero":         {0, alice},
		"of another actor's change": {2, bob},
	} {
		l.change(BadOperation, object, "object "+name, func(_ *scene, c *Change) {
			c.Ops = c.Ops[:1]
			c.Ops[0] = Op{Object: id, Key: ptr("k"), Action: ActionPut, Value: Int(1)}
			c.Ops = append(c.Ops, Op{Key: ptr("m"), Action: ActionMakeMap})
			if id.Counter == 20 || id.Counter == 21 {
				c.Ops[0].Object.Counter += c.StartOp - 20
			}
		})
	}
	sortTail(l, 10)
	l.layout(BadOperation, object, "object without counter", func(l *Layout) {
		editRows(l, ColObjectCounter, func(rows [][]byte) { rows[0] = nil })
	})
	l.layout(BadOperation, object, "object without actor", func(l *Layout) {
		editRows(l, ColObjectActor, func(rows [][]byte) { rows[0] = nil })
	})
	l.layout(BadOperation, object, "root with counter zero", func(l *Layout) {
		editRows(l, ColObjectCounter, func(rows [][]byte) { rows[5] = Uleb(0) })
		editRows(l, ColObjectActor, func(rows [][]byte) { rows[5] = Uleb(0) })
	})
}

// keys breaks what an operation is about.
func (l *caseList) keys() {
	const class = "wrong kind of key"
	l.op(class, "element of a map", func(s *scene, o *Op) { o.Key, o.Elem, o.Pred = nil, s.items[0], nil })
	l.op(class, "head of a map", func(_ *scene, o *Op) { o.Key, o.Pred = nil, nil })
	l.op(class, "insert at the head of a map", func(_ *scene, o *Op) { o.Key, o.Pred, o.Insert = nil, nil, true })
	l.op(class, "insert into a map by key", func(_ *scene, o *Op) { o.Pred, o.Insert = nil, true })
	l.op(class, "key of a list", func(s *scene, o *Op) { *o = Op{Object: s.list, Key: ptr("k"), Action: ActionPut, Value: Int(1)} })
	l.op(class, "key of a text", func(s *scene, o *Op) { *o = Op{Object: s.text, Key: ptr("k"), Action: ActionPut, Value: Int(1)} })
	l.op(class, "insert into a list by key", func(s *scene, o *Op) {
		*o = Op{Object: s.list, Key: ptr("k"), Insert: true, Action: ActionPut, Value: Int(1)}
	})
	l.op(class, "key that is not UTF-8", func(_ *scene, o *Op) { o.Key, o.Pred = ptr("\xff\xfe"), nil })
	l.op(class, "key with a surrogate", func(_ *scene, o *Op) { o.Key, o.Pred = ptr("\xed\xb0\x80"), nil })
	l.op(class, "set at the head of a list", func(s *scene, o *Op) { *o = Op{Object: s.list, Action: ActionPut, Value: Int(1)} })
	l.op(class, "delete at the head of a list", func(s *scene, o *Op) {
		*o = Op{Object: s.list, Action: ActionDelete, Pred: []ID{s.items[0]}}
	})
	l.layout(BadOperation, class, "no key", func(l *Layout) { editRows(l, ColKeyText, func(rows [][]byte) { rows[0] = nil }) })
	l.layout(BadOperation, class, "key and element", func(l *Layout) {
		editRows(l, ColKeyText, func(rows [][]byte) { rows[1] = Sized([]byte("k")) })
	})
	l.layout(BadOperation, class, "element without counter", func(l *Layout) { editRows(l, ColKeyCounter, func(rows [][]byte) { rows[1] = nil }) })
	l.layout(BadOperation, class, "element without actor", func(l *Layout) { editRows(l, ColKeyActor, func(rows [][]byte) { rows[1] = nil }) })

	const elem = "unknown element"
	for name, id := range map[string]ID{
		"that nobody made":          {9000, alice},
		"of an unknown actor":       {6, carol},
		"of another list":           {11, alice},
		"that is a map's value":     {1, alice},
		"that is the list":          {3, alice},
		"that is the operation":     {0, alice}, // counter set below
		"that replaced an element":  {0, alice},
		"beyond 32 bits":            {1 << 32, alice},
		"with counter zero":         {0, alice},
		"at the last counter of 63": {math.MaxInt64, alice},
	} {
		l.change(BadOperation, elem, "insert after element "+name, func(s *scene, c *Change) {
			set := Op{Object: s.list, Elem: s.items[0], Action: ActionPut, Value: Int(2), Pred: []ID{s.items[0]}}
			insert := Op{Object: s.list, Elem: id, Insert: true, Action: ActionPut, Value: Int(3)}
			switch name {
			case "that is the operation":
				insert.Elem.Counter = c.StartOp + 1
			case "that replaced an element":
				insert.Elem.Counter = c.StartOp
			}
			c.Ops = []Op{set, insert}
		})
	}
	sortTail(l, 10)
	l.layout(BadOperation, elem, "element with a negative counter", func(l *Layout) {
		editRows(l, ColKeyCounter, func(rows [][]byte) { rows[firstValue(rows)] = Sleb(-1) })
	})
	l.layout(BadOperation, elem, "element counters that overflow", func(l *Layout) {
		editRows(l, ColKeyCounter, func(rows [][]byte) {
			i := firstValue(rows)
			rows[i], rows[i+1] = Sleb(math.MaxInt64), Sleb(math.MaxInt64)
		})
	})

	const mark = "mark"
	name, other := ptr("bold"), ptr("k")
	l.op(mark, "mark in a map", func(_ *scene, o *Op) { *o = Op{Key: other, Action: ActionMark, Mark: name, Value: Int(1)} })
	l.op(mark, "mark that is not inserted", func(s *scene, o *Op) {
		*o = Op{Object: s.text, Elem: s.letters[0], Action: ActionMark, Mark: name, Value: Int(1)}
	})
	l.op(mark, "mark's end with a value", func(s *scene, o *Op) {
		*o = Op{Object: s.text, Elem: s.letters[0], Insert: true, Action: ActionMark, Value: Int(1)}
	})
	l.op(mark, "mark name on a put", func(_ *scene, o *Op) { o.Mark = name })
	l.op(mark, "mark name on an insert", func(s *scene, o *Op) {
		*o = Op{Object: s.text, Elem: s.letters[0], Insert: true, Action: ActionPut, Value: Text("x"), Mark: name}
	})
	l.op(mark, "expand on a put", func(_ *scene, o *Op) { o.Expand = true })
	l.op(mark, "mark name that is not UTF-8", func(s *scene, o *Op) {
		*o = Op{Object: s.text, Elem: s.letters[0], Insert: true, Action: ActionMark, Mark: ptr("\xff"), Value: Int(1)}
	})
	for what, action := range map[string]uint64{"deleted": ActionDelete, "replaced": ActionPut} {
		l.change(BadOperation, mark, "mark "+what, func(s *scene, c *Change) {
			begin := c.OpID(0)
			c.Ops = []Op{
				{Object: s.text, Elem: s.letters[0], Insert: true, Action: ActionMark, Mark: name, Value: Int(1)},
				{Object: s.text, Elem: begin, Action: action, Pred: []ID{begin}},
			}
		})
	}
	sortTail(l, 2)
}

// values breaks values and their fit to actions.
func (l *caseList) values() {
	const class = "value"
	bad := func(name string, v Value) { l.op(class, name, func(_ *scene, o *Op) { o.Value = v }) }
	for typ := TypeTimestamp + 1; typ < 16; typ++ {
		bad(fmt.Sprintf("unknown type %d", typ), Value{typ, []byte{1}})
	}
	bad("null with bytes", Value{TypeNull, []byte{0}})
	bad("false with bytes", Value{TypeFalse, []byte{0}})
	bad("true with bytes", Value{TypeTrue, []byte{1}})
	bad("float of 4 bytes", Value{TypeFloat, make([]byte, 4)})
	bad("float of 9 bytes", Value{TypeFloat, make([]byte, 9)})
	bad("float of no bytes", Value{TypeFloat, nil})
	bad("string that is not UTF-8", Text("\xc3\x28"))
	bad("string with a surrogate", Text("\xed\xa0\x80"))
	for name, typ := range map[string]byte{"int": TypeInt, "uint": TypeUint, "counter": TypeCounter, "timestamp": TypeTimestamp} {
		bad(name+" overlong", Value{typ, []byte{0x85, 0x00}})
		bad(name+" unfinished", Value{typ, []byte{0x85}})
		bad(name+" of no bytes", Value{typ, nil})
		bad(name+" with a byte behind", Value{typ, []byte{5, 0}})
		bad(name+" of 77 bits", Value{typ, tooLong})
	}
	sortTail(l, 20)
	for _, n := range huge[:5] {
		l.layout(BadOperation, class, "value length "+hexName(n), func(l *Layout) {
			editRows(l, ColValueMeta, func(rows [][]byte) { rows[0] = Uleb(n<<4 | uint64(TypeBytes)) })
		})
	}
	l.layout(BadOperation, class, "null metadata", func(l *Layout) {
		editRows(l, ColValueMeta, func(rows [][]byte) { rows[3] = nil })
	})
	for _, a := range []uint64{ActionMakeMap, ActionMakeList, ActionMakeText, ActionMakeTable, ActionDelete} {
		l.op(class, fmt.Sprintf("action %d with a value", a), func(_ *scene, o *Op) { o.Action = a })
	}

	const inc = "non-numeric increment"
	for name, v := range map[string]Value{
		"null": {}, "true": {Type: TypeTrue}, "text": Text("1"), "bytes": Bytes([]byte{1}), "float": Float(1),
		"counter": Counter(1), "timestamp": {TypeTimestamp, Sleb(1)}, "uint": Uint(1),
	} {
		l.op(inc, "increment by "+name, func(s *scene, o *Op) {
			*o = Op{Key: ptr("counter"), Action: ActionIncrement, Value: v, Pred: []ID{s.counter}}
		})
	}
	sortTail(l, 8)
}

// preds breaks what an operation replaces.
func (l *caseList) preds() {
	const class = "pred"
	list := func(name string, ids func(s *scene, c *Change) []ID) {
		l.change(BadOperation, class, name, func(s *scene, c *Change) {
			c.Ops = c.Ops[:1]
			c.Ops[0].Pred = ids(s, c)
		})
	}
	list("of an operation nobody made", func(*scene, *Change) []ID { return []ID{{9, bob}} })
	list("of an unknown actor", func(*scene, *Change) []ID { return []ID{{3, carol}} })
	list("of another key", func(s *scene, _ *Change) []ID { return []ID{s.counter} })
	list("of another object", func(s *scene, _ *Change) []ID { return []ID{s.items[0]} })
	list("of another key besides", func(s *scene, _ *Change) []ID { return []ID{s.counter, s.price} })
	list("of itself", func(_ *scene, c *Change) []ID { return []ID{c.OpID(0)} })
	list("in the future", func(_ *scene, c *Change) []ID { return []ID{c.OpID(1)} })
	list("far in the future", func(*scene, *Change) []ID { return []ID{{1 << 31, bob}} })
	list("beyond 32 bits", func(*scene, *Change) []ID { return []ID{{1 << 32, bob}} })
	list("twice", func(s *scene, _ *Change) []ID { return []ID{s.price, s.price} })
	list("with counter zero", func(*scene, *Change) []ID { return []ID{{0, bob}} })
	list("a thousand times", func(s *scene, _ *Change) []ID { return slices.Repeat([]ID{s.price}, 1000) })
	l.layout(BadOperation, class, "with a negative counter", func(l *Layout) {
		editRows(l, ColPredCounter, func(rows [][]byte) { rows[0] = Sleb(-1) })
	})
	l.layout(BadOperation, class, "null actor", func(l *Layout) { l.SetColumn(ColPredActor, JoinRuns(Null(1), Literal(Uleb(0)))) })
	l.layout(BadOperation, class, "null counter", func(l *Layout) { l.SetColumn(ColPredCounter, JoinRuns(Null(1), Literal(Sleb(6)))) })
	l.layout(BadOperation, class, "null count", func(l *Layout) { editRows(l, ColPredCount, func(rows [][]byte) { rows[1] = nil }) })
	for _, n := range huge {
		l.layout(BadOperation, class, "count "+hexName(n), func(l *Layout) {
			editRows(l, ColPredCount, func(rows [][]byte) { rows[0] = Uleb(n) })
		})
	}
	l.layout(BadOperation, class, "counts that add up to 2^64", func(l *Layout) {
		editRows(l, ColPredCount, func(rows [][]byte) { rows[0], rows[1], rows[2] = Uleb(1<<63), Uleb(1<<63), Uleb(2) })
	})
	l.conflict(class)

	l.op(class, "delete without pred", func(s *scene, o *Op) { *o = Op{Object: s.fields, Key: ptr("price"), Action: ActionDelete} })
	l.op(class, "increment without pred", func(_ *scene, o *Op) { *o = Op{Key: ptr("counter"), Action: ActionIncrement, Value: Int(1)} })
	l.op(class, "insert with a pred", func(s *scene, o *Op) {
		*o = Op{Object: s.list, Elem: s.items[0], Insert: true, Action: ActionPut, Value: Int(1), Pred: []ID{s.items[0]}}
	})
	l.op(class, "set of an element over another element", func(s *scene, o *Op) {
		*o = Op{Object: s.list, Elem: s.items[0], Action: ActionPut, Value: Int(1), Pred: []ID{s.items[1]}}
	})
	l.change(BadOperation, class, "of a deletion", func(s *scene, c *Change) {
		del := Op{Object: s.fields, Key: ptr("price"), Action: ActionDelete, Pred: []ID{s.price}}
		put := Op{Object: s.fields, Key: ptr("price"), Action: ActionPut, Value: Int(1), Pred: []ID{c.OpID(0)}}
		c.Ops = []Op{del, put}
	})
	l.change(BadOperation, class, "the same key twice, the second knowing nothing of the first", func(s *scene, c *Change) {
		c.Ops = []Op{{Key: ptr("k"), Action: ActionPut, Value: Int(1)}, {Key: ptr("k"), Action: ActionPut, Value: Int(2)}}
	})
	l.change(BadOperation, class, "the same known key twice, the second knowing nothing of the first", func(s *scene, c *Change) {
		put := Op{Object: s.fields, Key: ptr("price"), Action: ActionPut, Value: Int(1), Pred: []ID{s.price}}
		c.Ops = []Op{put, put}
	})
}

// conflict is about a key that two operations hold: preds out of order.
func (l *caseList) conflict(class string) {
	s := newScene()
	w := NewWriter(carol)
	w.Apply(s.first)
	c := w.Change(func(e *Edit) { e.Put(s.fields, "price", Int(120)) })
	s.setup = append(s.setup, c.Chunk())
	s.alice.Apply(c)
	next := s.only(func(e *Edit) { e.Put(s.fields, "price", Int(130)) })
	slices.Reverse(next.Ops[0].Pred)
	l.after(s, BadOperation, class, "unsorted", next.Chunk())
}

// odd are changes that look strange and are honest.
func (l *caseList) odd() {
	ok := func(name string, edit func(s *scene, e *Edit)) {
		s := newScene()
		c := s.only(func(e *Edit) { edit(s, e) })
		l.after(s, "", "odd but honest", name, c.Chunk())
		l.last().Want = Accepted
	}
	ok("no operations", func(*scene, *Edit) {})
	ok("everything", func(s *scene, e *Edit) { e.c.Ops = s.copyOfNext(e).Ops })
	ok("before 1970", func(_ *scene, e *Edit) { e.At(-1<<40, "", nil); e.Put(Root, "k", Int(1)) })
	ok("the least time", func(_ *scene, e *Edit) { e.At(-1<<53+1, "", nil) })
	ok("the last time", func(_ *scene, e *Edit) { e.At(1<<53-1, "", nil) })
	ok("extra bytes", func(_ *scene, e *Edit) { e.At(0, "", []byte{3, 2, 0xff, 0}); e.Put(Root, "k", Int(1)) })
	ok("key without letters", func(_ *scene, e *Edit) { e.Put(Root, "", Int(1)) })
	ok("unicode", func(_ *scene, e *Edit) {
		e.At(0, "😀", nil)
		e.Put(Root, "ключ😀\x00", Text("\u2028\ufffd\x00"))
	})
	ok("extreme numbers", func(_ *scene, e *Edit) {
		e.Put(Root, "a", Int(math.MinInt64))
		e.Put(Root, "b", Uint(math.MaxUint64))
		e.Put(Root, "c", Float(math.NaN()))
		e.Put(Root, "d", Float(math.Inf(-1)))
	})
	ok("20,000 letters typed", func(s *scene, e *Edit) {
		after := s.letters[2]
		for range 20_000 {
			after = e.Insert(s.text, after, Text("a"))
		}
	})
	ok("a thousand puts on one key", func(_ *scene, e *Edit) {
		for i := range 1000 {
			e.Put(Root, "progress", Int(int64(i)))
		}
	})
	ok("a value of a megabyte", func(_ *scene, e *Edit) { e.Put(Root, "big", Text(strings.Repeat("a", 1<<20))) })
	lay, _ := Dissect(l.last().Inputs[0].Head)
	lay.Type = TypeDeflated
	l.last().Inputs[0].Head = lay.Chunk()
	ok("a block in a text", func(s *scene, e *Edit) {
		b := e.InsertMake(s.text, s.letters[0], ActionMakeMap)
		e.Put(b, "type", Text("paragraph"))
	})
	l.changedAt()
}

// changedAt is a change made at older heads, as Automerge's changeAt does it: a
// derived actor, and operations counted on from the newest that its author
// knows, not from the newest it depends on.
func (l *caseList) changedAt() {
	s := newScene()
	c := NewWriter("\x01" + alice).Change(func(e *Edit) { e.Put(Root, "k", Int(1)) })
	c.Deps, c.StartOp = []Hash{s.first.Hash()}, s.alice.maxOp+1
	l.after(s, "", "odd but honest", "changed at older heads", c.Chunk())
	l.last().Want = Accepted
	l.cases = append(l.cases, Case{
		Class: "odd but honest", Name: "changed at no heads", Want: Accepted,
		Inputs: []Blob{{Head: firstChange(func(c *Change) { c.StartOp = 20 })}},
	})
}

// copyOfNext is what next would make of the edit.
func (s *scene) copyOfNext(e *Edit) *Change {
	t := newScene()
	c := t.next()
	c.StartOp = e.c.StartOp
	return c
}
