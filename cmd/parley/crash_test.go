package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"parley/crdt"
	"parley/server/servertest"
	"parley/server/store"
)

// writer keeps editing one document over whatever connection there is, and
// remembers what was acknowledged.
type writer struct {
	id  crdt.DocumentID
	doc *servertest.Document
	n   int64 // values never repeat: setting the same again would be no change

	mu    sync.Mutex
	acked []crdt.Hash
}

// write edits until its connection ends, reports each acknowledgement, and
// returns why it ended.
func (w *writer) write(ctx context.Context, url string, acknowledged func()) error {
	c, err := servertest.Dial(ctx, url, "")
	if err != nil {
		return err
	}
	defer c.CloseNow()
	if w.doc == nil {
		w.doc, err = c.Open(ctx, w.id)
	} else {
		err = c.Adopt(ctx, w.doc)
	}
	for err == nil {
		w.n++
		var h crdt.Hash
		if h, err = w.doc.Set(ctx, fmt.Sprintf("key%d", w.n%7), w.n); err != nil {
			return err
		}
		if err = w.doc.Acknowledged(ctx, h); err == nil {
			w.mu.Lock()
			w.acked = append(w.acked, h)
			w.mu.Unlock()
			acknowledged()
		}
	}
	return err
}

// TestKill kills the server in the middle of writing, again and again. Whatever
// it acknowledged is there afterwards, and all copies become equal.
func TestKill(t *testing.T) {
	const documents, writersPerDocument = 3, 2
	rounds := longer(20, 50)
	ctx := within(t, 4*time.Minute)
	data := t.TempDir()
	var writers []*writer
	for range documents {
		id := servertest.NewDocumentID()
		for range writersPerDocument {
			writers = append(writers, &writer{id: id, n: int64(len(writers)) << 32})
		}
	}
	total := 0
	for range rounds {
		total += killOnce(t, ctx, data, writers, 5+rand.IntN(60))
		checkStored(t, data, writers)
	}
	checkNothingLost(t, ctx, data, writers)
	t.Logf("%d acknowledged changes, %d kills, none lost", total, rounds)
}

// killOnce kills a server soon after its nth acknowledgement, while others are on
// their way, and returns how many there were in all.
func killOnce(t *testing.T, ctx context.Context, data string, writers []*writer, n int) int {
	t.Helper()
	p := serve(t, data)
	acks := make(chan struct{}, 10_000)
	ended := make(chan error, len(writers))
	var wg sync.WaitGroup
	for _, w := range writers {
		wg.Go(func() { ended <- w.write(ctx, p.url, func() { acks <- struct{}{} }) })
	}
	for range n {
		select {
		case <-acks:
		case err := <-ended:
			t.Fatalf("a writer was cut off by a living server: %v\n%s", err, p.output())
		case <-ctx.Done():
			t.Fatalf("no acknowledgement in time:\n%s", p.output())
		}
	}
	p.killSoon()
	wg.Wait()
	return n + len(acks)
}

// killSoon kills the server at any moment of what it does with a change.
func (p *process) killSoon() {
	time.Sleep(rand.N(5 * time.Millisecond)) // the moment of the kill is at random
	_ = p.kill()
}

// checkStored looks at what a killed server has left, before the writers come back,
// who would bring again what is lost.
func checkStored(t *testing.T, data string, writers []*writer) {
	t.Helper()
	st, err := store.Open(data, store.Options{})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	for _, w := range writers {
		stored, err := st.Load(t.Context(), w.id)
		check(t, err)
		receipts, err := st.Receipts(t.Context(), w.id, len(stored.Hashes)+1)
		check(t, err)
		if len(receipts) != len(stored.Hashes) {
			t.Fatalf("%d receipts for %d changes", len(receipts), len(stored.Hashes))
		}
		there := make(map[crdt.Hash]bool)
		for _, h := range stored.Hashes {
			there[h] = true
		}
		for _, h := range w.acked {
			if !there[h] {
				t.Fatalf("change %s was acknowledged and is not on disk", h)
			}
		}
	}
}

