package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/crdt/transaction"
	"parley/server"
	"parley/server/servertest"
	"parley/server/store"
	"parley/server/store/pgtest"
	"parley/sync/presence"
	"parley/sync/wire"
)

// are waits for a roster with exactly these users online.
func are(users ...string) func(*presence.Roster) bool {
	return func(roster *presence.Roster) bool {
		var online []string
		for _, p := range roster.Participants {
			if p.State != presence.Online {
				return false
			}
			online = append(online, p.User)
		}
		return slices.Equal(online, users)
	}
}

func isReady(user string, ready bool) func(*presence.Roster) bool {
	return func(roster *presence.Roster) bool {
		p := servertest.In(roster, user)
		return p != nil && p.Ready == ready
	}
}

// sharedSale is a sale on several nodes, with each user on the node that is said,
// who all know of each other and of a first pick.
func sharedSale(ctx context.Context, n []*running, settings string, where map[string]int) map[string]*servertest.Party {
	n[0].t.Helper()
	n[0].sale("sale", settings)
	here := make(map[string]*servertest.Party)
	var users []string
	for user, node := range where {
		here[user] = n[node].enter(ctx, "sale", servertest.Visitor{User: user})
		users = append(users, user)
	}
	slices.Sort(users)
	h := must(here[users[0]].Pick(ctx, "price", "110"))
	for _, p := range here {
		check(n[0].t, p.Doc.Has(ctx, h))
		must(p.AwaitRoster(ctx, "all of them", func(roster *presence.Roster) bool {
			return are(users...)(roster) && sameHeads(roster.Heads, p.Doc.Heads())
		}))
	}
	return here
}

// rows is how many there are in a table of the database.
func rows(ctx context.Context, url, table string) (n int) {
	c := must(pgx.Connect(ctx, url))
	defer func() { _ = c.Close(ctx) }()
	if err := c.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		panic(err)
	}
	return n
}

// TestNeighboursSeeEachOther: people on different servers see each other come, look,
// agree, and leave, and nothing stays of them.
func TestNeighboursSeeEachOther(t *testing.T) {
	ctx := deadline(t)
	url := pgtest.Shared(t).Schema(t)
	n := startNodes(t, url, 3, server.Options{Identify: server.DevIdentity, Grace: 500 * time.Millisecond})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1, "carol": 2})
	check(t, here["bob"].Say(ctx, presence.Focus{Field: "price"}))
	must(here["alice"].AwaitRoster(ctx, "where bob is", func(roster *presence.Roster) bool { return servertest.In(roster, "bob").Focus == "price" }))
	agreed := n[0].agree(ctx, here)
	if !slices.Equal(agreed.Parties, []string{"alice", "bob", "carol"}) || agreed.Quorum != 3 {
		t.Errorf("agreed are %+v", agreed)
	}
	for i, r := range n {
		if s := r.transaction("GET", salePath, "", 200); len(s.Resolutions) != 1 {
			t.Errorf("node %d shows the agreements %+v", i, s.Resolutions)
		}
	}
	check(t, here["carol"].Send(ctx, &wire.Leave{SenderID: here["carol"].PeerID}))
	for _, user := range []string{"alice", "bob"} {
		must(here[user].AwaitRoster(ctx, "carol to leave", are("alice", "bob")))
	}
	for _, user := range []string{"alice", "bob"} {
		check(t, here[user].Say(ctx, presence.Leave{}))
	}
	for rows(ctx, url, "presence") > 0 {
		time.Sleep(5 * time.Millisecond)
	}
}

// TestNeighboursTellAfterItIsStored: nobody is told that somebody is not ready any
// more before every server must know it.
func TestNeighboursTellAfterItIsStored(t *testing.T) {
	ctx := deadline(t)
	url := pgtest.Shared(t).Schema(t)
	n := startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	n[1].readyFor(ctx, here["bob"])
	must(here["alice"].AwaitRoster(ctx, "bob to be ready", isReady("bob", true)))

	sealed := holdAsSealer(ctx, t, url, "sale")
	check(t, here["bob"].Say(ctx, presence.Unready{}))
	time.Sleep(400 * time.Millisecond)
	for user, p := range here {
		if roster := p.Roster(); !servertest.In(roster, "bob").Ready {
			t.Errorf("%s is told that bob is not ready, and it is not stored", user)
		}
	}
	sealed()
	for _, p := range here {
		must(p.AwaitRoster(ctx, "bob not to be ready", isReady("bob", false)))
	}
}

