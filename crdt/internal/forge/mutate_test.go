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
// but for a few, and that the mutator does not only mutate frames.
func TestMutantsHaveSoundFrames(t *testing.T) {
	m := NewMutator(1)
	total, parsed, unsound := 0, 0, 0
	for range 400 {
		for _, chunk := range m.History() {
			total++
			if len(chunk) < 9 || chunk[8] == TypeChange && !sound(chunk) {
				unsound++
			}
			if _, err := Parse(chunk); err == nil {
				parsed++
			}
		}
	}
	t.Logf("%d of %d chunks can be read, %d have unsound frames", parsed, total, unsound)
	if parsed < total/2 || parsed == total {
		t.Errorf("%d of %d chunks can be read: too many or too few", parsed, total)
	}
	if unsound == 0 || unsound > total/50 {
		t.Errorf("%d of %d chunks have unsound frames: none, or too many", unsound, total)
	}
}

// A byte of a program is a decision: what it makes depends on the program alone,
// and a program that has ended ends.
func TestProgramsMakeMutants(t *testing.T) {
	honest := newScene().next()
	made := map[string]bool{string(honest.Chunk()): true}
	for a := range 256 {
		for _, program := range [][]byte{nil, {byte(a)}, {byte(a), 7, 9}, bytes.Repeat([]byte{byte(a)}, 40)} {
			mutant := NewProgram(program).Change(honest, nil)
			if again := NewProgram(program).Change(honest, nil); !bytes.Equal(again, mutant) {
				t.Fatalf("program % x makes two different mutants", program)
			}
			made[string(mutant)] = true
		}
	}
	if len(made) < 100 {
		t.Errorf("1,024 programs make %d mutants", len(made))
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
