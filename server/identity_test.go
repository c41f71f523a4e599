package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server"
	"parley/server/identity"
	"parley/server/servertest"
	"parley/sync/presence"
	"parley/sync/session"
	"parley/sync/wire"
)

// office issues tokens, and runs a server that wants them, in a bubble.
type office struct {
	*running
	opt       server.Options
	file      string // of the signing key
	key       *identity.SigningKey
	publicPEM []byte
	issued    []string // tokens that the server has seen

	mu     sync.Mutex
	logged bytes.Buffer
}

// inOffice runs a test in a bubble in which tokens say who somebody is.
func inOffice(t *testing.T, opt server.Options, test func(ctx context.Context, o *office)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	public, jwks, err := identity.NewKeyPair(file)
	check(t, err)
	synctest.Test(t, func(t *testing.T) {
		keys, err := identity.OpenKeys(t.Context(), jwks, time.Now(), slog.New(slog.DiscardHandler))
		check(t, err)
		opt.Identify = server.TokenIdentity(&identity.Verifier{Keys: keys, Issuer: "https://issuer"})
		o := &office{
			running: &running{t: t, dir: t.TempDir(), pipe: servertest.NewPipe()}, opt: opt, file: file,
			key: must(identity.ReadSigningKey(file)), publicPEM: must(os.ReadFile(public)),
		}
		o.log = io.MultiWriter(t.Output(), o)
		o.up(opt)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		defer o.leaksNothing()
		defer o.down()
		test(ctx, o)
	})
}

// Write takes what the server logs.
func (o *office) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.logged.Write(p)
}

// leaksNothing fails if a token is in the log, or a part of one.
func (o *office) leaksNothing() {
	for _, token := range o.issued {
		for part := range strings.SplitSeq(token, ".") {
			if len(part) > 8 && strings.Contains(o.logged.String(), part) {
				o.t.Errorf("a token is in the log: %s", part)
			}
		}
	}
	if !strings.Contains(o.logged.String(), "level=DEBUG") {
		o.t.Error("nothing was logged")
	}
}

func (o *office) seen(token string) string {
	o.issued = append(o.issued, token)
	return token
}

// token issues one for an hour, as of now.
func (o *office) token(user string, role transaction.Role, transactions ...string) string {
	return o.lasting(time.Hour, user, role, transactions...)
}

func (o *office) lasting(ttl time.Duration, user string, role transaction.Role, transactions ...string) string {
	return o.seen(must(o.key.Sign(identity.Grant{
		User: user, Role: role, Transactions: transactions, Issuer: "https://issuer", Issued: time.Now(), TTL: ttl,
	})))
}

// forge signs claims that no issuer would, with the server's key or another.
func (o *office) forge(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
	claims := jwt.MapClaims{
		"sub": "alice", "role": "party", "transactions": "sale", "iss": "https://issuer", "aud": "parley",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "jti": "forged",
	}
	if change != nil {
		change(claims)
	}
	return o.seen(must(jwt.NewWithClaims(method, claims).SignedString(key)))
}

func (o *office) enter(ctx context.Context, token, user string, id transaction.ID) *servertest.Party {
	o.t.Helper()
	p := must(servertest.Visitor{URL: o.url, Via: o.via, User: user, Token: token}.Enter(ctx, id))
	o.t.Cleanup(p.CloseNow)
	return p
}

func (o *office) connect(ctx context.Context, token string) *servertest.Client {
	o.t.Helper()
	c := must(servertest.ConnectVia(ctx, o.url+"/?token="+token, o.via))
	check(o.t, c.Join(ctx, wire.PeerID("test-"+rand.Text())))
	return c
}

// refused connects, and returns the code that the connection ends with and what
// the error frame says.
func (o *office) refused(ctx context.Context, token string) (websocket.StatusCode, string) {
	o.t.Helper()
	c := must(servertest.ConnectVia(ctx, o.url+"/?token="+token, o.via))
	defer c.CloseNow()
	_ = c.Send(ctx, &wire.Join{SenderID: "intruder", Versions: []string{wire.ProtocolVersion}})
	code := must(c.Ended(ctx))
	if c.Server != nil || len(c.Errors()) != 1 {
		o.t.Fatalf("closed with %d; server %v, errors %q", code, c.Server, c.Errors())
	}
	return code, c.Errors()[0]
}

