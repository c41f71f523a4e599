package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/audit"
	"parley/server/store"
	"parley/sync/presence"
)

// limits are no server's, whose operator may have chosen others: what is stored
// was let in by them once.
var limits = crdt.NoLimits

// history is what the rows of a document's changes make.
type history struct {
	graph crdt.Graph
	// whole: every change is there, sound, and after all that it depends on. The
	// graph is of all rows then.
	whole bool
}

// document checks all that is stored of one.
func (c *checking) document(raw *store.Raw) {
	d := &document{report: c.report, id: raw.ID}
	if len(raw.Changes) > 0 {
		d.tx = transactionOf(raw.ID, raw.Changes[0].Chunk)
	}
	for _, u := range raw.Unread {
		d.fault(u.What, 0, doDocument, "it cannot be read: %v", u.Err)
	}
	if len(raw.Changes) == 0 && raw.Settings == nil && len(raw.Resolutions) == 0 && len(raw.Unread) == 0 {
		d.fault(InDocument, 0, doDocument, "nothing is stored of it, not even a change")
	}
	h := d.changes(raw.Changes, raw.Pack)
	d.receipts(raw.Changes)
	settings := d.settings(raw.Settings)
	resolutions := d.resolutions(raw.Resolutions, h)
	if raw.Snapshot != nil {
		d.snapshot(raw.Snapshot, h)
	}
	if raw.Pack != nil {
		d.pack(raw.Pack, raw.Changes, h)
	}
	if c.opt.Quick || !h.whole || len(raw.Unread) > 0 || len(raw.Changes) == 0 {
		return
	}
	if d.tx == "" {
		d.gate(raw.Changes)
		return
	}
	if settings == nil || len(resolutions) != len(raw.Resolutions) {
		return // said already
	}
	c.transaction(d, raw, h, *settings, resolutions)
}

// transactionOf returns the transaction that a document is whose first change this
// is, "" if it is none.
func transactionOf(doc crdt.DocumentID, first []byte) transaction.ID {
	c, err := crdt.DecodeChange(first, limits)
	if err != nil {
		return ""
	}
	if id, ok := transaction.OfGenesis(c); ok && id.Document() == doc {
		return id
	}
	return ""
}

// changes checks the rows one by one: their numbers, their hashes, that each is a
// change, and what it depends on.
func (d *document) changes(rows []store.RawChange, pack *store.RawPack) *history {
	h := &history{whole: true}
	lost := make(map[crdt.Hash]bool) // what is damaged or missing, and what builds on it
	next, built := 1, 0
	wrong := func(n int, format string, args ...any) {
		h.whole = false
		do := doDocument
		switch stored := slices.ContainsFunc(rows, func(row store.RawChange) bool { return row.N == n }); {
		case inPack(pack, n) && stored:
			do = doPacked
		case inPack(pack, n):
			do = doGone
		}
		d.fault(InChange, n, do, format, args...)
	}
	for i := range rows {
		row := &rows[i]
		if row.N > next {
			wrong(next, "%s missing: the next that is there is %d", fromTo(next, row.N-1), row.N)
		}
		next = row.N + 1
		c, err := crdt.DecodeHeader(row.Chunk)
		switch {
		case err != nil:
			lost[row.Hash] = true
			wrong(row.N, "it is damaged, %s: %v", row.Hash, err)
			continue
		case c.Hash != row.Hash:
			wrong(row.N, "it is stored under the hash %s, and its bytes have the hash %s", row.Hash, c.Hash)
		}
		switch missing := h.missing(c.Deps, lost); {
		case h.graph.Accepted(c.Hash):
			wrong(row.N, "it is stored twice, %s", c.Hash)
		case missing != nil:
			lost[c.Hash] = true
			if lost[*missing] {
				built++
				continue
			}
			lost[*missing] = true
			wrong(row.N, "it builds on %s, which is not stored before it", *missing)
		default:
			h.graph.Append(crdt.Node{Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, Seq: c.Seq, MaxOp: c.MaxOp(), Chunk: row.Chunk})
		}
	}
	if built > 0 {
		h.whole = false
		d.report.note("document %s: on what is damaged or missing there build more changes, %d", d.id, built)
	}
	return h
}

