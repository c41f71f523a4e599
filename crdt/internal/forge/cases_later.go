package forge

// later are changes that automerge of 2023 takes and automerge 3.5 fails of: at
// once, or when it loads what it has saved.
func (l *caseList) later() {
	const class = "later clients"
	for name, extra := range map[string][]byte{
		"no bytes": {1, 0}, "two bytes": {1, 2, 0xab, 0xcd}, "behind another record": {3, 1, 0, 1, 0},
	} {
		l.change(BadField, class, "an author in a second change, "+name, func(_ *scene, c *Change) { c.Extra = extra })
	}
	sortTail(l, 3)
	only := func(reason Reason, name string, edit func(s *scene, e *Edit)) *Change {
		s := newScene()
		c := s.only(func(e *Edit) { edit(s, e) })
		l.after(s, reason, class, name, c.Chunk())
		return c
	}
	only(BadOperation, "a table with a key", func(_ *scene, e *Edit) {
		e.Put(e.Make(Root, "table", ActionMakeTable), "key", Int(1))
	})
	gap := only(BadHistory, "no operations after a gap", func(*scene, *Edit) {})
	gap.StartOp++
	l.last().Inputs[0].Head = gap.Chunk()
	for _, m := range []struct {
		name     string
		from, to int // of the letters; -1 is the head
	}{{"two letters earlier", 2, 0}, {"at the same letter", 1, 1}, {"at the head", 0, -1}, {"both at the head", -1, -1}} {
		only(BadOperation, "a mark that ends before it begins, "+m.name, func(s *scene, e *Edit) {
			at := func(i int) ID {
				if i < 0 {
					return Head
				}
				return s.letters[i]
			}
			e.Mark(s.text, at(m.from), at(m.to), "bold", Value{Type: TypeTrue}, false)
		})
	}
}