// ask makes a request with a token in its header.
func (o *office) ask(token, method, path, body string) (int, crdt.Code, []byte) {
	o.t.Helper()
	req := must(http.NewRequest(method, "http"+strings.TrimPrefix(o.url, "ws")+path, strings.NewReader(body)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp := must(o.via.Do(req))
	defer resp.Body.Close()
	defer o.via.CloseIdleConnections()
	text := must(io.ReadAll(resp.Body))
	var p struct{ Code crdt.Code }
	_ = json.Unmarshal(text, &p) // lists have none
	return resp.StatusCode, p.Code, text
}

// sale makes a transaction by a host of everything, and returns its token.
func (o *office) sale(id string) string {
	o.t.Helper()
	host := o.token("holly", transaction.Host, "*")
	if status, _, text := o.ask(host, "POST", "/v1/transactions", `{"id": "`+id+`", `+saleFields+`}`); status != http.StatusCreated {
		o.t.Fatalf("create %s: %d %s", id, status, text)
	}
	return host
}

func ended(t *testing.T, ctx context.Context, c interface {
	Ended(context.Context) (websocket.StatusCode, error)
}, want session.CloseCode) {
	t.Helper()
	code, err := c.Ended(ctx)
	check(t, err)
	if session.CloseCode(code) != want {
		t.Errorf("closed with %d, want %d", code, want)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		block, _ := pem.Decode(must(os.ReadFile(o.file)))
		key := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(ed25519.PrivateKey)
		_, other, _ := ed25519.GenerateKey(rand.Reader)
		honest := func(name string, value any) string {
			return o.forge(jwt.SigningMethodEdDSA, key, func(c jwt.MapClaims) {
				if c[name] = value; value == nil {
					delete(c, name)
				}
			})
		}
		raised := strings.Split(o.token("alice", transaction.Party, "sale"), ".")
		payload := string(must(base64.RawURLEncoding.DecodeString(raised[1])))
		raised[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(payload, `"party"`, `"host"`, 1)))
		for name, tt := range map[string]struct {
			token string
			want  crdt.Code
		}{
			"no token":       {"", identity.CodeNoToken},
			"no JWT":         {"abc", identity.CodeMalformed},
			"expired":        {honest("exp", time.Now().Unix()), identity.CodeExpired},
			"not yet valid":  {honest("nbf", time.Now().Add(time.Hour).Unix()), identity.CodeNotYet},
			"wrong audience": {honest("aud", "another"), identity.CodeAudience},
			"wrong issuer":   {honest("iss", "https://mallory"), identity.CodeIssuer},
			"wrong key":      {o.forge(jwt.SigningMethodEdDSA, other, nil), identity.CodeSignature},
			"alg none":       {o.forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil), identity.CodeAlgorithm},
			"public key":     {o.forge(jwt.SigningMethodHS256, o.publicPEM, nil), identity.CodeAlgorithm},
			"role raised":    {o.seen(strings.Join(raised, ".")), identity.CodeSignature},
			"unknown role":   {honest("role", "king"), identity.CodeUnknownRole},
			"no role":        {honest("role", nil), identity.CodeNoRole},
			"no user":        {honest("sub", nil), identity.CodeNoUser},
			"nothing opened": {honest("transactions", nil), identity.CodeNoTransactions},
			"for ever":       {honest("exp", nil), identity.CodeNoExpiry},
		} {
			code, text := o.refused(ctx, tt.token)
			if code != websocket.StatusCode(session.CloseUnauthorized) || !strings.HasPrefix(text, string(tt.want)+": ") {
				t.Errorf("%s: closed with %d %q, want %s", name, code, text, tt.want)
			}
			if status, code, _ := o.ask(tt.token, "GET", "/v1/transactions/sale", ""); status != http.StatusUnauthorized || code != tt.want {
				t.Errorf("%s: a request is answered %d %s", name, status, code)
			}
		}
		alice := o.enter(ctx, o.token("alice", transaction.Party, "sale"), "alice", "sale")
		check(t, alice.Doc.Unavailable(ctx, 1))
	})
}

