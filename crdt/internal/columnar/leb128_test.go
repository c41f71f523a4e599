package columnar

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestReaderUint(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint64
		err  error
	}{
		{"\x00", 0, nil},
		{"\x7f", 127, nil},
		{"\x80\x01", 128, nil},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", math.MaxUint64, nil},
		{"", 0, ErrTruncated},
		{"\x80", 0, ErrTruncated},
		{"\x80\x00", 0, ErrOverlong},
		{"\xff\x00", 0, ErrOverlong},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 0, ErrRange},
		{"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 0, ErrRange},
	} {
		r := NewReader(tt.in)
		if got := r.Uint(); got != tt.want || r.Err() != tt.err {
			t.Errorf("%x: %d, %v; want %d, %v", tt.in, got, r.Err(), tt.want, tt.err)
		}
	}
}

func TestReaderInt(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64
		err  error
	}{
		{"\x00", 0, nil},
		{"\x3f", 63, nil},
		{"\x40", -64, nil},
		{"\x7f", -1, nil},
		{"\xc0\x00", 64, nil},
		{"\xbf\x7f", -65, nil},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", math.MaxInt64, nil},
		{"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", math.MinInt64, nil},
		{"", 0, ErrTruncated},
		{"\xff", 0, ErrTruncated},
		{"\x80\x00", 0, ErrOverlong},
		{"\xbf\x00", 0, ErrOverlong},
		{"\xc0\x7f", 0, ErrOverlong},
		{"\xff\x7f", 0, ErrOverlong},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0, ErrRange},
		{"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7e", 0, ErrRange},
	} {
		r := NewReader(tt.in)
		if got := r.Int(); got != tt.want || r.Err() != tt.err {
			t.Errorf("%x: %d, %v; want %d, %v", tt.in, got, r.Err(), tt.want, tt.err)
		}
	}
}

func TestReaderText(t *testing.T) {
	r := NewReader("\x02hi\x00\x02\xff\xff")
	if a, b := r.Text(), r.Text(); a != "hi" || b != "" || r.Err() != nil {
		t.Errorf("%q, %q, %v", a, b, r.Err())
	}
	if r.Text(); r.Err() != ErrText || r.Len() != 0 {
		t.Errorf("not UTF-8: %v, %d bytes left", r.Err(), r.Len())
	}
	r = NewReader("\x03hi")
	if r.Text(); r.Err() != ErrTruncated {
		t.Errorf("cut off: %v", r.Err())
	}
}

func TestNumbersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, i := rapid.Uint64().Draw(t, "u"), rapid.Int64().Draw(t, "i")
		r := NewReader(string(AppendInt(AppendUint(nil, u), i)))
		if gotU, gotI := r.Uint(), r.Int(); gotU != u || gotI != i || r.Err() != nil || r.Len() != 0 {
			t.Fatalf("%d, %d: got %d, %d, %v", u, i, gotU, gotI, r.Err())
		}
	})
}
