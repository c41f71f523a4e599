package wire

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzDecode: nothing panics, and what was read is written in one way only,
// which is read as the same.
func FuzzDecode(f *testing.F) {
	for _, frame := range readGolden(f) {
		f.Add(unhex(f, frame.Hex))
	}
	for _, m := range samples() {
		if frame := Append(nil, m); len(frame) < 1000 {
			f.Add(frame)
		}
	}
	for _, frame := range []string{"", "f6", "a0", "81", "bf ff", "ba ffffffff", "7b 7fffffffffffffff", "d8 40 41 00"} {
		f.Add(unhex(f, frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		m, err := Decode(frame, Limits{})
		if !bytes.Equal(frame, before) {
			t.Fatal("the frame was changed")
		}
		if err != nil {
			refused, ok := err.(*Error)
			if !ok || refused.Kind < KindEncoding || refused.Kind > KindDocument || refused.Reason == "" || m != nil {
				t.Fatalf("message %v, error %#v", m, err)
			}
			return
		}
		if m.Type() == "" {
			t.Fatal("a message without a type")
		}
		if _, unknown := m.(*Unknown); unknown {
			return
		}
		written := Append(nil, m)
		again, err := Decode(written, Limits{})
		if err != nil {
			t.Fatalf("%+v is written as %x: %v", m, written, err)
		}
		if !reflect.DeepEqual(again, m) {
			t.Fatalf("read %+v, wrote it and read %+v", m, again)
		}
		if twice := Append(nil, again); !bytes.Equal(twice, written) {
			t.Fatalf("written as %x and as %x", written, twice)
		}
	})
}

// FuzzParseURL: what is read is written as something that means the same.
func FuzzParseURL(f *testing.F) {
	f.Add("automerge:" + testDocument.String())
	f.Add(URL{testDocument, testHeads}.String())
	f.Add("automerge:#|")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			return
		}
		if again, err := ParseURL(u.String()); err != nil || !reflect.DeepEqual(again, u) {
			t.Fatalf("%q: %v, %v", s, again, err)
		}
	})
}