// holdAsSealer takes the lock of a transaction's document as one who seals it, until end
// is called.
func holdAsSealer(ctx context.Context, t *testing.T, url string, id transaction.ID) (end func()) {
	t.Helper()
	held := must(pgx.Connect(ctx, url))
	doc := id.Document()
	for _, sql := range []string{"BEGIN", fmt.Sprintf("SELECT pg_advisory_xact_lock(('x%x')::bit(64)::bigint)", doc[:8])} {
		if _, err := held.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	end = sync.OnceFunc(func() { check(t, held.Close(context.Background())) })
	t.Cleanup(end)
	return end
}

// TestNeighboursDoNotWaitForASeal: a document that takes long to be sealed keeps nobody
// waiting in others, and what clients say to each other passes.
func TestNeighboursDoNotWaitForASeal(t *testing.T) {
	ctx := deadline(t)
	url := pgtest.Shared(t).Schema(t)
	n := startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	n[0].sale("other", "")
	n[0].enter(ctx, "other", servertest.Visitor{User: "carol"})
	sealed := holdAsSealer(ctx, t, url, "sale")
	check(t, here["alice"].Say(ctx, presence.Leave{}))
	time.Sleep(50 * time.Millisecond) // that is on its way
	began := time.Now()
	for _, user := range []string{"dave", "erin"} {
		n[0].enter(ctx, "other", servertest.Visitor{User: user})
	}
	if after := time.Since(began); after > time.Second {
		t.Errorf("they came within %v", after)
	}
	if roster := here["bob"].Roster(); !are("alice", "bob")(roster) {
		t.Errorf("it is not stored, and bob is told %+v", roster)
	}
	if failed := n[0].scrape()[`parley_presence_published_total{result="failed"}`]; failed > 0 {
		t.Errorf("it failed %v times", failed)
	}
	sealed()
	must(here["bob"].AwaitRoster(ctx, "alice to leave", are("bob")))
}

// TestNeighboursTakeBack: one confirms and takes it back while the other confirms, on
// different servers, in any order. Who was shown not to be ready is in no agreement
// that comes after.
func TestNeighboursTakeBack(t *testing.T) {
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	alice, bob := here["alice"], here["bob"]
	agreed, taken := 0, 0
	for round := range 15 {
		h := must(alice.Pick(ctx, "price", fmt.Sprint(200+round)))
		check(t, bob.Doc.Has(ctx, h))
		check(t, alice.Doc.Acknowledged(ctx, h))
		n[1].readyFor(ctx, bob)
		confirmed := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
			_, err := alice.Ready(ctx)
			confirmed <- err
		}()
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		check(t, bob.Say(ctx, presence.Unready{}))
		check(t, <-confirmed)
		shown := false // not to be ready
		must(bob.Await(ctx, "how it ends", func(message any) bool {
			switch m := message.(type) {
			case *presence.Roster:
				shown = isReady("bob", false)(m)
				return shown && isReady("alice", true)(m)
			case *presence.Resolved:
				if shown {
					t.Error("agreed with bob, who was shown not to be ready")
				}
				agreed++
				return true
			}
			return false
		}))
		if shown {
			taken++
			time.Sleep(20 * time.Millisecond)
			if s := n[0].transaction("GET", salePath, "", 200); len(s.Resolutions) != agreed {
				t.Errorf("%d agreements, bob was told of %d", len(s.Resolutions), agreed)
			}
		}
	}
	t.Logf("%d times agreed, %d times taken back", agreed, taken)
}

