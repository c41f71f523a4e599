package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"parley/crdt"
)

// Verify finds out whether a record is what the holder of a key signed, and
// whether all that it says follows from the changes in it. It trusts nothing but
// the key. The error says in a sentence what does not hold; otherwise the
// findings say what was proved and what cannot be. Progress is told of every
// change, of how many; nil: nobody asks.
func Verify(record []byte, public Public, progress func(done, total int)) (*Findings, error) {
	fs, err := unpack(record)
	if err != nil {
		return nil, err
	}
	statement, err := openStatement(fs, public)
	if err != nil {
		return nil, err
	}
	claimed, err := readRecordJSON(fs[fileRecord])
	if err != nil {
		return nil, err
	}
	if origin := public.Origin(claimed.Transaction.Document()); statement.Origin != origin {
		return nil, fmt.Errorf("%s is of the log %q, and %s of %q", fileStatement, statement.Origin, fileRecord, origin)
	}
	if claimed.Changes, err = splitChunks(fs[fileDocument]); err != nil {
		return nil, err
	}
	if claimed.Receipts, err = readReceipts(fs[fileReceipts]); err != nil {
		return nil, err
	}
	a, err := check(claimed, public, progress)
	if err != nil {
		return nil, err
	}
	if err := a.compare(fs, statement); err != nil {
		return nil, err
	}
	return a.findings(), nil
}

// openStatement checks the signature, and the hash of each file that it is over.
// Which log it is of, it says itself.
func openStatement(fs files, public Public) (Checkpoint, error) {
	doc, err := documentOf(fs[fileStatement], public)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%s: %w", fileStatement, err)
	}
	c, err := public.Open(doc, string(fs[fileStatement]))
	if err != nil {
		return c, fmt.Errorf("%s: %w", fileStatement, err)
	}
	sums := make(map[string]string)
	for _, s := range c.Says {
		if name, sum, ok := strings.Cut(s.Text, " "); ok && s.Word == wordFile {
			sums[name] = sum
		}
	}
	for _, name := range fileNames {
		if name == fileStatement {
			continue
		}
		switch sum, signed := sums[name]; {
		case !signed:
			return c, fmt.Errorf("%s: it does not say what %s holds", fileStatement, name)
		case sum != sumText(fs[name]):
			return c, fmt.Errorf("%s is not the file that was signed: its SHA-256 is %s, and the signature is over %s", name, sumText(fs[name]), sum)
		}
	}
	return c, nil
}

// documentOf reads off the first line of a statement, the origin, which document
// it is about.
func documentOf(statement []byte, public Public) (crdt.DocumentID, error) {
	origin, _, _ := strings.Cut(string(statement), "\n")
	name, id, _ := strings.Cut(origin, "/")
	if prefix := public.Name + "/"; strings.HasPrefix(origin, prefix) {
		name, id = public.Name, origin[len(prefix):]
	}
	if name != public.Name {
		return crdt.DocumentID{}, fmt.Errorf("it is by %q, and the key is that of %q", name, public.Name)
	}
	doc, err := crdt.ParseDocumentID(id)
	if err != nil {
		return doc, fmt.Errorf("its first line: %w", err)
	}
	return doc, nil
}

// splitChunks cuts document.automerge into the changes that stand in it one
// after the other. Whether they are changes is not asked here.
func splitChunks(document []byte) ([][]byte, error) {
	const lengthAt = 9 // after magic, checksum and type
	var chunks [][]byte
	for at := 0; at < len(document); {
		rest := document[at:]
		if len(rest) <= lengthAt {
			return nil, fmt.Errorf("%s: it ends within the change at byte %d", fileDocument, at)
		}
		length, n := binary.Uvarint(rest[lengthAt:])
		if n <= 0 || length > uint64(len(rest)-lengthAt-n) {
			return nil, fmt.Errorf("%s: the change at byte %d is longer than the file", fileDocument, at)
		}
		size := lengthAt + n + int(length)
		chunks = append(chunks, rest[:size:size])
		at += size
	}
	return chunks, nil
}

func readReceipts(text []byte) ([]Receipt, error) {
	var all []Receipt
	for i := 0; len(text) > 0; i++ {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		if !ended {
			return nil, fmt.Errorf("%s: its last line does not end", fileReceipts)
		}
		receipt, err := ParseReceipt(line)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", fileReceipts, i+1, err)
		}
		all = append(all, receipt)
		text = rest
	}
	return all, nil
}

// compare makes all files again from what was checked, and holds them against
// those that are there.
func (a *account) compare(fs files, statement Checkpoint) error {
	if statement.Size != a.log.Size() {
		return fmt.Errorf("%s: the log has %d receipts there, and %d in %s", fileStatement, statement.Size, a.log.Size(), fileReceipts)
	}
	if statement.Root != a.root {
		return fmt.Errorf("%s: the root of the receipts is %s there, and that of %s is %s", fileStatement, statement.Root, fileReceipts, a.root)
	}
	for _, name := range []string{fileDocument, fileReceipts, fileRecord, fileChanges, fileReport} {
		again, err := a.file(name)
		if err != nil {
			return err
		}
		if !bytes.Equal(fs[name], again) {
			return differenceIn(name, fs[name], again)
		}
	}
	if got, want := statement.Text(), a.statement(fs).Text(); got != want {
		line, theirs, ours := differingLine(got, want)
		return fmt.Errorf("%s: line %d is %q, and should be %q", fileStatement, line, theirs, ours)
	}
	return nil
}

// differenceIn says in which line a file is not what the changes say.
func differenceIn(name string, got, want []byte) error {
	if name == fileDocument {
		return errors.New(name + ": it holds more than its changes") // which it was cut into
	}
	at := firstDifference(got, want)
	line := 1 + bytes.Count(got[:at], []byte("\n"))
	return fmt.Errorf("%s does not say what the changes say, from line %d on: %s there, and it should be %s", name, line, around(got, at), around(want, at))
}

// around quotes what stands in a text from a little before a place.
func around(text []byte, at int) string {
	const before, behind = 24, 40
	begin := max(0, at-before, 1+bytes.LastIndexByte(text[:at], '\n'))
	end := min(len(text), at+behind)
	if i := bytes.IndexByte(text[at:end], '\n'); i >= 0 {
		end = at + i
	}
	return fmt.Sprintf("%q", text[begin:end])
}
