package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Target is the server to measure, or several that share a database.
type Target struct {
	Servers []string // URLs, ws(s):// or http(s)://, without queries; each connection and request goes to any of them
	// Admit returns how somebody gets in. It is asked at each connect.
	Admit func(Who) (Pass, error)
	// PID is of the server's process, if that is on this machine; else 0.
	PID int
}

// Who is somebody of the crowd.
type Who struct {
	Name string // differs from everybody else's
	Role transaction.Role
	// Transaction is the only one that it is about; "" for the host, who makes all.
	Transaction transaction.ID
}

// Pass says who somebody is to the server: the token does, or else the server
// believes the user and the role.
type Pass struct{ User, Token string }

// RefusedError is what the server says to whom it does not let in, or what it
// does not do.
type RefusedError struct {
	Code    crdt.Code // "" if it gave none
	Message string
	Final   bool // trying again unchanged cannot work
}

func (e *RefusedError) Error() string {
	if e.Code == "" {
		return "refused: " + e.Message
	}
	return fmt.Sprintf("refused: %s (%s)", e.Message, e.Code)
}

// Flag returns the flags of parley serve that raise the quota which a code is
// about, "" if it is about none.
func Flag(code crdt.Code) string { return flags[code] }

var flags = map[crdt.Code]string{
	"too-many-connections":  "--max-user-conns",
	"too-many-from-address": "--max-address-conns",
	"connecting-too-fast":   "--max-address-rate and --max-address-burst",
	"frames-too-fast":       "--max-user-frames and --max-user-burst",
	"requests-too-fast":     "--max-address-rate and --max-address-burst, or --max-user-frames and --max-user-burst",
}

// url is where somebody connects or makes requests.
func (t *Target) url(scheme, path string, who Who, pass Pass) string {
	server := t.Servers[rand.IntN(len(t.Servers))]
	u, err := url.Parse(server)
	if err != nil {
		return server // dialling it fails
	}
	u.Scheme = scheme + strings.TrimPrefix(strings.TrimPrefix(u.Scheme, "http"), "ws") // and the s of TLS
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	if pass.Token == "" {
		u.RawQuery = url.Values{"user": {pass.User}, "role": {string(who.Role)}}.Encode()
	}
	return u.String()
}

func (p Pass) header() http.Header {
	if p.Token == "" {
		return http.Header{}
	}
	return http.Header{"Authorization": {"Bearer " + p.Token}}
}

// create makes a transaction with n fields.
func (t *Target) create(ctx context.Context, host Who, id transaction.ID, n int) error {
	pass, err := t.Admit(host)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"id": id, "fields": fieldsOf(n)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url("http", "/v1/transactions", host, pass), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = pass.header()
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	const enough = 64 << 10 // of an answer that nobody needs, or a problem
	answer, err := io.ReadAll(io.LimitReader(resp.Body, enough))
	if err != nil || resp.StatusCode < http.StatusBadRequest {
		return err
	}
	return problem(resp, answer)
}

// problem reads problem details (RFC 9457).
func problem(resp *http.Response, body []byte) error {
	var p struct {
		Code   crdt.Code `json:"code"`
		Detail string    `json:"detail"`
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return &RefusedError{Message: "the server answers " + resp.Status, Final: resp.StatusCode < http.StatusInternalServerError}
	}
	later := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError
	return &RefusedError{Code: p.Code, Message: p.Detail, Final: !later}
}

// refusedBy splits what the server says when it closes: a code, and a sentence.
func refusedBy(reason string, final bool) *RefusedError {
	code, sentence, ok := strings.Cut(reason, ": ")
	if !ok || strings.Contains(code, " ") {
		return &RefusedError{Message: reason, Final: final}
	}
	return &RefusedError{Code: crdt.Code(code), Message: sentence, Final: final}
}

func asRefused(err error) *RefusedError {
	var r *RefusedError
	if errors.As(err, &r) {
		return r
	}
	return nil
}
