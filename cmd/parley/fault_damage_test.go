package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/crdt"
	"parley/server/servertest"
	"parley/server/store"
	"parley/sync/session"
)

const pageSize = 4096 // of the database

// specimen is the folder of a server that has ended: what was written before the last
// of its ends, if that was a kill, is in the log beside the database.
type specimen struct {
	data    string
	writers []*writer // and what they know to be there
}

func newSpecimen(t *testing.T, ctx context.Context, ends ...os.Signal) *specimen {
	t.Helper()
	s := &specimen{data: t.TempDir()}
	for i := range 6 {
		s.writers = append(s.writers, &writer{id: servertest.NewDocumentID(), n: int64(i) << 32})
	}
	for _, end := range ends {
		p := serve(t, s.data)
		for _, w := range s.writers {
			check(t, w.some(ctx, p.url, 20))
		}
		_ = p.end(end)
	}
	return s
}

// some makes n changes, and waits for each to be acknowledged.
func (w *writer) some(ctx context.Context, url string, n int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := w.write(ctx, url, func() {
		if n--; n == 0 {
			stop()
		}
	})
	if n > 0 {
		return err
	}
	return nil
}

// damage is something that is done to the files of a server.
type damage struct {
	name string
	do   func(db, wal []byte) (newDB, newWAL []byte)
	// harmless: nothing that was written is touched.
	harmless bool
}

func flip(in []byte, at int) []byte {
	out := slices.Clone(in)
	out[at/8%len(out)] ^= 1 << (at % 8)
	return out
}

func zero(in []byte, page int) []byte {
	out := slices.Clone(in)
	clear(out[page*pageSize : (page+1)*pageSize])
	return out
}

func inDatabase(name string, do func(db []byte) []byte) damage {
	return damage{name: "the database: " + name, do: func(db, wal []byte) ([]byte, []byte) { return do(db), wal }}
}

// put copies the specimen, damages the copy, and returns where it is.
func (s *specimen) put(t *testing.T, d damage) (data string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	check(t, os.CopyFS(data, os.DirFS(s.data)))
	check(t, os.Chmod(filepath.Join(data, "parley.key"), 0o600)) // as it was: CopyFS gives what it copies to all
	file := filepath.Join(data, "parley.db")
	db, err := os.ReadFile(file)
	check(t, err)
	wal, err := os.ReadFile(file + "-wal")
	if !errors.Is(err, fs.ErrNotExist) {
		check(t, err)
	}
	db, wal = d.do(db, wal)
	check(t, os.WriteFile(file, db, 0o600))
	check(t, os.WriteFile(file+"-wal", wal, 0o600))
	if err := os.Remove(file + "-shm"); !errors.Is(err, fs.ErrNotExist) { // the machine went down
		check(t, err)
	}
	return data
}

// kinds are damages that are always tried, and some that are drawn by lot.
func (s *specimen) kinds(t *testing.T) []damage {
	t.Helper()
	db, err := os.ReadFile(filepath.Join(s.data, "parley.db"))
	check(t, err)
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	all := []damage{
		inDatabase("its first byte", func(db []byte) []byte { return flip(db, 3) }),
		inDatabase("the size of its pages", func(db []byte) []byte { return flip(db, 16*8) }),
		inDatabase("cut in its first page", cut(100)),
		inDatabase("cut between pages", cut(len(db)/2/pageSize*pageSize)),
		inDatabase("cut within a page", cut(len(db)*2/3+1)),
		inDatabase("the last byte is missing", cut(len(db)-1)),
		inDatabase("the last page is missing", cut(len(db)-pageSize)),
	}
	for page := range db[:len(db)/pageSize] {
		all = append(all, inDatabase(fmt.Sprintf("page %d is zeros", page+1), func(db []byte) []byte { return zero(db, page) }))
	}
	for range longer(12, 100) {
		at := rand.IntN(8 * len(db))
		all = append(all, inDatabase(fmt.Sprintf("bit %d of byte %d of page %d", at%8, at/8%pageSize, at/8/pageSize+1), func(db []byte) []byte { return flip(db, at) }))
	}
	return all
}

// TestFaultDamagedDatabase starts the server on databases that are damaged. It refuses
// in a line that names the way back, or serves documents that are whole; of one that it
// cannot read its log names the way back. Where SQLite itself is led past rows, so that
// something is missing, parley check finds it. It does not die of any.
func TestFaultDamagedDatabase(t *testing.T) {
	ctx := within(t, 5*time.Minute)
	s := newSpecimen(t, ctx, os.Interrupt)
	all := s.kinds(t)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	refused, partly := 0, 0
	for _, d := range all[:longer(16, len(all))] {
		data := s.put(t, d)
		p := newProcess(t, data)
		if !p.start() {
			p.mustRefuse(d.name, exitDamaged, "parley check --data "+data, "parley restore")
			refused++
			continue
		}
		if s.look(t, ctx, p, d, data) {
			partly++
		}
		_ = p.kill()
		if out := p.output(); strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
			t.Errorf("%s: it says %s", d.name, out)
		}
	}
	if refused == 0 || partly == 0 {
		t.Errorf("%d were refused at the start, %d documents only: that is all there is to see", refused, partly)
	}
	t.Logf("%d refused, %d serve what is sound, of %d", refused, partly, longer(16, len(all)))
}

