package audit

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The files of a record, in the order in which they stand in it.
const (
	fileDocument  = "document.automerge"
	fileChanges   = "changes.jsonl"
	fileReceipts  = "receipts.jsonl"
	fileRecord    = "record.json"
	fileReport    = "report.html"
	fileStatement = "statement.note"
)

var fileNames = []string{fileDocument, fileChanges, fileReceipts, fileRecord, fileReport, fileStatement}

// files are the contents of a record's files, by name.
type files map[string][]byte

// The zip is one of the many that could hold the same files: nothing is
// compressed, nothing follows a file's bytes, and all times are the first that
// zip has.
const (
	zipVersion      = 20
	zipEpoch        = 1<<5 | 1 // 1 January 1980 in MS-DOS form
	localHeaderLen  = 30
	localHeaderMark = 0x04034b50
)

// pack returns the record that holds these files.
func pack(fs files) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(fs.size())
	w := zip.NewWriter(&out)
	for _, name := range fileNames {
		content := fs[name]
		h := zip.FileHeader{
			Name: name, Method: zip.Store, CreatorVersion: zipVersion, ReaderVersion: zipVersion,
			CRC32: crc32.ChecksumIEEE(content), CompressedSize64: uint64(len(content)), UncompressedSize64: uint64(len(content)),
		}
		h.ModifiedDate = zipEpoch //lint:ignore SA1019 raw headers have no other date
		part, err := w.CreateRaw(&h)
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack the record: %w", err)
	}
	if out.Len() > math.MaxUint32 {
		return nil, errors.New("pack the record: it would be larger than 4 GiB")
	}
	return out.Bytes(), nil
}

// size is about that of the record.
func (fs files) size() int {
	n := 1 << 10
	for _, content := range fs {
		n += len(content)
	}
	return n
}

// unpack returns the files of a record. It takes exactly what pack writes: it
// reads no more of the zip than the sizes of the files, makes the zip again, and
// compares. The files are parts of the record.
func unpack(record []byte) (files, error) {
	if len(record) == 0 {
		return nil, errors.New("it is empty")
	}
	fs := make(files, len(fileNames))
	at := 0
	for _, name := range fileNames {
		content, err := localFile(record[at:], name)
		if err != nil {
			return nil, fmt.Errorf("at byte %d of the record: %w", at, err)
		}
		fs[name] = content
		at += localHeaderLen + len(name) + len(content)
	}
	again, err := pack(fs)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, record) {
		return nil, fmt.Errorf("the zip is not laid out as records are: it differs from byte %d on (%d bytes, want %d); if it was unpacked and packed again, verify the file as it was exported", firstDifference(again, record), len(record), len(again))
	}
	return fs, nil
}

// localFile returns the content of the file that rest begins with.
func localFile(rest []byte, name string) ([]byte, error) {
	begin := localHeaderLen + len(name)
	if len(rest) < begin {
		return nil, fmt.Errorf("it ends where %s should begin", name)
	}
	if binary.LittleEndian.Uint32(rest) != localHeaderMark || string(rest[localHeaderLen:begin]) != name {
		return nil, fmt.Errorf("%s does not begin here", name)
	}
	const crcAt, sizeAt = 14, 18
	n := binary.LittleEndian.Uint32(rest[sizeAt:])
	if uint64(n) > uint64(len(rest)-begin) {
		return nil, fmt.Errorf("it ends within %s", name)
	}
	content := rest[begin : begin+int(n)]
	if binary.LittleEndian.Uint32(rest[crcAt:]) != crc32.ChecksumIEEE(content) {
		return nil, fmt.Errorf("%s is damaged, or was altered: it is not what its checksum (CRC-32) is of", name)
	}
	return content, nil
}

// firstDifference returns how many bytes a and b have in common at the
// beginning.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
