package audit

import (
	"bytes"
	"testing"
)

// FuzzVerify takes any bytes for a record: as they are, and, if they hold the
// files of one, signed by the real key. Nothing panics, and what verifies is
// written as records are.
func FuzzVerify(f *testing.F) {
	for _, s := range []*scene{small(f), sale(f), open(f)} {
		f.Add(s.record())
	}
	key := testKey(f, 1)
	f.Fuzz(func(t *testing.T, record []byte) {
		tryVerify(t, key, record)
		if fs, err := unpack(record); err == nil {
			tryVerify(t, key, resign(t, fs, key))
		}
	})
}

// FuzzVerifyContent takes any files, in a proper zip and signed by the real key.
func FuzzVerifyContent(f *testing.F) {
	for _, s := range []*scene{small(f), sale(f), open(f)} {
		fs, err := unpack(s.record())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fs[fileDocument], fs[fileChanges], fs[fileReceipts], fs[fileRecord], fs[fileReport])
	}
	key := testKey(f, 1)
	f.Fuzz(func(t *testing.T, document, changes, receipts, record, report []byte) {
		fs := files{fileDocument: document, fileChanges: changes, fileReceipts: receipts, fileRecord: record, fileReport: report}
		tryVerify(t, key, resign(t, fs, key))
	})
}

func tryVerify(t *testing.T, key *Key, record []byte) {
	findings, err := Verify(record, key.Public(), nil)
	if (findings == nil) == (err == nil) {
		t.Fatalf("%+v and %v", findings, err)
	}
	if err != nil {
		return
	}
	fs, err := unpack(record)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustPack(t, fs), record) {
		t.Fatal("it verifies and is not written as records are")
	}
}