// look reads all documents. It reports whether some are not served.
func (s *specimen) look(t *testing.T, ctx context.Context, p *process, d damage, data string) (lacking bool) {
	t.Helper()
	for _, w := range s.writers {
		switch code, err := w.read(ctx, p.url); {
		case err != nil: // what leads to it, or to a part of it, is damaged: parley check knows
			lacking = true
			if out, code := parley(t, "", "check", "--data", data); code != exitDamaged {
				t.Errorf("%s: %v, and parley check does not see why: exit %d: %s", d.name, err, code, out)
			}
		case code == websocket.StatusCode(session.CloseInternal):
			lacking = true
			says := func() bool {
				out := p.output()
				return strings.Contains(out, "could not be loaded") && strings.Contains(out, "parley check") && strings.Contains(out, "parley restore")
			}
			for range 200 { // it is said before the connection ends, and read from another
				if says() {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if !says() {
				t.Errorf("%s: its log does not name the way back: %s", d.name, p.output())
			}
		case code != 0:
			t.Errorf("%s: the connection was ended with %d", d.name, code)
		}
	}
	return lacking
}

// read reads the writer's document as a fresh client. It returns how the connection
// was ended, 0 if all that was acknowledged is there.
func (w *writer) read(ctx context.Context, url string) (websocket.StatusCode, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := servertest.Dial(ctx, url, "")
	if err != nil {
		return 0, err
	}
	defer c.CloseNow()
	doc, err := c.Open(ctx, w.id)
	if err != nil {
		return 0, err
	}
	for _, h := range w.acked {
		had := doc.HasOrIsUnavailable(ctx, h)
		switch {
		case errors.Is(had, servertest.ErrUnavailable), had != nil && ctx.Err() != nil:
			return 0, had
		case had != nil:
			return c.Ended(ctx)
		}
	}
	return 0, nil
}

// TestFaultDamagedLog damages the log beside the database of a killed server, which
// does not start then, and says what to do: SQLite would go by what the log says up to
// the damage. Of a log that was cut nothing can be known: the server is back at an earlier
// commit, all documents together, and what is missing comes again from those who have it.
func TestFaultDamagedLog(t *testing.T) {
	ctx := within(t, 5*time.Minute)
	s := newSpecimen(t, ctx, os.Interrupt, os.Kill)
	wal, err := os.ReadFile(filepath.Join(s.data, "parley.db-wal"))
	check(t, err)
	const header, frame = 32, 24 + pageSize
	inLog := func(name string, do func(wal []byte) []byte) damage {
		return damage{name: "the log: " + name, do: func(db, wal []byte) ([]byte, []byte) { return db, do(wal) }}
	}
	middle := header + len(wal)/frame/2*frame
	all := []damage{
		inLog("is as it was", func(wal []byte) []byte { return wal }),
		inLog("its header must be refused", func(wal []byte) []byte { return flip(wal, 8*20) }),
		inLog("is gone", func([]byte) []byte { return nil }),
		inLog("a frame must be refused", func(wal []byte) []byte { return flip(wal, 8*(middle+1000)) }),
		inLog("cut between frames", func(wal []byte) []byte { return wal[:middle] }),
		inLog("cut within a frame", func(wal []byte) []byte { return wal[:middle+1001] }),
		inLog("ends in what is none", func(wal []byte) []byte { return append(slices.Clone(wal), make([]byte, 2*frame)...) }),
	}
	for range longer(0, 40) {
		at := rand.IntN(8 * len(wal))
		all = append(all, inLog(fmt.Sprintf("bit %d of byte %d", at%8, at/8), func(wal []byte) []byte { return flip(wal, at) }))
	}
	all[0].harmless, all[6].harmless = true, true
	refused := 0
	whole := s.stored(t, s.put(t, all[0]))
	for _, d := range all {
		if data := s.put(t, d); !d.harmless {
			if p := newProcess(t, data); !p.start() {
				refused++
				p.mustRefuse(d.name, exitDamaged, "parley check --data "+data, "parley restore")
				if out, code := parley(t, "", "check", "--data", data); code != exitDamaged {
					t.Errorf("%s: parley check does not see it: exit %d: %s", d.name, code, out)
				}
				continue
			} else if strings.Contains(d.name, "must be refused") {
				t.Errorf("%s: it is served", d.name)
			}
		}
		left := s.stored(t, s.put(t, d))
		missing := 0
		for i, hashes := range left {
			if len(hashes) > len(whole[i]) || !slices.Equal(hashes, whole[i][:len(hashes)]) {
				t.Fatalf("%s: %d changes of document %d are not its first", d.name, len(hashes), i)
			}
			missing += len(whole[i]) - len(hashes)
		}
		if d.harmless && missing > 0 {
			t.Errorf("%s: %d changes are missing", d.name, missing)
		}
		data := s.put(t, d)
		p := serve(t, data)
		for _, w := range s.writers {
			again := writer{id: w.id, doc: w.doc, n: w.n}
			if err := again.some(ctx, p.url, 1); err != nil {
				t.Fatalf("%s: a writer who comes back: %v\n%s", d.name, err, p.output())
			}
			w.n = again.n
		}
		_ = p.kill()
		checkStored(t, data, s.writers)
		mustBeSoundOnDisk(t, data)
		t.Logf("%s: %d changes were missing, and came again", d.name, missing)
	}
}

// stored returns the changes of each document.
func (s *specimen) stored(t *testing.T, data string) (all [][]crdt.Hash) {
	t.Helper()
	st, err := store.Open(data, store.Options{})
	check(t, err)
	defer func() { check(t, st.Close()) }()
	for _, w := range s.writers {
		stored, err := st.Load(t.Context(), w.id)
		check(t, err)
		all = append(all, stored.Hashes)
	}
	return all
}