// inPack says whether the document's pack, from which a server loads it, holds a
// sound change under a number.
func inPack(p *store.RawPack, n int) bool {
	if p == nil || p.Pack == nil || n > len(p.Hashes) {
		return false
	}
	c, err := crdt.DecodeHeader(p.Chunks[n-1])
	return err == nil && c.Hash == p.Hashes[n-1]
}

func fromTo(from, to int) string {
	if from == to {
		return "it is"
	}
	return fmt.Sprintf("it and those up to %d are", to)
}

// missing returns the first of deps that was not accepted, one that is known to
// be lost rather than another.
func (h *history) missing(deps []crdt.Hash, lost map[crdt.Hash]bool) (found *crdt.Hash) {
	for i := range deps {
		if h.graph.Accepted(deps[i]) {
			continue
		}
		if found = &deps[i]; lost[deps[i]] {
			return found
		}
	}
	return found
}

// roles that a receipt may name.
var roles = []string{"", string(transaction.Host), string(transaction.Party), string(transaction.Viewer), string(transaction.Auditor)}

// receipts checks that every change has one. Those from before there were any have
// no time, and come first.
func (d *document) receipts(rows []store.RawChange) {
	var newest int64
	earlier, first := 0, 0
	for i := range rows {
		row := &rows[i]
		switch {
		case row.At < 0 || row.At == 0 && newest > 0:
			d.fault(InReceipt, row.N, doWitness, "it does not say when the change came")
		case !slices.Contains(roles, row.Role):
			d.fault(InReceipt, row.N, doWitness, "it names a role that there is not: %q", row.Role)
		case row.At < newest:
			if earlier++; earlier == 1 {
				first = row.N
			}
		}
		newest = max(newest, row.At)
	}
	if earlier > 0 {
		d.report.note("document %s: %d receipts are older than those before them, the first is %d: the server's clock was set back, or receipts were exchanged", d.id, earlier, first)
	}
}

// settings returns what they say, nil if that cannot be read.
func (d *document) settings(stored []byte) *presence.Settings {
	s := presence.Settings{Policy: presence.Reopen}
	if stored == nil {
		return &s
	}
	if err := json.Unmarshal(stored, &s); err != nil {
		d.fault(InSettings, 0, doDocument, "they cannot be read: %v", err)
		return nil
	}
	if s.Policy != presence.Reopen && s.Policy != presence.Lock || s.Quorum < 0 {
		d.fault(InSettings, 0, doDocument, "they say what cannot be: policy %q, quorum %d", s.Policy, s.Quorum)
		return nil
	}
	return &s
}

// resolutions returns those that can be read: all, if nothing is wrong with them.
func (d *document) resolutions(rows []store.RawResolution, h *history) (list []presence.Resolution) {
	for i, row := range rows {
		var r presence.Resolution
		err := json.Unmarshal(row.Data, &r)
		switch {
		case row.N != i+1:
			d.fault(InResolution, i+1, doWitness, "it is missing: the next that is there is %d", row.N)
			return list
		case err != nil:
			d.fault(InResolution, row.N, doDocument, "it cannot be read: %v", err)
		case r.N != row.N:
			d.fault(InResolution, row.N, doWitness, "it says of itself that it is number %d", r.N)
		case !slices.Equal(r.Heads, row.Heads):
			d.fault(InResolution, row.N, doWitness, "it is stored under other heads than it is over")
		case h.whole && !h.holds(r.Heads):
			d.fault(InResolution, row.N, doWitness, "it is over a change that is not stored")
		default:
			list = append(list, r)
		}
	}
	return list
}

func (h *history) holds(heads []crdt.Hash) bool {
	return !slices.ContainsFunc(heads, func(head crdt.Hash) bool { return !h.graph.Accepted(head) })
}

// headsAt returns the heads of the first n changes, sorted.
func (h *history) headsAt(n int) []crdt.Hash {
	heads := make(map[crdt.Hash]bool)
	for i := range n {
		heads[h.graph.HashAt(i)] = true
		for _, dep := range h.graph.DepsOf(i) {
			delete(heads, h.graph.HashAt(int(dep)))
		}
	}
	return crdt.SortHashes(slices.Collect(maps.Keys(heads)))
}

func (d *document) snapshot(s *store.RawSnapshot, h *history) {
	switch {
	case !s.Sound:
		d.fault(InSnapshot, 0, doNothing, "its bytes are not those that were stored: their SHA-256 is another")
	case !h.whole: // what it should be is not known
	case s.Changes < 0 || s.Changes > h.graph.Len():
		d.lostEnd(InSnapshot, s.Changes, h.graph.Len())
	case !slices.Equal(s.Heads, h.headsAt(s.Changes)):
		d.fault(InSnapshot, 0, doNothing, "its heads are not those of the first %d changes, of which it says that it is", s.Changes)
	}
}