func checkNothingLost(t *testing.T, ctx context.Context, data string, writers []*writer) {
	t.Helper()
	p := serve(t, data)
	reader, err := servertest.Dial(ctx, p.url, "reader")
	check(t, err)
	defer reader.CloseNow()
	docs := make(map[crdt.DocumentID]*servertest.Document)
	for _, w := range writers {
		if docs[w.id] == nil {
			docs[w.id], err = reader.Open(ctx, w.id)
			check(t, err)
		}
		for _, h := range w.acked {
			if err := docs[w.id].Has(ctx, h); err != nil {
				t.Fatalf("an acknowledged change is lost: %v", err)
			}
		}
	}
	for i, w := range writers { // what was not acknowledged comes again from the writers
		c, err := servertest.Dial(ctx, p.url, "")
		check(t, err)
		defer c.CloseNow()
		check(t, c.Adopt(ctx, w.doc))
		h, err := w.doc.Set(ctx, "last", fmt.Sprintf("words of %d", i))
		check(t, err)
		check(t, w.doc.Acknowledged(ctx, h))
		check(t, docs[w.id].Has(ctx, h))
	}
	for _, w := range writers {
		for _, h := range docs[w.id].Heads() {
			check(t, w.doc.Has(ctx, h))
		}
	}
}

// limitFiles sets how long the files of a process may grow: a disk that is full
// as far as it can tell.
func (p *process) limitFiles(max uint64) error {
	const rlimitFileSize = 1 // RLIMIT_FSIZE
	limit := syscall.Rlimit{Cur: max, Max: ^uint64(0)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(p.cmd.Process.Pid), rlimitFileSize,
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (p *process) ready(t *testing.T) (int, string) {
	t.Helper()
	resp, err := http.Get("http" + strings.TrimPrefix(p.url, "ws") + "/readyz")
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, string(body)
}

// TestFullDisk takes the disk away from a running server and gives it back.
func TestFullDisk(t *testing.T) {
	ctx := within(t, time.Minute)
	data := t.TempDir()
	p := serve(t, data)
	alice, err := servertest.Dial(ctx, p.url, "alice")
	check(t, err)
	defer alice.CloseNow()
	doc, err := alice.Open(ctx, servertest.NewDocumentID())
	check(t, err)
	before, err := doc.Set(ctx, "price", int64(100))
	check(t, err)
	check(t, doc.Acknowledged(ctx, before))

	check(t, p.limitFiles(0))
	during, err := doc.Set(ctx, "price", int64(120))
	check(t, err)
	poll(t, ctx, "readyz to say what is wrong", func() bool {
		code, body := p.ready(t)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "nothing is acknowledged")
	})
	// The process lives, others read, and nobody was told of the change.
	bob, err := servertest.Dial(ctx, p.url, "bob")
	check(t, err)
	defer bob.CloseNow()
	copied, err := bob.Open(ctx, doc.ID)
	check(t, err)
	check(t, copied.Has(ctx, before))
	if doc.IsAcknowledged(during) || len(copied.Heads()) != 1 || copied.Heads()[0] != before {
		t.Error("a change was told of that is not on disk")
	}

	check(t, p.limitFiles(^uint64(0)))
	check(t, doc.Acknowledged(ctx, during))
	check(t, copied.Has(ctx, during))
	poll(t, ctx, "readyz to be well again", func() bool {
		code, _ := p.ready(t)
		return code == http.StatusOK
	})
	if n := strings.Count(p.output(), "level=ERROR"); n > 1 {
		t.Errorf("%d errors logged for one full disk:\n%s", n, p.output())
	}
}

func poll(t *testing.T, ctx context.Context, what string, cond func() bool) {
	t.Helper()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if cond() {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
