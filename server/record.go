package server

import (
	"cmp"
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server/audit"
	"parley/sync/presence"
)

// ledger is a transaction as it is on disk: what records and proofs are made of.
type ledger struct {
	id          transaction.ID
	chunks      [][]byte // of its changes, in the order of their commits
	receipts    []audit.Receipt
	settings    presence.Settings
	resolutions []presence.Resolution

	done func() // gives the turn back, once nothing more is made of it
}

const (
	// maxTurns is how many ledgers requests for records and proofs work on at once:
	// each is a whole history in memory, several times over.
	maxTurns = 2
	// turnWithin is how long others wait.
	turnWithin = 20 * time.Second
	// maxUnread is how many bytes of records wait for their readers, who may be slow.
	maxUnread = 256 << 20
)

// wait waits for some of what there is little of, and turns away if that takes too
// long.
func (s *Server) wait(ctx context.Context, of *semaphore.Weighted, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	if of.Acquire(ctx, n) != nil {
		return newProblem(http.StatusServiceUnavailable, codeBusy, "too many records are asked for at once: try again")
	}
	return nil
}

// codeBusy turns away for now.
const codeBusy crdt.Code = "busy"

// ledger reads one for a request, which must be of somebody who may have it, in
// turn: the caller says when it is done.
func (s *Server) ledger(r *http.Request) (*ledger, error) {
	who, id, err := s.transactionOf(r)
	if err != nil {
		return nil, err
	}
	switch who.Role {
	case transaction.Host, transaction.Party, transaction.Auditor:
	default:
		return nil, newProblem(http.StatusForbidden, codeNotAuditor, "hosts, parties and auditors may have the record, and you are here as "+cmp.Or(string(who.Role), "nobody"))
	}
	if err := s.wait(r.Context(), s.turns, 1); err != nil {
		return nil, err
	}
	l, err := s.readLedger(r.Context(), id)
	if err != nil {
		s.turns.Release(1)
		return nil, err
	}
	l.done = func() { s.turns.Release(1) }
	return l, nil
}

// codeNotAuditor refuses a record to those who may only look.
const codeNotAuditor crdt.Code = "not-auditor"

func (s *Server) readLedger(ctx context.Context, id transaction.ID) (*ledger, error) {
	l := &ledger{}
	var failed error
	err := s.ask(id.Document(), func(d *document) { failed = d.copyTo(l) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	if err := s.readReceipts(ctx, l); err != nil {
		s.log.Error("the receipts of a transaction could not be read", "document", id.Document(), "err", err)
		return nil, newProblem(http.StatusServiceUnavailable, codeNotStored, "the transaction's receipts could not be read: try again")
	}
	return l, nil
}

// readReceipts completes the receipts by what is on disk.
func (s *Server) readReceipts(ctx context.Context, l *ledger) error {
	stored, err := s.store.Receipts(ctx, l.id.Document(), len(l.receipts))
	if err != nil {
		return err
	}
	if len(stored) != len(l.receipts) {
		return fmt.Errorf("%d receipts of %s for %d changes", len(stored), l.id, len(l.receipts))
	}
	for i, from := range stored {
		r := &l.receipts[i]
		if r.Change != from.Hash {
			return fmt.Errorf("receipt %d of %s is of another change", i, l.id)
		}
		r.User, r.Role, r.At = from.User, transaction.Role(from.Role), from.At
	}
	return nil
}

// signResolution adds the checkpoint that every party is handed with a
// resolution, if the server has a key: nobody can rewrite it unseen from then on.
func (d *document) signResolution(r *presence.Resolution) error {
	key := d.srv.opt.Key
	if key == nil {
		return nil
	}
	l := &ledger{}
	if err := d.copyTo(l); err != nil {
		return err
	}
	if err := d.srv.readReceipts(context.Background(), l); err != nil {
		return err
	}
	log := l.log()
	root, err := log.Root(log.Size())
	if err != nil {
		return err
	}
	r.Checkpoint, err = key.Sign(audit.ResolutionCheckpoint(
		key.Public().Origin(d.id), log.Size(), root, l.id, *r, l.settings.Parties))
	return err
}

// copyTo copies what is on disk. The document's goroutine calls it.
func (d *document) copyTo(l *ledger) error {
	state, err := d.accepted()
	if err != nil {
		return err
	}
	l.id = state.ID()
	g := d.machine.Graph()
	if g.Durable() == 0 {
		return errNoTransaction
	}
	for i := range g.Durable() {
		l.chunks = append(l.chunks, g.ChunkAt(i))
		l.receipts = append(l.receipts, audit.Receipt{N: i, Change: g.HashAt(i), Actor: g.ActorAt(i)})
	}
	l.resolutions = append(l.resolutions, d.machine.Resolutions()...)
	l.settings, err = readSettings(d.settings)
	return err
}

// source is what a record as of heads is made of, nil for all that there is.
func (l *ledger) source(heads []crdt.Hash) audit.Source {
	return audit.Source{
		Transaction: l.id, Changes: l.chunks, Receipts: l.receipts,
		Settings: l.settings, Resolutions: l.resolutions, Heads: heads,
	}
}

// export answers with the record, or with its fields as CSV. Who reads it slowly
// keeps nobody from theirs, until there are too many.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	file, contentType, body, err := s.exported(r)
	if err != nil {
		s.answer(w, 0, nil, err)
		return
	}
	defer s.unread.Release(weightOf(body))
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file}))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	readBy(w, len(body))
	if _, err := w.Write(body); err != nil {
		s.log.Debug("no answer", "err", err)
	}
}

