package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// The write-ahead log that SQLite keeps beside the database, as it is in the file:
// sqlite.org/fileformat2.html, "The Write-Ahead Log".
const (
	walMagic       = 0x377f0682 // of sums over numbers with the lowest byte first, as most machines write them; +1: last
	walHeaderSize  = 32
	walFrameHeader = 24

	databaseHeaderSize = 100
)

// checkLog reports damage in a log that a killed server has left. SQLite reads such a
// log up to the damage: what was committed after it would be gone without a word.
//
// A commit is not begun before the one before it was synced. A broken frame with the
// rest of one commit behind it may be of a commit that was never acknowledged, because
// the power went while it was written; with two behind it, the first of them was
// acknowledged. A log that was cut, or is gone, cannot be told from one that was shorter.
func checkLog(database string) error {
	page, err := readPageSize(database)
	if err != nil || page == 0 {
		return err
	}
	path := database + "-wal"
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lost, err := lostCommits(bufio.NewReaderSize(f, 1<<20), page)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	case lost > 0:
		return &UnreadableError{
			Doing: "read the log " + path,
			Err:   fmt.Errorf("it is damaged, and at least %d commits that stand after that would be lost", lost),
		}
	}
	return nil
}

// readPageSize returns what the database's header says, 0 if it says nothing.
func readPageSize(database string) (int, error) {
	f, err := os.Open(database)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	header := make([]byte, databaseHeaderSize)
	if _, err := io.ReadFull(f, header); err != nil {
		return 0, past(err)
	}
	size := int(binary.BigEndian.Uint16(header[16:]))
	if size == 1 {
		size = 1 << 16
	}
	if size < 512 || size&(size-1) != 0 {
		return 0, nil
	}
	return size, nil
}

// past makes nothing of a file's end.
func past(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// lostCommits returns how many acknowledged commits stand behind damage in a log of a
// database with such pages, as far as that can be told.
func lostCommits(r io.Reader, page int) (lost int, err error) {
	header := make([]byte, walHeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, past(err)
	}
	magic := binary.BigEndian.Uint32(header)
	head := walSum{bigEndian: magic == walMagic+1}
	head.add(header[:24])
	if magic&^1 == walMagic && int(binary.BigEndian.Uint32(header[8:])) == page && head.isAt(header[24:]) {
		walk := walWalk{sum: head, salt: string(header[16:24]), good: true, unsynced: 1}
		err = eachFrame(r, page, walk.step)
		return walk.lost, err
	}
	// Of the header nothing is known, not even how sums are made. No commit in the log
	// is one of which it was not written yet.
	little, big := walWalk{}, walWalk{sum: walSum{bigEndian: true}}
	err = eachFrame(r, page, func(frame []byte) {
		little.step(frame)
		big.step(frame)
	})
	return max(little.lost, big.lost), err
}

func eachFrame(r io.Reader, page int, do func(frame []byte)) error {
	frame := make([]byte, walFrameHeader+page)
	for {
		if _, err := io.ReadFull(r, frame); err != nil {
			return past(err)
		}
		do(frame)
	}
}

// walWalk goes through the frames of a log.
type walWalk struct {
	sum      walSum
	salt     string // of this log's frames; "": that of the first
	good     bool   // all until now
	unsynced int    // commits at the end that may never have been acknowledged
	commits  int    // one after the other behind the damage
	lost     int
}

func (w *walWalk) step(frame []byte) {
	if w.salt == "" {
		w.salt = string(frame[8:16])
	}
	w.sum.add(frame[:8])
	w.sum.add(frame[walFrameHeader:])
	// Whether it follows the one before it, whatever that is worth.
	follows := w.sum.isAt(frame[16:24]) && string(frame[8:16]) == w.salt
	w.sum.set(frame[16:24])
	switch {
	case w.good:
		w.good = follows
	case !follows:
		w.commits = 0
	case binary.BigEndian.Uint32(frame[4:]) > 0:
		w.commits++
		w.lost = max(w.lost, w.commits-w.unsynced)
	}
}

// walSum is the sum that each frame carries of all before it and of itself.
type walSum struct {
	bigEndian bool
	a, b      uint32
}

func (s *walSum) add(p []byte) {
	var order binary.ByteOrder = binary.LittleEndian
	if s.bigEndian {
		order = binary.BigEndian
	}
	for ; len(p) >= 8; p = p[8:] {
		s.a += order.Uint32(p) + s.b
		s.b += order.Uint32(p[4:]) + s.a
	}
}

func (s *walSum) isAt(p []byte) bool {
	return binary.BigEndian.Uint32(p) == s.a && binary.BigEndian.Uint32(p[4:]) == s.b
}

func (s *walSum) set(p []byte) {
	s.a, s.b = binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
}
