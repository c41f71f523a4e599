package presence_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/wire"
)

type m = map[string]any

// data is a value as a client encodes it.
func data(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unhex reads hexadecimal digits, in which 'text' stands for a text's bytes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		b = append(b, raw...)
	}
	return b
}

// head58 is a head as automerge-repo's handle.heads() has it.
func head58(h crdt.Hash) string {
	_, text, _ := strings.Cut(wire.URL{Heads: []crdt.Hash{h}}.String(), "#")
	return text
}

func messages() []presence.Message {
	return []presence.Message{
		presence.Ready{Heads: []crdt.Hash{{1}, {2, 3}}}, presence.Unready{}, presence.Focus{}, presence.Focus{Field: "price"},
		presence.Ping{}, presence.Ping{N: 1 << 32}, presence.Ping{N: 1<<53 - 1}, presence.Leave{}, presence.Ask{},
	}
}

func TestMessagesThereAndBack(t *testing.T) {
	for _, want := range messages() {
		if got, ours := presence.Decode(presence.Encode(want)); !ours || !reflect.DeepEqual(got, want) {
			t.Errorf("%#v was read as %#v", want, got)
		}
	}
}

func TestDecode(t *testing.T) {
	a, b := crdt.Hash{1}, crdt.Hash{2}
	says := func(body any) []byte { return data(t, m{"parley": body}) }
	for name, c := range map[string]struct {
		data []byte
		want presence.Message
	}{
		"heads in order":       {says(m{"t": "ready", "heads": []string{b.String(), a.String(), b.String()}}), presence.Ready{Heads: []crdt.Hash{a, b}}},
		"heads in base58":      {says(m{"t": "ready", "heads": []string{head58(b), a.String()}}), presence.Ready{Heads: []crdt.Hash{a, b}}},
		"more than is read":    {data(t, m{"parley": m{"t": "leave", "why": m{"a": 1}}, "else": []any{1}}), presence.Leave{}},
		"fields of others":     {says(m{"t": "unready", "heads": []string{"x"}, "field": "", "n": -1}), presence.Unready{}},
		"maps as cbor-x":       {unhex(t, "b90001 66'parley' b90002 61't' 65'focus' 65'field' 65'price'"), presence.Focus{Field: "price"}},
		"undefined":            {unhex(t, "b90001 66'parley' b90002 61't' 65'focus' 65'field' f7"), presence.Focus{}},
		"null":                 {says(m{"t": "focus", "field": nil}), presence.Focus{}},
		"no number":            {says(m{"t": "ping"}), presence.Ping{}},
		"undefined number":     {unhex(t, "b90001 66'parley' b90002 61't' 64'ping' 61'n' f7"), presence.Ping{}},
		"a float":              {says(m{"t": "ping", "n": 7.0}), presence.Ping{N: 7}},
		"a large float":        {says(m{"t": "ping", "n": float64(1<<53 - 1)}), presence.Ping{N: 1<<53 - 1}},
		"a half":               {unhex(t, "a1 66'parley' a2 61't' 64'ping' 61'n' f94400"), presence.Ping{N: 4}},
		"a BigInt":             {unhex(t, "a1 66'parley' a2 61't' 64'ping' 61'n' 1b0000000000000005"), presence.Ping{N: 5}},
		"indefinite":           {unhex(t, "bf 66'parley' bf 61't' 7f 62'le' 63'ave' ff ff ff"), presence.Leave{}},
		"a longer head":        {unhex(t, "a1 7806'parley' a1 61't' 65'leave'"), presence.Leave{}},
		"a key in parts":       {unhex(t, "a1 7f 63'par' 63'ley' ff a1 61't' 65'leave'"), presence.Leave{}},
		"a key that is number": {unhex(t, "a2 01 02 66'parley' a1 61't' 65'leave'"), presence.Leave{}},
		"beside a date":        {unhex(t, "a2 61'd' c1 fb41d9500000000000 66'parley' a1 61't' 65'leave'"), presence.Leave{}},
	} {
		if got, ours := presence.Decode(c.data); !ours || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, %t, want %#v", name, got, ours, c.want)
		}
	}
}

