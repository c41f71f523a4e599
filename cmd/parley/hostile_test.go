package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/crdt"
	"parley/server/servertest"
	"parley/server/store"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// memoryBound is what the server may hold at its worst while it is under
// attack: honest limits (frames of 16 MiB, changes of 4 MiB, inflated) times a
// few connections at a time, in a binary with the race detector.
const memoryBound = 1 << 30

// hostileCase is one line of testdata/hostile; its README has the format.
type hostileCase struct {
	Setup   string         `json:"setup"`
	Changes [][]byte       `json:"changes"`
	Class   string         `json:"class"`
	Name    string         `json:"name"`
	Inputs  []hostileInput `json:"inputs"`
	Each    string         `json:"each"`
	Want    string         `json:"want"`

	Text   bool         `json:"text"`
	Joined bool         `json:"joined"`
	Input  hostileInput `json:"input"`
}

type hostileInput struct {
	Head  []byte `json:"head"`
	Zeros int    `json:"zeros"`
	Tail  []byte `json:"tail"`
}

func (in hostileInput) bytes() []byte {
	return bytes.Join([][]byte{in.Head, make([]byte, in.Zeros), in.Tail}, nil)
}

// sampled is every how many derived inputs one is sent: the gate's own tests
// try them all.
const sampled = 16

// all returns the inputs of a case, sampled if they are derived.
func (c hostileCase) all() [][]byte {
	var inputs [][]byte
	for _, in := range c.Inputs {
		whole := in.bytes()
		switch c.Each {
		case "truncated":
			for n := 0; n < len(whole); n += sampled {
				inputs = append(inputs, whole[:n])
			}
		case "flipped":
			for bit := 0; bit < 8*len(whole); bit += 8*sampled + 1 {
				flipped := bytes.Clone(whole)
				flipped[bit/8] ^= 1 << (bit % 8)
				inputs = append(inputs, flipped)
			}
		default:
			inputs = append(inputs, whole)
		}
	}
	return inputs
}

func readCases(t *testing.T, file string) (cases []hostileCase, setups map[string][][]byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "hostile", file))
	check(t, err)
	setups = make(map[string][][]byte)
	for dec := json.NewDecoder(bytes.NewReader(data)); dec.More(); {
		var c hostileCase
		check(t, dec.Decode(&c))
		if c.Class == "" {
			setups[c.Setup] = c.Changes
			continue
		}
		cases = append(cases, c)
	}
	return cases, setups
}

// struck is what a hostile case may leave in its document.
type struck struct {
	name    string
	allowed map[crdt.Hash]bool
}

// siege is a server under attack, with one honest client that must not notice.
type siege struct {
	t    *testing.T
	ctx  context.Context
	p    *process
	data string

	mu     sync.Mutex
	struck map[crdt.DocumentID]struck // of the cases that must be refused
	honest *servertest.Document
	n      int
}

func besiege(t *testing.T) *siege {
	t.Helper()
	s := &siege{t: t, ctx: within(t, 5*time.Minute), data: t.TempDir(), struck: make(map[crdt.DocumentID]struck)}
	s.p = serve(t, s.data, "--ping", "1m") // on a busy machine bombs can keep a pong waiting for long
	c, err := servertest.Dial(s.ctx, s.p.url, "bystander")
	check(t, err)
	t.Cleanup(c.CloseNow)
	s.honest, err = c.Open(s.ctx, servertest.NewDocumentID())
	check(t, err)
	return s
}

// attack runs n attacks, a few at a time, and checks now and then that the
// honest client is served.
func (s *siege) attack(n int, one func(i int) error) {
	s.t.Helper()
	const workers = 4
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := one(i); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
		if i%50 == 0 {
			s.others()
		}
	}
	close(next)
	wg.Wait()
	s.others()
}

// others checks that the honest client is served.
func (s *siege) others() {
	s.t.Helper()
	s.n++
	h, err := s.honest.Set(s.ctx, "n", int64(s.n))
	check(s.t, err)
	if err := s.honest.Acknowledged(s.ctx, h); err != nil {
		s.t.Fatalf("the honest client is not served: %v\n%s", err, s.p.output())
	}
}

// settle waits until the server has dealt with what was sent before: it
// answers in order, or it has closed the connection.
func (s *siege) settle(c *servertest.Client) error {
	d, err := c.Open(s.ctx, servertest.NewDocumentID())
	if err == nil {
		err = d.Unavailable(s.ctx, 1)
	}
	if err == nil || s.ctx.Err() == nil { // answered, or the connection has ended
		return nil
	}
	return err
}

