package engine_test

import (
	"encoding/hex"
	"flag"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/crdt/historytest"
	"parley/crdt/internal/engine"
)

var cycles = flag.Int("cycles", 3000, "how often the memory test loads and compacts")

func newDoc(t testing.TB, actor string) *engine.Doc {
	t.Helper()
	d, err := engine.New([]byte(actor))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func load(t testing.TB, saved []byte, chunks ...[]byte) *engine.Doc {
	t.Helper()
	d, err := engine.Load(saved, chunks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantJSON(t testing.TB, d *engine.Doc, want string) {
	t.Helper()
	got, err := d.JSON()
	must(t, err)
	if string(got) != want {
		t.Errorf("the document is\n%s, want\n%s", got, want)
	}
}

// everything writes one of each kind of value in one change.
func everything(t testing.TB, d *engine.Doc) (chunk []byte) {
	t.Helper()
	type path = engine.Path
	must(t, d.Put(path{"str"}, "hé\u2028<&>\x00"))
	must(t, d.Put(path{"no str"}, ""))
	must(t, d.Put(path{"int"}, int64(math.MinInt64)))
	must(t, d.Put(path{"uint"}, uint64(math.MaxUint64)))
	must(t, d.Put(path{"float"}, 0.1))
	must(t, d.Put(path{"whole"}, 5.0))
	must(t, d.Put(path{"large"}, 1e21))
	must(t, d.Put(path{"nan"}, math.NaN()))
	must(t, d.Put(path{"floats"}, engine.List))
	must(t, d.Insert(path{"floats", 0}, math.Inf(1)))
	must(t, d.Insert(path{"floats", 0}, math.Inf(-1)))
	must(t, d.Put(path{"bytes"}, []byte{0xff, 0, 0xfe, 1}))
	must(t, d.Put(path{"no bytes"}, []byte{}))
	must(t, d.Put(path{"time"}, time.Date(2026, 11, 23, 6, 0, 0, 250e6, time.FixedZone("", 3600))))
	must(t, d.Put(path{"before 1970"}, time.UnixMilli(-1)))
	must(t, d.Put(path{"far"}, time.UnixMilli(1<<50)))
	must(t, d.Put(path{"null"}, nil))
	must(t, d.Put(path{"true"}, true))
	must(t, d.Put(path{"__proto__"}, engine.Map))
	must(t, d.Put(path{"__proto__", "toString"}, false))
	must(t, d.Put(path{"counter"}, engine.Counter(5)))
	must(t, d.Increment(path{"counter"}, -7))
	must(t, d.Put(path{"list"}, engine.List))
	must(t, d.Insert(path{"list", 0}, "b"))
	must(t, d.Insert(path{"list", 1}, engine.Map))
	must(t, d.Put(path{"list", 1, "x"}, engine.List))
	must(t, d.Insert(path{"list", 0}, "a"))
	must(t, d.Put(path{"list", 1}, "B"))
	must(t, d.Insert(path{"list", 1}, engine.Counter(1)))
	must(t, d.Increment(path{"list", 1}, 2))
	must(t, d.Put(path{"text"}, engine.Text))
	must(t, d.Splice(path{"text"}, 0, 0, "a😀bc"))
	must(t, d.Splice(path{"text"}, 1, 2, "-"))
	must(t, d.Put(path{"gone"}, engine.Map))
	must(t, d.Delete(path{"gone"}))
	must(t, d.Delete(path{"never there"}))
	chunk, err := d.Commit("everything", 1_700_000_000)
	must(t, err)
	return chunk
}

const everythingJSON = `{"__proto__":{"toString":false},"before 1970":"1969-12-31T23:59:59.999Z","bytes":"/wD+AQ==",` +
	`"counter":-2,"far":1125899906842624,"float":0.1,"floats":["-Infinity","Infinity"],"int":-9223372036854775808,"large":1e+21,` +
	`"list":["a",3,"B",{"x":[]}],"nan":"NaN","no bytes":"","no str":"","null":null,"str":"hé\u2028<&>\u0000",` +
	`"text":"a-c","time":"2026-11-23T05:00:00.250Z","true":true,"uint":18446744073709551615,"whole":5}`

func TestJSON(t *testing.T) {
	d := newDoc(t, "actor")
	wantJSON(t, d, "{}")
	chunk := everything(t, d)
	wantJSON(t, d, everythingJSON)
	wantJSON(t, load(t, nil, chunk), everythingJSON)
	saved, err := d.Save()
	must(t, err)
	wantJSON(t, load(t, saved), everythingJSON)
	wantJSON(t, load(t, saved, chunk, chunk), everythingJSON) // repeats
}

func TestUnknownScalar(t *testing.T) {
	d := load(t, nil, historytest.Raw{Key: "k", Action: 1, Type: 13, Value: []byte("later")}.Chunk())
	wantJSON(t, d, `{"k":{"$unknown":13,"bytes":"bGF0ZXI="}}`)
	saved, err := d.Save()
	must(t, err)
	wantJSON(t, load(t, saved), `{"k":{"$unknown":13,"bytes":"bGF0ZXI="}}`)
}

func TestDepth(t *testing.T) {
	d := newDoc(t, "actor")
	var at engine.Path
	for range engine.MaxDepth {
		at = append(at, "k")
		must(t, d.Put(at, engine.Map))
	}
	got, err := d.JSON()
	must(t, err)
	if want := strings.Repeat(`{"k":`, engine.MaxDepth) + "{}" + strings.Repeat("}", engine.MaxDepth); string(got) != want {
		t.Errorf("the deepest document is %d bytes of JSON, want %d", len(got), len(want))
	}
	must(t, d.Put(append(at, "k"), engine.Map))
	if got, err := d.JSON(); err == nil || !strings.Contains(err.Error(), "nested deeper than 1000 levels") {
		t.Errorf("a document one level deeper gave %d bytes of JSON and the error %v", len(got), err)
	}
}

// The same edits by the same actor make the same bytes, as they do in
// JavaScript: testdata/interop/materialize.mjs makes this change, too.
func TestCommitIsDeterministic(t *testing.T) {
	commit := func() []byte {
		d := newDoc(t, "\x01\x02")
		must(t, d.Put(engine.Path{"a"}, "b"))
		chunk, err := d.Commit("m", 1)
		must(t, err)
		return chunk
	}
	got, want := commit(), "856f4a83601cdbfe012200020102010101016d00061503340142025602570170027f0161017f017f16627f00"
	if hex.EncodeToString(got) != want {
		t.Errorf("the change is %x, want %s", got, want)
	}
}

func TestRollback(t *testing.T) {
	d := newDoc(t, "actor")
	chunk := everything(t, d)
	must(t, d.Put(engine.Path{"int"}, int64(1)))
	must(t, d.Delete(engine.Path{"list"}))
	for what, err := range map[string]error{
		"apply": d.Apply([][]byte{chunk}),
		"heads": errorOf(d.Heads()),
		"count": errorOf(d.NumChanges()),
		"save":  errorOf(d.Save()),
	} {
		if err != engine.ErrUncommitted {
			t.Errorf("%s with uncommitted edits gave %v", what, err)
		}
	}
	d.Rollback()
	wantJSON(t, d, everythingJSON)
	if _, err := d.Commit("", 0); err != engine.ErrNothingToCommit {
		t.Errorf("a commit without edits gave %v", err)
	}
}

func errorOf[T any](_ T, err error) error { return err }

func TestEditErrors(t *testing.T) {
	d := newDoc(t, "actor")
	everything(t, d)
	type path = engine.Path
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"put at the root":        {d.Put(path{}, "x"), "put at the root itself"},
		"put below nothing":      {d.Put(path{"absent", "x"}, "x"), "no such object at [absent]"},
		"put below a scalar":     {d.Put(path{"str", "x"}, "x"), "no such object at [str]"},
		"a key into a list":      {d.Put(path{"list", "x"}, "x"), "no such object"},
		"an index into a map":    {d.Put(path{"__proto__", 0}, "x"), "no such object"},
		"an index into text":     {d.Put(path{"text", 0}, "x"), "no such object"},
		"through a wrong index":  {d.Put(path{"list", 9, "x"}, "x"), "nothing at 9"},
		"through a negative one": {d.Put(path{"list", -1, "x"}, "x"), "nothing at -1"},
		"a negative index":       {d.Put(path{"list", -1}, "x"), "is negative"},
		"behind the end":         {d.Put(path{"list", 4}, "x"), "automerge: put: "},
		"insert behind the end":  {d.Insert(path{"list", 5}, "x"), "automerge: insert: "},
		"insert at a key":        {d.Insert(path{"__proto__", "x"}, "x"), "not supported"},
		"delete behind the end":  {d.Delete(path{"list", 4}), "automerge: delete: "},
		"increment a string":     {d.Increment(path{"str"}, 1), "automerge: increment: "},
		"an empty key":           {d.Put(path{""}, "x"), "must not be an empty string"},
		"a path of other types":  {d.Put(path{1.5}, "x"), "a path holds a float64"},
		"a value of other type":  {d.Put(path{"x"}, 1), "not supported"},
		"splice a map":           {d.Splice(path{"__proto__"}, 0, 0, "x"), "no such object of the kind needed"},
		"splice behind the end":  {d.Splice(path{"text"}, 4, 0, "x"), "0 characters at 4 of 3"},
		"splice too much away":   {d.Splice(path{"text"}, 1, 3, "x"), "3 characters at 1 of 3"},
		"splice away less":       {d.Splice(path{"text"}, 1, -1, "x"), "-1 characters at 1 of 3"},
		"no actor":               {d.SetActor(nil), "0 bytes"},
		"a long actor":           {d.SetActor(make([]byte, 129)), "129 bytes"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %q in it", name, test.err, test.want)
		}
	}
	wantJSON(t, d, everythingJSON)
}

func TestLoadErrors(t *testing.T) {
	h := historytest.Random(1, 1, 4)
	saved, err := load(t, nil, h[:2].Chunks()...).Save()
	must(t, err)
	changed := func(b []byte, i int) []byte {
		b = append([]byte{}, b...)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	chunk := h[2].Chunk
	for name, test := range map[string]struct {
		saved  []byte
		chunks [][]byte
		want   string
	}{
		"garbage":                   {nil, [][]byte{[]byte("garbage")}, "magic"},
		"garbage behind a document": {saved, [][]byte{[]byte("garbage")}, "magic"},
		"garbage behind a change":   {saved, [][]byte{chunk, []byte("g")}, "not enough data"},
		"a document cut short":      {saved[:len(saved)-1], nil, "not enough data"},
		"a document changed":        {changed(saved, -1), nil, "checksum"},
		"a change cut short":        {saved, [][]byte{chunk[:len(chunk)-1]}, "not enough data"},
		"a change changed":          {saved, [][]byte{changed(chunk, -1)}, "checksum"},
		"a checksum changed":        {saved, [][]byte{changed(chunk, 5)}, "checksum"},
		"no first change":           {nil, [][]byte{h[1].Chunk}, "should already be in the document"},
		"a change missing":          {saved, [][]byte{h[3].Chunk}, "the changes depend on "},
	} {
		d, err := engine.Load(test.saved, test.chunks)
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %q in it", name, err, test.want)
		}
		if test.saved == nil || err == nil || len(test.chunks) == 0 {
			continue
		}
		if err := load(t, saved).Apply(test.chunks); err == nil {
			t.Errorf("%s: applied without an error", name)
		}
	}
}

func TestApply(t *testing.T) {
	h := historytest.Random(2, 3, 40)
	whole, parts := load(t, nil, h.Chunks()...), newDoc(t, "actor")
	must(t, parts.Apply(nil))
	for _, change := range h {
		must(t, parts.Apply([][]byte{change.Chunk}))
	}
	want, err := whole.JSON()
	must(t, err)
	wantJSON(t, parts, string(want))
	if n, err := parts.NumChanges(); n != len(h) || err != nil {
		t.Errorf("it has %d changes (%v), want %d", n, err, len(h))
	}
	heads, err := parts.Heads()
	must(t, err)
	if want := h.Heads(); !equal(heads, want) {
		t.Errorf("the heads are %x, want %x", heads, want)
	}
}

func equal(a, b []engine.Hash) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestCloseTwice(t *testing.T) {
	d := newDoc(t, "actor")
	d.Close()
	d.Close()
}

// One unfreed document of this size costs some 30 kB: leaking one a cycle would
// show as 90 MB. One unfreed result of 1 kB a cycle would show as 3 MB.
func TestMemoryStaysFlat(t *testing.T) {
	h := historytest.Random(3, 2, 20)
	saved, err := load(t, nil, h[:10].Chunks()...).Save()
	must(t, err)
	rest := h[10:].Chunks()
	cycle := func() {
		d, err := engine.Load(saved, rest)
		must(t, err)
		defer d.Close()
		must(t, d.Apply(rest))
		must(t, errorOf(d.Heads()))
		must(t, errorOf(d.NumChanges()))
		must(t, errorOf(d.JSON()))
		must(t, errorOf(d.Len(engine.Path{"map"})))
		must(t, d.Put(engine.Path{"map", "k"}, engine.List))
		must(t, d.Insert(engine.Path{"map", "k", 0}, "v"))
		must(t, errorOf(d.Commit("m", 1)))
		if d.Put(engine.Path{"text", "k"}, "v") == nil {
			t.Fatal("a key in a text was accepted")
		}
		again, err := engine.Load(must2(t, d.Save), nil)
		must(t, err)
		again.Close()
		if _, err := engine.Load(saved[1:], nil); err == nil {
			t.Fatal("garbage was loaded")
		}
	}
	for range *cycles / 4 { // warm up
		cycle()
	}
	// What leaks makes every batch grow; a malloc arena that is filled up, one.
	const batches, most = 4, 500_000
	sizes := []int{residentSize(t)}
	leaks := true
	for i := range batches {
		for range *cycles / batches {
			cycle()
		}
		sizes = append(sizes, residentSize(t))
		leaks = leaks && sizes[i+1]-sizes[i] > most
	}
	t.Logf("resident sizes, %d cycles apart: %d", *cycles/batches, sizes)
	if leaks {
		t.Errorf("each %d cycles made the process grow: %d", *cycles/batches, sizes)
	}
}

// A process that once held a large document does not stay large, even if a
// small one came after it on the heap.
func TestCloseReturnsMemory(t *testing.T) {
	runtime.LockOSThread() // for one malloc arena
	defer runtime.UnlockOSThread()
	d := newDoc(t, "actor")
	var chunks [][]byte
	for i := range 5000 {
		must(t, d.Put(engine.Path{"k"}, int64(i)))
		chunks = append(chunks, must2(t, func() ([]byte, error) { return d.Commit("", 0) }))
	}
	saved := must2(t, d.Save)
	d.Close()
	before := residentSize(t)
	var large []*engine.Doc
	for range 5 {
		large = append(large, load(t, saved))
	}
	load(t, nil, chunks[0])
	held := residentSize(t) - before
	for _, d := range large {
		d.Close()
	}
	left := residentSize(t) - before
	t.Logf("%.1f MB held, %.1f MB left", float64(held)/1e6, float64(left)/1e6)
	if left > held/5 {
		t.Errorf("of %d bytes that the documents took, %d are left after Close", held, left)
	}
}

func must2[T any](t testing.TB, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	must(t, err)
	return v
}

// residentSize is what the process has in memory, in bytes, with Go's own
// garbage returned.
func residentSize(t testing.TB) int {
	if runtime.GOOS != "linux" {
		t.Skip("reads the resident size from /proc, which only Linux has")
	}
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	must(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	must(t, err)
	return pages * os.Getpagesize()
}
