package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mattn/go-sqlite3"

	"parley/crdt"
)

var (
	// ErrOverloaded refuses a batch because [Options.MaxPending] bytes wait for
	// the disk. The sender should try again later.
	ErrOverloaded = errors.New("too much waits for the disk")
	// ErrClosed is what a batch gets that was not on disk when the store closed.
	ErrClosed = errors.New("the store is closed")
	// ErrChainBroken refuses a batch because an earlier one of its [Chain] failed.
	ErrChainBroken = errors.New("an earlier batch of this chain failed")
	// ErrUnknownDocument is returned for a snapshot of a document without changes.
	ErrUnknownDocument = errors.New("no change of this document is stored")
)

// LockedError says that another process uses the folder.
type LockedError struct {
	Dir string
	PID int // 0: unknown
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("data folder %s is in use by %s: stop it, or choose another folder with --data", e.Dir, who)
}

// NewerError says that a newer Parley has written the folder.
type NewerError struct {
	Dir         string
	Found, Know int // schema versions: of the folder, the newest this binary knows
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("data folder %s was written by a newer parley (its format is %d, this binary knows up to %d): run that version or a later one", e.Dir, e.Found, e.Know)
}

// ForeignError says that the database file is not one of ours, or is damaged
// beyond opening.
type ForeignError struct {
	Path string
	Err  error // what SQLite said, nil if it reads the file well
}

func (e *ForeignError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s is not a readable parley database (%v): restore it from a backup, or choose another folder with --data", e.Path, e.Err)
	}
	return fmt.Sprintf("%s is a database of another program: choose another folder with --data", e.Path)
}

func (e *ForeignError) Unwrap() error { return e.Err }

// BackupError says that what is in a store's place is a backup, which no server
// runs on.
type BackupError struct {
	Path    string
	version int // of its schema
}

func (e *BackupError) Error() string {
	return fmt.Sprintf("%s is a backup: put it in place with parley restore, which gives it a folder of its own", e.Path)
}

// NoBackupError says that a file is a database of ours, and no backup.
type NoBackupError struct{ Path string }

func (e *NoBackupError) Error() string {
	return fmt.Sprintf("%s is the database of a store and no backup: name the folder that it is in with --data, or make a backup of that with parley backup", e.Path)
}

// OlderError says that a store is read that an older Parley has written, and
// that was not opened by this one yet.
type OlderError struct {
	Path        string
	Found, Know int // schema versions, as in [NewerError]
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("%s was written by an older parley (its format is %d, this binary reads %d): parley serve brings a store up to date, parley restore a backup", e.Path, e.Found, e.Know)
}

// UnfinishedError says that a store was being restored into a folder, and that
// this did not come to its end.
type UnfinishedError struct{ Dir string }

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("data folder %s is half restored: run parley restore again, with the same --data", e.Dir)
}

// UnreadableError says that a part of a database file is damaged: SQLite finds no
// rows there.
type UnreadableError struct {
	Doing string // what needed it
	Err   error
}

func (e *UnreadableError) Error() string { return fmt.Sprintf("%s: %v", e.Doing, e.Err) }
func (e *UnreadableError) Unwrap() error { return e.Err }

// DamagedError says that a stored change is not what was stored.
type DamagedError struct {
	Document crdt.DocumentID
	N        int // commit position, from 1; 0 if it is the sequence that is broken
	Hash     crdt.Hash
}

func (e *DamagedError) Error() string {
	if e.N == 0 {
		return fmt.Sprintf("document %s is damaged on disk: changes are missing; restore it from a backup", e.Document)
	}
	return fmt.Sprintf("document %s is damaged on disk: change %d does not match its hash %s; restore it from a backup", e.Document, e.N, e.Hash)
}

// StalledError says that nothing can be committed just now. What waits is kept
// and tried again.
type StalledError struct {
	Reason error     // of the latest try
	Since  time.Time // of the first failure
}

func (e *StalledError) Error() string {
	return fmt.Sprintf("the store cannot commit since %s: %v", e.Since.UTC().Format(time.RFC3339), e.Reason)
}

func (e *StalledError) Unwrap() error { return e.Reason }

// mayPass lists the failures that have to do with the disk, the folder or the
// machine rather than with what is written (sqlite.org/rescode.html).
var mayPass = []sqlite3.ErrNo{
	sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm,
	sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrProtocol, sqlite3.ErrNomem,
}

// connectError is a failure to open the database. No batch is guilty of it.
type connectError struct{ err error }

func (e *connectError) Error() string { return "open the database: " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// transient reports whether trying again may help.
func transient(err error) bool {
	var connect *connectError
	if errors.As(err, &connect) {
		return true
	}
	var passing *passingError
	if errors.As(err, &passing) {
		return true
	}
	var e sqlite3.Error
	return errors.As(err, &e) && slices.Contains(mayPass, e.Code)
}