// A token opens the transactions that it names, whatever else there is.
func TestOtherTransactions(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		host := o.sale("sale")
		o.sale("other")
		token := o.token("alice", transaction.Host, "sale")
		alice := o.enter(ctx, token, "alice", "sale")
		o.whole(ctx, alice)
		check(t, alice.Doc.Acknowledged(ctx, must(alice.Pick(ctx, "price", "100"))))
		for _, id := range []transaction.ID{"other", "none"} {
			intruder := o.enter(ctx, token, "alice", id)
			check(t, intruder.Doc.Unavailable(ctx, 1))
			rejected := must(servertest.AwaitTold[*presence.Rejected](ctx, intruder))
			if rejected.Code != session.CodeNotAllowed {
				t.Errorf("rejected: %+v", rejected)
			}
			if intruder.Roster() != nil || len(intruder.Doc.Heads()) > 0 {
				t.Error("the intruder was told something")
			}
			for path, method := range map[string]string{
				"/v1/transactions/" + string(id): "GET", "/v1/transactions/" + string(id) + "/history": "GET",
				"/v1/transactions/" + string(id) + "/proof/inclusion?n=0": "GET", "/v1/transactions": "POST",
			} {
				status, code, _ := o.ask(token, method, path, `{"id": "`+string(id)+`"}`)
				if status != http.StatusForbidden || code != session.CodeNotAllowed {
					t.Errorf("%s %s: %d %s", method, path, status, code)
				}
			}
		}
		if status, _, _ := o.ask(host, "GET", "/v1/transactions/none", ""); status != http.StatusNotFound {
			t.Errorf("what nobody may open came to be: %d", status)
		}
	})
}

// Plain documents are for tokens of everything, where they are admitted.
func TestPlainDocumentsAndTokens(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		token, all := o.token("alice", transaction.Host, "sale"), o.token("holly", transaction.Host, "*")
		id := servertest.NewDocumentID()
		mine := o.open(ctx, o.connect(ctx, token), id)
		check(t, mine.Unavailable(ctx, 1))
		_ = must(mine.Set(ctx, "a", "b"))
		check(t, mine.Unavailable(ctx, 2))
		hers := o.open(ctx, o.connect(ctx, all), id)
		check(t, hers.Unavailable(ctx, 1))
		check(t, hers.Acknowledged(ctx, must(hers.Set(ctx, "a", "b"))))

		// The document of a transaction does not become a plain one for her: not by
		// her hand, nor by somebody's who may.
		c := o.connect(ctx, token)
		mine = o.open(ctx, c, transaction.ID("sale").Document())
		check(t, mine.Unavailable(ctx, 1))
		h := must(mine.Set(ctx, "a", "b"))
		check(t, c.Wait(ctx, "a refusal", func() bool { return len(c.ErrorsLocked()) == 1 }))
		hers = o.open(ctx, o.connect(ctx, all), transaction.ID("sale").Document())
		check(t, hers.Acknowledged(ctx, must(hers.Set(ctx, "a", "b"))))
		synctest.Wait()
		if mine.IsAcknowledged(h) || len(mine.Heads()) != 1 || mine.Heads()[0] != h {
			t.Error("she has a part in a plain document")
		}
	})
}

