package server_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	neturl "net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/sync/presence"
	"parley/sync/wire"
)

// comparing is how often they compare, but for a test of that: never, so that all
// that they know they have heard.
var comparing = time.Hour

// startNodes starts servers over one database.
func startNodes(t testing.TB, url string, n int, opt server.Options) []*running {
	t.Helper()
	return startNodesAt(t, slices.Repeat([]string{url}, n), opt)
}

// startNodesAt is startNodes with a way to the database for each.
func startNodesAt(t testing.TB, urls []string, opt server.Options) (nodes []*running) {
	t.Helper()
	t.Cleanup(server.CompareEvery(comparing)) // after the servers have ended
	for _, url := range urls {
		r := &running{t: t, pg: url, log: io.Discard}
		r.up(opt)
		t.Cleanup(r.down)
		nodes = append(nodes, r)
	}
	return nodes
}

func TestNodesShareADocument(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob := n[0].open(ctx, n[0].dial(ctx, "alice"), id), n[1].open(ctx, n[1].dial(ctx, "bob"), id)
	check(t, alice.Unavailable(ctx, 1))
	check(t, bob.Unavailable(ctx, 1))
	for i := range 20 {
		from, to := alice, bob
		if i%2 == 1 {
			from, to = bob, alice
		}
		h := must(from.Set(ctx, "price", int64(i)))
		check(t, from.Acknowledged(ctx, h))
		check(t, to.Has(ctx, h))
	}
	h := must(alice.Set(ctx, "large", string(make([]byte, 50_000)))) // more than a notification takes
	check(t, bob.Has(ctx, h))
	carol := n[1].open(ctx, n[1].dial(ctx, "carol"), id)
	check(t, carol.Has(ctx, h))
	n[0].down() // what it was told is on the other
	h = must(bob.Set(ctx, "price", int64(100)))
	check(t, carol.Has(ctx, h))
}

// mustBeOneLine fails the test unless the stores of all nodes hold the same changes
// in the same order, all of these among them.
func mustBeOneLine(t *testing.T, ctx context.Context, nodes []*running, id crdt.DocumentID, want []crdt.Hash) {
	t.Helper()
	first := must(nodes[0].store.Load(ctx, id)) // fails if there is a gap
	for _, n := range nodes[1:] {
		if st := must(n.store.Load(ctx, id)); !slices.Equal(st.Hashes, first.Hashes) {
			t.Error("another node reads another order")
		}
	}
	doc := crdt.NewDocument(crdt.Limits{})
	if err := doc.Load(first.Chunks...); err != nil {
		t.Errorf("what is stored does not load: %v", err)
	}
	for _, h := range want {
		if !slices.Contains(first.Hashes, h) {
			t.Errorf("change %s was acknowledged and is not stored", h)
		}
	}
}

// TestNodesAtOnce: many write to one document on several nodes at once. All of it is
// acknowledged, everybody gets all of it, and nobody is cut off.
func TestNodesAtOnce(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 3, server.Options{})
	id := servertest.NewDocumentID()
	const each = 25
	var clients []*servertest.Client
	var docs []*servertest.Document
	for i := range 6 {
		c := n[i%3].dial(ctx, "")
		clients, docs = append(clients, c), append(docs, n[i%3].open(ctx, c, id))
	}
	all := make([][]crdt.Hash, len(docs))
	var wg sync.WaitGroup
	for i, d := range docs {
		wg.Go(func() {
			for k := range each {
				h, err := d.Set(ctx, fmt.Sprint("key ", i), int64(k))
				if err == nil && k%5 == 4 {
					err = d.Acknowledged(ctx, h)
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				all[i] = append(all[i], h)
			}
		})
	}
	wg.Wait()
	want := slices.Concat(all...)
	for i, d := range docs {
		for _, h := range want {
			if err := d.Has(ctx, h); err != nil {
				t.Fatalf("client %d: %v; errors %q", i, err, clients[i].Errors())
			}
		}
	}
	for i, d := range docs {
		for _, h := range all[i] {
			check(t, d.Acknowledged(ctx, h))
		}
	}
	mustBeOneLine(t, ctx, n, id, want)
}

