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
	"slices"

	"github.com/mattn/go-sqlite3"
)

// Reading is a store that is read beside whoever has it open, or a backup of one.
// It is for looking at what is on disk as it is: nothing is left out for being
// damaged. It writes nothing to the database. It belongs to one goroutine.
type Reading struct {
	conn    *conn
	path    string // of the database
	dir     string // that it is in; "": it is a backup
	version int
	backup  *Contents // what it said of itself when it was made; nil: no backup
}

// Read opens a data folder, or a backup's file, for reading. It fails with an
// error that is [fs.ErrNotExist] where there is none, with a [*ForeignError], also
// for a file that is damaged beyond opening, and with a [*NewerError].
func Read(path string) (*Reading, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is not there: %w", path, fs.ErrNotExist)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return readBackup(path)
	}
	return readFolder(path)
}

// besideParams: readers of another process's store never write, not even what
// a killed one left in its log; they see that.
var besideParams = url.Values{"mode": {"ro"}, "_query_only": {"true"}, "_busy_timeout": {"5000"}}

// aloneParams: nobody writes, so that nothing is needed beside the file.
var aloneParams = url.Values{"mode": {"ro"}, "immutable": {"1"}, "_query_only": {"true"}}

func readFolder(dir string) (*Reading, error) {
	path := filepath.Join(dir, databaseName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no store, there is no %s in it: %w", dir, databaseName, fs.ErrNotExist)
	}
	r, err := read(path, dir, besideParams)
	if denied(err) && fileSize(path+"-wal") == 0 {
		r, err = read(path, dir, aloneParams) // a folder that cannot be written, in which nobody writes
	}
	if denied(err) {
		return nil, fmt.Errorf("%w: run this as the user that the server runs as", err)
	}
	if err == nil && r.backup != nil {
		return nil, errors.Join(&BackupError{Path: path}, r.Close())
	}
	if err == nil {
		r.dir = dir
	}
	return r, err
}

// denied says whether SQLite may not open the file, or not what it needs beside it.
func denied(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrCantOpen || e.Code == sqlite3.ErrReadonly)
}

func readBackup(path string) (*Reading, error) {
	r, err := read(path, path, aloneParams)
	if err == nil && r.backup == nil {
		return nil, errors.Join(&NoBackupError{Path: path}, r.Close())
	}
	return r, err
}

func read(path, named string, params url.Values) (_ *Reading, err error) {
	r := &Reading{path: path}
	if r.conn, err = connector(openSQLite).open(dsn(path, params)); err != nil {
		return nil, unreadable(path, err)
	}
	r.version, err = identify(r.conn, named, path)
	var backup *BackupError
	if errors.As(err, &backup) {
		r.version = backup.version
		err = r.readContents()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Reading) readContents() error {
	v, err := r.conn.one("SELECT made, documents, changes, newest FROM backup")
	if err != nil {
		return unreadable(r.path, err)
	}
	ns, ok := integers(v, 4)
	if !ok {
		return &ForeignError{Path: r.path, Err: errors.New("it does not say what it holds")}
	}
	r.backup = &Contents{Made: ns[0], Documents: int(ns[1]), Changes: int(ns[2]), Newest: ns[3], Bytes: fileSize(r.path)}
	return nil
}

func integers(v []driver.Value, n int) (ns []int64, ok bool) {
	for _, x := range v {
		i, isInt := x.(int64)
		if !isInt {
			return nil, false
		}
		ns = append(ns, i)
	}
	return ns, len(ns) == n
}

// Close ends the reading.
func (r *Reading) Close() error { return r.conn.Close() }

// Backup is what a backup said of itself when it was made, nil of a store.
func (r *Reading) Backup() *Contents { return r.backup }

// Empty reports whether there is nothing in the file, not even a schema.
func (r *Reading) Empty() bool { return r.version == 0 }

// Current returns an [*OlderError] if the schema is not the newest, without which
// documents cannot be read.
func (r *Reading) Current() error {
	if r.version < len(migrations) {
		return &OlderError{Path: r.path, Found: r.version, Know: len(migrations)}
	}
	return nil
}

// maxComplaints bounds what SQLite says of a damaged file.
const maxComplaints = 100

// Integrity returns what SQLite finds wrong with the file's structure, and which
// rows belong to no document. Quick leaves out whether the indices are of what is
// in the tables.
func (r *Reading) Integrity(ctx context.Context, quick bool) (complaints []string, err error) {
	pragma := fmt.Sprintf("PRAGMA integrity_check(%d)", maxComplaints)
	if quick {
		pragma = fmt.Sprintf("PRAGMA quick_check(%d)", maxComplaints)
	}
	err = r.conn.query(ctx, func(v []driver.Value) error {
		if said := fmt.Sprint(v[0]); said != "ok" {
			complaints = append(complaints, said)
		}
		return nil
	}, pragma)
	if err != nil {
		return complaints, r.failed(ctx, "check the database", err)
	}
	page, err := r.conn.integer("PRAGMA page_size")
	if err != nil {
		return complaints, r.failed(ctx, "check the database", err)
	}
	if size := fileSize(r.path); size%page != 0 { // SQLite takes what is missing for zeros
		complaints = append(complaints, fmt.Sprintf("the file was cut: it ends within its page %d", size/page+1))
	}
	orphans := make(map[string]int)
	err = r.conn.query(ctx, func(v []driver.Value) error {
		orphans[fmt.Sprint(v[0])]++
		return nil
	}, "PRAGMA foreign_key_check")
	for table, n := range orphans {
		complaints = append(complaints, fmt.Sprintf("%d rows of the table %q belong to no document", n, table))
	}
	slices.Sort(complaints)
	if err != nil {
		return complaints, r.failed(ctx, "check the database", err)
	}
	return complaints, nil
}

// Log looks at the log that a killed server has left beside the database. It returns an
// [*UnreadableError] if that is damaged, so that what is read is less than was
// committed. A server that runs has looked at its own.
func (r *Reading) Log() error {
	if r.dir == "" || isLocked(r.dir) {
		return nil
	}
	return checkLog(r.path)
}

// failed tells a file that cannot be read from its being given up.
func (r *Reading) failed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // rather than SQLite's "interrupted"
	}
	return damaged(doing, err)
}