// Who is let in is not yet believed: not a peer id, not an actor, not a name.
func TestImpostors(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		o.sale("sale")
		alice := o.enter(ctx, o.token("alice", transaction.Party, "sale"), "alice", "sale")
		o.whole(ctx, alice)
		check(t, alice.Doc.Acknowledged(ctx, must(alice.Pick(ctx, "price", "100"))))
		mallory := o.enter(ctx, o.token("mallory", transaction.Party, "sale"), "mallory", "sale")
		o.whole(ctx, mallory)

		h := must(mallory.PickFrom(ctx, alice.PeerID, "price", "1"))
		synctest.Wait()
		if mallory.Doc.IsAcknowledged(h) {
			t.Error("a frame with somebody else's senderId was taken")
		}

		for _, lie := range []struct {
			actor crdt.ActorID
			user  string
			want  crdt.Code
		}{{alice.Actor(), "", transaction.CodeForeignActor}, {"", "alice", transaction.CodeNotAuthor}} {
			liar := o.enter(ctx, o.token("liar", transaction.Party, "sale"), "liar", "sale")
			o.whole(ctx, liar)
			liar.Impersonate(lie.actor, lie.user)
			h := must(liar.Pick(ctx, "price", "1"))
			rejected := must(servertest.AwaitTold[*presence.Rejected](ctx, liar))
			if rejected.Code != lie.want || !slices.Contains(rejected.Changes, h) {
				t.Errorf("%+v: rejected %+v", lie, rejected)
			}
		}

		thief := must(servertest.ConnectVia(ctx, o.url+"/?token="+o.token("thief", transaction.Party, "sale"), o.via))
		defer thief.CloseNow()
		_ = thief.Send(ctx, &wire.Join{SenderID: alice.PeerID, Versions: []string{wire.ProtocolVersion}})
		ended(t, ctx, thief, session.CloseReplaced)
		if thief.Server != nil || len(thief.Errors()) != 1 {
			t.Errorf("who stole a peer id was told %q", thief.Errors())
		}
		check(t, alice.Doc.Acknowledged(ctx, must(alice.Pick(ctx, "price", "120")))) // she is there still
	})
}

func TestExpiryEndsConnections(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		o.sale("sale")
		began := time.Now()
		alice := o.enter(ctx, o.lasting(10*time.Second, "alice", transaction.Party, "sale"), "alice", "sale")
		o.whole(ctx, alice)
		ended(t, ctx, alice, session.CloseExpired)
		if after := time.Since(began); after < 9*time.Second || after > 11*time.Second {
			t.Errorf("closed after %v", after)
		}
		if len(alice.Errors()) != 1 || !session.CloseExpired.Retry() {
			t.Errorf("error frames: %q", alice.Errors())
		}
		if code, text := o.refused(ctx, alice.Token); code != websocket.StatusCode(session.CloseUnauthorized) {
			t.Errorf("with the expired token: %d %s", code, text)
		}
		alice.Token = o.token("alice", transaction.Party, "sale")
		check(t, alice.Return(ctx))
		check(t, alice.Doc.Acknowledged(ctx, must(alice.Pick(ctx, "price", "100"))))
	})
}

// A client that does not close when it is told is heard no more.
func TestNothingIsHeardAfterTheEnd(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		host := o.sale("sale")
		alice := o.enter(ctx, o.token("alice", transaction.Party, "sale"), "alice", "sale")
		o.whole(ctx, alice)
		if status, _, text := o.ask(host, "POST", "/v1/revocations", `{"user": "alice"}`); status != http.StatusCreated {
			t.Fatalf("%d %s", status, text)
		}
		_, _ = alice.Pick(ctx, "price", "1")
		ended(t, ctx, alice, session.CloseRevoked)
		_, _, text := o.ask(host, "GET", "/v1/transactions/sale", "")
		if strings.Contains(string(text), "alice") {
			t.Errorf("a pick was taken after the revocation: %s", text)
		}
	})
}