// lostEnd reports something that is of more changes than there are.
func (d *document) lostEnd(in string, of, stored int) {
	d.fault(in, 0, doDocument, "it is of %d changes, and %d are stored: the last are missing", of, stored)
}

// pack holds a pack against the rows.
func (d *document) pack(p *store.RawPack, rows []store.RawChange, h *history) {
	switch {
	case p.Pack == nil:
		d.fault(InPack, 0, doNothing, "its bytes are not those that were stored, or of another version")
	case p.Changes != len(p.Hashes):
		d.fault(InPack, 0, doNothing, "it is of %d changes, and its row says %d", len(p.Hashes), p.Changes)
	case !h.whole: // what it should be is not known
	case p.Changes > len(rows):
		d.lostEnd(InPack, p.Changes, len(rows))
	default:
		for i, hash := range p.Hashes {
			if hash != rows[i].Hash || !bytes.Equal(p.Chunks[i], rows[i].Chunk) {
				d.fault(InPack, 0, doNothing, "change %d in it is not the one that is stored", i+1)
				return
			}
			if p.Users[i] != rows[i].User {
				d.fault(InReceipt, i+1, doWitness, "it names %q, and where all changes are packed %q is named", rows[i].User, p.Users[i])
				return
			}
		}
		d.packIndex(p, h)
	}
}

func (d *document) packIndex(p *store.RawPack, h *history) {
	indexed := crdt.NewDocument(limits)
	if err := indexed.LoadIndexed(p.Index, p.Hashes, p.Chunks); err != nil {
		d.fault(InPack, 0, doNothing, "its index cannot be read: %v", err)
		return
	}
	for i := range p.Hashes {
		got, want := indexed.Graph.At(i), h.graph.At(i)
		if got.Actor != want.Actor || got.Seq != want.Seq || got.MaxOp != want.MaxOp || !slices.Equal(got.Deps, want.Deps) {
			d.fault(InPack, 0, doNothing, "its index says otherwise than change %d does", i+1)
			return
		}
	}
}

// gate passes the changes of a plain document through what let them in.
func (d *document) gate(rows []store.RawChange) {
	gate := crdt.NewDocument(limits)
	for i := range rows {
		c, err := crdt.DecodeChange(rows[i].Chunk, limits)
		if err != nil {
			d.fault(InChange, rows[i].N, doDocument, "it cannot be read: %v", err)
			return
		}
		if out := gate.Add(c); out.Status != crdt.Accepted {
			what := "it is there already, or comes before what it builds on"
			if out.Refusal != nil {
				what = out.Refusal.Error()
			}
			d.fault(InChange, rows[i].N, doDocument, "it breaks the rules: %s", what)
			return
		}
	}
}

// transaction checks what a record would prove: who did what by which right, and
// what was signed of it.
func (c *checking) transaction(d *document, raw *store.Raw, h *history, settings presence.Settings, resolutions []presence.Resolution) {
	src := audit.Source{Transaction: d.tx, Settings: settings, Resolutions: resolutions}
	for i := range raw.Changes {
		row := &raw.Changes[i]
		src.Changes = append(src.Changes, row.Chunk)
		src.Receipts = append(src.Receipts, audit.Receipt{
			N: i, Change: row.Hash, Actor: h.graph.ActorAt(i), User: row.User, Role: transaction.Role(row.Role), At: row.At,
		})
	}
	public := c.opt.Public
	if public == nil {
		public = &audit.Public{}
		for i := range src.Resolutions {
			if src.Resolutions[i].Checkpoint != "" {
				src.Resolutions[i].Checkpoint = ""
				c.unsigned++
			}
		}
	}
	err := audit.Check(src, *public)
	var at *audit.AtError
	switch {
	case err == nil:
	case errors.As(err, &at) && at.Resolution > 0:
		d.fault(InResolution, at.Resolution, doWitness, "%v", at.Err)
	case errors.As(err, &at):
		d.fault(InChange, at.Change+1, doWitness, "%v", at.Err)
	default:
		d.fault(InDocument, 0, doWitness, "%v", err)
	}
}
