package audit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// account is what a source says, once all of it was checked: what a record
// shows.
type account struct {
	src         Source
	doc         crdt.DocumentID
	public      Public
	log         Log
	root        crdt.Hash
	entries     []entry // of the log
	heads       []crdt.Hash
	resolutions []sealed
	state       *transaction.State // as of the heads
	stories     map[string]*fieldStory
}

// entry is one change, in the order of the log.
type entry struct {
	hash           crdt.Hash
	deps           []crdt.Hash
	actor          crdt.ActorID
	seq            uint64
	time           int64 // seconds since 1970, as the author claims
	message        string
	offset, length int // in document.automerge
	inPast         bool
	deeds          []deed
}

// deed is what a change did to one field.
type deed struct {
	transaction.Event
	definition *transaction.Field // of FieldSet: the field as it was then
}

// roles that a receipt may name. A first change may come from anybody.
var roles = []transaction.Role{transaction.Host, transaction.Party, transaction.Viewer, transaction.Auditor, ""}

// openedResolution is a resolution on its way through the replay.
type openedResolution struct {
	sealed
	checkpoint Checkpoint
}

// replay passes all changes, in the order of the log, through what the server
// lets changes pass through: the gate, the schema, and the rules of who may
// write what, each in the name of whom its receipt names.
type replay struct {
	account
	gate    *crdt.Document
	full    *transaction.State // of all changes so far
	owner   map[crdt.ActorID]string
	at      map[crdt.Hash]int // where changes stand in the log
	pending []openedResolution
	offset  int
}

// AtError says where in a transaction something does not hold.
type AtError struct {
	Change     int // that is wrong, counted from 0; of the others -1
	Resolution int // that is wrong, counted from 1; of the others 0
	Err        error
}

func (e *AtError) Error() string {
	if e.Resolution > 0 {
		return fmt.Sprintf("resolution %d: %v", e.Resolution, e.Err)
	}
	return fmt.Sprintf("change %d: %v", e.Change, e.Err)
}

func (e *AtError) Unwrap() error { return e.Err }

func atResolution(n int, err error) error { return &AtError{Change: -1, Resolution: n, Err: err} }

// Check finds out whether a record could be made of a source: whether its changes
// pass the gate and the schema, each in the name that its receipt gives, and its
// resolutions hold, with their signatures and the roots of the log that these are
// over. It returns the first that does not, an [*AtError] where that has a place.
func Check(src Source, public Public) error {
	_, err := check(src, public, nil)
	return err
}

// check returns the account of a source, or the first thing in it that does not
// hold. Progress is told of every change, of how many; nil: nobody asks.
func check(src Source, public Public, progress func(done, total int)) (*account, error) {
	doc := src.Transaction.Document()
	r := &replay{
		account: account{src: src, doc: doc, public: public},
		gate:    crdt.NewDocument(limits),
		owner:   make(map[crdt.ActorID]string), at: make(map[crdt.Hash]int, len(src.Changes)),
	}
	r.full = transaction.Of(src.Transaction, &r.gate.Graph)
	if len(src.Changes) == 0 {
		return nil, errors.New("there is no change in it, not even the first, which every transaction has")
	}
	if len(src.Receipts) != len(src.Changes) {
		return nil, fmt.Errorf("there are %d changes and %d receipts", len(src.Changes), len(src.Receipts))
	}
	if err := r.openResolutions(); err != nil {
		return nil, err
	}
	for i := range src.Changes {
		if err := r.step(i); err != nil {
			return nil, &AtError{Change: i, Err: err}
		}
		if err := r.resolve(i + 1); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(i+1, len(src.Changes))
		}
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return &r.account, nil
}

// limits are no server's, whose operator chooses them, but what a reader can be
// asked to hold, many times the usual ones.
var limits = crdt.Limits{
	ChangeBytes: 256 << 20, Ops: 1 << 20, Preds: 4 << 20, Deps: 1 << 20, Actors: 1 << 20, MessageBytes: 16 << 20, ExtraBytes: 1 << 20,
	DocumentBytes: math.MaxInt, DocumentOps: math.MaxInt32, Heads: math.MaxInt32,
}