// Whoever was revoked has left at once, even if their client does not take its
// leave: nobody agrees with them any more, and what they sent ahead is not taken
// when somebody else sends what it builds on.
func TestTheRevokedHaveLeftAtOnce(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		host := o.sale("sale")
		far := servertest.NewPipe()
		link := servertest.NewPipeProxy(far, o.pipe)
		defer link.Close()
		bob := o.enter(ctx, o.token("bob", transaction.Party, "sale"), "bob", "sale")
		o.whole(ctx, bob)
		check(t, bob.Doc.Acknowledged(ctx, must(bob.Pick(ctx, "price", "100"))))
		alice := must(servertest.Visitor{URL: o.url, Via: far.Client(), User: "alice", Token: o.token("alice", transaction.Party, "sale")}.Enter(ctx, "sale"))
		o.whole(ctx, alice)
		must(alice.Ready(ctx))
		must(bob.AwaitRoster(ctx, "that Alice is ready", func(r *presence.Roster) bool {
			return servertest.In(r, "alice") != nil && servertest.In(r, "alice").Ready
		}))

		link.Silence()
		if status, _, text := o.ask(host, "POST", "/v1/revocations", `{"user": "alice"}`); status != http.StatusCreated {
			t.Fatalf("%d %s", status, text)
		}
		must(bob.Ready(ctx))
		time.Sleep(time.Second)
		if roster := bob.Roster(); servertest.In(roster, "alice") != nil || roster.Resolution != nil {
			t.Errorf("after the revocation: %+v, agreed %+v", servertest.In(roster, "alice"), roster.Resolution)
		}
	})
}

// A token must be good when a body has been read, not only when it begins.
func TestTokensAreAskedForAgainAfterTheBody(t *testing.T) {
	for _, path := range []string{"/v1/transactions", "/v1/revocations"} {
		inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
			host := o.sale("sale")
			o.connect(ctx, host).CloseNow()
			body, rest := io.Pipe()
			req := must(http.NewRequest("POST", "http"+strings.TrimPrefix(o.url, "ws")+path, body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+o.token("mallory", transaction.Host, "*"))
			status := make(chan int)
			go func() {
				resp := must(o.via.Do(req))
				_ = resp.Body.Close()
				status <- resp.StatusCode
			}()
			_ = must(rest.Write([]byte(`{`)))
			synctest.Wait()
			if status, _, text := o.ask(host, "POST", "/v1/revocations", `{"user": "mallory"}`); status != http.StatusCreated {
				t.Fatalf("%d %s", status, text)
			}
			_ = must(rest.Write([]byte(map[string]string{
				"/v1/transactions": `"id": "sale", "policy": "lock"}`, "/v1/revocations": `"user": "holly"}`,
			}[path])))
			check(t, rest.Close())
			if got := <-status; got != http.StatusForbidden {
				t.Errorf("%s: answered %d after the token was revoked", path, got)
			}
			o.via.CloseIdleConnections()
		})
	}
}

func TestRevocations(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		host := o.sale("sale")
		token := o.token("alice", transaction.Party, "sale")
		alice, bob := o.enter(ctx, token, "alice", "sale"), o.enter(ctx, o.token("bob", transaction.Party, "sale"), "bob", "sale")
		o.whole(ctx, alice)
		o.whole(ctx, bob)

		began := time.Now()
		status, _, text := o.ask(host, "POST", "/v1/revocations", `{"user": "alice"}`)
		if status != http.StatusCreated || !strings.Contains(string(text), `"by": "holly"`) {
			t.Fatalf("%d %s", status, text)
		}
		ended(t, ctx, alice, session.CloseRevoked)
		if after := time.Since(began); after > time.Second || session.CloseRevoked.Retry() {
			t.Errorf("closed after %v", after)
		}
		check(t, bob.Doc.Acknowledged(ctx, must(bob.Pick(ctx, "price", "100"))))
		_ = must(bob.AwaitRoster(ctx, "Alice has left", func(r *presence.Roster) bool { return servertest.In(r, "alice") == nil }))
		if after := time.Since(began); after > 2*time.Second {
			t.Errorf("she is gone after %v: there is no grace for who was sent away", after)
		}

		o.down()
		o.up(o.opt) // what was revoked stays so
		if code, text := o.refused(ctx, token); code != websocket.StatusCode(session.CloseRevoked) || !strings.HasPrefix(text, "revoked: ") {
			t.Errorf("closed with %d %s", code, text)
		}
		if status, code, _ := o.ask(token, "GET", "/v1/transactions/sale", ""); status != http.StatusForbidden || code != identity.CodeRevoked {
			t.Errorf("a request is answered %d %s", status, code)
		}
		time.Sleep(time.Second)
		fresh := o.token("alice", transaction.Party, "sale") // who issues tokens trusts her again
		o.whole(ctx, o.enter(ctx, fresh, "alice", "sale"))
		o.revokesAToken(ctx, host, fresh)
	})
}

