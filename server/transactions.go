package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/store"
	"parley/sync/presence"
	"parley/sync/wire"
)

// maxBody is how long the body of a request may be, in bytes.
const maxBody = 4 << 20

// maxParties is how many parties a transaction may name.
const maxParties = 1000

// transactionRequest is the body of POST /v1/transactions. What it does not
// mention stays as it is.
type transactionRequest struct {
	ID      string                       `json:"id"`
	Fields  map[string]transaction.Field `json:"fields"`
	Parties *[]string                    `json:"parties"`
	Quorum  *int                         `json:"quorum"`
	Policy  *presence.Policy             `json:"policy"`
}

// over returns the settings that the request makes of those there are.
func (r *transactionRequest) over(old presence.Settings) (presence.Settings, error) {
	if r.Parties != nil {
		old.Parties = slices.Compact(slices.Sorted(slices.Values(*r.Parties)))
	}
	if r.Quorum != nil {
		old.Quorum = *r.Quorum
	}
	if r.Policy != nil {
		old.Policy = *r.Policy
	}
	switch {
	case old.Policy != presence.Reopen && old.Policy != presence.Lock:
		return old, badRequest("there is no policy %q: use reopen or lock", old.Policy)
	case len(old.Parties) > maxParties:
		return old, badRequest("more than %d parties", maxParties)
	case slices.ContainsFunc(old.Parties, func(p string) bool { return p == "" || len(p) > maxUser }):
		return old, badRequest("the name of a party is empty or longer than %d bytes", maxUser)
	case old.Quorum < 0 || len(old.Parties) > 0 && old.Quorum > len(old.Parties):
		return old, badRequest("quorum %d: want 0 (all) to the number of parties, %d", old.Quorum, len(old.Parties))
	}
	return old, nil
}

// readSettings reads settings as they are stored, nil for those of a new
// transaction.
func readSettings(stored []byte) (s presence.Settings, err error) {
	s.Policy = presence.Reopen
	if stored != nil {
		err = json.Unmarshal(stored, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the settings of a transaction: %w", err)
	}
	return s, nil
}

func badRequest(format string, args ...any) *problem {
	return newProblem(http.StatusBadRequest, codeBadRequest, fmt.Sprintf(format, args...))
}

// transactionAnswer is a transaction as GET /v1/transactions/{id} shows it.
type transactionAnswer struct {
	ID        transaction.ID       `json:"id"`
	Document  string               `json:"document"` // its id
	URL       string               `json:"url"`      // for automerge-repo's clients
	Heads     []string             `json:"heads"`    // what ?at= takes, joined by commas
	Fields    map[string]fieldView `json:"fields"`
	Contested []string             `json:"contested"` // fields with more than one live pick
	Missing   []string             `json:"missing"`   // required fields without one
	// Resolution is the agreement over Heads, null if there is none. Resolutions
	// are all that there ever were, in their order.
	Resolution  *presence.Resolution  `json:"resolution"`
	Resolutions []presence.Resolution `json:"resolutions"`
	presence.Settings
}

// fieldView is a field with what is picked. Picks of fields that no host has
// defined are shown too, without label and options.
type fieldView struct {
	transaction.Field
	Defined   bool       `json:"defined"`
	Contested bool       `json:"contested"`
	Picks     []pickView `json:"picks"` // the winner first
}

type pickView struct {
	Value  json.RawMessage `json:"value"`
	Option string          `json:"option,omitempty"`
	By     string          `json:"by"`
	At     int64           `json:"at"` // milliseconds since 1970 by the picker's clock
	Change string          `json:"change"`
	Actor  string          `json:"actor"`
	Op     string          `json:"op"`
}

// eventView is one step of GET /v1/transactions/{id}/history.
type eventView struct {
	Kind       transaction.EventKind `json:"kind"`
	Field      string                `json:"field"`
	Pick       *pickView             `json:"pick,omitempty"`
	User       string                `json:"user,omitempty"`
	At         int64                 `json:"at"`
	Change     string                `json:"change"`
	Actor      string                `json:"actor"`
	Superseded []string              `json:"superseded"` // operation ids of picks
}

func (s *Server) createTransaction(w http.ResponseWriter, r *http.Request) {
	answer, created, err := s.create(r)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	s.answer(w, status, answer, err)
}

func (s *Server) create(r *http.Request) (answer *transactionAnswer, created bool, err error) {
	who, err := s.identify(r)
	if err != nil {
		return nil, false, err
	}
	if who.Role != transaction.Host {
		return nil, false, newProblem(http.StatusForbidden, transaction.CodeNotHost, transaction.Sentence(transaction.CodeNotHost))
	}
	req, id, err := readTransactionRequest(r)
	if err == nil { // reading took as long as the client liked
		who, err = s.identifyAgain(r)
	}
	if err == nil {
		err = who.mayOpen(id)
	}
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeWithin)
	defer cancel()
	if created, err = s.putUntilStored(ctx, who, id, req); err != nil {
		return nil, false, err
	}
	var failed error
	err = s.ask(id.Document(), func(d *document) { answer, failed = d.show(nil) })
	return answer, created, errors.Join(err, failed)
}

