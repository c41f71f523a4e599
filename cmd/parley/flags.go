package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
)

// clientFlags are those of every command that talks to a server.
type clientFlags struct {
	Server    string           `help:"The server's URL." default:"ws://127.0.0.1:8080" env:"PARLEY_SERVER" placeholder:"URL"`
	User      string           `help:"Who you are, to a server that runs with --dev." env:"PARLEY_USER" placeholder:"NAME"`
	Role      transaction.Role `help:"What you are, likewise: host, party, viewer or auditor." enum:",host,party,viewer,auditor" default:"" env:"PARLEY_ROLE" placeholder:"ROLE"`
	Token     string           `help:"A token that says who you are." env:"PARLEY_TOKEN" placeholder:"T"`
	TokenFile string           `help:"File of such a token, read again at each connect." env:"PARLEY_TOKEN_FILE" type:"path" placeholder:"FILE"`
	Replica   string           `help:"Folder to keep transactions in, so that you can work offline; made if missing." env:"PARLEY_REPLICA" type:"path" placeholder:"DIR"`
	Offline   bool             `help:"Do not try to reach the server: work on the replica alone."`
	Timeout   time.Duration    `help:"How long to wait for the server." default:"10s" env:"PARLEY_TIMEOUT"`
	JSON      bool             `help:"Print JSON."`
}

// Validate is called by kong after parsing.
func (f *clientFlags) Validate() error {
	u, err := url.Parse(f.Server)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("--server %q: want a URL such as ws://127.0.0.1:8080", f.Server)
	case u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("--server %q: want a URL that begins with ws:// or wss://", f.Server)
	case u.Query().Has("token"): // the URL is shown in messages
		return errors.New("--server: give the token with --token or --token-file instead, where it is not shown")
	case f.Timeout <= 0:
		return errors.New("--timeout must be positive")
	case f.Offline && f.Replica == "":
		return errors.New("--offline works on a replica: say where with --replica DIR")
	}
	return nil
}

// needUser is checked by commands that act in somebody's name.
func (f *clientFlags) needUser() error {
	if f.User == "" && !f.hasToken() {
		return usagef("say who you are with --token T (or PARLEY_TOKEN), or --user NAME to a server that runs with --dev")
	}
	return nil
}

func (f *clientFlags) hasToken() bool { return f.Token != "" || f.TokenFile != "" }

// token returns the token to send, "" for none. What the file holds is never
// part of an error.
func (f *clientFlags) token(context.Context) (string, error) {
	if f.TokenFile == "" {
		return f.Token, nil
	}
	content, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return "", usagef("--token-file: %v", err)
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", usagef("--token-file %s is empty", f.TokenFile)
	}
	return token, nil
}

// txArg is the transaction that a command is about.
type txArg struct {
	TX string `arg:"" name:"TX" help:"The transaction's id: 1 to 128 of A-Z a-z 0-9 . _ ~ -"`
}

func (a txArg) id() (transaction.ID, error) {
	id, err := transaction.ParseID(a.TX)
	if err != nil {
		return "", usagef("%v", err)
	}
	return id, nil
}

// codedError is an error with an exit code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func refused(sentence string) error {
	return &codedError{exitRefused, errors.New("refused: " + sentence)}
}

// open opens this user's replica of a transaction and brings it up to date. If
// the server cannot be reached and there is a replica on disk, it is offline:
// what is here is what there is.
func (f *clientFlags) open(ctx context.Context, id transaction.ID) (c *client.Client, offline bool, err error) {
	if f.Replica == "" { // what is not there cannot be picked on; with a replica it may come to be
		if _, err := f.api().show(ctx, id, ""); err != nil {
			return nil, false, err
		}
	}
	if c, err = f.start(ctx, id); err != nil {
		return nil, false, err
	}
	err = c.Flush(ctx)
	if err == nil {
		return c, false, nil
	}
	if r := rejection(c.View(), crdt.Hash{}); r != nil {
		err = refused(r.Message)
	}
	if f.Replica == "" || isRefused(err) {
		return nil, false, errors.Join(f.unreachable(err), f.end(c))
	}
	return c, true, nil
}

// start opens the replica and begins to connect.
func (f *clientFlags) start(ctx context.Context, id transaction.ID) (*client.Client, error) {
	server := f.Server
	if f.Offline {
		server = ""
	}
	opt := client.Options{
		Transaction: id, Server: server, User: f.User, Role: f.Role, Token: f.Token, Replica: f.Replica,
	}
	if f.TokenFile != "" {
		opt.TokenSource = f.token
	}
	return client.Open(ctx, opt)
}

// end closes a client that has nothing to wait for.
func (f *clientFlags) end(c *client.Client) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return c.Close(ctx)
}

func isRefused(err error) bool {
	var r *client.RefusedError
	return errors.As(err, &r)
}

// unreachable says why there is no connection, and what to do.
func (f *clientFlags) unreachable(err error) error {
	var r *client.RefusedError
	if errors.As(err, &r) {
		return &codedError{exitRefused, r}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if why := f.notReady(); why != "" {
			return fmt.Errorf("no answer from %s in %v; it says of itself: %s", f.Server, f.Timeout, why)
		}
	}
	return fmt.Errorf("no answer from %s (%s): is parley serve running there? --replica DIR lets you work offline", f.Server, reason(err))
}

// notReady is what a server that answers nothing else says of itself, "" if it is
// well or says nothing.
func (f *clientFlags) notReady() string {
	const within, most = 2 * time.Second, 500
	u, err := url.Parse(f.Server)
	if err != nil {
		return "" // Validate has seen to it
	}
	u.Scheme, u.Path, u.RawQuery = strings.Replace(u.Scheme, "ws", "http", 1), "/readyz", ""
	asking := http.Client{Timeout: within}
	resp, err := asking.Get(u.String())
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		return ""
	}
	return strings.TrimSpace(plain(string(text)))
}

// reason is the inmost cause of an error of the network, in few words.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "not in time"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		text := op.Err.Error()
		return text[strings.LastIndex(text, ": ")+1+len(" ")*min(1, strings.Count(text, ": ")):]
	}
	text := strings.ReplaceAll(err.Error(), "\n", ": ")
	parts := strings.Split(text, ": ")
	return parts[len(parts)-1]
}

// rejection returns what the server said of a change, the zero hash for any.
func rejection(v client.View, h crdt.Hash) *client.Rejection {
	for i := range v.Rejections {
		for _, c := range v.Rejections[i].Changes {
			if _, again := v.Rejections[i].Remade[c]; !again && (c == h || h == crdt.Hash{}) {
				return &v.Rejections[i]
			}
		}
	}
	return nil
}
