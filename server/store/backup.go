package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
)

// File is one that lies beside the database in a data folder.
type File struct {
	Name string
	Mode fs.FileMode
	Data []byte
}

// BackupOptions say how a backup is made.
type BackupOptions struct {
	Files    []File // what it holds besides the database
	Force    bool   // write over a file that is there
	Progress func(done, total int)
}

// partial is added to the name of what is being made, a folder, until it is
// whole. One that a killed process left is used by the next, and removed then.
const partial = ".partial"

// WriteError says that there is no writing where something was to go.
type WriteError struct {
	Path string
	Err  error
}

func (e *WriteError) Error() string {
	var path *fs.PathError
	var link *os.LinkError
	err := e.Err
	switch {
	case errors.As(err, &path):
		err = path.Err // the path is that of something that is gone again
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Sprintf("cannot write %s: %v: make room there, or choose another place", e.Path, err)
}

func (e *WriteError) Unwrap() error { return e.Err }

// Backup writes a copy of the store in dir to a file, whole or not at all, for this
// user alone, and waits until it is on disk. The store may be open in another
// process, which goes on committing: the copy is of all that was committed when
// Backup began, and of nothing later. Fails with an error that is [fs.ErrExist]
// where there is a file already, and otherwise as [Read] and [Reading.Log] do, or with
// a [*WriteError].
//
// The copy is made page by page by SQLite, within one transaction that reads.
// Commits do not wait for that; but the log of the store grows by what is committed
// meanwhile, since nothing that is read can be moved out of it.
func Backup(ctx context.Context, dir, file string, opt BackupOptions) (*Contents, error) {
	if _, err := os.Lstat(file); err == nil && !opt.Force {
		return nil, fmt.Errorf("%s: %w", file, fs.ErrExist)
	}
	src, err := Read(dir)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if err := src.Log(); err != nil {
		return nil, err
	}
	work, err := newWorkshop(file + partial)
	if err != nil {
		return nil, err
	}
	defer work.remove()
	copied := filepath.Join(work.dir, databaseName)
	if err := src.copyTo(ctx, copied, opt.Progress); err != nil {
		return nil, writing(ctx, file, err)
	}
	held, err := mark(copied, src.version, opt.Files)
	if err != nil {
		return nil, writing(ctx, file, err)
	}
	if err := place(copied, file, opt.Force); err != nil {
		return nil, writing(ctx, file, err)
	}
	return held, nil
}

// writing says where it was that writing failed.
func writing(ctx context.Context, path string, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrExist):
		return err
	}
	var unreadable *UnreadableError
	if errors.As(err, &unreadable) {
		return err
	}
	return &WriteError{Path: path, Err: err}
}

// workshop is a folder in which something is made that is not whole yet. It is
// locked as a data folder is.
type workshop struct {
	dir  string
	lock *folderLock
}

func newWorkshop(dir string) (*workshop, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, &WriteError{Path: filepath.Dir(dir), Err: err}
	}
	lock, err := lockFolder(dir)
	var locked *LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("process %d is writing there already (%s): wait until it has ended", locked.PID, dir)
	}
	if err != nil {
		return nil, &WriteError{Path: dir, Err: err}
	}
	w := &workshop{dir: dir, lock: lock}
	left, err := os.ReadDir(dir)
	for _, e := range left {
		if e.Name() != lockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		w.remove()
		return nil, &WriteError{Path: dir, Err: err}
	}
	return w, nil
}

// remove is for when all is done, or given up: what cannot be removed is taken
// away by the next.
func (w *workshop) remove() {
	_ = os.RemoveAll(w.dir)
	_ = w.lock.release()
}

// pagesAtOnce is how much is copied between two looks at whether to go on: 4 MiB.
const pagesAtOnce = 1024

// copyTo copies the database as it is now.
func (r *Reading) copyTo(ctx context.Context, path string, progress func(done, total int)) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	to, err := connector(openSQLite).open(dsn(path, url.Values{"_journal_mode": {"OFF"}, "_synchronous": {"OFF"}})) // place waits for the disk
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// The steps of a copy see one state only while there is a transaction around
	// them; otherwise it would begin anew with each commit of the server.
	if _, err := r.conn.exec("BEGIN"); err != nil {
		return err
	}
	defer func() {
		_, end := r.conn.exec("ROLLBACK")
		err = errors.Join(err, end)
	}()
	if _, err := r.conn.integer(sqlCountDocuments); err != nil { // begins to read
		return r.failed(ctx, "count the documents", err)
	}
	return copyPages(ctx, to, r.conn, progress)
}