// damaged makes an error of what is in a database, unless it has to do with the
// disk or the machine.
func damaged(doing string, err error) error {
	if transient(err) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &UnreadableError{Doing: doing, Err: err}
}

// Differences says how the schema differs from what it was made as: the triggers
// that keep rows from being altered are part of it.
func (r *Reading) Differences(ctx context.Context) ([]string, error) {
	fresh, err := connector(openSQLite).open(":memory:")
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	for _, m := range migrations[:r.version] {
		if err := fresh.script(m); err != nil {
			return nil, err
		}
	}
	want, err := readSchema(ctx, fresh)
	if err != nil {
		return nil, err
	}
	got, err := readSchema(ctx, r.conn)
	if err != nil {
		return nil, r.failed(ctx, "read the schema", err)
	}
	var said []string
	for name, text := range want {
		switch found, ok := got[name]; {
		case !ok:
			said = append(said, fmt.Sprintf("the %s is missing", name))
		case found != text:
			said = append(said, fmt.Sprintf("the %s is not as it was made", name))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			said = append(said, fmt.Sprintf("the %s is not of parley's making", name))
		}
	}
	slices.Sort(said)
	return said, nil
}

// readSchema returns the text of everything in a schema, by its kind and name,
// but for what SQLite keeps there itself and for what marks a backup.
func readSchema(ctx context.Context, c *conn) (map[string]string, error) {
	all := make(map[string]string)
	err := c.query(ctx, func(v []driver.Value) error {
		all[fmt.Sprintf("%v %v", v[0], v[1])] = fmt.Sprint(v[2])
		return nil
	}, "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND name NOT IN ('backup', 'backup_file')")
	return all, err
}

// StorageID returns the store's id.
func (r *Reading) StorageID() (string, error) {
	v, err := r.conn.one(sqlStorageID)
	if err != nil {
		return "", r.failed(context.Background(), "read the storage id", err)
	}
	if len(v) == 0 {
		return "", nil
	}
	return fmt.Sprint(v[0]), nil
}

// Contents are what a store holds in all.
type Contents struct {
	Documents, Changes int
	Bytes              int64 // of the database, when it was made
	Newest             int64 // when the newest change came, in milliseconds since 1970; 0: unknown
	Made               int64 // when the backup was made, likewise; 0 of a store
}

// receiptsSince is the schema that has receipts in the changes' rows.
const receiptsSince = 4

const (
	sqlCountDocuments = "SELECT count(*) FROM document"
	sqlCountChanges   = "SELECT coalesce(sum((SELECT max(n) FROM change WHERE document = key)), 0) FROM document"
	sqlNewest         = "SELECT coalesce(max((SELECT at FROM change WHERE document = key ORDER BY n DESC LIMIT 1)), 0) FROM document"
)

// contents counts. It looks at one row of each document.
func contents(c *conn, version int) (held Contents, err error) {
	documents, err := c.integer(sqlCountDocuments)
	if err != nil {
		return held, err
	}
	changes, err := c.integer(sqlCountChanges)
	if err != nil {
		return held, err
	}
	held.Documents, held.Changes = int(documents), int(changes)
	if version >= receiptsSince {
		held.Newest, err = c.integer(sqlNewest)
	}
	return held, err
}

// Contents counts what is there now.
func (r *Reading) Contents() (Contents, error) {
	held, err := contents(r.conn, r.version)
	if err != nil {
		return held, r.failed(context.Background(), "count the changes", err)
	}
	// Of a store that is open, most may be in the log still.
	held.Bytes, err = r.conn.integer("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
	if err != nil {
		return held, r.failed(context.Background(), "read the size", err)
	}
	return held, nil
}