// step checks change i and its receipt, and applies it.
func (r *replay) step(i int) error {
	chunk, receipt := r.src.Changes[i], &r.src.Receipts[i]
	c, err := crdt.DecodeChange(chunk, limits)
	if err != nil {
		return err
	}
	if err := checkReceipt(receipt, i, c); err != nil {
		return err
	}
	if err := r.admit(c, receipt); err != nil {
		return err
	}
	if err := r.full.Apply(c); err != nil {
		return err
	}
	if _, bound := r.owner[c.Actor]; !bound && receipt.User != "" && c.Actor != transaction.GenesisActor {
		r.owner[c.Actor] = receipt.User
	}
	r.at[c.Hash] = i
	r.log.Append(receipt.Leaf())
	r.entries = append(r.entries, entry{
		hash: c.Hash, deps: c.Deps, actor: r.gate.Graph.ActorAt(i), seq: c.Seq, time: c.Time, message: strings.Clone(c.Message),
		offset: r.offset, length: len(chunk), deeds: deedsOf(r.full, c.Hash),
	})
	r.offset += len(chunk)
	return nil
}

func checkReceipt(receipt *Receipt, i int, c *crdt.Change) error {
	switch {
	case receipt.N != i:
		return fmt.Errorf("its receipt counts as number %d", receipt.N)
	case receipt.Change != c.Hash:
		return fmt.Errorf("its hash is %s, and its receipt is of %s", c.Hash, receipt.Change)
	case receipt.Actor != c.Actor:
		return fmt.Errorf("its actor is %s, and its receipt names %s", c.Actor, receipt.Actor)
	case !slices.Contains(roles, receipt.Role):
		return fmt.Errorf("its receipt names a role that there is not: %q", receipt.Role)
	}
	return nil
}

// admit asks the gate and the schema.
func (r *replay) admit(c *crdt.Change, receipt *Receipt) error {
	author := transaction.Author{User: receipt.User, Role: receipt.Role}
	outcome := r.gate.AddIf(c, func(c *crdt.Change) *crdt.Refusal {
		return r.full.Check(c, author, func(a crdt.ActorID) string { return r.owner[a] })
	})
	switch outcome.Status {
	case crdt.Known:
		return fmt.Errorf("%s stands twice", c.Hash)
	case crdt.Held:
		return fmt.Errorf("%s depends on %s, which does not stand before it", c.Hash, outcome.Missing[0])
	case crdt.Refused:
		return fmt.Errorf("%s, delivered by %q as %q, breaks the rules: %s", c.Hash, receipt.User, receipt.Role, outcome.Refusal.Reason)
	}
	return nil
}

func deedsOf(s *transaction.State, change crdt.Hash) []deed {
	events := s.EventsOf(change)
	deeds := make([]deed, len(events))
	for i, e := range events {
		deeds[i].Event = e
		if e.Kind != transaction.FieldSet {
			continue
		}
		if f, ok := s.Field(e.Field); ok {
			deeds[i].definition = &f
		}
	}
	return deeds
}

// openResolutions reads the checkpoints of all resolutions, and what can be said
// of them before the log is read.
func (r *replay) openResolutions() error {
	last := 0
	for i, resolution := range r.src.Resolutions {
		opened, err := r.openResolution(i, resolution)
		if err == nil && opened.size <= last {
			err = fmt.Errorf("the log had %d receipts then, and %d at the one before", opened.size, last)
		}
		if err == nil && opened.size > len(r.src.Changes) {
			err = fmt.Errorf("the log had %d receipts then, and has %d in this record", opened.size, len(r.src.Changes))
		}
		if err != nil {
			return atResolution(i+1, err)
		}
		last = opened.size
		r.pending = append(r.pending, opened)
	}
	return nil
}

func (r *replay) openResolution(i int, resolution presence.Resolution) (openedResolution, error) {
	if resolution.N != i+1 {
		return openedResolution{}, fmt.Errorf("it counts as number %d", resolution.N)
	}
	s, c, err := openResolution(r.doc, r.public, resolution)
	if err == nil {
		err = s.check()
	}
	if err == nil && !s.signed {
		s.size, err = r.sizeAt(resolution.Heads)
	}
	return openedResolution{s, c}, err
}

