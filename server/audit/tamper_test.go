package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
)

// small is a record with an agreement in it, a few changes long.
func small(t testing.TB) *scene {
	s := newScene(t, "small")
	s.define(map[string]transaction.Field{"f": {Label: "F", Required: true}})
	s.pick("alice", "f", "1", "")
	s.agree("alice", "bob")
	s.pick("bob", "f", "2", "")
	return s
}

// refuses checks that a record which was tampered with does not verify.
func refuses(t *testing.T, key *Key, what string, record []byte) {
	t.Helper()
	if _, err := Verify(record, key.Public(), nil); err == nil {
		t.Errorf("%s: nobody notices", what)
	} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 2000 {
		t.Errorf("%s: it is not said in a sentence: %v", what, err)
	}
}

// mustPack packs files as they are.
func mustPack(t testing.TB, fs files) []byte {
	t.Helper()
	record, err := pack(fs)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// resign signs files with a key as if they were honest: with the root of the
// receipts and the hashes of the files as they are.
func resign(t testing.TB, fs files, key *Key) []byte {
	t.Helper()
	var log Log
	for line := range bytes.Lines(fs[fileReceipts]) {
		log.Append(bytes.TrimSuffix(line, []byte("\n")))
	}
	root, err := log.Root(log.Size())
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public()
	statement := Checkpoint{Origin: public.Origin(transaction.ID("small").Document()), Size: log.Size(), Root: root}
	if claimed, err := readRecordJSON(fs[fileRecord]); err == nil {
		a := &account{src: claimed, doc: claimed.Transaction.Document(), public: public, log: log, root: root, heads: claimed.Heads}
		statement = a.statement(fs)
	} else {
		statement.Says = (&account{public: public}).statement(fs).Says
	}
	signed, err := key.Sign(statement)
	if err != nil {
		t.Fatal(err)
	}
	again := files{}
	for name, content := range fs {
		again[name] = content
	}
	again[fileStatement] = []byte(signed)
	return mustPack(t, again)
}

// with returns the files, one of them replaced.
func (fs files) with(name string, content []byte) files {
	again := files{}
	for n, c := range fs {
		again[n] = c
	}
	again[name] = content
	return again
}

// eachDamage calls f with a content of which a bit is flipped, for every step-th
// byte from one of the first on, and, at every rarer-th of these places, with one
// of which the byte is dropped, and one that is cut off there. If PARLEY_RUNS is
// set, it passes over nothing.
func eachDamage(content []byte, step, rarer int, f func(what string, damaged []byte)) {
	if os.Getenv("PARLEY_RUNS") != "" {
		step, rarer = 1, 1
	}
	for i := rand.IntN(step); i < len(content); i += step {
		damaged := bytes.Clone(content)
		damaged[i] ^= 1 << (i % 8)
		f(fmt.Sprintf("byte %d flipped", i), damaged)
		if i/step%rarer == 0 {
			f(fmt.Sprintf("byte %d dropped", i), slices.Delete(bytes.Clone(content), i, i+1))
			f(fmt.Sprintf("cut at %d", i), content[:i])
		}
	}
}

// TestTamperedZip damages the file as a whole.
func TestTamperedZip(t *testing.T) {
	s := small(t)
	record := s.record()
	eachDamage(record, 1, 4, func(what string, damaged []byte) { refuses(t, s.key, what, damaged) })
	for what, bad := range map[string][]byte{
		"nothing": {}, "more behind": append(bytes.Clone(record), 0), "twice": slices.Concat(record, record), "before": append([]byte{0}, record...),
	} {
		refuses(t, s.key, what, bad)
	}
}

// TestTamperedFiles damages each file, in a zip as it should be.
func TestTamperedFiles(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	for _, name := range fileNames {
		step := 1
		if name == fileReport {
			step = 23 // most of it is the template
		}
		eachDamage(fs[name], step, 8, func(what string, damaged []byte) {
			refuses(t, s.key, name+": "+what, mustPack(t, fs.with(name, damaged)))
		})
		refuses(t, s.key, name+": twice", mustPack(t, fs.with(name, slices.Concat(fs[name], fs[name]))))
	}
}

// TestEveryBitOfTheStatement: of what the signature is over, and of itself, no
// other form is taken.
func TestEveryBitOfTheStatement(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	for i := range fs[fileStatement] {
		for bit := range 8 {
			damaged := bytes.Clone(fs[fileStatement])
			damaged[i] ^= 1 << bit
			refuses(t, s.key, fmt.Sprintf("bit %d of byte %d flipped", bit, i), mustPack(t, fs.with(fileStatement, damaged)))
		}
	}
}

// TestTamperedAndSignedAgain damages each file, and the holder of the real key
// signs that.
func TestTamperedAndSignedAgain(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	for _, name := range fileNames {
		step := 5
		switch name {
		case fileStatement:
			continue
		case fileReport:
			step = 101 // most of it is the template
		}
		eachDamage(fs[name], step, 16, func(what string, damaged []byte) {
			refuses(t, s.key, "signed again, "+name+": "+what, resign(t, fs.with(name, damaged), s.key))
		})
	}
	if _, err := Verify(resign(t, fs, s.key), s.key.Public(), nil); err != nil {
		t.Errorf("what is as it was does not verify: %v", err)
	}
}

// TestLines reorders, drops and repeats lines, and signs that or does not.
func TestLines(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	for _, name := range []string{fileChanges, fileReceipts, fileRecord, fileReport, fileStatement} {
		lines := slices.Collect(bytes.Lines(fs[name]))
		try := func(what string, lines [][]byte) {
			bad := fs.with(name, slices.Concat(lines...))
			if bytes.Equal(bad[name], fs[name]) {
				return // two lines that are alike
			}
			refuses(t, s.key, name+": "+what, mustPack(t, bad))
			if name != fileStatement {
				refuses(t, s.key, "signed again, "+name+": "+what, resign(t, bad, s.key))
			}
		}
		for i := range lines {
			try(fmt.Sprintf("line %d dropped", i), slices.Delete(slices.Clone(lines), i, i+1))
			try(fmt.Sprintf("line %d twice", i), slices.Insert(slices.Clone(lines), i, lines[i]))
			if i > 0 {
				swapped := slices.Clone(lines)
				swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
				try(fmt.Sprintf("lines %d and %d swapped", i-1, i), swapped)
			}
		}
	}
}

// TestFilesOfAnother puts files of another record in, of another transaction and
// of an earlier state of the same one.
func TestFilesOfAnother(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	other, _ := verified(t, sale(t))
	s.src.Heads = []crdt.Hash{s.src.Receipts[2].Change}
	earlier, _ := verified(t, s)
	for _, theirs := range []files{other, earlier} {
		for mask := 1; mask < 1<<len(fileNames)-1; mask++ {
			mixed := files{}
			for i, name := range fileNames {
				mixed[name] = fs[name]
				if mask>>i&1 == 1 {
					mixed[name] = theirs[name]
				}
			}
			refuses(t, s.key, fmt.Sprintf("files %06b of another", mask), mustPack(t, mixed))
			if mask < 1<<(len(fileNames)-1)-1 { // not all of them but the statement
				refuses(t, s.key, fmt.Sprintf("signed again, files %06b of another", mask), resign(t, mixed, s.key))
			}
		}
	}
}

// TestAnotherKey signs with a key of the same name.
func TestAnotherKey(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	mallory := testKey(t, 2)
	record := resign(t, fs, mallory)
	_, err := Verify(record, s.key.Public(), nil)
	if err == nil || !strings.Contains(err.Error(), "the signature is not by this key") {
		t.Errorf("%v", err)
	}
	// Its agreement has still the real key's signature.
	if _, err := Verify(record, mallory.Public(), nil); err == nil || !strings.Contains(err.Error(), "resolution 1: its checkpoint") {
		t.Errorf("%v", err)
	}
	other, err := NewKey(rand.NewChaCha8([32]byte{1}), "another-name")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(s.record(), other.Public(), nil); err == nil || !strings.Contains(err.Error(), `by "parley-test"`) {
		t.Errorf("%v", err)
	}
}

// TestLargeRecord samples damage of one that is large.
func TestLargeRecord(t *testing.T) {
	s := long(t, 300)
	record := s.record()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		i := rnd.IntN(len(record))
		damaged := bytes.Clone(record)
		damaged[i] ^= 1 << rnd.IntN(8)
		refuses(t, s.key, fmt.Sprintf("byte %d flipped", i), damaged)
		refuses(t, s.key, fmt.Sprintf("cut at %d", i), record[:i])
	}
	fs, err := unpack(record)
	s.must(err)
	for range 2 {
		for _, name := range fileNames[:len(fileNames)-1] {
			i := rnd.IntN(len(fs[name]))
			damaged := bytes.Clone(fs[name])
			damaged[i] ^= 1 << rnd.IntN(8)
			refuses(t, s.key, fmt.Sprintf("signed again, %s: byte %d flipped", name, i), resign(t, fs.with(name, damaged), s.key))
		}
	}
}

