package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"parley/crdt"
)

// databaseName is the database's file in the data folder; SQLite keeps two more
// beside it, -wal and -shm.
const databaseName = "parley.db"

// Options configure a store. The zero value is the default.
type Options struct {
	// MaxPending is how many bytes of changes may wait for the disk before
	// batches are refused; 64 MiB if zero. A batch that finds none waiting is
	// always taken.
	MaxPending int64
	// Readers is how many documents can be read at once; 4 if zero.
	Readers int
	// Logger hears of a stall and of its end; silent if nil.
	Logger *slog.Logger

	connect connector // nil: SQLite
}

func (o Options) withDefaults() Options {
	if o.MaxPending == 0 {
		o.MaxPending = 64 << 20
	}
	if o.Readers == 0 {
		o.Readers = 4
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.connect == nil {
		o.connect = openSQLite
	}
	return o
}

// Change is one change and the hash that names it.
type Change struct {
	Hash  crdt.Hash
	Chunk []byte // as received, checked; must not be altered until Done
	User  string // whose connection it came from; empty if nobody has a name
	Role  string // that the user had then
	At    int64  // when it came, in milliseconds since 1970
}

// Resolution is an agreement of the parties of a document.
type Resolution struct {
	Heads []crdt.Hash // what they agreed on; sorted
	Data  []byte      // means something to the caller only
}

// Batch is what is appended to one document, all or nothing.
type Batch struct {
	Document crdt.DocumentID
	// Base, if not nil, is what the batch was built on: it fails with [ErrBehind] if
	// the document is elsewhere by then. A store that no other process writes to does
	// not ask.
	Base *Version
	// Changes in the order they are to be kept in: each after those it depends
	// on. One that is stored already is passed over. With none the batch is a
	// barrier: Done is called when everything appended before it is settled.
	Changes []Change
	// Settings, if not nil, replace what the document's settings were: bytes
	// that mean something to the caller only.
	Settings []byte
	// Resolution, if not nil, is added to the document's, unless there is one over
	// the same heads.
	Resolution *Resolution
	// Relies is what the Resolution relies on, by other nodes: the numbers of what they
	// have published of the document. If it is not all that they have, the batch fails
	// with [ErrPresence]; also if this process's lease is not the one that had the number
	// Lease ([Store.Lease]). Nil: nobody asks. It is for a batch with a Base.
	Relies map[Node]uint64
	Lease  uint64
	// Revocation, if not nil, is added to the store's.
	Revocation *Revocation
	// Chain ties the batch to those appended before it: once one of a chain
	// fails, the later ones fail too. Nil: the batch stands alone.
	Chain *Chain
	// Done is called once: with nil when the changes are on disk, or with why
	// they never will be. It runs on the committer's goroutine, in the order of
	// Append for what is committed, and holds up every other commit: it must be
	// quick and must not wait for anything, nor call Close. May be nil. Batches of a
	// document with more changes than [DocumentShare] may be committed after later
	// ones of other documents.
	Done func(error)
}

// Chain is one life of a document in memory, from its load to the first failure.
// Without it a batch could be committed although one that it builds on was not,
// because the failure had not been noticed yet. The zero value is ready; after a
// failure load the document again and begin another.
type Chain struct {
	failed error // guarded by the store's queue
}

// Store is an open data folder, or an open [Backend]. Its methods may be called by
// any goroutine.
type Store struct {
	dir       string // "": over a backend
	storageID string
	opt       Options
	lock      *folderLock
	readers   *readers
	backend   Backend // nil: SQLite in dir
	queue     *queue
	committer *committer

	closing  sync.Once
	closeErr error
}

// Open opens the folder, and makes it if it is missing. The folder then belongs to
// this process: Open fails with a [*LockedError] if another has it, with a
// [*NewerError] if a newer Parley wrote it, with a [*ForeignError] if the
// database is damaged or somebody else's, with a [*BackupError] if it is a backup,
// and with an [*UnfinishedError] where a backup was being restored.
func Open(dir string, opt Options) (_ *Store, err error) {
	opt = opt.withDefaults()
	if unfinished(dir) {
		return nil, &UnfinishedError{Dir: dir}
	}
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, opt: opt, lock: lock}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

func (s *Store) open() error {
	path := filepath.Join(s.dir, databaseName)
	if err := errors.Join(mayWrite(path), checkLog(path)); err != nil {
		return fmt.Errorf("data folder %s: %w", s.dir, err)
	}
	version, err := s.identify(path)
	if err != nil {
		return err
	}
	w := &writer{connect: s.opt.connect, dsn: dsn(path, writerParams)}
	if err := w.ready(); err != nil {
		return fmt.Errorf("data folder %s: %w", s.dir, err)
	}
	if s.storageID, err = s.prepare(w.conn, version); err != nil {
		return errors.Join(fmt.Errorf("data folder %s: %w", s.dir, err), w.close())
	}
	if s.readers, err = openReaders(s.opt.connect, dsn(path, readerParams), s.opt.Readers); err != nil {
		return errors.Join(fmt.Errorf("data folder %s: %w", s.dir, err), w.close())
	}
	s.queue = newQueue(s.opt.MaxPending)
	s.committer = startCommitter(s.queue, w, s.opt.Logger)
	return nil
}

// makeFolder makes dir and the database's file, for this user alone, and waits
// until their names are on disk.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// SQLite gives the files that it makes beside it the same permissions.
	f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncFolder(dir), syncFolder(filepath.Dir(filepath.Clean(dir))))
}

