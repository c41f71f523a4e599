package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
)

// api is the server's HTTP API, as one user sees it.
type api struct{ flags *clientFlags }

func (f *clientFlags) api() api { return api{f} }

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 256 << 20

// definition is what parley open sends.
type definition struct {
	ID      string                       `json:"id"`
	Fields  map[string]transaction.Field `json:"fields"`
	Parties []string                     `json:"parties,omitempty"`
	Quorum  int                          `json:"quorum,omitempty"`
	Policy  string                       `json:"policy,omitempty"`
}

// put creates or updates a transaction.
func (a api) put(ctx context.Context, d *definition) (s *sheet, created bool, err error) {
	body, err := json.Marshal(d)
	if err != nil {
		return nil, false, err
	}
	s = &sheet{From: fromServer, Saved: true}
	status, err := a.do(ctx, http.MethodPost, "", nil, body, s)
	return s, status == http.StatusCreated, err
}

// show returns a transaction as of heads, "" for now.
func (a api) show(ctx context.Context, id transaction.ID, at string) (*sheet, error) {
	s := &sheet{From: fromServer, Saved: true}
	_, err := a.do(ctx, http.MethodGet, "/"+string(id), url.Values{"at": {at}}, nil, s)
	return s, err
}

func (a api) history(ctx context.Context, id transaction.ID) ([]event, error) {
	var events []event
	_, err := a.do(ctx, http.MethodGet, "/"+string(id)+"/history", nil, nil, &events)
	return events, err
}

// export returns the record of a transaction as of heads, or its fields as CSV.
func (a api) export(ctx context.Context, id transaction.ID, format, at string) ([]byte, error) {
	_, body, err := a.request(ctx, http.MethodGet, "/"+string(id)+"/export", url.Values{"format": {format}, "at": {at}}, nil)
	return body, err
}

// do makes a request and reads its answer into v.
func (a api) do(ctx context.Context, method, path string, query url.Values, body []byte, v any) (int, error) {
	status, answer, err := a.request(ctx, method, path, query, body)
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal(answer, v); err != nil {
		return status, fmt.Errorf("%s does not answer as a Parley server does: check --server", a.flags.Server)
	}
	return status, nil
}

// request makes a request and returns its answer, if it is no problem.
func (a api) request(ctx context.Context, method, path string, query url.Values, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url(path, query), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	token, err := a.flags.token(ctx)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, a.flags.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, a.flags.unreachable(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return resp.StatusCode, nil, problemError(resp, answer)
	}
	return resp.StatusCode, answer, nil
}

func (a api) url(path string, query url.Values) string {
	u, err := url.Parse(a.flags.Server)
	if err != nil {
		return a.flags.Server // Validate has seen to it
	}
	u.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
	u.Path = "/v1/transactions" + path
	if query == nil {
		query = url.Values{}
	}
	if query.Get("at") == "" {
		query.Del("at")
	}
	if !a.flags.hasToken() && a.flags.User != "" {
		query.Set("user", a.flags.User)
		if a.flags.Role != "" {
			query.Set("role", string(a.flags.Role))
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// errNoTransaction says that the server knows of no such transaction.
var errNoTransaction = errors.New("there is no such transaction on the server: check the id, or make it with parley open TX --fields FILE")

// problemError reads an RFC 9457 problem.
func problemError(resp *http.Response, body []byte) error {
	var p struct {
		Code   crdt.Code `json:"code"`
		Detail string    `json:"detail"`
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return fmt.Errorf("the server answers %s: check --server", resp.Status)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound && !strings.Contains(p.Detail, "has no change"):
		return errNoTransaction
	case resp.StatusCode >= http.StatusInternalServerError, resp.StatusCode == http.StatusNotFound:
		return errors.New(p.Detail)
	}
	return refused(p.Detail)
}