// maxOvertaken is how often a request is tried that other servers were faster than.
const maxOvertaken = 8

// putUntilStored does what a request says, again if another server has stored
// something meanwhile: it says how things are to be, not what to add.
func (s *Server) putUntilStored(ctx context.Context, who Identity, id transaction.ID, req *transactionRequest) (created bool, err error) {
	for try := range maxOvertaken {
		stored := make(chan error, 1)
		var failed error
		err = s.ask(id.Document(), func(d *document) {
			g := d.machine.Graph()
			created = try == 0 && g.Len() == 0 || created && g.Durable() == 0
			if failed = d.put(who, id, req); failed == nil || d.machine.Sealing() {
				d.barrier(func(err error) { stored <- err })
				return
			}
			stored <- nil
		})
		if err != nil {
			return false, err
		}
		err = waitStored(ctx, stored)
		if !errors.Is(err, store.ErrBehind) {
			return created, errors.Join(err, failed)
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
	return false, errNotStored
}

func readTransactionRequest(r *http.Request) (*transactionRequest, transaction.ID, error) {
	var req transactionRequest
	if err := readBody(r, &req); err != nil {
		return nil, "", err
	}
	id, err := transaction.ParseID(req.ID)
	if err != nil {
		return nil, "", badRequest("%v", err)
	}
	return &req, id, nil
}

// readBody reads the one JSON object of a request into v.
func readBody(r *http.Request, v any) error {
	// A page of another origin cannot send this type without asking first.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return newProblem(http.StatusUnsupportedMediaType, codeBadRequest, "send the body as Content-Type: application/json")
	}
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON object")
		}
	}
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return newProblem(http.StatusRequestEntityTooLarge, codeBadRequest, fmt.Sprintf("the body has more than %d bytes", maxBody))
	case err != nil:
		return badRequest("the body is not what is expected: %v", err)
	}
	return nil
}

// put makes the transaction, its fields and its settings what a request says, or
// changes nothing. The document's goroutine calls it.
func (d *document) put(who Identity, id transaction.ID, req *transactionRequest) error {
	old, err := readSettings(d.newSettings)
	if err != nil {
		return err
	}
	wanted, err := req.over(old)
	if err != nil {
		return err
	}
	settings, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	changes, err := d.changesFor(who, id, req.Fields)
	if err != nil {
		return err
	}
	if refusal := d.write(who.author(), changes...); refusal != nil {
		if refusal.Code == presence.CodeSealed && wanted.Policy == presence.Reopen {
			return newProblem(http.StatusUnprocessableEntity, refusal.Code, openFirst)
		}
		return refusalProblem(refusal)
	}
	if !bytes.Equal(settings, d.newSettings) {
		d.storeSettings(settings)
	}
	return nil
}

// openFirst answers a request that would open a locked transaction and change it
// at once.
const openFirst = "the parties have agreed, and this transaction is locked by that: " +
	"set its policy to reopen without changing any field, and then change the fields"

