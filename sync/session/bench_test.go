package session_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/session"
	"parley/sync/wire"
)

// picks returns the genesis of a transaction and n picks of two users, each over
// 50 fields in turn.
func picks(b *testing.B, id transaction.ID, n int) []*crdt.Change {
	state := transaction.New(id)
	list := []*crdt.Change{transaction.Genesis(id)}
	if err := state.Apply(list[0]); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		user := []string{"alice", "bob"}[i%2]
		edit := state.Edit(crdt.ActorID(user), user, epoch.Add(time.Duration(i)*time.Second))
		if err := edit.Pick(fmt.Sprintf("field-%02d", i/2%50), fmt.Append(nil, i), ""); err != nil {
			b.Fatal(err)
		}
		c, err := edit.Change()
		if err == nil {
			err = state.Apply(c)
		}
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

// BenchmarkChange is all that the machines do for a pick in a transaction that two
// have open and that has so many changes: the frame is decoded, the change passes
// the gate, and when it is on disk its author gets the acknowledgement and the
// other the change, who acknowledges it.
func BenchmarkChange(b *testing.B) {
	id := transaction.ID("sale")
	const fresh = 2000
	for _, n := range []int{100, 1_000, 10_000} {
		list := picks(b, id, n+fresh)
		b.Run(fmt.Sprintf("after=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var m *meeting
			for at := fresh; b.Loop(); at++ {
				if at == fresh {
					b.StopTimer()
					m, at = newMeeting(b, id, list[:n+1]), 1
					m.pick(0, list[n+1]) // for which it reads what the others say
					b.StartTimer()
				}
				m.pick(at%2, list[n+1+at])
			}
		})
	}
}

// BenchmarkHistory is what a pick keeps of the heap while people have the transaction
// open, whatever has followed it.
func BenchmarkHistory(b *testing.B) {
	id := transaction.ID("sale")
	const n = 10_000
	list := picks(b, id, n+1)
	for b.Loop() {
		m := newMeeting(b, id, list[:1])
		before := heap()
		for i := range n {
			m.pick(i%2, list[i+1])
		}
		b.ReportMetric(float64(heap()-before)/n, "B/pick")
		runtime.KeepAlive(m)
	}
	runtime.KeepAlive(list)
}

// meeting is a transaction that two users have open and know all of.
type meeting struct {
	b     *testing.B
	id    crdt.DocumentID
	doc   *session.Document
	conns [2]*session.Conn
	outs  []session.Output
}

func newMeeting(b *testing.B, id transaction.ID, stored []*crdt.Change) *meeting {
	m := &meeting{b: b, id: id.Document()}
	doc, users := crdt.NewDocument(crdt.Limits{}), make([]string, len(stored))
	for i, c := range stored {
		if err := doc.Load(c.Chunk()); err != nil {
			b.Fatal(err)
		}
		if i > 0 {
			users[i] = string(c.Actor)
		}
	}
	m.doc = session.NewDocument(m.id, &session.DocumentConfig{Self: "s", Limits: session.Limits{}.WithDefaults()},
		session.Stored{Document: doc, Users: users}, "life")
	for i, user := range []string{"alice", "bob"} {
		p := peer(session.ConnID(i+1), user, user)
		m.conns[i] = session.NewConn(p.Conn, p.Person, &session.ConnConfig{Self: "s", Limits: session.Limits{}.WithDefaults()})
		m.conns[i].Receive(wire.Append(nil, &wire.Join{SenderID: p.ID}))
		m.hear(i, syncFrame(p.ID, m.id, stored[len(stored)-1]))
	}
	return m
}

// hear takes a frame of a user's and returns the commit that it asks for.
func (m *meeting) hear(user int, frame []byte) (commit session.Commit) {
	ev, ok := m.conns[user].Receive(frame).(session.Deliver)
	if !ok {
		m.b.Fatal("not delivered")
	}
	return m.step(ev.Input)
}

// step does what the shell does with what comes of an input.
func (m *meeting) step(in session.Input) (commit session.Commit) {
	m.outs = m.doc.Step(epoch, in, m.outs[:0])
	for _, out := range m.outs {
		switch out := out.(type) {
		case session.Commit:
			commit = out
		case session.Pending:
			m.doc.Pull(out.Conn)
		}
	}
	return commit
}

func (m *meeting) pick(user int, c *crdt.Change) {
	names := []wire.PeerID{"alice", "bob"}
	commit := m.hear(user, syncFrame(names[user], m.id, c))
	if commit.To == commit.From {
		m.b.Fatal("a pick was not accepted")
	}
	m.step(&session.DurableInput{N: commit.To})
	m.hear(1-user, syncFrame(names[1-user], m.id, c))
}
