package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// restoring is a folder in the data folder while a backup is put there. While it
// stands there and the database does not, the folder is nobody's to open.
const restoring = "restoring"

// NotEmptyError refuses to restore into a folder in which there is something.
type NotEmptyError struct {
	Dir   string
	Holds []string
}

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("%s is not empty, it holds %s: restore into a folder that is empty or not there yet", e.Dir, strings.Join(e.Holds, ", "))
}

// Restored says what was put in place.
type Restored struct {
	Contents
	Files     []string // beside the database
	StorageID string
}

// Restore puts a backup in a data folder that is empty or missing: the database,
// brought up to date, and the files that were beside it. What is to go there is made
// and given to verify, as a data folder of its own, before any of it has its name;
// an error of verify's ends it. Nothing is left of what fails. Fails with an error
// that is [fs.ErrNotExist] without a backup, with a [*NotEmptyError], a
// [*LockedError], a [*ForeignError] for what is no backup or too damaged, a
// [*NoBackupError], a [*NewerError] or a [*WriteError].
func Restore(ctx context.Context, file, dir string, verify func(folder string) error) (_ *Restored, err error) {
	src, err := Read(file)
	if err != nil {
		return nil, err
	}
	if src.backup == nil {
		return nil, errors.Join(&NoBackupError{Path: src.path}, src.Close())
	}
	said := *src.backup
	if err := src.Close(); err != nil {
		return nil, err
	}
	place, err := newSite(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, place.leave(err != nil)) }()
	if err := copyFile(ctx, file, place.database()); err != nil {
		return nil, writing(ctx, dir, err)
	}
	done, err := unmark(place.database(), said)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, f := range done.files {
		if err := writeFile(filepath.Join(place.work, f.Name), f); err != nil {
			return nil, writing(ctx, dir, err)
		}
	}
	if err := verify(place.work); err != nil {
		return nil, err
	}
	if err := place.finish(done.files); err != nil {
		return nil, writing(ctx, dir, err)
	}
	return &done.Restored, nil
}

// site is a data folder that is being restored.
type site struct {
	dir, work string
	made      string // the topmost folder that was made for it, "" if it was there
	lock      *folderLock
}

func newSite(dir string) (_ *site, err error) {
	dir = filepath.Clean(dir)
	s := &site{dir: dir, work: filepath.Join(dir, restoring), made: missing(dir)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &WriteError{Path: dir, Err: err}
	}
	defer func() {
		if err != nil {
			s.unmake()
		}
	}()
	if err := s.isEmpty(); err != nil {
		return nil, err
	}
	if s.lock, err = lockFolder(dir); err != nil {
		var locked *LockedError
		if errors.As(err, &locked) {
			return nil, err
		}
		return nil, &WriteError{Path: dir, Err: err}
	}
	if err := s.clear(); err != nil {
		return nil, errors.Join(&WriteError{Path: dir, Err: err}, s.lock.release())
	}
	if err := os.Mkdir(s.work, 0o700); err != nil {
		return nil, errors.Join(&WriteError{Path: dir, Err: err}, s.lock.release())
	}
	return s, syncFolder(dir)
}

// missing returns the topmost folder of a path that is not there, "" if all are.
func missing(dir string) (top string) {
	for {
		if _, err := os.Lstat(dir); err == nil {
			return top
		}
		parent := filepath.Dir(dir)
		if top = dir; parent == dir {
			return top
		}
		dir = parent
	}
}

// isEmpty fails unless there is nothing in the folder but what a restore that was
// killed has left.
func (s *site) isEmpty() error {
	holds, err := s.holds()
	if err != nil {
		return fmt.Errorf("look into %s: %w", s.dir, err)
	}
	unfinished := slices.Contains(holds, restoring) && !slices.Contains(holds, databaseName)
	holds = slices.DeleteFunc(holds, func(name string) bool { return name == lockName })
	if len(holds) > 0 && !unfinished {
		return &NotEmptyError{Dir: s.dir, Holds: holds[:min(len(holds), 5)]}
	}
	return nil
}

func (s *site) holds() (names []string, err error) {
	list, err := os.ReadDir(s.dir)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

// clear removes all but the lock: the folder was empty when a restore began in it,
// so whatever is there is of that. The mark that it is unfinished goes last.
func (s *site) clear() error {
	holds, err := s.holds()
	for _, name := range holds {
		if name != lockName && name != restoring {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, name)))
		}
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(s.work)
}

func (s *site) database() string { return filepath.Join(s.work, databaseName) }

// finish gives everything its name, the database last: a store whose key was not
// there yet would make another.
func (s *site) finish(files []File) error {
	for _, f := range files {
		if err := os.Rename(filepath.Join(s.work, f.Name), filepath.Join(s.dir, f.Name)); err != nil {
			return err
		}
	}
	if err := errors.Join(syncFile(s.database()), syncFolder(s.dir)); err != nil {
		return err
	}
	if err := os.Rename(s.database(), filepath.Join(s.dir, databaseName)); err != nil { // the commit point: the store is there
		return err
	}
	return errors.Join(syncFolder(s.dir), syncFolder(filepath.Dir(s.dir)))
}

// leave gives the folder back: as it was before, if it failed.
func (s *site) leave(failed bool) error {
	if !failed {
		return errors.Join(os.RemoveAll(s.work), s.lock.release())
	}
	err := errors.Join(s.clear(), os.Remove(filepath.Join(s.dir, lockName)), s.lock.release())
	s.unmake()
	return err
}

// unmake removes the folders that were made, unless there is something in them.
func (s *site) unmake() {
	for dir := s.dir; s.made != "" && len(dir) >= len(s.made); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			return
		}
	}
}

// copyFile copies a file in parts, so that it can be given up.
func copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for err == nil {
		if err = ctx.Err(); err == nil {
			_, err = io.CopyN(out, in, 4<<20)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, out.Close())
}

func writeFile(path string, f File) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Data)
	return errors.Join(err, out.Chmod(f.Mode), out.Sync(), out.Close())
}

// unmarked is a store that was a backup.
type unmarked struct {
	Restored
	files []File
}

// unmark makes a store of a backup that is in a place of its own, and holds what is
// in it against what it says that it holds.
func unmark(path string, said Contents) (_ *unmarked, err error) {
	c, err := connector(openSQLite).open(dsn(path, loneParams))
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	version, err := c.integer("PRAGMA user_version")
	if err != nil {
		return nil, damaged("make a store of the backup", err)
	}
	held, err := contents(c, int(version))
	if err != nil {
		return nil, damaged("make a store of the backup", err)
	}
	if held.Documents != said.Documents || held.Changes != said.Changes {
		return nil, damaged("count what is in it", fmt.Errorf("it holds %d documents with %d changes, and held %d with %d when it was made",
			held.Documents, held.Changes, said.Documents, said.Changes))
	}
	u := &unmarked{}
	if u.files, err = readFiles(c); err != nil {
		return nil, damaged("make a store of the backup", err)
	}
	for _, f := range u.files {
		u.Files = append(u.Files, f.Name)
	}
	if err := c.script(fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; COMMIT", sqlUnmark, applicationID)); err != nil {
		return nil, damaged("make a store of the backup", err)
	}
	if err := migrate(c, int(version)); err != nil {
		return nil, damaged("make a store of the backup", err)
	}
	if u.StorageID, err = storageID(c); err != nil {
		return nil, damaged("make a store of the backup", err)
	}
	said.Newest = held.Newest
	u.Contents = said
	return u, nil
}

// unfinished reports whether a backup was being put into a folder when that was
// broken off.
func unfinished(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, databaseName))
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, restoring))
	return err == nil
}
