package store_test

import (
	"context"
	"database/sql/driver"
	"strings"
	"sync"

	"parley/server/store"
)

// faults sits between a store and SQLite on the connections that write. decide is
// asked before each statement, and before a connection is opened ("open").
type faults struct {
	mu     sync.Mutex
	decide func(query string) fault
	writer driver.Conn // the newest
	opened int         // connections for writing
}

// fault is what becomes of a statement: nothing special when err is nil.
type fault struct {
	err       error
	persisted bool // it is run, and then said to have failed
}

func (f *faults) ask(query string) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.decide == nil {
		return fault{}
	}
	return f.decide(query)
}

func (f *faults) set(decide func(query string) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

func (f *faults) connect(dsn string) (driver.Conn, error) {
	if !strings.Contains(dsn, "_journal_mode") {
		return store.Connect(dsn) // reads only
	}
	if ft := f.ask("open"); ft.err != nil {
		return nil, ft.err
	}
	c, err := store.Connect(dsn)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writer = c
	f.opened++
	return &faultyConn{Conn: c, faults: f}, nil
}

type faultyConn struct {
	driver.Conn
	faults *faults
}

// ExecContext is for scripts, which migrate; they do not fail.
func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *faultyConn) Prepare(query string) (driver.Stmt, error) {
	s, err := c.Conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	return &faultyStmt{statement: s.(statement), query: query, faults: c.faults}, nil
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type faultyStmt struct {
	statement
	query  string
	faults *faults
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	ft := s.faults.ask(s.query)
	if ft.err != nil && !ft.persisted {
		return nil, ft.err
	}
	res, err := s.statement.ExecContext(ctx, args)
	if err == nil && ft.err != nil {
		return nil, ft.err
	}
	return res, err
}

func (s *faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if ft := s.faults.ask(s.query); ft.err != nil {
		return nil, ft.err
	}
	return s.statement.QueryContext(ctx, args)
}
