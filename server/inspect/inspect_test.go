package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/server/audit"
	"parley/server/inspect"
	"parley/server/store"
)

func look(t *testing.T, path string, opt inspect.Options) *inspect.Report {
	t.Helper()
	r, err := store.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	report, err := inspect.Run(t.Context(), r, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// lines are what is wrong, one a line.
func lines(r *inspect.Report) string {
	var b strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "%s: %s (%s)\n", f.Where(), f.What, f.Do)
	}
	return b.String()
}

func TestSound(t *testing.T) {
	dir, public := copied(t)
	before, err := os.ReadFile(filepath.Join(dir, "parley.db"))
	if err != nil {
		t.Fatal(err)
	}
	var told [3]int
	r := look(t, dir, inspect.Options{Public: &public, Progress: func(done, total, changes int) { told = [3]int{done, total, changes} }})
	if !r.Sound || len(r.Faults)+len(r.Notes) > 0 || r.Documents != 2 || r.Changes != 54 || r.Bytes == 0 || told != [3]int{2, 2, 54} {
		t.Errorf("%+v\ntold %v", r, told)
	}
	if r := look(t, dir, inspect.Options{Quick: true}); !r.Sound || !r.Quick || r.Changes != 54 {
		t.Errorf("quickly: %+v", r)
	}
	if r := look(t, dir, inspect.Options{}); !r.Sound || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "signatures of 1 agreement") {
		t.Errorf("without the key: %+v", r)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "parley.db")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the database was altered, %v", err)
	}
}