// TestNodesShareATransaction: settings, picks, refusals and agreements are the same
// on all nodes.
func TestNodesShareATransaction(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity})
	here := n[0].agreedSale(ctx, `"parties": ["alice", "bob"], "policy": "lock"`, "alice", "bob")
	carol := n[1].enter(ctx, "sale", servertest.Visitor{User: "carol"})
	if s := n[1].transaction("GET", salePath, "", 200); !slices.Equal(s.Parties, []string{"alice", "bob"}) || s.Policy != string(presence.Lock) {
		t.Errorf("on the other node: %+v", s)
	}
	check(t, here["alice"].Doc.Has(ctx, must(carol.Pick(ctx, "price", "130"))))
	check(t, here["bob"].Doc.Has(ctx, here["alice"].Doc.Heads()[0]))
	agreed := n[0].agree(ctx, here)
	told := must(servertest.AwaitTold[*presence.Resolved](ctx, carol)).Resolution
	if !sameResolution(told, agreed) {
		t.Errorf("told on the other node of %+v, agreed %+v", told, agreed)
	}
	h := must(carol.Pick(ctx, "price", "140"))
	check(t, carol.Wait(ctx, "the refusal", func() bool { return carol.RefusedLocked(h, presence.CodeSealed) }))
	if s := n[1].transaction("GET", salePath, "", 200); s.Resolution == nil || !sameResolution(*s.Resolution, agreed) {
		t.Errorf("shown on the other node: %+v", s.Resolution)
	}
	n[1].transaction("POST", hostPath, `{"id": "sale", "policy": "reopen"}`, 200)
	for n[0].transaction("GET", salePath, "", 200).Policy != string(presence.Reopen) { // the other node has not told yet
		time.Sleep(5 * time.Millisecond)
	}
	h = must(here["bob"].Pick(ctx, "price", "150"))
	check(t, here["bob"].Doc.Acknowledged(ctx, h))
	for i, r := range n {
		if s := r.transaction("GET", salePath, "", 200); len(s.Resolutions) != 1 || !sameResolution(s.Resolutions[0], agreed) {
			t.Errorf("node %d shows the agreements %+v", i, s.Resolutions)
		}
	}
}

// TestNodesReadWhatWasWritten: who is answered by one node and asks another is shown
// no less.
func TestNodesReadWhatWasWritten(t *testing.T) {
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity})
	n[0].sale("sale", "")
	for quorum := range 20 {
		n[quorum%2].transaction("POST", hostPath, fmt.Sprintf(`{"id": "sale", "quorum": %d}`, quorum), 200)
		if s := n[1-quorum%2].transaction("GET", salePath, "", 200); s.Quorum != quorum {
			t.Errorf("the other node shows a quorum of %d, want %d", s.Quorum, quorum)
		}
	}
}

// TestNodesCreateAtOnce: a transaction that is created on all nodes at once is one,
// and every request is answered.
func TestNodesCreateAtOnce(t *testing.T) {
	n := startNodes(t, pgtest.Shared(t).Schema(t), 3, server.Options{Identify: server.DevIdentity})
	for round := range 8 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		created := 0
		for i, node := range n {
			wg.Go(func() {
				body := fmt.Sprintf(`{"id": "deal%d", "fields": {"field%d": {"label": "L", "required": true, "options": {}}}}`, round, i)
				status, _, text := node.call("POST", hostPath, body)
				if status != http.StatusOK && status != http.StatusCreated {
					t.Errorf("node %d: %d %s", i, status, text)
				}
				mu.Lock()
				if status == http.StatusCreated {
					created++
				}
				mu.Unlock()
			})
		}
		wg.Wait()
		if created != 1 {
			t.Errorf("round %d: %d times created", round, created)
		}
	}
}

// TestNodesRevoke: who is revoked on one node is gone from all.
func TestNodesRevoke(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity})
	n[0].agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice")
	bob := n[1].enter(ctx, "sale", servertest.Visitor{User: "bob"})
	status, _, text := n[0].call("POST", "/v1/revocations?user=holly&role=host", `{"user": "bob"}`)
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if _, err := bob.Ended(ctx); err != nil {
		t.Error(err)
	}
}