// TestNeighboursLookAgain: an agreement that rests on what another server has replaced
// unheard is not stored; it is tried again, by what is so.
func TestNeighboursLookAgain(t *testing.T) {
	ctx := deadline(t)
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	n := startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	n[1].readyFor(ctx, here["bob"])
	must(here["alice"].AwaitRoster(ctx, "bob to be ready", isReady("bob", true)))
	node := n[1].store.Node()
	pg.Exec(t, url, fmt.Sprintf(`UPDATE presence SET seq = seq + 1 WHERE node = '\x%x'`, node[:]))
	must(here["alice"].Ready(ctx))
	for _, p := range here {
		must(servertest.AwaitTold[*presence.Resolved](ctx, p))
	}
	if retried := n[0].scrape()["parley_resolutions_retried_total"] + n[1].scrape()["parley_resolutions_retried_total"]; retried == 0 {
		t.Error("it was stored at once")
	}
}

// TestNeighboursMiss: what is not heard, because the database cuts off those who
// listen, is found.
func TestNeighboursMiss(t *testing.T) {
	ctx := deadline(t)
	pg := pgtest.Shared(t)
	url := pg.Database(t)
	n := startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	for range 5 {
		pg.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
		check(t, here["bob"].Say(ctx, presence.Leave{}))
		must(here["alice"].AwaitRoster(ctx, "bob to leave", are("alice")))
		n[1].readyFor(ctx, here["bob"])
		must(here["alice"].AwaitRoster(ctx, "bob to be ready", isReady("bob", true)))
	}
}

// TestNeighboursFindOut: what nobody tells of is found by comparing.
func TestNeighboursFindOut(t *testing.T) {
	comparing = 50 * time.Millisecond
	defer func() { comparing = time.Hour }()
	ctx := deadline(t)
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	n := startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	node := n[1].store.Node()
	pg.Exec(t, url, fmt.Sprintf(`DELETE FROM presence WHERE node = '\x%x'`, node[:]))
	must(here["alice"].AwaitRoster(ctx, "bob to be gone", are("alice")))
}

// steady keeps looking at a client's rosters, and fails the test when a user is not in
// one of them.
func steady(t *testing.T, p *servertest.Party, from int, user string) {
	t.Helper()
	for _, told := range must(p.Told())[from:] {
		if roster, ok := told.Message.(*presence.Roster); ok && servertest.In(roster, user) == nil {
			t.Errorf("%s was told that %s has left", p.User, user)
		}
	}
}

// TestNeighboursTakeOver: a server that ends hands its people over. Nobody appears to
// leave who goes on with another in time, and who has confirmed is ready still, when
// the first one is forgotten too.
func TestNeighboursTakeOver(t *testing.T) {
	t.Cleanup(server.Leases(200*time.Millisecond, 1500*time.Millisecond))
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{Identify: server.DevIdentity, Grace: time.Second})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1, "carol": 0, "dave": 0})
	bob := here["bob"]
	n[0].readyFor(ctx, here["alice"])
	must(bob.AwaitRoster(ctx, "alice to be ready", isReady("alice", true)))
	from := len(must(bob.Told()))
	began := time.Now()
	var ending sync.WaitGroup
	ending.Go(n[0].down)
	for _, user := range []string{"alice", "carol"} {
		_ = must(here[user].Ended(ctx))
		here[user].URL = n[1].url
		n[1].back(ctx, here[user])
	}
	must(bob.AwaitRoster(ctx, "dave to be missing", isReconnecting("dave")))
	must(bob.AwaitRoster(ctx, "dave to leave, alone", are("alice", "bob", "carol")))
	if after := time.Since(began); after > 3*time.Second {
		t.Errorf("dave left after %v", after)
	}
	ending.Wait()
	time.Sleep(2 * time.Second) // until the lease has ended
	steady(t, bob, from, "alice")
	steady(t, bob, from, "carol")
	if !isReady("alice", true)(bob.Roster()) {
		t.Error("alice is not ready any more")
	}
	for _, user := range []string{"bob", "carol"} {
		must(here[user].Ready(ctx))
	}
	for _, user := range []string{"alice", "bob", "carol"} {
		must(servertest.AwaitTold[*presence.Resolved](ctx, here[user]))
	}
}

func TestNeighboursAndTheDatabase(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	t.Run("away", func(t *testing.T) { testNeighboursWithoutTheDatabase(t, pg) })
	t.Run("crashes", func(t *testing.T) { testNeighboursWhenItForgets(t, pg) })
	t.Run("crashed", func(t *testing.T) { testNeighbourStartsWhenItForgot(t, pg) })
}

