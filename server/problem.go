package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"parley/crdt"
)

// problem is an error answer, as RFC 9457 has it. Code is stable and for
// programs; Detail says what to do.
type problem struct {
	Type   string    `json:"type"` // "about:blank": the status says what kind it is
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Code   crdt.Code `json:"code"`
	Detail string    `json:"detail"`
}

func (p *problem) Error() string { return p.Detail }

func newProblem(status int, code crdt.Code, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// The codes of problems that are not refusals of changes.
const (
	codeBadRequest   crdt.Code = "bad-request"
	codeNotFound     crdt.Code = "not-found"
	codeUnauthorized crdt.Code = "unauthorized"
	codeConflict     crdt.Code = "not-a-transaction"
	codeNotStored    crdt.Code = "not-stored"
	codeInternal     crdt.Code = "internal"
)

// answer writes v as JSON, or err as a problem.
func (s *Server) answer(w http.ResponseWriter, status int, v any, err error) {
	contentType := "application/json"
	if err != nil {
		p := s.problemOf(err)
		if p.Code == codeBusy {
			w.Header().Set("Retry-After", "10")
		}
		status, v, contentType = p.Status, p, "application/problem+json"
		if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err = enc.Encode(v)
	readBy(w, body.Len())
	w.WriteHeader(status)
	if err == nil {
		_, err = body.WriteTo(w)
	}
	if err != nil {
		s.log.Debug("no answer", "err", err)
	}
}

const (
	// answerWithin is how long a client may take for an answer, and a second more
	// for each slowest bytes of it.
	answerWithin = 10 * time.Second
	slowest      = 64 << 10
)

// readBy cuts off a client that does not read an answer in time.
func readBy(w http.ResponseWriter, length int) {
	within := answerWithin + time.Duration(length)*time.Second/slowest
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(within)) // which writers of tests have not
}

func (s *Server) problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	s.log.Error("a request failed", "err", err)
	return newProblem(http.StatusInternalServerError, codeInternal, "the server could not do this; its log says why")
}