// TestDamage alters one thing after the other, and has each named.
func TestDamage(t *testing.T) {
	const (
		inSale  = "document = (SELECT key FROM document WHERE id <> CAST('plain document 1' AS BLOB))"
		inPlain = "document = (SELECT key FROM document WHERE id = CAST('plain document 1' AS BLOB))"
		flip    = " = CAST(substr(%[1]s, 1, 60) || x'ff' || substr(%[1]s, 62) AS BLOB) "
	)
	flipped := func(table, column, where string) string {
		return "UPDATE " + table + " SET " + column + fmt.Sprintf(flip, column) + "WHERE " + where
	}
	aside := "DELETE FROM pack; DELETE FROM snapshot;" // what would show it too
	for _, c := range []struct {
		name, script string
		quick        bool // a quick look sees it too
		want         []string
	}{
		{"a chunk", flipped("change", "chunk", inSale+" AND n = 5"), true,
			[]string{"transaction sale-1 (document ", "change 5: it is damaged", "the server still reads it from the document's pack"}},
		{"a chunk, without a pack", aside + flipped("change", "chunk", inSale+" AND n = 5"), true,
			[]string{"change 5: it is damaged", "until then its document cannot be used"}},
		{"a hash", "UPDATE change SET hash = randomblob(32) WHERE n = 14", true, []string{"change 14: it is stored under the hash "}},
		{"a change in the middle", "DELETE FROM change WHERE " + inPlain + " AND n = 20", true,
			[]string{"change 20: it is missing: the next that is there is 21", "without its receipt no record can be made"}},
		{"several changes", "DELETE FROM change WHERE " + inPlain + " AND n BETWEEN 20 AND 22", true,
			[]string{"change 20: it and those up to 22 are missing"}},
		{"the last changes, with a pack", "DELETE FROM change WHERE " + inSale + " AND n > 12", true,
			[]string{"its snapshot: it is of 14 changes, and 12 are stored: the last are missing", "its pack: it is of 14 changes"}},
		{"the last changes, of an agreement", aside + "DELETE FROM change WHERE " + inSale + " AND n > 5", true,
			[]string{"resolution 1: it is over a change that is not stored"}},
		{"an order", aside + "UPDATE change SET n = n + 100 WHERE n IN (5, 6); UPDATE change SET n = 6 WHERE n = 105; UPDATE change SET n = 5 WHERE n = 106", true,
			[]string{"change 5: it builds on "}},
		{"a change of another document", aside + `UPDATE change SET chunk = (SELECT chunk FROM change c WHERE c.n = 3 AND c.document <> change.document) WHERE n = 3 AND ` + inSale, true,
			[]string{"change 3: it is stored under the hash"}},
		{"who delivered", aside + "UPDATE change SET user = 'bob' WHERE " + inSale + " AND n = 3", false,
			[]string{"change 3: ", "breaks the rules", "find out who altered it"}},
		{"who delivered, in a pack", "UPDATE change SET user = 'dora' WHERE " + inPlain + " AND n = 3", true,
			[]string{`receipt 3: it names "dora", and where all changes are packed "carol" is named`}},
		{"a role", "UPDATE change SET role = 'king' WHERE n = 30", true, []string{`receipt 30: it names a role that there is not: "king"`}},
		{"a receipt", "UPDATE change SET at = 0 WHERE n = 31", true, []string{"receipt 31: it does not say when the change came"}},
		{"the times of two receipts", "UPDATE change SET at = (SELECT at FROM change c WHERE c.document = change.document AND c.n = 5) WHERE n = 4 AND " + inSale, false,
			[]string{"resolution 1: its checkpoint is over another log"}},
		{"a snapshot", flipped("snapshot", "data", inSale), true, []string{"its snapshot: its bytes are not those", "no change is lost by it"}},
		{"a snapshot's heads", "UPDATE snapshot SET heads = randomblob(32)", true, []string{"its snapshot: its heads are not those of the first 14 changes", "of the first 40 changes"}},
		{"a pack", flipped("pack", "data", inPlain), true, []string{"its pack: its bytes are not those"}},
		{"a pack's count", "UPDATE pack SET changes = 3", true, []string{"its pack: it is of 40 changes, and its row says 3"}},
		{"a pack of another", `CREATE TEMP TABLE p AS SELECT * FROM pack; UPDATE pack SET (changes, sha256, data) = (SELECT changes, sha256, data FROM p WHERE p.changes < pack.changes) WHERE changes = 40`, true,
			[]string{"its pack: change 1 in it is not the one that is stored"}},
		{"settings", "UPDATE settings SET data = x'7b'", true, []string{"its settings: they cannot be read"}},
		{"what settings say", `UPDATE settings SET data = CAST('{"policy":"none"}' AS BLOB)`, true, []string{"its settings: they say what cannot be"}},
		{"a resolution", "UPDATE resolution SET data = x'7b'", true, []string{"resolution 1: it cannot be read"}},
		{"a resolution's heads", "UPDATE resolution SET heads = randomblob(32)", true, []string{"resolution 1: it is stored under other heads"}},
		{"a resolution's number", `UPDATE resolution SET data = CAST(replace(CAST(data AS TEXT), '"n":1', '"n":2') AS BLOB)`, true, []string{"resolution 1: it says of itself that it is number 2"}},
		{"who agreed", `UPDATE resolution SET data = CAST(replace(CAST(data AS TEXT), 'alice', 'alicf') AS BLOB)`, false, []string{"resolution 1: "}},
		{"the first resolution", "UPDATE resolution SET n = 2", true, []string{"resolution 1: it is missing: the next that is there is 2"}},
		{"a signature", `UPDATE resolution SET data = CAST(replace(CAST(data AS TEXT), '"checkpoint":"', '"checkpoint":"x') AS BLOB)`, false, []string{"resolution 1: its checkpoint"}},
		{"a revocation", "DELETE FROM revocation WHERE n = 1", true, []string{"revocation 1: it is missing"}},
		{"a document's row", "PRAGMA foreign_keys = OFF; DELETE FROM document WHERE id = CAST('plain document 1' AS BLOB)", true,
			[]string{`the database: 1 rows of the table "pack" belong to no document`, `the database: 40 rows of the table "change"`}},
		{"all of a document", "DELETE FROM change WHERE " + inPlain + "; DELETE FROM pack WHERE " + inPlain + "; DELETE FROM snapshot WHERE " + inPlain, true,
			[]string{": nothing is stored of it, not even a change"}},
		{"the storage id", "DELETE FROM meta", true, []string{"the storage id is missing"}},
		{"a table", "DROP TABLE pack", true, []string{"the schema: the table pack is missing", "its pack: it cannot be read: no such table"}},
		{"a table of others", "CREATE TABLE theirs (x)", true, []string{"the schema: the table theirs is not of parley's making"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, public := copied(t)
			alter(t, dir, c.script)
			mustName(t, look(t, dir, inspect.Options{Public: &public}), c.want)
			r := look(t, dir, inspect.Options{Quick: true})
			if c.quick {
				mustName(t, r, c.want)
			} else if !r.Sound {
				t.Errorf("a quick look sees it: %s", lines(r))
			}
		})
	}
}

func mustName(t *testing.T, r *inspect.Report, want []string) {
	t.Helper()
	text := lines(r)
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("found %q, want %q", text, w)
		}
	}
	if r.Sound || len(r.Faults) > 4 {
		t.Errorf("sound %t, %d faults:\n%s", r.Sound, len(r.Faults), text)
	}
}

