// Package servertest is a raw automerge-repo peer for tests of a server: it
// speaks the protocol frame by frame, knows what was acknowledged, and can
// misbehave. Only tests import it.
package servertest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/automerge/automerge-go"
	"github.com/coder/websocket"
	"github.com/google/uuid"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// Client is one connection. Its methods may be called from any goroutine.
type Client struct {
	PeerID wire.PeerID
	Server *wire.Peer // what the server said of itself

	ws       *websocket.Conn
	done     chan struct{} // closed when the reader has ended
	lastOnly bool          // of ephemeral messages; set before the join

	mu        sync.Mutex
	docs      map[crdt.DocumentID]*Document
	ephemeral []*wire.Ephemeral
	arrived   []time.Time   // when each of them did
	forgotten int           // earlier ones
	errors    []string      // error frames
	ended     error         // why the reader ended
	changed   chan struct{} // closed and replaced at each event
}

// Dial connects to a ws:// URL and joins as peer (a fresh id if empty).
func Dial(ctx context.Context, url string, peer wire.PeerID) (*Client, error) {
	c, err := Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if peer == "" {
		peer = wire.PeerID("test-" + uuid.NewString())
	}
	if err := c.Join(ctx, peer); err != nil {
		c.CloseNow()
		return nil, err
	}
	return c, nil
}

// Connect opens a connection and does not join.
func Connect(ctx context.Context, url string) (*Client, error) {
	return ConnectVia(ctx, url, nil)
}

// ConnectVia is Connect over the transport of an HTTP client.
func ConnectVia(ctx context.Context, url string, via *http.Client) (*Client, error) {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: via})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	c := &Client{
		ws: ws, done: make(chan struct{}), docs: make(map[crdt.DocumentID]*Document),
		changed: make(chan struct{}),
	}
	go c.read()
	return c, nil
}

// Join sends the join frame and waits for the answer.
func (c *Client) Join(ctx context.Context, peer wire.PeerID) error {
	c.PeerID = peer
	if err := c.Send(ctx, &wire.Join{SenderID: peer, Versions: []string{wire.ProtocolVersion}}); err != nil {
		return err
	}
	return c.Wait(ctx, "the peer frame", func() bool { return c.Server != nil })
}

// Send writes one message as a frame.
func (c *Client) Send(ctx context.Context, m wire.Message) error {
	return c.Write(ctx, websocket.MessageBinary, wire.Append(nil, m))
}

// Write writes one frame as it is.
func (c *Client) Write(ctx context.Context, typ websocket.MessageType, frame []byte) error {
	return c.ws.Write(ctx, typ, frame)
}

// CloseNow drops the connection without a farewell and waits for the reader.
func (c *Client) CloseNow() {
	_ = c.ws.CloseNow()
	<-c.done
}

// Ended waits for the connection to end and returns the close code that the
// server gave, -1 if it gave none.
func (c *Client) Ended(ctx context.Context) (websocket.StatusCode, error) {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return websocket.CloseStatus(c.ended), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the connection to end: %w", ctx.Err())
	}
}

// Errors returns the texts of the error frames so far.
func (c *Client) Errors() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.errors)
}

// ErrorsLocked is Errors for a condition of [Client.Wait].
func (c *Client) ErrorsLocked() []string { return c.errors }

// Ephemeral returns the ephemeral messages so far.
func (c *Client) Ephemeral() []*wire.Ephemeral {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ephemeral)
}

// EphemeralLocked is Ephemeral for a condition of [Client.Wait].
func (c *Client) EphemeralLocked() []*wire.Ephemeral { return c.ephemeral }

