package crdt_test

import (
	"testing"

	"parley/crdt"
	"parley/crdt/historytest"
)

// TestTakesWhatTheEngineMakes is TestTakesWhatJavaScriptMakes for the Go
// client, whose changes are made by an older automerge.
func TestTakesWhatTheEngineMakes(t *testing.T) {
	const histories, length = 20, 100
	for seed := range uint64(histories) {
		h := historytest.Random(seed, 5, length)
		d := crdt.NewDocument(crdt.Limits{})
		for i, change := range h {
			c, err := crdt.DecodeChange(change.Chunk, crdt.Limits{})
			if err != nil {
				t.Fatalf("history %d, change %d: %v", seed, i, err)
			}
			if o := d.Add(c); o.Status != crdt.Accepted {
				t.Fatalf("history %d, change %d: status %d, %v", seed, i, o.Status, o.Refusal)
			}
		}
	}
}