// changesFor returns what makes the transaction, if it is new, and its fields
// what they are to be.
func (d *document) changesFor(who Identity, id transaction.ID, fields map[string]transaction.Field) ([]*crdt.Change, error) {
	var changes []*crdt.Change
	var state *transaction.State
	var err error
	if d.machine.Graph().Len() == 0 {
		state, changes = transaction.New(id), []*crdt.Change{transaction.Genesis(id)}
		err = state.Apply(changes[0])
	} else {
		state, err = d.accepted()
	}
	if err != nil {
		return nil, err
	}
	most := transaction.PartOps
	if limit := d.srv.opt.Limits.Change.Ops; limit > 0 {
		most = min(most, limit)
	}
	parts := transaction.Parts(fields, most)
	if len(parts) > 1 && len(changes) == 0 { // each builds on the one before: on a state of our own
		state, err = state.AsOf(state.Heads())
		if err != nil {
			return nil, err
		}
	}
	for i, part := range parts {
		change, err := d.changeFor(who, state, part)
		if err != nil {
			return nil, err
		}
		if change == nil {
			continue
		}
		changes = append(changes, change)
		if i == len(parts)-1 {
			break
		}
		if err := state.Apply(change); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// changeFor returns what makes fields of a state what they are to be, nil if they are.
func (d *document) changeFor(who Identity, state *transaction.State, fields map[string]transaction.Field) (change *crdt.Change, err error) {
	edit := state.Edit(d.actorOf(who.User), who.User, d.now)
	if err = edit.SetFields(fields); err == nil {
		change, err = edit.Change()
	}
	if err == nil { // by this server's limits, which the maker of changes does not know
		_, err = crdt.DecodeChange(change.Chunk(), d.srv.opt.Limits.Change)
	}
	var refusal *crdt.Refusal
	switch {
	case errors.Is(err, transaction.ErrNothingToDo):
		return nil, nil
	case errors.As(err, &refusal):
		return nil, refusalProblem(refusal)
	case err != nil:
		return nil, newProblem(http.StatusBadRequest, codeBadRequest, err.Error())
	}
	return change, nil
}

func refusalProblem(r *crdt.Refusal) *problem {
	return newProblem(http.StatusUnprocessableEntity, r.Code, r.Reason)
}

// actorOf returns the actor with which this life of the document writes for a
// user: an actor is one user's, and is never used again after a restart.
func (d *document) actorOf(user string) crdt.ActorID {
	if d.actors == nil {
		d.actors = make(map[string]crdt.ActorID)
	}
	if d.actors[user] == "" {
		id := uuid.New()
		d.actors[user] = crdt.ActorID(id[:])
	}
	return d.actors[user]
}

func (s *Server) showTransaction(w http.ResponseWriter, r *http.Request) {
	var answer *transactionAnswer
	err := s.look(r, func(d *document, at []crdt.Hash) (err error) {
		answer, err = d.show(at)
		return err
	})
	s.answer(w, http.StatusOK, answer, err)
}

func (s *Server) showHistory(w http.ResponseWriter, r *http.Request) {
	var events []eventView
	err := s.look(r, func(d *document, at []crdt.Hash) error {
		state, err := d.stateOf(at)
		if err == nil {
			events = d.viewEvents(state.History())
		}
		return err
	})
	s.answer(w, http.StatusOK, events, err)
}

// look reads a transaction that a request names, at the heads that it names.
func (s *Server) look(r *http.Request, do func(d *document, at []crdt.Hash) error) error {
	_, id, err := s.transactionOf(r)
	if err != nil {
		return err
	}
	at, err := parseHeads(r.URL.Query().Get("at"))
	if err != nil {
		return newProblem(http.StatusBadRequest, codeBadRequest, err.Error())
	}
	var failed error
	err = s.ask(id.Document(), func(d *document) {
		failed = do(d, at)
	})
	return errors.Join(err, failed)
}

// parseHeads reads change hashes joined by commas; nil for none.
func parseHeads(text string) (heads []crdt.Hash, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		h, err := crdt.ParseHash(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		heads = append(heads, h)
	}
	return heads, nil
}

// show returns the transaction as of heads. The document's goroutine calls it.
func (d *document) show(at []crdt.Hash) (*transactionAnswer, error) {
	state, err := d.stateOf(at)
	if err != nil {
		return nil, err
	}
	answer := &transactionAnswer{
		ID: state.ID(), Document: d.id.String(), URL: wire.URL{Document: d.id}.String(),
		Heads: crdt.HashTexts(state.Heads()), Fields: viewFields(state),
		Contested: listed(state.Contested()), Missing: listed(state.Missing()),
	}
	if answer.Settings, err = readSettings(d.settings); err != nil {
		return nil, err
	}
	answer.Parties = listed(answer.Parties)
	answer.Resolutions = append([]presence.Resolution{}, d.machine.Resolutions()...)
	for i := range answer.Resolutions {
		if answer.Resolutions[i].Over(state.Heads()) {
			answer.Resolution = &answer.Resolutions[i]
		}
	}
	return answer, nil
}

func viewFields(state *transaction.State) map[string]fieldView {
	views := make(map[string]fieldView)
	for name, f := range state.Fields() {
		views[name] = fieldView{Field: f, Defined: true, Picks: []pickView{}}
	}
	for _, sel := range state.Selections() {
		v := views[sel.Field]
		if v.Options == nil {
			v.Options = map[string]transaction.Option{}
		}
		v.Contested = sel.Contested()
		v.Picks = nil
		for i := range sel.Picks {
			v.Picks = append(v.Picks, *viewPick(&sel.Picks[i]))
		}
		views[sel.Field] = v
	}
	return views
}

func viewPick(p *transaction.Pick) *pickView {
	if p == nil {
		return nil
	}
	return &pickView{
		Value: p.Value, Option: p.Option, By: p.By, At: p.At,
		Change: p.Change.String(), Actor: p.Actor.String(), Op: p.Op.String(),
	}
}

// viewEvents shows events that the document holds. Only picks name their user;
// who did the rest is known by who delivered it.
func (d *document) viewEvents(events []transaction.Event) []eventView {
	views := make([]eventView, 0, len(events))
	for _, e := range events {
		v := eventView{
			Kind: e.Kind, Field: e.Field, Pick: viewPick(e.Pick), User: e.User, At: e.At,
			Change: e.Change.String(), Actor: e.Actor.String(), Superseded: []string{},
		}
		if i, ok := d.machine.Graph().Index(e.Change); ok && v.User == "" {
			v.User = d.machine.User(i)
		}
		for _, op := range e.Superseded {
			v.Superseded = append(v.Superseded, op.String())
		}
		views = append(views, v)
	}
	return views
}

// listed makes an empty list of nil, so that JSON has [] and not null.
func listed(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
