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
	fs := make(files, len(fileNames))
	for _, name := range fileNames {
		if name == fileStatement {
			continue
		}
		content, err := a.file(name)
		if err != nil {
			return nil, err
		}
		fs[name] = content
	}
	return fs, nil
}

// file makes one of them.
func (a *account) file(name string) ([]byte, error) {
	switch name {
	case fileDocument:
		return bytes.Join(a.src.Changes, nil), nil
	case fileChanges:
		return a.changesJSONL(), nil
	case fileReceipts:
		return a.receiptsJSONL(), nil
	case fileRecord:
		return a.recordJSON(), nil
	case fileReport:
		return a.report()
	}
	panic("audit: no file of a record's: " + name)
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
