package presence_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"parley/sync/presence"
)

func seeds(f *testing.F) {
	for _, m := range messages() {
		f.Add(presence.Encode(m))
	}
	for _, m := range downward() {
		f.Add(m.Encode())
	}
	for _, text := range []string{
		"", "f6", "a1 66'parley' f6", "b90001 66'parley' b90002 61't' 65'focus' 65'field' f7",
		"a1 66'parley' a2 61't' 64'ping' 61'n' fb7ff8000000000000", "a2 61'd' c1 fb41d9500000000000 66'parley' a1 61't' 65'leave'",
		"bf 7f 63'par' 63'ley' ff bf 61't' 7f 62'le' 63'ave' ff ff ff", "a1 66'parley' bb7fffffffffffffff",
	} {
		f.Add(unhex(f, text))
	}
}

// FuzzDecode: nothing panics; what is read is written in one way, which is read
// as the same; what is wrong is told in few words.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		m, ours := presence.Decode(data)
		if !bytes.Equal(data, before) {
			t.Fatal("the data was changed")
		}
		if w, wrong := m.(presence.Wrong); wrong {
			if !ours || w.Reason == "" || len(w.Reason) > 1000 || len(w.Kind) > 32 {
				t.Fatalf("%#v, %t", w, ours)
			}
			r := &presence.Rejected{Of: w.Kind, Code: presence.CodeBadMessage, Message: w.Reason}
			if _, err := presence.DecodeDown(r.Encode()); err != nil {
				t.Fatalf("%#v cannot be told: %v", w, err)
			}
			return
		}
		if ours != (m != nil) {
			t.Fatalf("%#v, %t", m, ours)
		}
		if m == nil {
			return
		}
		if again, ours := presence.Decode(presence.Encode(m)); !ours || !reflect.DeepEqual(again, m) {
			t.Fatalf("read %#v, wrote it and read %#v", m, again)
		}
	})
}

// FuzzDecodeDown: the same for what a server sends.
func FuzzDecodeDown(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := presence.DecodeDown(data)
		if err != nil {
			if m != nil || err.Error() == "" {
				t.Fatalf("%#v, %v", m, err)
			}
			if _, ours := presence.Decode(data); !ours && !errors.Is(err, presence.ErrNotOurs) {
				t.Fatalf("ours for one and not for the other: %v", err)
			}
			return
		}
		if m == nil {
			return
		}
		written := m.(interface{ Encode() []byte }).Encode()
		again, err := presence.DecodeDown(written)
		if err != nil || !bytes.Equal(again.(interface{ Encode() []byte }).Encode(), written) {
			t.Fatalf("read %+v, wrote it and read %+v: %v", m, again, err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("read %+v, wrote it and read %+v", m, again)
		}
	})
}