func TestDecodeWrong(t *testing.T) {
	says := func(body any) []byte { return data(t, m{"parley": body}) }
	heads := func(list ...any) []byte { return says(m{"t": "ready", "heads": list}) }
	ping := func(n any) []byte { return says(m{"t": "ping", "n": n}) }
	good := crdt.Hash{1}.String()
	many := make([]any, presence.MaxHeads+1)
	for i := range many {
		many[i] = good
	}
	deep := any(1)
	for range 40 {
		deep = []any{deep}
	}
	for name, c := range map[string]struct {
		data []byte
		kind string
	}{
		"no kind":            {says(m{}), ""},
		"null":               {says(nil), ""},
		"a text":             {says("ready"), ""},
		"a list":             {says([]string{"ready"}), ""},
		"an unknown kind":    {says(m{"t": "party"}), "party"},
		"a long kind":        {says(m{"t": strings.Repeat("é", 20) + "x"}), strings.Repeat("é", 16)},
		"of the server's":    {says(m{"t": "resolved"}), "resolved"},
		"a kind in capitals": {says(m{"t": "Ready"}), "Ready"},
		"a key in capitals":  {says(m{"T": "leave"}), ""},
		"a number as kind":   {says(m{"t": 1}), ""},
		"no heads":           {says(m{"t": "ready"}), "ready"},
		"empty heads":        {heads(), "ready"},
		"heads of one text":  {says(m{"t": "ready", "heads": good}), ""},
		"heads of numbers":   {heads(1), ""},
		"heads of null":      {heads(nil), "ready"},
		"a short head":       {heads(good[:62]), "ready"},
		"a head no hex":      {heads("x" + good[1:]), "ready"},
		"a head misspelt":    {heads(head58(crdt.Hash{1})[1:] + "1"), "ready"},
		"a head as bytes":    {heads(make([]byte, 32)), ""},
		"one bad head":       {heads(good, ""), "ready"},
		"too many heads":     {heads(many...), "ready"},
		"a field of no name": {says(m{"t": "focus", "field": ""}), "focus"},
		"a field too long":   {says(m{"t": "focus", "field": strings.Repeat("x", transaction.MaxNameBytes+1)}), "focus"},
		"a field as number":  {says(m{"t": "focus", "field": 1}), ""},
		"a negative number":  {ping(-1), "ping"},
		"a large number":     {ping(uint64(1 << 53)), "ping"},
		"a large float":      {ping(float64(1 << 53)), "ping"},
		"a broken number":    {ping(1.5), "ping"},
		"not a number":       {ping(math.NaN()), "ping"},
		"endless":            {ping(math.Inf(1)), "ping"},
		"a text as number":   {ping("1"), "ping"},
		"a truth as number":  {ping(true), "ping"},
		"bytes as number":    {ping([]byte{1}), "ping"},
		"a tag":              {ping(cbor.Tag{Number: 2, Content: []byte{1}}), ""},
		"too deep":           {says(m{"t": "leave", "x": deep}), ""},
		"a key twice":        {unhex(t, "a1 66'parley' a2 61't' 65'leave' 61't' 65'ready'"), ""},
		"parley twice":       {unhex(t, "a2 66'parley' a1 61't' 65'leave' 66'parley' a1 61't' 65'leave'"), ""},
		"no text":            {unhex(t, "a1 66'parley' a1 61't' 62 fffe"), ""},
		"more behind":        {append(says(m{"t": "leave"}), 0), ""},
	} {
		got, ours := presence.Decode(c.data)
		w, wrong := got.(presence.Wrong)
		if !ours || !wrong || w.Kind != c.kind || w.Reason == "" || len(w.Reason) > 400 {
			t.Errorf("%s: %#v, %t, want it to be wrong of kind %q", name, got, ours, c.kind)
		}
	}
}

// Half a message is wrong, unless so much is missing that it could be anybody's.
func TestDecodeTruncated(t *testing.T) {
	whole := presence.Encode(presence.Ready{Heads: at(1)})
	for n := range whole {
		got, ours := presence.Decode(whole[:n])
		if _, wrong := got.(presence.Wrong); ours != (n >= 8) || ours && !wrong {
			t.Errorf("%d bytes: %#v, %t", n, got, ours)
		}
	}
}