// testNeighboursWithoutTheDatabase: while it is away, each server tells of its own, and
// others are lost; when it is back, all see each other.
func testNeighboursWithoutTheDatabase(t *testing.T, pg *pgtest.Server) {
	t.Cleanup(server.Leases(100*time.Millisecond, time.Second))
	ctx := deadline(t)
	n := startNodes(t, pg.Database(t), 2, server.Options{Identify: server.DevIdentity, Grace: 500 * time.Millisecond})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1, "carol": 0})
	n[1].readyFor(ctx, here["bob"])
	must(here["alice"].AwaitRoster(ctx, "bob to be ready", isReady("bob", true)))
	began := time.Now()
	pg.Kill(t)
	check(t, here["carol"].Say(ctx, presence.Leave{}))
	must(here["alice"].AwaitRoster(ctx, "carol and bob to leave", are("alice")))
	if after := time.Since(began); after < 900*time.Millisecond {
		t.Errorf("carol left after %v, when others might have counted on her", after)
	}
	must(here["bob"].AwaitRoster(ctx, "alice to be gone", are("bob")))
	check(t, pg.Restart())
	for _, user := range []string{"alice", "bob"} {
		must(here[user].AwaitRoster(ctx, "both", are("alice", "bob")))
	}
	must(here["alice"].Ready(ctx))
	must(here["bob"].Ready(ctx))
	for _, user := range []string{"alice", "bob"} {
		must(servertest.AwaitTold[*presence.Resolved](ctx, here[user]))
	}
}

// testNeighboursWhenItForgets: a crash of the database takes with it who is
// present. Nobody appears to leave if it is back in time.
func testNeighboursWhenItForgets(t *testing.T, pg *pgtest.Server) {
	t.Cleanup(server.Leases(time.Second, 4*time.Second))
	ctx := deadline(t)
	url := pg.Database(t)
	n := startNodes(t, url, 2, server.Options{Identify: server.DevIdentity})
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 1})
	from := len(must(here["alice"].Told()))
	for range 3 {
		pg.Kill(t)
		time.Sleep(300 * time.Millisecond)
		check(t, pg.Restart())
		for rows(ctx, url, "presence") < 2 {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // until that is heard
	}
	for _, told := range must(here["alice"].Told())[from:] {
		if roster, ok := told.Message.(*presence.Roster); ok && !are("alice", "bob")(roster) {
			t.Errorf("alice was told %+v", roster)
		}
	}
	must(here["alice"].Ready(ctx))
	must(here["bob"].Ready(ctx))
	for _, p := range here {
		must(servertest.AwaitTold[*presence.Resolved](ctx, p))
	}
	steady(t, here["alice"], from, "bob")
	if roster := here["alice"].Roster(); !are("alice", "bob")(roster) {
		t.Errorf("it stands so: %+v", roster)
	}
}

// testNeighbourStartsWhenItForgot: a server that starts after a crash of the database, and
// takes people over, agrees to nothing without those who are connected elsewhere and of
// whom it has not heard yet.
func testNeighbourStartsWhenItForgot(t *testing.T, pg *pgtest.Server) {
	t.Cleanup(server.Leases(1500*time.Millisecond, 4500*time.Millisecond))
	ctx := deadline(t)
	opt := server.Options{Identify: server.DevIdentity}
	n := startNodes(t, pg.Database(t), 1, opt)
	here := sharedSale(ctx, n, "", map[string]int{"alice": 0, "bob": 0, "carol": 0})
	check(t, here["alice"].Doc.Acknowledged(ctx, here["alice"].Doc.Heads()[0]))
	pg.Kill(t)
	time.Sleep(time.Second) // so that it does not look again at once
	check(t, pg.Restart())
	n = append(n, startNodes(t, n[0].pg, 1, opt)...)
	for _, user := range []string{"alice", "carol"} {
		here[user].CloseNow()
		here[user].URL = n[1].url
		n[1].back(ctx, here[user])
	}
	for _, user := range []string{"alice", "carol"} {
		must(here[user].Ready(ctx))
	}
	must(here["alice"].AwaitRoster(ctx, "bob", func(roster *presence.Roster) bool { return servertest.In(roster, "bob") != nil }))
	must(here["bob"].Ready(ctx))
	must(servertest.AwaitTold[*presence.Resolved](ctx, here["carol"]))
	for _, s := range n[1].transaction("GET", salePath, "", 200).Resolutions {
		if !slices.Equal(s.Parties, []string{"alice", "bob", "carol"}) {
			t.Errorf("agreed are %v", s.Parties)
		}
	}
}