// revokesAToken revokes one token of Alice's, for a while.
func (o *office) revokesAToken(ctx context.Context, host, token string) {
	t := o.t
	claims := jwt.MapClaims{}
	_, _, err := jwt.NewParser().ParseUnverified(token, claims)
	check(t, err)
	until := time.Now().Add(time.Minute)
	body := must(json.Marshal(map[string]any{"token": claims["jti"], "until": until}))
	if status, _, text := o.ask(host, "POST", "/v1/revocations", string(body)); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if code, _ := o.refused(ctx, token); code != websocket.StatusCode(session.CloseRevoked) {
		t.Errorf("closed with %d", code)
	}
	time.Sleep(2 * time.Minute)
	o.whole(ctx, o.enter(ctx, token, "alice", "sale"))

	var list []struct {
		User, Token, By string
		At, Until       int64
	}
	_, _, text := o.ask(host, "GET", "/v1/revocations", "")
	check(t, json.Unmarshal(text, &list))
	if len(list) != 2 || list[0].User != "alice" || list[1].Token != claims["jti"] || list[1].Until != until.UnixMilli() || list[0].At == 0 {
		t.Errorf("listed: %s", text)
	}
}

func TestWhoMayRevoke(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		host := o.token("holly", transaction.Host, "*")
		for _, tt := range []struct {
			token, body string
			status      int
			code        crdt.Code
		}{
			{"", `{"user": "bob"}`, http.StatusUnauthorized, identity.CodeNoToken},
			{o.token("alice", transaction.Party, "*"), `{"user": "bob"}`, http.StatusForbidden, transaction.CodeNotHost},
			{o.token("alice", transaction.Host, "sale"), `{"user": "bob"}`, http.StatusForbidden, session.CodeNotAllowed},
			{host, `{}`, http.StatusBadRequest, "bad-request"},
			{host, `{"user": "bob", "until": 1}`, http.StatusBadRequest, "bad-request"},
			{host, `{"user": "bob", "until": "soon"}`, http.StatusBadRequest, "bad-request"},
			{host, `{"user": "bob", "by": "alice"}`, http.StatusBadRequest, "bad-request"},
			{host, `{"token": "` + strings.Repeat("x", 300) + `"}`, http.StatusBadRequest, "bad-request"},
		} {
			if status, code, text := o.ask(tt.token, "POST", "/v1/revocations", tt.body); status != tt.status || code != tt.code {
				t.Errorf("%s: %d %s", tt.body, status, text)
			}
			if tt.status == http.StatusBadRequest {
				continue
			}
			if status, _, _ := o.ask(tt.token, "GET", "/v1/revocations", ""); status != tt.status {
				t.Errorf("the list: %d", status)
			}
		}
		if status, _, text := o.ask(host, "GET", "/v1/revocations", ""); status != http.StatusOK || strings.TrimSpace(string(text)) != "[]" {
			t.Errorf("%d %s", status, text)
		}
		o.connect(ctx, host).CloseNow()
	})
}