// What applications say to each other is theirs, whatever it speaks of.
func TestDecodeOthers(t *testing.T) {
	deep := any(m{"parley": m{"t": "leave"}})
	for range 200 {
		deep = []any{deep}
	}
	for name, b := range map[string][]byte{
		"nothing":             {},
		"no CBOR":             []byte("parley"),
		"broken":              unhex(t, "a1 61'x'"),
		"a text":              data(t, "parley"),
		"a list":              data(t, []any{"parley", m{"t": "leave"}}),
		"a value":             data(t, m{"name": "parley", "t": "leave"}),
		"nested":              data(t, m{"a": m{"parley": m{"t": "leave"}}}),
		"in a list":           data(t, m{"a": []any{m{"parley": m{"t": "leave"}}}}),
		"deep":                data(t, m{"a": deep}),
		"in capitals":         data(t, m{"Parley": m{"t": "leave"}, "x": "parley"}),
		"as bytes":            data(t, m{"x": []byte("\x66parley")}),
		"longer":              data(t, m{"parleys": m{"t": "leave"}}),
		"beside a date":       unhex(t, "a2 61'd' c1 fb41d9500000000000 61'x' 66'parley'"),
		"beside bytes":        unhex(t, "a2 61'd' d840 43 010203 61'x' 66'parley'"),
		"presence of theirs":  data(t, m{"__presence": m{"type": "update", "channel": "focus", "value": "parley"}}),
		"keys of other kinds": unhex(t, "a2 01 66'parley' f6 66'parley'"),
	} {
		if got, ours := presence.Decode(b); ours {
			t.Errorf("%s: taken for %#v", name, got)
		}
		if got, err := presence.DecodeDown(b); !errors.Is(err, presence.ErrNotOurs) {
			t.Errorf("%s: taken for %#v, %v", name, got, err)
		}
	}
}

// downward are messages of the server's, as they are when they have been read.
func downward() []interface{ Encode() []byte } {
	cause := presence.Cause{Field: "price", User: "bob", Change: crdt.Hash{7}}
	resolution := presence.Resolution{N: 2, Heads: at(1), Parties: []string{"alice", "bob"}, Quorum: 2, At: 1767225600123}
	none := []string{}
	return []interface{ Encode() []byte }{
		&presence.Roster{Rev: 1, Heads: at(1), Needed: none, Quorum: 2, Policy: presence.Reopen, Contested: none, Missing: none},
		&presence.Roster{
			Rev: 12, Heads: []crdt.Hash{{1}, {2}}, Needed: []string{"alice", "bob"}, Quorum: 1, Policy: presence.Lock,
			Contested: []string{"date"}, Missing: []string{"place", "price"}, Resolution: &resolution, Stalled: true,
			Participants: []presence.Participant{
				{User: "alice", Name: "Alice", Role: transaction.Party, State: presence.Online, Connections: 2, Ready: true, Focus: "price", Since: 1767225600123, RoundTrip: 12345 * time.Microsecond},
				{User: "bob", Role: transaction.Host, State: presence.Reconnecting, Since: -1, Lapsed: &cause},
				{User: "carol", Role: transaction.Viewer, State: presence.Online, Lapsed: &presence.Cause{User: "bob"}},
			},
		},
		&presence.Lapsed{User: "alice", Because: cause},
		&presence.Lapsed{User: "alice", Because: presence.Cause{User: "bob", Change: crdt.Hash{1}}},
		&presence.Rejected{Changes: []crdt.Hash{{3}, {1}}, Heads: []crdt.Hash{}, Fields: none, Code: "sealed", Message: "no"},
		&presence.Rejected{Of: "ready", Changes: []crdt.Hash{}, Heads: at(1), Fields: []string{"a"}, Code: "contested", Message: "no"},
		&presence.Resolved{Resolution: resolution},
		&presence.Pong{}, &presence.Pong{N: 1 << 32}, &presence.Pong{N: 1<<53 - 1},
	}
}

func TestDownwardThereAndBack(t *testing.T) {
	for _, want := range downward() {
		got, err := presence.DecodeDown(want.Encode())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v was read as %+v, %v", want, got, err)
		}
	}
	for us := range 5000 {
		trip := time.Duration(us+1) * time.Microsecond
		r := &presence.Roster{Participants: []presence.Participant{{RoundTrip: trip}}}
		if got, err := presence.DecodeDown(r.Encode()); err != nil || got.(*presence.Roster).Participants[0].RoundTrip != trip {
			t.Fatalf("%s was read as %+v, %v", trip, got, err)
		}
	}
}

