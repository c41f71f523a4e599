package audit

import (
	"testing"
)

// A record of 10,000 changes is to be written and verified in 5 s on two cores.
const benchChanges = 10_000

func BenchmarkWrite(b *testing.B) {
	s := long(b, benchChanges)
	b.ReportAllocs()
	for b.Loop() {
		record := s.record()
		b.SetBytes(int64(len(record)))
	}
}

func BenchmarkVerify(b *testing.B) {
	s := long(b, benchChanges)
	record := s.record()
	b.ReportAllocs()
	b.SetBytes(int64(len(record)))
	for b.Loop() {
		if _, err := Verify(record, s.key.Public(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