// mayWrite reports why the database, or what SQLite keeps beside it, cannot be
// written: SQLite itself says so at the first commit.
func mayWrite(database string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		f, err := os.OpenFile(database+suffix, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// identify looks at the file through a connection that sets nothing, because
// write-ahead logging is written into the file's header.
func (s *Store) identify(path string) (int, error) {
	c, err := s.opt.connect.open(dsn(path, url.Values{}))
	if err != nil {
		return 0, unreadable(path, err)
	}
	version, err := identify(c, s.dir, path)
	return version, errors.Join(err, c.Close())
}

func (s *Store) prepare(c *conn, version int) (storage string, err error) {
	if v, err := c.one("PRAGMA journal_mode"); err != nil {
		return "", err
	} else if len(v) != 1 || v[0] != "wal" {
		return "", fmt.Errorf("its file system cannot share memory between readers and a writer (journal mode %v): choose a folder on a local disk with --data", v)
	}
	if err := migrate(c, version); err != nil {
		return "", err
	}
	switch lost, err := c.one(sqlUnfound); {
	case err != nil:
		return "", err
	case lost != nil:
		return "", &UnreadableError{Doing: "look for documents", Err: errors.New("their index is damaged")}
	}
	storage, err = storageID(c)
	if err == nil && version == 0 {
		// So that the store is the same one if its log should be lost.
		_, err = c.one(sqlCheckpoint)
	}
	return storage, err
}

// sqlUnfound finds a document that its index does not lead to: it would be taken for one
// that was never stored, and made again beside itself.
const sqlUnfound = `SELECT 1 FROM document AS d NOT INDEXED WHERE NOT EXISTS
	(SELECT 1 FROM document AS i INDEXED BY sqlite_autoindex_document_1 WHERE i.id = d.id AND i.key = d.key) LIMIT 1`

// StorageID returns the store's own id, a random UUID that it got when it was
// made: automerge-repo's storageId.
func (s *Store) StorageID() string { return s.storageID }

// Append queues a batch for the disk and returns at once. [Batch.Done] tells how
// it ended; after Close it is called by Append itself, with [ErrClosed].
func (s *Store) Append(b Batch) {
	if !s.queue.append(b) && b.Done != nil {
		b.Done(ErrClosed)
	}
}

// Status returns nil, or a [*StalledError] while nothing can be committed.
func (s *Store) Status() error {
	if stall := s.queue.stalled(); stall != nil {
		return stall
	}
	return nil
}

// OnStall lets f hear when commits begin to fail; Status says for how long. It must not
// wait. It is called at most once, before anything is stored.
func (s *Store) OnStall(f func()) { s.queue.hearStalls(f) }

// Rest gives the memory back that keeps pages of the database at hand, when there is
// nothing to commit. It is for a time in which little happens.
func (s *Store) Rest() {
	if s.backend != nil {
		return // the database has them
	}
	s.readers.rest()
	s.queue.restWhenIdle()
}

// Stats are counts since the store was opened, and what it holds now.
type Stats struct {
	Transactions  uint64 // committed
	Changes       uint64 // committed by them, without those that were there already
	Retries       uint64 // failed tries to commit
	PendingBytes  int64  // waiting for the disk
	DatabaseBytes int64  // of the database file
	WALBytes      int64  // of the write-ahead log, which is used again rather than cut
}

// Stats costs two looks at the folder.
func (s *Store) Stats() Stats {
	st := s.queue.stats()
	if s.backend != nil {
		return st
	}
	st.DatabaseBytes = fileSize(filepath.Join(s.dir, databaseName))
	st.WALBytes = fileSize(filepath.Join(s.dir, databaseName+"-wal"))
	return st
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// Close commits what waits and gives the folder back. While the store is stalled
// it tries once more and then fails what waits with [ErrClosed]. No load may be
// running or begin.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.queue.close()
		<-s.committer.finished
		if s.backend != nil {
			s.closeErr = errors.Join(s.committer.lost, s.committer.writer.finish())
			return
		}
		s.closeErr = errors.Join(s.committer.lost, s.readers.close(), s.committer.writer.finish(), s.lock.release())
	})
	return s.closeErr
}

// since is how long ago t was, for logs.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
