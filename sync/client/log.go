package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// The log of a replica is one file: a line that says what it is, and records,
// appended. A record is the length of its content (32 bits, little endian), the
// CRC-32C of kind and content (likewise), one byte of kind, and the content.
const (
	logName    = "log"
	logMagic   = "parley replica 1\n"
	cutName    = "log.cut" // what was last cut off the end
	recordHead = 4 + 4 + 1
	maxRecord  = 64 << 20

	fileMode   = 0o600
	folderMode = 0o700
)

// recordKind says what a record holds.
type recordKind byte

const (
	recordOwner  recordKind = 1 // the first: whose replica this is
	recordChange recordKind = 2 // one change, checked; after all that it depends on
	recordServer recordKind = 3 // heads that the server has, one after the other; the last such record counts
	recordActor  recordKind = 4 // an actor that is ours, before its first change
)

type record struct {
	kind    recordKind
	content []byte
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(dst []byte, r record) []byte {
	begin := len(dst)
	dst = append(dst, make([]byte, 8)...)
	dst = append(append(dst, byte(r.kind)), r.content...)
	binary.LittleEndian.PutUint32(dst[begin:], uint32(len(r.content)))
	binary.LittleEndian.PutUint32(dst[begin+4:], crc32.Checksum(dst[begin+8:], crcTable))
	return dst
}

// parseRecords returns the whole records at the beginning of b, whose contents
// are parts of it, and how many bytes they take.
func parseRecords(b []byte) (rs []record, whole int) {
	for {
		rest := b[whole:]
		if len(rest) < recordHead {
			return rs, whole
		}
		n := binary.LittleEndian.Uint32(rest)
		if n > maxRecord || int(n) > len(rest)-recordHead {
			return rs, whole
		}
		end := recordHead + int(n)
		if crc32.Checksum(rest[8:end], crcTable) != binary.LittleEndian.Uint32(rest[4:]) {
			return rs, whole
		}
		rs = append(rs, record{kind: recordKind(rest[8]), content: rest[recordHead:end:end]})
		whole += end
	}
}

// logFile appends records to a replica's log.
type logFile struct {
	dir  string
	file *os.File
	sync func(*os.File) error // fsync, but for tests
	size int64                // of the whole records
	// suspect: a write or fsync failed. What the file holds beyond the records
	// that were reported written is unknown, and so is whether another fsync
	// would tell the truth: the next write makes the file anew.
	suspect bool
}

// openLog opens or makes the log in dir and returns its records. What follows
// the last whole record was being written when the process ended, and nobody
// was told of it: it is cut off, and kept beside the log until the next time.
func openLog(dir string) (*logFile, []record, int, error) {
	f, err := os.OpenFile(filepath.Join(dir, logName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("open the replica: %w", err)
	}
	l := &logFile{dir: dir, file: f, sync: (*os.File).Sync}
	records, cut, err := l.read()
	if err != nil {
		return nil, nil, 0, errors.Join(fmt.Errorf("read the replica %s: %w", f.Name(), err), f.Close())
	}
	return l, records, cut, nil
}

func (l *logFile) read() ([]record, int, error) {
	b, err := os.ReadFile(l.file.Name())
	if err != nil {
		return nil, 0, err
	}
	body, ok := bytes.CutPrefix(b, []byte(logMagic))
	if !ok && !bytes.HasPrefix([]byte(logMagic), b) {
		return nil, 0, errors.New("this is no replica of a transaction, or one of a later version")
	}
	if !ok { // new, or torn in its first line
		return nil, len(b), l.rewrite(nil)
	}
	records, whole := parseRecords(body)
	l.size = int64(len(logMagic) + whole)
	tail := body[whole:]
	if len(tail) == 0 {
		return records, 0, nil
	}
	if err := os.WriteFile(filepath.Join(l.dir, cutName), tail, fileMode); err != nil {
		return nil, 0, fmt.Errorf("keep what is cut off: %w", err)
	}
	if err := l.file.Truncate(l.size); err != nil {
		return nil, 0, err
	}
	return records, len(tail), l.file.Sync()
}

// write appends records. With sync, they are on disk when it returns nil. When
// it fails, none of them counts as written.
func (l *logFile) write(rs []record, sync bool) error {
	var b []byte
	for _, r := range rs {
		b = appendRecord(b, r)
	}
	if _, err := l.file.WriteAt(b, l.size); err != nil {
		l.suspect = true
		return fmt.Errorf("write the replica: %w", err)
	}
	if sync {
		if err := l.sync(l.file); err != nil {
			l.suspect = true
			return fmt.Errorf("write the replica: %w", err)
		}
	}
	l.size += int64(len(b))
	return nil
}

// rewrite replaces the log by one of these records alone, on disk when it
// returns nil; after a failure the old one stands.
func (l *logFile) rewrite(rs []record) error {
	b := []byte(logMagic)
	for _, r := range rs {
		b = appendRecord(b, r)
	}
	f, err := l.writeAnew(filepath.Join(l.dir, logName), b)
	if err != nil {
		return fmt.Errorf("rewrite the replica: %w", err)
	}
	_ = l.file.Close() // unlinked: nothing in it counts any more
	l.file, l.size, l.suspect = f, int64(len(b)), false
	return nil
}

// writeAnew puts a new file in the place of path, whole or not at all.
func (l *logFile) writeAnew(path string, b []byte) (*os.File, error) {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	if err == nil {
		err = l.sync(f)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (l *logFile) close() error { return l.file.Close() }
