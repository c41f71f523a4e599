package transaction_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

// runs returns how many random runs a test makes: few as a rule, PARLEY_RUNS if
// that is set.
func runs(t *testing.T, few int) int {
	t.Helper()
	s := os.Getenv("PARLEY_RUNS")
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("PARLEY_RUNS: %v", err)
	}
	return n
}

// replica is one user's copy of a transaction. Every change it takes passes the
// gate and the schema first.
type replica struct {
	user  string
	role  transaction.Role
	actor crdt.ActorID
	state *transaction.State
	gate  *crdt.Document
	all   []*crdt.Change // in the order in which they came
}

func newReplica(id transaction.ID, i int, actor crdt.ActorID) *replica {
	r := &replica{
		user: fmt.Sprintf("user%d", i), role: transaction.Party, actor: actor,
		state: transaction.New(id), gate: crdt.NewDocument(crdt.Limits{}),
	}
	if i < 2 {
		r.role = transaction.Host
	}
	return r
}

// take applies a change made by an author.
func (r *replica) take(t failer, c *crdt.Change, author transaction.Author) {
	t.Helper()
	if r.state.Has(c.Hash) {
		return
	}
	if refusal := r.state.Check(c, author, nobody); refusal != nil {
		t.Fatalf("%s: %v", refusal.Code, refusal)
	}
	if o := r.gate.Add(c); o.Status != crdt.Accepted {
		t.Fatalf("the gate: %+v %v", o, o.Refusal)
	}
	if err := r.state.Apply(c); err != nil {
		t.Fatal(err)
	}
	r.all = append(r.all, c)
}

// failer is a test: testing.TB, or what rapid gives.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func nobody(crdt.ActorID) string { return "" }

// sim is replicas that edit and now and then exchange changes.
type sim struct {
	t        testing.TB
	rnd      *rand.Rand
	id       transaction.ID
	replicas []*replica
	authors  map[crdt.Hash]transaction.Author
	clock    int64
}

func newSim(t testing.TB, seed uint64) *sim {
	s := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 2)), id: transaction.ID(fmt.Sprintf("sim-%d", seed)),
		authors: map[crdt.Hash]transaction.Author{}, clock: 1_700_000_000_000,
	}
	for i := range 3 + s.rnd.IntN(6) {
		actor := fmt.Sprintf("%08x%08x", s.rnd.Uint64()>>32, i)
		r := newReplica(s.id, i, crdt.ActorID(actor))
		r.take(t, transaction.Genesis(s.id), transaction.Author{})
		s.replicas = append(s.replicas, r)
	}
	return s
}

// run makes so many steps: edits, and partial or whole exchanges.
func (s *sim) run(steps int) {
	for range steps {
		r := s.replicas[s.rnd.IntN(len(s.replicas))]
		if s.rnd.IntN(3) == 0 {
			s.sync(r, s.replicas[s.rnd.IntN(len(s.replicas))], s.rnd.IntN(4) > 0)
			continue
		}
		s.edit(r)
	}
}

// sync gives a replica what another has, all of it or, in its order, a part.
func (s *sim) sync(to, from *replica, whole bool) {
	n := len(from.all)
	if !whole {
		n = s.rnd.IntN(n + 1)
	}
	for _, c := range from.all[:n] {
		to.take(s.t, c, s.authors[c.Hash])
	}
}

// merged returns a replica that has everything, in an order of its own.
func (s *sim) merged() *replica {
	all := newReplica(s.id, 0, "reader")
	order := s.rnd.Perm(len(s.replicas))
	for _, i := range order {
		s.sync(all, s.replicas[i], true)
	}
	return all
}

func (s *sim) edit(r *replica) {
	s.clock += int64(s.rnd.IntN(5000))
	e := r.state.Edit(r.actor, r.user, time.UnixMilli(s.clock))
	for range 1 + s.rnd.IntN(3) {
		s.edits(e, r)
	}
	c, err := e.Change()
	if err == transaction.ErrNothingToDo {
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.authors[c.Hash] = transaction.Author{User: r.user, Role: r.role}
	r.take(s.t, c, s.authors[c.Hash])
}

func (s *sim) edits(e *transaction.Edit, r *replica) {
	field := s.field()
	switch n := s.rnd.IntN(10); {
	case n == 0:
		_ = e.Withdraw(field) // if anything is picked
	case n == 1 && r.role == transaction.Host:
		e.RemoveField(field)
	case n < 4 && r.role == transaction.Host:
		s.must(e.SetFields(map[string]transaction.Field{field: s.definition()}))
	default:
		s.must(e.Pick(field, s.value(0), s.option()))
	}
}

func (s *sim) must(err error) {
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) field() string {
	names := []string{"price", "date", "constructor", "Währung", "日本", "a b/c\"", "😀", "hasOwnProperty"}
	return names[s.rnd.IntN(len(names))]
}

func (s *sim) option() string {
	return []string{"", "a", "b", "ü"}[s.rnd.IntN(4)]
}

func (s *sim) definition() transaction.Field {
	f := transaction.Field{Label: fmt.Sprintf("Label %d", s.rnd.IntN(4)), Required: s.rnd.IntN(2) == 0, Options: map[string]transaction.Option{}}
	for range s.rnd.IntN(3) {
		f.Options["o"+s.option()] = transaction.Option{Value: s.value(0), Source: "source.pdf"}
	}
	return f
}

func (s *sim) value(depth int) json.RawMessage {
	kinds := 9
	if depth > 2 {
		kinds = 7
	}
	v := any(nil)
	switch s.rnd.IntN(kinds) {
	case 0:
	case 1:
		v = s.rnd.IntN(2) == 0
	case 2:
		v = s.rnd.Int64() >> s.rnd.IntN(64)
	case 3:
		v = -(s.rnd.Int64() >> s.rnd.IntN(64))
	case 4:
		v = s.rnd.Uint64()
	case 5:
		v = s.rnd.NormFloat64()
	case 6:
		v = []string{"", "x", "<é>\u2028", "漢字 😀", "\x00\"\\"}[s.rnd.IntN(5)]
	case 7:
		list := []json.RawMessage{}
		for range s.rnd.IntN(4) {
			list = append(list, s.value(depth+1))
		}
		v = list
	case 8:
		m := map[string]json.RawMessage{}
		for range s.rnd.IntN(4) {
			m[s.field()] = s.value(depth + 1)
		}
		v = m
	}
	text, err := json.Marshal(v)
	s.must(err)
	return text
}

// chunks returns the bytes of all changes of a replica.
func (r *replica) chunks() [][]byte {
	chunks := make([][]byte, len(r.all))
	for i, c := range r.all {
		chunks[i] = c.Chunk()
	}
	return chunks
}

// ancestors returns the chunks of some of a replica's changes and of all that
// they depend on.
func (r *replica) ancestors(heads []crdt.Hash) [][]byte {
	wanted := map[crdt.Hash]bool{}
	for _, h := range heads {
		wanted[h] = true
	}
	var chunks [][]byte
	for _, c := range slices.Backward(r.all) {
		if wanted[c.Hash] {
			chunks = append(chunks, c.Chunk())
			for _, dep := range c.Deps {
				wanted[dep] = true
			}
		}
	}
	slices.Reverse(chunks)
	return chunks
}