// TestServedFromPack: a store loads what is damaged or missing from a pack.
func TestServedFromPack(t *testing.T) {
	for _, script := range []string{
		"DELETE FROM change WHERE n = 5",
		"UPDATE change SET chunk = x'00' WHERE n = 5",
	} {
		dir, _ := copied(t)
		alter(t, dir, script)
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(t.Context(), sale.Document())
		if err := errors.Join(err, s.Close()); err != nil || len(got.Hashes) != 14 {
			t.Errorf("after %s: %v", script, err)
		}
	}
}

// TestTriggersDropped: somebody took a trigger away, whatever was done then.
func TestTriggersDropped(t *testing.T) {
	dir, public := copied(t)
	alter(t, dir, "SELECT 1")
	if r := look(t, dir, inspect.Options{Public: &public}); !r.Sound {
		t.Fatalf("the alteration alone is seen: %s", lines(r))
	}
	mustShell(t, dir, "DROP TRIGGER change_is_not_deleted; DROP TRIGGER change_is_not_updated; CREATE TRIGGER change_is_not_updated BEFORE UPDATE ON change BEGIN SELECT 1; END")
	mustName(t, look(t, dir, inspect.Options{Quick: true}), []string{
		"the schema: the trigger change_is_not_deleted is missing", "the schema: the trigger change_is_not_updated is not as it was made",
	})
}

// TestClockSetBack is no fault.
func TestClockSetBack(t *testing.T) {
	dir, public := copied(t)
	alter(t, dir, "UPDATE change SET at = at - 100000 WHERE n >= 8 AND n < 10 AND document = (SELECT document FROM settings)")
	r := look(t, dir, inspect.Options{Public: &public})
	if !r.Sound || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "2 receipts are older than those before them, the first is 8") {
		t.Errorf("%+v", r)
	}
}

// TestPages damages the file below what rows are: a zeroed page, wherever it is, is
// seen, or the file cannot be opened at all.
func TestPages(t *testing.T) {
	const page = 4096
	dir, public := copied(t)
	path := filepath.Join(dir, "parley.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole); at += page {
		bad := bytes.Clone(whole)
		clear(bad[at : at+page])
		sees(t, path, bad, &public, fmt.Sprintf("page %d zeroed", at/page+1))
	}
	for _, size := range []int{100, page, len(whole) / 2, len(whole) - page, len(whole) - 1} {
		sees(t, path, whole[:size], &public, fmt.Sprintf("cut to %d bytes", size))
	}
}

func sees(t *testing.T, path string, content []byte, public *audit.Public, what string) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := store.Read(filepath.Dir(path))
	var foreign *store.ForeignError
	if errors.As(err, &foreign) {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer r.Close()
	report, err := inspect.Run(t.Context(), r, inspect.Options{Public: public})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if report.Sound {
		t.Errorf("%s: nothing is seen", what)
	}
}

// TestBytes flips bytes all over the file. Either that is seen, or the byte was one
// of those that nothing is said by, or of the few that are nowhere else: receipts
// that nothing signed is over, settings, revocations, the storage id.
func TestBytes(t *testing.T) {
	dir, public := copied(t)
	path := filepath.Join(dir, "parley.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := dump(t, dir)
	seen, idle := 0, 0
	for at := 97; at < len(whole); at += len(whole) / 400 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x55
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := store.Read(dir)
		if err != nil {
			seen++
			continue
		}
		report, err := inspect.Run(t.Context(), r, inspect.Options{Public: &public})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		switch {
		case err != nil || !report.Sound:
			seen++
		case dump(t, dir) != want:
			t.Errorf("byte %d: what is stored is another, and nothing is seen", at)
		default:
			idle++
		}
	}
	t.Logf("%d flipped bytes are seen, %d say nothing", seen, idle)
}

func TestEmptyFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "parley.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustName(t, look(t, dir, inspect.Options{}), []string{"the database: there is nothing in it, not even a schema"})
}

func TestGivesUp(t *testing.T) {
	dir, _ := copied(t)
	r, err := store.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := inspect.Run(ctx, r, inspect.Options{Progress: func(done, _, _ int) {
		if done == 1 {
			cancel()
		}
	}}); !errors.Is(err, context.Canceled) {
		t.Errorf("told %v", err)
	}
	if _, err := inspect.Run(ctx, r, inspect.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("told %v", err)
	}
}

func TestOlder(t *testing.T) {
	dir, _ := copied(t)
	mustShell(t, dir, "DROP TABLE pack; PRAGMA user_version = 7")
	r, err := store.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var older *store.OlderError
	if _, err := inspect.Run(t.Context(), r, inspect.Options{}); !errors.As(err, &older) || !strings.Contains(err.Error(), "parley serve brings a store up to date") {
		t.Errorf("told %v", err)
	}
}