// long is a transaction of so many changes, by four people, who now and then do
// not know of each other, and agree now and then.
func long(t testing.TB, changes int) *scene {
	s := newScene(t, "long")
	fields := map[string]transaction.Field{}
	for i := range 40 {
		fields[fmt.Sprintf("field-%02d", i)] = transaction.Field{Label: fmt.Sprintf("Field %d", i), Options: map[string]transaction.Option{
			"a": {Value: []byte("100"), Source: "seller.pdf"}, "b": {Value: []byte("120"), Source: "buyer.pdf"},
		}}
	}
	s.define(fields)
	users := []string{"alice", "bob", "carol", "dave"}
	rnd := rand.New(rand.NewPCG(7, 7))
	pick := func() func(*transaction.Edit) error {
		return picks(fmt.Sprintf("field-%02d", rnd.IntN(40)), fmt.Sprint(100+20*rnd.IntN(2)), []string{"a", "b", ""}[rnd.IntN(3)])
	}
	var behind *transaction.State // a replica that was not online since
	for len(s.src.Changes) < changes {
		user := users[rnd.IntN(3)]
		switch {
		case behind == nil && len(s.src.Changes)%1000 == 500:
			behind = s.replica()
		case behind != nil && rnd.IntN(4) == 0:
			s.arrive("dave", s.make(behind, "dave", pick()))
			if rnd.IntN(10) == 0 {
				behind = nil
			}
		case len(s.state.Contested()) == 0 && rnd.IntN(200) == 0:
			if n := len(s.src.Resolutions); n == 0 || !s.src.Resolutions[n-1].Over(s.state.Heads()) {
				s.agree("alice", "bob")
			}
		default:
			s.edit(user, pick())
		}
	}
	return s
}
