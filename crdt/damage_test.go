package crdt_test

import (
	"bytes"
	"testing"

	"github.com/automerge/automerge-go"

	"parley/crdt"
	"parley/crdt/historytest"
	"parley/crdt/internal/forge"
)

// TestDamagedSnapshots compacts, in a child, snapshots with wrong parts and
// checksums to match. The engine may refuse one or die of it, but what is made of
// one holds every change as it was.
func TestDamagedSnapshots(t *testing.T) {
	const documents = 6
	mutants := runs(t, 600) / documents
	made, refused, died := 0, 0, 0
	for seed := range uint64(documents) {
		chunks := historytest.Random(seed, 3, 12).Chunks()
		d := setUp(t, chunks)
		good, err := crdt.Compact(nil, chunks, d.Graph.Tips())
		if err != nil {
			t.Fatal(err)
		}
		var jobs [][][]byte
		for i := range mutants {
			snapshot := forge.NewMutator(seed<<32 | uint64(i)).Document(good.Data)
			jobs = append(jobs, append([][]byte{damaged, snapshot}, chunks...))
		}
		for len(jobs) > 0 {
			answers, death := runChild(t, jobs)
			for i, a := range answers {
				switch a {
				case answerSame:
					made++
				case answerRefused:
					refused++
				default:
					t.Errorf("%s\n%s", a, describe(jobs[i]))
				}
			}
			jobs = jobs[len(answers):]
			if death != "" && len(jobs) > 0 {
				jobs = jobs[1:]
				died++
			}
		}
	}
	t.Logf("%d were as good, %d were refused, the engine died of %d", made, refused, died)
	if made == 0 || refused < documents*mutants/2 {
		t.Errorf("%d snapshots of %d were refused: too few", refused, documents*mutants)
	}
}

// damaged begins a job that is a snapshot and the changes which it should hold.
var damaged = []byte("damaged snapshot")

// A child's answers to such a job.
const (
	answerSame    = "same"
	answerRefused = "refused"
)

// compactDamaged is a child's answer to a snapshot.
func compactDamaged(snapshot []byte, chunks [][]byte) string {
	d := crdt.NewDocument(crdt.Limits{})
	if err := d.Load(chunks...); err != nil {
		return err.Error()
	}
	made, err := crdt.Compact(&crdt.Snapshot{Data: snapshot}, nil, d.Graph.Tips())
	if err != nil {
		return answerRefused
	}
	doc, err := automerge.Load(made.Data)
	if err != nil {
		return "what is made of it does not load: " + err.Error()
	}
	changes, err := doc.Changes()
	if err != nil || len(changes) != len(chunks) || made.Changes != len(chunks) {
		return "what is made of it has other changes"
	}
	for _, c := range changes {
		i, ok := d.Graph.Index(crdt.Hash(c.Hash()))
		if !ok {
			return "what is made of it has a change " + c.Hash().String()
		}
		if b := c.Save(); b[8] == forge.TypeChange && !bytes.Equal(b, d.Graph.ChunkAt(i)) {
			return "a change is another: " + c.Hash().String()
		}
	}
	return answerSame
}
