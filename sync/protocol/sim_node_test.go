package protocol_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"parley/crdt"
)

// jsProcess is a Node process with any number of JavaScript replicas in it. It
// reads a JSON object a line and answers each with one.
type jsProcess struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// startJS skips the test where Automerge's JavaScript is not installed, unless
// CI is set, where it must be.
func startJS(t *testing.T) *jsProcess {
	t.Helper()
	dir, err := filepath.Abs("../../testdata/interop")
	if err != nil {
		t.Fatal(err)
	}
	_, errModules := os.Stat(filepath.Join(dir, "node_modules", "@automerge", "automerge"))
	node, errNode := exec.LookPath("node")
	if errModules != nil || errNode != nil {
		why := fmt.Sprintf("needs Node (%v) and `npm ci` in testdata/interop (%v)", errNode, errModules)
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	cmd := exec.Command(node, filepath.Join(dir, "sync-peer.mjs"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("sync-peer.mjs: %v", err)
		}
	})
	return &jsProcess{t: t, in: in, out: bufio.NewReader(out)}
}

type jsCommand struct {
	Op       string   `json:"op"`
	ID       string   `json:"id,omitempty"`
	Conn     int      `json:"conn,omitempty"`
	Data     []byte   `json:"data,omitempty"`
	Actor    string   `json:"actor,omitempty"`
	Seed     uint64   `json:"seed,omitempty"`
	Hashes   []string `json:"hashes,omitempty"`
	ReadOnly bool     `json:"readOnly,omitempty"`
}

type jsAnswer struct {
	Error  string          `json:"error"`
	Data   []byte          `json:"data"`
	Hashes []string        `json:"hashes"`
	JSON   json.RawMessage `json:"json"`
	OK     bool            `json:"ok"`
}

func (p *jsProcess) call(c jsCommand) (jsAnswer, error) {
	line, err := json.Marshal(c)
	if err != nil {
		return jsAnswer{}, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return jsAnswer{}, err
	}
	line, err = p.out.ReadBytes('\n')
	if err != nil {
		return jsAnswer{}, err
	}
	var a jsAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		return jsAnswer{}, fmt.Errorf("%w: %s", err, line)
	}
	if a.Error != "" {
		return a, fmt.Errorf("JavaScript: %s", a.Error)
	}
	return a, nil
}

func (p *jsProcess) must(c jsCommand) jsAnswer {
	p.t.Helper()
	a, err := p.call(c)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// jsPeer is @automerge/automerge as browsers run it.
type jsPeer struct {
	*jsProcess
	id       string
	actor    int  // of this life
	readOnly bool // it takes no changes and says so
}

func (p *jsProcess) newPeer(i int) *jsPeer {
	peer := &jsPeer{jsProcess: p, id: fmt.Sprintf("js%d", i), actor: 0xdef000 + i}
	p.must(jsCommand{Op: "new", ID: peer.id, Actor: peer.actorID()})
	return peer
}

func (p *jsPeer) actorID() string { return fmt.Sprintf("%032x", p.actor) }

func (p *jsPeer) lose(rnd *rand.Rand) {
	p.actor += 0x100000
	p.must(jsCommand{Op: "lose", ID: p.id, Actor: p.actorID(), Seed: rnd.Uint64N(1 << 31)})
}

func (p *jsPeer) name() string { return p.id }

func (p *jsPeer) edit(rnd *rand.Rand) {
	p.must(jsCommand{Op: "edit", ID: p.id, Seed: 1 + rnd.Uint64N(1<<31)})
}

func (p *jsPeer) connect(conn int, saved []byte) {
	p.must(jsCommand{Op: "connect", ID: p.id, Conn: conn, Data: saved, ReadOnly: p.readOnly})
}

func (p *jsPeer) disconnect(conn int) []byte {
	return p.must(jsCommand{Op: "disconnect", ID: p.id, Conn: conn}).Data
}

func (p *jsPeer) receive(conn int, msg []byte) error {
	_, err := p.call(jsCommand{Op: "receive", ID: p.id, Conn: conn, Data: msg})
	return err
}

func (p *jsPeer) generate(conn int) []byte {
	return p.must(jsCommand{Op: "generate", ID: p.id, Conn: conn}).Data
}

func (p *jsPeer) heads() []crdt.Hash {
	hs := []crdt.Hash{}
	for _, s := range p.must(jsCommand{Op: "heads", ID: p.id}).Hashes {
		h, err := crdt.ParseHash(s)
		if err != nil {
			p.t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return crdt.SortHashes(hs)
}

func (p *jsPeer) has(hashes []crdt.Hash) bool {
	c := jsCommand{Op: "has", ID: p.id}
	for _, h := range hashes {
		c.Hashes = append(c.Hashes, h.String())
	}
	return p.must(c).OK
}

func (p *jsPeer) json() string {
	return canonicalJSON(p.t, p.must(jsCommand{Op: "json", ID: p.id}).JSON)
}
