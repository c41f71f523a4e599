package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestExportIsForItsOwner: a record says who offered what, and is not for others on
// this machine, nor becomes so when it is written again.
func TestExportIsForItsOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deal.zip")
	for _, force := range []bool{false, true} {
		if err := writeNew(file, []byte("record"), force); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("mode %v", mode)
		}
	}
}
