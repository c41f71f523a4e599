package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"parley/crdt"
)

// Checkpoint is what a signature is over: the state of a log at a size, in the
// form of C2SP's tlog-checkpoint, and what else the signer says of that state, in
// lines that the form leaves free.
type Checkpoint struct {
	Origin string    // names the log: the key's name, a slash, the document's id
	Size   int       // receipts
	Root   crdt.Hash // of the tree over them
	Says   []Saying
}

// Saying is one line: a word, and what is said with it.
type Saying struct{ Word, Text string }

// Text returns the checkpoint as it is signed. No text may have a line feed in
// it.
func (c Checkpoint) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	for _, s := range c.Says {
		fmt.Fprintf(&b, "%s %s\n", s.Word, s.Text)
	}
	return b.String()
}

// ParseCheckpoint reads the signed text. It fails on anything that Text would
// not have written.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 {
		return Checkpoint{}, errors.New("read a checkpoint: fewer than three lines")
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.Atoi(lines[1]); err != nil {
		return Checkpoint{}, fmt.Errorf("read a checkpoint: its size: %w", err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, errors.New("read a checkpoint: its root is no hash in base64")
	}
	c.Root = crdt.Hash(root)
	for _, line := range lines[3:] {
		word, rest, _ := strings.Cut(line, " ")
		c.Says = append(c.Says, Saying{word, rest})
	}
	if c.Text() != text {
		return Checkpoint{}, errors.New("read a checkpoint: it is not written as checkpoints are")
	}
	return c, nil
}

// Said returns what is said with a word, and fails unless that is said once.
func (c Checkpoint) Said(word string) (string, error) {
	found, n := "", 0
	for _, s := range c.Says {
		if s.Word == word {
			found = s.Text
			n++
		}
	}
	if n != 1 {
		return "", fmt.Errorf("the checkpoint says %q %d times, want once", word, n)
	}
	return found, nil
}
