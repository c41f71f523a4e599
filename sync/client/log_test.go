package client

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func openTestLog(t *testing.T, dir string) (*logFile, []record, int) {
	t.Helper()
	l, rs, cut, err := openLog(dir)
	check(t, err)
	t.Cleanup(func() { _ = l.close() })
	return l, rs, cut
}

func contents(rs []record) []string {
	var texts []string
	for _, r := range rs {
		texts = append(texts, string(r.content))
	}
	return texts
}

func TestLogKeepsWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	l, rs, _ := openTestLog(t, dir)
	if len(rs) != 0 {
		t.Fatalf("a new log holds %q", contents(rs))
	}
	check(t, l.write([]record{{recordOwner, []byte("o")}, {recordChange, nil}}, true))
	check(t, l.write([]record{{recordChange, bytes.Repeat([]byte("x"), 100_000)}}, false))
	check(t, l.close())
	_, rs, cut := openTestLog(t, dir)
	if cut != 0 || len(rs) != 3 || rs[0].kind != recordOwner || len(rs[2].content) != 100_000 {
		t.Errorf("read again: %d records, %d bytes cut", len(rs), cut)
	}
}

// Wherever a write was torn, what was whole before is read, and what is written
// after follows it.
func TestLogIsCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := openTestLog(t, dir)
	check(t, l.write([]record{{recordOwner, []byte("one")}}, true))
	whole := l.size
	check(t, l.write([]record{{recordChange, []byte("two")}}, true))
	full, err := os.ReadFile(filepath.Join(dir, logName))
	check(t, err)
	for n := range int64(len(full)) {
		torn := t.TempDir()
		check(t, os.WriteFile(filepath.Join(torn, logName), full[:n], fileMode))
		l, rs, cut := openTestLog(t, torn)
		want := []string{"one"}
		switch {
		case n < int64(len(logMagic)):
			want = nil
		case n < whole:
			want = nil
		}
		if !slices.Equal(contents(rs), want) {
			t.Errorf("torn at %d: read %q", n, contents(rs))
		}
		if n > whole && cut != int(n-whole) {
			t.Errorf("torn at %d: %d bytes cut", n, cut)
		}
		check(t, l.write([]record{{recordChange, []byte("three")}}, true))
		check(t, l.close())
		_, rs, cut = openTestLog(t, torn)
		if !slices.Equal(contents(rs), append(want, "three")) || cut != 0 {
			t.Errorf("torn at %d, written and read again: %q", n, contents(rs))
		}
	}
}

func TestLogIsCutAtAWrongByte(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := openTestLog(t, dir)
	check(t, l.write([]record{{recordOwner, []byte("one")}, {recordChange, []byte("two")}}, true))
	full, err := os.ReadFile(filepath.Join(dir, logName))
	check(t, err)
	for i := l.size - int64(recordHead+3); i < l.size; i++ {
		bad := slices.Clone(full)
		bad[i] ^= 0x40
		check(t, os.WriteFile(filepath.Join(dir, logName), bad, fileMode))
		_, rs, cut := openTestLog(t, dir)
		if !slices.Equal(contents(rs), []string{"one"}) || cut != recordHead+3 {
			t.Errorf("byte %d: read %q, %d bytes cut", i, contents(rs), cut)
		}
		kept, err := os.ReadFile(filepath.Join(dir, cutName))
		check(t, err)
		if len(kept) != cut {
			t.Errorf("byte %d: %d bytes kept aside", i, len(kept))
		}
	}
}

func TestLogRefusesWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, logName), []byte("something else"), fileMode))
	if _, _, _, err := openLog(dir); err == nil {
		t.Error("a file that is no log was opened")
	}
	b, err := os.ReadFile(filepath.Join(dir, logName))
	check(t, err)
	if string(b) != "something else" {
		t.Errorf("it was changed to %q", b)
	}
}

func TestLogRewrite(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := openTestLog(t, dir)
	check(t, l.write([]record{{recordOwner, []byte("one")}, {recordChange, []byte("two")}}, true))
	check(t, l.rewrite([]record{{recordOwner, []byte("uno")}}))
	check(t, l.write([]record{{recordChange, []byte("tre")}}, true))
	check(t, l.close())
	_, rs, cut := openTestLog(t, dir)
	if !slices.Equal(contents(rs), []string{"uno", "tre"}) || cut != 0 {
		t.Errorf("read %q, %d bytes cut", contents(rs), cut)
	}
}
