package transaction

import (
	"strings"

	"parley/crdt"
)

// content is the values that one change writes: what stands below the keys
// value, by, option, label, source. Each is written whole by one change and
// edited by no other, so the change alone says what it is. Within the change
// texts and lists may be edited.
type content struct {
	c       *crdt.Change
	objects map[int]*node // by the operation that made it
	elems   []elem        // by the operation that inserted it; nil until the first
	sums    map[int]int64 // what was added to counters
}

// node is a map, list or text.
type node struct {
	kind  crdt.Action
	depth int
	keys  map[string]int // of a map: the operation whose value is there
	first int            // element of a list or text, none if it is empty
}

// elem is an element of a list or text.
type elem struct {
	list  int // the operation that made the list
	next  int // element, none if it is the last
	value int // operation whose value is there, none if it is deleted or a mark
	set   bool
}

const none = -1

// make notes that operation i made an object at a given depth.
func (k *content) make(i, depth int) {
	if k.objects == nil {
		k.objects = make(map[int]*node)
	}
	k.objects[i] = &node{kind: k.c.Ops[i].Action, depth: depth, first: none}
}

// add notes operation i, which is on object obj of this change, and returns
// the code why it cannot be, "" if it can.
func (k *content) add(i, obj int) crdt.Code {
	op, n := &k.c.Ops[i], k.objects[obj]
	if n == nil || op.Keyed != (n.kind == crdt.MakeMap) {
		return CodePath
	}
	if op.Key == protoKey {
		return CodeName
	}
	if n.depth >= MaxDepth && op.Action.Makes() {
		return crdt.CodeDepth
	}
	placed := false
	switch {
	case op.Action == crdt.Increment:
		placed = k.increment(op)
	case op.Insert:
		placed = k.insert(i, obj)
	case op.Keyed:
		placed = n.put(i, op)
	default:
		placed = k.replace(i, obj)
	}
	if !placed {
		return CodePath
	}
	if op.Action.Makes() {
		k.make(i, n.depth+1)
	}
	return ""
}

func (n *node) put(i int, op *crdt.Op) bool {
	if op.Action == crdt.Delete {
		delete(n.keys, op.Key)
		return true
	}
	if n.keys == nil {
		n.keys = make(map[string]int)
	}
	n.keys[op.Key] = i
	return true
}

// insert puts an element right behind the one it names: of one author's
// inserts at one place the later stands first, as Automerge orders them.
func (k *content) insert(i, obj int) bool {
	op := &k.c.Ops[i]
	if k.elems == nil {
		k.elems = make([]elem, len(k.c.Ops))
	}
	link := &k.objects[obj].first
	if !op.Elem.IsZero() {
		before, ok := k.elem(op.Elem, obj)
		if !ok {
			return false
		}
		link = &k.elems[before].next
	}
	k.elems[i] = elem{list: obj, next: *link, value: i, set: true}
	if op.Action == crdt.Mark {
		k.elems[i].value = none
	}
	*link = i
	return true
}

// elem finds an element of object obj.
func (k *content) elem(r crdt.Ref, obj int) (int, bool) {
	i, ok := local(k.c, r)
	return i, ok && k.elems != nil && k.elems[i].set && k.elems[i].list == obj
}

func (k *content) replace(i, obj int) bool {
	op := &k.c.Ops[i]
	e, ok := k.elem(op.Elem, obj)
	if !ok {
		return false
	}
	k.elems[e].value = i
	if op.Action == crdt.Delete {
		k.elems[e].value = none
	}
	return true
}

func (k *content) increment(op *crdt.Op) bool {
	for _, p := range op.Pred {
		i, ok := local(k.c, p)
		if !ok {
			return false
		}
		if k.sums == nil {
			k.sums = make(map[int]int64)
		}
		k.sums[i] += op.Value.Int()
	}
	return true
}

// local returns the index of the operation that r names, ok false if it is
// not one of c before its end.
func local(c *crdt.Change, r crdt.Ref) (i int, ok bool) {
	if r.Actor != 0 || uint64(r.Counter) < c.StartOp || uint64(r.Counter) > c.MaxOp() {
		return 0, false
	}
	return int(uint64(r.Counter) - c.StartOp), true
}

// value returns what operation i wrote, as encoding/json is to write it.
func (k *content) value(i int) any {
	op := &k.c.Ops[i]
	n := k.objects[i]
	switch {
	case n == nil:
		return plain(op.Value, k.sums[i])
	case n.kind == crdt.MakeMap:
		m := make(map[string]any, len(n.keys))
		for key, j := range n.keys {
			m[key] = k.value(j)
		}
		return m
	case n.kind == crdt.MakeText:
		return k.text(n)
	}
	list := []any{}
	for e := n.first; e != none; e = k.elems[e].next {
		if j := k.elems[e].value; j != none {
			list = append(list, k.value(j))
		}
	}
	return list
}

// text returns the text of a text object; what else is in it stands as the
// object replacement character, as Automerge has it.
func (k *content) text(n *node) string {
	var s strings.Builder
	for e := n.first; e != none; e = k.elems[e].next {
		j := k.elems[e].value
		switch {
		case j == none:
		case k.c.Ops[j].Action == crdt.Put && k.c.Ops[j].Value.Kind == crdt.KindText:
			s.WriteString(k.c.Ops[j].Value.Text())
		default:
			s.WriteString("\ufffc")
		}
	}
	return s.String()
}

// isText says whether operation i wrote a text, of either kind.
func (k *content) isText(i int) bool {
	op := &k.c.Ops[i]
	return op.Action == crdt.MakeText || op.Action == crdt.Put && op.Value.Kind == crdt.KindText
}

// textOf returns the text that operation i wrote, "" if it wrote none.
func (k *content) textOf(i int) string {
	if !k.isText(i) {
		return ""
	}
	return strings.Clone(k.value(i).(string))
}
