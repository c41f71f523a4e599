package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
)

// showCmd prints a transaction.
type showCmd struct {
	clientFlags
	txArg
	At string `help:"As it was at these changes: hashes, or the beginnings of hashes that history shows, joined by commas." placeholder:"HEADS"`
}

// Help is shown by kong under the command's one line.
func (*showCmd) Help() string {
	return `A field is contested if people picked without knowing of each other: all their
picks are shown, the one that counts first, until somebody picks again. A field
is missing if it is required and nothing is picked. With --replica it also works
without the server, and says so.`
}

func (c *showCmd) Run(io streams) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	s, err := c.sheet(ctx, id)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io.out, s)
	}
	if s.From == fromReplica {
		fmt.Fprintln(io.err, offlineNotice(s.Pending))
	}
	return printSheet(io.out, s, time.Now())
}

func offlineNotice(pending int) string {
	notice := "offline: this is what the replica has"
	if pending > 0 {
		notice += "; " + count(pending, "change", "changes") + " not on the server yet"
	}
	return notice
}

// sheet is the transaction, of the server or else of the replica.
func (c *showCmd) sheet(ctx context.Context, id transaction.ID) (s *sheet, err error) {
	if c.Replica == "" {
		at, err := fullHashes(c.At, func() ([]event, error) { return c.api().history(ctx, id) })
		if err != nil {
			return nil, err
		}
		return c.api().show(ctx, id, at)
	}
	err = c.withReplica(ctx, id, func(cl *client.Client, offline bool) error {
		s = sheetOf(id, cl.View())
		if c.At != "" {
			then, err := asOf(cl, c.At)
			if err != nil {
				return err
			}
			s = sheetAt(id, cl.View(), then)
		}
		if !offline {
			s.From = fromServer
		}
		return nil
	})
	return s, err
}

// withReplica runs do on the replica, up to date if the server can be reached.
func (f *clientFlags) withReplica(ctx context.Context, id transaction.ID, do func(c *client.Client, offline bool) error) error {
	if err := f.needUser(); err != nil {
		return err
	}
	c, offline, err := f.open(ctx, id)
	if err != nil {
		return err
	}
	return errors.Join(do(c, offline), f.end(c))
}

func asOf(c *client.Client, at string) (*transaction.State, error) {
	heads, err := headsAt(c, at)
	if err != nil {
		return nil, err
	}
	return c.AsOf(heads)
}

// headsAt are the changes that --at names, which the replica has.
func headsAt(c *client.Client, at string) ([]crdt.Hash, error) {
	at, err := fullHashes(at, func() ([]event, error) {
		all, err := c.History()
		return eventsOf(all), err
	})
	if err != nil {
		return nil, err
	}
	var heads []crdt.Hash
	for part := range strings.SplitSeq(at, ",") {
		h, err := crdt.ParseHash(part)
		if err != nil {
			return nil, usagef("--at: %v", err)
		}
		heads = append(heads, h)
	}
	return heads, nil
}

// fullHashes completes the beginnings of hashes by those of the history.
func fullHashes(at string, history func() ([]event, error)) (string, error) {
	const whole = 2 * len(crdt.Hash{})
	if at == "" {
		return "", nil
	}
	parts := strings.Split(at, ",")
	for i, part := range parts {
		part = strings.ToLower(strings.TrimSpace(part))
		parts[i] = part
		if len(part) == whole {
			continue
		}
		events, err := history()
		if err != nil {
			return "", err
		}
		found := make(map[string]bool)
		for _, e := range events {
			if part != "" && strings.HasPrefix(e.Change, part) {
				found[e.Change] = true
				parts[i] = e.Change
			}
		}
		if len(found) != 1 {
			return "", usagef("--at %q: %s begin so: parley history shows them", part, count(len(found), "change", "changes"))
		}
	}
	return strings.Join(parts, ","), nil
}

// printSheet prints a table of fields, and below the name of a contested one
// the picks that lost.
func printSheet(w io.Writer, s *sheet, now time.Time) error {
	const widest = 40
	if len(s.Fields) == 0 {
		_, err := fmt.Fprintf(w, "%s has no fields yet\n", s.ID)
		return err
	}
	rows := [][]string{{"FIELD", "LABEL", "REQUIRED", "PICKED", "BY", "WHEN", "STATE"}}
	for _, name := range fieldNames(s.Fields) {
		f := s.Fields[name]
		row := []string{plain(name), plain(f.Label), yes(f.Required), "-", "", "", stateOf(f)}
		for i, p := range f.Picks {
			if i > 0 {
				row = []string{"", "", "", "", "", "", "contested"}
			}
			row[3], row[4], row[5] = valueText(p.Value), plain(p.By), whenText(p.At, now)
			rows = append(rows, row)
		}
		if len(f.Picks) == 0 {
			rows = append(rows, row)
		}
	}
	if err := writeTable(w, rows, widest); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n%sheads %s\n", summary(s), agreementLine(s, now), strings.Join(s.Heads, ","))
	return err
}

// agreementLine says what the parties have agreed on, in a line, if they have.
func agreementLine(s *sheet, now time.Time) string {
	switch r := s.Resolution; {
	case r != nil:
		return fmt.Sprintf("agreed by %s, %s (resolution %d)\n", and(r.Parties), whenText(r.At, now), r.N)
	case len(s.Resolutions) > 0:
		return "agreed on before, but not on this\n"
	}
	return ""
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// stateOf is what there is to say of a field in one word, or nothing.
func stateOf(f sheetField) string {
	switch {
	case f.Contested:
		return "contested, wins"
	case len(f.Picks) == 0 && f.Required:
		return "missing"
	case !f.Defined:
		return "not defined"
	}
	return ""
}

// fieldNames returns the fields in the order in which they are shown: by label,
// as people look for them, and then by name.
func fieldNames(fields map[string]sheetField) []string {
	return slices.SortedFunc(maps.Keys(fields), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(titleOf(a, fields[a])), strings.ToLower(titleOf(b, fields[b]))), cmp.Compare(a, b))
	})
}

// titleOf is what people call a field.
func titleOf(name string, f sheetField) string {
	if f.Label != "" {
		return plain(f.Label)
	}
	return plain(name)
}

func summary(s *sheet) string {
	if len(s.Contested)+len(s.Missing) == 0 {
		return "nothing is contested, nothing is missing"
	}
	var parts []string
	if n := len(s.Contested); n > 0 {
		parts = append(parts, fmt.Sprintf("%d contested", n))
	}
	if n := len(s.Missing); n > 0 {
		parts = append(parts, fmt.Sprintf("%d missing", n))
	}
	return strings.Join(parts, ", ")
}