// Browsers take 8-byte integers for BigInts, which are no numbers.
func TestNumbersForJavaScript(t *testing.T) {
	var check func(v any)
	check = func(v any) {
		switch v := v.(type) {
		case uint64:
			if v > math.MaxUint32 {
				t.Errorf("%d is written as an integer", v)
			}
		case map[any]any:
			for _, item := range v {
				check(item)
			}
		case []any:
			for _, item := range v {
				check(item)
			}
		}
	}
	for _, message := range downward() {
		var v any
		if err := cbor.Unmarshal(message.Encode(), &v); err != nil {
			t.Fatal(err)
		}
		check(v)
	}
}

func TestDecodeDown(t *testing.T) {
	says := func(body any) []byte { return data(t, m{"parley": body}) }
	hash := crdt.Hash{1}.String()
	if got, err := presence.DecodeDown(says(m{"t": "of tomorrow", "x": 1})); got != nil || err != nil {
		t.Errorf("of tomorrow: %v, %v", got, err)
	}
	if got, err := presence.DecodeDown(says(m{"t": "pong", "n": 1, "of": "tomorrow"})); err != nil || *got.(*presence.Pong) != (presence.Pong{N: 1}) {
		t.Errorf("with more in it: %v, %v", got, err)
	}
	for name, body := range map[string]any{
		"a text":             "roster",
		"a kind":             m{"t": 1},
		"heads":              m{"t": "roster", "heads": []string{"x"}},
		"a cause":            m{"t": "lapsed", "because": m{"change": "x"}},
		"no cause":           m{"t": "lapsed", "user": "a"},
		"a lapse":            m{"t": "roster", "participants": []any{m{"lapsed": m{"change": "x"}}}},
		"a resolution":       m{"t": "roster", "resolution": m{"heads": []string{"x"}}},
		"changes":            m{"t": "rejected", "changes": []string{"x"}},
		"heads of a refusal": m{"t": "rejected", "changes": []string{hash}, "heads": []string{hash, ""}},
		"resolved":           m{"t": "resolved", "resolution": m{"heads": []string{"x"}}},
		"a number":           m{"t": "pong", "n": "1"},
		"a time":             m{"t": "roster", "participants": []any{m{"rtt": -1}}},
		"no time":            m{"t": "roster", "participants": []any{m{"rtt": math.NaN()}}},
		"a long time":        m{"t": "roster", "participants": []any{m{"rtt": 1e300}}},
	} {
		if got, err := presence.DecodeDown(says(body)); err == nil || errors.Is(err, presence.ErrNotOurs) || got != nil {
			t.Errorf("%s: %#v, %v", name, got, err)
		}
	}
}

func TestResolutionAsJSON(t *testing.T) {
	want := presence.Resolution{N: 2, Heads: at(1), Parties: []string{"alice", "bob"}, Quorum: 2, At: 1767225600123}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	text := `{"n":2,"heads":["01` + strings.Repeat("00", 31) + `"],"parties":["alice","bob"],"quorum":2,"at":1767225600123}`
	if string(b) != text {
		t.Errorf("written as %s", b)
	}
	var got presence.Resolution
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read as %+v, %v", got, err)
	}
	if empty, err := json.Marshal(presence.Resolution{}); err != nil || !bytes.Contains(empty, []byte(`"heads":[],"parties":[]`)) {
		t.Errorf("an empty one is %s, %v", empty, err)
	}
	for _, bad := range []string{`{"heads":["x"]}`, `{"n":"1"}`, `[]`} {
		before := got
		if err := json.Unmarshal([]byte(bad), &got); err == nil || !reflect.DeepEqual(got, before) {
			t.Errorf("%s was read as %+v, %v", bad, got, err)
		}
	}
}

// Some decoders look through a tag: cbor-x does, at records and shared structures.
func TestMessageInATag(t *testing.T) {
	body := "\x66parley\xa1\x61t\x65leave"
	for _, tag := range []string{"\xd8\x1c\xa1", "\xd9\xd9\xf7\xa1", "\xd8\x69\x83\x18\x40\x81", "\xc1\xa1"} {
		m, ours := presence.Decode([]byte(tag + body))
		if _, wrong := m.(presence.Wrong); !ours || !wrong {
			t.Errorf("%x is read as %#v, ours: %t", tag, m, ours)
		}
	}
	if m, ours := presence.Decode([]byte("\xc1\x1a\x5f\x5e\x10\x00")); ours {
		t.Errorf("a date is read as %#v", m)
	}
}
