package protocol_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"parley/crdt"
	"parley/sync/protocol"
)

// runs returns how many random histories to try: PARLEY_RUNS, or normally. If
// PARLEY_SEED is set, only the history of that seed is run.
func runs(t *testing.T, normally int, f func(t *testing.T, seed uint64)) {
	if s := os.Getenv("PARLEY_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		f(t, seed)
		return
	}
	if s := os.Getenv("PARLEY_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		normally = n
	}
	for seed := range normally {
		f(t, uint64(seed))
		if t.Failed() {
			t.Fatalf("replay with PARLEY_SEED=%d", seed)
		}
	}
	t.Logf("%d histories", normally)
}

// Replicas of our own, each with up to three others, in any shape that holds
// together.
func TestOwnReplicasConverge(t *testing.T) {
	runs(t, 150, func(t *testing.T, seed uint64) {
		defer tellSeed(t, seed)
		n := newNetwork(t, seed)
		n.losses = n.rnd.IntN(3) == 0
		count := 2 + n.rnd.IntN(5)
		for i := range count {
			o := newOwn(t, fmt.Sprintf("own%d", i), rand.New(rand.NewPCG(seed, uint64(i))))
			o.lateDisk = n.rnd.IntN(2) == 0
			if n.rnd.IntN(4) == 0 {
				o.maxBytes = 100 + n.rnd.IntN(400)
			}
			n.add(o)
			if i > 0 {
				n.link(n.rnd.IntN(i), i)
			}
		}
		if count > 2 && n.rnd.IntN(2) == 0 {
			n.link(0, count-1) // a ring, perhaps; messages come by two ways
		}
		if n.rnd.IntN(2) == 0 {
			for _, l := range n.links {
				l.mangle = 0.2
			}
		}
		for range 3 {
			n.live(20 + n.rnd.IntN(150))
			n.settle(settleBound(n))
			n.converged()
		}
	})
}