func copyPages(ctx context.Context, to, from *conn, progress func(done, total int)) (err error) {
	dest, ok1 := to.Conn.(*sqlite3.SQLiteConn)
	src, ok2 := from.Conn.(*sqlite3.SQLiteConn)
	if !ok1 || !ok2 {
		return fmt.Errorf("driver connections %T and %T cannot be copied", to.Conn, from.Conn)
	}
	b, err := dest.Backup("main", src, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for left := -1; ; left = b.Remaining() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		done, err := b.Step(pagesAtOnce)
		if err != nil || done {
			return err
		}
		if b.Remaining() == left { // busy, which it does not say
			time.Sleep(time.Millisecond)
		}
		if progress != nil {
			progress(b.PageCount()-b.Remaining(), b.PageCount())
		}
	}
}

// What a backup holds besides what the store does: what it held then, and the
// files that lay beside the database.
const (
	sqlMark = `CREATE TABLE backup (made INTEGER NOT NULL, documents INTEGER NOT NULL, changes INTEGER NOT NULL, newest INTEGER NOT NULL) STRICT;
		CREATE TABLE backup_file (name TEXT PRIMARY KEY, mode INTEGER NOT NULL, data BLOB NOT NULL) STRICT;`
	sqlMarkContents = "INSERT INTO backup (made, documents, changes, newest) VALUES (?, ?, ?, ?)"
	sqlMarkFile     = "INSERT INTO backup_file (name, mode, data) VALUES (?, ?, ?)"
	sqlFiles        = "SELECT name, mode, data FROM backup_file ORDER BY name"
	sqlUnmark       = "DROP TABLE backup; DROP TABLE backup_file"
)

// loneParams are of a database that nobody else knows of: one file, without a log
// beside it. What is deleted is overwritten, so that a signing key does not stay in
// pages that are free.
var loneParams = url.Values{"_journal_mode": {"DELETE"}, "_synchronous": {"FULL"}, "_secure_delete": {"true"}}

// mark makes a backup of a copy, and counts what is in it.
func mark(path string, version int, files []File) (_ *Contents, err error) {
	c, err := connector(openSQLite).open(dsn(path, loneParams))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	held, err := contents(c, version)
	if err != nil {
		return nil, damaged("count what was copied", err)
	}
	held.Made = time.Now().UnixMilli()
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	if err := c.script(sqlMark + fmt.Sprintf("PRAGMA application_id = %d", backupID)); err != nil {
		return nil, err
	}
	if _, err := c.exec(sqlMarkContents, held.Made, int64(held.Documents), int64(held.Changes), held.Newest); err != nil {
		return nil, err
	}
	for _, f := range files {
		if _, err := c.exec(sqlMarkFile, f.Name, int64(f.Mode.Perm()), f.Data); err != nil {
			return nil, err
		}
	}
	if _, err := c.exec(sqlCommit); err != nil {
		return nil, err
	}
	held.Bytes = fileSize(path)
	return &held, nil
}

// place gives a file its name when it is on disk.
func place(from, to string, force bool) error {
	if err := syncFile(from); err != nil {
		return err
	}
	err := errors.ErrUnsupported
	if !force {
		err = os.Link(from, to) // never over another
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w", to, fs.ErrExist)
	case err != nil: // not every file system has links
		if _, err := os.Lstat(to); err == nil && !force {
			return fmt.Errorf("%s: %w", to, fs.ErrExist)
		}
		if err := os.Rename(from, to); err != nil { // the commit point: there is a backup
			return err
		}
	}
	return syncFolder(filepath.Dir(to))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readFiles returns the files in a backup.
func readFiles(c *conn) (files []File, err error) {
	err = c.query(context.Background(), func(v []driver.Value) error {
		name, ok := v[0].(string)
		mode, err1 := rowReader(v).number(1)
		data, err2 := rowReader(v).bytes(2, 1)
		if errors.Join(err1, err2) != nil || !ok || name != filepath.Base(name) || name == databaseName {
			return errRow
		}
		files = append(files, File{Name: name, Mode: fs.FileMode(mode).Perm(), Data: data})
		return nil
	}, sqlFiles)
	return files, err
}

// Files returns what a backup holds besides the database, nothing for a store.
func (r *Reading) Files() ([]File, error) {
	if r.backup == nil {
		return nil, nil
	}
	files, err := readFiles(r.conn)
	if err != nil {
		return nil, r.failed(context.Background(), "read the files in the backup", err)
	}
	return files, nil
}