// TestNodesMiss: what is not heard, because the database cuts off those who listen,
// comes nevertheless.
func TestNodesMiss(t *testing.T) {
	ctx := deadline(t)
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	n := startNodes(t, url, 2, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob := n[0].open(ctx, n[0].dial(ctx, "alice"), id), n[1].open(ctx, n[1].dial(ctx, "bob"), id)
	for i := range 5 {
		pg.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
		for k := range 5 {
			h := must(alice.Set(ctx, "price", int64(10*i+k)))
			check(t, bob.Has(ctx, h))
		}
	}
}

// TestNodesHearWhileTheyCommit: what is heard while a commit of one's own is on disk
// and not yet known to be is looked for afterwards.
func TestNodesHearWhileTheyCommit(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob := n[0].open(ctx, n[0].dial(ctx, "alice"), id), n[1].open(ctx, n[1].dial(ctx, "bob"), id)
	check(t, bob.Has(ctx, must(alice.Set(ctx, "price", int64(1)))))
	release := n[1].stall()
	gate, committed := make(chan struct{}), make(chan struct{})
	n[1].store.Append(store.Batch{Done: func(error) {
		close(committed)
		<-gate // before bob's change, in the same transaction, is known to be on disk
	}})
	waits := n[1].store.Stats().PendingBytes
	h := must(bob.Set(ctx, "other", int64(2)))
	for n[1].store.Stats().PendingBytes == waits {
		time.Sleep(time.Millisecond)
	}
	release()
	<-committed
	check(t, alice.Has(ctx, h))
	last := must(alice.Set(ctx, "price", int64(3)))
	check(t, alice.Acknowledged(ctx, last))
	time.Sleep(200 * time.Millisecond) // until that was heard
	close(gate)
	check(t, bob.Acknowledged(ctx, h))
	check(t, bob.Has(ctx, last))
}

// TestNodesCompare: what nobody tells of is found by comparing.
func TestNodesCompare(t *testing.T) {
	comparing = 50 * time.Millisecond
	defer func() { comparing = time.Hour }()
	ctx := deadline(t)
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	n := startNodes(t, url, 1, server.Options{})
	from, to := servertest.NewDocumentID(), servertest.NewDocumentID()
	alice, bob := n[0].open(ctx, n[0].dial(ctx, "alice"), from), n[0].open(ctx, n[0].dial(ctx, "bob"), to)
	check(t, bob.Unavailable(ctx, 1))
	h := must(alice.Set(ctx, "price", int64(1)))
	check(t, alice.Acknowledged(ctx, h))
	pg.Exec(t, url, fmt.Sprintf(`WITH d AS (INSERT INTO document (id, changes) VALUES ('\x%x', 1) RETURNING key)
		INSERT INTO change SELECT d.key, n, hash, chunk, username, role, at FROM change, d`, to[:]))
	check(t, bob.Has(ctx, h))
}

// TestAnswersKnowWhatOthersStored: a request is shown what another server had stored
// before it came, however busy the document is where it is answered.
func TestAnswersKnowWhatOthersStored(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity})
	n[0].agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice")
	alice := n[0].enter(ctx, "sale", servertest.Visitor{User: "alice"})
	busy, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, user := range []string{"bob", "carol", "dora"} {
		p := n[1].enter(ctx, "sale", servertest.Visitor{User: user})
		wg.Go(func() {
			for i := 0; busy.Err() == nil; i++ {
				h, err := p.Pick(busy, "price", fmt.Sprint(i))
				if err == nil {
					err = p.Doc.Acknowledged(busy, h)
				}
				if err != nil && busy.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 10 {
		h := must(alice.Pick(ctx, "date", fmt.Sprint(i)))
		check(t, alice.Doc.Acknowledged(ctx, h))
		if status, text := n[1].get("/v1/transactions/sale?user=alice&at=" + h.String()); status != http.StatusOK {
			t.Fatalf("pick %d is acknowledged, and %d: %s", i, status, text)
		}
	}
	stop()
	wg.Wait()
}

// TestNodesWithoutTheDatabase: while it is away nothing is acknowledged and what is
// in memory is served; it is all stored when it is back.
func TestNodesWithoutTheDatabase(t *testing.T) {
	ctx := deadline(t)
	pg := pgtest.Start(t, pgtest.Options{Durable: true})
	n := startNodes(t, pg.Database(t), 2, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob := n[0].open(ctx, n[0].dial(ctx, "alice"), id), n[1].open(ctx, n[1].dial(ctx, "bob"), id)
	first := must(alice.Set(ctx, "price", int64(1)))
	check(t, bob.Has(ctx, first))
	pg.Kill(t)
	h, other := must(alice.Set(ctx, "price", int64(2))), must(bob.Set(ctx, "other", int64(3)))
	for n[0].store.Status() == nil || n[1].store.Status() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	for _, r := range n {
		if status, text := r.get("/readyz"); status != http.StatusServiceUnavailable {
			t.Errorf("ready without a database: %d %s", status, text)
		}
	}
	carol := n[0].open(ctx, n[0].dial(ctx, "carol"), id) // what is in memory is served
	check(t, carol.Has(ctx, first))
	if alice.IsAcknowledged(h) || bob.IsAcknowledged(other) {
		t.Error("acknowledged without a database")
	}
	check(t, pg.Restart())
	check(t, alice.Acknowledged(ctx, h))
	check(t, bob.Acknowledged(ctx, other))
	check(t, bob.Has(ctx, h))
	check(t, alice.Has(ctx, other))
	for _, r := range n {
		if status, text := r.get("/readyz"); status != http.StatusOK {
			t.Errorf("not ready: %d %s", status, text)
		}
	}
	mustBeOneLine(t, ctx, n, id, []crdt.Hash{first, h, other})
}

// TestOvertakenWhileTheDatabaseGoes: a server that was overtaken by another, and loses
// the database before it has read by what, keeps its document and its connections.
func TestOvertakenWhileTheDatabaseGoes(t *testing.T) {
	ctx := deadline(t)
	url := pgtest.Shared(t).Schema(t)
	at := must(neturl.Parse(url))
	link := servertest.NewProxy(must(net.Listen("tcp", "127.0.0.1:0")), at.Host)
	t.Cleanup(link.Close)
	at.Host = strings.TrimPrefix(link.URL(), "ws://")
	n := startNodesAt(t, []string{url, at.String()}, server.Options{})
	id := servertest.NewDocumentID()
	var made [2][]crdt.Hash
	var wg sync.WaitGroup
	cutting, done := context.WithCancel(ctx)
	for i, r := range n {
		d := r.open(ctx, r.dial(ctx, wire.PeerID(fmt.Sprint("writer-", i))), id)
		wg.Go(func() {
			for cutting.Err() == nil {
				h := must(d.Set(ctx, fmt.Sprint("of-", i), int64(len(made[i]))))
				made[i] = append(made[i], h)
				if err := d.Acknowledged(ctx, h); err != nil {
					t.Errorf("the connection to server %d has ended: %v", i, err)
					return
				}
				time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
			}
		})
	}
	link.Delay(2 * time.Millisecond) // so that it takes its time
	for range 20 {
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		link.Cut()
	}
	link.Lead("127.0.0.1:1") // for longer than a failover takes
	link.Cut()
	time.Sleep(7 * time.Second)
	link.Lead(must(neturl.Parse(url)).Host)
	done()
	wg.Wait()
	mustBeOneLine(t, ctx, n, id, slices.Concat(made[0], made[1]))
	t.Logf("%d and %d changes", len(made[0]), len(made[1]))
}

// TestOneActorOnTwoNodes: a client that writes on two nodes as the same actor cannot
// fork its line of changes.
func TestOneActorOnTwoNodes(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity})
	n[0].agreedSale(ctx, `"parties": ["alice", "bob"]`, "alice")
	for range 5 {
		var sides []*servertest.Party
		for _, r := range n {
			p := r.enter(ctx, "sale", servertest.Visitor{User: "bob"})
			sides = append(sides, p)
		}
		sides[1].Imitate(sides[0])
		var hs [2]crdt.Hash
		var wg sync.WaitGroup
		for i, p := range sides {
			wg.Go(func() { hs[i] = must(p.Pick(ctx, "price", fmt.Sprint(100+i))) })
		}
		wg.Wait()
		good, bad := 0, 0
		for i, p := range sides {
			var acked bool
			check(t, p.Wait(ctx, "an answer", func() bool {
				acked = p.Doc.AcknowledgedLocked(hs[i])
				return acked || p.RefusedLocked(hs[i], crdt.CodeSequence)
			}))
			if acked {
				good++
			} else {
				bad++
			}
		}
		if good != 1 || bad != 1 {
			t.Errorf("%d were taken and %d refused", good, bad)
		}
	}
	mustBeOneLine(t, ctx, n, transaction.ID("sale").Document(), nil)
}

// BenchmarkNodes measures how soon a change that was made on one node is acknowledged
// there, and there on another, one change at a time.
func BenchmarkNodes(b *testing.B) {
	ctx := context.Background()
	pg := pgtest.Start(b, pgtest.Options{Durable: true})
	n := startNodes(b, pg.Database(b), 2, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob := n[0].open(ctx, n[0].dial(ctx, "alice"), id), n[1].open(ctx, n[1].dial(ctx, "bob"), id)
	check(b, bob.Unavailable(ctx, 1))
	var acked, seen []time.Duration
	for b.Loop() {
		began := time.Now()
		h := must(alice.Set(ctx, "price", began.UnixNano()))
		var wg sync.WaitGroup
		wg.Go(func() {
			if bob.Has(ctx, h) == nil {
				seen = append(seen, time.Since(began))
			}
		})
		check(b, alice.Acknowledged(ctx, h))
		acked = append(acked, time.Since(began))
		wg.Wait()
	}
	for name, list := range map[string][]time.Duration{"acked": acked, "seen": seen} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1e3, name+"-p50-ms")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds())/1e3, name+"-p99-ms")
	}
}