// sizeAt is the size of the shortest log that holds all of heads, by its
// receipts.
func (r *replay) sizeAt(heads []crdt.Hash) (int, error) {
	size := 0
	for _, h := range heads {
		i := slices.IndexFunc(r.src.Receipts, func(receipt Receipt) bool { return receipt.Change == h })
		if i < 0 {
			return 0, fmt.Errorf("there is no change %s, which it is over", h)
		}
		size = max(size, i+1)
	}
	return size, nil
}

// resolve checks the resolution that was sealed when the log had so many
// receipts, if one was.
func (r *replay) resolve(size int) error {
	if len(r.pending) == 0 || r.pending[0].size != size {
		return nil
	}
	opened := r.pending[0]
	r.pending = r.pending[1:]
	err := opened.checkState(r.full)
	if err == nil && opened.signed {
		err = r.checkCheckpoint(&opened)
	}
	if err != nil {
		return atResolution(opened.N, err)
	}
	r.resolutions = append(r.resolutions, opened.sealed)
	return nil
}

// checkCheckpoint holds all that a resolution's checkpoint says against the
// resolution and the log.
func (r *replay) checkCheckpoint(opened *openedResolution) error {
	root, err := r.log.Root(opened.size)
	if err != nil {
		return err
	}
	if root != opened.checkpoint.Root {
		return fmt.Errorf("its checkpoint is over another log: the root of the first %d receipts is %s there, and is %s here", opened.size, opened.checkpoint.Root, root)
	}
	want := ResolutionCheckpoint(r.public.Origin(r.doc), opened.size, root, r.src.Transaction, opened.Resolution, opened.needed)
	if got := opened.checkpoint.Text(); got != want.Text() {
		line, theirs, ours := differingLine(got, want.Text())
		return fmt.Errorf("its checkpoint says otherwise, in line %d: %q there, %q in the record", line, theirs, ours)
	}
	return nil
}

// finish reads off what is shown: the state as of the heads, and how it came
// about.
func (r *replay) finish() (err error) {
	if r.root, err = r.log.Root(r.log.Size()); err != nil {
		return err
	}
	heads := r.src.Heads
	if heads == nil {
		heads = r.full.Heads()
	}
	if err := r.markPast(heads); err != nil {
		return err
	}
	if err := r.tell(); err != nil {
		return err
	}
	r.heads = r.state.Heads() // each once, and none that another builds on
	for i := range r.resolutions {
		if h, ok := outside(r.resolutions[i].Heads, r.state); ok {
			return fmt.Errorf("resolution %d is over %s, which the record is not about", i+1, h)
		}
	}
	return nil
}

// markPast marks the entries of the heads and of all that they depend on. The
// last of the log is one of them: what came later is not in the record.
func (r *replay) markPast(heads []crdt.Hash) error {
	for _, h := range heads {
		i, ok := r.at[h]
		if !ok {
			return fmt.Errorf("there is no change %s, which the record is about", h)
		}
		r.entries[i].inPast = true
	}
	last := len(r.entries) - 1
	if !r.entries[last].inPast {
		return fmt.Errorf("change %d came to the log after all that the record is about", last)
	}
	for i := last; i >= 0; i-- {
		if r.entries[i].inPast {
			for _, dep := range r.entries[i].deps {
				r.entries[r.at[dep]].inPast = true
			}
		}
	}
	return nil
}

func outside(heads []crdt.Hash, s *transaction.State) (crdt.Hash, bool) {
	i := slices.IndexFunc(heads, func(h crdt.Hash) bool { return !s.Has(h) })
	if i < 0 {
		return crdt.Hash{}, false
	}
	return heads[i], true
}

// differingLine returns the first line, counted from 1, in which two texts
// differ.
func differingLine(a, b string) (n int, inA, inB string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(as), len(bs)) {
		inA, inB = "", ""
		if i < len(as) {
			inA = as[i]
		}
		if i < len(bs) {
			inB = bs[i]
		}
		if i >= len(as) || i >= len(bs) || inA != inB {
			return i + 1, inA, inB
		}
	}
	return 0, "", ""
}