// Wait waits until cond, which is called with the client locked, holds.
func (c *Client) Wait(ctx context.Context, what string, cond func() bool) error {
	for {
		ok, changed, ended := c.look(cond)
		if ok {
			return nil
		}
		if ended != nil {
			return fmt.Errorf("wait for %s: the connection has ended: %w", what, ended)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
}

func (c *Client) look(cond func() bool) (ok bool, changed <-chan struct{}, ended error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cond(), c.changed, c.ended
}

func (c *Client) read() {
	defer close(c.done)
	for {
		_, frame, err := c.ws.Read(context.Background())
		if err == nil {
			err = c.receive(frame)
		}
		if err != nil {
			c.note(func() { c.ended = err })
			_ = c.ws.CloseNow()
			return
		}
	}
}

// note changes what Wait looks at.
func (c *Client) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) receive(frame []byte) error {
	m, err := wire.Decode(frame, wire.Limits{})
	if err != nil {
		return fmt.Errorf("the server sent what cannot be read: %w", err)
	}
	var answer *wire.Sync
	c.note(func() {
		switch m := m.(type) {
		case *wire.Peer:
			c.Server = m
		case *wire.ProtocolError:
			c.errors = append(c.errors, m.Message)
		case *wire.Ephemeral:
			m.Data = slices.Clone(m.Data)
			if c.lastOnly {
				c.forgotten += len(c.ephemeral)
				c.ephemeral, c.arrived = nil, nil
			}
			c.ephemeral, c.arrived = append(c.ephemeral, m), append(c.arrived, time.Now())
		case *wire.DocUnavailable:
			if d := c.docs[m.DocumentID]; d != nil {
				d.unavailable++
			}
		case *wire.Sync:
			if d := c.docs[m.DocumentID]; d != nil {
				answer, err = d.receive(m)
			}
		}
	})
	if err != nil || answer == nil {
		return err
	}
	return c.Send(context.Background(), answer)
}

// Document is a client's copy of one document.
type Document struct {
	ID crdt.DocumentID

	c           *Client
	am          *automerge.Doc     // nil of a transaction
	tx          *transaction.State // nil of a plain document
	graph       crdt.Graph
	state       protocol.State
	held        map[crdt.Hash]*crdt.Change
	serverHeads []crdt.Hash // in the server's last message
	unavailable int         // how often the server said so
}

// Open starts to sync a document: a request if the copy is empty.
func (c *Client) Open(ctx context.Context, id crdt.DocumentID) (*Document, error) {
	d := &Document{ID: id, c: c, am: automerge.New(), held: make(map[crdt.Hash]*crdt.Change)}
	if err := d.am.SetActorID(hex.EncodeToString(newActor())); err != nil {
		return nil, err
	}
	return d, c.Adopt(ctx, d)
}

// Bring begins to sync a document whose changes these are; it cannot be edited.
func (c *Client) Bring(ctx context.Context, id crdt.DocumentID, chunks [][]byte) (*Document, error) {
	d := &Document{ID: id, c: c, held: make(map[crdt.Hash]*crdt.Change)}
	for _, chunk := range chunks {
		if _, err := d.add(chunk); err != nil {
			return nil, err
		}
	}
	return d, c.Adopt(ctx, d)
}

// Adopt goes on with a copy that an earlier connection had.
func (c *Client) Adopt(ctx context.Context, d *Document) error {
	c.mu.Lock()
	d.c, d.state, d.serverHeads = c, protocol.State{}, nil
	c.docs[d.ID] = d
	m, ok := d.state.Generate(&d.graph, protocol.Options{})
	request := d.graph.Len() == 0
	c.mu.Unlock()
	if !ok {
		return errors.New("a new connection has nothing to say")
	}
	data := m.Append(nil)
	if request {
		return c.Send(ctx, &wire.Request{SenderID: c.PeerID, TargetID: c.Server.SenderID, DocumentID: d.ID, Data: data})
	}
	return c.Send(ctx, &wire.Sync{SenderID: c.PeerID, TargetID: c.Server.SenderID, DocumentID: d.ID, Data: data})
}

func newActor() []byte {
	id := uuid.New()
	return id[:]
}

// NewDocumentID returns a random one.
func NewDocumentID() crdt.DocumentID { return crdt.DocumentID(uuid.New()) }

// Set makes one change that puts value at a key of the root, sends it, and
// returns its hash.
func (d *Document) Set(ctx context.Context, key string, value any) (crdt.Hash, error) {
	d.c.mu.Lock()
	hash, err := d.set(key, value)
	var m *protocol.Message
	ok := false
	if err == nil {
		m, ok = d.state.Generate(&d.graph, protocol.Options{})
	}
	d.c.mu.Unlock()
	if err != nil || !ok {
		return hash, err
	}
	return hash, d.c.Send(ctx, d.frame(m))
}

func (d *Document) set(key string, value any) (crdt.Hash, error) {
	before := d.am.Heads() // which would commit what is pending
	if err := d.am.RootMap().Set(key, value); err != nil {
		return crdt.Hash{}, err
	}
	// automerge-go takes the time's milliseconds for what others write in seconds.
	at := time.UnixMilli(time.Now().Unix())
	if _, err := d.am.Commit("", automerge.CommitOptions{Time: &at}); err != nil {
		return crdt.Hash{}, err
	}
	changes, err := d.am.Changes(before...)
	if err != nil {
		return crdt.Hash{}, err
	}
	return d.add(changes[len(changes)-1].Save())
}

func (d *Document) add(chunk []byte) (crdt.Hash, error) {
	change, err := crdt.DecodeChange(chunk, crdt.Limits{})
	if err != nil {
		return crdt.Hash{}, err
	}
	if !d.graph.Accepted(change.Hash) {
		d.graph.Append(crdt.Node{
			Hash: change.Hash, Deps: change.Deps, Actor: change.Actor,
			Seq: change.Seq, MaxOp: change.MaxOp(), Chunk: chunk,
		})
		d.graph.MarkDurable(d.graph.Len())
	}
	if d.tx != nil {
		err = d.tx.Apply(change)
	}
	return change.Hash, err
}

func (d *Document) frame(m *protocol.Message) *wire.Sync {
	return &wire.Sync{SenderID: d.c.PeerID, TargetID: d.c.Server.SenderID, DocumentID: d.ID, Data: m.Append(nil)}
}

// receive takes a sync message and returns the answer to it, if there is one.
// The client is locked.
func (d *Document) receive(s *wire.Sync) (*wire.Sync, error) {
	m, err := protocol.Decode(s.Data, protocol.Limits{})
	if err != nil {
		return nil, fmt.Errorf("the server sent a sync message that cannot be read: %w", err)
	}
	for _, chunk := range m.Changes {
		if err := d.take(slices.Clone(chunk)); err != nil {
			return nil, fmt.Errorf("the server sent a bad change: %w", err)
		}
	}
	d.serverHeads = slices.Clone(m.Heads)
	d.state.Receive(&d.graph, m)
	if answer, ok := d.state.Generate(&d.graph, d.options()); ok {
		return d.frame(answer), nil
	}
	return nil, nil
}

// take adds a change, or holds it until what it depends on has come: our Bloom
// filter can hide that from the server.
func (d *Document) take(chunk []byte) error {
	change, err := crdt.DecodeChange(chunk, crdt.Limits{})
	if err != nil {
		return err
	}
	d.held[change.Hash] = change
	for progress := true; progress; {
		progress = false
		for h, c := range d.held {
			if slices.ContainsFunc(c.Deps, func(dep crdt.Hash) bool { return !d.graph.Accepted(dep) }) {
				continue
			}
			delete(d.held, h)
			progress = true
			if _, err := d.add(c.Chunk()); err != nil {
				return err
			}
			if d.am == nil {
				continue
			}
			if err := d.am.LoadIncremental(c.Chunk()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Document) options() protocol.Options {
	var missing []crdt.Hash
	for _, c := range d.held {
		missing = append(missing, d.graph.Missing(c.Deps)...)
	}
	return protocol.Options{
		Missing: crdt.SortHashes(missing),
		Held:    func(h crdt.Hash) bool { return d.held[h] != nil },
	}
}

// Acknowledged waits until the server's heads show that it has the change.
func (d *Document) Acknowledged(ctx context.Context, h crdt.Hash) error {
	return d.c.Wait(ctx, "the acknowledgement of "+h.String()[:8], func() bool { return d.serverHas(h) })
}

// IsAcknowledged reports whether the server's heads show that it has the change.
func (d *Document) IsAcknowledged(h crdt.Hash) bool {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.serverHas(h)
}

// AcknowledgedLocked is IsAcknowledged for a condition of [Client.Wait].
func (d *Document) AcknowledgedLocked(h crdt.Hash) bool { return d.serverHas(h) }

// serverHas says whether the server's heads are h or descend from it.
func (d *Document) serverHas(h crdt.Hash) bool {
	i, ok := d.graph.Index(h)
	if !ok || len(d.serverHeads) == 0 {
		return false
	}
	return !slices.Contains(d.graph.Since(d.serverHeads), i)
}

// Has waits until the change is here.
func (d *Document) Has(ctx context.Context, h crdt.Hash) error {
	return d.c.Wait(ctx, "change "+h.String()[:8], func() bool { return d.graph.Has(h) })
}

// Unavailable waits until the server has said n times that it has no such
// document.
func (d *Document) Unavailable(ctx context.Context, n int) error {
	return d.c.Wait(ctx, "doc-unavailable", func() bool { return d.unavailable >= n })
}

// ErrUnavailable: the server has said that it has no such document.
var ErrUnavailable = errors.New("the document is unavailable")

// HasOrIsUnavailable is Has, and fails with [ErrUnavailable] once the server has said
// so.
func (d *Document) HasOrIsUnavailable(ctx context.Context, h crdt.Hash) error {
	unavailable := false
	err := d.c.Wait(ctx, "change "+h.String()[:8], func() bool {
		unavailable = d.unavailable > 0 && !d.graph.Has(h)
		return unavailable || d.graph.Has(h)
	})
	if err == nil && unavailable {
		return ErrUnavailable
	}
	return err
}

// Heads returns the copy's heads, sorted.
func (d *Document) Heads() []crdt.Hash {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return slices.Clone(d.graph.Heads())
}

// Chunks returns the copy's changes, each after those that it depends on.
func (d *Document) Chunks() [][]byte {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	chunks := make([][]byte, d.graph.Len())
	for i := range chunks {
		chunks[i] = d.graph.ChunkAt(i)
	}
	return chunks
}

// Get returns the value at a key of the root as Go has it.
func (d *Document) Get(key string) (any, error) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	v, err := d.am.RootMap().Get(key)
	if err != nil {
		return nil, err
	}
	return v.Interface(), nil
}
