package presence_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt/transaction"
	"parley/sync/presence"
)

var (
	nodeA = presence.Node{1, 0xaa}
	nodeB = presence.Node{2, 0xbb}
	nodeC = presence.Node{3, 0xcc}
)

func stampOf(n presence.Node, count uint64) presence.Stamp {
	return presence.Stamp{Count: count, Node: n}
}

// full is an attendance with everything in it.
func full() *presence.Attendance {
	return &presence.Attendance{People: []presence.Present{
		{
			User: "alice", Name: "Alice", Named: stampOf(nodeA, 7), Since: 1767225600000,
			Conns: []presence.Connected{
				{Peer: "a1", Role: transaction.Party, Arrived: stampOf(nodeA, 5), Focus: "price", Focused: stampOf(nodeA, 9), RoundTrip: 12 * time.Millisecond},
				{Peer: "a2", Role: transaction.Viewer, Arrived: stampOf(nodeA, 7)},
			},
			Lost:  []presence.Awaited{{Peer: "a3", Role: transaction.Party, Arrived: stampOf(nodeA, 1), Left: 7500 * time.Millisecond}},
			Ended: []presence.Ended{{Peer: "a4", At: stampOf(nodeB, 3)}},
			Word:  &presence.Word{Said: stampOf(nodeA, 8), Heads: at(1), Over: stampOf(nodeB, 2)},
		},
		{User: "bob", Word: &presence.Word{Said: stampOf(nodeC, 4)}},
		{User: "carol", Conns: []presence.Connected{{Peer: "c", Role: transaction.Party, Arrived: stampOf(nodeA, 6)}}, Word: &presence.Word{Said: stampOf(nodeA, 8), Heads: at(1)}},
	}}
}

func TestAttendanceTravels(t *testing.T) {
	for name, a := range map[string]*presence.Attendance{"everything": full(), "nobody": {People: []presence.Present{}}} {
		data := a.Encode()
		got, err := presence.DecodeAttendance(data)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
	if n := len(full().Encode()); n > 250 {
		t.Errorf("it takes %d bytes", n)
	}
	// The heads stand once, and each node does.
	if n := bytes.Count(full().Encode(), at(1)[0][:]); n != 1 {
		t.Errorf("the heads stand there %d times", n)
	}
}

// A later version may add what this one does not know; if that must not be missed, it
// says another version.
func TestAttendanceOfLaterVersions(t *testing.T) {
	encode := func(fields map[int]any) []byte {
		data, err := cbor.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	got, err := presence.DecodeAttendance(encode(map[int]any{0: 1, 9: "new", 3: []any{map[int]any{0: "alice", 9: 1}}}))
	if err != nil || len(got.People) != 1 || got.People[0].User != "alice" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, fields := range []map[int]any{{0: 2}, {0: 0}, {}, {0: 2, 3: "of another shape"}} {
		if _, err := presence.DecodeAttendance(encode(fields)); !errors.Is(err, presence.ErrVersion) {
			t.Errorf("%v: %v", fields, err)
		}
	}
}

func TestWrongAttendances(t *testing.T) {
	person := func(fields map[int]any) map[int]any {
		if _, ok := fields[0]; !ok {
			fields[0] = "alice"
		}
		return map[int]any{0: 1, 1: [][]byte{nodeA[:]}, 2: []any{[]any{make([]byte, 32)}}, 3: []any{fields}}
	}
	stamp := func(s ...uint64) map[int]any { return person(map[int]any{2: s}) }
	for name, c := range map[string]struct {
		fields any
		want   string
	}{
		"no map":              {[]int{1}, "read an attendance"},
		"no list of people":   {map[int]any{0: 1, 3: 1}, "read an attendance"},
		"nobody":              {person(map[int]any{0: ""}), "without a user"},
		"the same twice":      {map[int]any{0: 1, 3: []any{map[int]any{0: "b"}, map[int]any{0: "b"}}}, "not sorted"},
		"unsorted":            {map[int]any{0: 1, 3: []any{map[int]any{0: "b"}, map[int]any{0: "a"}}}, "not sorted"},
		"no heads in a list":  {map[int]any{0: 1, 2: []any{[]any{}}}, "0 heads"},
		"too many heads":      {map[int]any{0: 1, 2: []any{make([][]byte, presence.MaxHeads+1)}}, "4097 heads"},
		"a short hash":        {map[int]any{0: 1, 2: []any{[]any{make([]byte, 31)}}}, "a hash of 31 bytes"},
		"a list that is none": {person(map[int]any{7: map[int]any{0: []int{1, 0}, 1: 2}}), "list 2 of heads"},
		"a negative list":     {person(map[int]any{7: map[int]any{0: []int{1, 0}, 1: -1}}), "list -1 of heads"},
		"half a stamp":        {stamp(1), "a stamp that is none"},
		"a stamp of nobody":   {stamp(1, 1), "a stamp that is none"},
		"a stamp too late":    {stamp(1<<60+1, 0), "a stamp that is none"},
		"more than a stamp":   {stamp(1, 0, 0), "a stamp that is none"},
		"a wrong connection":  {person(map[int]any{4: []any{map[int]any{0: "p", 2: []int{1}}}}), "a stamp that is none"},
		"a wrong loss":        {person(map[int]any{5: []any{map[int]any{0: "p", 2: []int{1}}}}), "a stamp that is none"},
		"a wrong end":         {person(map[int]any{6: []any{map[int]any{0: "p", 1: []int{1}}}}), "a stamp that is none"},
		"a wrong word":        {person(map[int]any{7: map[int]any{0: []int{1}}}), "a stamp that is none"},
	} {
		data, err := cbor.Marshal(c.fields)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := presence.DecodeAttendance(data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// Times are bounded: nobody is waited for longer, whatever a node says.
func TestAttendanceBounds(t *testing.T) {
	a := full()
	a.People[0].Lost[0].Left, a.People[0].Conns[0].RoundTrip = 1000*time.Hour, 1000*time.Hour
	a.People[0].Conns[1].RoundTrip = -time.Second
	got, err := presence.DecodeAttendance(a.Encode())
	if err != nil {
		t.Fatal(err)
	}
	p := got.People[0]
	if p.Lost[0].Left != time.Hour || p.Conns[0].RoundTrip != time.Hour || p.Conns[1].RoundTrip != 0 {
		t.Errorf("%+v", p)
	}
}

func FuzzAttendance(f *testing.F) {
	f.Add(full().Encode())
	f.Add((&presence.Attendance{}).Encode())
	f.Add(mustHex("a10001"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := presence.DecodeAttendance(data)
		if err != nil {
			if a != nil || err.Error() == "" {
				t.Fatalf("%+v, %v", a, err)
			}
			return
		}
		written := a.Encode()
		again, err := presence.DecodeAttendance(written)
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("read %+v, wrote it and read %+v: %v", a, again, err)
		}
		// Whatever it says, a room takes it and comes to rest.
		s := newScene(t, presence.Settings{})
		s.room = presence.New(presence.Config{Node: nodeB}, s.doc, presence.Settings{Policy: presence.Reopen}, nil)
		s.arrive(1, "alice", transaction.Party)
		s.step(presence.Elsewhere{Node: nodeA, Seq: 1, Attendance: a}, presence.Silent{Node: nodeA}, presence.Published{N: 1})
		s.now = s.now.Add(2 * time.Hour)
		s.step(presence.Ticked{}, presence.Published{N: 9})
		if got := len(s.room.Roster().Participants); got > 1 {
			t.Fatalf("%d are here after everybody else has gone", got)
		}
	})
}

func mustHex(text string) []byte {
	data, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return data
}
