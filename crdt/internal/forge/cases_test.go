package forge

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"testing"

	"github.com/automerge/automerge-go"
)

// sound says that b is one chunk whose length and checksum are right, judged
// without the forge's own code.
func sound(b []byte) bool {
	r := reader{b: b}
	head := r.take(9)
	body := r.take(r.uleb())
	if r.bad || len(r.b) > 0 || !bytes.Equal(head[:4], magic) || len(b)-9-len(Uleb(uint64(len(body)))) != len(body) {
		return false
	}
	sum := sha256.Sum256(b[8:])
	return bytes.Equal(head[4:8], sum[:4])
}

func TestCasesAreWhatTheySay(t *testing.T) {
	honest := newScene().next().Chunk()
	names := map[string]bool{}
	classes := map[string]int{}
	for _, c := range Cases() {
		if key := c.Class + "/" + c.Name; names[key] {
			t.Errorf("two cases %s", key)
		} else {
			names[key] = true
		}
		if (c.Reason == "") != (c.Want != Refused) {
			t.Errorf("%s/%s: wanted %s for reason %q", c.Class, c.Name, c.Want, c.Reason)
		}
		if c.Want == Refused && c.Each == "" && bytes.Equal(c.Inputs[0].Head, honest) {
			t.Errorf("%s/%s: nothing is wrong with it", c.Class, c.Name)
		}
		classes[c.Class]++
		if c.Each == "" && len(c.Inputs[0].Head) < 1<<20 {
			checkRepaired(t, &c)
		}
	}
	t.Logf("%d cases, %d classes: %v", len(names), len(classes), classes)
}

// checkRepaired fails where a case is refused for its frame, though something
// else was to be wrong with it.
func checkRepaired(t *testing.T, c *Case) {
	t.Helper()
	for _, in := range c.Inputs {
		b := in.Bytes()
		switch {
		case c.Reason == BadFraming, c.Reason == BadChecksum, c.Reason == BadInflate:
			if l, err := Dissect(b); err == nil && bytes.Equal(l.Chunk(), b) {
				t.Errorf("%s/%s: nothing is wrong with its frame", c.Class, c.Name)
			}
		case b[8] == TypeDeflated:
		case !sound(b):
			t.Errorf("%s/%s: its frame is wrong", c.Class, c.Name)
		}
	}
}

func TestCasesAreTheSameEveryTime(t *testing.T) {
	if a, b := Cases(), allCases(); !reflect.DeepEqual(a, b) {
		for i := range a {
			if !reflect.DeepEqual(a[i], b[i]) {
				t.Fatalf("%s/%s", a[i].Class, a[i].Name)
			}
		}
	}
}

// TestSetupsAreHonest gives the engine the setups, and the odd changes too.
func TestSetupsAreHonest(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		history := bytes.Join(c.Setup, nil)
		want := len(c.Setup)
		if c.Want == Accepted {
			history = append(history, c.Inputs[0].Bytes()...)
			want++
		}
		if want == 0 || seen[string(history)] {
			continue
		}
		seen[string(history)] = true
		doc, err := automerge.Load(history)
		if err != nil {
			t.Errorf("%s/%s: %v", c.Class, c.Name, err)
			continue
		}
		again, err := automerge.Load(doc.Save())
		if err != nil {
			t.Errorf("%s/%s: saved, then: %v", c.Class, c.Name, err)
			continue
		}
		if got, err := again.Changes(); err != nil || len(got) != want {
			t.Errorf("%s/%s: %d changes (%v), want %d", c.Class, c.Name, len(got), err, want)
		}
	}
}
