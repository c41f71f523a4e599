package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"testing"

	"parley/crdt/transaction"
)

// line is a client's way to the server, which can be cut.
type line struct {
	mu   sync.Mutex
	cut  bool
	conn Conn
}

func (l *line) dial(ctx context.Context, url string, h http.Header) (Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("the line is cut")
	}
	conn, err := dialWebSocket(ctx, url, h)
	if err != nil {
		return nil, err
	}
	l.conn = conn
	return conn, nil
}

// set cuts the line or heals it.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut && l.conn != nil {
		l.conn.CloseNow()
		l.conn = nil
	}
}

// replicas are the clients of one run.
type replicas struct {
	t       *testing.T
	rnd     *rand.Rand
	srv     *running
	dir     string
	lines   []*line
	clients []*Client
}

func (r *replicas) open(i int) {
	r.clients[i] = open(r.t, Options{
		User: fmt.Sprintf("user-%d", i), Server: r.srv.url(), Replica: r.dir, Dial: r.lines[i].dial,
	})
}

// step does one thing that can happen.
func (r *replicas) step() {
	i := r.rnd.IntN(len(r.clients))
	c := r.clients[i]
	field := fmt.Sprintf("field-%d", r.rnd.IntN(6))
	switch n := r.rnd.IntN(100); {
	case n < 70:
		_, err := c.Pick(r.t.Context(), field, json.RawMessage(fmt.Sprint(r.rnd.IntN(1000))), "")
		check(r.t, err)
	case n < 80:
		if _, err := c.Withdraw(r.t.Context(), field); err != nil && !errors.Is(err, transaction.ErrNothingPicked) {
			r.t.Fatal(err)
		}
	case n < 88:
		r.lines[i].set(true)
	case n < 96:
		r.lines[i].set(false)
		c.Reconnect()
	default:
		closeNow(r.t, c)
		r.open(i)
	}
}

// restart restarts the server while nobody is on the line. Every other line
// stays cut.
func (r *replicas) restart() {
	for _, l := range r.lines {
		l.set(true)
	}
	r.srv.down()
	r.srv.up()
	for i, l := range r.lines {
		l.set(i%2 == 1)
	}
}

// heal connects everybody and waits until all agree.
func (r *replicas) heal() {
	for i, c := range r.clients {
		r.lines[i].set(false)
		c.Reconnect()
	}
	for _, c := range r.clients {
		until(r.t, c, "everything saved", saved)
	}
	// The server has everything now, and tells it to whoever is new.
	observer := open(r.t, Options{User: "observer", Server: r.srv.url()})
	heads := until(r.t, observer, "what the server has", saved).Heads
	closeNow(r.t, observer)
	for _, c := range r.clients {
		until(r.t, c, "the same heads", func(v View) bool { return slices.Equal(v.Heads, heads) })
	}
}

func TestRandomPartitionsConverge(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := &replicas{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), srv: startServer(t), dir: t.TempDir()}
			n := 3 + r.rnd.IntN(3)
			r.clients = make([]*Client, n)
			for i := range n {
				r.lines = append(r.lines, &line{})
				r.open(i)
			}
			for i := range 300 {
				r.step()
				if i%100 == 99 {
					r.heal()
					r.restart()
				}
			}
			r.heal()
			want := r.clients[0].Selections()
			history, err := r.clients[0].History()
			check(t, err)
			for _, c := range r.clients[1:] {
				if got := c.Selections(); !reflect.DeepEqual(got, want) {
					t.Errorf("selections differ:\n%+v\n%+v", got, want)
				}
				h, err := c.History()
				check(t, err)
				if !reflect.DeepEqual(h, history) {
					t.Error("histories differ")
				}
			}
			if len(history) < 100 {
				t.Errorf("only %d events happened", len(history))
			}
		})
	}
}

func TestAThousandPicks(t *testing.T) {
	srv := startServer(t)
	alice := open(t, Options{Server: srv.url(), Replica: t.TempDir()})
	bob := open(t, Options{User: "bob", Server: srv.url()})
	for i := range 1000 {
		_, err := alice.Pick(t.Context(), fmt.Sprintf("field-%d", i%50), json.RawMessage(fmt.Sprint(i)), "")
		check(t, err)
	}
	until(t, alice, "saved", saved)
	heads := alice.Heads()
	until(t, bob, "all of them", func(v View) bool { return slices.Equal(v.Heads, heads) })
	history, err := bob.History()
	check(t, err)
	if len(history) != 1000 {
		t.Errorf("%d picks", len(history))
	}
}

// Many goroutines may pick at once; each is answered for its own.
func TestPicksAtOnce(t *testing.T) {
	c := open(t, Options{Replica: t.TempDir()})
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			h, err := c.Pick(context.Background(), fmt.Sprint("field-", i), json.RawMessage("1"), "")
			if err != nil || !has(c, h) {
				t.Errorf("pick %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if n := len(c.Selections()); n != 50 {
		t.Errorf("%d selections", n)
	}
}