// TestALoneServerAgreesAtOnce: with no other server over its database, one that starts
// need not wait to know that.
func TestALoneServerAgreesAtOnce(t *testing.T) {
	ctx := deadline(t)
	url := pgtest.Shared(t).Schema(t)
	opt := server.Options{Identify: server.DevIdentity}
	n := startNodes(t, url, 1, opt)
	n[0].agreedSale(ctx, "", "alice", "bob")
	n[0].down()
	began := time.Now()
	n = startNodes(t, url, 1, opt)
	here := make(map[string]*servertest.Party)
	for _, user := range []string{"alice", "bob"} {
		here[user] = n[0].enter(ctx, "sale", servertest.Visitor{User: user})
	}
	for _, p := range here {
		must(p.AwaitRoster(ctx, "both", are("alice", "bob")))
	}
	n[0].agree(ctx, here)
	if after := time.Since(began); after > 3*time.Second {
		t.Errorf("agreed after %v", after)
	}
}

// TestNeighboursPassOn: what clients say to each other crosses servers, if it is not
// too long.
func TestNeighboursPassOn(t *testing.T) {
	t.Cleanup(server.Leases(50*time.Millisecond, 6*time.Second))
	ctx := deadline(t)
	n := startNodes(t, pgtest.Shared(t).Schema(t), 2, server.Options{})
	id := servertest.NewDocumentID()
	alice, bob, near := n[0].dial(ctx, "alice"), n[1].dial(ctx, "bob"), n[0].dial(ctx, "near")
	a, b, c := n[0].open(ctx, alice, id), n[1].open(ctx, bob, id), n[0].open(ctx, near, id)
	h := must(a.Set(ctx, "price", int64(1)))
	check(t, b.Has(ctx, h))
	check(t, c.Has(ctx, h))
	n[0].awaitMetrics(ctx, series{`parley_other_servers`: 1})
	for i, size := range []int{10, 7000, 20} {
		check(t, alice.Send(ctx, &wire.Ephemeral{SenderID: "alice", TargetID: "any", DocumentID: id, Count: uint64(i + 1), SessionID: "s", Data: append([]byte{0x59, byte(size >> 8), byte(size)}, make([]byte, size)...)}))
	}
	check(t, bob.Wait(ctx, "what is short", func() bool { return len(bob.EphemeralLocked()) == 2 }))
	check(t, near.Wait(ctx, "all of it", func() bool { return len(near.EphemeralLocked()) == 3 }))
	for i, m := range bob.Ephemeral() {
		if m.SenderID != "alice" || m.TargetID != "bob" || m.Count != uint64(1+2*i) || m.SessionID != "s" || len(m.Data) > 30 {
			t.Errorf("bob is told %+v", m)
		}
	}
	n[0].awaitMetrics(ctx, series{`parley_relayed_total{result="sent"}`: 2, `parley_relayed_total{result="too_long"}`: 1})
	n[1].awaitMetrics(ctx, series{`parley_relayed_total{result="received"}`: 2})
}

// TestNeighbourStartsWithoutALease: a server that cannot have one does not start.
func TestNeighbourStartsWithoutALease(t *testing.T) {
	pg := pgtest.Shared(t)
	url := pg.Schema(t)
	r := &running{t: t, pg: url}
	st := must(r.openStore(store.Options{}))
	defer func() { check(t, st.Close()) }()
	pg.Exec(t, url, "DROP TABLE publisher")
	if _, err := server.New(st, server.Options{}); err == nil || !strings.Contains(err.Error(), "prolong the lease") {
		t.Errorf("it starts: %v", err)
	}
}
