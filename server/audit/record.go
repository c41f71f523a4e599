package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Write returns the record of a transaction, signed: one zip, the same bytes for
// the same source and key. FORMAT.md says what is in it. It fails on a source
// that [Verify] would not find whole: what does not hold is not signed.
func Write(src Source, key *Key) ([]byte, error) {
	src, err := src.cut()
	if err != nil {
		return nil, fmt.Errorf("write the record of %s: %w", src.Transaction, err)
	}
	a, err := check(src, key.Public(), nil)
	if err != nil {
		return nil, fmt.Errorf("write the record of %s: %w", src.Transaction, err)
	}
	fs, err := a.files()
	if err != nil {
		return nil, fmt.Errorf("write the record of %s: %w", src.Transaction, err)
	}
	signed, err := key.Sign(a.statement(fs))
	if err != nil {
		return nil, fmt.Errorf("write the record of %s: %w", src.Transaction, err)
	}
	fs[fileStatement] = []byte(signed)
	return pack(fs)
}

// files makes all files but the statement.
func (a *account) files() (files, error) {
	report, err := a.report()
	if err != nil {
		return nil, err
	}
	return files{
		fileDocument: bytes.Join(a.src.Changes, nil),
		fileChanges:  a.changesJSONL(),
		fileReceipts: a.receiptsJSONL(),
		fileRecord:   a.recordJSON(),
		fileReport:   report,
	}, nil
}

// statement is what the signature of a record is over.
func (a *account) statement(fs files) Checkpoint {
	c := Checkpoint{Origin: a.public.Origin(a.doc), Size: a.log.Size(), Root: a.root, Says: []Saying{
		{wordFormat, Format},
		{wordTransaction, string(a.src.Transaction)},
		{wordHeads, joined(a.heads)},
	}}
	for _, name := range fileNames {
		if name != fileStatement {
			c.Says = append(c.Says, Saying{wordFile, name + " " + sumText(fs[name])})
		}
	}
	return c
}

func sumText(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
