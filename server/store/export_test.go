package store

import "database/sql/driver"

// WithConnect makes a store open its connections by connect.
func (o Options) WithConnect(connect func(dsn string) (driver.Conn, error)) Options {
	o.connect = connect
	return o
}

// Connect is what a store does without [Options.WithConnect].
var Connect = openSQLite

// DatabaseName is the database's file in the data folder.
const DatabaseName = databaseName