// Who believes what clients say can send somebody away as well.
func TestRevocationsInDevelopment(t *testing.T) {
	ctx := deadline(t)
	r := start(t, server.Options{Identify: server.DevIdentity})
	r.transaction("POST", "/v1/transactions?user=holly&role=host", `{"id": "sale", `+saleFields+`}`, http.StatusCreated)
	alice := r.enter(ctx, "sale", servertest.Visitor{User: "alice"})
	if status, _, text := r.call("POST", "/v1/revocations?user=alice", `{"user": "holly"}`); status != http.StatusForbidden {
		t.Errorf("a party revokes: %d %s", status, text)
	}
	if status, _, text := r.call("POST", "/v1/revocations?user=holly&role=host", `{"user": "alice"}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	ended(t, ctx, alice, session.CloseRevoked)
	if status, _, _ := r.call("GET", "/v1/transactions/sale?user=alice", ""); status != http.StatusForbidden {
		t.Errorf("she is answered %d", status)
	}
	if n := r.srv.Counts().TokensRevoked; n != 1 {
		t.Errorf("counted: %d", n)
	}
}

// A token that was issued later and says something else ends older connections.
func TestARoleThatChanges(t *testing.T) {
	inOffice(t, server.Options{}, func(ctx context.Context, o *office) {
		o.sale("sale")
		o.sale("other")
		party := o.enter(ctx, o.token("alice", transaction.Party, "sale"), "alice", "sale")
		bob := o.enter(ctx, o.token("bob", transaction.Party, "sale"), "bob", "sale")
		o.whole(ctx, party)
		o.whole(ctx, bob)
		time.Sleep(time.Second)
		same := o.enter(ctx, o.token("alice", transaction.Party, "sale"), "alice", "sale")
		o.whole(ctx, same)
		apart := o.enter(ctx, o.token("alice", transaction.Viewer, "other"), "alice", "other")
		o.whole(ctx, apart)
		check(t, party.Doc.Acknowledged(ctx, must(party.Pick(ctx, "price", "100"))))
		time.Sleep(time.Second)
		viewer := o.enter(ctx, o.token("alice", transaction.Viewer, "sale"), "alice", "sale")
		ended(t, ctx, party, session.CloseExpired)
		ended(t, ctx, same, session.CloseExpired)
		o.whole(ctx, viewer)
		began := time.Now()
		must(bob.AwaitRoster(ctx, "Alice is a viewer", func(r *presence.Roster) bool {
			alice := servertest.In(r, "alice")
			return alice != nil && alice.Role == transaction.Viewer
		}))
		if after := time.Since(began); after > 2*time.Second {
			t.Errorf("she is a viewer after %v: a role has no grace", after)
		}
		h := must(viewer.Pick(ctx, "price", "120"))
		if r := must(servertest.AwaitTold[*presence.Rejected](ctx, viewer)); r.Code != transaction.CodeReadOnly || !slices.Contains(r.Changes, h) {
			t.Errorf("rejected: %+v", r)
		}
		check(t, viewer.Doc.Has(ctx, must(bob.Pick(ctx, "price", "110"))))
		synctest.Wait()
		if len(apart.Errors()) > 0 {
			t.Error("the other transaction's connection was ended too")
		}
	})
}

func TestOrigins(t *testing.T) {
	inOffice(t, server.Options{Origins: []string{"https://*.example.com"}}, func(ctx context.Context, o *office) {
		token := o.token("alice", transaction.Party, "sale")
		for origin, allowed := range map[string]bool{
			"": true, "http://pipe": true, "https://app.example.com": true,
			"http://app.example.com": false, "https://example.org": false, "null": false,
		} {
			ws, resp, err := websocket.Dial(ctx, o.url+"/sync?token="+token, &websocket.DialOptions{
				HTTPClient: o.via, HTTPHeader: http.Header{"Origin": {origin}},
			})
			if (err == nil) != allowed || err != nil && resp.StatusCode != http.StatusForbidden {
				t.Errorf("origin %q: %v", origin, err)
			}
			if err == nil {
				_ = ws.CloseNow()
			}
		}
		o.connect(ctx, token).CloseNow()
	})
}

// TestNoNulInAUser: PostgreSQL keeps none in a text, so that what such a user brings
// could never be stored.
func TestNoNulInAUser(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/v1/transactions/sale?user=a%00b", "", http.StatusUnauthorized},
		{"POST", "/v1/revocations?user=holly&role=host", `{"user": "a\u0000b"}`, http.StatusBadRequest},
		{"POST", "/v1/revocations?user=holly&role=host", `{"token": "\u0000"}`, http.StatusBadRequest},
	} {
		if status, _, text := r.call(c.method, c.path, c.body); status != c.want || !strings.Contains(string(text), "NUL") {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
}
