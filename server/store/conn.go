package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/mattn/go-sqlite3"
)

// conn is one connection with its prepared statements. The driver is used
// without database/sql: one goroutine owns a connection at a time, opening one
// anew is a decision of ours, and a load of many small rows costs a quarter less.
type conn struct {
	driver.Conn
	prepared map[string]statement
	args     []driver.NamedValue // used again by every call
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// connector opens a connection. Tests put their failures in here.
type connector func(dsn string) (driver.Conn, error)

func openSQLite(dsn string) (driver.Conn, error) { return (&sqlite3.SQLiteDriver{}).Open(dsn) }

// dsn names the database file for the driver. Parameters beginning with _ are
// pragmas that the driver sets as it opens.
func dsn(path string, params url.Values) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: params.Encode()}).String()
}

func (c connector) open(dsn string) (*conn, error) {
	dc, err := c(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: dc, prepared: make(map[string]statement)}, nil
}

// Close ends an open transaction, without committing it, and the connection.
func (c *conn) Close() error {
	for _, s := range c.prepared {
		_ = s.Close() // what it may report was reported by the call that failed
	}
	return c.Conn.Close()
}

func (c *conn) prepare(query string) (statement, error) {
	if s, ok := c.prepared[query]; ok {
		return s, nil
	}
	ds, err := c.Prepare(query)
	if err != nil {
		return nil, err
	}
	s, ok := ds.(statement)
	if !ok {
		return nil, fmt.Errorf("driver statement %T lacks context methods", ds)
	}
	c.prepared[query] = s
	return s, nil
}

func (c *conn) bind(args []driver.Value) []driver.NamedValue {
	c.args = c.args[:0]
	for i, v := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.args
}

// exec runs one statement. It takes no context: with one that can be cancelled
// the driver starts a goroutine per call, and a transaction of ours is never
// given up half-way.
func (c *conn) exec(query string, args ...driver.Value) (driver.Result, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(context.Background(), c.bind(args))
}

// query calls row for each row of the answer. The values are row's to keep, the
// slice is not.
func (c *conn) query(ctx context.Context, row func([]driver.Value) error, query string, args ...driver.Value) (err error) {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, c.bind(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := row(values); err != nil {
			return err
		}
	}
}

// one returns the first row's values, nil if there is no row.
func (c *conn) one(query string, args ...driver.Value) (found []driver.Value, err error) {
	err = c.query(context.Background(), func(v []driver.Value) error {
		if found == nil {
			found = append(found, v...)
		}
		return nil
	}, query, args...)
	return found, err
}

// integer returns the first value of the first row, which must be an integer.
func (c *conn) integer(query string, args ...driver.Value) (int64, error) {
	v, err := c.one(query, args...)
	if err != nil {
		return 0, err
	}
	if len(v) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, ok := v[0].(int64)
	if !ok {
		return 0, fmt.Errorf("%s: %T, want an integer", query, v[0])
	}
	return n, nil
}

// script runs several statements that answer nothing.
func (c *conn) script(text string) error {
	e, ok := c.Conn.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("driver connection %T lacks ExecContext", c.Conn)
	}
	_, err := e.ExecContext(context.Background(), text, nil)
	return err
}