// end stops the server and checks what it held in memory and what it stored.
func (s *siege) end() {
	s.t.Helper()
	if peak := s.p.peakMemory(); peak > memoryBound {
		s.t.Errorf("the server held up to %d MB", peak>>20)
	}
	check(s.t, s.p.end(os.Interrupt))
	st, err := store.Open(s.data, store.Options{})
	check(s.t, err)
	defer st.Close()
	r, err := store.Read(s.data)
	check(s.t, err)
	defer r.Close()
	if wrong, err := r.Integrity(s.ctx, false); err != nil || len(wrong) > 0 {
		s.t.Error(wrong, err)
	}
	for doc, c := range s.struck {
		stored, err := st.Load(s.ctx, doc)
		check(s.t, err)
		for _, h := range stored.Hashes {
			if !c.allowed[h] {
				s.t.Errorf("%s: hostile change %s was stored", c.name, h)
			}
		}
	}
}

// peakMemory returns the most memory that the process has held, in bytes.
func (p *process) peakMemory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0 // not Linux
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			return n << 10
		}
	}
	return 0
}

func syncFrame(c *servertest.Client, doc crdt.DocumentID, data []byte) *wire.Sync {
	return &wire.Sync{SenderID: c.PeerID, TargetID: c.Server.SenderID, DocumentID: doc, Data: data}
}

func carrying(chunks ...[]byte) []byte {
	m := protocol.Message{Version: protocol.V1, Have: []protocol.Have{{}}, Changes: chunks}
	return m.Append(nil)
}

// allow notes what may be stored of a document: the setup, and for a case that
// is not to be refused anything.
func (s *siege) allow(t *testing.T, doc crdt.DocumentID, c hostileCase, setup [][]byte) {
	if c.Want != "refused" {
		return
	}
	allowed := make(map[crdt.Hash]bool)
	for _, chunk := range setup {
		change, err := crdt.DecodeChange(chunk, crdt.Limits{})
		if err != nil {
			t.Errorf("setup of %s: %v", c.Name, err)
			continue
		}
		allowed[change.Hash] = true
	}
	s.mu.Lock()
	s.struck[doc] = struck{c.Class + ": " + c.Name, allowed}
	s.mu.Unlock()
}

// strike joins, sends the setup and then the hostile data of a sync frame.
func (s *siege) strike(c hostileCase, setup [][]byte, data []byte) error {
	doc := servertest.NewDocumentID()
	s.allow(s.t, doc, c, setup)
	client, err := servertest.Dial(s.ctx, s.p.url, "")
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	defer client.CloseNow()
	if len(setup) > 0 {
		if err := client.Send(s.ctx, syncFrame(client, doc, carrying(setup...))); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	if len(data) == 0 {
		return nil // such a frame is among the hostile frames
	}
	_ = client.Send(s.ctx, syncFrame(client, doc, data)) // the server may have closed already
	return s.settle(client)
}

func TestHostileChanges(t *testing.T) {
	s := besiege(t)
	cases, setups := readCases(t, "changes.jsonl")
	s.attack(len(cases), func(i int) error {
		c := cases[i]
		for _, input := range c.all() {
			if err := s.strike(c, setups[c.Setup], carrying(input)); err != nil {
				return err
			}
		}
		return nil
	})
	s.end()
}

func TestHostileMessages(t *testing.T) {
	s := besiege(t)
	cases, setups := readCases(t, "messages.jsonl")
	s.attack(len(cases), func(i int) error {
		c := cases[i]
		for _, input := range c.all() {
			if err := s.strike(c, setups[c.Setup], input); err != nil {
				return err
			}
		}
		return nil
	})
	s.end()
}

func TestHostileFrames(t *testing.T) {
	s := besiege(t)
	cases, _ := readCases(t, "frames.jsonl")
	s.attack(len(cases), func(i int) error {
		c := cases[i]
		client, err := servertest.Connect(s.ctx, s.p.url)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		defer client.CloseNow()
		if c.Joined {
			if err := client.Join(s.ctx, wire.PeerID(fmt.Sprintf("forge-client-%d", i))); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		typ := websocket.MessageBinary
		if c.Text {
			typ = websocket.MessageText
		}
		_ = client.Write(s.ctx, typ, c.Input.bytes()) // the server may close while it is sent
		if !c.Joined {
			return s.closed(c, client)
		}
		return s.settle(client)
	})
	s.end()
}

// closed checks that a frame in the place of a join ends the connection, unless
// it is an odd join.
func (s *siege) closed(c hostileCase, client *servertest.Client) error {
	if c.Want == "decodable" || c.Want == "any" {
		return nil
	}
	if _, err := client.Ended(s.ctx); err != nil {
		return fmt.Errorf("%s, before the join: %w", c.Name, err)
	}
	return nil
}
