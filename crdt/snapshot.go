package crdt

import (
	"fmt"
	"slices"

	"parley/crdt/internal/engine"
)

// Snapshot is a whole document in one chunk: what the changes it was made of
// say, in a fraction of their bytes. It replaces nothing: the changes remain
// the truth, and a snapshot may be dropped and made again.
type Snapshot struct {
	Heads   []Hash // sorted
	Changes int    // how many changes it holds
	Data    []byte // an Automerge document chunk
}

// Compact makes the snapshot of prev, which may be nil, and the chunks of
// further changes, in any order and with repeats. It fails unless they make
// exactly the document with these heads, and unless the snapshot was read back
// with the same heads and the same number of changes; nothing is returned then.
//
// Compact calls the engine, which crashes or hangs on crafted bytes and cannot
// be interrupted: chunks must have passed [DecodeChange] and [Document.Add], prev
// must have come from Compact, and a server calls it through server/compact.
func Compact(prev *Snapshot, chunks [][]byte, heads []Hash) (Snapshot, error) {
	want := SortHashes(slices.Clone(heads))
	made, err := save(prev, chunks)
	if err != nil {
		return Snapshot{}, fmt.Errorf("compact %d changes: %w", len(chunks), err)
	}
	if !slices.Equal(made.Heads, want) {
		return Snapshot{}, fmt.Errorf("compact %d changes: they make other heads (%d) than wanted (%d)", len(chunks), len(made.Heads), len(want))
	}
	if err := made.check(); err != nil {
		return Snapshot{}, fmt.Errorf("compact %d changes: %w", len(chunks), err)
	}
	return made, nil
}

// save frees the document before it returns: it and the one that check loads
// are never in memory together.
func save(prev *Snapshot, chunks [][]byte) (Snapshot, error) {
	doc, err := load(prev, chunks)
	if err != nil {
		return Snapshot{}, err
	}
	defer doc.Close()
	return snapshotOf(doc)
}

// check loads the snapshot again. The engine has bugs by which it saves what no
// engine can load.
func (s *Snapshot) check() error {
	doc, err := engine.Load(s.Data, nil)
	if err != nil {
		return fmt.Errorf("read the snapshot back: %w", err)
	}
	defer doc.Close()
	heads, changes, err := extent(doc)
	if err != nil {
		return err
	}
	if !slices.Equal(heads, s.Heads) || changes != s.Changes {
		return fmt.Errorf("read the snapshot back: %d of %d changes, or other heads (%d) than saved (%d)", changes, s.Changes, len(heads), len(s.Heads))
	}
	return nil
}

// Materialize returns the document that prev, which may be nil, and the chunks
// make together as one line of JSON, keys sorted by their bytes, the winner
// where picks conflict. Integers are exact, floats the shortest that read back;
// bytes are base64 strings, timestamps RFC 3339 strings in UTC, NaN and the
// infinities strings, counters numbers, text a string. The conditions and the
// warning of [Compact] hold.
func Materialize(prev *Snapshot, chunks [][]byte) ([]byte, error) {
	doc, err := load(prev, chunks)
	if err != nil {
		return nil, fmt.Errorf("materialize: %w", err)
	}
	defer doc.Close()
	json, err := doc.JSON()
	if err != nil {
		return nil, fmt.Errorf("materialize: %w", err)
	}
	return json, nil
}

func load(prev *Snapshot, chunks [][]byte) (*engine.Doc, error) {
	if prev == nil {
		return engine.Load(nil, chunks)
	}
	return engine.Load(prev.Data, chunks)
}

func snapshotOf(doc *engine.Doc) (s Snapshot, err error) {
	if s.Heads, s.Changes, err = extent(doc); err != nil {
		return Snapshot{}, err
	}
	if s.Data, err = doc.Save(); err != nil {
		return Snapshot{}, err
	}
	return s, nil
}

// extent is what tells documents apart cheaply: heads and number of changes.
func extent(doc *engine.Doc) ([]Hash, int, error) {
	raw, err := doc.Heads()
	if err != nil {
		return nil, 0, err
	}
	changes, err := doc.NumChanges()
	if err != nil {
		return nil, 0, err
	}
	heads := make([]Hash, len(raw))
	for i, h := range raw {
		heads[i] = h
	}
	return heads, changes, nil
}