// exported makes what export answers with. It counts as unread from then on.
func (s *Server) exported(r *http.Request) (file, contentType string, body []byte, err error) {
	heads, err := parseHeads(r.URL.Query().Get("at"))
	if err != nil {
		return "", "", nil, badRequest("%v", err)
	}
	l, err := s.ledger(r)
	if err != nil {
		return "", "", nil, err
	}
	defer l.done()
	if missing := l.missing(heads); missing != nil {
		return "", "", nil, newProblem(http.StatusNotFound, codeNotFound, "this transaction has no change "+missing.String())
	}
	switch format := r.URL.Query().Get("format"); format {
	case "csv":
		file, contentType = string(l.id)+".csv", "text/csv; charset=utf-8"
		body, err = audit.CSV(l.source(heads))
	case "", "zip":
		if s.opt.Key == nil {
			return "", "", nil, errNoKey
		}
		file, contentType = string(l.id)+".zip", "application/zip"
		body, err = audit.Write(l.source(heads), s.opt.Key)
	default:
		err = badRequest("there is no format %q: use zip or csv", format)
	}
	if err == nil {
		err = s.wait(r.Context(), s.unread, weightOf(body))
	}
	return file, contentType, body, err
}

func weightOf(body []byte) int64 { return min(int64(len(body)), maxUnread) }

// missing returns the first of heads that is not there, nil if all are.
func (l *ledger) missing(heads []crdt.Hash) *crdt.Hash {
	for i, h := range heads {
		if !slices.ContainsFunc(l.receipts, func(r audit.Receipt) bool { return r.Change == h }) {
			return &heads[i]
		}
	}
	return nil
}

// log is the Merkle log of the receipts.
func (l *ledger) log() *audit.Log {
	log := &audit.Log{}
	for i := range l.receipts {
		log.Append(l.receipts[i].Leaf())
	}
	return log
}

// inclusionAnswer proves that a receipt is in the log.
type inclusionAnswer struct {
	N     int      `json:"n"`
	Size  int      `json:"size"`
	Leaf  string   `json:"leaf"` // the receipt: what is hashed
	Root  string   `json:"root"`
	Proof []string `json:"proof"` // RFC 6962's audit path
}

// consistencyAnswer proves that the log has only grown.
type consistencyAnswer struct {
	From     int      `json:"from"`
	FromRoot string   `json:"fromRoot"`
	Size     int      `json:"size"`
	Root     string   `json:"root"`
	Proof    []string `json:"proof"`
}

func (s *Server) proveInclusion(w http.ResponseWriter, r *http.Request) {
	answer, err := s.inclusion(r)
	s.answer(w, http.StatusOK, answer, err)
}

func (s *Server) inclusion(r *http.Request) (*inclusionAnswer, error) {
	l, err := s.ledger(r)
	if err != nil {
		return nil, err
	}
	defer l.done()
	log := l.log()
	n, err := number(r, "n", -1)
	if err != nil {
		return nil, err
	}
	size, err := number(r, "size", log.Size())
	if err != nil {
		return nil, err
	}
	proof, err := log.Inclusion(n, size)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	root, err := log.Root(size)
	return &inclusionAnswer{N: n, Size: size, Leaf: string(l.receipts[n].Leaf()), Root: root.String(), Proof: crdt.HashTexts(proof)}, err
}

func (s *Server) proveConsistency(w http.ResponseWriter, r *http.Request) {
	answer, err := s.consistency(r)
	s.answer(w, http.StatusOK, answer, err)
}

func (s *Server) consistency(r *http.Request) (*consistencyAnswer, error) {
	l, err := s.ledger(r)
	if err != nil {
		return nil, err
	}
	defer l.done()
	log := l.log()
	from, err := number(r, "from", -1)
	if err != nil {
		return nil, err
	}
	size, err := number(r, "size", log.Size())
	if err != nil {
		return nil, err
	}
	proof, err := log.Consistency(from, size)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	fromRoot, err := log.Root(from)
	if err != nil {
		return nil, err
	}
	root, err := log.Root(size)
	return &consistencyAnswer{From: from, FromRoot: fromRoot.String(), Size: size, Root: root.String(), Proof: crdt.HashTexts(proof)}, err
}

// number reads a parameter of a request; below 0, missing is not what it may be.
func number(r *http.Request, name string, missing int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" && missing >= 0 {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, badRequest("%s=%q: want a whole number", name, text)
	}
	return n, nil
}

// checkpoint answers with the signed state of a transaction's log.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	signed, err := s.signLog(r)
	if err != nil {
		s.answer(w, 0, nil, err)
		return
	}
	plain(w, http.StatusOK, strings.TrimSuffix(signed, "\n"))
}

func (s *Server) signLog(r *http.Request) (string, error) {
	if s.opt.Key == nil {
		return "", errNoKey
	}
	l, err := s.ledger(r)
	if err != nil {
		return "", err
	}
	defer l.done()
	log := l.log()
	root, err := log.Root(log.Size())
	if err != nil {
		return "", err
	}
	return s.opt.Key.Sign(audit.Checkpoint{
		Origin: s.opt.Key.Public().Origin(l.id.Document()), Size: log.Size(), Root: root,
	})
}

var errNoKey = newProblem(http.StatusNotFound, codeNotFound, "this server signs nothing: it was started without a key")

// showKey answers with the public key that the server's signatures are by.
func (s *Server) showKey(w http.ResponseWriter, _ *http.Request) {
	if s.opt.Key == nil {
		s.answer(w, 0, nil, errNoKey)
		return
	}
	plain(w, http.StatusOK, s.opt.Key.Public().Text())
}
