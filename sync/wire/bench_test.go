package wire

import (
	"bytes"
	"testing"
)

// An acknowledgement of a change, a change of one field, and a small broadcast,
// with the names that clients give themselves.
var benchMessages = []struct {
	name    string
	message Message
}{
	{"ack", &Sync{"peer-4fzzzxjylrx", "storage-server-host", testDocument, bytes.Repeat([]byte{1}, 74)}},
	{"change", &Sync{"peer-4fzzzxjylrx", "storage-server-host", testDocument, bytes.Repeat([]byte{1}, 230)}},
	{"ephemeral", &Ephemeral{"peer-4fzzzxjylrx", "storage-server-host", testDocument, 1234, "4fzzzxjylrx", bytes.Repeat([]byte{1}, 60)}},
	{"heads", &RemoteHeadsChanged{"peer-4fzzzxjylrx", "storage-server-host", testDocument, []RemoteHeads{
		{"22222222-2222-4222-8222-222222222222", testHeads[:1], 1700000000000},
	}}},
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range benchMessages {
		b.Run(c.name, func(b *testing.B) {
			frame := Append(nil, c.message)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(frame, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range benchMessages {
		b.Run(c.name, func(b *testing.B) {
			var frame []byte
			b.ReportAllocs()
			for b.Loop() {
				frame = Append(frame[:0], c.message)
			}
			b.SetBytes(int64(len(frame)))
		})
	}
}
