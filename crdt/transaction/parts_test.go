package transaction

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/crdt"
)

// TestParts sets more than a change can hold, part by part.
func TestParts(t *testing.T) {
	few := func(i int) Field {
		return Field{Label: fmt.Sprint("Field ", i), Required: i%2 == 0, Options: map[string]Option{
			"a": {Value: json.RawMessage(fmt.Sprint(i)), Source: "left.pdf"}, "b": {Value: json.RawMessage(`{"x":1,"y":[]}`)},
		}}
	}
	many := func(i int) Field {
		return Field{Options: map[string]Option{"a": {Value: json.RawMessage("[" + strings.Repeat("1,", 3000) + "1]")}}}
	}
	long := func(i int) Field { return Field{Label: strings.Repeat("long ", 800)} }
	for _, c := range []struct {
		name     string
		n        int
		field    func(int) Field
		at, most int // how many parts
	}{
		{"none", 0, few, 0, 0}, {"one", 1, few, 1, 1}, {"few", 50, few, 1, 1}, {"5,000", 5000, few, 8, 16},
		{"many values", 20, many, 5, 10}, {"long texts", 40, long, 8, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			fields := make(map[string]Field)
			for i := range c.n {
				fields[fmt.Sprintf("f%04d", i)] = c.field(i)
			}
			parts := Parts(fields, PartOps)
			if len(parts) < c.at || len(parts) > c.most {
				t.Errorf("%d parts, want %d to %d", len(parts), c.at, c.most)
			}
			s := New("sale")
			if err := s.Apply(Genesis("sale")); err != nil {
				t.Fatal(err)
			}
			for i, part := range parts {
				edit := s.Edit(crdt.ActorID("0123456789abcdef"), "host", time.UnixMilli(0))
				if err := edit.SetFields(part); err != nil {
					t.Fatal(err)
				}
				if edit.b.Len() > PartOps {
					t.Errorf("part %d takes %d operations", i, edit.b.Len())
				}
				change, err := edit.Change()
				if err != nil {
					t.Fatalf("part %d: %v", i, err)
				}
				if err := s.Apply(change); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.Fields(); len(got) != len(fields) {
				t.Errorf("%d fields, want %d", len(got), len(fields))
			}
		})
	}
}
