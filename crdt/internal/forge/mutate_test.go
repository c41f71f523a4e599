package forge

import (
	"bytes"
	"testing"
)

func TestMutantsDependOnTheSeedAlone(t *testing.T) {
	for seed := range uint64(50) {
		a, b := NewMutator(seed).History(), NewMutator(seed).History()
		if len(a) != len(b) || !bytes.Equal(bytes.Join(a, nil), bytes.Join(b, nil)) {
			t.Fatalf("seed %d makes two different histories", seed)
		}
	}
}

// TestMutantsHaveSoundFrames checks that mutants get past length and checksum,
// and that the mutator does not only mutate frames.
func TestMutantsHaveSoundFrames(t *testing.T) {
	m := NewMutator(1)
	total, parsed := 0, 0
	for range 400 {
		for _, chunk := range m.History() {
			total++
			if chunk[8] == TypeChange && !sound(chunk) {
				t.Fatalf("% x", chunk)
			}
			if _, err := Parse(chunk); err == nil {
				parsed++
			}
		}
	}
	t.Logf("%d of %d chunks can be read", parsed, total)
	if parsed < total/2 || parsed == total {
		t.Errorf("%d of %d chunks can be read: too many or too few", parsed, total)
	}
}

func FuzzParse(f *testing.F) {
	for _, chunk := range NewMutator(1).History() {
		f.Add(chunk)
	}
	f.Fuzz(func(t *testing.T, chunk []byte) {
		if c, err := Parse(chunk); err == nil {
			c.Chunk()
		}
		NewMutator(uint64(len(chunk))).Chunk(chunk)
	})
}