func tellSeed(t *testing.T, seed uint64) {
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// settleBound is how many messages a link may take to settle: a few, and with
// small messages or useless filters one for every change.
func settleBound(n *network) int {
	bound := 30
	for _, r := range n.replicas {
		if o, ok := r.(*own); ok {
			bound = max(bound, 30+4*o.graph.Len())
		}
	}
	return bound
}

// star makes a network of one or two servers of ours and the given peers, each
// connected to one server or to both.
func star(t *testing.T, n *network, seed uint64, peers ...replica) []*own {
	var servers []*own
	for i := range 1 + n.rnd.IntN(2) {
		s := newOwn(t, fmt.Sprintf("server%d", i), rand.New(rand.NewPCG(seed, uint64(i))))
		s.lateDisk = n.rnd.IntN(2) == 0
		s.snapshots = n.rnd.IntN(2) == 0
		s.canRead = true
		if n.rnd.IntN(4) == 0 {
			s.maxBytes = 200 + n.rnd.IntN(800)
		}
		servers = append(servers, s)
		n.add(s)
		if i > 0 {
			n.link(0, i)
		}
	}
	for _, p := range peers {
		i := n.add(p)
		n.link(n.rnd.IntN(len(servers)), i)
		if len(servers) > 1 && n.rnd.IntN(4) == 0 {
			n.link(0, i)
			n.link(1, i)
		}
	}
	return servers
}

// Peers with Automerge of 2023 around servers of ours.
func TestOldPeersConverge(t *testing.T) {
	runs(t, 100, func(t *testing.T, seed uint64) {
		defer tellSeed(t, seed)
		defer collect(seed)
		n := newNetwork(t, seed)
		n.losses = n.rnd.IntN(3) == 0
		peers := make([]replica, 1+n.rnd.IntN(4))
		for i := range peers {
			peers[i] = newOldPeer(t, i)
		}
		star(t, n, seed, peers...)
		for range 2 {
			n.live(20 + n.rnd.IntN(120))
			n.settle(settleBound(n))
			n.converged()
		}
	})
}

// Peers with today's Automerge for JavaScript and with that of 2023 around
// servers of ours.
func TestJavaScriptPeersConverge(t *testing.T) {
	js := startJS(t)
	runs(t, 30, func(t *testing.T, seed uint64) {
		defer tellSeed(t, seed)
		defer collect(seed)
		n := newNetwork(t, seed)
		n.losses = n.rnd.IntN(3) == 0
		var peers []replica
		for i := range 1 + n.rnd.IntN(4) {
			peers = append(peers, js.newPeer(i))
		}
		if n.rnd.IntN(2) == 0 {
			peers = append(peers, newOldPeer(t, 0))
		}
		star(t, n, seed, peers...)
		for range 2 {
			n.live(20 + n.rnd.IntN(120))
			n.settle(settleBound(n))
			n.converged()
		}
	})
}

// testRefusal has servers refuse the changes of one peer from some point on.
// That one cannot converge, but must get all that they have, and all must fall
// silent.
func testRefusal(t *testing.T, seed uint64, offender replica, peers ...replica) {
	n := newNetwork(t, seed)
	n.losses = n.rnd.IntN(3) == 0
	servers := star(t, n, seed, append(peers, offender)...)
	begin := 0 // its changes are refused from this one on
	if n.rnd.IntN(2) == 0 {
		begin = n.rnd.IntN(8)
	}
	for _, s := range servers {
		s.refuse = func(c crdt.Node) bool {
			return strings.HasSuffix(c.Actor.String(), offenderActor) && c.Seq > uint64(begin)
		}
	}
	for range 2 {
		n.live(20 + n.rnd.IntN(120))
		n.settle(settleBound(n))
		n.agreeExcept(offender)
	}
}

const (
	offenderNumber = 0x66
	offenderActor  = "66"
)

// agreeExcept checks that all but one replica have the same document, and that
// one at least all of it.
func (n *network) agreeExcept(offender replica) {
	n.t.Helper()
	all := n.replicas
	defer func() { n.replicas = all }()
	n.replicas = slices.DeleteFunc(slices.Clone(all), func(r replica) bool { return r == offender })
	n.converged()
	for _, r := range n.replicas {
		if o, ok := r.(*own); ok && !offender.has(o.heads()) {
			n.fatal("%s lacks changes of %s", offender.name(), o.name())
		}
	}
}

func TestRefusedChangesOfOldPeer(t *testing.T) {
	runs(t, 30, func(t *testing.T, seed uint64) {
		defer tellSeed(t, seed)
		defer collect(seed)
		testRefusal(t, seed, newOldPeer(t, offenderNumber), newOldPeer(t, 1), newOldPeer(t, 2))
	})
}

func TestRefusedChangesOfJavaScriptPeer(t *testing.T) {
	js := startJS(t)
	runs(t, 20, func(t *testing.T, seed uint64) {
		defer tellSeed(t, seed)
		defer collect(seed)
		testRefusal(t, seed, js.newPeer(offenderNumber), js.newPeer(1), newOldPeer(t, 2))
	})
}

// A peer that is told that nothing is taken from it sends no changes if it
// knows what that means, sends them to no avail if not, and in any case gets
// all changes of others.
func TestReadOnlyPeers(t *testing.T) {
	js := startJS(t)
	runs(t, 20, func(t *testing.T, seed uint64) {
		defer tellSeed(t, seed)
		defer collect(seed)
		n := newNetwork(t, seed)
		n.losses = n.rnd.IntN(3) == 0
		viewer := replica(js.newPeer(1))
		if n.rnd.IntN(3) == 0 {
			viewer = newOldPeer(t, 1)
		}
		server := newOwn(t, "server", n.rnd)
		server.canRead, server.snapshots, server.lateDisk = true, n.rnd.IntN(2) == 0, n.rnd.IntN(2) == 0
		n.link(n.add(server), n.add(js.newPeer(2)))
		n.link(0, n.add(newOldPeer(t, 3)))
		l := n.link(0, n.add(viewer))
		server.readOnly = func(conn int) bool { return conn == l.conn[0] }

		told := map[int]bool{} // connections on which the viewer was told
		n.onDeliver = func(conn int, msg []byte) {
			m, _ := protocol.Decode(msg, anyMessage)
			told[conn] = told[conn] || m.Capabilities.Flags()&protocol.ReadOnly != 0
		}
		n.onSend = func(conn int, msg []byte) {
			m, _ := protocol.Decode(msg, anyMessage)
			if _, ok := viewer.(*jsPeer); ok && told[conn] && conn == l.conn[1] && len(m.Changes) > 0 {
				n.fatal("a JavaScript viewer sends changes")
			}
		}
		for range 2 {
			n.live(20 + n.rnd.IntN(120))
			n.settle(settleBound(n))
			n.agreeExcept(viewer)
		}
		if !told[l.conn[1]] {
			n.fatal("the viewer was never told")
		}
	})
}
