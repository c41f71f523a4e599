package store

import "database/sql/driver"

// WithConnect makes a store open its connections by connect.
func (o Options) WithConnect(connect func(dsn string) (driver.Conn, error)) Options {
	o.connect = connect
	return o
}

// Connect is what a store does without [Options.WithConnect].
var Connect = openSQLite

// Dir is the data folder.
func (s *Store) Dir() string { return s.dir }

// DatabaseName is the database's file in the data folder.
const DatabaseName = databaseName

// Lock is a folder's, taken beside the store.
type Lock struct{ *folderLock }

// LockFolder takes the lock that a store takes.
func LockFolder(dir string) (Lock, error) {
	l, err := lockFolder(dir)
	return Lock{l}, err
}

// Release gives it back.
func (l Lock) Release() error { return l.release() }
