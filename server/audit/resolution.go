package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// The words of checkpoints.
const (
	wordFormat      = "format"
	wordTransaction = "transaction"
	wordHeads       = "heads"
	wordFile        = "file"
	wordResolution  = "resolution"
	wordParties     = "parties"
	wordNeeded      = "needed"
	wordQuorum      = "quorum"
	wordAt          = "at"
)

// ResolutionCheckpoint is what the server signs when it seals a resolution, and
// hands to the parties with it: that the log, of so many receipts and with that
// root, is all that they agreed on. The log holds the changes that the
// resolution's heads stand for and none besides. Needed are the parties that the
// settings name then, of whom the quorum must agree; nil if they name none.
//
// Names may hold anything, so they stand in it as JSON.
func ResolutionCheckpoint(origin string, size int, root crdt.Hash, id transaction.ID, r presence.Resolution, needed []string) Checkpoint {
	return Checkpoint{Origin: origin, Size: size, Root: root, Says: []Saying{
		{wordTransaction, string(id)},
		{wordResolution, strconv.Itoa(r.N)},
		{wordHeads, joined(r.Heads)},
		{wordParties, namesText(r.Parties)},
		{wordNeeded, namesText(needed)},
		{wordQuorum, strconv.Itoa(r.Quorum)},
		{wordAt, strconv.FormatInt(r.At, 10)},
	}}
}

// sealed is a resolution that was checked.
type sealed struct {
	presence.Resolution
	signed bool     // it has a checkpoint of its own
	size   int      // of the log when it was sealed
	needed []string // named by the settings then; of signed ones
}

// openResolution reads a resolution's checkpoint, whose signature holds. What it
// says besides is checked where the log is known, by check.
func openResolution(doc crdt.DocumentID, public Public, r presence.Resolution) (sealed, Checkpoint, error) {
	if r.Checkpoint == "" {
		return sealed{Resolution: r}, Checkpoint{}, nil
	}
	c, err := public.Open(doc, r.Checkpoint)
	if err != nil {
		return sealed{}, c, fmt.Errorf("its checkpoint: %w", err)
	}
	text, err := c.Said(wordNeeded)
	if err != nil {
		return sealed{}, c, fmt.Errorf("its checkpoint: %w", err)
	}
	var needed []string
	if err := json.Unmarshal([]byte(text), &needed); err != nil {
		return sealed{}, c, errors.New("its checkpoint: the parties needed are not written as names are")
	}
	return sealed{Resolution: r, signed: true, size: c.Size, needed: needed}, c, nil
}

// check holds a resolution against itself: who agreed, of how many who had to.
func (r *sealed) check() error {
	if r.Quorum < 1 || len(r.Parties) < r.Quorum {
		return fmt.Errorf("%d agreed to it, and %d had to", len(r.Parties), r.Quorum)
	}
	for i, party := range r.Parties {
		if i > 0 && party <= r.Parties[i-1] {
			return fmt.Errorf("%q stands twice or out of order among those who agreed", party)
		}
		if len(r.needed) > 0 && !slices.Contains(r.needed, party) {
			return fmt.Errorf("%q agreed to it, whom nobody asked", party)
		}
	}
	return nil
}

// checkState holds a resolution against the transaction as it was when the log
// had its size: exactly its heads, nothing contested and nothing missing.
func (r *sealed) checkState(s *transaction.State) error {
	if heads := s.Heads(); !slices.Equal(heads, r.Heads) {
		return fmt.Errorf("it is over the heads %s, and when the log had %d receipts the heads were %s", joined(r.Heads), s.Len(), joined(heads))
	}
	if fields := s.Contested(); len(fields) > 0 {
		return fmt.Errorf("%q was contested then", fields[0])
	}
	if fields := s.Missing(); len(fields) > 0 {
		return fmt.Errorf("nothing was picked for %q then, which is required", fields[0])
	}
	return nil
}

// joined writes hashes as they stand in checkpoints.
func joined(hs []crdt.Hash) string {
	texts := make([]string, len(hs))
	for i, h := range hs {
		texts[i] = h.String()
	}
	return strings.Join(texts, ",")
}

func namesText(names []string) string {
	if names == nil {
		names = []string{}
	}
	return string(jsonLine(names))
}
