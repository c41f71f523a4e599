package compact

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// session is what a child reads: a setup without a limit, which would hold for
// the test's own process, and these frames.
func session(t *testing.T, frames ...any) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	for _, v := range append([]any{setup{Memory: -1}}, frames...) {
		frame, err := encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFrame(&b, frame); err != nil {
			t.Fatal(err)
		}
	}
	return &b
}

func TestServe(t *testing.T) {
	chunks, heads := history()
	in := session(t,
		request{Op: opMaterialize},
		request{Op: opCompact, Chunks: chunks, Heads: heads},
		request{Op: opCompact, Chunks: chunks},
		request{Op: "dance"},
	)
	var out bytes.Buffer
	if err := Serve(in, &out); err != nil {
		t.Fatal(err)
	}
	var answers []answer
	for {
		var a answer
		if err := next(&out, &a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if len(answers) != 4 {
		t.Fatalf("%d answers, want 4", len(answers))
	}
	if a := answers[0]; string(a.JSON) != "{}" || a.Error != "" {
		t.Errorf("the empty document is %s, %s", a.JSON, a.Error)
	}
	if a := answers[1]; a.Snapshot.Changes != len(chunks) || a.Error != "" {
		t.Errorf("the snapshot has %d changes, %s", a.Snapshot.Changes, a.Error)
	}
	if a := answers[2]; !strings.Contains(a.Error, "other heads") || len(a.Snapshot.Data) > 0 {
		t.Errorf("wrong heads gave %d bytes and %q", len(a.Snapshot.Data), a.Error)
	}
	if a := answers[3]; a.Error != `unknown request "dance"` {
		t.Errorf("an unknown request gave %q", a.Error)
	}
}

func TestServeEnds(t *testing.T) {
	whole := session(t, request{Op: opMaterialize}).Bytes()
	for name, test := range map[string]struct {
		in   []byte
		want string // "": no error
	}{
		"no setup":       {nil, ""},
		"no request":     {session(t).Bytes(), ""},
		"a cut setup":    {whole[:3], "unexpected EOF"},
		"a cut request":  {whole[:len(whole)-1], "unexpected EOF"},
		"a long request": {append(session(t).Bytes(), 0xff, 0, 0, 0), "want at most"},
		"no CBOR":        {append(session(t).Bytes(), 0, 0, 0, 1, 0xff), "cbor"},
	} {
		err := Serve(bytes.NewReader(test.in), io.Discard)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: Serve ends with %v, want %q", name, err, test.want)
		}
	}
	if err := Serve(bytes.NewReader(whole), brokenPipe{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("without a reader Serve ends with %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestStderrSummary(t *testing.T) {
	for name, test := range map[string]struct{ written, want string }{
		"nothing":   {"", ""},
		"a secret":  {"the price is 120\n", "17 bytes on its standard error"},
		"a panic":   {"thread '<unnamed>' panicked at 'price 120', /home/x/rust/automerge/src/types.rs:274:18\nnote: ...", "types.rs:274"},
		"memory":    {"memory allocation of 16000000000 bytes failed\nSIGABRT: abort\nPC=0x1", "memory allocation of 16000000000 bytes failed, SIGABRT: abort"},
		"Go memory": {"fatal error: runtime: out of memory\n\nruntime stack:", "fatal error: runtime: out of memory"},
		"Go panic":  {"panic: price 120\n\ngoroutine 1 [running]:", "40 bytes on its standard error"},
		"a flood":   {strings.Repeat("price ", 10_000), "60000 bytes on its standard error"},
	} {
		var f firstBytes
		for part := range strings.SplitAfterSeq(test.written, " ") { // in several writes
			if n, err := f.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("%s: wrote %d of %d, %v", name, n, len(part), err)
			}
		}
		if got := f.summary(); got != test.want {
			t.Errorf("%s: the summary is %q, want %q", name, got, test.want)
		}
		if len(f.kept) > maxStderr {
			t.Errorf("%s: %d bytes are kept, want at most %d", name, len(f.kept), maxStderr)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"bad checksum":            "bad checksum",
		"line\nbreak\x1b[2J\x00":  "line?break?[2J?",
		strings.Repeat("é", 1000): strings.Repeat("é", maxMessage/2) + "...",
		"\xff":                    "\uFFFD",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) is %q, want %q", in, got, want)
		}
	}
}
